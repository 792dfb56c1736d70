"""What the Job of a run looks like: the names, labels and annotations that it bears, and its spec from a config.

A run is one Job whose name is the run id. The name is the guard: an API server has one object of a name, and answers
409 to a second one. The pods bear the labels too, so that one list finds those that still execute.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote, unquote

from reconciler.engines.kubernetes.fields import items, mapping, text
from reconciler.engines.kubernetes.merging import merged
from reconciler.engines.port import Marks, Step

JOB_LABEL, LINEAGE_LABEL = "reconciler/job", "reconciler/lineage"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = {MANAGED_BY_LABEL: "reconciler"}
_MARKS = {
    "op": "reconciler/op",
    "config_digest": "reconciler/config-digest",
    "token_digest": "reconciler/token-digest",
    "commit": "reconciler/commit",
}
_ESCAPED = "escaped:"
"""What begins a mark that is percent-encoded."""

CONFIG, ABORT_OP = "reconciler/config", "reconciler/abort-op"
ABORTED_BY = ("activeDeadlineSeconds", "parallelism")
"""The fields of `spec` by which an abort ends a Job."""

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
CONTAINER = "main"
LONGEST_JOB_ID = 52
"""A Job of this name may be followed by "-" and ten digits within the 63 characters of a label, as for a CronJob."""

_MEMORY_SUFFIX = "B"  # "512MiB" is "512Mi" in a quantity of Kubernetes


def job_object(step: Step, namespace: str) -> dict[str, Any]:
    """Return the Job of a run."""
    labels = {**MANAGED_BY, JOB_LABEL: step.job_id, LINEAGE_LABEL: step.marks.lineage}
    annotations = {name: _annotation(value) for mark, name in _MARKS.items() if (value := getattr(step.marks, mark))}
    annotations[CONFIG] = json.dumps(step.config, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    made = spec_of(step.config)
    made["metadata"] = {
        "name": step.run_id,
        "namespace": namespace,
        "labels": {**made["metadata"].get("labels", {}), **labels},
        "annotations": {**made["metadata"].get("annotations", {}), **annotations},
    }
    template = made["spec"]["template"].setdefault("metadata", {})
    template["labels"] = {**template.get("labels", {}), **labels}
    return made


def spec_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Job of a config without the marks of a run: `job`, then the other words, then `native`."""
    container = container_of(config)
    given = config.get("job")
    if given is None:
        pod: dict[str, Any] = {"restartPolicy": "Never", "containers": [{"name": container}]}
        base: dict[str, Any] = {"spec": {"backoffLimit": 0, "template": {"spec": pod}}}
    else:
        base = _of_manifest(given)
    made = merged(merged(base, _of_words(config, container)), config.get("native", {}))
    # Nothing else may stop a Job: a person would have to start it by hand.
    made["spec"].pop("suspend", None)
    if QUEUE_LABEL in mapping(made, "metadata").get("labels", {}):
        made["spec"]["suspend"] = True
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {}, **made}


def container_of(config: Mapping[str, Any]) -> str:
    """Return the name of the container that the words of a config are about."""
    named = config.get("container")
    if isinstance(named, str):
        return named
    containers = items(config, "job", "spec", "template", "spec", "containers")
    return text(containers[0], "name") if containers else CONTAINER


def _of_manifest(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Job of a manifest without its names, its TTL and its manager, which are those of each run, and nulls.

    The label of the manager says Helm in each rendered chart.
    """
    metadata, spec = mapping(job, "metadata"), dict(mapping(job, "spec"))
    spec.pop("ttlSecondsAfterFinished", None)
    kept = {name: metadata[name] for name in ("labels", "annotations") if metadata.get(name)}
    made: dict[str, Any] = merged({}, {"metadata": kept, "spec": spec})
    for place in (made["metadata"], mapping(made["spec"], "template", "metadata")):
        if isinstance(labels := place.get("labels"), dict):
            labels.pop(MANAGED_BY_LABEL, None)
    return made


def _of_words(config: Mapping[str, Any], container: str) -> dict[str, Any]:
    """Return the part of a Job that the words of a config say."""
    pod: dict[str, Any] = {}
    spec: dict[str, Any] = {"template": {"spec": pod}}
    _set(spec, "activeDeadlineSeconds", config.get("jobTimeout"))
    _set(pod, "activeDeadlineSeconds", config.get("taskTimeout"))
    _set(pod, "terminationGracePeriodSeconds", config.get("abort", {}).get("grace"))
    _set(pod, "serviceAccountName", config.get("serviceAccount"))
    _set(pod, "priorityClassName", config.get("priorityClass"))
    _set(pod, "nodeSelector", config.get("nodeSelector"))
    _set(pod, "tolerations", config.get("tolerations"))
    volumes = config.get("volumes", {})
    if volumes:
        pod["volumes"] = [{"name": _volume_name(at), **volumes[path]} for at, path in enumerate(sorted(volumes))]
    pod["containers"] = [_container(config, container)]
    _set(spec, "backoffLimit", config.get("retry", {}).get("times"))
    if rules := list(_failure_rules(config, container)):
        spec["podFailurePolicy"] = {"rules": rules}
    if config.get("onDisruption") == "continue":
        # Otherwise, a new pod starts while the old one gets SIGTERM.
        spec["podReplacementPolicy"] = "Failed"
    queue = config.get("queue")
    return {"metadata": {"labels": {QUEUE_LABEL: queue} if queue else {}}, "spec": spec}


def _container(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    container: dict[str, Any] = {"name": name}
    _set(container, "image", config.get("image"))
    if "script" in config:
        container["command"] = ["/bin/sh", "-c", _literal(config["script"])]
    elif "command" in config:
        container["command"] = [_literal(word) for word in config["command"]]
    _set(container, "workingDir", config.get("workdir"))
    if env := config.get("env"):
        container["env"] = [_variable(name, env[name]) for name in sorted(env)]
    if resources := _resources(config.get("resources", {})):
        container["resources"] = resources
    if volumes := config.get("volumes", {}):
        container["volumeMounts"] = [
            {"name": _volume_name(at), "mountPath": path} for at, path in enumerate(sorted(volumes))
        ]
    return container


def _variable(name: str, value: str | Mapping[str, str]) -> dict[str, Any]:
    if isinstance(value, str):
        return {"name": name, "value": _literal(value)}
    secret, _, key = value["secret"].partition("/")
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _literal(text: str) -> str:
    """Return a text that the kubelet takes as it stands. It expands $(NAME), and takes "$$" for "$" (EnvVar.value)."""
    return re.sub(r"\$(?=[$(])", "$$", text)


def _resources(resources: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resources of a container. Requests and limits are the same, so that a run gets what it may use."""
    amounts: dict[str, str] = {}
    if (cpu := resources.get("cpu")) is not None:
        amounts["cpu"] = f"{round(cpu * 1000)}m"
    if (memory := resources.get("memory")) is not None:
        amounts["memory"] = str(memory).removesuffix(_MEMORY_SUFFIX)
    if gpus := resources.get("gpu"):
        amounts["nvidia.com/gpu"] = str(gpus)
    return {"requests": amounts, "limits": dict(amounts)} if amounts else {}


def _failure_rules(config: Mapping[str, Any], container: str) -> Iterator[dict[str, Any]]:
    """Yield the rules of a podFailurePolicy. The first one that matches a pod counts.

    Without a policy, any failure counts against `backoffLimit`, that of a drained pod too.
    """
    retry = config.get("retry", {})
    on_disruption = config.get("onDisruption", "fail")
    # The Job of a manifest may make attempts by itself.
    makes_attempts = retry.get("times", 0) > 0 or ("job" in config and "onDisruption" in config)
    if not makes_attempts and on_disruption != "continue":
        return
    action = "Ignore" if on_disruption == "continue" else "FailJob"
    yield {"action": action, "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    if codes := retry.get("exitCodes"):
        yield {
            "action": "FailJob",
            "onExitCodes": {
                "containerName": container,
                "operator": "NotIn",
                "values": sorted(codes),
            },
        }


def marks_of(job: Mapping[str, Any]) -> Marks:
    """Return the marks that a Job bears; all of them are "" on a Job of somebody else."""
    metadata = mapping(job, "metadata")
    annotations = mapping(metadata, "annotations")
    found = {mark: _mark(text(annotations, name)) for mark, name in _MARKS.items()}
    return Marks(lineage=text(metadata, "labels", LINEAGE_LABEL), **found)


def _annotation(mark: str) -> str:
    """Return a mark as an annotation holds it: escaped if it is no UTF-8, since it has half of a surrogate pair."""
    is_plain = mark.encode(errors="replace").decode() == mark and not mark.startswith(_ESCAPED)
    return mark if is_plain else _ESCAPED + quote(mark, safe="", errors="surrogatepass")


def _mark(annotation: str) -> str:
    """Return the mark that an annotation holds."""
    if annotation.startswith(_ESCAPED):
        with suppress(ValueError):
            return unquote(annotation.removeprefix(_ESCAPED), errors="surrogatepass")
    return annotation


def job_id_of(job: Mapping[str, Any]) -> str:
    """Return the id of the job that a Job is a run of; its own name for a Job of somebody else."""
    metadata = mapping(job, "metadata")
    return text(metadata, "labels", JOB_LABEL) or text(metadata, "name")


def _volume_name(at: int) -> str:
    return f"volume-{at + 1}"


def _set(fields: dict[str, Any], name: str, value: object) -> None:
    if value is not None:
        fields[name] = value
