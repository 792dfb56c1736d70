"""The journal: a write-ahead log beside the state file.

A record of a call is flushed to disk before the call is sent.

A record is one line, `<checksum> <length> <JSON>`. The line is written twice, with an empty line after each copy, so a
flipped bit damages one copy at most. Empty lines fill the record up to whole sectors, so a write that loses power
damages no earlier record. Records are numbered from 0, which is the header, without gaps. Each record states how many
records were on disk when the record was written.

Disk space is allocated ahead of the records and flushed before it is used. So the result of a call that was sent always
has room, and the file ends in zero bytes. A file that does not end in a zero byte was cut off.

The file is made under a temporary name. It is renamed once its header is on disk, so a journal is never empty.

What a reader finds, and what the reader concludes:

    every record in at least one copy, then zeros or noise      sound: the noise is an unfinished last record
    a gap, and no record behind the gap says that the missing
    records were on disk                                        sound: no caller was told that they were on disk
    any other missing record, no header, two different
    records with one number, or no zero byte at the end         damaged: the file is refused
"""

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Self

from reconciler.host.disk import Disk, File
from reconciler.model.digests import checksum
from reconciler.model.errors import ExitCode, StateError

Entry = Mapping[str, Any]
"""The JSON object of one record. The journal itself adds `n`, the record's number, and `flushed`, the number of records
that were on disk before."""

_JOURNAL_FIELDS = frozenset({"n", "flushed"})
"""The fields of an entry that the journal itself adds."""

CHUNK_BYTES = 64 * 1024
"""The smallest piece of disk space that is allocated. A piece grows with the file, up to `_CHUNKS_LIMIT_BYTES`."""

_CHUNKS_LIMIT_BYTES = 1024 * 1024

RESERVE_BYTES = 16 * 1024
"""The room that an intent reserves for the texts of its result. `history.cut` limits these texts so that they fit."""

_SECTOR_BYTES = 512
"""The unit in which a disk writes. An unfinished write may damage a whole sector."""

_AROUND_BYTES = 100
"""An upper limit for what one copy of a record adds to its JSON: checksum, length, and the journal's two fields."""


class JournalDamaged(StateError):
    """A record that was on disk is missing from the file. `readable` holds the other records, in order."""

    def __init__(self, where: str, why: str, readable: list[Entry]) -> None:
        super().__init__(
            f"{where} is damaged: {why}",
            "restore it from a backup; or take what can be read, knowing that a call may be missing, "
            "check the jobs by hand, and: `reconciler state accept`",
        )
        self.readable = readable


class JournalBroken(StateError):
    """A write or a flush of the journal failed. What is on disk is unknown, so the journal takes no more records.

    `doubtful` are the jobs with a call whose result is not on record, although an answer may have come. `is_unsent` is
    True where no call was sent. `kept` says what is on record, and what the user can do.
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
        message: str | None = None,
        hint: str | None = None,
        kept: str | None = None,
        doubtful: frozenset[str] | None = None,
        is_unsent: bool | None = None,
    ) -> Self:
        """A copy of this error in which the values that are given take the place of the old ones."""
        copy = super().changed(message=message, hint=hint)
        copy.kept = self.kept if kept is None else kept
        copy.doubtful = self.doubtful if doubtful is None else doubtful
        copy.is_unsent = self.is_unsent if is_unsent is None else is_unsent
        if hint is None:
            copy.hint = self.DEFAULT_HINT or copy.kept
        return copy


class Overtaken(JournalBroken):
    """Another program changed the state while this command was at work. This command writes and sends nothing more."""

    exit_code = ExitCode.REFUSED
    exit_code_once_sent = ExitCode.REFUSED
    DEFAULT_KEPT = "nothing more was sent: see what the other did (`reconciler history`), plan again, and apply"
    DEFAULT_HINT = ""


class Displaced(Overtaken):
    """The state file, the journal or the lock file was replaced while this command had it open.

    Finished calls stay on record. `kept` says where the record is, and what the user can do.
    """

    exit_code_once_sent = ExitCode.FAILED
    DEFAULT_KEPT = "nothing was written over: look at the state file, plan again, and apply"


def encode_entry(entry: Entry) -> bytes:
    """The JSON of an entry, as UTF-8."""
    return json.dumps(entry, separators=(",", ":")).encode()


def encode_record(entry: bytes, number: int, flushed: int) -> bytes:
    """The bytes of one record: two copies of the entry, filled up to whole sectors.

    `entry` comes from `encode_entry`. `number` is the record's number, and `flushed` is the number of records on disk.
    """
    payload = b'{"n":%d,"flushed":%d,%s' % (number, flushed, entry[1:])
    line = b"%s %d %s\n\n" % (_checksum(payload), len(payload), payload)
    return line + line + b"\n" * (-2 * len(line) % _SECTOR_BYTES)


def record_bytes(payload_bytes: int) -> int:
    """An upper limit for the size of a record whose JSON has `payload_bytes` bytes."""
    return 2 * (payload_bytes + _AROUND_BYTES) + _SECTOR_BYTES


def decode(content: bytes, where: str) -> list[Entry]:
    """The records of a journal file, in order. `where` names the file in messages.

    Raises `JournalDamaged` unless every record is there that was once on disk.
    """
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
    """A journal that is open for writing. Many threads may append at once, and they share flushes (group commit)."""

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
        """Make a journal file that holds `entries`, the header first, and replace any file at `path`.

        All entries are on disk when this returns. `mode` is the permission bits. `reserve_bytes` is as in `append`.
        `before_rename` is called right before the new file replaces the old one, and may raise to prevent that. Raises
        `OSError`; the file at `path` is then either the old journal or the complete new one.
        """
        self._disk = disk
        self._path = path
        self._temporary_path = f"{path}.tmp"
        self._turn = threading.Lock()
        self._waiting: list[_Waiter] = []
        self._number = 0
        self._offset = 0
        self._unwritten: list[bytes] = []
        """The records that the next flush writes. The last of them ends at `_offset`."""
        self._allocated = 0
        self._reserved = reserve_bytes
        self._flushed = len(entries)  # They are on disk once the file is in place.
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
        """The size of all records so far."""
        return self._offset

    @property
    def reserved_bytes(self) -> int:
        """The room that is kept allocated for records to come."""
        return self._reserved

    @property
    def is_in_place(self) -> bool:
        """Whether the file at the journal's path is this journal."""
        return self._disk.is_at(self._path, self._file)

    def entries(self) -> list[Entry]:
        """The records so far, read from the open file. The file may have lost its name.

        Raises `OSError`, and `JournalDamaged`.
        """
        return decode(self._file.read(), self._path)

    def append(self, entry: bytes, *, reserve_bytes: int = 0) -> None:
        """Append one record, which comes from `encode_entry`. This returns once the record is on disk.

        `reserve_bytes` is the room to keep free for later records. A negative number releases room that an earlier
        record reserved. Raises `JournalBroken`, and from then on every call raises it.
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
        """Close the file. Every appended record is on disk already."""
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
        """Write and flush all records so far, wake the threads that wait for them, and choose who flushes next."""
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
                    # The system reports a failed write-back once, perhaps to a thread that wrote meanwhile.
                    # That thread has then marked the journal as broken, and these records count as unflushed.
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
        """Allocate space for one record, which the next flush writes. Raises `OSError` where the disk is full."""
        record = encode_record(entry, self._number, self._flushed)
        needed = self._offset + len(record) + self._reserved + 1
        if needed > self._allocated:
            # All threads wait while new space is flushed, so a larger file takes larger pieces.
            ahead = min(max(CHUNK_BYTES, self._offset), _CHUNKS_LIMIT_BYTES)
            self._allocated = -(-needed // ahead) * ahead
            self._file.allocate(self._allocated)
            if self._offset:
                # Without this flush, a loss of power could keep part of a record and lose the file's new length.
                self._file.sync()
        self._unwritten.append(record)
        self._offset += len(record)
        self._number += 1

    def _take_unwritten(self) -> tuple[int, bytes]:
        """Remove the unwritten records from the queue. Returns their offset in the file, and their bytes."""
        content = b"".join(self._unwritten)
        self._unwritten.clear()
        return self._offset - len(content), content

    def _write(self, offset: int, content: bytes) -> None:
        if content:
            self._file.write(offset, content)

    def check(self) -> None:
        """Raise `JournalBroken` where a write or a flush failed before."""
        if self._broken:
            raise JournalBroken(self._broken)

    def _fail(self, fault: OSError) -> JournalBroken:
        """Mark the journal as broken, and wake every waiting thread."""
        self._broken = f"{self._path} can't be written: {fault.strerror}"
        for waiter in self._waiting:
            waiter.woken.release()
        self._waiting = []
        return JournalBroken(self._broken)


class _Waiter:
    """A thread that waits for its record to be flushed, or for its turn to flush."""

    def __init__(self) -> None:
        self.woken = threading.Lock()
        self.woken.acquire()
        self.leads = False


def _checksum(payload: bytes) -> bytes:
    return checksum(payload, size_bytes=8).hex().encode()


def _decode_line(line: bytes) -> Entry | None:
    """The entry in one copy of a record, None where the copy is damaged."""
    checksum, _, rest = line.partition(b" ")
    length, _, payload = rest.partition(b" ")
    if length != b"%d" % len(payload) or checksum != _checksum(payload):
        return None
    try:
        entry = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    is_record = isinstance(entry, dict) and type(entry.get("n")) is int and type(entry.get("flushed", 0)) is int
    return entry if is_record else None
