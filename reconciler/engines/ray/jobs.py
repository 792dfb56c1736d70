"""A job of the Jobs API as a run: what it says of the run, and in which status that is.

    status    the head's word
    --------  -----------------------------------------------------------------------------
    ACTIVE    PENDING, also after a stop, which Ray keeps until the entrypoint could start; RUNNING
    COMPLETE  SUCCEEDED
    FAILED    FAILED
    ABORTED   STOPPED

A job that was deleted right after its end may come back a moment later: the loop that watched it notes an end for it,
without its entrypoint and its metadata. That is the trace of a job which was deleted, and no job.
"""

import signal
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from reconciler.engines.port import Execution, Marks, Observation, Status
from reconciler.engines.ray.importing import config_of
from reconciler.engines.ray.marks import Mark, mark_in
from reconciler.engines.ray.submission import was_timed_out
from reconciler.rules.runs import number_of

_STATUSES: Mapping[str, Status] = {
    "PENDING": Status.ACTIVE,
    "RUNNING": Status.ACTIVE,
    "SUCCEEDED": Status.COMPLETE,
    "FAILED": Status.FAILED,
    "STOPPED": Status.ABORTED,
}
ENDED = frozenset({Status.COMPLETE, Status.FAILED, Status.ABORTED})
"""The statuses of a run of which nothing executes any more."""

_NO_ENTRYPOINT = "Entrypoint not found."
"""What stands for the entrypoint in the trace of a job that was deleted (JobInfoStorageClient.put_status)."""

_LONGEST_DETAIL = 500
_REASONS: Mapping[str, str] = {
    "RUNTIME_ENV_SETUP_FAILURE": "the runtime environment could not be set up",
    "JOB_SUPERVISOR_ACTOR_START_TIMEOUT": "it could not be started in time",
    "JOB_SUPERVISOR_ACTOR_START_FAILURE": "it could not be started",
    "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE": "no node could have it",
    "JOB_SUPERVISOR_ACTOR_DIED": "its supervisor died",
}
"""The reasons that Ray has for the end of a run (JobErrorType), but for those that the exit code tells as well."""


class RayJob:
    """One job of the Jobs API, as the head tells of it (JobDetails). Any value in it may be of another type."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    @property
    def id(self) -> str:
        """The submission id; "" for a driver that nobody submitted."""
        return self._text("submission_id") if self._text("type") == "SUBMISSION" else ""

    @property
    def is_trace(self) -> bool:
        """Whether this is what is left of a job that was deleted."""
        return self._text("entrypoint") == _NO_ENTRYPOINT and not self._document.get("start_time")

    @cached_property
    def mark(self) -> Mark | None:
        """The marks of a run of ours; None for a job of somebody else. A mark is one of the job that has its run id."""
        mark = mark_in(self._document.get("metadata"))
        return mark if mark and mark.run_id == self.id else None

    @property
    def job_id(self) -> str:
        """The id of the job in a manifest. A job of somebody else has its submission id."""
        return self.mark.job_id if self.mark else self.id

    @property
    def lineage(self) -> str:
        """The lineage that the job bears; "" for a job of somebody else."""
        return self.mark.marks.lineage if self.mark else ""

    @property
    def order(self) -> tuple[bool, int, int]:
        """What orders the runs of one job, the newest one last."""
        mark = self.mark
        return mark is not None, number_of(mark.run_id, mark.job_id) if mark else 0, self._number("start_time") or 0

    @property
    def status(self) -> Status:
        """The status of the run; see the head of this module."""
        return _STATUSES.get(self._text("status"), Status.UNREADABLE)

    @property
    def ended_at_s(self) -> float | None:
        """When the run ended by the clock of the cluster, in seconds since 1970; None as long as it has not."""
        ended_ms = self._number("end_time")
        return None if ended_ms is None else ended_ms / 1000

    def observation(self) -> Observation:
        """Return what the head says of the run."""
        mark, status, word = self.mark, self.status, self._text("status")
        ended_at = _time(self._number("end_time"))
        return Observation(
            status,
            word,
            config=None if mark else config_of(self._document),
            submitted_at=_time(self._number("start_time")) or None,
            timestamps={word: ended_at} if ended_at and status in ENDED else {},
            detail=self._detail() if status is not Status.UNREADABLE else f"the head says {word or 'no status'}",
            name=self.id,
            run_id=mark.run_id if mark else "",
            ref=self.id,
            marks=mark.marks if mark else Marks(),
            execution=self._execution(),
        )

    def _detail(self) -> str:
        """Return why a run failed, or what a run waits for: of a traceback its end, without the log behind it."""
        if self.status not in (Status.FAILED, Status.ACTIVE) or self._text("status") == "RUNNING":
            return ""
        message = self._text("message").partition(", last available logs")[0]
        lines = [line.strip() for line in message.splitlines() if line.strip()]
        if any("Traceback (most recent call last)" in line for line in lines):
            lines = [lines[0].partition(": ")[0], lines[-1]]
        if self._is_timed_out:
            lines = ["jobTimeout", *lines]
        detail = ": ".join(dict.fromkeys(lines))
        return detail if len(detail) <= _LONGEST_DETAIL else f"{detail[:_LONGEST_DETAIL]}…"

    def _execution(self) -> Execution:
        started_ms, ended_ms = self._number("start_time"), self._number("end_time")
        has_ended = self.status in ENDED
        code = self._number("driver_exit_code")
        is_signal = code is not None and code < 0
        return Execution(
            node=self._text("driver_node_id"),
            ended_at=_time(ended_ms) if has_ended else "",
            exit_code=None if is_signal else code,
            signal=_signal_name(-code) if code is not None and is_signal else "",
            reason=self._reason(),
            took_s=(ended_ms - started_ms) / 1000 if has_ended and started_ms and ended_ms else None,
        )

    def _reason(self) -> str:
        if self.status is Status.ABORTED:
            return "aborted"
        return "jobTimeout" if self._is_timed_out else _REASONS.get(self._text("error_type"), "")

    @property
    def _is_timed_out(self) -> bool:
        code = self._number("driver_exit_code")
        return code is not None and was_timed_out(self._text("entrypoint"), code)

    def _text(self, name: str) -> str:
        value = self._document.get(name)
        return value if isinstance(value, str) else ""

    def _number(self, name: str) -> int | None:
        value = self._document.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None


def _time(unix_ms: int | None) -> str:
    """Return a time of Ray as RFC 3339; "" if it is not known, or is none."""
    if not unix_ms:
        return ""
    try:
        return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OverflowError, OSError, ValueError):
        return ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
