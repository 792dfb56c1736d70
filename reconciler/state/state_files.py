"""The files of one state as a session writes them: the state file, the journal beside it, and the history."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from reconciler.host.disk import Disk, replace
from reconciler.model.errors import StateError
from reconciler.model.jobs import State
from reconciler.state import codec, history
from reconciler.state.failure import Failure
from reconciler.state.journal import Entry, Journal, JournalBroken, encode_entry
from reconciler.state.paths import paths_of
from reconciler.state.replay import LoadedState, checkpoint_entry, header_of


class Opened(NamedTuple):
    """What a session has of the files of a state when it begins.

    `path` is the path of the state file on the `disk`. `loaded` is what the files hold, None if there are none. `fresh`
    makes an empty state with a new lineage, and is used if nothing was loaded. `note` is called with each state that is
    written, and with the digest of its file.
    """

    disk: Disk
    path: str
    loaded: LoadedState | None
    fresh: Callable[[], State]
    note: Callable[[State, str], None]


class StateFiles:
    """Writes the files of one state. Only one thread at a time may use the object.

    A write that fails ends the session: nobody knows then which file is in place.
    """

    def __init__(self, opened: Opened, failure: Failure) -> None:
        """`failure` is that of the session."""
        loaded = opened.loaded
        self.disk = opened.disk
        self.path = opened.path
        self.journal_path = paths_of(opened.path).journal
        self._note = opened.note
        self._failure = failure
        self._mode = self.disk.mode(self.path) or 0o600
        self.digest = loaded.digest if loaded else ""
        """The digest of the state file that is in place, "" if there is none."""
        start = loaded.state if loaded else opened.fresh()
        self._empty = start._replace(serial=loaded.serial_in_place if loaded else start.serial, jobs={})
        self.start = start
        """The state that the session starts with, the records of a journal that was found included."""
        self.written_bytes = 0
        """The size of the state file that this session wrote last."""

    @property
    def base(self) -> State:
        """The lineage and the target of the state, at the serial of the file that is in place. There are no records."""
        return self._empty

    def new_journal(
        self, entries: Iterable[Entry], *, reserve_bytes: int = 0, before_rename: Callable[[], None] = lambda: None
    ) -> Journal:
        """Put a new journal with these entries in place of the old journal. Arguments are as in `Journal`.

        Raises `JournalBroken`, and what `before_rename` raises.
        """
        try:
            return Journal(
                self.disk,
                self.journal_path,
                self._mode,
                [header_of(self._empty, self.digest), *entries],
                reserve_bytes=reserve_bytes,
                before_rename=before_rename,
            )
        except OSError as fault:
            raise self.fail(f"{self.journal_path} could not be made: {fault.strerror}") from fault

    def keep_journal(self, path: str, disk: Disk, entries: Iterable[Entry]) -> None:
        """Write a whole journal with these entries to another place. Raises `OSError`."""
        Journal(disk, path, self._mode, [header_of(self._empty, self.digest), *entries]).close()

    def remove_journal(self) -> None:
        """Remove the journal from its path. Raises `OSError`."""
        self.disk.remove(self.journal_path)
        self.disk.sync_folder(self.path)

    def write_state(
        self,
        journal: Journal,
        state: State,
        before_rename: Callable[[], None],
        in_place: Callable[[], None],
    ) -> None:
        """Replace the state file, after a checkpoint record in the journal that names the new file.

        The serial of the `state` is the one in place, and rises by one. `before_rename` is as in `replace`. `in_place`
        is called as soon as the new file is in place. Raises `OSError`, `JournalBroken`, and
        what `before_rename` raises.
        """
        state = state._replace(serial=state.serial + 1)
        content = codec.encode(state)
        digest = codec.stated_digest(content)
        journal.append(encode_entry(checkpoint_entry(state.serial, digest)))
        replace(self.disk, self.path, content, self._mode, before_rename)
        self._empty, self.digest = state._replace(jobs={}), digest
        in_place()
        self.written_bytes = len(content)
        self._note(state, digest)

    def append_history(self, lines: Sequence[history.HistoryLine], *, again: bool = False) -> None:
        """Append lines to the history; with `again`, only those that the history lacks. Raises `JournalBroken`."""
        if not lines:
            return
        path = paths_of(self.path).history
        try:
            history.append(self.disk, path, self._mode, lines, again=again)
        except StateError as fault:
            raise self.fail(fault.message) from fault
        except OSError as fault:
            raise self.fail(f"{path} could not be written: {fault.strerror}") from fault

    def stamped(self, lines: Sequence[history.HistoryLine]) -> list[history.HistoryLine]:
        """The lines with the lineage and the serial of the state file that is in place."""
        return history.stamped(lines, self._empty)

    def refuse_unreadable_history(self) -> None:
        """Raise `JournalBroken` if the history can't be read.

        This is checked before the first record. Lines that can't be appended later would keep the journal from being
        removed.
        """
        try:
            self.disk.read(paths_of(self.path).history)
        except StateError as fault:
            raise JournalBroken(fault.message) from fault

    def fail(self, why: str) -> JournalBroken:
        """End the session, and return the error to raise."""
        return self._failure.end_with(JournalBroken(why))
