"""What the Job of a run looks like: the names, labels and annotations that it bears, and its spec from a config.

A run is one Job whose name is the run id. The name is the guard: an API server has one object of a name, and answers
409 to a second one. The pods bear the labels too, so that one list finds those that still execute.
"""

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from reconciler.engines.kubernetes.merging import merged
from reconciler.engines.port import Config, Marks, Step, same_json

JOB_LABEL, LINEAGE_LABEL = "reconciler/job", "reconciler/lineage"
MANAGED_BY = {"app.kubernetes.io/managed-by": "reconciler"}
_MARKS = {
    "op": "reconciler/op",
    "config_digest": "reconciler/config-digest",
    "token_digest": "reconciler/token-digest",
    "commit": "reconciler/commit",
}
CONFIG, ABORT_OP = "reconciler/config", "reconciler/abort-op"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
CONTAINER = "main"
LONGEST_JOB_ID = 52
"""A Job of this name may be followed by "-" and ten digits within the 63 characters of a label, as for a CronJob."""

_SUFFIXES = {
    **{
        suffix: Decimal(1000) ** power
        for power, suffix in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), -3)
    },
    **{suffix: Decimal(1024) ** power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
}
_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?P<suffix>[KMGTPE]i|[numkMGTPE]|)"
)

_MEMORY_SUFFIX = "B"  # "512MiB" is "512Mi" in a quantity of Kubernetes


def job_object(step: Step, namespace: str) -> dict[str, Any]:
    """Return the Job of a run."""
    labels = {**MANAGED_BY, JOB_LABEL: step.job_id, LINEAGE_LABEL: step.marks.lineage}
    annotations = {name: value for mark, name in _MARKS.items() if (value := getattr(step.marks, mark))}
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
    """Return the Job of a config without the marks of a run."""
    pod: dict[str, Any] = {"restartPolicy": "Never"}
    spec: dict[str, Any] = {"backoffLimit": 0, "template": {"spec": pod}}
    labels: dict[str, str] = {}
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
    pod["containers"] = [_container(config)]
    spec["backoffLimit"] = config.get("retry", {}).get("times", 0)
    if rules := list(_failure_rules(config)):
        spec["podFailurePolicy"] = {"rules": rules}
        spec["podReplacementPolicy"] = "Failed"
    if queue := config.get("queue"):
        labels[QUEUE_LABEL] = queue
        spec["suspend"] = True
    made = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"labels": labels}, "spec": spec}
    return dict(merged(made, config.get("native", {})))


def _container(config: Mapping[str, Any]) -> dict[str, Any]:
    container: dict[str, Any] = {"name": config.get("container", CONTAINER)}
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


def _failure_rules(config: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rules of a podFailurePolicy. The first one that matches a pod counts.

    Without a policy, any failure counts against `backoffLimit`, that of a drained pod too.
    """
    retry = config.get("retry", {})
    on_disruption = config.get("onDisruption", "fail")
    is_needed = retry.get("times", 0) > 0 or on_disruption == "continue"
    if not is_needed:
        return
    action = "Ignore" if on_disruption == "continue" else "FailJob"
    yield {"action": action, "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    if codes := retry.get("exitCodes"):
        yield {
            "action": "FailJob",
            "onExitCodes": {
                "containerName": config.get("container", CONTAINER),
                "operator": "NotIn",
                "values": sorted(codes),
            },
        }


def marks_of(job: Mapping[str, Any]) -> Marks:
    """Return the marks that a Job bears; all of them are "" on a Job of somebody else."""
    metadata = _mapping(job, "metadata")
    annotations = _mapping(metadata, "annotations")
    found = {mark: _text(annotations.get(name)) for mark, name in _MARKS.items()}
    return Marks(lineage=_text(_mapping(metadata, "labels").get(LINEAGE_LABEL)), **found)


def job_id_of(job: Mapping[str, Any]) -> str:
    """Return the id of the job that a Job is a run of; its own name for a Job of somebody else."""
    metadata = _mapping(job, "metadata")
    return _text(_mapping(metadata, "labels").get(JOB_LABEL)) or _text(metadata.get("name"))


def config_of(job: Mapping[str, Any]) -> Config | None:
    """Return the config of a Job: what we sent, with each field that the cluster holds otherwise as it is there.

    None for a Job that no config of ours made.
    """
    annotation = _mapping(_mapping(job, "metadata"), "annotations").get(CONFIG)
    try:
        sent = json.loads(annotation) if isinstance(annotation, str) else None
    except ValueError:
        return None
    if not isinstance(sent, dict):
        return None
    made = spec_of(sent)
    # A server lists its objects without their kind.
    found = difference(job, {part: made[part] for part in ("metadata", "spec")})
    return sent if found is SAME else {**sent, "native": merged(sent.get("native", {}), found)}


SAME: Final = object()
"""The difference between two values of which one holds all of the other."""


def holds(there: Any, sent: Any) -> bool:
    """Return whether the cluster holds all that was sent. What it holds beside that is a default, or another's."""
    return difference(there, sent) is SAME


def difference(there: Any, sent: Any, *, are_quantities: bool = False) -> Any:
    """Return the parts of `there` that differ from what was sent, in the form of what was sent; `SAME` for none.

    What is missing is None. A list is compared item by item; one of another length differs as a whole. A server writes
    quantities in its own way, such as "2" for "2000m", and leaves out mappings and lists that are empty.
    """
    if there is None and sent in ({}, []):
        return SAME
    if isinstance(sent, Mapping) and isinstance(there, Mapping):
        parts = {
            name: found
            for name, value in sent.items()
            if (found := difference(there.get(name), value, are_quantities=name in ("requests", "limits"))) is not SAME
            and not (are_quantities and quantity(str(found)) == quantity(str(value)))
        }
        return parts or SAME
    if isinstance(sent, list) and isinstance(there, list) and len(there) == len(sent):
        return SAME if all(map(holds, there, sent)) else there
    return SAME if same_json(there, sent) else there


def quantity(text: str) -> Decimal | str:
    """Return the number that a quantity of Kubernetes stands for, such as 0.5 for "500m"; the text if it is none."""
    found = _QUANTITY.fullmatch(text)
    if found is None:
        return text
    return Decimal(found["number"]) * _SUFFIXES[found["suffix"]]


def _volume_name(at: int) -> str:
    return f"volume-{at + 1}"


def _set(fields: dict[str, Any], name: str, value: object) -> None:
    if value is not None:
        fields[name] = value


def _mapping(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
