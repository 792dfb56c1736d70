"""The engine: what a run, an abort, a delete and an observation are for a Slurm cluster."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from threading import Event

from reconciler.engines.dispatch import dispatch
from reconciler.engines.port import (
    AnswerClass,
    EngineError,
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
from reconciler.engines.slurm.commands import Commands, Failure, result_of
from reconciler.engines.slurm.controller import controller_of
from reconciler.engines.slurm.deleting import Deleting
from reconciler.engines.slurm.importing import config_of
from reconciler.engines.slurm.logs import log_of
from reconciler.engines.slurm.reading import Reading, Seen, why_unreadable
from reconciler.engines.slurm.runs import Run
from reconciler.engines.slurm.sending import Sending
from reconciler.engines.slurm.settings import Settings


class SlurmEngine:
    """The jobs of one cluster. See `Engine`."""

    def __init__(self, settings: Settings, surroundings: Surroundings) -> None:
        """Raises `EngineError` if the controller can't be reached, or is that of another cluster than the target's."""
        self._settings = settings
        self._surroundings = surroundings
        self._commands = Commands(settings, surroundings)
        try:
            self._controller = controller_of(self._commands)
        except BaseException:
            self._commands.close()
            raise
        if settings.cluster not in ("", self._controller.cluster):
            self._commands.close()
            raise EngineError(
                f"the cluster is {self._controller.cluster}, and the target says {settings.cluster}",
                "correct target.cluster, or what leads to the cluster: target.conf, SLURM_CONF or target.ssh",
            )
        self.promises: Promises = self._controller.promises(settings)
        self._reading = Reading(self._commands, settings, self._controller)
        self._sending = Sending(self._commands, self._reading, settings, surroundings)
        self._deleting = Deleting(self._commands, self._controller.has_accounting, surroundings.pause)

    def identity(self) -> Mapping[str, str]:
        """Return the name of the cluster."""
        return {"cluster": self._controller.cluster}

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        """Return what Slurm says of one run; see `Engine.observe`. A job of somebody else has its config."""
        found = self._observed([(job_id, run_id)])[job_id]
        if found.run_id or found.status in (Status.MISSING, Status.UNREADABLE):
            return found
        run = self._reading.present().started(job_id)
        return found._replace(config=config_of(self._commands, run[0])) if run and run[0].mark is None else found

    def observe_many(self, job_ids: Collection[str]) -> Mapping[str, Observation]:
        """Return the observation of each job, from one call of each command."""
        return self._observed([(job_id, "") for job_id in job_ids]) if job_ids else {}

    def observe_all(self) -> Iterator[tuple[str, Observation]]:
        """Yield the jobs that bear marks, and those of the user or the account that the target names."""
        present = self._reading.present()
        seen = [present, self._reading.past(present)]
        job_ids = {job_id for each in seen for job_id in each.ours}
        job_ids |= self._ids_of_others(present)
        found = self._observed([(job_id, "") for job_id in sorted(job_ids)])
        for job_id, observed in sorted(found.items()):
            if observed.status is not Status.MISSING:
                yield job_id, observed

    def stage(self, step: Step) -> str:
        """Submit the job of a run, held, and return its id; "" if that failed, which `send` then reports."""
        return self._sending.stage(step)

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        """Carry out one call; see `Engine.send`."""
        calls = {Verb.RUN: self._sending.send, Verb.ABORT: self._abort, Verb.DELETE: self._delete}
        return dispatch(step, may_be_sent, calls)

    def log(self, job_id: str, run_id: str, *, tail: int | None, follow: bool, stop: Event) -> Iterator[bytes]:
        """Yield what a run has printed, for an array that of its tasks in their order; see `Engine.log`."""

        def found() -> Run | None:
            return next(iter(self._runs(job_id, run_id)), None)

        return log_of(self._commands, found, tail=tail, follow=follow, stop=stop)

    def close(self) -> None:
        """Close the connection to the machine whose commands are used."""
        self._commands.close()

    # --- reads -------------------------------------------------------------------------------------------------------

    def _observed(self, wanted: Sequence[tuple[str, str]]) -> dict[str, Observation]:
        """Return the observation of the newest run of each job, or of the run that is named."""
        present = self._reading.present()
        found = {job_id: runs[0] for job_id, run_id in wanted if (runs := present.started(job_id, run_id))}
        left = [(job_id, run_id) for job_id, run_id in wanted if job_id not in found]
        unreadable = ""
        if left:
            try:
                past = self._reading.past(present)
            except EngineError as fault:
                unreadable = why_unreadable(fault)
                past = Seen(())
            found |= {job_id: runs[0] for job_id, run_id in left if (runs := past.started(job_id, run_id))}
        runs = self._reading.with_details([self._reading.whole(run) for run in found.values()])
        observed = {job_id: run.observation() for job_id, run in zip(found, runs, strict=True)}
        nothing = Observation(Status.UNREADABLE, detail=unreadable) if unreadable else self._missing()
        return {job_id: observed.get(job_id, nothing) for job_id, _ in wanted}

    def _missing(self) -> Observation:
        """Return the observation of a job that Slurm does not know. A controller that started cold knows none."""
        since = self._controller.runs_since
        if self._controller.has_accounting or not since:
            return Observation(Status.MISSING)
        told = f"the controller has run since {since}, and a start without its state (slurmctld -c) takes all jobs away"
        return Observation(Status.MISSING, detail=told)

    def _runs(self, job_id: str, run_id: str = "") -> list[Run]:
        """Return the runs of a job, the newest one first. Raises the errors of `observe`."""
        present = self._reading.present()
        past = self._reading.past(present)
        runs = [*present.started(job_id, run_id), *past.started(job_id, run_id)]
        ours = [run for run in runs if run.mark]
        return sorted(ours or runs, key=lambda run: run.order, reverse=True)

    def _is_listed(self, run: Run) -> bool:
        """Whether a job of somebody else is among those that the target is for."""
        row, settings = run.rows[0], self._settings
        if settings.account:
            return row.account == settings.account
        return row.user == (settings.user or self._commands.user())

    def _ids_of_others(self, present: Seen) -> set[str]:
        """Return the ids under which jobs of somebody else are listed.

        A job has its name as its id, if a job of a manifest may have that. Of several jobs of one name, those that have
        ended are earlier runs of the newest one, and those that go on beside it have their number as their id.
        """
        found: set[str] = set()
        for run in sorted(present.runs, key=lambda run: run.order, reverse=True):
            if run.mark is not None or not self._is_listed(run):
                continue
            if not is_job_id(run.name):
                found.add(str(run.id))
            elif run.name not in found:
                found.add(run.name)
            elif run.status in (Status.ACTIVE, Status.DRAFT):
                found.add(str(run.id))
        return found

    # --- calls -------------------------------------------------------------------------------------------------------

    def _abort(self, step: Step, may_be_sent: Callable[[], bool]) -> Result:
        runs = self._runs(step.job_id)
        run = next((run for run in runs if _is_meant(run, step)), None)
        if run is None:
            reason = Reason.NOT_RUNNING if runs else Reason.NO_SUCH_JOB
            return Result(AnswerClass.REJECTED, reason, f"Slurm has no job of {step.run_id or step.job_id}")
        if refusal := _other_owner(run, step):
            return refusal
        if run.status is Status.UNREADABLE:
            return Result(AnswerClass.NOT_SENT, message=run.detail)
        if run.status not in (Status.ACTIVE, Status.DRAFT):
            return Result(AnswerClass.REJECTED, Reason.NOT_RUNNING, f"job {run.id} has ended")
        if not may_be_sent():
            return Result(AnswerClass.NOT_SENT)
        answer = self._commands.run(["scancel", str(run.id)])
        match answer.failure:
            case None:
                return Result(AnswerClass.APPLIED, message=f"cancelled job {run.id}", ref=run.ref)
            case Failure.UNKNOWN_JOB | Failure.ENDED:
                return Result(AnswerClass.REJECTED, Reason.NOT_RUNNING, answer.message)
            case failure:
                return result_of(failure, answer.message)

    def _delete(self, step: Step, may_be_sent: Callable[[], bool]) -> Result:
        """Delete the runs of a job that belong to the lineage, as far as Slurm lets that be done."""
        runs = self._runs(step.job_id)
        if not runs:
            return Result(AnswerClass.REJECTED, Reason.NO_SUCH_JOB, f"Slurm has no job of {step.job_id}")
        newest = runs[0]
        if refusal := _other_owner(newest, step):
            return refusal
        ours = [run for run in runs if _lineage(run) == _lineage(newest)]
        if active := next((run for run in ours if run.status is Status.ACTIVE), None):
            return Result(AnswerClass.REJECTED, Reason.INVALID, f"job {active.id} is active: abort it first")
        if step.seen and step.seen != newest.ref:
            return Result(AnswerClass.REJECTED, Reason.OTHER, f"job {newest.id} is newer than the observed one")
        if not may_be_sent():
            return Result(AnswerClass.NOT_SENT)
        self._sending.cancel_left_over(step)
        return self._deleting.delete(ours)


def is_job_id(name: str) -> bool:
    """Whether a job of a manifest may have this id."""
    from reconciler.manifest.faults import job_fault

    return not job_fault(name, {"id": name, "state": "running"})


def _is_meant(run: Run, step: Step) -> bool:
    """Whether a call is about a run: the one that was observed, or else the one that is named, or the newest one."""
    if step.seen:
        return run.ref == step.seen
    return step.run_id == "" or run.mark is None or run.mark.run_id == step.run_id


def _lineage(run: Run) -> str:
    return run.mark.marks.lineage if run.mark else ""


def _other_owner(run: Run, step: Step) -> Result | None:
    """Return the refusal of a call for a job of another lineage. A job without marks belongs to nobody."""
    lineage = _lineage(run)
    if lineage in ("", step.marks.lineage) or not step.marks.lineage:
        return None
    message = f"job {run.id} belongs to another state, of lineage {lineage}"
    return Result(AnswerClass.REJECTED, Reason.OTHER_OWNER, message)
