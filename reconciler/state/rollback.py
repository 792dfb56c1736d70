"""Notices a state that was rolled back, and brings such a state up to what its history knows.

A session appends to the history once the state file with the same changes is in place. So a kill or a loss of power
never leaves a history that is ahead of its state and journal. A history that is ahead shows that an older state was
put back: from a backup, by `git checkout` of that one file, or by a merge that took one side whole. On an engine
without reads, an apply would then give a run id twice, or run a consumed run token or config again.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from reconciler.model.commands import command
from reconciler.model.errors import ExitCode, StateError
from reconciler.model.history import ACCEPT, APPLIED, NOT_APPLIED, HistoryEntry
from reconciler.model.jobs import Desired, Job, Record, State, Verb, displaced_key
from reconciler.rules.records import applied
from reconciler.state.history import read

_LATEST_BYTES = 1 << 22
"""The size of the part of a history that is looked at: about ten thousand lines."""

_SERIAL = re.compile(rb',"serial":(\d{1,18})[,}]')
_RUN = re.compile(rb',"run":(\d{1,18})[,}]')
_ID = re.compile(rb',"id":"([\w.-]+)"')
"""Fields of a line. Within a text of the line, the quotes would have a backslash."""

_DONE = ("succeeded", APPLIED)
_NEVER = ("failed", NOT_APPLIED)


class RolledBack(StateError):
    """A state that is older than one that was written from this machine, or than its own history."""

    exit_code = ExitCode.REFUSED

    def __init__(self, message: str) -> None:
        super().__init__(
            message,
            "bring the newer one back (git pull, git checkout); if the older one is meant, look it through and take "
            f"it: {command('state accept')}",
        )


def refuse_older_than_history(state: State, content: bytes, path: str, where: str) -> None:
    """Raise `RolledBack` if a history tells of a later serial, or of a later run of a job, than the state has.

    `state` has its journal replayed. `path` is its path, and `content` the history at the path `where`. Only the latest
    lines of the state's lineage count. A line about an accepted or pushed state does not count: it is written before
    that state is in place.
    """
    lines, _ = read(_suspicious(state, content))
    told = [line.entry for line in lines if line.entry.lineage == state.lineage]
    newest = max((entry.serial for entry in told if entry.verb != ACCEPT), default=0)
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


def later_runs(state: State, entries: Iterable[HistoryEntry]) -> dict[str, list[HistoryEntry]]:
    """The entries about runs that the state does not count, by engine job id; the earliest run comes first.

    Calls that were not carried out do not count. A call that is in doubt in the state is left to be settled there.
    """
    entries = list(entries)
    never = {entry.op for entry in entries if entry.outcome == NOT_APPLIED}
    bearing = {entry.op: entry for entry in entries if entry.config is not None}
    doubts = {record.id: record.doubt for record in state.jobs.values() if record.doubt is not None}
    found: dict[str, list[HistoryEntry]] = {}
    for entry in entries:
        doubt = doubts.get(entry.id)
        is_open = doubt is not None and entry.outcome not in _DONE and doubt.run == entry.run
        is_run = entry.run > state.last.get(entry.id, 0) and entry.outcome not in _NEVER and entry.op not in never
        if entry.id and is_run and not is_open:
            # The line that settles a call in doubt bears no config. The line of that call does.
            found.setdefault(entry.id, []).append(entry if entry.config is not None else bearing.get(entry.op, entry))
    return {job_id: sorted(runs, key=lambda entry: entry.run) for job_id, runs in found.items()}


def brought_up(state: State, runs: Mapping[str, Sequence[HistoryEntry]]) -> tuple[State, list[str]]:
    """The state with the later runs that its history tells of (`later_runs`), and a remark if there are any.

    The record of each of these jobs is that of its latest run, with all run tokens and configs that the runs consumed.
    A job without a record gets one, so that it does not count as never run. When a run began, and how it ended, is not
    known then. A run whose line has no config only raises the run count.
    """
    if not runs:
        return state, []
    jobs, last = dict(state.jobs), dict(state.last)
    key_of = {record.id: key for key, record in jobs.items()}
    for job_id, entries in runs.items():
        last[job_id] = max(entry.run for entry in entries)
        key = key_of.get(job_id, "")
        record = _after(jobs.get(key), entries)
        if record is not None:
            name = entries[-1].job or job_id
            jobs[key or (displaced_key(name, job_id) if name in jobs else name)] = record
    return state._replace(jobs=jobs, last=last), [_later_words(runs)]


def _after(record: Record | None, runs: Sequence[HistoryEntry]) -> Record | None:
    """The record of a job after these runs."""
    for entry in runs:
        if entry.config is not None:
            job = Job(entry.job, entry.id, Desired.RUNNING, entry.config, entry.run_token)
            record = applied(job, record, Verb.RUN, None, entry.run, entry.config)
    return record


def _suspicious(state: State, content: bytes) -> bytes:
    """The latest lines of a history that may have a later serial or a later run than the state.

    Most lines are told apart without reading them as JSON, which would take ten times as long.
    """
    cut = max(0, len(content) - _LATEST_BYTES)
    lines = content[cut and content.find(b"\n", cut) + 1 :].split(b"\n")
    return b"\n".join(line for line in lines if _may_tell_more(line, state))


def _may_tell_more(line: bytes, state: State) -> bool:
    """Whether any field of a line, also one within a config, has a number that the state does not have."""
    if any(int(serial) > state.serial for serial in _SERIAL.findall(line)):
        return True
    runs, ids = _RUN.findall(line), _ID.findall(line)
    known = state.last.get(ids[0].decode(), 0) if len(ids) == 1 else 0
    return any(int(run) > known for run in runs)


def _later_words(runs: Mapping[str, Sequence[HistoryEntry]]) -> str:
    named = sorted(runs)
    words = ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
    return (
        f"the history tells of later runs of {words}: they count as run, and their run ids are not used again; "
        "look at these jobs"
    )


def _run_words(run: int) -> str:
    return f"run {run}" if run else "no run"
