"""The entries of a journal, and what they make of the state that the journal started from. All functions are pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from reconciler.model.errors import StateError
from reconciler.model.jobs import Doubt, Record, State, Target
from reconciler.state import history, json_types, record_json
from reconciler.state.journal import Entry
from reconciler.state.paths import paths_of

_FORMAT_VERSION = 2

_LONGEST_REASON = 500
"""The number of characters of a reason that the journal keeps."""

NO_FILE = "none"
"""A digest in a journal's header that no state file has."""

STARTED_FROM = "began"
"""The field of a header with the digest `NO_FILE`. It holds the digest of the file that the journal really started
from.

A command that could not put its state in place is given again, and finds the same entries by this field.
"""

_NO_ANSWER = "no answer is recorded: the command ended before the answer came"

ANNOUNCED = "announced before an apply that recorded nothing more: it may have been sent, or not"
"""The answer of a call that an apply announced and neither recorded nor concluded."""


class LoadedState(NamedTuple):
    """A state file and its journal, as read from disk.

    `state` has the journal's entries replayed. Where `changed`, its serial is one above that of the file, for the write
    that is still to come. `digest` is the state file's, "" where there is no file. `entries` are the journal's entries
    that the file lacks, None where there is no journal. `unwritten` are the history lines of all the journal's entries,
    of which the history may have some; the first `held` lines are those of the entries that the file has. `stamp` is
    the stamp of the state file (`Disk.stamp`), taken before the file was read. `in_flight` are the jobs of the calls
    that have no result in the journal.
    """

    state: State
    digest: str
    entries: tuple[Entry, ...] | None
    changed: bool
    unwritten: tuple[history.HistoryLine, ...] = ()
    held: int = 0
    stamp: object = None
    in_flight: frozenset[str] = frozenset()

    @property
    def serial_in_place(self) -> int:
        """The serial of the state file on disk."""
        return self.state.serial - self.changed


def match_journal(
    base: State | None, digest: str, entries: list[Entry], path: str
) -> tuple[State, list[Entry], list[Entry]]:
    """The state that a journal starts from, the entries that this state holds already, and the entries that it lacks.

    `base` is the state in the file at `path`, None where there is no file, and `digest` is the file's. Raises
    `StateError` where the journal neither started from this file nor was folded into it.
    """
    header, rest = entries[0], entries[1:]
    if header["format"] != _FORMAT_VERSION:
        raise StateError(
            f"{paths_of(path).journal} has format version {header['format']}, and this reconciler reads "
            f"{_FORMAT_VERSION}",
            "finish its apply with the version of reconciler that began it",
        )
    if base is None and not header["digest"]:
        lineage, engine, endpoint = (
            json_types.text_from_json(header[name]) for name in ("lineage", "engine", "endpoint")
        )
        serial, target = json_types.serial_from_json(header["serial"]), Target(engine, endpoint)
        return State(lineage, serial, target, {}, json_types.runs_from_json(header["last"])), [], rest
    if base is not None and header["lineage"] == base.lineage:
        held = held_count(rest, digest)
        if held:
            return base, rest[:held], lacking(rest, digest)
        if header["digest"] == digest:
            return base, [], rest
    found = "is gone" if base is None else f"is at serial {base.serial} of lineage {base.lineage}"
    raise StateError(
        f"{paths_of(path).journal} holds calls of an unfinished apply that started from serial {header['serial']} "
        f"of lineage {header['lineage']}, but {path} {found}",
        "restore the state file that it started from (git log shows it) and apply again; "
        "or take the file as it is with the journal's records over it: `reconciler state accept`",
    )


def held_count(entries: Sequence[Entry], digest: str) -> int:
    """The number of entries, up to the last checkpoint for the state of this digest, that the state holds."""
    folded = [at for at, e in enumerate(entries, 1) if e["type"] == "checkpoint" and e["digest"] == digest]
    return folded[-1] if folded else 0


def lacking(entries: Sequence[Entry], digest: str) -> list[Entry]:
    """The entries that the state of this digest lacks. Every intent without a result is one of them."""
    held = held_count(entries, digest)
    return [*open_intents(entries[:held]), *entries[held:]]


def header_of(state: State, digest: str) -> dict[str, object]:
    """The header of a journal that starts from this state, whose file has this digest; "" if there is no file.

    Without a file, the header holds the run counts that a new state starts with.
    """
    counts = {} if digest else {"last": dict(state.last)}
    return counts | {
        "type": "header",
        "format": _FORMAT_VERSION,
        "lineage": state.lineage,
        "serial": state.serial,
        "digest": digest,
        "engine": state.target.engine,
        "endpoint": state.target.address,
    }


def started_from(header: Entry) -> object:
    """The digest of the state file that a journal started from, even where `mark_held` changed the header."""
    return header.get(STARTED_FROM, header.get("digest"))


def checkpoint_entry(serial: int, digest: str) -> dict[str, object]:
    """The entry that says that the state of this digest holds all earlier entries."""
    return {"type": "checkpoint", "serial": serial, "digest": digest}


def replayed(
    base: State,
    digest: str,
    entries: Sequence[Entry] | None,
    moved: Callable[[Mapping[str, Record], Mapping[str, str]], dict[str, Record]] | None = None,
) -> LoadedState:
    """A state with a journal's entries replayed over it. `digest` and `entries` are as in `LoadedState`.

    `moved` renames records for a "moves" entry, `renamed` by default. Raises the errors of
    `record_json.record_from_json`.
    """
    jobs, last, identity = dict(base.jobs), dict(base.last), base.identity
    for entry in entries or ():
        if entry["type"] in ("result", "record"):
            record = entry["record"]
            set_record(jobs, last, entry["job"], None if record is None else record_json.record_from_json(record))
        elif entry["type"] == "records":
            for name, record in entry["records"].items():
                set_record(jobs, last, name, record_json.record_from_json(record))
        elif entry["type"] == "moves":
            jobs = (moved or renamed)(jobs, entry["moves"])
        elif entry["type"] == "identity":
            identity = json_types.texts_from_json(entry["identity"])
    unanswered = open_intents(entries or ())
    for entry in unanswered:
        jobs[entry["job"]] = in_doubt(jobs.get(entry["job"]), entry)
    if entries:
        for name in jobs:
            json_types.text_from_json(name)
    changed = (jobs, last, identity) != (base.jobs, base.last, base.identity)
    kept = None if entries is None else tuple(entries)
    state = base._replace(jobs=jobs, last=last, identity=identity, serial=base.serial + changed)
    unwritten = history.stamped(history.history_lines(entries or (), ended=True), state)
    in_flight = frozenset(entry["job"] for entry in unanswered)
    return LoadedState(state, digest, kept, changed, tuple(unwritten), in_flight=in_flight)


def open_intents(entries: Sequence[Entry]) -> list[Entry]:
    """The intents without a result, in order. Intents that were only announced come last."""
    concluded = {entry["op"] for entry in entries if entry["type"] == "result"}
    intents = [e for e in entries if e["type"] == "intent"] + history.announced_in(entries)
    return [e for e in intents if e["doubt"]["op"] not in concluded]


def intent_fields(name: str, job_id: str, doubt: Doubt, reason: str) -> dict[str, object]:
    """The fields of an entry that records a call before the call is sent."""
    return {"job": name, "id": job_id, "doubt": record_json.doubt_to_json(doubt), "reason": reason[:_LONGEST_REASON]}


def in_doubt(record: Record | None, intent: Entry) -> Record:
    """The record of a job, or a new one, with the call of an intent as a call in doubt."""
    doubt = record_json.doubt_from_json(intent["doubt"])
    return (record or Record(intent["id"], None))._replace(doubt=doubt._replace(answer=doubt.answer or _NO_ANSWER))


def renamed(jobs: Mapping[str, Record], moves: Mapping[str, str]) -> dict[str, Record]:
    """The records under their new names. All names change at once, since two jobs may swap their names.

    Raises `ValueError` where two records would get one name.
    """
    moved = {moves.get(name, name): record for name, record in jobs.items()}
    if len(moved) < len(jobs):
        raise ValueError("a record would be moved on top of another")
    return moved


def set_record(jobs: dict[str, Record], last: dict[str, int], name: str, record: Record | None) -> None:
    """Set the record of a job, or remove it where `record` is None. `last` are the run counts, as in `State`."""
    if record is None:
        jobs.pop(name, None)
    else:
        jobs[name] = record
        count_run(last, record)


def count_run(last: dict[str, int], record: Record) -> None:
    """Raise the run count of a record's job to that of the record. A count never decreases."""
    if record.run > last.get(record.id, 0):
        last[record.id] = record.run


def record_fields(name: str, record: Record | None) -> dict[str, object]:
    """The fields of an entry that holds the new record of a job, None where the job has none any more."""
    return {"job": name, "record": None if record is None else record_json.record_to_json(record)}
