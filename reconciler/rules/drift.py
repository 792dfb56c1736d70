"""What is recorded of jobs, compared with what is observed. Pure: values in, values out.

    observed      recorded running           recorded aborted      recorded absent
    ------------  -------------------------  --------------------  ---------------
    draft         lost run                   as recorded           there again
    active        as recorded 1 2            run by someone else 3 there again
    complete      as recorded 1              as recorded 1         there again
    failed        failed 1                   as recorded 1         there again
    aborted       aborted by someone else    as recorded 1         there again
    missing       gone                       gone                  as recorded
    unreadable    unreadable                 unreadable            unreadable

    1  run by someone else where its run began at another time than is recorded
    2  config differs where its run has another config than is recorded
    3  not ended yet where its run is the one that was aborted

A config is compared while a run of it is active: a job that is adopted once it has ended, or with
`onConfigChange: next-run`, is recorded with the config of the run to come. A call in doubt comes before
all of it: nobody knows what is recorded then. While the command that sent the call is still at work, the call is
under way, which is no drift. A suspended job that differs is shown, and is no drift.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, assert_never

from reconciler.model.commands import command
from reconciler.model.errors import ExitCode
from reconciler.model.history import HistoryEntry
from reconciler.model.jobs import NOT_OBSERVED, Desired, Job, Observation, OnConfigChange, Record, Status, Target, title
from reconciler.model.places import Position
from reconciler.model.plan import Change
from reconciler.rules.configs import drifted_fields
from reconciler.rules.decide import decide, words_of
from reconciler.rules.matching import Subject
from reconciler.rules.records import is_ending, ran_since
from reconciler.rules.review import Review, Row, Weight, review_key, sorted_rows


class Kind(StrEnum):
    """What is found of a job, gravest first."""

    GONE = "gone"
    LOST = "lost run"
    ABORTED = "aborted by someone else"
    RUN = "run by someone else"
    ENDING = "not ended yet"
    THERE = "there again"
    FAILED = "failed"
    CONFIG = "config differs"
    UNREADABLE = "unreadable"
    IN_DOUBT = "in doubt"
    UNDER_WAY = "under way"
    SUSPENDED = "suspended"
    NOT_RECORDED = "not recorded"
    SAME = "as recorded"


DIFFERS = frozenset({Kind.GONE, Kind.LOST, Kind.ABORTED, Kind.RUN, Kind.ENDING, Kind.THERE, Kind.FAILED, Kind.CONFIG})
"""What is drift."""

QUIET = frozenset({Kind.SAME, Kind.NOT_RECORDED})
"""What nobody has to look at."""


class Finding(NamedTuple):
    """What is found of one job. `job` is None where no manifest declares it; `way_out` says what ends it."""

    name: str
    id: str
    kind: Kind
    reason: str
    way_out: str
    changes: tuple[Change, ...]
    job: Job | None
    record: Record | None
    observed: Observation


class Drift(NamedTuple):
    """What is found of all jobs, gravest first, then by name, and what it was made from."""

    target: Target
    lineage: str
    serial: int
    commit: str | None
    paths: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> ExitCode:
        """Drift weighs more than what can't be read: it is sure, and what can't be read is told with it."""
        found = {finding.kind for finding in self.findings}
        if found & DIFFERS:
            return ExitCode.PENDING
        if Kind.UNREADABLE in found:
            return ExitCode.FAILED
        return ExitCode.IN_DOUBT if Kind.IN_DOUBT in found else ExitCode.DONE


def compare(subject: Subject, observed: Observation) -> Finding:
    """One job: what is recorded of it, and what the service says now."""
    job, record = subject.job, subject.record
    if record is not None and record.doubt is not None:
        held = decide(subject, NOT_OBSERVED)
        kind = Kind.UNDER_WAY if record.doubt.holder else Kind.IN_DOUBT
        reason = held.reason.removesuffix(held.way_out).rstrip(" ;").removeprefix(f"{kind}: ")
        return _finding(subject, observed, kind, reason, held.way_out)
    kind = _kind(subject, observed)
    changes = _changes(subject, observed, kind)
    reason = _reason(subject, observed, kind)
    way_out = _way_out(subject, observed, kind)
    if kind in DIFFERS and job.suspend is not None and not job.suspend.over:
        reason = f"{job.suspend.reason}{job.suspend.so_long}; {kind}; {reason}"
        return _finding(subject, observed, Kind.SUSPENDED, reason, "", changes)
    return _finding(subject, observed, kind, reason, way_out, changes)


def in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings, gravest first, then by name."""
    rank = {kind: number for number, kind in enumerate(Kind)}
    return tuple(sorted(findings, key=lambda finding: (rank[finding.kind], finding.name)))


def verdict(drift: Drift, dress: Callable[[str], str] = str) -> str:
    """All of it in one sentence; `dress` may mark what is to be looked at."""
    counts = summary(drift)
    loud = [dress(f"{count} {kind}") for kind, count in counts.items() if count and kind in _LOUD]
    left = [f"{counts[kind]} {kind}" for kind in Kind if counts[kind] and kind not in _LOUD and kind is not Kind.SAME]
    same = counts[Kind.SAME]
    if not loud:
        others = f", {', '.join(left)}" if left else ""
        return f"No drift: {'1 job is' if same == 1 else f'{same} jobs are'} as recorded{others}."
    left = [f"{same} {Kind.SAME}", *left] if same else left
    head = "Drift" if any(counts[kind] for kind in DIFFERS) else "Not all is known"
    return f"{head}: {', '.join(loud)}{'; ' if left else ''}{', '.join(left)}."


_LOUD = (*sorted(DIFFERS, key=list(Kind).index), Kind.UNREADABLE, Kind.IN_DOUBT)


def summary(drift: Drift) -> Mapping[Kind, int]:
    """How many jobs there are of each kind, every kind named."""
    counts = Counter(finding.kind for finding in drift.findings)
    return {kind: counts[kind] for kind in Kind}


def review_drift(
    drift: Drift,
    place_of: Callable[[str], Position],
    histories: Mapping[str, Sequence[HistoryEntry]],
    *,
    state_at: str,
) -> Review:
    """The review of it: `place_of` is asked for declared jobs alone; the rest is as in `review_plan`."""
    kept = f"serial {drift.serial}, lineage {drift.lineage}" if drift.serial else "none yet: nothing was ever applied"
    rows = [
        Row(
            title(one.name),
            one.id,
            one.kind.value,
            _weight(one.kind),
            one.reason,
            one.way_out,
            one.kind is Kind.UNREADABLE,
            one.changes,
            desired=one.job,
            record=one.record,
            observed=one.observed,
            place=place_of(one.name) if one.job is not None else None,
            history=histories.get(one.id, ()),
            differing=frozenset(change.path for change in one.changes),
        )
        for one in drift.findings
    ]
    return Review(
        title="Drift",
        key=review_key(state_at),
        verdict=verdict(drift),
        facts=(
            ("Manifest", ", ".join(drift.paths)),
            ("Target", str(drift.target)),
            ("Observed", "read from the service"),
            ("Commit", drift.commit or "none: not in git"),
            ("State", kept),
        ),
        rows=sorted_rows(rows),
    )


def _finding(
    subject: Subject,
    observed: Observation,
    kind: Kind,
    reason: str,
    way_out: str,
    changes: tuple[Change, ...] = (),
) -> Finding:
    job = subject.job
    return Finding(
        job.name, job.id, kind, reason, way_out, changes, job if subject.keep else None, subject.record, observed
    )


def _kind(subject: Subject, observed: Observation) -> Kind:
    record = subject.record
    if observed.status in (Status.UNREADABLE, Status.NOT_OBSERVED):
        return Kind.UNREADABLE
    if record is None or record.state is None:
        return Kind.NOT_RECORDED
    match record.state:
        case Desired.RUNNING:
            return _kind_of_run(subject, observed)
        case Desired.ABORTED:
            if observed.status is Status.MISSING:
                return Kind.GONE
            if is_ending(record, observed):
                return Kind.ENDING
            ran = observed.status is Status.ACTIVE or ran_since(record, observed)
            return Kind.RUN if ran else Kind.SAME
        case Desired.ABSENT:
            return Kind.SAME if observed.status is Status.MISSING else Kind.THERE
    assert_never(record.state)


def _kind_of_run(subject: Subject, observed: Observation) -> Kind:
    match observed.status:
        case Status.DRAFT:
            return Kind.LOST
        case Status.MISSING:
            return Kind.GONE
        case Status.ABORTED:
            return Kind.ABORTED
        case Status.ACTIVE | Status.COMPLETE | Status.FAILED:
            if ran_since(subject.record, observed):
                return Kind.RUN
            if observed.status is Status.FAILED:
                return Kind.FAILED
            return Kind.CONFIG if _config_changes(subject, observed) else Kind.SAME
        case Status.UNREADABLE | Status.NOT_OBSERVED:
            return Kind.UNREADABLE
    assert_never(observed.status)


def _config_changes(subject: Subject, observed: Observation) -> tuple[Change, ...]:
    job, record = subject.job, subject.record
    counts_later = subject.keep and job.on_config_change is OnConfigChange.NEXT_RUN
    if record is None or observed.config is None or observed.status is not Status.ACTIVE or counts_later:
        return ()
    return drifted_fields(record.config, observed.config, job.ignore)


def _changes(subject: Subject, observed: Observation, kind: Kind) -> tuple[Change, ...]:
    record = subject.record
    if kind not in DIFFERS or record is None:
        return ()
    found = _config_changes(subject, observed) if record.state is Desired.RUNNING else ()
    if kind not in (Kind.CONFIG, Kind.RUN) or record.state is not Desired.RUNNING:
        found = (Change("state", record.state, words_of(observed)), *found)
    if ran_since(record, observed):
        found = (*found, Change("submittedAt", record.submitted_at or None, observed.submitted_at))
    return found


def _reason(subject: Subject, observed: Observation, kind: Kind) -> str:
    record = subject.record
    seen = words_of(observed)
    gone = "" if subject.keep else "; no longer declared"
    if kind is Kind.UNREADABLE:
        return f"{observed.detail or 'no reason given'}{gone}"
    if record is None or record.state is None:
        return f"declared, and never applied; the job is {seen}"
    since = ""
    if ran_since(record, observed):
        since = f"; its run began at {observed.submitted_at}, recorded {record.submitted_at or 'as never run'}"
    fields = ", ".join(change.path for change in _config_changes(subject, observed)) if kind in DIFFERS else ""
    differs = f"; {fields} not as recorded" if fields else ""
    return f"recorded {record.state}, and the job is {seen}{since}{differs}{gone}"


def _way_out(subject: Subject, observed: Observation, kind: Kind) -> str:
    job = subject.job
    refreshed = "`plan --refresh --out FILE`, then `apply --plan FILE`"
    match kind:
        case Kind.GONE:
            return f"give it a new id, declare it absent, or drop its record ({command('state forget', job.name)})"
        case Kind.LOST:
            return "a new runToken runs it"
        case Kind.ABORTED:
            return "a new runToken runs it again, `state: aborted` accepts it"
        case Kind.RUN if ran_since(subject.record, observed):
            return f"{command('resolve', job.name, options=['--not-applied'])} records that run"
        case Kind.RUN:
            return f"{refreshed} aborts it; `state: running` takes it over"
        case Kind.ENDING if job.state is Desired.ABORTED and subject.keep:
            return f"look again once the aborted run has ended; if it does not end, {refreshed} aborts it once more"
        case Kind.ENDING:
            return "look again once the aborted run has ended; an apply waits for its end"
        case Kind.THERE:
            return f"{refreshed} deletes it, where it is declared absent"
        case Kind.FAILED:
            return "a new runToken or config runs it again, `state: aborted` accepts it"
        case Kind.CONFIG:
            return "a new runToken runs it with the recorded config, `ignore` in the manifest accepts this one"
        case Kind.UNREADABLE:
            return "look again once it can be read"
        case Kind.IN_DOUBT | Kind.UNDER_WAY | Kind.SUSPENDED | Kind.NOT_RECORDED | Kind.SAME:
            return ""
    assert_never(kind)


def _weight(kind: Kind) -> Weight:
    if kind in QUIET:
        return Weight.QUIET
    return Weight.LEFT if kind in (Kind.UNDER_WAY, Kind.SUSPENDED) else Weight.DRIFTED
