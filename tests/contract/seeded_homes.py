"""Homes of state with one bug each, and the tests of the suite that have to fail for them; see `seeded_engines`."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import directory_home
import reconciler_scripts
import test_state_contracts
from reconciler.host.disk import OsDisk
from reconciler.model.jobs import Desired, Record, State, Target
from reconciler.state.backends import git
from reconciler.state.backends.git import GitPlugin
from reconciler.state.backends.repository import Repository
from reconciler.state.file_lock import FileContext
from reconciler.state.file_store import FileStore
from reconciler.state.history import StoredHistory
from reconciler.state.leased_store import LeasedStore
from reconciler.state.port import Append, Note, Snapshot, Store, Surroundings, Write
from reconciler.state.session import Session
from reconciler.testing.amount import SAMPLE, Amount
from reconciler.testing.states import StateContract
from reconciler_scripts.directory import DirectoryPlugin, DirectoryRemote, Revision
from seeded_remotes import DropsLines, LatestRevision, Unconditional

IMPORTABLE = {
    "PYTHONPATH": os.pathsep.join(
        [
            os.path.dirname(__file__),
            os.path.dirname(directory_home.__file__),
            os.path.dirname(os.path.dirname(reconciler_scripts.__file__)),
        ]
    )
}
"""What makes programs find this module, what it imports, and the package whose home is broken here."""


class HidesLease(DirectoryRemote):
    """Does not show who holds the state."""

    def fetch(self) -> Snapshot | None:
        snapshot = super().fetch()
        return snapshot and snapshot._replace(content=snapshot.content._replace(holder=None))


class LateWrites(DirectoryRemote):
    """Acknowledges a write before it is there, as a database does whose commits are not synchronous.

    What is appended is there with the next write alone, however long that takes: a busy machine changes nothing.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._late: list[tuple[int, Revision]] = []

    def _link(self, number: int, revision: Revision) -> None:
        self._late.append((number, revision))
        if not isinstance(revision.write, Append):
            self._write_late()

    def _write_late(self) -> None:
        while self._late:
            with suppress(FileExistsError):  # another program has written this number
                super()._link(*self._late.pop())

    def publish(self, base: str | None, write: Write, note: Note) -> str:
        self._write_late()
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


class NoPlace(LeasedStore):
    """Has no name."""

    @property
    def where(self) -> str:
        return ""


class NeverEmpty(LeasedStore):
    """Reads a state where there is none."""

    def read(self, target: Target) -> State | None:
        return super().read(target) or State("a-lineage", 0, target, {})


class HidesAborted(LeasedStore):
    """Reads no record of a job that is not to run."""

    def read(self, target: Target) -> State | None:
        return _with_jobs(super().read(target), lambda name, record: record.state is not Desired.ABORTED)


class WritesAlways(LeasedStore):
    """Writes the state once more on leaving."""

    @contextmanager
    def open(self, target: Target, what: str, timeout_s: float) -> Iterator[Session]:
        with super().open(target, what, timeout_s) as session:
            yield session
        state = self.read(target)
        if state is not None:
            self.put(state._replace(serial=state.serial + 1), target, timeout_s)


class ShowsOldNames(LeasedStore):
    """Reads a record that was moved under its old name."""

    def read(self, target: Target) -> State | None:
        state = super().read(target)
        return state and state._replace(jobs={"a" if name == "z" else name: one for name, one in state.jobs.items()})


class OneSerial(LeasedStore):
    """Reads each state with the same serial."""

    def read(self, target: Target) -> State | None:
        state = super().read(target)
        return state and state._replace(serial=7)


class Neutralises(LeasedStore):
    """Reads texts without control characters."""

    def read(self, target: Target) -> State | None:
        state = super().read(target)
        sound = {
            name: one._replace(resolved="".join(filter(str.isprintable, one.resolved)))
            for name, one in (state.jobs.items() if state else ())
        }
        return state and state._replace(jobs=sound)


class OnePage(LeasedStore):
    """Reads the first records of a state, as a query does that has a limit."""

    def read(self, target: Target) -> State | None:
        return _with_jobs(super().read(target), lambda name, record: len(name) < len("job-10"))


class PutsNothing(LeasedStore):
    """Says that a state was put in the place of an older one, and does nothing."""

    def put(self, state: State, target: Target, timeout_s: float) -> bool:
        return True


class RemarksAlways(LeasedStore):
    """Accepts a sound state with a remark."""

    def accept(self, target: Target, timeout_s: float, *, has_moved: bool = False) -> tuple[State, list[str]]:
        state, remarks = super().accept(target, timeout_s, has_moved=has_moved)
        return state, [*remarks, "something was accepted"]


def _with_jobs(state: State | None, is_shown: Callable[[str, Record], bool]) -> State | None:
    return state and state._replace(jobs={name: one for name, one in state.jobs.items() if is_shown(name, one)})


class _Plugin(DirectoryPlugin):
    """The plugin of the directory, with another remote, or with another store on top of the remote."""

    def __init__(self, remote: type[DirectoryRemote], store: type[LeasedStore] = LeasedStore) -> None:
        self._remote = remote
        self._store = store

    def open(self, url: str, surroundings: Surroundings) -> Store:
        return self._store(self._remote(Path(url.removeprefix(self.prefix))), surroundings)


class _LongerUrls(DirectoryPlugin):
    """Has a full URL that is not full."""

    def full_url(self, url: str) -> str:
        return f"{url}/more"


class _WithoutMarks(DirectoryPlugin):
    """Forgets which state a machine has seen."""

    def open(self, url: str, surroundings: Surroundings) -> Store:
        folder = os.path.join(surroundings.marks_folder, surroundings.new_id())
        os.mkdir(folder)
        return super().open(url, surroundings._replace(marks_folder=folder))


class _BelievingRepository(Repository):
    """Takes a push whose answer was lost for one that has arrived."""

    _pushed = ""

    def _tip(self) -> str | None:
        return self._pushed if self._pushed else super()._tip()

    def push(self, commit: str, expected: str | None) -> None:
        self._pushed = commit
        super().push(commit, expected)
        self._pushed = ""


class _BelievingGit(GitPlugin):
    """The home on a branch, in such a repository."""

    def open(self, url: str, surroundings: Surroundings) -> Store:
        vars(git)["Repository"] = _BelievingRepository
        return super().open(url, surroundings)


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
LONGER_URLS = _LongerUrls()
WITHOUT_MARKS = _WithoutMarks()
BELIEVING_GIT = _BelievingGit()
NO_PLACE = _Plugin(DirectoryRemote, NoPlace)
NEVER_EMPTY = _Plugin(DirectoryRemote, NeverEmpty)
HIDES_ABORTED = _Plugin(DirectoryRemote, HidesAborted)
WRITES_ALWAYS = _Plugin(DirectoryRemote, WritesAlways)
SHOWS_OLD_NAMES = _Plugin(DirectoryRemote, ShowsOldNames)
ONE_SERIAL = _Plugin(DirectoryRemote, OneSerial)
NEUTRALISES = _Plugin(DirectoryRemote, Neutralises)
ONE_PAGE = _Plugin(DirectoryRemote, OnePage)
PUTS_NOTHING = _Plugin(DirectoryRemote, PutsNothing)
REMARKS_ALWAYS = _Plugin(DirectoryRemote, RemarksAlways)


class _Home(StateContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"dir://{tmp_path}/there"

    @pytest.fixture
    def environment(self) -> Mapping[str, str]:
        return IMPORTABLE

    def revision(self, url: str) -> str:
        return str(len(list(Path(url.removeprefix("dir://")).glob("*.json"))))

    def keep_copy(self, url: str) -> Callable[[], None]:
        return test_state_contracts.copied(Path(url.removeprefix("dir://")))


class TestUnconditionalHome(_Home):
    plugin = "seeded_homes:UNCONDITIONAL"
    CAUGHT_BY = (
        "test_of_programs_that_start_at_once_one_makes_each_call",
        "test_of_two_sessions_that_open_at_once_one_records_at_most",
        "test_machines_whose_clocks_are_an_hour_apart_share_the_home",
        "test_a_program_that_is_stopped_and_continues_late_does_no_harm[intended]",
    )


class TestHomeThatHidesItsLease(_Home):
    plugin = "seeded_homes:HIDES_LEASE"
    CAUGHT_BY = (
        "test_a_session_that_holds_the_state_excludes_others",
        "test_a_program_on_a_machine_that_is_ahead_is_not_overtaken_while_it_works",
    )


class TestHomeWithLateWrites(_Home):
    plugin = "seeded_homes:LATE_WRITES"
    CAUGHT_BY = (
        "test_an_intent_is_on_record_when_intend_returns",
        "test_a_program_that_is_killed_leaves_all_it_did_on_record[intended]",
        "test_kills_at_any_moment_lose_nothing_and_repeat_nothing",
    )


class TestHomeThatDropsLines(_Home):
    plugin = "seeded_homes:DROPS_LINES"
    CAUGHT_BY = ("test_each_change_is_in_the_history_once", "test_many_calls_at_once_are_all_on_record")


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


class TestHomeWithoutAFullUrl(_Home):
    plugin = "seeded_homes:LONGER_URLS"
    CAUGHT_BY = ("test_the_plugin_takes_its_url",)


class TestHomeWithoutAName(_Home):
    plugin = "seeded_homes:NO_PLACE"
    CAUGHT_BY = ("test_the_place_has_a_name_of_one_line",)


class TestHomeThatIsNeverEmpty(_Home):
    plugin = "seeded_homes:NEVER_EMPTY"
    CAUGHT_BY = ("test_an_empty_place_has_no_state_and_reading_leaves_it_empty",)


class TestHomeThatHidesAborted(_Home):
    plugin = "seeded_homes:HIDES_ABORTED"
    CAUGHT_BY = ("test_what_one_machine_records_another_one_reads",)


class TestHomeThatWritesAlways(_Home):
    plugin = "seeded_homes:WRITES_ALWAYS"
    CAUGHT_BY = ("test_a_session_without_a_change_writes_nothing",)


class TestHomeThatShowsOldNames(_Home):
    plugin = "seeded_homes:SHOWS_OLD_NAMES"
    CAUGHT_BY = ("test_records_are_changed_moved_and_removed",)


class TestHomeWithOneSerial(_Home):
    plugin = "seeded_homes:ONE_SERIAL"
    CAUGHT_BY = ("test_the_serial_grows_with_each_change_and_the_lineage_stays",)


class TestHomeThatNeutralisesTexts(_Home):
    plugin = "seeded_homes:NEUTRALISES"
    CAUGHT_BY = ("test_hostile_texts_come_back_as_they_were",)


class TestHomeOfOnePage(_Home):
    plugin = "seeded_homes:ONE_PAGE"
    CAUGHT_BY = ("test_many_jobs_are_all_there",)


class TestHomeThatPutsNothing(_Home):
    plugin = "seeded_homes:PUTS_NOTHING"
    CAUGHT_BY = ("test_a_whole_state_takes_the_place_of_an_older_one",)


class TestHomeThatRemarksAlways(_Home):
    plugin = "seeded_homes:REMARKS_ALWAYS"
    CAUGHT_BY = ("test_a_sound_state_is_accepted_without_a_remark",)


class TestHomeWithoutMarks(_Home):
    plugin = "seeded_homes:WITHOUT_MARKS"
    CAUGHT_BY = ("test_a_state_that_was_rolled_back_is_refused_until_it_is_accepted",)


class TestBelievingGit(test_state_contracts.TestGit):
    plugin = "seeded_homes:BELIEVING_GIT"
    CAUGHT_BY = ("test_connections_that_break_lose_nothing_and_repeat_nothing[unsent]",)

    @pytest.fixture
    def amount(self) -> Amount:
        """In a single round, no push may be cut."""
        return SAMPLE._replace(cuts=6)

    @pytest.fixture
    def environment(self) -> Mapping[str, str]:
        return IMPORTABLE


class TestFilesWithoutALock(_Home):
    plugin = "seeded_homes:UNLOCKED"
    CAUGHT_BY = ("test_a_session_that_holds_the_state_excludes_others",)

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path / "jobs.state.json")
