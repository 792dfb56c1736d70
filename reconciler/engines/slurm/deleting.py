"""Deletes runs that have ended. Slurm has no command for that, so others are told that these runs are gone."""

from collections.abc import Callable, Sequence

from reconciler.engines.port import AnswerClass, Reason, Result
from reconciler.engines.slurm.commands import Commands, result_of
from reconciler.engines.slurm.marks import DELETED, gone
from reconciler.engines.slurm.runs import Run

_TRIES = 20
_NAME = "reconciler-gone"


class Deleting:
    """Marks runs as deleted, with the controller and in accounting; see `marks`."""

    def __init__(self, commands: Commands, has_accounting: bool, pause: Callable[[float], bool]) -> None:
        self._commands = commands
        self._has_accounting = has_accounting
        self._pause = pause

    def delete(self, runs: Sequence[Run]) -> Result:
        """Mark runs as deleted. Done again, it does what is left of it."""
        if self._has_accounting:
            for run in runs:
                if failed := self._mark_in_accounting(run.id):
                    return failed
        present = [run.id for run in runs if not all(row.is_accounted for row in run.rows)]
        for comment in gone(present):
            if failed := self._stand_for(comment):
                return failed
        return Result(AnswerClass.APPLIED, message=f"deleted {len(runs)} of its runs")

    def _mark_in_accounting(self, number: int) -> Result | None:
        """Mark a job as deleted, once its end has come to accounting. Return what failed."""
        argv = ["sacctmgr", "--immediate", "modify", "job", "where", f"jobid={number}", "set", f"comment={DELETED}"]
        for _ in range(_TRIES):
            answer = self._commands.run(argv)
            if answer.failure is None and f"{number} " in answer.out:
                return None
            if answer.failure is not None and "nothing modified" not in (answer.out + answer.err).lower():
                return result_of(answer.failure, answer.message)
            if self._pause(0.25):
                break
        return Result(AnswerClass.REJECTED, Reason.BUSY, f"accounting does not know job {number} yet")

    def _stand_for(self, comment: str) -> Result | None:
        """Have a job in the list of the controller that stands for the deletion of others. Return what failed."""
        argv = ["sbatch", "--parsable", "--hold", "--output=/dev/null", f"--job-name={_NAME}", f"--comment={comment}"]
        answer = self._commands.run(argv, "#!/bin/sh\n")
        number = answer.out.strip().partition(";")[0]
        if answer.failure is not None:
            return result_of(answer.failure, answer.message)
        # Cancelled, it is dropped some time after the jobs that it stands for. Held, it would stand for them as well.
        self._commands.run(["scancel", number])
        return None
