"""The drift report: what is recorded of jobs, compared with what is observed.

The kind of each difference, its reason and its way out come from the right part of the table (`table`). These rules
come with the table:

- A call in doubt comes first, because nobody knows what the record should be. A call is under way, which is no drift,
  while the command that sent the call is still at work.
- A run that ended by itself, though the abort of its restart was accepted, is the run that was asked for before.
- The config is compared only while a run is active. A job that was adopted after its run had ended is recorded with
  the config of its next run, and so is a job with `onConfigChange: next-run` or `rerun`.
- A frozen job that differs is shown, and is no drift.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from reconciler.model.errors import ExitCode
from reconciler.model.history import HistoryEntry
from reconciler.model.jobs import Desired, Job, Observation, OnConfigChange, Record, Status, Target, title
from reconciler.model.places import Position
from reconciler.model.plan import Change, unchanged_words
from reconciler.rules.configs import drifted_fields, show_paths
from reconciler.rules.doubts import doubt_words
from reconciler.rules.matching import Subject
from reconciler.rules.observations import NO_DETAIL, elsewhere_words, observation_words
from reconciler.rules.records import in_spite_of_abort, is_ending, ran_since
from reconciler.rules.review import Review, Row, Weight, review_key, sorted_rows, source_facts
from reconciler.rules.sight import as_seen, is_of_newer_copy
from reconciler.rules.table import TABLE, DriftCell, Kind
from reconciler.rules.words import way_out_of

QUIET = frozenset({Kind.SAME, Kind.NOT_RECORDED})
"""The kinds that nobody has to look at."""

DIFFERS = frozenset(Kind) - QUIET - {Kind.UNREADABLE, Kind.IN_DOUBT, Kind.UNDER_WAY, Kind.FROZEN}
"""The kinds that are drift."""

_COUNTED_FIRST = (*sorted(DIFFERS, key=list(Kind).index), Kind.UNREADABLE, Kind.IN_DOUBT)
"""The kinds that the verdict counts before all others: somebody has to look at their jobs."""


class Finding(NamedTuple):
    """The comparison of one job. `job` is None if no manifest declares it. `way_out` says how to end the difference."""

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
    """The comparison of all jobs, gravest first, then by name, with the sources that it was made from."""

    target: Target
    lineage: str
    serial: int
    commit: str | None
    paths: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> ExitCode:
        """The exit code. Drift comes before unreadable jobs because drift is certain; the report shows both."""
        found = {finding.kind for finding in self.findings}
        if found & DIFFERS:
            return ExitCode.PENDING
        if Kind.UNREADABLE in found:
            return ExitCode.FAILED
        return ExitCode.IN_DOUBT if Kind.IN_DOUBT in found else ExitCode.DONE


def compare(subject: Subject, observed: Observation) -> Finding:
    """Compare the record of one job with its observation."""
    job, record = subject.job, subject.record
    if record is not None and record.target is not None:
        return _finding(subject, observed, Kind.UNREADABLE, *elsewhere_words(record.target, job.name))
    observed = as_seen(subject, observed)
    if record is not None and record.doubt is not None:
        cell, reason, way_out = doubt_words(job, record.doubt)
        return _finding(subject, observed, cell.kind, reason, way_out)
    if record is not None and (ended := in_spite_of_abort(record, observed)) is not None:
        return compare(subject._replace(record=ended), observed)
    cell = _cell(subject, observed)
    changes = _changes(subject, observed, cell.kind)
    reason = _reason(subject, observed, cell)
    if cell.kind in DIFFERS and job.freeze is not None and not job.freeze.over:
        reason = f"{job.freeze.reason}{job.freeze.so_long}; {cell.kind}; {reason}"
        return _finding(subject, observed, Kind.FROZEN, reason, "", changes)
    return _finding(subject, observed, cell.kind, reason, way_out_of(cell, job), changes)


def in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings, gravest first, then by name."""
    rank = {kind: number for number, kind in enumerate(Kind)}
    return tuple(sorted(findings, key=lambda finding: (rank[finding.kind], finding.name)))


def verdict(drift: Drift, dress: Callable[[str], str] = str) -> str:
    """The report in one sentence. `dress` may mark the counts that somebody has to look at."""
    counts = summary(drift)
    first = [dress(f"{count} {kind}") for kind, count in counts.items() if count and kind in _COUNTED_FIRST]
    left = [
        f"{counts[kind]} {kind}"
        for kind in Kind
        if counts[kind] and kind not in _COUNTED_FIRST and kind is not Kind.SAME
    ]
    same = counts[Kind.SAME]
    if not first:
        others = f", {', '.join(left)}" if left else ""
        return f"No drift: {unchanged_words(same, 0)}{others}."
    left = [f"{same} {Kind.SAME}", *left] if same else left
    head = "Drift" if any(counts[kind] for kind in DIFFERS) else "Not all is known"
    return f"{head}: {', '.join(first)}{'; ' if left else ''}{', '.join(left)}."


def summary(drift: Drift) -> Mapping[Kind, int]:
    """The number of jobs of each kind, zeros included."""
    counts = Counter(finding.kind for finding in drift.findings)
    return {kind: counts[kind] for kind in Kind}


def review_drift(
    drift: Drift,
    place_of: Callable[[str], Position],
    histories: Mapping[str, Sequence[HistoryEntry]],
    *,
    state_at: str,
) -> Review:
    """The review of a drift report. The arguments are as in `review_plan`."""
    return Review(
        title="Drift",
        key=review_key(state_at),
        verdict=verdict(drift),
        facts=source_facts(drift.paths, drift.target, drift.commit, drift.serial, drift.lineage, refreshed=True),
        rows=sorted_rows(_review_row(one, place_of, histories) for one in drift.findings),
    )


def _review_row(
    finding: Finding, place_of: Callable[[str], Position], histories: Mapping[str, Sequence[HistoryEntry]]
) -> Row:
    return Row(
        title(finding.name),
        finding.id,
        finding.kind.value,
        _weight(finding.kind),
        finding.reason,
        finding.way_out,
        finding.kind is Kind.UNREADABLE,
        finding.changes,
        desired=finding.job,
        record=finding.record,
        observed=finding.observed,
        place=place_of(finding.name) if finding.job is not None else None,
        history=histories.get(finding.id, ()),
        differing=frozenset(change.path for change in finding.changes),
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


_OF_ANY_RUN = frozenset({DriftCell.SAME, DriftCell.FAILED, DriftCell.ACTIVE_AGAIN})
"""The entries that don't tell whether the observed run is the recorded one."""


def _cell(subject: Subject, observed: Observation) -> DriftCell:
    """The entry of the table, then the rules that change it."""
    job, record = subject.job, subject.record
    if observed.status in (Status.UNREADABLE, Status.NOT_OBSERVED):
        return DriftCell.UNREADABLE
    if observed.status is Status.OTHER_OWNER:
        return DriftCell.OTHER_OWNER
    if record is None or record.state is None:
        return DriftCell.NOT_RECORDED
    cell = TABLE[observed.status].recorded[record.state]
    if cell not in _OF_ANY_RUN or record.state is Desired.ABSENT:
        return cell
    if ran_since(record, observed):
        return DriftCell.NEWER_RUN if is_of_newer_copy(subject, observed) else DriftCell.OTHER_RUN
    if is_ending(record, observed):
        is_asked = subject.keep and job.state is Desired.ABORTED
        return DriftCell.ENDING_AS_ASKED if is_asked else DriftCell.ENDING
    if cell is DriftCell.SAME and _config_changes(subject, observed):
        return DriftCell.CONFIG
    return cell


def _config_changes(subject: Subject, observed: Observation) -> tuple[Change, ...]:
    """The fields of the config that differ; none unless the config of an active run was observed."""
    job, record = subject.job, subject.record
    counts_later = subject.keep and job.on_config_change in (OnConfigChange.NEXT_RUN, OnConfigChange.RERUN)
    if record is None or observed.config is None or observed.status is not Status.ACTIVE or counts_later:
        return ()
    return drifted_fields(record.config, observed.config, subject.same_config, job.ignore)


def _changes(subject: Subject, observed: Observation, kind: Kind) -> tuple[Change, ...]:
    """The fields that differ between record and observation: the state, the config, and when the run began."""
    record = subject.record
    if kind not in DIFFERS or record is None:
        return ()
    found = _config_changes(subject, observed) if record.state is Desired.RUNNING else ()
    if kind not in (Kind.CONFIG, Kind.RUN) or record.state is not Desired.RUNNING:
        found = (Change("state", record.state, observation_words(observed)), *found)
    if ran_since(record, observed):
        found = (*found, Change("submittedAt", record.submitted_at or None, observed.submitted_at))
    return found


def _reason(subject: Subject, observed: Observation, cell: DriftCell) -> str:
    """The reason that the entry of the table carries, filled in."""
    record = subject.record
    since = fields = ""
    if record is not None and ran_since(record, observed):
        since = f"; its run began at {observed.submitted_at}, recorded {record.submitted_at or 'as never run'}"
    if cell.kind in DIFFERS:
        fields = show_paths(_config_changes(subject, observed))
    return cell.reason.format(
        state=record.state if record else None,
        observed=observation_words(observed),
        since=since,
        differs=f"; {fields} not as recorded" if fields else "",
        undeclared="" if subject.keep else "; no longer declared",
        detail=observed.detail or NO_DETAIL,
    )


def _weight(kind: Kind) -> Weight:
    """The weight of a row in the review of a drift report."""
    if kind in QUIET:
        return Weight.QUIET
    return Weight.LEFT if kind in (Kind.UNDER_WAY, Kind.FROZEN) else Weight.DRIFTED
