"""Starts a run exactly once, though Slurm takes any number of jobs of one name.

`stage` submits a job that is held, which is harmless twice. `send` looks for all jobs of the run id, and releases one:

    a job was released before         the run is there, and nothing is released
    several are held                  the one that Slurm has taken first; all senders choose the same one
    one of another call comes first   its sender may be about to release it: it is waited for. What is left after that
                                      is what a killed program has left. Ours is cancelled before anything is released,
                                      and that of another state is left alone.

To release a job twice is harmless, and so is to release one that was cancelled. So two senders can't start two jobs,
wherever either of them is stopped. What is left over stays held, and is cancelled.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from reconciler.engines.gathering import Gathering
from reconciler.engines.port import (
    AnswerClass,
    EngineError,
    Reason,
    Result,
    Step,
    Surroundings,
    Verb,
    reason_of_duplicate,
)
from reconciler.engines.slurm.chains import chain_fault, chain_options, why_not_to_release
from reconciler.engines.slurm.commands import Commands, Failure, failure_in, message_in, result_of
from reconciler.engines.slurm.faults import config_fault, secrets_fault
from reconciler.engines.slurm.marks import Mark
from reconciler.engines.slurm.reading import LINGER_S, Reading
from reconciler.engines.slurm.rendezvous import Rendezvous
from reconciler.engines.slurm.rows import count_of
from reconciler.engines.slurm.runs import Run
from reconciler.engines.slurm.settings import Settings
from reconciler.engines.slurm.submission import asked_array, submission
from reconciler.model.times import unix_s
from reconciler.rules.runs import number_of

RIVAL_S = 10.0
"""How long after its submission a held job of another call may be about to be released."""

_FRESH_S = 5.0
"""How long it counts that the jobs go on that a job comes after. The controller knows them for longer than that."""

_LOOK_EVERY_S = 0.2
_MOST_LOOKS = 200
_MOST_AT_ONCE = 50

_TOGETHER_WITHIN_S = 0.1
"""How long a call waits for others that are about to submit, so that all of them share the commands that follow."""


class Sending:
    """Submits and releases the runs of one cluster. Several threads may call any method at the same time."""

    def __init__(self, commands: Commands, reading: Reading, settings: Settings, surroundings: Surroundings) -> None:
        self._commands = commands
        self._reading = reading
        self._settings = settings
        self._surroundings = surroundings
        self._rendezvous = Rendezvous(_TOGETHER_WITHIN_S)
        self._releases = Gathering(self._release_and_note, _MOST_AT_ONCE, LINGER_S)

    def stage(self, step: Step) -> str:
        """Submit the job of a run, held, and return its id; "" if that failed, which `send` then reports.

        The calls of `send` that come meanwhile wait a moment for the one of this run.
        """
        if step.verb is not Verb.RUN or self._refusal(step):
            return ""
        staged: str | Result = ""
        self._rendezvous.expect(step.run_id)
        try:
            staged = self._submit(step)
        finally:
            if not staged or isinstance(staged, Result):
                self._rendezvous.leave(step.run_id)
        return "" if isinstance(staged, Result) else staged

    def send(self, step: Step, may_be_sent: Callable[[], bool]) -> Result:
        """Release the job of a run, unless the run was started before. Raises `EngineError` if nothing can be read."""
        if refusal := self._refusal(step):
            return Result(AnswerClass.REJECTED, Reason.INVALID, refusal)
        began_s = self._surroundings.boot_s()
        own, submissions = step.staged, 0
        self._rendezvous.arrive(step.run_id)
        for _ in range(_MOST_LOOKS):
            present, found = self._reading.of_run(step.run_id)
            if started := [run for run in found if run.was_released]:
                self._cancel(_left_over(found, step))
                return _duplicate(started, step)
            if unmarked := present.unmarked(step.job_id, number_of(step.run_id, step.job_id)):
                return Result(AnswerClass.REJECTED, Reason.OTHER, _why_unmarked(unmarked))
            held = sorted((run for run in found if run.is_held), key=lambda run: run.place)
            first = next((run for run in held if str(run.id) == own), None) or next(_same(held, step), None)
            if first is None:
                if submissions == 2:
                    return Result(AnswerClass.IN_DOUBT, message="the job that was submitted is not there")
                staged = self._submit(step)
                if isinstance(staged, Result):
                    return staged
                own, submissions = staged, submissions + 1
                continue
            chosen = self._chosen(held, first, step, self._surroundings.boot_s() - began_s)
            if isinstance(chosen, Result):
                return chosen
            if chosen is not None and (result := self._released(chosen, found, step, may_be_sent)):
                return result
        return Result(AnswerClass.REJECTED, Reason.BUSY, f"others keep sending {step.run_id}")

    def _chosen(self, held: Sequence[Run], first: Run, step: Step, waited_s: float) -> Run | Result | None:
        """Return which of the held jobs is to be released; None if the jobs have to be read again before that.

        `first` is the job of this call. `waited_s` is for how long this call has waited.
        """
        before = [run for run in held if run.place < first.place]
        alive = [run for run in before if _submitted_s(first) - _submitted_s(run) + waited_s < RIVAL_S]
        chosen = next(_same(alive, step), first)
        if any(run.place < chosen.place for run in alive):
            stops = self._surroundings.pause(_LOOK_EVERY_S)
            return Result(AnswerClass.NOT_SENT, message="interrupted") if stops else None
        if left := [run for run in before if run not in alive and _is_of(run, step)]:
            failed = self._cancel(left)
            return result_of(*failed) if failed else None
        return chosen

    def _released(
        self, chosen: Run, found: Sequence[Run], step: Step, may_be_sent: Callable[[], bool]
    ) -> Result | None:
        """Release a job, and return the answer; None if the job has gone since it was read."""
        looked_s = self._surroundings.boot_s()
        if why := why_not_to_release(self._reading, step.after):
            self._cancel([run for run in _left_over(found, step) if run.id == chosen.id])
            return Result(AnswerClass.REJECTED, Reason.OTHER, why)
        if not may_be_sent():
            return Result(AnswerClass.NOT_SENT)
        if step.after and self._surroundings.boot_s() - looked_s > _FRESH_S:
            # This program may have been stopped meanwhile, for any time.
            return Result(AnswerClass.REJECTED, Reason.OTHER, "it took too long to see that the others go on")
        assert chosen.mark is not None
        failed = self._releases.get(f"{chosen.id} {chosen.mark._replace(was_sent=True).comment}")
        if failed is not None:
            failure, message = failed
            gone = failure in (Failure.UNKNOWN_JOB, Failure.ENDED)
            return None if gone else result_of(failure, message)
        left = [run for run in _left_over(found, step) if run.id != chosen.id]
        self._cancel([*left, *self._of_earlier_runs(chosen, step)])
        if chosen.mark.marks.op == step.marks.op:
            return Result(AnswerClass.APPLIED, message=f"released as job {chosen.id}", ref=chosen.ref)
        # Another call of this state has submitted the same run, and this one has released it, or has not.
        return Result(
            AnswerClass.REJECTED, Reason.WAS_THERE, f"{step.run_id} was there as job {chosen.id}", ref=chosen.ref
        )

    def cancel_left_over(self, step: Step) -> None:
        """Cancel what this state has submitted for a job and never released."""
        self._cancel(_left_over(self._reading.present().ours.get(step.job_id, ()), step))

    def _of_earlier_runs(self, chosen: Run, step: Step) -> list[Run]:
        """Return the submissions of earlier runs that arrived after their run was released, and were held ever since.

        A submission that is not old may be that of a sender whose state is older. It finds out by itself.
        """
        number = number_of(step.run_id, step.job_id)
        if number < 2:
            return []
        try:
            ours = self._reading.present().ours.get(step.job_id, ())
        except EngineError:
            return []  # The run is released. The next one of the job looks again.
        return [
            run
            for run in _left_over(ours, step)
            if run.mark
            and 0 < number_of(run.mark.run_id, step.job_id) < number
            and _submitted_s(chosen) - _submitted_s(run) > RIVAL_S
        ]

    def _refusal(self, step: Step) -> str:
        """Return why a run is not submitted; "" if it is."""
        config = step.config
        if fault := config_fault(config) or secrets_fault(config, self._settings) or chain_fault(config, step.after):
            return fault
        return "" if self._mark(step).fits else "the marks of the run are longer than a comment of Slurm may be"

    def _mark(self, step: Step) -> Mark:
        at = datetime.fromtimestamp(self._surroundings.wall_s(), UTC).isoformat(timespec="microseconds")
        tasks = count_of(asked_array(step.config, step.marks.token_digest))
        return Mark(step.job_id, step.run_id, step.marks, at.replace("+00:00", "Z"), tasks)

    def _submit(self, step: Step) -> str | Result:
        """Submit a job that is held. Return its id, or why that failed; no failure has started anything."""
        made = submission(step.config, self._settings, step.marks.token_digest)
        argv = ["sbatch", "--parsable", "--hold", f"--job-name={step.run_id}", f"--comment={self._mark(step).comment}"]
        options = [*made.options, *chain_options(step.config, step.after)]
        answer = self._commands.run([*argv, *options], made.script)
        number = answer.out.strip().partition(";")[0]
        if answer.failure is None and number.isdigit():
            return number
        # Nothing was released, whatever became of the submission. What arrives late stays held.
        result = result_of(answer.failure or Failure.REFUSED, answer.message)
        return result._replace(kind=AnswerClass.NOT_SENT) if result.kind is AnswerClass.IN_DOUBT else result

    def _release_and_note(self, keys: Sequence[str]) -> dict[str, tuple[Failure, str] | None]:
        """Release some jobs, each given as its id and its comment from then on. Return for each what failed.

        A person may hold a job that waits. Without the note in its comment, the job would then look as if it had never
        been released. So the note is written before anybody is told of the release. If the note fails, nothing else
        does.
        """
        by_id = {key.partition(" ")[0]: key for key in keys}
        failed = self._release(list(by_id))
        comments = {number: key.partition(" ")[2] for number, key in by_id.items() if failed[number] is None}
        if comments:
            notes = "".join(f"update JobId={number} Comment={comment}\n" for number, comment in comments.items())
            with suppress(EngineError):
                self._commands.run(["scontrol"], notes)
        return {key: failed[number] for number, key in by_id.items()}

    def _release(self, ids: Sequence[str]) -> dict[str, tuple[Failure, str] | None]:
        """Release some jobs with one command. Return for each what failed; None if nothing did."""
        answer = self._commands.run(["scontrol", "release", ",".join(ids)])
        if answer.failure is None:
            return dict.fromkeys(ids)
        found: dict[str, tuple[Failure, str] | None] = {}
        for number in ids:
            told = "\n".join(line for line in answer.err.splitlines() if line.endswith(f" for job {number}"))
            found[number] = (failure_in(told), message_in(told)) if told else None
        left = failure_in("\n".join(line for line in answer.err.splitlines() if " for job " not in line))
        if any(found.values()) and left not in (Failure.UNREACHABLE, Failure.LOST, Failure.UNTRUSTED):
            return found
        # The controller may have ended in the middle of the list.
        failure = Failure.LOST if len(ids) > 1 and answer.failure is Failure.UNREACHABLE else answer.failure
        return {number: told or (failure, answer.message) for number, told in found.items()}

    def _cancel(self, runs: Sequence[Run]) -> tuple[Failure, str] | None:
        """Cancel jobs that are held. Return what failed."""
        if not runs:
            return None
        answer = self._commands.run(["scancel", *(str(run.id) for run in runs)])
        failure = answer.failure
        return (failure, answer.message) if failure and failure not in (Failure.ENDED, Failure.UNKNOWN_JOB) else None


def _why_unmarked(run: Run) -> str:
    return (
        f"job {run.id} goes on, and is named {run.name} as an earlier run, but its comment bears no marks of a run: "
        "cancel it, or wait for its end"
    )


def _same(runs: Sequence[Run], step: Step) -> Iterator[Run]:
    return iter([run for run in runs if run.mark and _reason(run, step) is Reason.WAS_THERE])


def _reason(run: Run, step: Step) -> Reason:
    assert run.mark is not None
    return reason_of_duplicate(run.mark.marks, step.marks)


def _is_of(run: Run, step: Step) -> bool:
    return run.mark is not None and run.mark.marks.lineage == step.marks.lineage


def _left_over(runs: Sequence[Run], step: Step) -> list[Run]:
    """Return the jobs of this state that are held and were never released."""
    return [run for run in runs if run.is_held and not run.was_released and _is_of(run, step)]


def _submitted_s(run: Run) -> float:
    return unix_s(run.place[0]) or 0.0


def _duplicate(started: Sequence[Run], step: Step) -> Result:
    """Return what it means that jobs of the run id were released before."""
    ranks = (Reason.WAS_THERE, Reason.OTHER_OP, Reason.OTHER_OWNER)
    there = min(started, key=lambda run: ranks.index(_reason(run, step)))
    reason = _reason(there, step)
    assert there.mark is not None
    owner = f", and belongs to the state {there.mark.marks.lineage}" if reason is Reason.OTHER_OWNER else ""
    ref = there.ref if reason is Reason.WAS_THERE else ""
    return Result(AnswerClass.REJECTED, reason, f"{step.run_id} was there already as job {there.id}{owner}", ref=ref)
