"""Journals that were kept because they could not be folded into their state.

If the lock file or the journal of a running command is taken away, the command still has the records of its calls. It
folds them into the state file if it can. Otherwise it writes them to a journal with another name, and every later
command refuses the state until `state accept` has taken the records.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from itertools import count
from typing import NamedTuple

from reconciler.host.disk import Disk, OsDisk
from reconciler.model.errors import LockTaken, StateError
from reconciler.state import json_types
from reconciler.state.journal import Displaced, decode
from reconciler.state.loading import only_known_shapes
from reconciler.state.marks import HighWaterMarks
from reconciler.state.merging import merged
from reconciler.state.paths import paths_of
from reconciler.state.replay import LoadedState
from reconciler.state.writer import Writer


class KeptJournal(NamedTuple):
    """One kept journal: its path, and the disk that has it."""

    path: str
    disk: Disk

    def merged_into(self, salvaged: LoadedState, state_path: str, remarks: list[str]) -> LoadedState:
        """The state with the records of this journal, merged as in `merged`; `remarks` are added to.

        Raises `StateError` if the journal is damaged.
        """
        header, *entries = decode(self.disk.read(self.path) or b"", self.path)
        remarks.append(f"took {len(entries)} records of {self.path}")
        state = salvaged.state
        with only_known_shapes(state_path):
            if not state.serial and not state.jobs:
                state = state._replace(lineage=json_types.text_from_json(header["lineage"]))
            found = merged(state, entries, remarks)
        return found._replace(unwritten=(*salvaged.unwritten, *found.unwritten))

    def remove(self) -> None:
        """Remove the journal. Raises `OSError`."""
        self.disk.remove(self.path)
        self.disk.sync_folder(self.path)


class KeptJournals:
    """The kept journals of one state.

    They are beside the state, or with the high-water marks if the folder of the state is gone.
    """

    def __init__(self, path: str, disk: Disk, marks: HighWaterMarks) -> None:
        self._path = path
        self._disk = disk
        self._marks = marks

    def found(self, lineage: str) -> list[KeptJournal]:
        """The kept journals of the state with this lineage, oldest first in each folder."""
        found: list[KeptJournal] = []
        for path, disk in self._places(lineage):
            with suppress(OSError):  # best effort, like the marks
                for name in _numbered(path):
                    if disk.mode(name) is None:
                        break
                    found.append(KeptJournal(name, disk))
        return found

    def refuse(self, lineage: str) -> None:
        """Raise `StateError` if a journal is kept."""
        found = self.found(lineage)
        if found:
            raise StateError(
                f"{found[0].path} holds calls of a command whose lock or journal was taken away while it was at work",
                "look at the jobs that it names, and accept them into the state: `reconciler state accept`",
            )

    def rescued(
        self,
        writer: Writer,
        fault: Displaced,
        is_locked: Callable[[], bool],
        lock_again: Callable[[], AbstractContextManager[Callable[[], bool]]],
    ) -> Displaced:
        """Save the records of a writer whose files were displaced, and return the error that says where they are.

        `is_locked` says whether the lock is still held. If not, it is taken with `lock_again`.
        """
        if not writer.is_stranded:
            if not writer.leave_journal():
                return fault
            return fault.changed(
                kept=f"what was done is in {paths_of(self._path).journal}: either put back the state file that was "
                "there before, and apply; or look at both, and take them together: `reconciler state accept`"
            )
        with suppress(OSError, StateError, LockTaken), ExitStack() as stack:
            writer.restore(is_locked if is_locked() else stack.enter_context(lock_again()))
            return fault.changed(kept=f"what was done is in {self._path} all the same: plan again, and apply")
        for path, disk in self._free_paths(writer.state.lineage):
            with suppress(OSError, StateError):
                writer.keep(path, disk)
                return fault.changed(
                    kept=f"what was done is kept in {path}: look at it, and once no other command is at work take it "
                    "into the state: `reconciler state accept`"
                )
        return fault.changed(
            kept="what was done could not be recorded: look at each job that was called",
            doubtful=writer.records.doubtful,
        )

    def _free_paths(self, lineage: str) -> Iterator[KeptJournal]:
        """Paths at which a journal can be kept, the best one first."""
        for path, disk in self._places(lineage):
            with suppress(OSError):
                yield next(KeptJournal(name, disk) for name in _numbered(path) if disk.mode(name) is None)

    def _places(self, lineage: str) -> Iterator[KeptJournal]:
        yield KeptJournal(paths_of(self._path).kept, self._disk)
        if path := self._marks.kept_path(lineage):
            yield KeptJournal(path, OsDisk())


def _numbered(path: str) -> Iterator[str]:
    """The path, and then the path with a number at its end, from 2 on."""
    yield path
    yield from (f"{path}-{number}" for number in count(2))
