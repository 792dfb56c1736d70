"""Reviews: a plan or a drift report as one value, with all that is known of each job.

A view turns a `Review` into a comment, a page or annotations. The view needs no other source.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from operator import eq
from typing import Any, NamedTuple, assert_never

from reconciler.model.commands import command
from reconciler.model.config_paths import Path, covers, leaves, part_at, path_of, path_text, value_at
from reconciler.model.digests import sha256
from reconciler.model.errors import ReconcilerError
from reconciler.model.history import HistoryEntry
from reconciler.model.jobs import NOT_OBSERVED, Desired, Job, Observation, Record, Status, Target, title
from reconciler.model.places import Diagnostic, Position
from reconciler.model.plan import Action, ActionKind, Change, Plan, Request, allowed_words, verdict
from reconciler.model.plan_json import plan_digest
from reconciler.rules.configs import SameConfig, told
from reconciler.rules.decide import decide
from reconciler.rules.matching import Subject
from reconciler.rules.order import Order


class Weight(StrEnum):
    """The weight of a row. The views show the rows in this order.

    FAULT    a fault at a place of the manifest; all other rows are about a job
    ENDS     an abort, a restart or a delete
    STARTS   a run
    WAITS    a run or a restart that comes after something that has yet to complete
    HELD     a hold, or a job that can't be acted on
    DRIFTED  a job that differs from its record
    RECORDS  a change of the record without a call
    LEFT     a frozen or undeclared job, or a call that is under way
    QUIET    a job that needs no remark
    """

    FAULT = "fault"
    ENDS = "ends"
    STARTS = "starts"
    WAITS = "waits"
    HELD = "held"
    DRIFTED = "drifted"
    RECORDS = "records"
    LEFT = "left"
    QUIET = "quiet"


class Row(NamedTuple):
    """One job: what the manifest asks for, the record, the observation, the action, and the history of the job.

    `word` names the action or the finding. `reason` ends before `way_out`, which says what the user can do about a held
    job. `wrong` is set if the job can't be acted on. `desired` and `place` are None if no manifest declares the job.
    `differing` holds the paths of the fields that differ from the record in a drift report; it is None in a plan. In a
    plan, `same_config` is that of the engine, and `run_id` is as in `Action`.
    """

    job: str
    id: str
    word: str
    weight: Weight
    reason: str
    way_out: str = ""
    wrong: bool = False
    changes: tuple[Change, ...] = ()
    calls: tuple[Request, ...] = ()
    desired: Job | None = None
    record: Record | None = None
    observed: Observation = NOT_OBSERVED
    place: Position | None = None
    history: Sequence[HistoryEntry] = ()
    differing: frozenset[str] | None = None
    same_config: SameConfig = eq
    run_id: str = ""

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
    """A plan or a drift report for the views: the verdict, its sources, and its rows, gravest first.

    `title` is "Plan" or "Drift". `key` identifies the state (`review_key`), so that a view can find and replace the
    earlier review of that state. `verdict` is one sentence. `facts` are pairs of a label and a text. `trouble` says why
    the plan is refused, and `advice` what the user can do then; both are "" for other plans. `warnings` are about the
    plan as a whole. `scope` says which jobs the plan is about; it is "" if the plan is about all jobs.
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
    """One field of a job in git, in the state and at the service. None means that the field is not set there, and
    `NULL` that it is null.

    `differs` is set if the value in git differs from the recorded or the observed value.
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

    `subjects` hold each job that the plan names, and a subject for each undeclared record. `observed` maps engine job
    ids to observations, and `histories` maps them to the history of the job. `place_of` takes the name of a declared
    job, and returns its place in the manifest. `state_at` is the address of the state. `refusal` is the error of the
    guard that refuses the plan, or None.
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
        """The row of a planned action. The reason of a hold or a wait is parted from its way out."""
        subject = self._subjects[action.job]
        observed = self._observed.get(action.id, NOT_OBSERVED)
        is_left = action.kind in (ActionKind.WAIT, ActionKind.HOLD)
        way_out = self._order.defer(decide(subject, observed), subject).way_out if is_left else ""
        return Row(
            title(action.job),
            action.id,
            "error" if action.error else "frozen" if action.frozen else action.drift or action.kind.value,
            Weight.LEFT if action.frozen else Weight.DRIFTED if action.drift else _weight(action.kind),
            action.reason.removeprefix("error: ").removesuffix(way_out).rstrip(" :;"),
            way_out,
            bool(action.error),
            action.changes,
            action.calls,
            subject.job if subject.keep else None,
            subject.record,
            observed,
            self._place_of(action.job) if subject.keep else None,
            self._histories.get(action.id, ()),
            same_config=subject.same_config,
            run_id=action.run_id,
        )

    def undeclared(self, name: str) -> Row:
        """The row of a record that no manifest declares."""
        job_id = self._subjects[name].job.id
        row = self.planned(Action(name, job_id, ActionKind.NOOP, "recorded, but no longer declared"))
        way_out = f"--prune deletes it, {command('state forget', name)} drops its record"
        return row._replace(word="left alone", weight=Weight.LEFT, way_out=way_out)


def review_error(title: str, fault: ReconcilerError, found: Iterable[Diagnostic], *, state_at: str) -> Review:
    """The review of an error: its message, and a row for each fault of the manifest in `found`."""
    rows = tuple(
        Row(str(one.position), str(one.position), "error", Weight.FAULT, one.message, wrong=True) for one in found
    )
    return Review(title, review_key(state_at), f"Error: {fault.message}", (), rows, advice=fault.hint)


def sorted_rows(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The rows by weight. Within a weight, jobs that can't be acted on come first, then deletes and aborts."""
    rank = {weight: number for number, weight in enumerate(Weight)}
    grave = {"delete": 0, "abort": 1, "restart": 2}
    return tuple(
        sorted(rows, key=lambda row: (rank[row.weight], not row.wrong, grave.get(row.word, 3), row.word, row.job))
    )


def fields(row: Row) -> tuple[Field, ...]:
    """The fields of a job side by side: `state`, `runToken`, `submittedAt`, then the values of its config by path.

    In a plan, a value of the config differs only if the manifest asks for a run. The service chooses the fields that
    the manifest does not set. In a drift report, the values at the paths in `row.differing` differ. No field of a job
    that needs no remark differs.
    """
    job, record, observed = row.desired, row.record, row.observed
    live_state = f"{observed.status} ({observed.word})" if observed.word else str(observed.status)
    recorded = record.state if record else None
    wanted = job.state if job else None
    moves = wanted is not recorded and row.weight is not Weight.LEFT
    found = [Field("state", wanted, recorded, None if observed.status is Status.NOT_OBSERVED else live_state, moves)]
    if job is not None and job.run_token is not None:
        used = record is not None and job.run_token in record.run_tokens
        found.append(Field("runToken", job.run_token, job.run_token if used else None, None, not used))
    began = record.submitted_at if record else None
    if began or observed.submitted_at:
        moved = observed.is_of_other_run(began)
        found.append(Field("submittedAt", None, began or None, observed.submitted_at, moved))
    found += _config_fields(row)
    if row.differing is not None or not row.is_noted:
        return tuple([one._replace(differs=_is_among(one.path, row.differing or ())) for one in found])
    return tuple(found)


def _config_fields(row: Row) -> Iterator[Field]:
    """Yield the values of a job's config side by side, sorted by path."""
    job, record, observed = row.desired, row.record, row.observed
    runs = job is not None and job.state is Desired.RUNNING
    git = job.config if job else {}
    state = record.config if record else {}
    live = observed.config or {}
    ignored = [path_of(path) for path in job.ignore] if job else []
    for path in leaves((git, state, live)):
        whole: Path = ("config", *path)
        in_git, in_state, in_service = (part_at(path, config) for config in (git, state, live))
        is_compared = (
            path[0] in git and observed.config is not None and not any(covers(outer, whole) for outer in ignored)
        )
        differs = runs and not (
            row.same_config(in_git, in_state) and (not is_compared or row.same_config(in_git, in_service))
        )
        asked, recorded, told_live = (told(value_at(path, config)) for config in (git, state, live))
        yield Field(path_text(whole), asked, recorded, told_live, differs)


def _is_among(path: str, differing: Collection[str]) -> bool:
    """Whether a value differs: it is at one of these paths, or inside such a value, or around it."""
    if path in differing:
        return True
    shown = path_of(path)
    return any(covers(shown, other) or covers(other, shown) for other in map(path_of, differing))


def _weight(kind: ActionKind) -> Weight:
    """The weight of a planned action."""
    match kind:
        case ActionKind.ABORT | ActionKind.RESTART | ActionKind.DELETE:
            return Weight.ENDS
        case ActionKind.RUN:
            return Weight.STARTS
        case ActionKind.WAIT:
            return Weight.WAITS
        case ActionKind.HOLD:
            return Weight.HELD
        case ActionKind.ADOPT | ActionKind.FORGET:
            return Weight.RECORDS
        case ActionKind.NOOP:
            return Weight.QUIET
    assert_never(kind)


def review_key(state_at: str) -> str:
    """The key of the reviews of one state, as 16 hex digits. `state_at` is the address of the state."""
    return sha256(state_at.encode(errors="surrogateescape"))[:16]


def source_facts(
    paths: Sequence[str], target: Target, commit: str | None, serial: int, lineage: str, *, refreshed: bool
) -> tuple[tuple[str, str], ...]:
    """The sources of a plan or a drift report, as pairs of a label and a text. `serial` is 0 without a state."""
    return (
        ("Manifest", ", ".join(paths)),
        ("Target", str(target)),
        ("Observed", "read from the service" if refreshed else "not read: planned from manifest and state alone"),
        ("Commit", commit or "none: not in git"),
        ("State", f"serial {serial}, lineage {lineage}" if serial else "none yet: nothing was ever applied"),
    )


def _facts(plan: Plan, *, refreshed: bool) -> tuple[tuple[str, str], ...]:
    """The sources and the digests of a plan, as pairs of a label and a text."""
    allowed = (("Allowed", allowed_words(plan)),) if plan.allowed else ()
    return (
        *source_facts(plan.paths, plan.target, plan.commit, plan.serial, plan.lineage, refreshed=refreshed),
        ("Manifest digest", plan.manifest_digest),
        ("Plan digest", plan_digest(plan)),
        *allowed,
    )
