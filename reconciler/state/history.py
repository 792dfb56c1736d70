"""The history beside the state: one line of JSON for each entry, appended whenever the journal is folded.

The journal holds all that a line needs, and is cut only once the lines are on disk; after a crash, those
that are there already are known by their `op`. So each entry is there once, whatever happens.

A line names those that it follows by a checksum (`after`), as a commit names its parents: whatever the
order of the lines, one that was taken out or changed is missed by the next. Two branches that were
merged line by line have two ends, and the line after the merge follows both.

The file is written anew and renamed, never written in place: a write that loses power may spoil the whole of a
sector, and older lines stand in it. It takes the time that git takes to add the file.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from reconciler.host.disk import Disk, replace
from reconciler.model.digests import checksum
from reconciler.model.errors import StateError
from reconciler.model.history import ACCEPT, NOTE, Details, HistoryEntry, Origin
from reconciler.model.jobs import State
from reconciler.state.journal import Entry

HistoryLine = dict[str, Any]
"""One line's JSON object, still without `after`."""

ATTRIBUTE = "*.history.jsonl merge=union"
"""The line of .gitattributes by which git merges two histories."""

_MOST_ENDS = 32
"""So many lines a line follows at most; more ends than this come of a file whose lines were changed."""

_LATEST_BYTES = 1 << 20
"""The ends are looked for in this much of the file: some two thousand lines."""

_MOST_REPLACEMENTS = 10
"""So often a history that others replace is written anew before it is given up."""

_TEXT_BYTES = 2048
"""Of a text in a result so much is kept: three of them, a request id and the names of all fields, twice, fit into
`RESERVE_BYTES`."""

_CONFLICT = rb"(<{7}|={7}|>{7}|\|{7})( |$)"


class StoredLine(NamedTuple):
    """A line as it stands in the file: its number, its checksum, those that it follows, and what it says."""

    number: int
    checksum: str
    after: Sequence[str]
    entry: HistoryEntry

    @property
    def key(self) -> tuple[str, bool]:
        """What it tells of; no other line tells of the same."""
        return self.entry.op, self.entry.settles


class StoredHistory(NamedTuple):
    """A history as it was found: where it stands and its content, b"" for none.

    `unwritten` are lines of the journal that it may lack, `state` is the state once they are told, None
    where there is none; `trouble` says why the state could not be read, else it is "".
    """

    where: str
    content: bytes
    unwritten: Sequence[HistoryLine] = ()
    state: State | None = None
    trouble: str = ""

    @property
    def entries(self) -> list[HistoryEntry]:
        """What can be read of it, each entry once, oldest first."""
        found = {one.key: one.entry for one in read(self.content)[0]}
        for line in self.unwritten:
            entry = entry_of(line)
            if entry is not None:
                found.setdefault((entry.op, entry.settles), entry)
        return sorted(found.values(), key=lambda entry: entry.at)


def history_path(state_path: str) -> str:
    """Where the history of a state file stands: jobs.state.json -> jobs.history.jsonl."""
    return f"{state_path.removesuffix('.state.json')}.history.jsonl"


def append(disk: Disk, path: str, mode: int, lines: Sequence[HistoryLine], *, again: bool = False) -> None:
    """Append lines, and return once they are on disk; with `again`, only those that are not there yet.

    What cannot be read in the file stays as it is: no call waits for a history to be mended. If another program
    replaces the file meanwhile, the lines are appended to the new file. Raises `OSError`, and `StateError` where
    the file can't be read.
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
    """Another program replaced the history while it was written anew."""


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
            disk.sync_folder(path)  # of who wrote them, nobody knows that they came so far
            return
    after = _ends(content)
    new = []
    for line in lines:
        text = encode(line, after)
        new.append(text)
        after = [_checksum(text)]
    gap = b"\n" if content and not content.endswith(b"\n") else b""
    whole = content + gap + b"".join(text + b"\n" for text in new)
    replace(disk, path, whole, disk.mode(path) or mode, refuse_replaced)


def encode(line: HistoryLine, after: Sequence[str]) -> bytes:
    """The bytes of one line, without its end."""
    import json

    return json.dumps({**line, "after": list(after)}, sort_keys=True, separators=(",", ":")).encode()


def read(content: bytes) -> tuple[list[StoredLine], list[int]]:
    """The lines of a history in the order in which they stand, and the numbers of those that can't be read."""
    import json

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
            written.append(StoredLine(number, _checksum(text), after, entry))
    return written, damaged


def entry_of(document: object) -> HistoryEntry | None:
    """The entry that a line holds, None where it holds none."""
    if not isinstance(document, dict):
        return None

    def text(name: str) -> str:
        value = document.get(name, "")
        return value if isinstance(value, str) else ""

    status, seconds, serial = document.get("status"), document.get("seconds"), document.get("serial")
    if not (text("at") and text("verb") and text("outcome") and text("op")):
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
        serial=serial if type(serial) is int else 0,
    )


def faults(stored: StoredHistory) -> list[str]:
    """What is wrong with a history, in words: lines damaged, told twice, changed or missing; none where it is whole."""
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
    said = [f"line {number}: {what}" for number, what in sorted(found)]
    if stored.state is not None:
        told = [entry.serial for entry in stored.entries if entry.lineage == stored.state.lineage]
        if max(told, default=0) < stored.state.serial:
            end = f"ends with serial {max(told)}" if told else "has nothing of it"
            said.append(f"the state is at serial {stored.state.serial}, and the history {end}")
    if stored.trouble:
        said.append(f"how it ends can't be checked: {stored.trouble}")
    return said


# --- what the journal keeps for it -------------------------------------------------------------------------------


def cut(text: str) -> str:
    """As much of a text, from its beginning on, as a record of the journal keeps: `_TEXT_BYTES` of JSON at most."""
    import json

    # JSON takes twelve bytes for a character at most; few texts are so long that they have to be counted.
    if 12 * len(text) + len('""') <= _TEXT_BYTES or len(json.dumps(text)) <= _TEXT_BYTES:
        return text
    left = _TEXT_BYTES - len('""')
    for at, character in enumerate(text):
        left -= len(json.dumps(character)) - len('""')
        if left < 0:
            return text[:at]
    return text


def details_to_json(details: Details) -> dict[str, Any]:
    """What a record of the journal keeps of it; short, since room for it is kept."""
    document = {
        "outcome": details.outcome,
        "status": details.status,
        "requestId": details.request_id[:100],
        "seconds": None if details.seconds is None else round(details.seconds, 3),
        "reason": cut(details.reason[:500]),
    }
    return _without_empty(document)


def origin_to_json(origin: Origin) -> dict[str, Any]:
    """What a record of the journal keeps of it."""
    return _without_empty(origin._asdict())


def call_line(intent: Entry, result: Entry | None) -> HistoryLine:
    """The line of a call; without a result nobody knows what became of it."""
    doubt = intent["doubt"]
    end = (
        {"outcome": "in-doubt"}
        if result is None
        else {"outcome": "unknown", "answer": result["answer"]} | _own(result, "details")
    )
    return _line(intent, {"op": doubt["op"], "verb": doubt["verb"], "at": doubt["sentAt"], **end})


def settled_line(result: Entry) -> HistoryLine:
    """The line that says what became of a call in doubt."""
    return _line(result, {"op": result["op"], "verb": result["verb"], **_own(result, "details")})


def record_line(entry: Entry) -> HistoryLine:
    """The line of a record that changed without a call."""
    return _line(entry, {"op": entry["op"], "verb": entry["verb"], **_own(entry, "details")})


def batch_lines(entry: Entry) -> list[HistoryLine]:
    """The lines of several records that changed in one step: one for each job, by name."""
    return [
        _line(entry, {"op": f"{entry['op']}/{job}", "verb": entry["verb"], "job": job, **more})
        for job, more in sorted(entry["lines"].items())
    ]


def history_lines(entries: Sequence[Entry], *, ended: bool) -> list[HistoryLine]:
    """The lines of these records of the journal; `ended` says that no more will come of an open intent.

    A record of before there were histories has none. Raises `KeyError`, `TypeError` or `ValueError` on
    other shapes.
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
            case "record" if "op" in entry:
                lines.append(record_line(entry))
            case "records" | "moves" if "op" in entry:
                lines += batch_lines(entry)
    if ended:
        lines += [call_line(intent, None) for intent in [*intents.values(), *announced_in(entries)]]
    for line in lines:
        _key(line)
    return lines


def announced_in(entries: Sequence[Entry]) -> list[Entry]:
    """The intents of the last announcement of a journal; none once it is over."""
    announced = [entry["intents"] for entry in entries if entry["type"] == "announced"]
    return list(announced[-1]) if announced else []


def stamped(lines: Sequence[HistoryLine], lineage: str, serial: int) -> list[HistoryLine]:
    """The lines as they are written, naming the state that holds what they tell of.

    A note adds to what the line of a run says already; it has a line only where there is no other, so
    that no serial is without one.
    """
    kept = [line for line in lines if line["verb"] != NOTE] or lines
    return [{**line, "lineage": lineage, "serial": serial} for line in kept]


def _line(entry: Entry, own: Mapping[str, Any]) -> HistoryLine:
    common = {name: entry[name] for name in ("job", "id", "at", "reason") if name in entry}
    return _without_empty({**common, **_own(entry, "by"), **own})


def _own(entry: Entry, name: str) -> dict[str, Any]:
    return dict(entry.get(name, {}))


def _key(line: HistoryLine) -> tuple[str, bool]:
    entry = entry_of(line)
    if entry is None:
        raise ValueError("a record of the journal is about no call")
    return entry.op, entry.settles


def _ends(content: bytes) -> list[str]:
    """The lines that no other follows, among the latest: what follows a line stands behind it."""
    cut = max(0, len(content) - _LATEST_BYTES)
    written, _ = read(content[cut and content.find(b"\n", cut) + 1 :])
    followed = {checksum for one in written for checksum in one.after}
    ends = dict.fromkeys(one.checksum for one in written if one.checksum not in followed)
    return list(ends)[-_MOST_ENDS:]


def _checksum(text: bytes) -> str:
    return checksum(text, size_bytes=8).hex()


def _without_empty(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value not in (None, "")}
