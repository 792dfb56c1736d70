"""Reviews: a plan or a drift report as one value, with all that is known of each job.

A view turns a `Review` into a comment, a page or annotations. The view needs no other source.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, assert_never

from reconciler.model.commands import command
from reconciler.model.digests import sha256
from reconciler.model.errors import ReconcilerError
from reconciler.model.history import HistoryEntry
from reconciler.model.jobs import NOT_OBSERVED, Desired, Job, Observation, Record, Status, title
from reconciler.model.places import Diagnostic, Position
from reconciler.model.plan import Action, ActionKind, Call, Change, Plan, allowed_words, verdict
from reconciler.model.plan_json import plan_digest
from reconciler.rules.decide import decide
from reconciler.rules.matching import Subject
from reconciler.rules.order import Order


class Weight(StrEnum):
    """How grave a row is, in the order in which the rows are shown.

    A fault is about a place in the manifest. All other rows are about a job.
    """

    FAULT = "fault"
    ENDS = "ends"
    STARTS = "starts"
    HELD = "held"
    DRIFTED = "drifted"
    RECORDS = "records"
    LEFT = "left"
    QUIET = "quiet"


class Row(NamedTuple):
    """One job: what is asked, recorded and observed, what is to be done, and what was done before.

    `word` is the action, or whatever else is said of the job in a word. `reason` ends before `way_out`,
    which says what to do about a job that is held. `wrong` is set where it can't be acted on at all.
    `desired` is None where no manifest declares the job, and so is `place`. `differing` are the paths of the fields
    that are not as recorded, where the row is about that; None where it is about what is asked for.
    """

    job: str
    id: str
    word: str
    weight: Weight
    reason: str
    way_out: str = ""
    wrong: bool = False
    changes: tuple[Change, ...] = ()
    calls: tuple[Call, ...] = ()
    desired: Job | None = None
    record: Record | None = None
    observed: Observation = NOT_OBSERVED
    place: Position | None = None
    history: Sequence[HistoryEntry] = ()
    differing: frozenset[str] | None = None

    @property
    def is_change(self) -> bool:
        """Whether an apply would send a call for the job, or change its record."""
        return self.weight in (Weight.ENDS, Weight.STARTS, Weight.RECORDS)

    @property
    def is_noted(self) -> bool:
        """Whether the views show the row among those that need a remark."""
        return self.weight is not Weight.QUIET

    @property
    def is_problem(self) -> bool:
        """Whether somebody has to look at the job."""
        doubtful = self.record is not None and self.record.doubt is not None and not self.record.doubt.holder
        return (
            self.weight in (Weight.HELD, Weight.DRIFTED)
            or doubtful
            or self.observed.status in (Status.FAILED, Status.UNREADABLE)
        )


class Review(NamedTuple):
    """An answer, its sources and its rows, gravest first.

    `title` names what it is, in a word; `key` tells it from other reviews of the same repository and
    is the same for the next one of this. `verdict` is the answer in a sentence; `scope` says of which jobs,
    "" where it is of all. `facts` are (label, text). `trouble` says why none of it may be done, else it
    is ""; `advice` is what to do then. `warnings` are about all of it.
    """

    title: str
    key: str
    verdict: str
    facts: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    trouble: str = ""
    advice: str = ""
    warnings: tuple[str, ...] = ()
    scope: str = ""


class Field(NamedTuple):
    """One field of a job in git, in the state and at the service; None stands for "not there".

    `differs` says whether what is asked is not what is recorded or seen.
    """

    path: str
    git: Any
    state: Any
    live: Any
    differs: bool


def review_plan(
    plan: Plan,
    subjects: Iterable[Subject],
    observed: Mapping[str, Observation],
    place_of: Callable[[str], Position],
    histories: Mapping[str, Sequence[HistoryEntry]],
    *,
    state_at: str,
    refusal: ReconcilerError | None,
) -> Review:
    """The review of a plan.

    `subjects` hold every job that the plan names, the undeclared too. `observed` and
    `histories` map engine job ids. `place_of` is asked for declared jobs alone. `state_at` is where the
    state is kept: it tells one review from another, since a state has one target.
    """
    rows = _PlanRows(plan, subjects, observed, place_of, histories)
    return Review(
        title="Plan",
        key=review_key(state_at),
        verdict=f"Refused. {verdict(plan)}" if refusal else verdict(plan),
        facts=_facts(plan, refreshed=bool(observed)),
        rows=sorted_rows([*map(rows.planned, plan.actions), *map(rows.undeclared, plan.undeclared)]),
        trouble=refusal.message if refusal else "",
        advice=refusal.hint if refusal else "",
        warnings=plan.warnings,
        scope=f"{plan.narrowed}." if plan.narrowed else "",
    )


class _PlanRows:
    """Makes the rows of a plan's review. The arguments are those of `review_plan`."""

    def __init__(
        self,
        plan: Plan,
        subjects: Iterable[Subject],
        observed: Mapping[str, Observation],
        place_of: Callable[[str], Position],
        histories: Mapping[str, Sequence[HistoryEntry]],
    ) -> None:
        self._subjects = {subject.job.name: subject for subject in subjects}
        self._observed = observed
        self._place_of = place_of
        self._histories = histories
        planned = {action.job for action in plan.actions}
        self._order = Order(self._subjects.values(), observed, planned.__contains__)

    def planned(self, action: Action) -> Row:
        """The row of a planned action. The reason of a hold is parted from its way out."""
        subject = self._subjects[action.job]
        seen = self._observed.get(action.id, NOT_OBSERVED)
        is_hold = action.kind is ActionKind.HOLD
        way_out = self._order.defer(decide(subject, seen), subject).way_out if is_hold else ""
        return Row(
            title(action.job),
            action.id,
            "error" if action.error else "suspended" if action.suspended else action.drift or action.kind.value,
            Weight.LEFT if action.suspended else Weight.DRIFTED if action.drift else _weight(action.kind),
            action.reason.removeprefix("error: ").removesuffix(way_out).rstrip(" :;"),
            way_out,
            bool(action.error),
            action.changes,
            action.calls,
            subject.job if subject.keep else None,
            subject.record,
            seen,
            self._place_of(action.job) if subject.keep else None,
            self._histories.get(action.id, ()),
        )

    def undeclared(self, name: str) -> Row:
        """The row of a record that no manifest declares."""
        job_id = self._subjects[name].job.id
        row = self.planned(Action(name, job_id, ActionKind.NOOP, "recorded, but no longer declared"))
        way_out = f"--prune deletes it, {command('state forget', name)} drops its record"
        return row._replace(word="left alone", weight=Weight.LEFT, way_out=way_out)


def review_error(title: str, fault: ReconcilerError, found: Iterable[Diagnostic], *, state_at: str) -> Review:
    """The review that could not be made: the error, and a row for each fault of the manifest."""
    rows = tuple(
        Row(str(one.position), str(one.position), "error", Weight.FAULT, one.message, wrong=True) for one in found
    )
    return Review(title, review_key(state_at), f"Error: {fault.message}", (), rows, advice=fault.hint)


def sorted_rows(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Rows in the order in which they are shown: gravest first; among those held, what is wrong first."""
    rank = {weight: number for number, weight in enumerate(Weight)}
    grave = {"delete": 0, "abort": 1, "restart": 2}
    return tuple(
        sorted(rows, key=lambda row: (rank[row.weight], not row.wrong, grave.get(row.word, 3), row.word, row.job))
    )


def fields(row: Row) -> tuple[Field, ...]:
    """The fields of a job side by side: state, runToken, submittedAt, then its config by name.

    The config is compared where the job is to run; elsewhere it is shown as it is. A boolean that is
    left out is false; what is not asked for is the service's own choice. Of a job about which there is nothing to
    say no field differs, and of one that is compared with its record those do that the row names.
    """
    job, record, seen = row.desired, row.record, row.observed
    said = f"{seen.status} ({seen.word})" if seen.word else str(seen.status)
    recorded = record.state if record else None
    wanted = job.state if job else None
    moves = wanted is not recorded and row.weight is not Weight.LEFT
    found = [Field("state", wanted, recorded, None if seen.status is Status.NOT_OBSERVED else said, moves)]
    if job is not None and job.run_token is not None:
        used = record is not None and job.run_token in record.run_tokens
        found.append(Field("runToken", job.run_token, job.run_token if used else None, None, not used))
    began = record.submitted_at if record else None
    if began or seen.submitted_at:
        moved = seen.is_of_other_run(began)
        found.append(Field("submittedAt", None, began or None, seen.submitted_at, moved))
    runs = wanted is Desired.RUNNING
    git = job.config if job else {}
    state = record.config if record else {}
    live = seen.config or {}
    for name in sorted({*git, *state, *live}):
        values = (git.get(name), state.get(name), live.get(name))
        asked, kept, told = (value or None if isinstance(value, bool) else value for value in values)
        path = f"config.{name}"
        is_told = asked is not None and seen.config is not None and not (job and path in job.ignore)
        differs = runs and (asked != kept or (is_told and asked != told))
        found.append(Field(path, *values, differs))
    if row.differing is not None or not row.is_noted:
        return tuple([one._replace(differs=one.path in (row.differing or ())) for one in found])
    return tuple(found)


def shown(value: Any) -> str:
    """A value of a field as text; "–" where there is none."""
    if value is None:
        return "–"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _weight(kind: ActionKind) -> Weight:
    match kind:
        case ActionKind.ABORT | ActionKind.RESTART | ActionKind.DELETE:
            return Weight.ENDS
        case ActionKind.RUN:
            return Weight.STARTS
        case ActionKind.HOLD:
            return Weight.HELD
        case ActionKind.ADOPT | ActionKind.FORGET:
            return Weight.RECORDS
        case ActionKind.NOOP:
            return Weight.QUIET
    assert_never(kind)


def review_key(state_at: str) -> str:
    """The key of all reviews of one state, as 16 hex digits. `state_at` is where the state lives."""
    return sha256(state_at.encode(errors="surrogateescape"))[:16]


def _facts(plan: Plan, *, refreshed: bool) -> tuple[tuple[str, str], ...]:
    allowed = (("Allowed", allowed_words(plan)),) if plan.allowed else ()
    kept = f"serial {plan.serial}, lineage {plan.lineage}" if plan.serial else "none yet: nothing was ever applied"
    return (
        ("Manifest", ", ".join(plan.paths)),
        ("Target", str(plan.target)),
        ("Observed", "read from the service" if refreshed else "not read: planned from manifest and state alone"),
        ("Commit", plan.commit or "none: not in git"),
        ("State", kept),
        ("Manifest digest", plan.manifest_digest),
        ("Plan digest", plan_digest(plan)),
        *allowed,
    )
