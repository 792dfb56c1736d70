"""Reads the jobs of a head: all of them with one request, since the Jobs API can't be asked for those of one job."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from urllib.parse import quote

from reconciler.engines.gathering import Gathering
from reconciler.engines.port import EngineError
from reconciler.engines.ray.head import Head, is_unknown_job
from reconciler.engines.ray.jobs import RayJob

JOBS = "/api/jobs/"
_ALL = ""


class Seen:
    """The jobs of one look."""

    def __init__(self, jobs: Iterable[RayJob]) -> None:
        self.jobs = tuple(job for job in jobs if job.id and not job.is_trace)

    @cached_property
    def _by_job(self) -> Mapping[str, Sequence[RayJob]]:
        found: dict[str, list[RayJob]] = defaultdict(list)
        for job in self.jobs:
            found[job.job_id].append(job)
        # A job of somebody else comes last, whatever its age.
        return {job_id: sorted(jobs, key=lambda job: job.order, reverse=True) for job_id, jobs in found.items()}

    @property
    def job_ids(self) -> Iterable[str]:
        """The ids of all jobs, in the words of a manifest."""
        return self._by_job

    def runs_of(self, job_id: str) -> Sequence[RayJob]:
        """Return the runs of a job, the newest one first.

        A job that nobody has run with this tool is the one that has its id as the submission id.
        """
        return self._by_job.get(job_id, ())


class Reading:
    """The jobs of one head. Several threads may call any method at the same time."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._all = Gathering(lambda keys: dict.fromkeys(keys, self._read_all()), 1)

    def all(self) -> Seen:
        """Return all jobs. Raises the errors of `Engine.observe`."""
        return self._all.get(_ALL)

    def one(self, submission_id: str) -> RayJob | None:
        """Return the job of a submission id; None if the head does not know it, or was told to delete it.

        Raises the errors of `Engine.observe`.
        """
        path = path_of(submission_id)
        reply = self._head.read(path)
        if is_unknown_job(reply):
            return None
        if reply.status != 200 or not isinstance(reply.document, Mapping):
            raise self._head.fault(path, reply)
        job = RayJob(reply.document)
        if job.id != submission_id:
            raise EngineError(f"{self._head.address}{path}: the answer is about another job", "try again")
        return None if job.is_trace else job

    def _read_all(self) -> Seen:
        documents = self._head.document(JOBS)
        if not isinstance(documents, list):
            raise EngineError(
                f"{self._head.address}{JOBS}: the answer is no list of jobs",
                "see that the address is that of the head's dashboard",
            )
        return Seen(RayJob(one) for one in documents if isinstance(one, Mapping))


def path_of(submission_id: str, *more: str) -> str:
    """Return the path of a job, or of something below it."""
    return JOBS + "/".join((quote(submission_id, safe=""), *more))
