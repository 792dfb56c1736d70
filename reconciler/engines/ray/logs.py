"""The log of a run: what the head has of it, which is the output of the entrypoint behind two lines of Ray's own.

The Jobs API gives a log whole, and as text. A log that is followed is read again and again, the more rarely the longer
that takes, and what was read before is left out.
"""

from collections.abc import Callable, Iterator, Mapping
from threading import Event

from reconciler.engines.port import EngineError, Status
from reconciler.engines.ray.head import Head, is_unknown_job
from reconciler.engines.ray.jobs import RayJob
from reconciler.engines.ray.reading import Reading, path_of

_FOLLOW_EVERY_S = 0.5
_PART_OF_TIME = 10
"""A log that is followed is read during a tenth of the time at most."""


def log_of(
    head: Head,
    reading: Reading,
    submission_id: str,
    clock: Callable[[], float],
    *,
    tail: int | None,
    follow: bool,
    stop: Event,
) -> Iterator[bytes]:
    """Yield the log of a job in pieces. With `follow`, go on until the run is over or `stop` is set.

    Raises `EngineError` if the job is not there, also if it goes away while its log is followed, and the errors of
    `Engine.observe`.
    """
    shown = 0
    first = True
    while True:
        began_s = clock()
        job = _job(reading, submission_id)
        content = _content(head, submission_id)
        if first and tail is not None:
            shown = len(content) - len(_tail(content, tail))
        if piece := content[shown:]:
            yield piece
        shown, first = max(shown, len(content)), False
        # What the job printed before its end was noted is in a log that was read after that.
        if not follow or stop.is_set() or job.status is not Status.ACTIVE:
            return
        stop.wait(max(_FOLLOW_EVERY_S, _PART_OF_TIME * (clock() - began_s)))


def _job(reading: Reading, submission_id: str) -> RayJob:
    job = reading.one(submission_id)
    if job is None:
        raise EngineError(
            f"the head does not know {submission_id}: it was deleted, or the head was restarted since",
            "send logs that are needed later to a place of their own",
        )
    return job


def _content(head: Head, submission_id: str) -> bytes:
    path = path_of(submission_id, "logs")
    reply = head.read(path)
    if is_unknown_job(reply):
        return b""
    if "UnicodeDecodeError" in reply.text and reply.status != 200:
        raise EngineError(
            f"the log of {submission_id} is not text in UTF-8, and Ray gives no other one",
            f"read it on its node: logs/job-driver-{submission_id}.log in the folder of the session",
        )
    logs = reply.document.get("logs") if isinstance(reply.document, Mapping) else None
    if reply.status != 200 or not isinstance(logs, str):
        raise head.fault(path, reply)
    return logs.encode(errors="surrogatepass")


def _tail(content: bytes, lines: int) -> bytes:
    """Return the last lines of a log."""
    parts = content.splitlines(keepends=True)
    return b"".join(parts[len(parts) - lines :]) if 0 < lines < len(parts) else content if lines else b""
