"""The calls and the jobs of the jobs API, from and to the values of the model.

These functions do no input and no output, and the module is quick to import, since a plan shows calls that it never
sends.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple, assert_never

from reconciler.model.jobs import Config, Observation, Status, Verb
from reconciler.model.promises import Promises
from reconciler.model.steps import Step
from reconciler.model.times import is_zero

PROMISES = Promises(
    creates_on_run=False, atomic_run=False, reads=True, lists=True, keeps_ended_s=float("inf"), has_logs=False
)
"""What the jobs API guarantees. A service may lack the reads and the list: `Engine.observe` finds that out."""

DETAIL_LIMIT = 500
"""The most characters that are kept of a text of the service."""

_STATUSES: Mapping[str, Status] = {
    "JOB_STATE_NEW": Status.DRAFT,
    "JOB_STATE_COMPLETE": Status.COMPLETE,
    "JOB_STATE_FAILED": Status.FAILED,
}
_INT64_FIELDS = ("taskTimeout", "jobTimeout")
_BOOLEAN_FIELDS = ("isTestJob",)
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class ApiRequest(NamedTuple):
    """One request of the jobs API. `path` is percent-encoded, and relative to the endpoint."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None


def api_request(step: Step) -> ApiRequest:
    """Return the request that carries out a step. Only a run carries a config."""
    path = job_path(step.job_id)
    match step.verb:
        case Verb.RUN:
            return ApiRequest("POST", f"{path}/run", {"config": dict(step.config)})
        case Verb.ABORT:
            return ApiRequest("POST", f"{path}/abort")
        case Verb.DELETE:
            return ApiRequest("DELETE", path)
    assert_never(step.verb)


@lru_cache(maxsize=1024)
def job_path(job_id: str) -> str:
    """Return the path of one job. The id is percent-encoded, so that it stays one segment (RFC 3986, section 2.3)."""
    # `urllib.parse.quote` gives the same text, and its import takes 5 ms.
    return "/jobs/" + "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in job_id.encode())


def observation_from(job: Mapping[str, object]) -> Observation:
    """Return the observation that one job of the service stands for.

    An unknown `state` is an active job, since it is not one of the published end states. A word for an abort that is
    still going on, such as JOB_STATE_ABORTING, is an active job too. The observation keeps the word of the service.
    """
    word = job.get("state")
    submitted_at = job.get("submittedAt")
    timestamps = job.get("stateTimestamps")
    name = job.get("name")
    return Observation(
        status=_status(word, job.get("deletedAt")),
        word=word[:DETAIL_LIMIT] if isinstance(word, str) else "",
        config=_config(job.get("config")),
        submitted_at=submitted_at if isinstance(submitted_at, str) and _is_set(submitted_at) else None,
        timestamps=_timestamps(timestamps),
        detail=_detail(word, job.get("errorMessage")),
        name=name[:DETAIL_LIMIT] if isinstance(name, str) else "",
    )


def _status(word: object, deleted_at: object) -> Status:
    if _is_set(deleted_at) if isinstance(deleted_at, str) else deleted_at is not None:
        return Status.MISSING
    if not isinstance(word, str) or not word:
        return Status.UNREADABLE
    if ("ABORT" in word or "CANCEL" in word) and not word.endswith("ING"):
        return Status.ABORTED
    return _STATUSES.get(word, Status.ACTIVE)


def _is_set(time: str) -> bool:
    """Return whether a time was ever set.

    An empty text and the first moment of the year 1 are times at their default.
    """
    return bool(time) and not is_zero(time)


def _config(document: object) -> Config | None:
    """Return the known fields of a config.

    Return None, as for a missing config, if the config or a known field is malformed. A config that lacked only the
    malformed field would look like drift, and drift may restart a job.
    """
    if not isinstance(document, Mapping):
        return None
    config: dict[str, int | bool] = {}
    for name in (*_INT64_FIELDS, *_BOOLEAN_FIELDS):
        value = document.get(name)
        if value is None:
            continue
        field = whole_number(value) if name in _INT64_FIELDS else value if isinstance(value, bool) else None
        if field is None:
            return None
        config[name] = field
    return config


def whole_number(value: object) -> int | None:
    """Return a whole number of the JSON of Protocol Buffers: a number, or a string of decimal digits.

    Return None otherwise.
    """
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.removeprefix("-").isdigit():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if -(2**63) <= value < 2**63 else None


def _timestamps(document: object) -> Mapping[str, str]:
    if not isinstance(document, Mapping):
        return {}
    return {
        word: time
        for word, time in document.items()
        if isinstance(word, str) and isinstance(time, str) and _is_set(time)
    }


def _detail(word: object, error_message: object) -> str:
    if isinstance(error_message, str) and error_message:
        return error_message[:DETAIL_LIMIT]
    return "" if isinstance(word, str) and word else "the service tells no state of this job"
