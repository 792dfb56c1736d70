"""The history beside the state: one JSON line for each entry. Lines are appended when the journal is folded.

The journal holds everything that a line needs. It is cut only after the lines are on disk. After a crash, the lines
that are already there are recognized by their `op`, so each entry has one line.

A line names the lines before it by their checksums (`after`), as a git commit names its parents. The order of the lines
does not matter: a line that was removed or changed is missed by the line that names it. Two branches whose histories
were merged have two ends, and the next line names both.

Every append replaces the whole file, because a write that loses power may damage a whole sector, and the sector may
hold older lines. This takes about as long as `git add` takes for the file.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from reconciler.host.disk import Disk, replace
from reconciler.model.errors import StateError
from reconciler.model.history import ACCEPT, NOT_APPLIED, NOTE, Details, HistoryEntry, Origin
from reconciler.model.jobs import State, Target, Verb
from reconciler.state.journal import Entry
from reconciler.state.json_types import has_sane_counts
from reconciler.state.links import MOST_ENDS, checksum_of, ends_of, latest_lines
from reconciler.state.record_json import target_from_json, target_to_json

HistoryLine = dict[str, Any]
"""The JSON object of one line, without `after`."""

ATTRIBUTE = "*.history.jsonl merge=union"
"""The line of .gitattributes with which git merges two histories."""

_MOST_REPLACEMENTS = 10
"""The number of tries to write a history that other programs keep replacing."""

_TEXT_BYTES = 2048
"""The size to which a text in a result is cut.

Three such texts, a request id and the names of all fields, twice, fit into `journal.RESERVE_BYTES`.
"""

_CONFLICT = rb"(<{7}|={7}|>{7}|\|{7})( |$)"


class StoredLine(NamedTuple):
    """A line of a history file: its number from 1, its checksum, the checksums that it names, and its entry."""

    number: int
    checksum: str
    after: Sequence[str]
    entry: HistoryEntry

    @property
    def key(self) -> tuple[str, bool]:
        """The identity of the entry. No two lines of a sound history have the same key."""
        return self.entry.op, self.entry.settles


class StoredHistory(NamedTuple):
    """A history file, and what the journal adds to it.

    `where` is its place in words, and `content` its bytes, b"" where there is no file. `unwritten` are lines of the
    journal, which the file may lack. `state` is the state after these lines, None where there is none. `trouble` says
    why the state could not be read, "" where it could.
    """

    where: str
    content: bytes
    unwritten: Sequence[HistoryLine] = ()
    state: State | None = None
    trouble: str = ""

    @property
    def entries(self) -> list[HistoryEntry]:
        """The readable entries, oldest first. An entry that two lines hold is there once."""
        found = {one.key: one.entry for one in read(self.content)[0]}
        for line in self.unwritten:
            entry = entry_of(line)
            if entry is not None:
                found.setdefault((entry.op, entry.settles), entry)
        return sorted(found.values(), key=lambda entry: entry.at)


def run_counts(entries: Iterable[HistoryEntry]) -> dict[str, int]:
    """The number of the last run of each job, by its engine job id, as far as a history tells.

    Calls that were not carried out do not count. A new state starts with these counts, so that no run id comes twice.
    """
    last: dict[str, int] = {}
    for entry in entries:
        if entry.run > last.get(entry.id, 0) and entry.outcome not in ("failed", NOT_APPLIED):
            last[entry.id] = entry.run
    return last


def append(disk: Disk, path: str, mode: int, lines: Sequence[HistoryLine], *, again: bool = False) -> None:
    """Append lines to the history at `path`, and return once they are on disk.

    `mode` is for a new file. With `again`, lines that the file already has are left out. Unreadable lines stay in the
    file, since no call should wait until a person mends a history. Where another program replaces the file meanwhile,
    the lines are appended to the new file. Raises `OSError`, and `StateError` where the file can't be read or is
    replaced again and again.
    """
    for _ in range(_MOST_REPLACEMENTS):
        try:
            _append_once(disk, path, mode, lines, again=again)
        except _Replaced:
            again = True
        else:
            return
    raise StateError(f"{path} is replaced all the time", "stop what replaces the file, and run the command again")


class _Replaced(Exception):
    """Another program replaced the history while this command wrote a new one."""


def _append_once(disk: Disk, path: str, mode: int, lines: Sequence[HistoryLine], *, again: bool) -> None:
    stamp = disk.stamp(path)
    content = disk.read(path) or b""

    def refuse_replaced() -> None:
        if disk.stamp(path) != stamp:
            raise _Replaced

    if again:
        keys = {one.key for one in read(content)[0]}
        lines = [line for line in lines if _key(line) not in keys]
        if not lines:
            disk.sync_folder(path)  # The command that wrote the lines may have ended before this step.
            return
    after = ends_of(latest_lines(content))[-MOST_ENDS:]
    new = []
    for line in lines:
        text = encode(line, after)
        new.append(text)
        after = [checksum_of(text)]
    gap = b"\n" if content and not content.endswith(b"\n") else b""
    whole = content + gap + b"".join(text + b"\n" for text in new)
    replace(disk, path, whole, disk.mode(path) or mode, refuse_replaced)


def encode(line: HistoryLine, after: Sequence[str]) -> bytes:
    """The bytes of one line, without a line end. `after` are the checksums of the lines before it."""
    return json.dumps({**line, "after": list(after)}, sort_keys=True, separators=(",", ":")).encode()


def read(content: bytes) -> tuple[list[StoredLine], list[int]]:
    """The lines of a history in the order of the file, and the numbers (from 1) of the lines that can't be read."""
    written: list[StoredLine] = []
    damaged: list[int] = []
    for number, line in enumerate(content.split(b"\n"), 1):
        text = line.rstrip(b"\r")
        if not text:
            continue
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            document = None
        entry = entry_of(document)
        after = document.get("after") if entry is not None else None
        if entry is None or not isinstance(after, list) or not all(isinstance(one, str) for one in after):
            damaged.append(number)
        else:
            written.append(StoredLine(number, checksum_of(text), after, entry))
    return written, damaged


def entry_of(document: object) -> HistoryEntry | None:
    """The entry in a line's JSON value, None where the value is not an entry, or has counts that no state can have."""
    if not isinstance(document, dict):
        return None

    def text(name: str) -> str:
        return value if isinstance(value := document.get(name, ""), str) else ""

    def number(name: str) -> int:
        return value if type(value := document.get(name)) is int else 0

    status, seconds, config = (document.get(name) for name in ("status", "seconds", "config"))
    if not (text("at") and text("verb") and text("outcome") and text("op") and has_sane_counts(document)):
        return None
    return HistoryEntry(
        at=text("at"),
        who=text("who"),
        commit=text("commit") or None,
        verb=text("verb"),
        outcome=text("outcome"),
        status=status if type(status) is int else None,
        request_id=text("requestId"),
        job=text("job"),
        id=text("id"),
        op=text("op"),
        command=text("command"),
        plan=text("plan"),
        allowed=text("allowed"),
        reason=text("reason"),
        answer=text("answer"),
        seconds=seconds if type(seconds) is float and 0 <= seconds < float("inf") else None,
        lineage=text("lineage"),
        serial=number("serial"),
        run=number("run"),
        end=text("end"),
        config=config if isinstance(config, dict) else None,
        run_token=text("runToken") if "runToken" in document else None,
        target=_target_of(document.get("target")),
    )


def _target_of(value: object) -> Target | None:
    try:
        return target_from_json(value) if isinstance(value, dict) else None
    except (KeyError, TypeError, ValueError):
        return None


def faults(stored: StoredHistory) -> list[str]:
    """The faults of a history, in words and in the order of the file; [] where it is sound.

    Faults are lines that can't be read, that occur twice, that were changed or removed, and an end that is missing.
    """
    written, damaged = read(stored.content)
    texts = stored.content.split(b"\n")
    found = [
        (number, "a mark of a git merge conflict" if re.match(_CONFLICT, texts[number - 1]) else "it can't be read")
        for number in damaged
    ]
    first: dict[tuple[str, bool], StoredLine] = {}
    for one in written:
        known = first.setdefault(one.key, one)
        if known is not one:
            how = "" if known.checksum == one.checksum else ", with other content"
            found.append((one.number, f"it repeats line {known.number}{how}"))
    there = {one.checksum for one in written}
    for one in written:
        lost = sum(checksum not in there for checksum in one.after)
        if lost:
            lines = "the line before it was" if lost == 1 else f"{lost} lines before it were"
            found.append((one.number, f"{lines} changed or removed"))
        if not one.after and one.entry.serial > 1 and one.entry.verb != ACCEPT:
            found.append(
                (one.number, f"no line comes before it, and the state was at serial {one.entry.serial - 1} before")
            )
    messages = [f"line {number}: {what}" for number, what in sorted(found)]
    if stored.state is not None:
        serials = [entry.serial for entry in stored.entries if entry.lineage == stored.state.lineage]
        if max(serials, default=0) < stored.state.serial:
            end = f"ends with serial {max(serials)}" if serials else "has nothing of it"
            messages.append(f"the state is at serial {stored.state.serial}, and the history {end}")
    if stored.trouble:
        messages.append(f"how it ends can't be checked: {stored.trouble}")
    return messages


# --- lines from the entries of the journal -----------------------------------------------------------------------


def cut(text: str) -> str:
    """The beginning of a text, as much as the journal keeps: its JSON has `_TEXT_BYTES` bytes at most."""
    if len(json.dumps(text)) <= _TEXT_BYTES:
        return text
    left = _TEXT_BYTES - len('""')
    for at, character in enumerate(text):
        left -= len(json.dumps(character)) - len('""')
        if left < 0:
            return text[:at]
    return text


def details_to_json(details: Details) -> dict[str, Any]:
    """The JSON object of the details, as the journal keeps it. Texts are cut to the room that the journal reserves."""
    document = {
        "outcome": details.outcome,
        "status": details.status,
        "requestId": details.request_id[:100],
        "seconds": None if details.seconds is None else round(details.seconds, 3),
        "reason": cut(details.reason[:500]),
        "end": details.end,
    }
    return _without_empty(document)


def origin_to_json(origin: Origin) -> dict[str, Any]:
    """The JSON object of the origin, as the journal keeps it. Empty fields are left out."""
    return _without_empty(origin._asdict())


def call_line(intent: Entry, result: Entry | None) -> HistoryLine:
    """The line of a call. Without a result, the outcome of the call is in doubt."""
    doubt = intent["doubt"]
    end = (
        {"outcome": "in-doubt"}
        if result is None
        else {"outcome": "unknown", "answer": result["answer"]} | _own(result, "details")
    )
    about = {"op": doubt["op"], "verb": doubt["verb"], "at": doubt["sentAt"], "run": doubt.get("run", 0)}
    if doubt["verb"] == Verb.RUN and end["outcome"] != "failed":
        # What a run consumes: a state that was rolled back is brought up to this (`rollback.brought_up`).
        about |= {"config": doubt["config"], "runToken": doubt["runToken"]}
    return _line(intent, {**about, **end})


def settled_line(result: Entry) -> HistoryLine:
    """The line that says what became of a call that was in doubt."""
    return _line(result, {"op": result["op"], "verb": result["verb"], **_own(result, "details")})


def record_line(entry: Entry) -> HistoryLine:
    """The line of a record that changed without a call."""
    return _line(entry, {"op": entry["op"], "verb": entry["verb"], **_own(entry, "details")})


def batch_lines(entry: Entry) -> list[HistoryLine]:
    """The lines of several records that changed in one step: one for each job, sorted by name."""
    return [
        _line(entry, {"op": f"{entry['op']}/{job}", "verb": entry["verb"], "job": job, **more})
        for job, more in sorted(entry["lines"].items())
    ]


def history_lines(entries: Sequence[Entry], *, ended: bool) -> list[HistoryLine]:
    """The lines of these entries of a journal, in order.

    `ended` says that no result will come for an open intent. Raises `KeyError`, `TypeError` or `ValueError` for entries
    of another shape.
    """
    intents: dict[str, Entry] = {}
    lines: list[HistoryLine] = []
    for entry in entries:
        match entry["type"]:
            case "intent":
                intents[entry["doubt"]["op"]] = entry
            case "result" if entry["op"] in intents:
                lines.append(call_line(intents.pop(entry["op"]), entry))
            case "result" if "verb" in entry:
                lines.append(settled_line(entry))
            case "record" | "identity" if "op" in entry:
                lines.append(record_line(entry))
            case "records" | "moves" if "op" in entry:
                lines += batch_lines(entry)
    if ended:
        lines += [call_line(intent, None) for intent in [*intents.values(), *announced_in(entries)]]
    for line in lines:
        _key(line)
    return lines


def announced_in(entries: Sequence[Entry]) -> list[Entry]:
    """The intents in the last announcement of a journal, [] where the announcement is over."""
    announced = [entry["intents"] for entry in entries if entry["type"] == "announced"]
    return list(announced[-1]) if announced else []


def stamped(lines: Sequence[HistoryLine], state: State) -> list[HistoryLine]:
    """The lines with the lineage and the serial of the state that holds their effects.

    A line about a job also gets the target: the history of one service may be united with that of another one.

    A note repeats what the line of a run says. So a note is left out, unless there is no other line for the serial.
    """
    kept = [line for line in lines if line["verb"] != NOTE] or lines
    place = {"lineage": state.lineage, "serial": state.serial}
    target = {"target": target_to_json(state.target)}
    return [{**line, **place, **(target if line.get("id") else {})} for line in kept]


def _line(entry: Entry, own: Mapping[str, Any]) -> HistoryLine:
    common = {name: entry[name] for name in ("job", "id", "at", "reason", "run") if name in entry}
    line = _without_empty({**common, **_own(entry, "by"), **own})
    return line if line.get("run", 1) else {name: value for name, value in line.items() if name != "run"}


def _own(entry: Entry, name: str) -> dict[str, Any]:
    return dict(entry.get(name, {}))


def _key(line: HistoryLine) -> tuple[str, bool]:
    entry = entry_of(line)
    if entry is None:
        raise ValueError("a record of the journal is about no call")
    return entry.op, entry.settles


def _without_empty(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value not in (None, "")}
