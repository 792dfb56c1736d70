"""The journal: an append-only file beside the state, flushed before a call is sent.

A record is one line, `<checksum> <length> <JSON>`, written twice with an empty line after each: a
flipped bit spoils one copy and never both. Empty lines fill it up to whole sectors, so that a write
which loses power spoils no record before it. Records are numbered from 0, the header, without gaps,
and each tells how many were on disk when it was written. Space is allocated ahead, and flushed before
it is written to, so that the file ends in zero bytes and the result of a call that was sent always
has room; an end without a zero byte therefore means that the file was cut. The file is made under
another name and renamed once its header is on disk, so it is never empty.

What a reader finds:
    every record in at least one copy, then rubbish or zeros   good: the rubbish is a torn last record
    a gap, and none behind it was written once all before
    it was on disk                                             good: nobody was told of any from the gap on
    any other number missing, no header, two of one number,
    or no zero byte at the end                                 damaged: refused
"""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any, Self

from reconciler.host.disk import Disk, File
from reconciler.model.digests import checksum
from reconciler.model.errors import ExitCode, StateError

Entry = Mapping[str, Any]
"""One record's JSON object. The journal's own are `n`, its number, and `flushed`, how many were on disk before."""

_JOURNAL_FIELDS = frozenset({"n", "flushed"})

CHUNK_BYTES = 64 * 1024
"""Space is taken ahead in chunks of this, or of as much as is written, up to a limit."""

_CHUNKS_LIMIT_BYTES = 1024 * 1024

RESERVE_BYTES = 16 * 1024
"""Room that an intent keeps for the texts of its result, which are bounded so that this holds (`history.cut`)."""

_SECTOR_BYTES = 512
"""What a disk writes as one; an unfinished write may spoil all of it."""

_AROUND_BYTES = 100
"""More than a copy of a record has around its own JSON: checksum, length, and two numbers with their names."""


class JournalDamaged(StateError):
    """A record that was on disk is no longer there; `readable` holds the others, in order."""

    def __init__(self, where: str, why: str, readable: list[Entry]) -> None:
        super().__init__(
            f"{where} is damaged: {why}",
            "restore it from a backup; or take what can be read, knowing that a call may be missing, "
            "check the jobs by hand, and: `reconciler state accept`",
        )
        self.readable = readable


class JournalBroken(StateError):
    """Writing ended, and nothing more is written or sent: it is unknown which of the last records are on disk.

    `kept` says what is on record all the same, and what to do. `doubtful` are the jobs whose last call has no result on
    record, though the call may have been answered. `is_unsent` is whether no call was sent at all. An error is not
    changed once it is raised: `changed` makes a copy.
    """

    exit_code_once_sent = ExitCode.FAILED
    """The exit code of an apply that sent calls before this error."""

    DEFAULT_KEPT = "the journal beside it has what was done: mend the disk, and apply again"
    DEFAULT_HINT = "make room or mend the disk, and run the command again; what was recorded before is kept"
    """What to do next. An empty one means that `kept` says so."""

    def __init__(
        self, why: str, *, kept: str = "", doubtful: frozenset[str] = frozenset(), is_unsent: bool = False
    ) -> None:
        self.kept = kept or self.DEFAULT_KEPT
        self.doubtful = doubtful
        self.is_unsent = is_unsent
        super().__init__(why, self.DEFAULT_HINT or self.kept)

    def changed(
        self,
        *,
        why: str | None = None,
        kept: str | None = None,
        doubtful: frozenset[str] | None = None,
        is_unsent: bool | None = None,
    ) -> Self:
        """A copy of this error in which the values that are given take the place of the old ones."""
        return type(self)(
            self.message if why is None else why,
            kept=self.kept if kept is None else kept,
            doubtful=self.doubtful if doubtful is None else doubtful,
            is_unsent=self.is_unsent if is_unsent is None else is_unsent,
        )


class Overtaken(JournalBroken):
    """Another command changed the state while this command was at work on it. Nothing more is written or sent."""

    exit_code = ExitCode.REFUSED
    exit_code_once_sent = ExitCode.REFUSED
    DEFAULT_KEPT = "nothing more was sent: see what the other did (`reconciler history`), plan again, and apply"
    DEFAULT_HINT = ""


class Displaced(Overtaken):
    """The state file, the journal or the lock file is no longer the file that this command opened.

    What was done stays on record, and `kept` says where.
    """

    exit_code_once_sent = ExitCode.FAILED
    DEFAULT_KEPT = "nothing was written over: look at the state file, plan again, and apply"


def journal_path(path: str) -> str:
    """The path of the journal of a state file."""
    return f"{path}.journal"


def encode_entry(entry: Entry) -> bytes:
    """The JSON of an entry."""
    return _encoder()(entry).encode()


def encode_record(entry: bytes, number: int, flushed: int) -> bytes:
    """The bytes of one record of an entry's JSON: both copies, in whole sectors."""
    payload = b'{"n":%d,"flushed":%d,%s' % (number, flushed, entry[1:])
    line = b"%s %d %s\n\n" % (_checksum(payload), len(payload), payload)
    return line + line + b"\n" * (-2 * len(line) % _SECTOR_BYTES)


def record_bytes(payload_bytes: int) -> int:
    """What a record of so much JSON takes at most, whatever its number."""
    return 2 * (payload_bytes + _AROUND_BYTES) + _SECTOR_BYTES


def decode(content: bytes, where: str) -> list[Entry]:
    """The records of a journal file, in order; raises `JournalDamaged` unless all that were flushed are there."""
    found: dict[int, Entry] = {}
    contradiction = False
    for line in filter(None, content.split(b"\n")):
        entry = _decode_line(line)
        if entry is not None:
            contradiction |= found.setdefault(entry["n"], entry) != entry
    readable = [found[number] for number in sorted(found)]
    if contradiction:
        raise JournalDamaged(where, "two records have one number", readable)
    whole = next(number for number in range(len(found) + 1) if number not in found)
    promised = max([1, *(entry.get("flushed", entry["n"]) for entry in readable)])
    if whole < promised:
        raise JournalDamaged(where, "records are missing", readable)
    if not content.endswith(b"\0"):
        raise JournalDamaged(where, "its end was cut off", readable)
    return readable[:whole]


class Journal:
    """A journal that is being written. Safe for use by many threads; they share flushes (group commit)."""

    def __init__(
        self,
        disk: Disk,
        path: str,
        mode: int,
        entries: list[Entry],
        *,
        reserve_bytes: int = 0,
        before_rename: Callable[[], None] = lambda: None,
    ) -> None:
        """Make the file in place of any that is there, with `entries` (the header first), all flushed.

        `reserve_bytes` is as in `append`. `before_rename` is called right before the file gets its name; what it
        raises, this raises. Raises `OSError`; then the old file, if any, is still the one in place or the new
        one is whole.
        """
        self._disk = disk
        self._path = path
        self._temporary_path = f"{path}.tmp"
        self._turn = threading.Lock()
        self._waiting: list[_Waiter] = []
        self._number = 0
        self._offset = 0
        self._unwritten: list[bytes] = []
        """The records that the next flush writes, which end at `_offset`."""
        self._allocated = 0
        self._reserved = reserve_bytes
        self._flushed = len(entries)  # true once the file is in place
        self._flushing = False
        self._broken = ""
        self._file: File = disk.create(self._temporary_path, mode)
        try:
            self._put_in_place(entries, before_rename)
        except (OSError, StateError):
            self._discard()
            raise

    @property
    def size_bytes(self) -> int:
        """What is written so far."""
        return self._offset

    @property
    def is_in_place(self) -> bool:
        """Whether the file at the journal's path is this journal."""
        return self._disk.is_at(self._path, self._file)

    def entries(self) -> list[Entry]:
        """The records so far, read back from the file, even if the file has no name any more.

        Raises `OSError`, and `JournalDamaged`.
        """
        return decode(self._file.read(), self._path)

    def append(self, entry: bytes, *, reserve_bytes: int = 0) -> None:
        """Append one record, given as `encoded`, and return once it is on disk.

        `reserve_bytes` is room to keep allocated for records to come; a negative number gives such
        room back to this record. Raises `JournalBroken`, from then on at each call.
        """
        waiter = None
        with self._turn:
            self.check()
            self._reserved += reserve_bytes
            try:
                self._add(entry)
            except OSError as fault:
                raise self._fail(fault) from fault
            if self._flushing:
                waiter = _Waiter()
                self._waiting.append(waiter)
            self._flushing = True
        if waiter is not None:
            waiter.woken.acquire()
            if not waiter.leads:
                self.check()
                return
        self._flush()

    def close(self) -> None:
        """Close the file; all appended records are on disk already."""
        self._file.close()

    def _put_in_place(self, entries: list[Entry], before_rename: Callable[[], None]) -> None:
        """Write and flush the first entries, then give the file the name of the journal."""
        for entry in entries:
            # An entry of an earlier journal still has the number that it had there.
            self._add(encode_entry({name: value for name, value in entry.items() if name not in _JOURNAL_FIELDS}))
        self._write(*self._take_unwritten())
        self._file.sync()
        before_rename()
        self._disk.rename(self._temporary_path, self._path)
        self._disk.sync_folder(self._path)

    def _discard(self) -> None:
        """Close the file, and remove it where it still has its temporary name."""
        # Another command may have made a file of the same temporary name. Only our own file may be removed.
        with suppress(OSError):  # the next command replaces a temporary file that stays
            if self._disk.is_at(self._temporary_path, self._file):
                self._disk.remove(self._temporary_path)
        self._file.close()

    def _flush(self) -> None:
        """Write and flush all records that there are by now, wake whoever waits for them, and let the next one lead."""
        with self._turn:
            upto, led, unwritten = self._number, self._waiting, self._take_unwritten()
            self._waiting = []
        failure: OSError | None = None
        try:
            self._write(*unwritten)
            self._file.sync()
        except OSError as fault:
            failure = fault
        finally:
            with self._turn:
                if failure is not None:
                    self._fail(failure)
                elif not self._broken:
                    # A failed write-back is told once, and may have been told to whoever wrote meanwhile.
                    self._flushed = upto
                if self._waiting and not self._broken:
                    leader = self._waiting.pop(0)
                    leader.leads = True
                    led.append(leader)
                else:
                    self._flushing = False
            for waiter in led:
                waiter.woken.release()
        self.check()

    def _add(self, entry: bytes) -> None:
        """Make room for one more record, which the next flush writes. Raises `OSError` where there is none."""
        record = encode_record(entry, self._number, self._flushed)
        needed = self._offset + len(record) + self._reserved + 1
        if needed > self._allocated:
            # The more there is the more is taken at once, since all wait while this is flushed.
            ahead = min(max(CHUNK_BYTES, self._offset), _CHUNKS_LIMIT_BYTES)
            self._allocated = -(-needed // ahead) * ahead
            self._file.allocate(self._allocated)
            if self._offset:
                # Else a loss of power could keep part of the record and forget the file's new end.
                self._file.sync()
        self._unwritten.append(record)
        self._offset += len(record)
        self._number += 1

    def _take_unwritten(self) -> tuple[int, bytes]:
        """What is yet to be written, and where; from here on that is the caller's to do."""
        content = b"".join(self._unwritten)
        self._unwritten.clear()
        return self._offset - len(content), content

    def _write(self, offset: int, content: bytes) -> None:
        if content:
            self._file.write(offset, content)

    def check(self) -> None:
        """Raise `JournalBroken` where a write or flush failed before."""
        if self._broken:
            raise JournalBroken(self._broken)

    def _fail(self, fault: OSError) -> JournalBroken:
        self._broken = f"{self._path} can't be written: {fault.strerror}"
        for waiter in self._waiting:
            waiter.woken.release()
        self._waiting = []
        return JournalBroken(self._broken)


class _Waiter:
    """A thread whose record is written and that waits for its flush, or for its turn to lead one."""

    def __init__(self) -> None:
        self.woken = threading.Lock()
        self.woken.acquire()
        self.leads = False


@cache
def _encoder() -> Callable[[Any], str]:
    from json import JSONEncoder

    return JSONEncoder(separators=(",", ":")).encode


def _checksum(payload: bytes) -> bytes:
    return checksum(payload, size_bytes=8).hex().encode()


def _decode_line(line: bytes) -> Entry | None:
    checksum, _, rest = line.partition(b" ")
    length, _, payload = rest.partition(b" ")
    if length != b"%d" % len(payload) or checksum != _checksum(payload):
        return None
    import json

    try:
        entry = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    is_record = isinstance(entry, dict) and type(entry.get("n")) is int and type(entry.get("flushed", 0)) is int
    return entry if is_record else None
