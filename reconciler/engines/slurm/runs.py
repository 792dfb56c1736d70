"""A job of Slurm as a run: its rows together, what they say of the run, and whether it was ever released.

    status     job
    ---------  ------------------------------------------------------------------------------------------------
    ACTIVE     something of it waits or executes; also held by a person after it was released
    COMPLETE   each task COMPLETED
    FAILED     some task failed: FAILED, TIMEOUT, OUT_OF_MEMORY, NODE_FAIL, PREEMPTED, DEADLINE, BOOT_FAIL
    ABORTED    it was CANCELLED, or one of its tasks
    WITHDRAWN  it was CANCELLED before it began, since a job that it comes after did not complete
    DRAFT      somebody else's, and held
    UNREADABLE nobody knows how all of it ended

A job of ours that is held and was never released is no run. It is what `stage` has left, and starts nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from reconciler.engines.port import Execution, Observation, Status
from reconciler.engines.slurm.marks import Mark
from reconciler.engines.slurm.rows import Row, indexes_of, joined
from reconciler.model.times import unix_s
from reconciler.rules.runs import number_of

_NOT_LAUNCHED = 53
"""The signal that Slurm reports for a job whose output file can't be opened on its node, though none was sent."""

_SUBMITS_WITHIN_S = 1.0
"""How long a submission takes as a rule. After a longer time, it is asked whether the job was queued again."""

_WORDS = {"PENDING": "pending", "COMPLETING": "completing", "SUSPENDED": "suspended", "RUNNING": "running"}


class Run:
    """One job of Slurm: one row, or those of an array."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    @property
    def id(self) -> int:
        """The id of the job; for an array the one that all tasks have in common."""
        return self.rows[0].id

    @cached_property
    def mark(self) -> Mark | None:
        """The marks of a run of ours; None for a job of somebody else."""
        marks = [mark for row in self.rows if (mark := row.mark)]
        return next((mark for mark in marks if mark.was_sent), marks[0] if marks else None)

    @property
    def key(self) -> tuple[int, str, str]:
        """See `Row.key`."""
        return self.rows[0].key

    @property
    def name(self) -> str:
        """The name of the job; the run id for ours."""
        return self.rows[0].name

    @property
    def ref(self) -> str:
        """The handle: the id and when it was submitted, since a controller that lost its jobs gives ids again."""
        return f"{self.id}@{self.submitted_at}"

    @property
    def submitted_at(self) -> str:
        """When it was submitted. A requeue does not change that for a run of ours."""
        return self.mark.at if self.mark and self.mark.at else min(row.submitted_at for row in self.rows)

    @property
    def may_have_restarted(self) -> bool:
        """Whether Slurm may have queued it again, which changes the time of submission that Slurm has."""
        began_s = unix_s(self.submitted_at) or 0.0
        return any((unix_s(row.submitted_at) or 0.0) - began_s > _SUBMITS_WITHIN_S for row in self.rows)

    @property
    def order(self) -> tuple[int, str, int]:
        """What orders the runs of one job, the newest one last."""
        number = number_of(self.mark.run_id, self.mark.job_id) if self.mark else 0
        return number, self.submitted_at, self.id

    @property
    def place(self) -> tuple[str, int]:
        """What orders the jobs of one run: the one that Slurm has taken first comes first."""
        return min(row.submitted_at for row in self.rows), self.id

    @property
    def is_held(self) -> bool:
        """Whether nothing of it starts before somebody releases it."""
        return all(row.is_held and not row.is_terminal for row in self.rows)

    @property
    def was_released(self) -> bool:
        """Whether it is a run. It is none if it was staged, and was held until now or until it was cancelled."""
        if self.mark is None or self.mark.was_sent:
            return True
        return any(row.was_released for row in self.rows)

    @cached_property
    def status(self) -> Status:
        """The status of the run; see the head of this module."""
        if self.mark is None and self.is_held:
            return Status.DRAFT
        if not all(row.is_terminal for row in self.rows):
            # Accounting alone has it: the end is on its way there, or the controller has lost the job.
            return Status.UNREADABLE if self._is_accounted else Status.ACTIVE
        states = {row.state for row in self.rows}
        if self._unknown:
            return Status.UNREADABLE
        if all(row.is_withdrawn for row in self.rows):
            return Status.WITHDRAWN
        if "CANCELLED" in states:
            return Status.ABORTED
        return Status.COMPLETE if states == {"COMPLETED"} else Status.FAILED

    @property
    def word(self) -> str:
        """Slurm's own word for the state, if it says more than the status."""
        status = self.status
        if status is Status.ACTIVE:
            if self.is_held:
                return "held"
            return next((_WORDS.get(row.state, _spoken(row.state)) for row in self._by_progress), "")
        if status is Status.FAILED:
            return next((_spoken(row.state) for row in self._failed if row.state != "FAILED"), "")
        return "held" if status is Status.DRAFT else ""

    @property
    def detail(self) -> str:
        """Which job it is, where it is, why it does not start, how far it is, and how it failed."""
        status = self.status
        if status is Status.UNREADABLE:
            return f"job {self.id}: {self._why_unreadable}"
        first = next(iter(self._by_progress))
        parts = [f"job {self.id}", f"in {first.partition}" if first.partition else ""]
        if status is Status.ACTIVE:
            nodes = next((row.nodes for row in self._by_progress if row.nodes), "")
            parts.append(f"on {nodes}" if nodes else "")
        why = [self.progress]
        if status in (Status.ACTIVE, Status.DRAFT) and first.state == "PENDING":
            # Slurm says "None" until its scheduler has looked at the job.
            why.append("" if first.reason == "None" else first.reason)
        if status is Status.FAILED:
            why.append(self._how_failed)
        if status is Status.WITHDRAWN:
            why.append("it never began, since a job that it comes after did not complete")
        return ": ".join(filter(None, (" ".join(filter(None, parts)), "; ".join(filter(None, why)))))

    @property
    def progress(self) -> str:
        """How far an array is, such as "12 of 40 tasks complete, 1 failed"; "" for a job without tasks."""
        if not any(row.tasks for row in self.rows):
            return ""
        counts = Counter[str]()
        for row in self.rows:
            counts[_kind(row)] += row.width
        told = [f"{counts['complete']} of {self.tasks} tasks complete"]
        told += [f"{counts[kind]} {kind}" for kind in ("failed", "cancelled", "running") if counts[kind]]
        return ", ".join(told)

    @property
    def tasks(self) -> int:
        """How many tasks an array has; 1 for a job without."""
        return max(self.mark.tasks if self.mark else 0, sum(row.width for row in self.rows))

    @property
    def failed_tasks(self) -> str:
        """The indexes of the tasks that failed or were cancelled, as `sbatch --array` takes them, such as "3,7-9"."""
        failed = (row.tasks for row in self.rows if row.tasks and _kind(row) in ("failed", "cancelled"))
        return joined(index for tasks in failed for index in indexes_of(tasks))

    @property
    def execution(self) -> Execution:
        """What is known of the execution."""
        rows = self._by_progress
        status = self.status
        if status is Status.WITHDRAWN:
            return Execution()
        started = min((row.started_at for row in rows if row.started_at and row.state != "PENDING"), default="")
        is_over = status in (Status.COMPLETE, Status.FAILED, Status.ABORTED)
        ended = max((row.ended_at for row in rows), default="") if is_over else ""
        took_s = _seconds(started, ended)
        bad = next(iter(self._failed), None)
        return Execution(
            node=next((row.nodes for row in rows if row.nodes), ""),
            started_at=started,
            ended_at=ended,
            exit_code=0 if status is Status.COMPLETE else bad.exit_code if bad and not bad.signal else None,
            signal=str(bad.signal) if bad and bad.signal else "",
            reason=self.word if status is Status.FAILED else "",
            took_s=took_s,
            attempts=1 + max(row.restarts for row in rows),
            failed_tasks=self.failed_tasks,
        )

    def observation(self) -> Observation:
        """Return the observation of this run."""
        mark, execution = self.mark, self.execution
        times = {"started": execution.started_at, "ended": execution.ended_at}
        return Observation(
            self.status,
            word=self.word,
            submitted_at=self.submitted_at or None,
            timestamps={name: time for name, time in times.items() if time},
            detail=self.detail,
            name=self.name,
            run_id=mark.run_id if mark else "",
            ref=self.ref,
            marks=mark.marks if mark else Observation(Status.MISSING).marks,
            execution=execution,
        )

    @property
    def _is_accounted(self) -> bool:
        return all(row.is_accounted for row in self.rows)

    @property
    def _by_progress(self) -> list[Row]:
        """The rows, those that execute first, and then those that wait."""
        ranks = {"PENDING": 1}
        return sorted(self.rows, key=lambda row: 2 if row.is_terminal else ranks.get(row.state, 0))

    @property
    def _failed(self) -> Iterable[Row]:
        return (row for row in self.rows if _kind(row) == "failed")

    @property
    def _unknown(self) -> int:
        """How many tasks of the array nobody reports any more."""
        return self.tasks - sum(row.width for row in self.rows)

    @property
    def _why_unreadable(self) -> str:
        if self._unknown:
            return f"{self.progress}; how the other {self._unknown} ended is forgotten (MinJobAge)"
        return (
            f"accounting has it as {_spoken(self.rows[0].state)}, and the controller does not know it; if that stays "
            "so, an administrator can end it there: sacctmgr show runawayjobs"
        )

    @property
    def _how_failed(self) -> str:
        for row in self._failed:
            if row.state != "FAILED":
                return _spoken(row.state)
            if row.signal == _NOT_LAUNCHED:
                return "Slurm can't start it: its working directory, or the folder of its output, is not on the node"
            if row.signal:
                return f"signal {row.signal}"
            if row.exit_code:
                return f"exit code {row.exit_code}"
            return "" if row.reason in ("", "NonZeroExitCode") else row.reason
        return ""


def runs_of(rows: Iterable[Row]) -> Iterator[Run]:
    """Yield the jobs of some rows, the tasks of an array as one."""
    # An id may come back with another name. A requeue leaves both as they are.
    found: dict[tuple[int, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        found[row.key].append(row)
    return (Run(each) for each in found.values())


def _kind(row: Row) -> str:
    if row.state == "COMPLETED":
        return "complete"
    if row.state == "CANCELLED":
        return "cancelled"
    return "failed" if row.is_terminal else "waiting" if row.state == "PENDING" else "running"


def _spoken(state: str) -> str:
    return state.lower().replace("_", " ")


def _seconds(started: str, ended: str) -> float | None:
    begin_s, end_s = unix_s(started), unix_s(ended)
    return end_s - begin_s if begin_s is not None and end_s is not None and end_s >= begin_s else None
