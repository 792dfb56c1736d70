"""What `squeue` and `sacct` print, as rows of one kind.

Names and comments are texts of users, and may hold any character that is used to part fields. So fields end with the
ASCII characters for that purpose, which no name has, and a line break in a name breaks nothing.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from reconciler.engines.slurm.marks import MOST_KEPT, Mark, mark_in

_FIELD, _RECORD = "\x1f", "\x1e"

TERMINAL = frozenset(
    [
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    ]
)
"""The states of a job of which nothing executes any more (squeue, "JOB STATE CODES")."""

_SQUEUE = ["%F", "%K", "%T", "%r", "%j", "%k", "%u", "%a", "%P", "%V", "%S", "%e", "%N", "%Z"]
SQUEUE_FORMAT = _FIELD.join(_SQUEUE) + _RECORD
_SACCT = (
    "JobID,State,Reason,JobName,Comment,User,Account,Partition,Submit,Start,End,NodeList,WorkDir,SubmitLine,ExitCode,"
    "ElapsedRaw,Eligible"
)
SACCT_OPTIONS = ("--noheader", "--allocations", "--parsable", f"--delimiter={_FIELD}", f"--format={_SACCT}")
_NOTHING = frozenset({"", "(null)", "N/A", "NONE", "None", "Unknown", "None assigned"})
_HELD = ("JobHeldUser", "JobHeldAdmin")
_NEVER = "DependencyNeverSatisfied"
_WAITED = ("Dependency", _NEVER)


class Row(NamedTuple):
    """One job or one or several tasks of an array, as Slurm reports it. What is not known is "" or None.

    `id` is the id of the job, and of the whole array for a task. `tasks` are indexes, such as "3" or "4-10:2". Times
    are of RFC 3339. `is_accounted` is set if accounting reports it, and not the controller.
    """

    id: int
    tasks: str
    state: str
    reason: str
    name: str
    comment: str
    user: str
    account: str
    partition: str
    submitted_at: str
    started_at: str
    ended_at: str
    nodes: str
    workdir: str
    submit_line: str = ""
    exit_code: int | None = None
    signal: int = 0
    took_s: float | None = None
    is_accounted: bool = False
    was_eligible: bool = False
    restarts: int = 0

    @property
    def key(self) -> tuple[int, str, str]:
        """What the tasks of one array have in common, and no two jobs of one id, which may be given again."""
        return self.id, self.name, self.user

    @property
    def is_terminal(self) -> bool:
        """Whether nothing of it executes any more."""
        return self.state in TERMINAL

    @property
    def was_released(self) -> bool:
        """Whether it waits for resources, was cancelled while it did, or has begun: it is not held, and was not.

        Accounting tells no reason of a job that was held, and when it could have begun, if ever.
        """
        if self.state not in ("PENDING", "CANCELLED"):
            return True
        if self.is_accounted:
            return self.was_eligible or self.reason in _WAITED
        return not self.is_held

    @property
    def is_withdrawn(self) -> bool:
        """Whether Slurm has cancelled it before it began, since a job that it comes after did not complete."""
        return self.state == "CANCELLED" and self.reason == _NEVER

    @property
    def is_held(self) -> bool:
        """Whether somebody has to release it, or would have had to before it was cancelled."""
        return self.state in ("PENDING", "CANCELLED") and self.reason in _HELD

    @property
    def mark(self) -> Mark | None:
        """The marks of a run of ours; None for a job of somebody else."""
        return mark_in(self.comment, self.submit_line)

    @property
    def width(self) -> int:
        """How many tasks it stands for; 1 without an array."""
        return count_of(self.tasks) if self.tasks else 1


def rows_of_squeue(output: str) -> Iterator[Row]:
    """Yield the rows of `squeue --format`. A record that is cut is left out."""
    rows = map(_row_of_squeue, output.split(_RECORD))
    return (row for row in rows if row is not None)


@lru_cache(maxsize=MOST_KEPT)
def _row_of_squeue(record: str) -> Row | None:
    fields = record.lstrip("\n").split(_FIELD)
    if len(fields) != len(_SQUEUE) or not fields[0].isdigit():
        return None
    number, tasks, state, reason, *texts = fields
    name, comment, user, account, partition, *times, nodes, workdir = map(_text, texts)
    submitted, started, ended = map(time_of, times)
    return Row(
        int(number),
        "" if tasks in _NOTHING else tasks.partition("%")[0],
        state,
        reason,
        name,
        comment,
        user,
        account,
        partition,
        submitted,
        started,
        ended,
        nodes,
        workdir,
    )


def rows_of_sacct(output: str) -> Iterator[Row]:
    """Yield the rows of `sacct` with `SACCT_OPTIONS`."""
    columns = _SACCT.count(",") + 1
    fields = output.split(_FIELD)
    for at in range(0, len(fields) - columns, columns):
        # The delimiter stands behind each field, so that the line break before a record is in its first field.
        job, state, reason, name, comment, user, account, partition, *rest = fields[at : at + columns]
        submitted, started, ended, nodes, workdir, line, code, took, eligible = rest
        number, _, tasks = job.strip().partition("_")
        if not number.isdigit():
            continue
        exit_code, _, signal = code.partition(":")
        yield Row(
            int(number),
            tasks.strip("[]").partition("%")[0],
            # "CANCELLED by 1000"
            state.partition(" ")[0].rstrip("+"),
            _NEVER if _was_withdrawn(state, took, line, eligible) else _text(reason),
            _text(name),
            _text(comment),
            user,
            account,
            partition,
            time_of(submitted),
            time_of(started),
            time_of(ended),
            _text(nodes),
            workdir,
            line,
            int(exit_code) if exit_code.isdigit() else None,
            int(signal) if signal.isdigit() else 0,
            float(took) if took.isdigit() else None,
            is_accounted=True,
            was_eligible=time_of(eligible) != "",
        )


def _was_withdrawn(state: str, took: str, line: str, eligible: str) -> bool:
    """Return whether accounting tells of a job that waited for others, and that Slurm itself has cancelled.

    It names who has cancelled any other job, and keeps another reason than the controller. The job could never have
    begun if no time is known from which on it could.
    """
    return state == "CANCELLED" and took == "0" and not time_of(eligible) and " --dependency=" in line


def time_of(text: str) -> str:
    """Return a time of Slurm, which is one of UTC here, as RFC 3339; "" if it is not known."""
    return f"{text}Z" if len(text) == 19 and text[10] == "T" else ""


def count_of(indexes: str) -> int:
    """Return how many indexes a list of Slurm has, such as "1-5,7,10-20:2". A list that was cut counts what is left.

    An index that stands there twice counts once.
    """
    return len(set(indexes_of(indexes)))


def indexes_of(indexes: str) -> Iterator[int]:
    """Yield the indexes of a list of Slurm."""
    for span in _spans(indexes):
        yield from span


def joined(indexes: Iterable[int]) -> str:
    """Return a list of Slurm that has these indexes, sorted, each once, and as short as spans make it."""
    spans: list[list[int]] = []
    for index in sorted(set(indexes)):
        if spans and spans[-1][-1] == index - 1:
            spans[-1][1:] = [index]
        else:
            spans.append([index])
    return ",".join("-".join(map(str, span)) for span in spans)


def _spans(indexes: str) -> Iterator[range]:
    for part in indexes.partition("%")[0].split(","):
        span, _, step = part.partition(":")
        first, dash, last = span.partition("-")
        if first.isdigit() and (not dash or last.isdigit()):
            every = int(step) if step.isdigit() and int(step) else 1
            yield range(int(first), int(last or first) + 1, every)


def _text(field: str) -> str:
    return "" if field in _NOTHING else field
