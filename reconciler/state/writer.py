"""The write-ahead log of a session: changes go to the journal, and checkpoints fold the journal into the state file.

A checkpoint writes the whole state file and removes the journal, or replaces it with a journal that holds only the
intents of calls in flight. The header of a journal names the state file that the journal starts from, by the digest
of that file. Before a checkpoint replaces the state file, it appends a record that names the new file. After a crash
between the two steps, a reader therefore knows which records the state file already holds. The lines of the journal
go to the history once the state file is in place, and before the journal is removed.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from reconciler.host.disk import Disk
from reconciler.model.errors import StateError
from reconciler.model.jobs import State
from reconciler.state.failure import Failure
from reconciler.state.identity import FileIdentity
from reconciler.state.journal import Displaced, Entry, Journal, JournalBroken, encode_entry
from reconciler.state.records import Records
from reconciler.state.replay import LoadedState
from reconciler.state.state_files import Opened, StateFiles

CHECKPOINT_BYTES = 8 * 1024 * 1024
"""A journal is folded into the state file once it is longer than this, and longer than the state file."""


class Writer:
    """Orders the changes and the checkpoints of one session. Safe for use by many threads.

    Any number of changes may be under way at once. A checkpoint waits for them, and runs alone.
    """

    def __init__(self, opened: Opened, is_locked: Callable[[], bool] = lambda: True) -> None:
        """`is_locked` says whether the lock file is still the locked one.

        A journal that an earlier session left is folded at once. Raises `JournalBroken`. If the files are displaced
        meanwhile, nothing is raised here, and `refuse_displaced` raises `Displaced`.
        """
        loaded, self.failure = opened.loaded, Failure()
        self._files = files = StateFiles(opened, self.failure)
        stamp = loaded.stamp if loaded else None
        self._identity = FileIdentity(opened.disk, opened.path, is_locked, lambda: files.digest, stamp)
        self.records = Records(self._files.start, is_changed=bool(loaded and loaded.changed))
        self._journal: Journal | None = None
        self._turn = threading.Lock()
        self._moved = threading.Condition(self._turn)
        """Notified when a checkpoint may begin, or has ended."""
        self._writers = 0
        self._folding = False
        self._unplaced: tuple[Entry, ...] = ()
        """The records of a journal that was found and then displaced before a new journal held its records."""
        self._has_found_lines = bool(loaded and loaded.entries)
        if loaded and loaded.entries is not None:
            self._fold_found(loaded, loaded.entries)

    def _fold_found(self, loaded: LoadedState, entries: tuple[Entry, ...]) -> None:
        """Fold a journal that an earlier session left.

        The new journal lacks what the state file holds already. So the history gets the lines of that before. It gets
        all other lines once the new journal and the state file are in place, as in any checkpoint. What was read of a
        journal may be in memory alone, if a flush of it has failed. A history with a line of that would be ahead of
        what the next command reads after a power loss.
        """
        held = loaded.unwritten[: loaded.held]
        try:
            self._files.append_history(held, again=True)
            self.records.add_lines(loaded.unwritten[loaded.held :])
            self._journal = self._new_journal(entries)
            self.checkpoint()
        except Displaced:
            # `refuse_displaced` reports this. The store can then rescue the records.
            self._unplaced = () if self._journal is not None else entries

    @property
    def state(self) -> State:
        """A copy of what is recorded, at the serial of the state file that is in place."""
        with self._turn:
            return self.records.state(self._files.base)

    @property
    def lineage(self) -> str:
        """The lineage of the state."""
        return self._files.start.lineage

    @property
    def journal_bytes(self) -> int:
        """The length of the journal in bytes, including records that still wait for a flush; 0 without a journal."""
        journal = self._journal
        return 0 if journal is None else journal.size_bytes

    @property
    def reserved_bytes(self) -> int:
        """The bytes that the journal keeps free for the results of calls in flight."""
        journal = self._journal
        return 0 if journal is None else journal.reserved_bytes

    @contextmanager
    def changing(self, *, is_result: bool = False) -> Iterator[Journal]:
        """Yield the journal for one change, and keep checkpoints out during the block.

        The caller appends to the journal first, and then changes the records. The result of a call (`is_result`) is
        written even if the files are displaced. Raises `JournalBroken`, and `Displaced`.
        """
        with self._turn:
            while self._folding:
                self._moved.wait()
            self.failure.check()
            if not is_result:
                self._check_files()
            if self._journal is None:
                self._files.refuse_unreadable_history()
                self._journal = self._new_journal([])
            self._writers += 1
            journal = self._journal
        try:
            yield journal
        finally:
            with self._turn:
                self._writers -= 1
                if not self._writers:
                    self._moved.notify_all()

    def verify(self) -> None:
        """Raise `JournalBroken` if a write failed, and `Displaced` if a file is no longer in place.

        This looks at three files (lock, journal and state file), which takes about 10 µs.
        """
        with self._turn:
            self.failure.check()
            if self._journal is not None:
                self._journal.check()
            self._check_files()

    def refuse_displaced(self) -> None:
        """Raise `Displaced` if an earlier check found a displaced file. This looks at no file."""
        self._identity.refuse_displaced()

    def checkpoint(self) -> None:
        """Write the state file if anything changed, and remove the journal. Raises `JournalBroken` and `Displaced`.

        The intents of calls in flight go to a new journal.
        """
        with self._turn:
            self._fold_alone()

    def checkpoint_if_long(self) -> None:
        """Make a checkpoint if the journal has become long. Raises `JournalBroken`."""
        if self._is_long():
            with self._turn:
                if self._is_long() and not self._folding:
                    # The change that led here is in the journal. The next call that is to be sent fails.
                    with suppress(Displaced):
                        self._fold_alone()

    @property
    def is_stranded(self) -> bool:
        """Whether there are records in a journal that is no longer at its path."""
        if self._journal is None:
            return bool(self._unplaced) and self._files.disk.mode(self._files.journal_path) is None
        return not self._journal.is_in_place

    def leave_journal(self) -> bool:
        """Append to the journal what its jobs had on record before it, for a merge with another state.

        Returns False if there is no journal. If the append fails the journal stays as it is.
        """
        if self._journal is None:
            return False
        with suppress(JournalBroken):
            self._journal.append(encode_entry({"type": "base", "records": self.records.base()}))
        return True

    def restore(self, is_locked: Callable[[], bool]) -> None:
        """Fold a stranded journal into the state file after all, under a lock that was taken anew.

        Raises `Displaced` if the state file is not the one that this session knows, or if another journal is in place.
        Raises `JournalBroken`.
        """
        stranded, entries = self._journal, self._stranded_entries()
        with self._turn:
            self._journal = None
            self._identity.begin_again(is_locked)
            try:
                self._check_files()
                if self._files.disk.mode(self._files.journal_path) is not None:
                    raise self._identity.displace(f"{self._files.journal_path} is there again")
                self._journal = self._new_journal(entries)
                self._fold_alone()
            except (OSError, StateError):
                self._journal = stranded
                raise
        if stranded is not None:
            stranded.close()

    def keep(self, path: str, disk: Disk) -> None:
        """Write the records of a stranded journal to a journal at another path. Raises `OSError` and `StateError`."""
        self.leave_journal()
        self._files.keep_journal(path, disk, self._stranded_entries())
        if self._journal is not None:
            self._journal.close()
        self._journal, self._unplaced = None, ()

    def _stranded_entries(self) -> list[Entry]:
        return list(self._unplaced) if self._journal is None else self._journal.entries()[1:]

    def _check_files(self) -> None:
        """Raise `Displaced` if a file of this session is not in place. The caller holds `_turn`."""
        self._identity.check(self._journal)

    def _fold_alone(self) -> None:
        """Fold once no change is under way. The caller holds `_turn`."""
        self._folding = True
        try:
            while self._writers:
                self._moved.wait()
            self._fold()
        except OSError as fault:
            raise self._files.fail(f"{self._files.path} could not be written: {fault.strerror}") from fault
        finally:
            self._folding = False
            self._moved.notify_all()

    def _fold(self) -> None:
        if self._journal is None:
            return
        self.failure.check()
        # A journal that failed stays in place: its records may be readable later.
        self._journal.check()
        self._check_files()
        if self.records.is_changed:
            state = self.records.state(self._files.base)
            self._files.write_state(self._journal, state, self._check_files, self._wrote_state)
        # Of the lines of a journal that was found, the history may have some.
        self._files.append_history(self._files.stamped(self.records.lines), again=self._has_found_lines)
        self.records.wrote_lines()
        self._has_found_lines = False
        self._cut(self._journal)

    def _wrote_state(self) -> None:
        self._identity.wrote_state()
        self.records.wrote_state()

    def _cut(self, journal: Journal) -> None:
        """Put a journal of the calls in flight in place of the folded journal, or remove the folded journal."""
        if intents := self.records.intents:
            self._journal = self._new_journal(intents)
        else:
            self._journal = None
            if journal.is_in_place:
                self._files.remove_journal()
        journal.close()

    def _new_journal(self, entries: "tuple[Entry, ...] | list[Entry]") -> Journal:
        return self._files.new_journal(entries, reserve_bytes=self.records.room_bytes, before_rename=self._check_files)

    def _is_long(self) -> bool:
        return self.journal_bytes > max(CHECKPOINT_BYTES, self._files.written_bytes)
