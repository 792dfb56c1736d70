"""An engine that speaks no protocol at all: a table of jobs, and results that a test gives for the next calls."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from threading import Event, Lock

from reconciler.engines.port import AnswerClass, Promises, Reason, Result, Step, always
from reconciler.model.errors import EngineError
from reconciler.model.jobs import NOT_OBSERVED, Observation, Status, Verb

APPLIED = Result(AnswerClass.APPLIED, code="done")
LOST = Result(AnswerClass.IN_DOUBT, message="nobody answered")


class ScriptedEngine:
    """Gives the results of a script, and carries out what is applied.

    `script` maps a verb and a job id to the results of its next calls, in order; a call beyond them is applied. `jobs`
    holds the status of each job by its id. An engine without reads observes nothing. `sent` lists the calls in order.
    """

    promises = Promises(
        creates_on_run=False, atomic_run=False, reads=True, lists=False, keeps_ended_s=math.inf, has_logs=False
    )

    def __init__(
        self, jobs: Mapping[str, Status], script: Mapping[tuple[Verb, str], list[Result]], *, reads: bool = True
    ) -> None:
        self.jobs = dict(jobs)
        self.sent: list[tuple[Verb, str]] = []
        self._script = {call: list(results) for call, results in script.items()}
        self._reads = reads
        self._turn = Lock()

    def identity(self) -> Mapping[str, str]:
        return {}

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        if not self._reads:
            return NOT_OBSERVED
        return Observation(self.jobs.get(job_id, Status.MISSING), "its own word")

    def observe_many(self, job_ids: Collection[str]) -> Mapping[str, Observation]:
        return {job_id: self.observe(job_id) for job_id in job_ids}

    def observe_all(self) -> Iterator[tuple[str, Observation]]:
        raise EngineError("no list")

    def stage(self, step: Step) -> str:
        return ""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        if not may_be_sent():
            return Result(AnswerClass.NOT_SENT)
        with self._turn:
            self.sent.append((step.verb, step.job_id))
            results = self._script.get((step.verb, step.job_id), [])
            result = results.pop(0) if results else APPLIED
            if result.kind is AnswerClass.APPLIED:
                after = {Verb.RUN: Status.ACTIVE, Verb.ABORT: Status.ABORTED, Verb.DELETE: Status.MISSING}
                self.jobs[step.job_id] = after[step.verb]
            return result

    def log(self, job_id: str, run_id: str, *, tail: int | None, follow: bool, stop: Event) -> Iterator[bytes]:
        raise EngineError("no logs")

    def close(self) -> None:
        pass


def rejected(reason: Reason, code: str = "") -> Result:
    """A rejection for a reason, with a code that no rule may read."""
    return Result(AnswerClass.REJECTED, reason, "no", code)
