"""Notices a state that lacks what its history knows, and brings such a state up to its history.

A session appends to the history once the state file with the same changes is in place. So a kill or a loss of power
never leaves a history that is ahead of its state and journal. A history that knows more shows that an older state was
put back: from a backup, by `git checkout` of that one file, or by a merge that took one side whole. On an engine
without reads, an apply would then give a run id twice, or run a consumed run token or config again.

Such a state is found in two ways. Its serial or one of its run counts is behind the history. Or the history has a
branch with a run whose run token or config the state has not consumed: two branches may have given one number to two
runs. The lines of another lineage count if they are about the same target.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from reconciler.model.commands import command
from reconciler.model.errors import ExitCode, StateError
from reconciler.model.history import ACCEPT, APPLIED, FORGET, NOT_APPLIED, HistoryEntry
from reconciler.model.jobs import Desired, Job, Record, State, Verb, displaced_key
from reconciler.rules.records import applied
from reconciler.rules.reruns import text_of
from reconciler.state.history import HistoryLine, read
from reconciler.state.links import branches_of, is_canonical, latest_lines

_SERIAL = re.compile(rb'"serial"\s*:\s*(\d{1,300})')
_RUN = re.compile(rb'"run"\s*:\s*(\d{1,300})')
_ID = re.compile(rb'"id"\s*:\s*"([^"\\]*)"')
"""Fields of a line. Within a text of the line, the quotes would have a backslash."""

_DONE = ("succeeded", APPLIED)
_NEVER = ("failed", NOT_APPLIED)


class RolledBack(StateError):
    """A state that is older than one that was written from this machine, or that lacks what its history knows."""

    exit_code = ExitCode.REFUSED

    def __init__(self, message: str) -> None:
        super().__init__(
            message,
            "bring the newer one back (git pull, git checkout); if the older one is meant, look it through and take "
            f"it: {command('state accept')}",
        )


class Unknown(NamedTuple):
    """What a history knows and a state does not.

    `last` maps engine job ids to the number of a later run. `runs` are the entries of runs whose run tokens and configs
    the state has not consumed, the earliest run of a job first.
    """

    last: Mapping[str, int]
    runs: Sequence[HistoryEntry]


def refuse_older_than_history(state: State, content: bytes, path: str, where: str) -> None:
    """Raise `RolledBack` if a history tells of a later serial than the state has, or of a run that the state lacks.

    `state` has its journal replayed. `path` is its path, and `content` the history at the path `where`. Only the latest
    lines count, and only those of the state's lineage or target. A line about an accepted or pushed state does not
    count: it is written before that state is in place.
    """
    lines = latest_lines(content)
    told = _about(state, _entries(line for line in lines if _may_tell_more(line, state)))
    own = (entry.serial for entry in told if entry.verb != ACCEPT and entry.lineage == state.lineage)
    newest = max(own, default=0)
    if newest > state.serial:
        raise RolledBack(
            f"{path} is older than its history: it is at serial {state.serial}, and {where} tells of serial {newest}"
        )
    for entry in told:
        if entry.outcome in _DONE and entry.run > state.last.get(entry.id, 0):
            raise RolledBack(
                f"{path} is older than its history: it is at serial {state.serial} and has "
                f"{_run_words(state.last.get(entry.id, 0))} of {entry.job}, and {where} tells of its run {entry.run}, "
                f"at serial {entry.serial}"
            )
    for branch in branches_of(lines):
        for entry in _unconsumed(state, _with_calls(_about(state, _entries(branch)), lines)):
            by = "" if entry.run_token is None else f" by the run token {entry.run_token}"
            raise RolledBack(
                f"{path} lacks a run that its history tells of: {where} tells of a run {entry.run} of {entry.job}{by}, "
                f"at serial {entry.serial}, on another branch than the state was written on"
            )


def gap_of(state: State, content: bytes, where: str, unwritten: Iterable[HistoryLine]) -> str:
    """Why a later rollback of a state would not be noticed, in words; "" if it would be.

    `state` is the one in the state file, `content` the history at the path `where`, and `unwritten` the lines of the
    journal, which the history may lack.
    """
    if not content.strip():
        return f"{where} is missing, empty or unreadable"
    lines = latest_lines(content)
    _, damaged = read(b"\n".join(line for line in lines if not is_canonical(line)))
    if damaged:
        return f"{where} has {f'{len(damaged)} unreadable lines' if damaged[1:] else 'an unreadable line'}"
    if any(line.get("lineage") == state.lineage and line.get("serial", 0) >= state.serial for line in unwritten):
        return ""
    for line in reversed(lines):
        if any(int(serial) >= state.serial for serial in _SERIAL.findall(line)):
            for entry in _entries([line]):
                if entry.lineage == state.lineage and entry.serial >= state.serial:
                    return ""
    return f"{where} ends before serial {state.serial} of the state"


def unknown_to(state: State, entries: Sequence[HistoryEntry]) -> Unknown:
    """What the entries of a history, in the order of its lines, tell of runs that the state does not count.

    Calls that were not carried out do not count. A call that is in doubt in the state is left to be settled there.
    """
    about = _about(state, entries)
    never = _never(about)
    doubts = {record.id: record.doubt for record in state.jobs.values() if record.doubt is not None}
    last: dict[str, int] = {}
    for entry in about:
        doubt = doubts.get(entry.id)
        is_open = doubt is not None and entry.outcome not in _DONE and doubt.run == entry.run
        is_run = entry.outcome in _DONE or (entry.outcome not in _NEVER and entry.op not in never)
        if entry.id and is_run and not is_open and entry.run > max(state.last.get(entry.id, 0), last.get(entry.id, 0)):
            last[entry.id] = entry.run
    return Unknown(last, sorted(_unconsumed(state, about), key=lambda entry: entry.run))


def brought_up(state: State, unknown: Unknown) -> tuple[State, list[str]]:
    """The state with the runs that only its history knows, and remarks if there are any.

    The run tokens and the configs of these runs are consumed. The record of a job with a later run is that of this run;
    when the run began, and how it ended, is not known then. A job without a record gets one, so that it does not count
    as never run. A later run whose line has no config only raises the run count. A call in doubt stays in doubt.
    """
    jobs, last = dict(state.jobs), dict(state.last) | dict(unknown.last)
    key_of = {record.id: key for key, record in jobs.items()}
    for entry in unknown.runs:
        key = key_of.get(entry.id)
        if key is None:
            name = entry.job or entry.id
            key = key_of[entry.id] = displaced_key(name, entry.id) if name in jobs else name
        jobs[key] = _after(jobs.get(key), entry)
        last[entry.id] = max(last.get(entry.id, 0), entry.run)
    return state._replace(jobs=jobs, last=last), _words(unknown, state)


def lineage_remarks(state: State, told: Sequence[HistoryEntry]) -> list[str]:
    """A remark where the history has lineages, and that of the state is not one of them."""
    lineages = dict.fromkeys(entry.lineage for entry in told if entry.lineage)
    if not lineages or state.lineage in lineages:
        return []
    *_, latest = lineages
    return [f"the lineage of the state is {state.lineage!r}, and its history is of the lineage {latest}"]


def _after(record: Record | None, entry: HistoryEntry) -> Record:
    """The record of a job after a run that it lacks."""
    config = entry.config or {}
    job = Job(entry.job, entry.id, Desired.RUNNING, config, entry.run_token)
    after = applied(job, record, Verb.RUN, None, entry.run, config)
    if record is None:
        return after
    if entry.run <= record.run:
        # Another run has this number, or a later one. The record stays that of its own run.
        after = record._replace(run_tokens=after.run_tokens, ran_configs=after.ran_configs)
    is_settled = record.doubt is not None and record.doubt.op == entry.op
    return after._replace(doubt=None if is_settled else record.doubt)


def _about(state: State, entries: Iterable[HistoryEntry]) -> list[HistoryEntry]:
    """The entries of the state's lineage, and the runs of other lineages on the target of the state."""
    return [entry for entry in entries if entry.lineage == state.lineage or entry.target == state.target]


def _unconsumed(state: State, entries: Sequence[HistoryEntry]) -> list[HistoryEntry]:
    """The entries of the runs whose run token or config the state has not consumed."""
    records = {record.id: record for record in state.jobs.values()}
    return [entry for entry in _runs_in(entries) if not _is_consumed(state, records.get(entry.id), entry)]


def _is_consumed(state: State, record: Record | None, entry: HistoryEntry) -> bool:
    """Whether a state counts a run. A record that was dropped or forgotten leaves nothing but its run count."""
    if record is None:
        return entry.run <= state.last.get(entry.id, 0)
    doubt = record.doubt
    if doubt is not None and doubt.verb is Verb.RUN and entry.outcome not in _DONE:
        # The call in doubt may have been sent several times. Each time has an operation id of its own.
        is_open = entry.op == doubt.op or (entry.run, entry.run_token) == (doubt.run, doubt.run_token)
        if is_open:
            return True
    has_token = entry.run_token is None or entry.run_token in record.run_tokens
    return has_token and text_of(entry.config or {}) in record.ran_configs


def _runs_in(entries: Sequence[HistoryEntry]) -> list[HistoryEntry]:
    """The runs that these entries tell of, and that may have been carried out, one entry for each.

    A job that was forgotten or deleted begins anew: its earlier runs are left out.
    """
    never, runs = _never(entries), dict[str, HistoryEntry]()
    for entry in entries:
        is_gone = entry.verb == FORGET or (entry.verb == Verb.DELETE and entry.outcome in _DONE)
        if is_gone:
            runs = {op: run for op, run in runs.items() if run.id != entry.id}
        elif entry.outcome == APPLIED and entry.op in runs:
            runs[entry.op] = runs[entry.op]._replace(outcome=APPLIED)
        elif entry.run and entry.verb == Verb.RUN and entry.config is not None and entry.op not in never:
            runs[entry.op] = entry
    return list(runs.values())


def _never(entries: Iterable[HistoryEntry]) -> frozenset[str]:
    """The operation ids of calls that were not carried out. A call that was settled in both ways may have been."""
    settled: dict[str, set[str]] = {APPLIED: set(), NOT_APPLIED: set()}
    for entry in entries:
        if entry.settles:
            settled[entry.outcome].add(entry.op)
    return frozenset(settled[NOT_APPLIED] - settled[APPLIED])


def _with_calls(branch: Sequence[HistoryEntry], lines: Sequence[bytes]) -> list[HistoryEntry]:
    """The entries of a branch, after those of the calls that the branch settles and that were sent before it began."""
    sent = {entry.op for entry in branch if not entry.settles}
    before = [entry.op.encode() for entry in branch if entry.outcome == APPLIED and entry.op not in sent]
    if not before:
        return list(branch)
    calls = _entries(line for line in lines if any(op in line for op in before))
    return [*(entry for entry in calls if not entry.settles), *branch]


def _entries(lines: Iterable[bytes]) -> list[HistoryEntry]:
    return [line.entry for line in read(b"\n".join(lines))[0]]


def _may_tell_more(line: bytes, state: State) -> bool:
    """Whether any field of a line, also one within a config, has a number that the state does not have.

    Most lines are told apart without reading them as JSON, which would take ten times as long.
    """
    if not is_canonical(line) or any(int(serial) > state.serial for serial in _SERIAL.findall(line)):
        return True
    runs = _RUN.findall(line)
    if not runs:
        return False
    ids = _ID.findall(line)
    known = state.last.get(ids[0].decode("utf-8", "replace"), 0) if len(ids) == 1 else 0
    return any(int(run) > known for run in runs)


def _words(unknown: Unknown, state: State) -> list[str]:
    """The remarks on what was unknown to the state."""
    later = {*unknown.last, *(entry.id for entry in unknown.runs if entry.run > state.last.get(entry.id, 0))}
    others = {entry.id for entry in unknown.runs} - later
    remarks = []
    if later:
        remarks.append(
            f"the history tells of later runs of {_named(later)}: they count as run, and their run ids are not used "
            "again; look at these jobs"
        )
    if others:
        remarks.append(
            f"the history tells of other runs of {_named(others)}: their run tokens and configs count as used; look at "
            "these jobs"
        )
    return remarks


def _named(ids: Iterable[str]) -> str:
    named = sorted(ids)
    return ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")


def _run_words(run: int) -> str:
    return f"run {run}" if run else "no run"
