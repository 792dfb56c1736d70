"""Remotes with one bug each, and the tests of the suite that have to fail for them; see `seeded_engines`."""

import os
import random
from pathlib import Path
from typing import Any, ClassVar

import pytest

from reconciler.state.port import Fold, Leave, Moved, Note, Page, Snapshot, Write
from reconciler.testing.remotes import Connect, RemoteContract
from reconciler_scripts.directory import DirectoryRemote, Revision


def number_of(version: str) -> int:
    """Return the number of a version of the directory."""
    return int(version.partition("-")[0])


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
        if base and latest and latest.content == self._snapshot(number_of(base)).content:
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


class InventsVersion(DirectoryRemote):
    """Has a version before anything was written."""

    def version(self) -> str | None:
        return super().version() or "0-none"


class ChangesItsName(DirectoryRemote):
    """Has another name for each object."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.where = f"{self.where} ({id(self)})"


class ProbesWithAWrite(DirectoryRemote):
    """Leaves behind what it has probed the place with."""

    def probe(self) -> None:
        self.publish(None, Leave(), Note("probe", "probe", ""))


class NamesNobody(DirectoryRemote):
    """Says of each version that somebody else wrote it."""

    def author_of(self, version: str) -> str:
        return "somebody else"


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


class TestInventsVersion(_Remote):
    kind = InventsVersion
    CAUGHT_BY = ("test_an_empty_place_has_no_version",)


class TestChangesItsName(_Remote):
    kind = ChangesItsName
    CAUGHT_BY = ("test_the_place_has_a_name_of_one_line_that_stays",)

    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        kept: list[DirectoryRemote] = []

        def connected() -> DirectoryRemote:
            kept.append(ChangesItsName(tmp_path / "there"))
            return kept[-1]

        return connected


class TestProbesWithAWrite(_Remote):
    kind = ProbesWithAWrite
    CAUGHT_BY = ("test_a_sound_place_passes_the_probe_which_leaves_nothing_behind",)


class TestNamesNobody(_Remote):
    kind = NamesNobody
    CAUGHT_BY = ("test_the_author_of_a_version_is_who_published_it",)
