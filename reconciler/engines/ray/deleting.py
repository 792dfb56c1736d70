"""Deletes the jobs of runs that have ended.

A loop in Ray watches each job, and looks once a second. It may not have seen an end that the job itself has noted. If
the job is gone at its next look, the loop takes it for one that was lost, and notes an end for it: the job is there
again, without its metadata, and its submission id stays taken. So a job is deleted some seconds after its end.
"""

from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime

from reconciler.engines.http.reply import Reply
from reconciler.engines.port import AnswerClass, Reason, Result, Surroundings
from reconciler.engines.ray.head import VERSION, Head, is_unknown_job, json_request
from reconciler.engines.ray.jobs import RayJob
from reconciler.engines.ray.reading import path_of

SEEN_WITHIN_S = 4.0
"""The seconds after its end within which Ray's loop has seen the end of a job."""

_LOOK_EVERY_S = 0.5


class Deleting:
    """Deletes the jobs of one head. Several threads may call any method at the same time."""

    def __init__(self, head: Head, surroundings: Surroundings) -> None:
        self._head = head
        self._surroundings = surroundings

    def delete(self, jobs: Sequence[RayJob], may_be_sent: Callable[[], bool]) -> Result:
        """Delete jobs that have ended, in their order. Raises the errors of `Engine.observe` if a read fails first."""
        if self._is_stopped_before_seen(jobs):
            return Result(AnswerClass.NOT_SENT, message="stopped before it was sent")
        result = Result(AnswerClass.APPLIED)
        for job in jobs:
            reply = self._head.call(json_request("DELETE", path_of(job.id)), may_be_sent)
            if is_unknown_job(reply):
                continue
            if reply.status == 500 and "non-terminal state" in reply.text:
                return Result(AnswerClass.REJECTED, Reason.INVALID, self._head.message(reply), "500")
            result = self._head.result(reply)
            if result.kind is not AnswerClass.APPLIED:
                return result
        return result

    def _is_stopped_before_seen(self, jobs: Sequence[RayJob]) -> bool:
        """Wait until Ray has seen the ends of all jobs. Returns True if a stop is requested meanwhile."""
        ended_s = max((job.ended_at_s or 0.0 for job in jobs), default=0.0)
        left_s = min(SEEN_WITHIN_S, ended_s + SEEN_WITHIN_S - _time_of_s(self._head.read(VERSION)))
        until_s = self._surroundings.boot_s() + left_s
        while (left_s := until_s - self._surroundings.boot_s()) > 0:
            if self._surroundings.pause(min(left_s, _LOOK_EVERY_S)):
                return True
        return False


def _time_of_s(reply: Reply) -> float:
    """Return the time of the head in seconds since 1970, rounded down; 0 if the answer does not tell it.

    Ends of jobs are of the clocks of the cluster, which this machine need not share.
    """
    try:
        return parsedate_to_datetime(reply.headers.get("date", "")).timestamp()
    except (ValueError, OverflowError):
        return 0.0
