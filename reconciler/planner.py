"""(desired, recorded, observed) -> what to do. Pure: values in, values out.

The decision table. Left: observed. Top: desired, then recorded (`Asked`).

    observed      FIRST_RUN        SAME       NEW_CONFIG    RERUN             ABORTED   ABSENT
    ------------  ---------------  ---------  ------------  ----------------  --------  --------
    not observed  run              noop       restart       restart or run 1  abort 2   delete 2
    draft         run              lost run   run           run               adopt     delete
    active        adopt/restart 3  noop       restart       restart 4         abort     delete 5
    complete      adopt            noop       adopt         run               adopt     delete
    failed        adopt            noop       run           run               adopt     delete
    aborted       hold             hold       hold          run               adopt     delete
    missing       no such job      gone       needs new id  needs new id      adopt     adopt
    unreadable    error            error      error         error             error     error

    1  restart where it is recorded running, else run
    2  noop where the record says so already (an abort: also where it is recorded absent)
    3  adopt where its config agrees or is not told; else as `onConfigChange` says of a new config
    4  recorded aborted: run once the active run is over, which is the one that was aborted, or nobody can tell;
       where it began after that one: adopt where its config agrees
    5  abort, wait, delete; where nothing is observed, so too if it is recorded running. No abort where the
       active run is the one that was aborted

"lost run", "gone" and "hold" hold; "no such job", "needs new id" and "error" hold with an error for
that job alone. `onConfigChange` bends NEW_CONFIG: `next-run` makes all but the errors adopt, `hold`
makes them hold. `protect`, in the manifest or, where that says nothing, in the record, turns abort,
restart and delete into a hold; a noop that has a new `protect` to record is an adopt. A suspended job is
a noop whatever is asked. A call in doubt comes before all of it. An adopt that would change no record is
a noop. `ignore` takes fields out of "its config agrees"; a change in the manifest still counts.

A run or restart comes after the jobs in `after` (`Order`). Each is judged by its own decision, then by
what is observed of it:

    to be run first, itself waiting, or active    hold: waiting for it
    complete, and not of an earlier run           go on
    in doubt, held, failed, aborted, missing, ..  hold: it does not complete by itself
    not looked at, as in a plan without reads     go on, and say after which

A job that was run since its record was written is not run again: nobody knows whether that run was
the one asked for. It holds, or is adopted where its config is told and is the new one that is asked for.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple, assert_never

from reconciler.commands import command, settling
from reconciler.evidence import Trace, trace_of
from reconciler.jobs import (
    NOT_OBSERVED,
    Config,
    Desired,
    Job,
    Observation,
    OnConfigChange,
    Record,
    State,
    Status,
    Verb,
    displaced_key,
    title,
)
from reconciler.plan import AS_RECORDED, STEPS, Action, ActionKind, Actions, Call, Change, Plan
from reconciler.times import TimeOrder, compare


class Asked(StrEnum):
    """The columns of the decision table: what the manifest asks, given what is recorded."""

    FIRST_RUN = "running, no record"
    SAME = "running, recorded running, same"
    NEW_CONFIG = "running, config changed"
    RERUN = "running, new runToken, or recorded aborted or absent"
    ABORTED = "aborted"
    ABSENT = "absent"


class Cell(StrEnum):
    """The entries of the decision table."""

    RUN = "run"
    RESTART = "restart"
    RESTART_OR_RUN = "restart if recorded running, else run"
    ADOPT = "adopt"
    ADOPT_OR_RESTART = "adopt if its config agrees, else restart"
    RESTART_OR_ADOPT = "restart; if recorded aborted, run once that is over, or adopt a later run whose config agrees"
    ABORT = "abort"
    DELETE = "delete"
    NOOP = "noop"
    LOST_RUN = "hold: lost run"
    ABORTED_ELSEWHERE = "hold: aborted by someone else"
    GONE = "hold: gone"
    NO_SUCH_JOB = "error: no such job"
    NEEDS_NEW_ID = "error: needs a new id"
    UNREADABLE = "error: unreadable"


def _row(*cells: Cell) -> dict[Asked, Cell]:
    return dict(zip(Asked, cells, strict=True))


TABLE: Mapping[Status, Mapping[Asked, Cell]] = {
    Status.NOT_OBSERVED: _row(Cell.RUN, Cell.NOOP, Cell.RESTART, Cell.RESTART_OR_RUN, Cell.ABORT, Cell.DELETE),
    Status.DRAFT: _row(Cell.RUN, Cell.LOST_RUN, Cell.RUN, Cell.RUN, Cell.ADOPT, Cell.DELETE),
    Status.ACTIVE: _row(Cell.ADOPT_OR_RESTART, Cell.NOOP, Cell.RESTART, Cell.RESTART_OR_ADOPT, Cell.ABORT, Cell.DELETE),
    Status.COMPLETE: _row(Cell.ADOPT, Cell.NOOP, Cell.ADOPT, Cell.RUN, Cell.ADOPT, Cell.DELETE),
    Status.FAILED: _row(Cell.ADOPT, Cell.NOOP, Cell.RUN, Cell.RUN, Cell.ADOPT, Cell.DELETE),
    Status.ABORTED: _row(
        Cell.ABORTED_ELSEWHERE, Cell.ABORTED_ELSEWHERE, Cell.ABORTED_ELSEWHERE, Cell.RUN, Cell.ADOPT, Cell.DELETE
    ),
    Status.MISSING: _row(Cell.NO_SUCH_JOB, Cell.GONE, Cell.NEEDS_NEW_ID, Cell.NEEDS_NEW_ID, Cell.ADOPT, Cell.ADOPT),
    Status.UNREADABLE: _row(*[Cell.UNREADABLE] * len(Asked)),
}

_ERRORS = frozenset({Cell.NO_SUCH_JOB, Cell.NEEDS_NEW_ID, Cell.UNREADABLE})
_ONE = frozenset({TimeOrder.SAME, TimeOrder.CLOSE})
_PROTECTED = frozenset({ActionKind.ABORT, ActionKind.RESTART, ActionKind.DELETE})


class Decision(NamedTuple):
    """What to do about one job.

    `verbs` are the calls in order. `record` is what to record once all of it is done, None for
    nothing. `error` is set where the job can't be acted on at all. `way_out` is the end of the reason
    of a hold: what to do about it. `waits_for` names the jobs that it is held for and that may yet complete.
    `once_over` says that the calls are only sent once the run that is active is over.
    """

    kind: ActionKind
    reason: str
    record: Record | None
    verbs: tuple[Verb, ...] = ()
    changes: tuple[Change, ...] = ()
    error: str = ""
    way_out: str = ""
    waits_for: tuple[str, ...] = ()
    suspended: bool = False
    once_over: bool = False


class Subject(NamedTuple):
    """One job to decide about: what is asked of it, and the record that is about its engine job.

    A record is matched by engine job id, so that a job whose name changed keeps it: `renamed_from`
    is the old name, or "". `keep` is False for a job that no manifest declares: its record is
    dropped rather than kept as absent.
    """

    job: Job
    record: Record | None
    renamed_from: str = ""
    keep: bool = True


_name_of = attrgetter("job.name")


class Matching(NamedTuple):
    """The manifest's jobs matched with the state's records.

    `moves` maps a record's key in the state to its new key: a renamed job's, and, where a name was
    given a new id, the old engine job's record, which stays on record as undeclared, under a key that
    is no name (`displaced_key`).
    `undeclared` are the keys (after the moves) of records that no job claims; `spent` those of them
    that are recorded absent with no call in doubt, which have nothing more to say and may be dropped.
    """

    subjects: tuple[Subject, ...]
    moves: Mapping[str, str]
    undeclared: tuple[str, ...]
    spent: tuple[str, ...]

    @property
    def by_name(self) -> dict[str, Subject]:
        """The subjects by their jobs' names."""
        return {subject.job.name: subject for subject in self.subjects}


def match_records(jobs: Mapping[str, Job], records: Mapping[str, Record]) -> Matching:
    """Match jobs (by name) with records (by name): same id first, whatever the names say."""
    subjects: list[Subject] = []
    moves: dict[str, str] = {}
    strangers: set[str] = set()
    for name, job in jobs.items():
        record = records.get(name)
        if record is not None and record.id == job.id:
            subjects.append(Subject(job, record))
        else:
            strangers.add(name)
    if not strangers:
        undeclared = records.keys() - jobs.keys()
    else:
        key_of = {record.id: key for key, record in records.items()}
        claimed = set()
        for name in sorted(strangers):
            job = jobs[name]
            key = key_of.get(job.id)
            if key is None:
                subjects.append(Subject(job, None))
            else:
                claimed.add(key)
                moves[key] = name
                subjects.append(Subject(job, records[key], renamed_from=key))
        for name in strangers & records.keys() - claimed:
            moves[name] = displaced_key(name, records[name].id)
        declared = jobs.keys() - strangers | set(moves.values()) & strangers
        undeclared = {moves.get(key, key) for key in records} - declared
    origin = {new: old for old, new in moves.items()}
    spent = {key for key in undeclared if _is_spent(records[origin.get(key, key)])}
    subjects.sort(key=_name_of)
    return Matching(tuple(subjects), moves, tuple(sorted(undeclared - spent)), tuple(sorted(spent)))


def _is_spent(record: Record) -> bool:
    return record.state is Desired.ABSENT and record.doubt is None


def prune(matching: Matching, records: Mapping[str, Record]) -> Matching:
    """The same matching, with every undeclared record treated as declared absent."""
    origin = {new: old for old, new in matching.moves.items()}
    pruned = [
        Subject(Job(key, record.id, Desired.ABSENT, {}), record, keep=False)
        for key in matching.undeclared
        for record in [records[origin.get(key, key)]]
    ]
    return Matching((*matching.subjects, *pruned), matching.moves, (), matching.spent)


def make_plan(
    matching: Matching,
    observed: Mapping[str, Observation],
    call_for: Callable[[Verb, str, Config], Call],
    selected: Callable[[str], bool],
    *,
    state: State,
    manifest_digest: str,
    commit: str | None,
    paths: Iterable[str],
    holds_for_others: bool = True,
) -> Plan:
    """The plan for the selected jobs: sorted by step, then name; same inputs, same bytes.

    `observed` maps engine job ids to observations; an id that is not there was not observed.
    `selected` says of a job's name whether the plan is about it. Without `holds_for_others` a run that comes after
    other jobs is planned, and says so, whatever was observed of these: an apply looks at them once more, and waits.
    """
    steps: dict[int, list[Action]] = {step: [] for step in sorted(set(STEPS.values()))}
    as_recorded: list[Job] = []
    order = Order(matching.subjects, observed if holds_for_others else {}, selected)
    for subject in sorted([one for one in matching.subjects if selected(one.job.name)], key=_name_of):
        seen = observed.get(subject.job.id, NOT_OBSERVED)
        if _is_as_recorded(subject, seen):
            as_recorded.append(subject.job)
            continue
        decision = decide(subject, seen)
        if decision.verbs:
            decision = order.defer(decision, subject)
        steps[STEPS[decision.kind]].append(action_for(subject, decision, call_for))
    return Plan(
        target=state.target,
        lineage=state.lineage,
        serial=state.serial,
        manifest_digest=manifest_digest,
        commit=commit,
        paths=tuple(paths),
        actions=Actions(chain.from_iterable(steps.values()), as_recorded),
        undeclared=matching.undeclared,
    )


def action_for(subject: Subject, decision: Decision, call_for: Callable[[Verb, str, Config], Call]) -> Action:
    """The decision as a plan lists it, with the calls that it takes."""
    job = subject.job
    calls = tuple([call_for(verb, job.id, job.config) for verb in decision.verbs]) if decision.verbs else ()
    kind, reason, changes = decision.kind, decision.reason, decision.changes
    return Action(job.name, job.id, kind, reason, changes, calls, decision.error, decision.suspended)


def asked(job: Job, record: Record | None) -> Asked:
    """The column of the decision table for a job and its record."""
    match job.state:
        case Desired.ABORTED:
            return Asked.ABORTED
        case Desired.ABSENT:
            return Asked.ABSENT
        case Desired.RUNNING:
            if record is None or record.state is None:
                return Asked.FIRST_RUN
            if record.state is not Desired.RUNNING or _is_new_token(job, record):
                return Asked.RERUN
            return Asked.SAME if same_config(job.config, record.config) else Asked.NEW_CONFIG
    assert_never(job.state)


def decide(subject: Subject, observed: Observation) -> Decision:
    """What to do about one job: the decision table, then what bends it."""
    job, record = subject.job, subject.record
    if record is not None and record.doubt is not None:
        return _once_more(subject, observed) or _hold(record, *_in_doubt(job, record))
    if _is_as_recorded(subject, observed):
        return _noop(record, AS_RECORDED)
    column = asked(job, record)
    new_protect = None if record is None or job.protect is record.protect else job.protect
    is_suspended = job.suspend is not None and not job.suspend.over
    decision = _suspended(job, record, observed) if is_suspended else _decide_asked(column, subject, observed)
    if new_protect is not None and record is not None:
        decision = _protecting(decision, record, new_protect)
    if subject.renamed_from:
        reason = f"renamed from {title(subject.renamed_from)}"
        if decision.kind is ActionKind.NOOP:
            return _only_recorded(decision, reason)
        return decision._replace(reason=f"{reason}; {decision.reason}")
    return decision


def _once_more(subject: Subject, observed: Observation) -> Decision | None:
    """To send an abort or a delete again whose answer was lost, if that is still asked for; None to hold the job.

    Such a call may take effect long after the service took it, so that a job that is as it was before the call says
    nothing of what became of it. It may be sent twice to the same run. Where it is not asked for any more, nobody
    knows whether that run goes on.
    """
    record = subject.record
    doubt = None if record is None else record.doubt
    if record is None or doubt is None:
        return None
    if doubt.verb is Verb.RUN or doubt.holder or trace_of(doubt.verb, doubt.before, observed) is not Trace.NOT_DONE:
        return None
    decision = decide(subject._replace(record=settled(record, was_applied=False)), observed)
    if doubt.verb not in decision.verbs:
        return None
    sent = f"the {doubt.verb} that was sent at {doubt.sent_at} got no answer, and is sent again"
    return decision._replace(reason=f"{decision.reason}; {sent}")


def _is_as_recorded(subject: Subject, observed: Observation) -> bool:
    """Whether nothing bends the table, and it says so too, which it does of most jobs of most plans."""
    job, record = subject.job, subject.record
    if record is None or record.doubt is not None or observed is not NOT_OBSERVED:
        return False
    is_plain = job.suspend is None and job.protect in (None, record.protect) and not subject.renamed_from
    return is_plain and asked(job, record) is Asked.SAME


def lapsed(jobs: Mapping[str, Job], now_s: float) -> Mapping[str, Job]:
    """The jobs whose suspension is over, marked as such; `now_s` is in seconds since 1970, UTC."""
    suspended = [job for job in jobs.values() if job.suspend is not None]
    return {
        job.name: job._replace(suspend=job.suspend._replace(over=True))
        for job in suspended
        if job.suspend is not None and job.suspend.ends_at_s <= now_s
    }


def is_protected(job: Job, record: Record | None) -> bool:
    """Whether abort, restart and delete are refused: by the manifest, or, where that says nothing, by the record."""
    if job.protect is not None:
        return job.protect
    return record is not None and record.protect


def protection(subject: Subject) -> Mapping[str, Record]:
    """The record, by the job's name, with what the manifest says of `protect`; empty where it has that already.

    It counts for a held job too: what is held may be taken out of the manifest.
    """
    job, record = subject.job, subject.record
    if record is None or job.protect is None or job.protect is record.protect:
        return {}
    return {job.name: record._replace(protect=job.protect)}


class Standing(StrEnum):
    """How a job stands to those that run after it."""

    COMPLETE = "has completed"
    UNDERWAY = "may yet complete"
    STUCK = "does not complete by itself"
    UNSEEN = "was not looked at"


class Order:
    """What is run after what: holds a run until the jobs that it comes after have completed.

    `subjects` are all jobs. `observed` maps engine job ids to what was read, and lacks those that were
    not looked at. `acts` says of a job by name whether it is run where the decisions lead to that,
    `is_stale` whether what was read of it is older than its last run here.
    """

    def __init__(
        self,
        subjects: Iterable[Subject],
        observed: Mapping[str, Observation],
        acts: Callable[[str], bool],
        is_stale: Callable[[str, Observation], bool] = lambda name, observed: False,
    ) -> None:
        self._subjects = subjects
        self._observed = observed
        self._acts = acts
        self._is_stale = is_stale
        self._by_name: Mapping[str, Subject] = {}
        self._judged: dict[str, tuple[Standing, str]] = {}

    def defer(self, decision: Decision, subject: Subject) -> Decision:
        """The decision about this job, held where it runs the job and one that comes before has yet to complete."""
        after, record = subject.job.after, subject.record
        if not after or Verb.RUN not in decision.verbs:
            return decision
        judged = {name: self._standing(name) for name in after}
        for name, (standing, words) in judged.items():
            if standing is Standing.STUCK:
                way_out = f"this goes on once {name} has completed, or is taken out of `after`"
                return _hold(record, f"comes after {name}, which {words}: ", way_out, decision.changes)
        underway = [name for name, (standing, _) in judged.items() if standing is Standing.UNDERWAY]
        if underway:
            waits = ", ".join(f"{name} ({judged[name][1]})" for name in underway)
            way_out = "the next apply goes on once that has completed, `apply --wait` waits for it"
            held = _hold(record, f"waiting for {waits}: ", way_out, decision.changes)
            return held._replace(waits_for=tuple(underway))
        unseen = [name for name, (standing, _) in judged.items() if standing is Standing.UNSEEN]
        return decision._replace(reason=f"{decision.reason}; after {', '.join(unseen)}") if unseen else decision

    def _standing(self, name: str) -> tuple[Standing, str]:
        """How a job stands, and that in words. Those that it comes after itself are judged first, however many."""
        if not self._by_name:
            self._by_name = {subject.job.name: subject for subject in self._subjects}
        stack = [name]
        while stack:
            top = stack[-1]
            if top in self._judged:
                stack.pop()
                continue
            left = [other for other in self._by_name[top].job.after if other not in self._judged]
            if left:
                stack += left
            else:
                self._judged[top] = self._judge(self._by_name[top])
        return self._judged[name]

    def _judge(self, subject: Subject) -> tuple[Standing, str]:
        job, record = subject.job, subject.record
        seen = self._observed.get(job.id)
        if seen is None:
            return Standing.UNSEEN, ""
        if record is not None and record.doubt is not None:
            if record.doubt.holder:
                return Standing.UNDERWAY, f"a call is under way: {record.doubt.holder}"
            return Standing.STUCK, f"has a call in doubt ({settling(job.name)})"
        decision = self.defer(decide(subject, seen), subject)
        if decision.waits_for:
            return Standing.UNDERWAY, "which is itself waiting"
        if Verb.RUN in decision.verbs:
            if self._acts(job.name):
                return Standing.UNDERWAY, "to be run first"
            return Standing.STUCK, "has to be run first, and this plan does not include it"
        if decision.kind is ActionKind.HOLD and asked(job, record) in (Asked.RERUN, Asked.FIRST_RUN):
            return Standing.STUCK, f"is held: {decision.reason}"
        said = words_of(seen)
        match seen.status:
            case Status.COMPLETE:
                if self._is_stale(job.name, seen) or _is_of_earlier_run(record, seen):
                    return Standing.UNDERWAY, f"{said}, as read of an earlier run"
                return Standing.COMPLETE, ""
            case Status.ACTIVE:
                ends = decision.kind in (ActionKind.ABORT, ActionKind.DELETE)
                return (Standing.STUCK, f"is declared {job.state}") if ends else (Standing.UNDERWAY, said)
            case Status.NOT_OBSERVED:
                return Standing.STUCK, "can't be read, because the service offers no reads"
            case Status.DRAFT:
                return Standing.STUCK, f"was not run ({said})"
            case Status.UNREADABLE:
                return Standing.STUCK, f"can't be read: {seen.detail or 'no reason given'}"
            case Status.FAILED | Status.ABORTED | Status.MISSING:
                return Standing.STUCK, f"is {said}"
        assert_never(seen.status)


def _is_of_earlier_run(record: Record | None, observed: Observation) -> bool:
    """Whether a read tells of a run before the recorded one, or of one that can't be told from such."""
    if record is None or not record.submitted_at or not ran_since(record, observed):
        return False
    return observed.stands_to(record.submitted_at) is not TimeOrder.LATER


def _suspended(job: Job, record: Record | None, observed: Observation) -> Decision:
    assert job.suspend is not None
    reason = _reason(f"suspended{job.suspend.so_long}: {job.suspend.reason}", words_of(observed))
    return _noop(record, reason)._replace(suspended=True)


def _protecting(decision: Decision, record: Record, protect: bool) -> Decision:
    """The decision about a job whose `protect` is not as recorded. A hold records nothing by itself."""
    change = Change("protect", record.protect, protect)
    if decision.kind is ActionKind.NOOP:
        words = "protected from now on" if protect else "protected no more"
        kept = record._replace(protect=protect)
        return _only_recorded(decision, words)._replace(record=kept, changes=(change,))
    if decision.kind is ActionKind.HOLD:
        return decision
    return decision._replace(changes=(*decision.changes, change))


def _only_recorded(decision: Decision, reason: str) -> Decision:
    """A noop that has something to record after all."""
    why = f"; {decision.reason}" if decision.suspended else ""
    return decision._replace(kind=ActionKind.ADOPT, reason=f"{reason}; recorded without a call{why}", suspended=False)


def _decide_asked(column: Asked, subject: Subject, observed: Observation) -> Decision:
    job, record = subject.job, subject.record
    cell = TABLE[observed.status][column]
    if column is Asked.NEW_CONFIG and cell not in _ERRORS:
        if job.on_config_change is OnConfigChange.NEXT_RUN:
            cell = Cell.ADOPT
        elif job.on_config_change is OnConfigChange.HOLD:
            return _hold(
                record,
                f"{_why(job, record, column)}, and onConfigChange is hold: ",
                "a new runToken runs it with this config, onConfigChange: restart or next-run lets it through",
                config_changes(record.config if record else {}, job.config),
            )
    decision = _decide_cell(cell, column, subject, observed)
    if Verb.RUN in decision.verbs and ran_since(record, observed):
        decision = _already_run(decision, column, subject, observed)
    if decision.kind in _PROTECTED and is_protected(job, record):
        way_out = "`protect: false` in the manifest lifts it"
        if not subject.keep:
            way_out = (
                "declare it again with `protect: false`, or leave it be and drop its record "
                f"({command('state forget', job.name)})"
            )
        why = f"protected, so no {decision.kind} ({decision.reason}): "
        return _hold(record, why, way_out, decision.changes)
    return decision


def _decide_cell(cell: Cell, column: Asked, subject: Subject, observed: Observation) -> Decision:
    job, record = subject.job, subject.record
    seen = words_of(observed)
    match cell:
        case Cell.RUN:
            return _run(job, record, column, observed)
        case Cell.RESTART:
            return _restart(job, record, column, observed)
        case Cell.RESTART_OR_RUN:
            if record is not None and record.state is Desired.RUNNING:
                return _restart(job, record, column, observed)
            return _run(job, record, column, observed)
        case Cell.ADOPT_OR_RESTART:
            if agrees(job.config, observed.config, job.ignore):
                return _adopt(subject, f"already {seen}; recorded without a call", observed)
            if job.on_config_change is OnConfigChange.NEXT_RUN:
                why = f"already {seen} with another config, and the new one counts from the next run"
                return _adopt(subject, f"{why}; recorded without a call", observed)
            if job.on_config_change is OnConfigChange.HOLD:
                return _hold(
                    record,
                    f"already {seen} with another config, and onConfigChange is hold: ",
                    "onConfigChange: restart runs it with this config, next-run lets it through",
                )
            return _restart(job, record, column, observed)
        case Cell.RESTART_OR_ADOPT:
            if record is None or record.state is not Desired.ABORTED:
                return _restart(job, record, column, observed)
            if observed.stands_to(record.submitted_at) is not TimeOrder.LATER:
                return _run_once_over(job, record, column, observed)
            if observed.config is not None and agrees(job.config, observed.config, job.ignore):
                return _adopt(subject, f"already {seen} with this config; recorded without a call", observed)
            return _restart(job, record, column, observed)
        case Cell.ADOPT:
            return _adopt(subject, _why_adopt(job, column, observed), observed)
        case Cell.ABORT:
            if observed.status is Status.NOT_OBSERVED and record is not None and record.state is not Desired.RUNNING:
                return _noop(record, f"recorded {record.state}")
            changes = (Change("state", record.state if record else None, Desired.ABORTED),)
            again = "; it was aborted already, and has yet to end" if is_ending(record, observed) else ""
            return Decision(
                ActionKind.ABORT,
                _reason("declared aborted", seen) + again,
                applied(job, record, Verb.ABORT, observed.run_began),
                (Verb.ABORT,),
                changes,
            )
        case Cell.DELETE:
            return _delete(subject, observed)
        case Cell.NOOP:
            if observed.status is Status.FAILED:
                return _noop(record, _reason("a new runToken or config runs it again", seen))
            return _noop(record, _reason(AS_RECORDED, seen))
        case Cell.LOST_RUN:
            return _hold(record, f"lost run: the job is recorded as running, and is {seen}; ", "a new runToken runs it")
        case Cell.ABORTED_ELSEWHERE:
            if record is None or record.state is None:
                way_out = "apply it once as `state: aborted`, then a change to `running` runs it"
            else:
                way_out = "a new runToken runs it again, `state: aborted` accepts it"
            return _hold(record, f"aborted by someone else ({seen}): ", way_out)
        case Cell.GONE:
            return _hold(
                record,
                f"gone: the job is recorded as running, and is {seen}; ",
                "give the job a new id, or declare it absent",
            )
        case Cell.NO_SUCH_JOB:
            return _error(record, f"no such job: it is {seen} at the service; ", "create it there, or correct its id")
        case Cell.NEEDS_NEW_ID:
            return _error(record, f"needs a new id: the job is {seen}; ", "create a job there and give its id")
        case Cell.UNREADABLE:
            return _error(
                record, f"unreadable: {observed.detail or 'no reason given'}; ", "left alone until it can be read"
            )
    assert_never(cell)


def is_ending(record: Record | None, observed: Observation) -> bool:
    """Whether the active run is certainly the one that was aborted: an abort takes time to show."""
    if record is None or record.state is not Desired.ABORTED or observed.status is not Status.ACTIVE:
        return False
    return observed.stands_to(record.submitted_at) in _ONE


def ran_since(record: Record | None, observed: Observation) -> bool:
    """Whether the job was run since it was recorded, where both tell when its run began."""
    return record is not None and observed.is_of_other_run(record.submitted_at)


def applied(job: Job, record: Record | None, verb: Verb, began: str | None = None) -> Record:
    """The record of a job once a call of this verb was applied to it.

    `began` is when its last run did (`Observation.run_began`), None where that is not known.
    """
    tokens = record.run_tokens if record else frozenset[str]()
    consumed = tokens | {job.run_token} if job.run_token is not None else tokens
    protect = is_protected(job, record)
    if record is not None and compare(began, record.submitted_at) is TimeOrder.SAME:
        began = record.submitted_at  # other words for one instant are no change
    match verb:
        case Verb.RUN:
            return Record(job.id, Desired.RUNNING, dict(job.config), consumed, began, protect=protect)
        case Verb.ABORT:
            if began is None and record is not None:
                began = record.submitted_at
            if job.state is Desired.RUNNING:
                # Of a restart: what runs it from here on is that it is aborted. Were its token kept for a run to come,
                # a manifest that takes it back now and gives it again later would run the job once too often.
                tokens = consumed
            return Record(job.id, Desired.ABORTED, record.config if record else {}, tokens, began, protect=protect)
        case Verb.DELETE:
            return Record(job.id, Desired.ABSENT, {}, tokens, protect=protect)
    assert_never(verb)


def settled(record: Record, was_applied: bool, began: str | None = None) -> Record | None:
    """The record once its doubt is settled: as if its call had been answered so; None where nothing is left.

    `began` is when the job's last run did, as in `applied`.
    """
    doubt = record.doubt
    if doubt is None:
        return record
    if not was_applied:
        return None if record.state is None else record._replace(doubt=None)
    if doubt.verb is Verb.ABORT and began is None and doubt.before is not None:
        began = doubt.before.submitted_at
    job = Job("", record.id, Desired.RUNNING, doubt.config, doubt.run_token)
    return applied(job, record, doubt.verb, began)


def same_config(left: Config, right: Config) -> bool:
    """Whether two configs ask for the same; a boolean left out is false, as in the API."""
    return left == right or _explicit(left) == _explicit(right)


def agrees(wanted: Config, told: Config | None, ignore: Collection[str] = ()) -> bool:
    """Whether a config that the engine tells has all that is wanted; True where it tells none.

    Fields that are not asked for are the service's own choice. A field at its default value may be
    left out (Protocol Buffers' JSON mapping). `ignore` names fields as a manifest does: `config.jobTimeout`.
    """
    return told is None or not drifted_fields(wanted, told, ignore)


def drifted_fields(wanted: Config, told: Config, ignore: Collection[str] = ()) -> tuple[Change, ...]:
    """The fields in which a config that the engine tells lacks what is wanted, as in `agrees`, sorted."""
    return tuple(
        Change(f"config.{field}", value, told.get(field))
        for field, value in sorted(wanted.items())
        if told.get(field, type(value)()) != value and f"config.{field}" not in ignore
    )


def config_changes(before: Config, after: Config) -> tuple[Change, ...]:
    """The fields that differ, sorted by path."""
    if same_config(before, after):
        return ()
    if not before:
        return tuple(Change(f"config.{field}", None, value) for field, value in sorted(_explicit(after).items()))
    return _diff(tuple(sorted(_explicit(before).items())), tuple(sorted(_explicit(after).items())))


def show_changes(changes: Iterable[Change]) -> str:
    """Changes in one line: `config.jobTimeout 3600 → 7200`."""
    return ", ".join(f"{c.path} {_show(c.before)} → {_show(c.after)}" for c in changes)


@lru_cache(maxsize=4096)
def _diff(before: tuple[tuple[str, Any], ...], after: tuple[tuple[str, Any], ...]) -> tuple[Change, ...]:
    from deepdiff import DeepDiff

    tree = DeepDiff({"config": dict(before)}, {"config": dict(after)}, view="tree", threshold_to_diff_deeper=0)
    missing = type(DeepDiff({}, {"a": 1}, view="tree")["dictionary_item_added"][0].t1)
    changes = [
        Change(
            ".".join(map(str, level.path(output_format="list"))),
            None if isinstance(level.t1, missing) else level.t1,
            None if isinstance(level.t2, missing) else level.t2,
        )
        for levels in tree.values()
        for level in levels
    ]
    return tuple(sorted(changes, key=lambda change: change.path))


def _explicit(config: Config) -> dict[str, int | bool]:
    return {field: value for field, value in config.items() if value is not False}


def _is_new_token(job: Job, record: Record) -> bool:
    return job.run_token is not None and job.run_token not in record.run_tokens


def _run(job: Job, record: Record | None, column: Asked, observed: Observation) -> Decision:
    return _spend(ActionKind.RUN, (Verb.RUN,), job, record, column, observed)


def _run_once_over(job: Job, record: Record, column: Asked, observed: Observation) -> Decision:
    """A run beside an active one that is not known to have begun after the one that was aborted.

    To adopt it would take the run that is ending for the one that is asked for, which would never be run.
    """
    decision = _run(job, record, column, observed)
    if is_ending(record, observed):
        why = "that is the run that was aborted, and the new one follows its end"
    else:
        why = "it is not known whether that is the run that was aborted, so the new one follows its end"
    return decision._replace(reason=f"{decision.reason}; {why}", once_over=True)


def _restart(job: Job, record: Record | None, column: Asked, observed: Observation) -> Decision:
    return _spend(ActionKind.RESTART, (Verb.ABORT, Verb.RUN), job, record, column, observed)


def _spend(
    kind: ActionKind, verbs: tuple[Verb, ...], job: Job, record: Record | None, column: Asked, observed: Observation
) -> Decision:
    changes: list[Change] = []
    if record is None or record.state is not Desired.RUNNING:
        changes.append(Change("state", record.state if record else None, Desired.RUNNING))
    if job.run_token is not None and (record is None or _is_new_token(job, record)):
        changes.append(Change("runToken", None, job.run_token))
    told = observed.config if column is Asked.FIRST_RUN and observed.config is not None else None
    before: Config = record.config if record else {}
    if told is not None and kind is ActionKind.RESTART:
        before = {field: told.get(field, type(value)()) for field, value in job.config.items()}
    changes += config_changes(before, job.config)
    reason = _reason(_why(job, record, column, before), words_of(observed))
    return Decision(kind, reason, applied(job, record, Verb.RUN), verbs, tuple(changes))


def _delete(subject: Subject, observed: Observation) -> Decision:
    job, record = subject.job, subject.record
    recorded = record.state if record else None
    unseen = observed.status is Status.NOT_OBSERVED
    if unseen and recorded is Desired.ABSENT:
        return _noop(record, "recorded absent")
    active = observed.status is Status.ACTIVE or (unseen and recorded is Desired.RUNNING)
    was_aborted = is_ending(record, observed)
    verbs = (Verb.ABORT, Verb.DELETE) if active and not was_aborted else (Verb.DELETE,)
    why = "declared absent" if subject.keep else "no longer declared, and --prune was given"
    after = applied(job, record, Verb.DELETE) if subject.keep else None
    changes = (Change("state", recorded, Desired.ABSENT),)
    reason = _reason(why, words_of(observed))
    if was_aborted:
        reason = f"{reason}; that is the run that was aborted, and the delete follows its end"
    return Decision(ActionKind.DELETE, reason, after, verbs, changes, once_over=was_aborted)


def _already_run(decision: Decision, column: Asked, subject: Subject, observed: Observation) -> Decision:
    job, record = subject.job, subject.record
    assert record is not None
    is_older = observed.stands_to(record.submitted_at) is TimeOrder.EARLIER
    seen = "the service tells of an earlier run than the recorded one" if is_older else "run since this was recorded"
    since = f"{seen} (at {observed.submitted_at}, recorded {record.submitted_at or 'as never run'})"
    if column is Asked.NEW_CONFIG and observed.config is not None and agrees(job.config, observed.config, job.ignore):
        return _adopt(subject, f"{since}, with this config; recorded without a call", observed)
    return _hold(
        record,
        f"{since}: ",
        f"{command('resolve', job.name, options=['--applied'])} if that run is the one wanted here, "
        f"the same with `--not-applied` if one more is ({decision.reason})",
        decision.changes,
    )


def _adopt(subject: Subject, reason: str, observed: Observation) -> Decision:
    job, record = subject.job, subject.record
    if not subject.keep:
        return Decision(ActionKind.FORGET, reason, None)
    verb = {Desired.RUNNING: Verb.RUN, Desired.ABORTED: Verb.ABORT, Desired.ABSENT: Verb.DELETE}[job.state]
    after = applied(job, record, verb, observed.run_began)
    if record is not None and after == record._replace(submitted_at=after.submitted_at):
        return _noop(record, reason.replace("; recorded without a call", ""))
    before = record.state if record else None
    changes: tuple[Change, ...] = () if before is after.state else (Change("state", before, after.state),)
    if job.state is Desired.RUNNING:
        changes += config_changes(record.config if record else {}, after.config)
    return Decision(ActionKind.ADOPT, reason, after, changes=changes)


def _noop(record: Record | None, reason: str) -> Decision:
    return Decision(ActionKind.NOOP, reason, record)


def _hold(record: Record | None, why: str, way_out: str, changes: tuple[Change, ...] = ()) -> Decision:
    return Decision(ActionKind.HOLD, why + way_out, record, changes=changes, way_out=way_out)


def _error(record: Record | None, error: str, way_out: str) -> Decision:
    return Decision(ActionKind.HOLD, f"error: {error}{way_out}", record, error=error + way_out, way_out=way_out)


def _why(job: Job, record: Record | None, column: Asked, before: Config | None = None) -> str:
    match column:
        case Asked.FIRST_RUN:
            changes = config_changes(before, job.config) if before else ()
            return show_changes(changes) or "first run"
        case Asked.NEW_CONFIG:
            return show_changes(config_changes(record.config if record else {}, job.config))
        case Asked.RERUN:
            if record is not None and record.state is not Desired.RUNNING:
                return f"state {record.state} → running"
            return f"new runToken {_show(job.run_token)}"
        case Asked.SAME | Asked.ABORTED | Asked.ABSENT:
            return f"declared {job.state}"
    assert_never(column)


def _why_adopt(job: Job, column: Asked, observed: Observation) -> str:
    seen = words_of(observed)
    if column is Asked.NEW_CONFIG:
        return _reason("the new config counts from the next run; recorded without a call", seen)
    if column is Asked.FIRST_RUN:
        return f"already {seen}, and not run again; recorded without a call"
    if observed.status is Status.DRAFT:
        return f"already {seen}, and an abort would delete it; recorded without a call"
    return f"already {seen}; recorded without a call"


def _in_doubt(job: Job, record: Record) -> tuple[str, str]:
    doubt = record.doubt
    assert doubt is not None
    if doubt.holder:
        return (
            f"under way: {doubt.verb} was sent at {doubt.sent_at}, and may still be answered: {doubt.holder}; ",
            "wait for that command to end, and look again",
        )
    sent = f"{doubt.verb} was sent at {doubt.sent_at}"
    return (
        f"in doubt: {sent}, and it is not known whether it was carried out ({doubt.answer}); ",
        f"the next apply checks again, or settle it: {settling(job.name)}",
    )


def words_of(observed: Observation) -> str:
    """An observation in words, with the engine's own word: `active (JOB_STATE_RUNNING)`."""
    if observed.status is Status.NOT_OBSERVED:
        return ""
    said = f"{observed.status} ({observed.word})" if observed.word else str(observed.status)
    return f"{said}: {observed.detail}" if observed.detail and observed.status is Status.FAILED else said


def _reason(why: str, seen: str) -> str:
    return f"{why}; the job is {seen}" if seen else why


def _show(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) and not isinstance(value, StrEnum) else str(value)
