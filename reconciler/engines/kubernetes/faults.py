"""What a config may not say: the fields of a Job that are reconciler's own, and what a server is too old for."""

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.engines.kubernetes.fields import at, mapping
from reconciler.engines.kubernetes.objects import MANAGED_BY_LABEL, QUEUE_LABEL, container_of, spec_of
from reconciler.engines.kubernetes.settings import UNKNOWN
from reconciler.engines.port import Config
from reconciler.engines.texts import field_text, text_fault

_NAMES = "each run has a Job of its own name"
_OWN_FIELDS: Mapping[tuple[str, ...], str] = {
    ("status",): "the cluster writes it",
    ("metadata", "name"): _NAMES,
    ("metadata", "generateName"): _NAMES,
    ("metadata", "namespace"): "write `namespace` in the target",
    ("metadata", "uid"): "the cluster writes it",
    ("metadata", "ownerReferences"): "a Job with an owner is removed with its owner",
    ("spec", "selector"): "the cluster writes it",
    ("spec", "manualSelector"): "the cluster writes the selector",
    ("spec", "suspend"): "write `queue`, or run the job later",
    ("spec", "ttlSecondsAfterFinished"): "write `keepFor`, which begins once the end is recorded",
    ("spec", "backoffLimit"): "write `retry: {times: N}`",
    ("spec", "activeDeadlineSeconds"): "write `jobTimeout`",
    ("spec", "template", "spec", "restartPolicy"): "pods are not restarted in place: write `retry`",
    ("spec", "template", "spec", "activeDeadlineSeconds"): "write `taskTimeout`",
}
"""The fields that `native` may not set, each with the reason or with what to write instead."""

_FIELDS_OF_THE_CLUSTER = (("spec", "selector"), ("spec", "manualSelector"), ("metadata", "ownerReferences"))
"""The fields that the Job of a manifest may not set. `kubectl get` prints them."""

_NEEDED = (("spec",), ("spec", "template"), ("spec", "template", "spec"))
"""The mappings that each Job has."""

_MARKED = (("metadata",), ("spec", "template", "metadata"))
_MAPPINGS = (*_NEEDED, *_MARKED, *((*place, kind) for place in _MARKED for kind in ("labels", "annotations")))

_OWN_PREFIXES = ("reconciler/", "batch.kubernetes.io/", "controller-uid", "job-name", MANAGED_BY_LABEL)
_OLDEST_SERVERS: Mapping[str, tuple[int, int]] = {
    "suspend": (1, 22),
    "podFailurePolicy": (1, 26),
    "podReplacementPolicy": (1, 29),
}
"""The first server that knows a field of `spec` without a feature gate. An older one drops the field without a word."""


def config_fault(config: Config) -> str:
    """Return what no Job can be made of, or what is reconciler's own; "" if all is well."""
    if fault := text_fault(config):
        return fault
    if fault := shape_fault(config):
        return fault
    native, job = mapping(config, "native"), mapping(config, "job")
    if fault := _own_field(native) or _own_mark(native, "native"):
        return fault
    if fault := _job_fault(job):
        return fault
    if _parallelism(config) == 0:
        return "the Job has spec.parallelism 0, with which no pod is ever started: write 1 or more"
    ttl_s = at(job, "spec", "ttlSecondsAfterFinished")
    if ttl_s is not None and "keepFor" not in config:
        # The rules know `keepFor` alone. They would take a Job that its TTL has removed for one that somebody deleted.
        return f"the Job has spec.ttlSecondsAfterFinished: write `keepFor: {ttl_s}`, which takes the place of it"
    if "command" in config and "script" in config:
        return 'a config of the engine kubernetes has one of "command", "script" and "batch", and not two'
    if str(config.get("script", "")).startswith("#!"):
        return "config.script names its program in its first line, and is given to /bin/sh: write it for that"
    if job and "container" in config and container_of(config) not in _names(job):
        return f"the Job has no container {container_of(config)}: it has {', '.join(_names(job)) or 'none'}"
    return ""


def shape_fault(config: Config) -> str:
    """Return which part of `job` or `native` no Job can have; "" for none.

    `config` is valid by the schema of this engine, which says nothing of what is below these two words.
    """
    for word in ("job", "native"):
        for path in _MAPPINGS:
            where, found = field_text(word, *path), at(config, word, *path)
            if found is not None and not isinstance(found, Mapping):
                return f"{where}: expected a mapping"
            if word == "native" and path in _NEEDED and found is None and _is_named(config, path):
                return f"{where}: each Job has one, and null takes it out"
    for path in ((), *_NEEDED):
        if "$patch" in mapping(config, "native", *path):
            return f"{field_text('native', *path, '$patch')} would take out what each Job has"
    return ""


def image_fault(config: Config) -> str:
    """Return why a container of the Job of a config can't start: it has no image; "" if each container has one."""
    without = [each for each in _containers(spec_of(config)) if not isinstance(each, Mapping) or not each.get("image")]
    if not without:
        return ""
    main, named = container_of(config), at(without[0], "name")
    if named in (None, main):
        return 'a job of the engine kubernetes needs a config with "image", or the manifest of a Job'
    return (
        f'the container {named} has no image: "image" is that of the container {main}, and each further container '
        "has its own"
    )


def namespace_of(config: Config) -> str:
    """Return the one namespace that the runs of a config may be in; "" if any may be."""
    found = config.get("namespace") or at(config, "job", "metadata", "namespace")
    return found if isinstance(found, str) else ""


def too_old(config: Config, made: Mapping[str, Any], version: tuple[int, int]) -> str:
    """Return why a server of this version can't have the Job of a config; "" if it can. `made` is that Job."""
    dropped = [field for field, oldest in _OLDEST_SERVERS.items() if field in made["spec"] and version < oldest]
    if not dropped:
        return ""
    # In the order of their servers, so that of two fields of one word the later one counts.
    words = {_word_of(field, config): _OLDEST_SERVERS[field] for field in dropped}
    needed = " and ".join(f"`{word}` needs {oldest[0]}.{oldest[1]}" for word, oldest in words.items())
    fields = " and ".join(f"spec.{field}" for field in dropped)
    if version == UNKNOWN:
        return f"the server does not tell its version, and may drop {fields} without a word: {needed}"
    return f"the server is Kubernetes {version[0]}.{version[1]}, which drops {fields} without a word: {needed}"


def _word_of(field: str, config: Config) -> str:
    """Return the word of a config that asks for a field of `spec`."""
    for word in ("native", "job"):
        if field in mapping(config, word, "spec"):
            return word
    if field == "suspend":
        return "queue" if "queue" in config else QUEUE_LABEL
    if field == "podFailurePolicy" and at(config, "retry", "times"):
        return "retry"
    return f"onDisruption: {config.get('onDisruption', 'fail')}"


def attempts_after_failures(config: Config) -> int | None:
    """Return how many further attempts the Job of a manifest makes by itself; None if `retry` says it, or 0 does."""
    if "job" not in config or "retry" in config:
        return None
    found = at(config, "job", "spec", "backoffLimit")
    # The default of the cluster (JobSpec.backoffLimit).
    times = found if isinstance(found, int) else 6
    return times or None


def _parallelism(config: Config) -> Any:
    """Return the parallelism that a config sets for its Job; None for the default."""
    words = (mapping(config, word, "spec") for word in ("native", "job"))
    return next((spec["parallelism"] for spec in words if "parallelism" in spec), None)


def _is_named(config: Config, path: tuple[str, ...]) -> bool:
    return path[-1] in mapping(config, "native", *path[:-1])


def _own_field(native: Mapping[str, Any]) -> str:
    for path, advice in _OWN_FIELDS.items():
        if at(native, *path) is not None:
            return f"{field_text('native', *path)} is reconciler's own: {advice}"
    for name, only in (("apiVersion", "batch/v1"), ("kind", "Job")):
        if native.get(name, only) != only:
            return f"{field_text('native', name)} is {only}, and nothing else"
    return ""


def _own_mark(job: Mapping[str, Any], field: str) -> str:
    for place in (("metadata",), ("spec", "template", "metadata")):
        for kind in ("labels", "annotations"):
            for name in mapping(job, *place, kind):
                if field == "job" and name == MANAGED_BY_LABEL:
                    continue  # Each rendered chart has it, and `spec_of` leaves it out.
                if str(name).startswith(_OWN_PREFIXES):
                    return f"{field_text(field, *place, kind, name)} is reconciler's own, or the cluster's"
                if field == "native" and name == QUEUE_LABEL:
                    return f"{field_text('native', *place, kind, name)}: write `queue`"
    return ""


def _job_fault(job: Mapping[str, Any]) -> str:
    if not job:
        return ""
    if (job.get("apiVersion"), job.get("kind")) != ("batch/v1", "Job"):
        return f"expected a Job of batch/v1, and found a {job.get('kind')} of {job.get('apiVersion')}"
    for path in _FIELDS_OF_THE_CLUSTER:
        if at(job, *path) is not None:
            return f"the Job has {'.'.join(path)}, which a cluster writes: take the Job before it was in a cluster"
    if not isinstance(at(job, "spec", "template", "spec", "containers"), list):
        return "the Job has no containers (spec.template.spec.containers)"
    if at(job, "spec", "suspend") is True and QUEUE_LABEL not in mapping(job, "metadata", "labels"):
        return f"the Job is suspended, and no queue starts it: write `queue`, or the label {QUEUE_LABEL}"
    return _own_mark({"metadata": job.get("metadata", {})}, "job")


def _containers(job: Mapping[str, Any]) -> list[Any]:
    found = at(job, "spec", "template", "spec", "containers")
    return found if isinstance(found, list) else []


def _names(job: Mapping[str, Any]) -> list[str]:
    return [str(each["name"]) for each in _containers(job) if isinstance(each, Mapping) and "name" in each]


def warnings_of(configs: Mapping[str, Config], namespace: str) -> Iterator[str]:
    """Yield what a person should know before these jobs run. `configs` are those of the jobs, by name.

    Whoever has written `onDisruption` has chosen.
    """
    ended = [name for name, config in configs.items() if "onDisruption" not in config]
    again = {name: times for name, config in configs.items() if (times := attempts_after_failures(config))}
    plain = [name for name in ended if name not in again]
    if plain:
        yield f"a drain or a preemption of a node ends a run, which has failed then (onDisruption: fail): {_few(plain)}"
    if again:
        told = [f"{name} ({times})" for name, times in again.items()]
        yield (
            "their Jobs make further attempts by themselves, after a failure or a drain (backoffLimit; "
            f"`retry: {{times: 0}}` allows none): {_few(told)}"
        )
    for name, config in configs.items():
        wanted = namespace_of(config)
        if namespace and wanted not in ("", namespace):
            yield f"{name} is for the namespace {wanted}, and the target is {namespace}: its run will be refused"


def _few(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
