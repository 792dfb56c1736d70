"""The engine: what a run, an abort, a delete and an observation are for a Ray cluster."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Event

from reconciler.engines.dispatch import dispatch
from reconciler.engines.port import (
    NOT_OBSERVED,
    AnswerClass,
    Observation,
    Promises,
    Reason,
    Result,
    Status,
    Step,
    Surroundings,
    Verb,
    always,
)
from reconciler.engines.ray.connecting import way_to_head
from reconciler.engines.ray.deleting import Deleting
from reconciler.engines.ray.head import Head, is_unknown_job, json_request
from reconciler.engines.ray.jobs import ENDED, RayJob
from reconciler.engines.ray.logs import log_of
from reconciler.engines.ray.reading import Reading, path_of
from reconciler.engines.ray.sending import Sending
from reconciler.engines.ray.sessions import Sessions
from reconciler.engines.ray.settings import PROMISES, Settings
from reconciler.model.errors import EngineFailed


class RayEngine:
    """The jobs of one cluster. See `Engine`."""

    promises: Promises = PROMISES

    def __init__(self, head: Head, settings: Settings, surroundings: Surroundings) -> None:
        self._head = head
        self._surroundings = surroundings
        self._sessions = Sessions(head, surroundings.known_identity, is_replaced=surroundings.is_replaced)
        self._reading = Reading(head)
        self._sending = Sending(head, self._reading, self._sessions, settings, surroundings)
        self._deleting = Deleting(head, surroundings)
        self._misses_a_job = False

    def identity(self) -> Mapping[str, str]:
        """Return the session of the head, and whether there were others; see `Sessions.identity`."""
        return self._sessions.identity

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        """Return what the head says of one run; see `Engine.observe`.

        A named run that the head does not know is NOT_OBSERVED if an earlier head may have executed it.
        """
        if not run_id:
            return self.observe_many([job_id])[job_id]
        job = self._reading.one(run_id)
        if job is not None and job.job_id == job_id:
            return job.observation()
        return NOT_OBSERVED._replace(run_id=run_id) if self._sessions.were_several else self._missing()

    def observe_many(self, job_ids: Collection[str]) -> Mapping[str, Observation]:
        """Return the observation of each job, from one list."""
        if not job_ids:
            return {}
        seen = self._reading.all()
        return {job_id: self._newest(seen.runs_of(job_id)) for job_id in job_ids}

    def observe_all(self) -> Iterator[tuple[str, Observation]]:
        """Yield each job that was submitted to the head, those of other tools too."""
        seen = self._reading.all()
        for job_id in sorted(seen.job_ids):
            yield job_id, self._newest(seen.runs_of(job_id))

    def stage(self, step: Step) -> str:
        """Upload the package of a run, and return the session for which it was staged; see `Sending.stage`."""
        return self._sending.stage(step) if step.verb is Verb.RUN else ""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        """Carry out one call; see `Engine.send`."""
        calls = {Verb.RUN: self._sending.send, Verb.ABORT: self._abort, Verb.DELETE: self._delete}
        return dispatch(step, may_be_sent, calls)

    def log(self, job_id: str, run_id: str, *, tail: int | None, follow: bool, stop: Event) -> Iterator[bytes]:
        """Yield what a run has printed; see `Engine.log`."""
        newest = self._reading.all().runs_of(job_id)[:1] if not run_id else ()
        submission_id = run_id or next((job.id for job in newest), job_id)
        boot_s = self._surroundings.boot_s
        return log_of(self._head, self._reading, submission_id, boot_s, tail=tail, follow=follow, stop=stop)

    def close(self) -> None:
        """Close the connections.

        Raises `EngineFailed` if the head was restarted, and a job was asked for that it does not know. All calls are on
        record by then, so that a command tells this as a warning.
        """
        self._head.close()
        recorded = self._sessions.recorded
        if recorded and self._misses_a_job:
            raise EngineFailed(
                f"{self._head.address} was restarted: its session was {recorded}, and is {self._sessions.name}. It has "
                "forgotten the runs of before: those whose end is recorded are done, and the others are held. "
                "`reconciler state accept --identity` records the new session, and ends this warning"
            )

    # --- reads -------------------------------------------------------------------------------------------------------

    def _newest(self, runs: Sequence[RayJob]) -> Observation:
        return runs[0].observation() if runs else self._missing()

    def _missing(self) -> Observation:
        self._misses_a_job = True
        return Observation(Status.MISSING)

    # --- calls -------------------------------------------------------------------------------------------------------

    def _abort(self, step: Step, may_be_sent: Callable[[], bool]) -> Result:
        runs = self._reading.all().runs_of(step.job_id)
        job = next((job for job in runs if _is_meant(job, step)), None)
        if job is None:
            reason = Reason.NOT_RUNNING if runs else Reason.NO_SUCH_JOB
            return Result(AnswerClass.REJECTED, reason, f"the head has no {step.run_id or step.job_id}")
        if refusal := _other_owner(job, step):
            return refusal
        if job.status is Status.UNREADABLE:
            return Result(AnswerClass.NOT_SENT, message=job.observation().detail)
        if job.status is not Status.ACTIVE:
            return Result(AnswerClass.REJECTED, Reason.NOT_RUNNING, f"{job.id} has ended")
        reply = self._head.call(json_request("POST", path_of(job.id, "stop")), may_be_sent)
        if is_unknown_job(reply):
            return Result(AnswerClass.REJECTED, Reason.NOT_RUNNING, self._head.message(reply), "404")
        result = self._head.result(reply)
        document = reply.document if isinstance(reply.document, Mapping) else {}
        if result.kind is not AnswerClass.APPLIED or document.get("stopped") is True:
            return result._replace(ref=job.id)
        return self._not_stopped(job)

    def _not_stopped(self, job: RayJob) -> Result:
        """Return what it means that nothing was there that could be stopped: the supervisor of a job ends with it."""
        now = self._reading.one(job.id)
        if now is None or now.status is not Status.ACTIVE:
            return Result(AnswerClass.REJECTED, Reason.NOT_RUNNING, f"{job.id} has ended")
        return Result(AnswerClass.REJECTED, Reason.OTHER, f"Ray could not stop {job.id}, which has no supervisor now")

    def _delete(self, step: Step, may_be_sent: Callable[[], bool]) -> Result:
        """Delete the jobs of all runs that belong to the lineage."""
        runs = self._reading.all().runs_of(step.job_id)
        if not runs:
            return Result(AnswerClass.REJECTED, Reason.NO_SUCH_JOB, f"the head has no job of {step.job_id}")
        newest = runs[0]
        if refusal := _other_owner(newest, step):
            return refusal
        ours = [job for job in runs if job.lineage == newest.lineage]
        if active := next((job for job in ours if job.status not in ENDED), None):
            return Result(AnswerClass.REJECTED, Reason.INVALID, f"{active.id} is active: abort it first")
        if step.seen and step.seen != newest.id:
            return Result(AnswerClass.REJECTED, Reason.OTHER, f"{newest.id} is newer than the observed run")
        # The oldest one first: whoever is killed midway leaves the newest one, by which the job is known.
        return self._deleting.delete(ours[::-1], may_be_sent)


@contextmanager
def connected(settings: Settings, surroundings: Surroundings) -> Iterator[RayEngine]:
    """Yield the engine. Raises `EngineError` for an address, headers, certificates or a proxy that can't be used."""
    way = way_to_head(settings, surroundings.env)
    for secret in way.network.proxy.secrets if way.network.proxy else ():
        surroundings.note_credential(secret)
    engine = RayEngine(Head(way, surroundings), settings, surroundings)
    try:
        yield engine
    except BaseException:
        # What went wrong before counts, and not what the head has forgotten.
        with suppress(EngineFailed):
            engine.close()
        raise
    engine.close()


def _is_meant(job: RayJob, step: Step) -> bool:
    """Whether a call is about a run: the one that was observed, or else the one that is named, or the newest one."""
    if step.seen:
        return job.id == step.seen
    return step.run_id == "" or job.mark is None or job.mark.run_id == step.run_id


def _other_owner(job: RayJob, step: Step) -> Result | None:
    """Return the refusal of a call for a job of another lineage. A job without marks belongs to nobody."""
    if job.lineage in ("", step.marks.lineage) or not step.marks.lineage:
        return None
    message = f"{job.id} belongs to another state, of lineage {job.lineage}"
    return Result(AnswerClass.REJECTED, Reason.OTHER_OWNER, message)
