"""The config that a Job bears in an annotation, and what the cluster holds otherwise.

Anybody who may make a Job may write the annotation, and any text may stand there. So nothing of it is used before it is
known to be a config that the schema of this engine allows, and of which a Job can be made.
"""

import json
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

from reconciler.engines.kubernetes.differences import SAME, difference, holds
from reconciler.engines.kubernetes.faults import shape_fault
from reconciler.engines.kubernetes.fields import items, mapping, text
from reconciler.engines.kubernetes.merging import merged
from reconciler.engines.kubernetes.objects import ABORT_OP, ABORTED_BY, CONFIG, QUEUE_LABEL, container_of, spec_of
from reconciler.engines.kubernetes.schemas import schema
from reconciler.engines.port import Config
from reconciler.engines.texts import text_fault
from reconciler.manifest.schema import Validator
from reconciler.manifest.yaml import MAX_DEPTH

_OF_FILES = ("batch", "manifest")
"""The words that name a file. A run is sent with the content of the file instead."""


def config_of(job: Mapping[str, Any]) -> Config | None:
    """Return the config of a Job: what we sent, with each field that the cluster holds otherwise as it is there.

    Drift is told of what the manifest sets. So a difference is in the word that says it, else in `job` or `native`.
    Returns None for a Job that no config of ours made, and for an annotation that holds no valid config.
    """
    sent = _parsed(text(job, "metadata", "annotations", CONFIG))
    if sent is None or not _is_sound(sent):
        return None
    # A server lists its objects without their kind.
    expected = _expected(job, sent)
    if holds(job, expected):
        return sent
    container = container_of(sent)
    wanted, there = _plain_words(expected, container), _plain_words(job, container)
    differing = [word for word, value in wanted.items() if word in sent and there.get(word) != value]
    found = {word: value for word, value in sent.items() if word not in differing}
    found |= {word: there[word] for word in differing if word in there}
    rest = difference(job, _expected(job, found))
    if rest is SAME:
        return found
    field = "job" if "job" in sent and "native" not in sent else "native"
    return {**found, field: merged(found.get(field, {}), rest)}


def _expected(job: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a cluster holds of the Job of a config, but for what Kueue and an abort set."""
    made = spec_of(config)
    # Kueue starts and suspends the Job.
    made["spec"].pop("suspend", None)
    if ABORT_OP in mapping(job, "metadata", "annotations"):
        for field in ABORTED_BY:
            made["spec"].pop(field, None)
    return {"metadata": made["metadata"], "spec": made["spec"]}


def _plain_words(job: Mapping[str, Any], container: str) -> dict[str, Any]:
    """Return the words of a config that a Job has as they are, a text or a number at one place."""
    spec = mapping(job, "spec")
    pod = mapping(spec, "template", "spec")
    main: Mapping[str, Any] = next((each for each in items(pod, "containers") if each.get("name") == container), {})
    found = {
        "image": main.get("image"),
        "workdir": main.get("workingDir"),
        "jobTimeout": spec.get("activeDeadlineSeconds"),
        "taskTimeout": pod.get("activeDeadlineSeconds"),
        "serviceAccount": pod.get("serviceAccountName"),
        "priorityClass": pod.get("priorityClassName"),
        "queue": mapping(job, "metadata", "labels").get(QUEUE_LABEL),
    }
    return {word: value for word, value in found.items() if isinstance(value, str | int)}


def _parsed(annotation: str) -> dict[str, Any] | None:
    """Return the mapping of JSON that a text is; None for any other text."""
    try:
        found = json.loads(annotation, parse_constant=_refused, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits} is too large")
    return number


def _is_sound(config: dict[str, Any]) -> bool:
    """Return whether a mapping of JSON is a config that a run may have been sent with."""
    if _is_deep(config) or any(word in config for word in _OF_FILES):
        return False
    return _validator().is_valid(config) and not text_fault(config) and not shape_fault(config)


def _is_deep(value: object) -> bool:
    """Return whether a value is nested deeper than a manifest may be. Each level takes a call of what reads it."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for each in level for inner in _inside(each)]
    return bool(level)


def _inside(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


@cache
def _validator() -> Validator:
    return Validator(schema("config"))
