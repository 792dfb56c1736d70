"""What a Job that this tool did not make tells of itself: its config in the words of a manifest, and who owns it.

The config makes the same Job again. `spec_of` gives its spec back, but for what a server fills in by itself, and but
for the names of volumes and the order of variables and volumes, which mean nothing to a pod. What no word says is in
`native`; but how often the Job tries again by itself is in `job`, since `native` may not say it. What makes the Job an
object of its owner, such as the labels of Helm, is left out: a later run is an object of this tool, and no owner may
take it for its own.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from reconciler.engines.kubernetes.differences import SAME, quantity
from reconciler.engines.kubernetes.fields import items, mapping
from reconciler.engines.kubernetes.merging import MERGE_KEYS, merged
from reconciler.engines.kubernetes.objects import ABORT_OP, ABORTED_BY, CONTAINER, QUEUE_LABEL, spec_of
from reconciler.engines.port import Config, same_json

_OWNER_MARKS: Sequence[tuple[str, str, str]] = (
    ("annotations", "argocd.argoproj.io/tracking-id", "Argo CD application"),
    ("labels", "argocd.argoproj.io/instance", "Argo CD application"),
    ("annotations", "argocd.argoproj.io/hook", "Argo CD hook"),
    ("labels", "helm.toolkit.fluxcd.io/name", "Flux HelmRelease"),
    ("labels", "kustomize.toolkit.fluxcd.io/name", "Flux Kustomization"),
    ("annotations", "meta.helm.sh/release-name", "Helm release"),
    ("annotations", "helm.sh/hook", "Helm hook"),
)
"""Labels and annotations that name an owner: where they stand, their key, and what their value is. The first counts.

Sources: https://argo-cd.readthedocs.io/en/stable/user-guide/resource_tracking/, https://helm.sh/docs/faq/changes_since_helm2/
and https://fluxcd.io/flux/components/kustomize/kustomizations/. Argo CD and Flux may use Helm, so Helm comes last.
"""
_MANAGED_BY = "app.kubernetes.io/managed-by"

_NOT_OF_THE_CONFIG = re.compile(
    r"((controller-uid|job-name|app\.kubernetes\.io/managed-by).*|kubectl\.kubernetes\.io/last-applied-configuration"
    r"|(batch|cronjob)\.kubernetes\.io/.*|(argocd\.argoproj\.io|meta\.helm\.sh|helm\.sh|reconciler)/.*"
    r"|[a-z.]*toolkit\.fluxcd\.io/.*)"
)
"""The labels and annotations that a controller, an owner or this tool adds."""

_POD_DEFAULTS: Mapping[str, Any] = {
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "securityContext": {},
    "enableServiceLinks": True,
    "terminationGracePeriodSeconds": 30,
}
_CONTAINER_DEFAULTS: Mapping[str, Any] = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "resources": {},
}
_JOB_DEFAULTS: Mapping[str, Any] = {
    "completionMode": "NonIndexed",
    "podReplacementPolicy": "TerminatingOrFailed",
    "managedBy": "kubernetes.io/job-controller",
}
"""What a server fills in (`pkg/apis/core/v1/defaults.go` and `pkg/apis/batch/v1/defaults.go` of Kubernetes)."""

_GPU = "nvidia.com/gpu"
_UNITS = ("TiB", "GiB", "MiB", "KiB")
_LONGEST_TIMEOUT_S = 3_153_600_000
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_SECRET = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?/[-._a-zA-Z0-9]+")
_QUEUE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def owner_of(job: Mapping[str, Any]) -> str:
    """Return who owns a Job and replaces or removes it, such as "CronJob nightly"; "" for a Job of nobody."""
    metadata = mapping(job, "metadata")
    for reference in items(metadata, "ownerReferences"):
        if reference.get("controller") is True:
            return f"{reference.get('kind', 'controller')} {reference.get('name', '')}".strip()
    for where, key, what in _OWNER_MARKS:
        value = mapping(metadata, where).get(key)
        if isinstance(value, str):
            # A tracking id is APPLICATION:GROUP/KIND:NAMESPACE/NAME.
            return f"{what} {value.partition(':')[0]}".strip()
    manager = mapping(metadata, "labels").get(_MANAGED_BY)
    return manager if manager == "Helm" else ""


def config_from(job: Mapping[str, Any]) -> Config:
    """Return the config that makes a Job. `job` is as a server holds it, and no config of ours made it."""
    wanted = _without_defaults(job)
    words = _words(job, wanted)
    if "queue" in words:
        wanted["spec"]["suspend"] = True
    base = spec_of(words)
    _rename_volumes(wanted["spec"]["template"]["spec"], base["spec"]["template"]["spec"])
    native = {}
    for part in ("metadata", "spec"):
        if (patch := _patch(base.get(part, {}), wanted[part])) is not SAME:
            native[part] = patch
    return {**words, "native": native} if native else words


def _words(job: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the words of a config say of a Job."""
    spec = wanted["spec"]
    pod = spec["template"]["spec"]
    container = next(iter(items(pod, "containers")), {})
    words: dict[str, Any] = {}
    name = container.get("name", CONTAINER)
    if spec["backoffLimit"] or pod["restartPolicy"] != "Never":
        own = {"restartPolicy": pod["restartPolicy"], "containers": [{"name": name}]}
        made = {"backoffLimit": spec["backoffLimit"], "template": {"spec": own}}
        words["job"] = {"apiVersion": "batch/v1", "kind": "Job", "spec": made}
    elif name != CONTAINER:
        words["container"] = name
    if isinstance(image := container.get("image"), str) and re.fullmatch(r"\S+", image):
        words["image"] = image
    words |= _command(container.get("command"))
    if workdir := container.get("workingDir"):
        words["workdir"] = workdir
    found = {
        "env": _env(container),
        "resources": _resources(mapping(container, "resources")),
        "volumes": _volumes(pod, container),
        "nodeSelector": pod.get("nodeSelector"),
        "tolerations": pod.get("tolerations"),
        "serviceAccount": pod.get("serviceAccountName"),
        "priorityClass": pod.get("priorityClassName"),
        "taskTimeout": _seconds(pod.get("activeDeadlineSeconds"), 1, _LONGEST_TIMEOUT_S),
        "jobTimeout": _seconds(spec.get("activeDeadlineSeconds"), 1, _LONGEST_TIMEOUT_S),
        "queue": _matching(_QUEUE, mapping(wanted["metadata"], "labels").get(QUEUE_LABEL)),
    }
    words |= {word: value for word, value in found.items() if value}
    if (grace_s := _seconds(pod.get("terminationGracePeriodSeconds"), 0, 86_400)) is not None:
        words["abort"] = {"grace": grace_s}
    keep_for_s = _seconds(mapping(job, "spec").get("ttlSecondsAfterFinished"), 0, 2**31 - 1)
    if keep_for_s is not None:
        words["keepFor"] = keep_for_s
    return words


def _command(command: object) -> dict[str, Any]:
    """Return `command` or `script`; nothing for a command that refers to a variable, as "$(NAME)"."""
    if not isinstance(command, list) or not command or not all(map(_is_literal, command)):
        return {}
    words = list(map(_meant, command))
    is_script = len(words) == 3 and words[:2] == ["/bin/sh", "-c"] and 0 < len(words[2]) <= 100_000
    if is_script and not words[2].startswith("#!"):
        return {"script": words[2]}
    return {"command": words}


def _env(container: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables that the word `env` can say.

    Where a value refers to another variable or a name stands there twice, the order counts, which `env` has not.
    """
    variables = items(container, "env")
    names = [variable.get("name") for variable in variables]
    refer = (text for variable in variables if isinstance(text := variable.get("value"), str))
    if len(set(names)) < len(names) or not all(map(_is_literal, refer)):
        return {}
    found: dict[str, Any] = {}
    for variable in variables:
        name, source = str(variable["name"]), mapping(variable, "valueFrom")
        if not _VARIABLE.fullmatch(name):
            continue
        if not source:
            found[name] = _meant(variable.get("value", ""))
        elif source.keys() == {"secretKeyRef"} and (reference := _secret(source["secretKeyRef"])):
            found[name] = {"secret": reference}
    return found


def _secret(reference: Mapping[str, Any]) -> str:
    """Return the reference to a key of a Secret in the words of a config; "" for one that they can't say."""
    if reference.keys() != {"name", "key"}:
        return ""
    return _matching(_SECRET, f"{reference['name']}/{reference['key']}")


def _meant(text: str) -> str:
    """Return what the kubelet makes of a text without references: "$$" stands for "$" (EnvVar.value)."""
    return re.sub(r"\$\$", "$", text)


def _is_literal(text: object) -> bool:
    """Return whether a word of a config makes just this text, which refers to no variable."""
    return isinstance(text, str) and _literal(_meant(text)) == text


def _literal(text: str) -> str:
    """Return the text that a config makes of a value; see `spec_of`."""
    made: str = spec_of({"command": [text]})["spec"]["template"]["spec"]["containers"][0]["command"][0]
    return made


def _resources(resources: Mapping[str, Any]) -> dict[str, Any]:
    """Return the amounts that are request and limit at once, as far as `resources` can say them."""
    requests, limits = (mapping(resources, name) for name in ("requests", "limits"))
    found: dict[str, Any] = {}
    for name, word in (("cpu", _cpu), ("memory", _memory), (_GPU, _gpus)):
        if name not in requests or name not in limits:
            continue
        amount = quantity(str(limits[name]))
        if isinstance(amount, Decimal) and quantity(str(requests[name])) == amount:
            said = word(amount)
            if said is not None:
                found["gpu" if name == _GPU else name] = said
    return found


def _cpu(cores: Decimal) -> int | float | None:
    if not Decimal("0.001") <= cores <= 100_000 or cores * 1000 % 1:
        return None
    return int(cores) if not cores % 1 else float(cores)


def _memory(size_bytes: Decimal) -> int | str | None:
    if not 2**20 <= size_bytes < 2**63 or size_bytes % 1:
        return None
    whole = int(size_bytes)
    for power, unit in zip(range(4, 0, -1), _UNITS, strict=True):
        if not whole % 1024**power and whole // 1024**power < 10**9:
            return f"{whole // 1024**power}{unit}"
    return whole


def _gpus(count: Decimal) -> int | None:
    return int(count) if 1 <= count <= 1024 and not count % 1 else None


def _volumes(pod: Mapping[str, Any], container: Mapping[str, Any]) -> dict[str, Any]:
    """Return the volumes that the container mounts once and whole, and no other container mounts, by their folders."""
    everywhere = [*items(pod, "containers"), *items(pod, "initContainers")]
    used = [mount for each in everywhere for mount in items(each, "volumeMounts")]
    names = [mount.get("name") for mount in used]
    names += [device.get("name") for each in everywhere for device in items(each, "volumeDevices")]
    paths = [mount.get("mountPath") for mount in items(container, "volumeMounts")]
    volumes = {volume.get("name"): volume for volume in items(pod, "volumes")}
    found = {}
    for mount in items(container, "volumeMounts"):
        name, path = mount.get("name"), mount.get("mountPath")
        is_whole = mount.keys() == {"name", "mountPath"} and names.count(name) == paths.count(path) == 1
        if is_whole and name in volumes and str(path).startswith("/") and len(volumes[name]) > 1:
            found[str(path)] = {field: value for field, value in volumes[name].items() if field != "name"}
    made = {volume["name"] for volume in spec_of({"volumes": found})["spec"]["template"]["spec"].get("volumes", ())}
    others = volumes.keys() - {mount["name"] for mount in used if mount.get("mountPath") in found}
    return {} if made & others else found


# --- what is left ----------------------------------------------------------------------------------------------------


def _without_defaults(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the labels, the annotations and the spec of a Job without what a server or a controller has added.

    The selector of a Job is left out, since a second Job with it would take the pods of the first one. The suspension
    is left out too: it says whether the Job may start now, and nothing of its runs.
    """
    metadata, there = mapping(job, "metadata"), mapping(job, "spec")
    spec = {"backoffLimit": 6, **_but(there, _JOB_DEFAULTS)}
    if spec.get("parallelism") == 1 and "completions" in there:
        del spec["parallelism"]
        if spec["completions"] == 1:
            del spec["completions"]
    for field in ("selector", "manualSelector", "suspend", "ttlSecondsAfterFinished"):
        spec.pop(field, None)
    if ABORT_OP in mapping(metadata, "annotations"):
        for field in ABORTED_BY:
            spec.pop(field, None)
    template = mapping(there, "template")
    pod = {"restartPolicy": "Never", **_but(mapping(template, "spec"), _POD_DEFAULTS)}
    pod.pop("serviceAccount", None)  # another name of serviceAccountName
    for kind in ("containers", "initContainers"):
        if kind in pod:
            pod[kind] = list(map(_container, items(pod[kind])))
    if "volumes" in pod:
        pod["volumes"] = list(map(_volume, items(pod["volumes"])))
    marks = _marks(mapping(template, "metadata"))
    spec["template"] = {"spec": pod, "metadata": marks} if marks else {"spec": pod}
    return {"metadata": _marks(metadata), "spec": spec}


def _container(there: Mapping[str, Any]) -> dict[str, Any]:
    """Return a container without defaults. A limit without a request is a request too, as the cluster takes it."""
    container = _but(there, _CONTAINER_DEFAULTS)
    image = str(container.get("image", ""))
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
    pulls = "Always" if "@" not in image and tag in ("", "latest") else "IfNotPresent"
    container = _but(container, {"imagePullPolicy": pulls})
    if limits := mapping(container, "resources").get("limits"):
        resources = container["resources"]
        container["resources"] = {**resources, "requests": {**limits, **mapping(resources, "requests")}}
    if "env" in container:
        # A server leaves out a value that is "".
        container["env"] = [
            variable if "valueFrom" in variable else {"value": "", **variable} for variable in items(container["env"])
        ]
    return container


def _volume(there: Mapping[str, Any]) -> dict[str, Any]:
    defaults = {"hostPath": {"type": ""}}
    return {
        kind: _but(source, defaults.get(kind, {"defaultMode": 0o644})) if isinstance(source, Mapping) else source
        for kind, source in there.items()
    }


def _marks(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the labels and annotations of an object that are not of its controllers or its owner."""
    found = {}
    for where in ("labels", "annotations"):
        kept = {key: value for key, value in mapping(metadata, where).items() if not _NOT_OF_THE_CONFIG.fullmatch(key)}
        if kept:
            found[where] = kept
    return found


def _rename_volumes(pod: dict[str, Any], made: Mapping[str, Any]) -> None:
    """Give the volumes of a pod that the word `volumes` says the names that they have in the pod of a config."""
    mounts = {mount["mountPath"]: mount["name"] for mount in made["containers"][0].get("volumeMounts", ())}
    if not mounts:
        return
    container = pod["containers"][0]
    names = {
        mount["name"]: mounts[path] for mount in container["volumeMounts"] if (path := mount["mountPath"]) in mounts
    }

    def renamed(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [{**item, "name": names.get(item["name"], item["name"])} for item in items]

    pod["volumes"], container["volumeMounts"] = renamed(pod["volumes"]), renamed(container["volumeMounts"])


def _patch(base: Any, wanted: Any, field: str = "", *, is_amount: bool = False) -> Any:
    """Return the patch that makes the wanted value of a base by strategic merge; `SAME` if the two are the same."""
    if isinstance(base, Mapping) and isinstance(wanted, Mapping):
        found = {name: None for name, value in base.items() if name not in wanted and value not in ({}, [])}
        for name, value in wanted.items():
            patch = _patch(base.get(name), value, name, is_amount=field in ("requests", "limits"))
            if patch is not SAME:
                found[name] = patch
        return found or SAME
    if isinstance(base, list) and isinstance(wanted, list) and field in MERGE_KEYS:
        return _list_patch(base, wanted, field)
    if is_amount and quantity(str(base)) == quantity(str(wanted)):
        return SAME
    return SAME if same_json(base, wanted) else wanted


def _list_patch(base: list[Any], wanted: list[Any], field: str) -> Any:
    """Return the patch of a list whose items have keys. The order of variables, volumes and mounts means nothing."""
    patches = []
    for item in wanted:
        key = next((key for key in MERGE_KEYS[field] if key in item), "")
        before: Mapping[str, Any] = next((each for each in base if key and each.get(key) == item[key]), {})
        patch = _patch(before, item)
        if patch is not SAME:
            patches.append({key: item[key], **patch} if before else item)
    made = merged(base, patches, field)
    if same_json(_normal(made, field), _normal(wanted, field)):
        return patches or SAME
    return [{"$patch": "replace"}, *wanted]


def _normal(value: Any, field: str = "") -> Any:
    """Return a value in a form that all values of the same meaning have: in quantities, and in orders that are free."""
    if isinstance(value, Mapping):
        is_amounts = field in ("requests", "limits")
        return {name: _plain(part) if is_amounts else _normal(part, name) for name, part in sorted(value.items())}
    if isinstance(value, list):
        items = [_normal(item) for item in value]
        return sorted(items, key=repr) if field in ("env", "volumes", "volumeMounts") else items
    return value


def _plain(amount: object) -> str:
    """Return the text of a quantity that all quantities of its size have."""
    found = quantity(str(amount))
    return str(found.normalize()) if isinstance(found, Decimal) else found


# --- parts of JSON ---------------------------------------------------------------------------------------------------


def _but(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that do not have their default."""
    return {
        name: value for name, value in fields.items() if name not in defaults or not same_json(value, defaults[name])
    }


def _seconds(value: object, least: int, most: int) -> int | None:
    return value if isinstance(value, int) and least <= value <= most else None


def _matching(pattern: re.Pattern[str], value: object) -> str:
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""
