"""Notices a state that lacks what its history knows, and brings such a state up to its history.

A session appends to the history once the state file with the same changes is in place. So a kill or a loss of power
never leaves a history that is ahead of its state and journal. A history that knows more shows that an older state was
put back: from a backup, by `git checkout` of that one file, or by a merge that took one side whole. On an engine
without reads, an apply would then give a run id twice, or run a consumed run token or config again.

Such a state is found in two ways. Its serial or one of its run counts is behind the history. Or the history tells of a
run whose run token or config the state has not consumed, although the state counts a run of this number: two branches
gave one number to two runs. The lines of another lineage count if they are about the same target.
"""

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from reconciler.model.commands import command
from reconciler.model.errors import ExitCode, StateError
from reconciler.model.history import ACCEPT, ADOPT, APPLIED, FORGET, NOT_APPLIED, HistoryEntry
from reconciler.model.jobs import Desired, Doubt, Job, Record, State, Verb, displaced_key
from reconciler.model.json_values import same_json
from reconciler.rules.records import applied, without_old_doubt
from reconciler.rules.reruns import text_of
from reconciler.state.history import HistoryLine, encode, read
from reconciler.state.links import is_canonical, latest_lines
from reconciler.state.paths import paths_of

_SERIAL = re.compile(rb'"serial"\s*:\s*(\d{1,300})')
_RUN = re.compile(rb'"run"\s*:\s*(\d{1,300})')
_TOKEN = re.compile(rb'"runToken"\s*:\s*"([^"\\]*)"')
_ID = re.compile(rb'"id"\s*:\s*"([^"\\]*)"')
"""Fields of a line. Within a text of the line, the quotes would have a backslash."""

_DONE = ("succeeded", APPLIED)


class RolledBack(StateError):
    """A state that is older than one that was written from this machine, or that lacks what its history knows."""

    exit_code = ExitCode.REFUSED

    def __init__(self, message: str, path: str = "", newer: str = "") -> None:
        """`path` is that of the state, if it is a file. `newer` is that of the newer state, if it is another file."""
        back = "bring the newer one back"
        if path:
            file, history = shlex.quote(path), shlex.quote(paths_of(path).history)
            back += (
                f": `git pull`, or `git checkout COMMIT -- {file} {history}` (`git log -- {file}` shows the commits)"
            )
        back += f"; or go on with {newer}" if newer else ""
        self.newer = newer
        super().__init__(
            message, f"{back}; if the older one is meant, look it through and take it: {command('state accept')}"
        )


class Unknown(NamedTuple):
    """What a history knows and a state does not.

    `last` maps engine job ids to the number of a later run. `runs` are the entries of runs whose run tokens and configs
    the state has not consumed, the earliest run of a job first.
    """

    last: Mapping[str, int]
    runs: Sequence[HistoryEntry]


def refuse_older_than_history(
    state: State, content: bytes, path: str, where: str, unwritten: Sequence[HistoryLine] = (), *, file: str = ""
) -> None:
    """Raise `RolledBack` if a history tells of a later serial than the state has, or of a run that the state lacks.

    `state` has its journal replayed, and `unwritten` are the lines of the journal, which the history may lack. `path`
    is what messages call the state, and `file` its path if it is a file. `content` is the history at the path `where`.
    Only the latest lines count, and only those of the state's lineage or target. A line about an accepted or pushed
    state does not count: it is written before that state is in place.
    """
    lines = [*latest_lines(content), *(encode(line, ()) for line in unwritten)]
    told = _about(state, _entries(line for line in lines if _may_tell_more(line, state)))
    own = (entry.serial for entry in told if entry.verb != ACCEPT and entry.lineage == state.lineage)
    newest = max(own, default=0)
    if newest > state.serial:
        raise RolledBack(
            f"{path} is older than its history: it is at serial {state.serial}, and {where} tells of serial {newest}",
            file,
        )
    for entry in told:
        if entry.id and entry.outcome in _DONE and entry.run > state.last.get(entry.id, 0):
            raise RolledBack(
                f"{path} is older than its history: it is at serial {state.serial} and has "
                f"{_run_words(state.last.get(entry.id, 0))} of {entry.job}, and {where} tells of its run {entry.run}, "
                f"at serial {entry.serial}",
                file,
            )
    ids = _ids_in_question(lines, state)
    entries = _about(state, _entries(line for line in lines if _may_be_about(line, ids))) if ids else []
    for entry in _lacking(state, entries):
        by = "" if entry.run_token is None else f" by the run token {entry.run_token}"
        raise RolledBack(
            f"{path} lacks a run that its history tells of: {where} tells of a run {entry.run} of {entry.job}{by}, at "
            f"serial {entry.serial}, which the state has not counted",
            file,
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
    """What the entries of a history tell of runs that the state does not count. Their order does not matter.

    Calls that were not carried out do not count. A call that is in doubt in the state is left to be settled there.
    """
    about = _about(state, entries)
    runs = _lacking(state, about)
    last: dict[str, int] = {}
    for entry in (*runs, *(entry for entry in about if entry.id and entry.outcome in _DONE)):
        if entry.run > max(state.last.get(entry.id, 0), last.get(entry.id, 0)):
            last[entry.id] = entry.run
    return Unknown(last, runs)


def unknown_to_new(state: State, entries: Sequence[HistoryEntry]) -> Unknown:
    """As `unknown_to`, for a state that takes the place of a lost one. `entries` are in the order of the history.

    The state lacks every run whose number is above the run count that it has. A job without a record that was deleted
    or forgotten after its last run gets none, but its run ids stay used.
    """
    unknown = unknown_to(state, entries)
    gone = _gone(entries) - {record.id for record in state.jobs.values()}
    return unknown._replace(runs=[run for run in unknown.runs if run.id not in gone])


def _gone(entries: Sequence[HistoryEntry]) -> set[str]:
    """The engine job ids of the jobs that were forgotten or deleted after their last run, as a history tells."""
    gone = set[str]()
    for entry in entries:
        if entry.verb == Verb.RUN:
            gone.discard(entry.id)
        elif _is_end_of_record(entry):
            gone.add(entry.id)
    return gone


def brought_up(state: State, unknown: Unknown) -> tuple[State, list[str]]:
    """The state with the runs that only its history knows, and remarks if there are any.

    The run tokens and the configs of these runs are consumed. The record of a job with a later run is that of this run;
    when the run began, and how it ended, is not known then. A job without a record gets one, so that it does not count
    as never run. A later run whose line has no config only raises the run count. A call in doubt stays in doubt.
    """
    jobs, last = dict(state.jobs), dict(state.last)
    last.update({job_id: max(run, last.get(job_id, 0)) for job_id, run in unknown.last.items()})
    key_of = {record.id: key for key, record in jobs.items()}
    for entry in unknown.runs:
        key = key_of.get(entry.id)
        if key is None:
            name = entry.job or entry.id
            key = key_of[entry.id] = displaced_key(name, entry.id) if name in jobs else name
        jobs[key] = _after(jobs.get(key), entry, is_latest=entry.run == last[entry.id])
    return state._replace(jobs=jobs, last=last), _words(unknown, state)


def lineage_remarks(state: State, told: Sequence[HistoryEntry]) -> list[str]:
    """A remark where the history has lineages, and that of the state is not one of them."""
    lineages = dict.fromkeys(entry.lineage for entry in told if entry.lineage)
    if not lineages or state.lineage in lineages:
        return []
    *_, latest = lineages
    return [f"the lineage of the state is {state.lineage!r}, and its history is of the lineage {latest}"]


def _after(record: Record | None, entry: HistoryEntry, *, is_latest: bool) -> Record:
    """The record of a job after a run that it lacks. `is_latest` says whether no run of the job has a higher number."""
    config = entry.config or {}
    job = Job(entry.job, entry.id, Desired.RUNNING, config, entry.run_token)
    after = applied(job, record, Verb.RUN, None, entry.run, config)
    if record is None:
        return after
    doubt = None if record.doubt is not None and record.doubt.op == entry.op else record.doubt
    if record.state is Desired.RUNNING and entry.run <= record.run:
        # Nobody knows which of two runs of one number is the later one. With another config, a person has to say.
        if doubt is None and is_latest and not same_json(config, record.config):
            doubt = _doubt_about(entry)
        after = record._replace(run_tokens=after.run_tokens, ran_configs=after.ran_configs)
    return without_old_doubt(after._replace(doubt=doubt))


def _doubt_about(entry: HistoryEntry) -> Doubt:
    """The doubt about the run of another branch that has the number of the recorded run."""
    words = "the history tells of it, beside the recorded run of this number"
    config, commit = entry.config or {}, entry.commit or ""
    return Doubt(entry.op, Verb.RUN, config, entry.run_token, None, entry.at, words, run=entry.run, commit=commit)


def _about(state: State, entries: Iterable[HistoryEntry]) -> list[HistoryEntry]:
    """The entries of the state's lineage, and those of other lineages about jobs on the target of the state."""
    return [entry for entry in entries if entry.lineage == state.lineage or entry.target == state.target]


def _lacking(state: State, entries: Sequence[HistoryEntry]) -> list[HistoryEntry]:
    """The entries of the runs that the state lacks, the earliest one of a job first.

    The state lacks a run whose number is above the run count of the job. It also lacks a run whose run token or config
    is not consumed, if the number is that of the recorded run, or of two runs. Other earlier runs may be of a record
    that was dropped.
    """
    records = {record.id: record for record in state.jobs.values()}
    runs = _runs_in(entries, state.last)
    times = Counter((run.id, run.run) for run in runs)

    def is_lacking(run: HistoryEntry) -> bool:
        record = records.get(run.id)
        if record is not None and _is_open(record, run):
            return False
        if run.run > state.last.get(run.id, 0):
            return True
        if record is None or (times[run.id, run.run] == 1 and run.run != record.run):
            return False
        return not _is_consumed(record, run)

    return sorted(filter(is_lacking, runs), key=lambda run: run.run)


def _is_consumed(record: Record, run: HistoryEntry) -> bool:
    """Whether the run token and the config of a run are consumed."""
    has_token = run.run_token is None or run.run_token in record.run_tokens
    return has_token and text_of(run.config or {}) in record.ran_configs


def _is_open(record: Record, run: HistoryEntry) -> bool:
    """Whether a run is in doubt in a record, and in the history too."""
    doubt = record.doubt
    if doubt is None or doubt.verb is not Verb.RUN or run.outcome in _DONE:
        return False
    return _asked(run) == _Asked(record.id, doubt.run, doubt.run_token, text_of(doubt.config))


class _Asked(NamedTuple):
    """What all calls for one run have in common. A run in doubt may be sent several times, each under its own `op`."""

    id: str
    run: int
    token: str | None
    config: str


def _asked(entry: HistoryEntry) -> _Asked:
    return _Asked(entry.id, entry.run, entry.run_token, text_of(entry.config or {}))


def _is_end_of_record(entry: HistoryEntry) -> bool:
    """Whether a job begins anew with this entry: it was forgotten, deleted, or seen to be gone."""
    if entry.verb == Verb.DELETE:
        return entry.outcome in _DONE
    return entry.verb in (ADOPT, FORGET) and not entry.run


def _runs_in(entries: Sequence[HistoryEntry], last: Mapping[str, int]) -> list[HistoryEntry]:
    """The runs that these entries tell of, and that may have been carried out: one entry for each, in their order.

    A job that was forgotten, deleted or seen to be gone begins anew: its runs of earlier serials are left out. A run
    that was carried out stays if its number is above the run count of the job (`last`): another branch had it.
    """
    runs: dict[_Asked, HistoryEntry] = {}
    asked: dict[str, _Asked] = {}
    settled: dict[str, set[str]] = {APPLIED: set(), NOT_APPLIED: set()}
    anew: dict[tuple[str, str], int] = {}
    for entry in entries:
        if entry.settles:
            settled[entry.outcome].add(entry.op)
        elif entry.id and entry.run and entry.verb == Verb.RUN and entry.config is not None:
            key = asked[entry.op] = _asked(entry)
            if key not in runs or entry.outcome in _DONE:
                runs[key] = entry
        if _is_end_of_record(entry):
            about = entry.lineage, entry.id
            anew[about] = max(anew.get(about, 0), entry.serial)
    done = {asked[op] for op in settled[APPLIED] if op in asked}
    never = {asked[op] for op in settled[NOT_APPLIED] if op in asked}
    found = []
    for key, first in runs.items():
        run = first._replace(outcome=APPLIED) if key in done else first
        is_later = run.outcome in _DONE and run.run > last.get(run.id, 0)
        is_of_this_life = is_later or run.serial >= anew.get((run.lineage, run.id), 0)
        if is_of_this_life and (run.outcome in _DONE or key not in never):
            found.append(run)
    return found


def _ids_in_question(lines: Iterable[bytes], state: State) -> frozenset[bytes]:
    """The ids of the engine jobs of which the state may lack a run.

    The lines are told apart without reading them as JSON, as in `_may_tell_more`.
    """
    records = {record.id: record for record in state.jobs.values()}
    seen: set[tuple[bytes, bytes]] = set()
    found: set[bytes] = set()
    for line in lines:
        if b'"config"' not in line:
            continue
        ids, runs, tokens = _ID.findall(line), _RUN.findall(line), _TOKEN.findall(line)
        if len(ids) != 1 or len(runs) != 1 or len(tokens) > 1:
            found.update(ids)  # a field within the config has such a name
            continue
        key = ids[0], runs[0]
        job_id, run = ids[0].decode("utf-8", "replace"), int(runs[0])
        record = records.get(job_id)
        is_known = record is None or run != record.run or _is_quickly_consumed(line, record, tokens)
        if key in seen or not is_known or run > state.last.get(job_id, 0):
            found.add(ids[0])
        seen.add(key)
    return frozenset(found)


def _may_be_about(line: bytes, ids: frozenset[bytes]) -> bool:
    """Whether a line may be about one of these engine jobs. A line that settles a call names the call alone."""
    named = _ID.findall(line)
    return not named or not ids.isdisjoint(named)


def _is_quickly_consumed(line: bytes, record: Record, tokens: Sequence[bytes]) -> bool:
    """Whether a record has consumed the run of a line, by the bytes of the line. False says nothing."""
    begin, end = line.find(b'"config":') + len(b'"config":'), line.find(b',"id":"')
    config = line[begin:end].decode("utf-8", "replace")
    return config in record.ran_configs and all(
        token.decode("utf-8", "replace") in record.run_tokens for token in tokens
    )


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
