"""Homes of state with one bug each, and the tests of the suites that have to fail for them.

`test_the_suites_notice.py` runs the tests that each class names in `CAUGHT_BY`. Nothing else collects this file.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

import reconciler_scripts
from reconciler.host.disk import OsDisk
from reconciler.model.jobs import State, Target
from reconciler.state.file_lock import FileContext
from reconciler.state.file_store import FileStore
from reconciler.state.history import StoredHistory
from reconciler.state.leased_store import LeasedStore
from reconciler.state.port import Fold, Moved, Note, Page, Snapshot, Store, Surroundings, Write
from reconciler.testing.remotes import Connect, RemoteContract
from reconciler.testing.states import StateContract
from reconciler_scripts.directory import DirectoryPlugin, DirectoryRemote, Revision

EXAMPLE = str(Path(reconciler_scripts.__file__).parent.parent)
"""The folder of the package whose home is broken here."""


def _number(version: str) -> int:
    return int(version.partition("-")[0])


# --- remotes ---------------------------------------------------------------------------------------------------------


class Unconditional(DirectoryRemote):
    """Ignores the version that a write is to follow."""

    def publish(self, base: str | None, write: Write, note: Note) -> str:
        while True:
            try:
                return super().publish(self.version(), write, note)
            except Moved:
                continue


class ComparesContent(DirectoryRemote):
    """Takes a write if the content is as it was, although others wrote meanwhile."""

    def publish(self, base: str | None, write: Write, note: Note) -> str:
        latest = self.fetch()
        if base and latest and latest.content == self._snapshot(_number(base)).content:
            base = latest.version
        return super().publish(base, write, note)


class ChecksFirst(DirectoryRemote):
    """Looks whether a version is the latest one, and then writes: two steps."""

    def _link(self, number: int, revision: Revision) -> None:
        if self._has(number):
            raise FileExistsError
        unfinished = 10**9 + random.randrange(10**9)  # a number that no version has
        super()._link(unfinished, revision)
        os.replace(self._path(unfinished), self._path(number))


class DropsLines(DirectoryRemote):
    """Loses the last line of what is appended to the history."""

    def publish(self, base: str | None, write: Write, note: Note) -> str:
        if isinstance(write, Fold) and write.history:
            lines = write.history.splitlines(keepends=True)
            write = write._replace(history=b"".join(lines[:-1]))
        return super().publish(base, write, note)


class KeepsText(DirectoryRemote):
    """Takes a state for text, and changes what is no text."""

    def publish(self, base: str | None, write: Write, note: Note) -> str:
        if isinstance(write, Fold) and write.state is not None:
            write = write._replace(state=write.state.decode("utf-8", "replace").encode())
        return super().publish(base, write, note)


class LongPages(DirectoryRemote):
    """Ignores how many lines a page may have."""

    def past(self, version: str, after: str | None, limit: int) -> Page:
        return super().past(version, after, limit + 1)


class LatestHistory(DirectoryRemote):
    """Shows the history as it is, in place of the history as it was."""

    def past(self, version: str, after: str | None, limit: int) -> Page:
        return super().past(self.version() or version, after, limit)


class FollowsAll(DirectoryRemote):
    """Says of every version that it came before."""

    def follows(self, version: str) -> bool:
        return True


class BlindProbe(DirectoryRemote):
    """Does not probe the place."""

    def probe(self) -> None:
        return


class LatestRevision(DirectoryRemote):
    """Shows the latest content in place of an older revision."""

    def at(self, revision: str) -> Snapshot:
        super().at(revision)
        return self._snapshot(self._latest())


class _Remote(RemoteContract):
    kind: ClassVar[type[DirectoryRemote]]

    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        return lambda: self.kind(tmp_path / "there")

    def revision(self, remote: Any) -> str:
        return str(remote.version()).partition("-")[0]


class TestUnconditional(_Remote):
    kind = Unconditional
    CAUGHT_BY = (
        "test_a_write_that_follows_an_older_version_is_refused[hold]",
        "test_a_write_that_begins_a_place_is_refused_where_there_is_one[fold]",
        "test_of_writes_that_follow_one_version_one_arrives",
    )


class TestComparesContent(_Remote):
    kind = ComparesContent
    CAUGHT_BY = ("test_a_write_is_refused_even_if_the_content_is_as_it_was",)


class TestChecksFirst(_Remote):
    kind = ChecksFirst
    CAUGHT_BY = ("test_of_writes_that_follow_one_version_one_arrives",)


class TestDropsLines(_Remote):
    kind = DropsLines
    CAUGHT_BY = ("test_each_write_leads_to_the_content_that_the_port_says",)


class TestKeepsText(_Remote):
    kind = KeepsText
    CAUGHT_BY = (
        "test_each_write_leads_to_the_content_that_the_port_says",
        "test_content_may_be_large",
    )


class TestLongPages(_Remote):
    kind = LongPages
    CAUGHT_BY = ("test_the_history_is_read_in_pages_as_it_was_at_a_version[3]",)


class TestLatestHistory(_Remote):
    kind = LatestHistory
    CAUGHT_BY = ("test_the_history_is_read_in_pages_as_it_was_at_a_version[10000]",)


class TestFollowsAll(_Remote):
    kind = FollowsAll
    CAUGHT_BY = ("test_a_version_follows_itself_and_those_before_it",)


class TestBlindProbe(_Remote):
    kind = BlindProbe
    CAUGHT_BY = ("test_a_place_that_ignores_conditions_is_refused",)

    @pytest.fixture
    def connect_unfenced(self, connect: Connect) -> Connect | None:
        return connect


class TestLatestRevision(_Remote):
    kind = LatestRevision
    CAUGHT_BY = ("test_a_revision_shows_the_content_as_it_was",)


# --- homes -----------------------------------------------------------------------------------------------------------


class HidesLease(DirectoryRemote):
    """Does not show who holds the state."""

    def fetch(self) -> Snapshot | None:
        snapshot = super().fetch()
        return snapshot and snapshot._replace(content=snapshot.content._replace(holder=None))


class LateWrites(DirectoryRemote):
    """Acknowledges a write before the write is there, as a database does whose commits are not synchronous."""

    def _link(self, number: int, revision: Revision) -> None:
        if self._has(number):
            raise FileExistsError
        threading.Timer(0.5, super()._link, (number, revision)).start()

    def publish(self, base: str | None, write: Write, note: Note) -> str:
        while self._latest() < (_number(base) if base else 0):
            time.sleep(0.01)
        return super().publish(base, write, note)


class _NoLock:
    """A lock that keeps nobody out."""

    @contextmanager
    def held(self, what: str, timeout_s: float) -> Iterator[Callable[[], bool]]:
        yield lambda: True

    def holder(self, folder: int | None) -> str:
        return ""


class UnlockedFiles:
    """The plugin for files, without the lock."""

    prefix = ""

    def fault_of(self, url: str) -> tuple[str, str] | None:
        return None

    def full_url(self, url: str) -> str:
        return url

    def open(self, url: str, surroundings: Surroundings) -> Store:
        return FileStore(url, FileContext.of(surroundings, OsDisk()), lock=_NoLock())


class HidesDoubts(LeasedStore):
    """Reads the records that are settled, and leaves out calls in doubt."""

    def read(self, target: Target) -> State | None:
        state = super().read(target)
        sound = {name: record for name, record in state.jobs.items() if record.doubt is None} if state else {}
        return state and state._replace(jobs=sound)


class AnyTarget(LeasedStore):
    """Reads the state of one target for another one."""

    def read(self, target: Target) -> State | None:
        known = self.read_history().state
        return super().read(known.target if known else target)


class TakesAnyState(LeasedStore):
    """Puts a state in the place of a newer one."""

    def put(self, state: State, target: Target, timeout_s: float) -> bool:
        known = self.read(target)
        newer = max(state.serial, known.serial + 1) if known else state.serial
        return super().put(state._replace(serial=newer), target, timeout_s)


class RepeatsHistory(LeasedStore):
    """Shows each line of the history twice."""

    def read_history(self) -> StoredHistory:
        stored = super().read_history()
        return stored._replace(content=stored.content + stored.content)


class _Plugin(DirectoryPlugin):
    """The plugin of the directory, with another remote, or with another store on top of the remote."""

    def __init__(self, remote: type[DirectoryRemote], store: type[LeasedStore] = LeasedStore) -> None:
        self._remote = remote
        self._store = store

    def open(self, url: str, surroundings: Surroundings) -> Store:
        return self._store(self._remote(Path(url.removeprefix(self.prefix))), surroundings)


UNCONDITIONAL = _Plugin(Unconditional)
HIDES_LEASE = _Plugin(HidesLease)
LATE_WRITES = _Plugin(LateWrites)
DROPS_LINES = _Plugin(DropsLines)
LATEST_REVISION = _Plugin(LatestRevision)
HIDES_DOUBTS = _Plugin(DirectoryRemote, HidesDoubts)
ANY_TARGET = _Plugin(DirectoryRemote, AnyTarget)
TAKES_ANY_STATE = _Plugin(DirectoryRemote, TakesAnyState)
REPEATS_HISTORY = _Plugin(DirectoryRemote, RepeatsHistory)
UNLOCKED = UnlockedFiles()


class _Home(StateContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"dir://{tmp_path}/there"

    @pytest.fixture
    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), EXAMPLE])}

    def revision(self, url: str) -> str:
        return str(len(list(Path(url.removeprefix("dir://")).glob("*.json"))))


class TestUnconditionalHome(_Home):
    plugin = "seeded_homes:UNCONDITIONAL"
    CAUGHT_BY = (
        "test_of_programs_that_start_at_once_one_makes_each_call",
        "test_a_program_that_is_stopped_and_continues_late_does_no_harm[intended]",
    )


class TestHomeThatHidesItsLease(_Home):
    plugin = "seeded_homes:HIDES_LEASE"
    CAUGHT_BY = ("test_a_session_that_holds_the_state_excludes_others",)


class TestHomeWithLateWrites(_Home):
    plugin = "seeded_homes:LATE_WRITES"
    CAUGHT_BY = (
        "test_an_intent_is_on_record_when_intend_returns",
        "test_a_program_that_is_killed_leaves_all_it_did_on_record[intended]",
    )


class TestHomeThatDropsLines(_Home):
    plugin = "seeded_homes:DROPS_LINES"
    CAUGHT_BY = ("test_each_change_is_in_the_history_once",)


class TestHomeThatRepeatsItsHistory(_Home):
    plugin = "seeded_homes:REPEATS_HISTORY"
    CAUGHT_BY = ("test_each_change_is_in_the_history_once",)


class TestHomeWithoutOlderRevisions(_Home):
    plugin = "seeded_homes:LATEST_REVISION"
    CAUGHT_BY = ("test_an_older_revision_shows_the_state_as_it_was",)


class TestHomeThatHidesDoubts(_Home):
    plugin = "seeded_homes:HIDES_DOUBTS"
    CAUGHT_BY = (
        "test_an_intent_is_on_record_when_intend_returns",
        "test_a_program_that_is_killed_leaves_all_it_did_on_record[called]",
    )


class TestHomeForAnyTarget(_Home):
    plugin = "seeded_homes:ANY_TARGET"
    CAUGHT_BY = ("test_the_state_of_another_target_is_refused",)


class TestHomeThatTakesAnyState(_Home):
    plugin = "seeded_homes:TAKES_ANY_STATE"
    CAUGHT_BY = ("test_a_whole_state_that_is_not_newer_is_refused[older]",)


class TestFilesWithoutALock(_Home):
    plugin = "seeded_homes:UNLOCKED"
    CAUGHT_BY = ("test_a_session_that_holds_the_state_excludes_others",)

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path / "jobs.state.json")
