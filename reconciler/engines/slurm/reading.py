"""Reads the jobs of a cluster: those that the controller knows, and those that only accounting has any more.

The controller is asked first. A job that it drops between the two reads is in accounting by then, and one that it
does not know at the first read can't come back.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

from reconciler.engines.gathering import Gathering
from reconciler.engines.port import EngineError, Status
from reconciler.engines.slurm.commands import Commands
from reconciler.engines.slurm.controller import Controller
from reconciler.engines.slurm.marks import DELETED, Mark, gone_in
from reconciler.engines.slurm.rows import SACCT_OPTIONS, SQUEUE_FORMAT, Row, rows_of_sacct, rows_of_squeue
from reconciler.engines.slurm.runs import Run, runs_of
from reconciler.engines.slurm.settings import Settings
from reconciler.rules.runs import number_of

_ALL = ""
_MOST_NAMES = 100

LINGER_S = 0.003
"""How long a command waits for threads that are about to ask for the same."""

_SINCE = "--starttime=1970-01-01"
"""Without it, sacct reports the jobs of today alone."""


class Seen:
    """The jobs of one look, without those that were deleted."""

    def __init__(self, rows: Iterable[Row]) -> None:
        deleted: set[int] = set()
        kept: list[Row] = []
        for row in rows:
            gone = gone_in(row.comment)
            deleted |= set(gone or ())
            if gone is None:
                kept.append(row)
        self.runs = tuple(runs_of(kept))
        self._deleted = deleted

    @cached_property
    def ours(self) -> Mapping[str, Sequence[Run]]:
        """The jobs that bear marks, by the id of the job in the manifest: also those that were never released."""
        return self._marked(lambda mark: mark.job_id)

    @cached_property
    def by_run_id(self) -> Mapping[str, Sequence[Run]]:
        """The jobs that bear marks, by their run ids."""
        return self._marked(lambda mark: mark.run_id)

    @cached_property
    def others(self) -> Mapping[str, Sequence[Run]]:
        """The jobs of somebody else, by their names, and by their ids."""
        found: dict[str, list[Run]] = defaultdict(list)
        for run in self.runs:
            if run.mark is None and not self.is_deleted(run):
                found[run.name].append(run)
                if run.name != str(run.id):
                    found[str(run.id)].append(run)
        return found

    def _marked(self, key: Callable[[Mark], str]) -> Mapping[str, Sequence[Run]]:
        """Return the jobs that bear marks, by a text of their marks."""
        found: dict[str, list[Run]] = defaultdict(list)
        for run in self.runs:
            if run.mark:
                found[key(run.mark)].append(run)
        return found

    def is_deleted(self, run: Run) -> bool:
        """Whether somebody has deleted a job, as far as Slurm lets that be done. Only one that has ended can be.

        Any user of the cluster can say of any job that it was deleted.
        """
        is_over = all(row.is_terminal for row in run.rows)
        return is_over and (run.id in self._deleted or any(row.comment == DELETED for row in run.rows))

    def unmarked(self, job_id: str, before: int) -> Run | None:
        """Return a job that goes on, whose name is the id of a run before a number, and that bears no marks."""
        found = (run for runs in self.others.values() for run in runs if run.status is Status.ACTIVE)
        return next((run for run in found if 0 < number_of(run.name, job_id) < before), None)

    def started(self, job_id: str, run_id: str = "") -> list[Run]:
        """Return the runs of a job that were released and not deleted, the newest one first.

        `run_id` names one of them; "" means all. A job that nobody has run with this tool has the jobs of its name.
        """
        ours = [
            run
            for run in self.ours.get(job_id, ())
            if run.mark and run_id in ("", run.mark.run_id) and run.was_released and not self.is_deleted(run)
        ]
        found = _originals(ours) or ([] if run_id else self.others.get(job_id, ()))
        return sorted(found, key=lambda run: run.order, reverse=True)


class Reading:
    """The jobs of one cluster. Several threads may call any method at the same time."""

    def __init__(self, commands: Commands, settings: Settings, controller: Controller) -> None:
        self._commands = commands
        self._settings = settings
        self._controller = controller
        self._present = Gathering(lambda keys: dict.fromkeys(keys, self._read_present()), 1, LINGER_S)
        self._past = Gathering(lambda keys: dict.fromkeys(keys, self._accounted()), 1, LINGER_S)
        self._named = Gathering(self._read_named, _MOST_NAMES, LINGER_S)

    def present(self) -> Seen:
        """Return the jobs that the controller knows, of all users. Raises the errors of `Engine.observe`."""
        return self._present.get(_ALL)

    def past(self, present: Seen) -> Seen:
        """Return the jobs that only accounting knows; none without it. Raises the errors of `Engine.observe`."""
        if not self._controller.has_accounting:
            return Seen(())
        return self._without(present, self._past.get(_ALL))

    def of_run(self, run_id: str) -> tuple[Seen, list[Run]]:
        """Return all jobs of a run id, also those that were never released, and before them what the controller knows.

        Raises the errors of `Engine.observe`.
        """
        present = self.present()
        found = list(present.by_run_id.get(run_id, ()))
        if self._controller.has_accounting and not any(run.was_released for run in found):
            found += self._without(present, self._named.get(run_id)).runs
        return present, [run for run in found if run.mark and run.mark.run_id == run_id]

    def whole(self, run: Run) -> Run:
        """Return a run with those tasks of its array that only accounting knows any more.

        The controller drops a task some time after the task has ended, whether or not others still execute.
        """
        known = {row.tasks for row in run.rows}
        if run.mark is None or run.mark.tasks <= sum(row.width for row in run.rows):
            return run
        if not self._controller.has_accounting or all(row.is_accounted for row in run.rows):
            return run
        past = (row for row in self._named.get(run.name) if row.key == run.key and row.is_terminal)
        return Run([*run.rows, *(row for row in past if row.tasks not in known)])

    def with_details(self, runs: Sequence[Run]) -> list[Run]:
        """Return some runs with what `squeue` tells in another format alone: exit codes, and how often they began."""
        has_failed = any(row.state == "FAILED" and row.exit_code is None for run in runs for row in run.rows)
        if not has_failed and not any(run.may_have_restarted for run in runs):
            return list(runs)
        argv = ["squeue", "--noheader", "--all", "--array", "--states=all"]
        told = {}
        for line in self._commands.read([*argv, "--Format=JobArrayID:64,exit_code:16,RestartCnt:16"]).splitlines():
            job, *numbers = line.split()
            told[job] = numbers
        return [Run([_with_details(row, told) for row in run.rows]) for run in runs]

    def _read_present(self) -> Seen:
        argv = ["squeue", "--noheader", "--all", "--states=all", f"--format={SQUEUE_FORMAT}"]
        return Seen(rows_of_squeue(self._commands.read(argv)))

    def _read_named(self, names: Sequence[str]) -> Mapping[str, Sequence[Row]]:
        found: dict[str, list[Row]] = {name: [] for name in names}
        for row in self._accounted(f"--name={','.join(names)}"):
            if row.name in found:
                found[row.name].append(row)
        return found

    def _accounted(self, *filters: str) -> list[Row]:
        """Return the rows of accounting, of each job the last attempt."""
        user, account = self._settings.user, self._settings.account
        users = ",".join(dict.fromkeys(filter(None, (self._commands.user(), user))))
        scopes = [(f"--user={users}",), *([("--allusers", f"--accounts={account}")] if account else [])]
        found: dict[tuple[int, str, str, str], Row] = {}
        for scope in scopes:
            # A controller that lost its jobs gives their ids again: without --duplicates, the older jobs are left out.
            argv = ["sacct", *SACCT_OPTIONS, "--duplicates", _SINCE, *scope, *filters]
            for row in rows_of_sacct(self._commands.read(argv)):
                key = (*row.key, row.tasks)
                before = found.get(key)
                last = row if before is None or before.submitted_at <= row.submitted_at else before
                # Each attempt has a row of its own.
                found[key] = last._replace(restarts=0 if before is None else before.restarts + 1)
        return list(found.values())

    def _without(self, present: Seen, past: Iterable[Row]) -> Seen:
        """Return the jobs of accounting that the controller does not know, or knows without their marks.

        Anybody who may change a job can change its comment. Accounting still has the command that submitted the job.
        """
        known = {run.key: run for run in present.runs}
        found: list[Row] = []
        marked: dict[tuple[int, str, str], Row] = {}
        for row in past:
            if row.key not in known:
                found.append(row)
            elif known[row.key].mark is None and row.mark is not None:
                marked[row.key] = row
        for key, told in marked.items():
            found += (row._replace(comment=told.comment, submit_line=told.submit_line) for row in known[key].rows)
        return Seen(found)


def _originals(runs: Iterable[Run]) -> list[Run]:
    """Return of each run id the job that was submitted first.

    One job of a run id is released at most. Any other one is of somebody who has copied its comment, and was submitted
    later, so that its id is higher.
    """
    found: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: run.id):
        assert run.mark is not None
        found.setdefault(run.mark.run_id, run)
    return list(found.values())


def _with_details(row: Row, told: Mapping[str, Sequence[str]]) -> Row:
    """Return a row with its exit code, which `squeue` gives as the status of a process, and the number of restarts."""
    numbers = told.get(f"{row.id}_{row.tasks}" if row.tasks else str(row.id), ())
    if row.is_accounted or len(numbers) != 2 or not all(number.isdigit() for number in numbers):
        return row
    code, restarts = map(int, numbers)
    row = row._replace(restarts=restarts)
    return row._replace(exit_code=code >> 8 & 255, signal=code & 127) if row.state == "FAILED" else row


def why_unreadable(fault: EngineError) -> str:
    """Return why a job can't be read that the controller does not know."""
    return f"the controller does not know it, and accounting can't be read: {fault.message}"
