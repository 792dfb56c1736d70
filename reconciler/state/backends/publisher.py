"""Pushes what was written to the disk of a branch, one commit at a time."""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from reconciler.host.clocks import Clocks, Instant
from reconciler.host.disk import OsDisk, replace
from reconciler.host.user_folders import make_own_folder
from reconciler.model.digests import sha256
from reconciler.model.errors import StateError
from reconciler.state.backends.branch_disk import BranchDisk, clash, lock_path
from reconciler.state.backends.git_commands import Denied, Unreachable
from reconciler.state.backends.git_objects import Author, TreeEntry
from reconciler.state.backends.repository import Moved, Remade, Repository
from reconciler.state.journal import JournalBroken, Overtaken
from reconciler.state.lease import MarkOncePublished, Unpublished

TRY_AGAIN_AFTER_S = (1.0, 3.0)
"""The pauses before a push that the network failed is tried again."""

_REBASES = 20
"""How often a commit is made anew because somebody else pushed to another state of the branch."""


class KnownTip:
    """The commit of a branch that this machine knew last, and the lock among the commands of this machine.

    Both are files in a folder of this machine. An empty folder name means that no commit is known.
    """

    def __init__(self, folder: str, branch: str) -> None:
        """`branch` tells one branch from all others."""
        self._folder = folder
        self._path = os.path.join(folder, f"git-{sha256(branch.encode())[:32]}")

    @property
    def lock_path(self) -> str:
        """The path of the lock file, in a folder that is made if needed. Raises `StateError`."""
        make_own_folder(self._folder, "XDG_STATE_HOME")
        return f"{self._path}.lock"

    def read(self) -> str:
        """The commit, "" if none is known."""
        if not self._folder:
            return ""
        try:
            return (OsDisk().read(self._path) or b"").decode("ascii", "replace").strip()
        except StateError:
            return ""

    def note(self, commit: str | None) -> None:
        """Remember the commit. This is best effort, like the high-water marks."""
        if self._folder and commit is not None and commit != self.read():
            with suppress(OSError):
                replace(OsDisk(), self._path, f"{commit}\n".encode(), 0o600)


class Work(NamedTuple):
    """The command that publishes, for the lock file and the messages of commits.

    `what` is the name of the command, `since` the time when it began, `nonce` an id of this run, and `path` the path
    of the state file.
    """

    who: str
    what: str
    since: str
    nonce: str
    path: str


class BranchPublisher:
    """A `Publisher` that pushes commits to a branch. For one thread at a time."""

    def __init__(
        self,
        repository: Repository,
        author: Callable[[], Author],
        disk: BranchDisk,
        work: Work,
        *,
        mark: MarkOncePublished,
        known: KnownTip,
        clocks: Clocks,
        wait: Callable[[float], bool],
    ) -> None:
        """`wait` pauses for seconds, and returns True if a stop was asked for."""
        self._repository = repository
        self._author = author
        self._work = work
        self._known = known
        self._wait = wait
        self._beat = 0
        self.mark = mark
        self.disk = disk
        self.tip = disk.tip
        """The commit that the next commit follows."""
        self.where = f"{work.path} on {repository.where}"
        self.clocks = clocks
        self.began = Instant(float("-inf"), float("-inf"))
        self.is_open_there = False

    def stopped(self) -> bool:
        """See `Publisher.stopped`."""
        return self._wait(0.0)

    def publish(self, *, is_open: bool) -> None:
        """See `Publisher.publish`. The lease is a lock file beside the state file."""
        began = self.clocks.now()
        noted = self.mark.take()
        changes = {**self.disk.changes(), **self._lock_change(is_open)}
        if changes:
            try:
                self._push(changes, is_open)
            except Unreachable as fault:
                raise Unpublished(fault.message) from fault
            self.disk.published(changes)
            self.began = began
            self.is_open_there = is_open
        if noted is not None:
            self.mark.keep(*noted)
        self._known.note(self.tip)

    def _lock_change(self, is_open: bool) -> dict[str, bytes | None]:
        """The change of the lock file: its new content, or None to remove it."""
        path = lock_path(self._work.path)
        if not is_open:
            return {} if self.disk.read(path) is None else {path: None}
        self._beat += 1
        record = {name: value for name, value in self._work._asdict().items() if name != "path"} | {"beat": self._beat}
        return {path: json.dumps(record, sort_keys=True, indent=1).encode() + b"\n"}

    def _push(self, changes: Mapping[str, bytes | None], is_open: bool) -> None:
        for _ in range(_REBASES):
            if self.tip not in (None, self.disk.tip):
                self._refuse_clash(self.tip)
            commit = self._repository.commit(self.tip, changes, self._message(is_open), self._author())
            try:
                self._insist(commit)
            except Remade:
                continue
            except Moved:
                if self._follow(commit, changes):
                    return
            else:
                self.tip = commit
                return
        raise JournalBroken(
            f"{self.where}: others push to that branch all the time; give this state a branch of its own"
        )

    def _refuse_clash(self, tip: str) -> None:
        """Raise `Overtaken` if somebody else's commit has a file in place of a folder of this state.

        A commit on top of that one would remove the file.
        """
        file = self._repository.file_above(tip, self._work.path)
        if file:
            raise Overtaken(clash(self._work.path, file, "file", self._repository.where).message)

    def _insist(self, commit: str) -> None:
        """Push one commit, and push it again if the network fails. Raises as `Repository.push` does."""
        for pause_s in (*TRY_AGAIN_AFTER_S, None):
            try:
                self._repository.push(commit, self.tip)
            except Unreachable as fault:
                if pause_s is None or isinstance(fault, Denied) or self._wait(pause_s):
                    raise
            else:
                return

    def _follow(self, commit: str, changes: Mapping[str, bytes | None]) -> bool:
        """Look at what somebody else pushed. True means that it follows our commit.

        False means that it left this state alone. Then the next commit has to follow it. Raises `Overtaken` for
        anything else.
        """
        paths = self.disk.touched | changes.keys()
        before, ours = self._blobs(self.tip, paths), self._blobs(commit, paths)
        tip = self._repository.fetch()
        theirs = self._blobs(tip, paths)
        grown = tip is not None and (self.tip is None or self._repository.holds(self.tip))
        if not grown or theirs not in (ours, before):
            said = "it is gone" if tip is None else self._repository.message(tip)
            raise Overtaken(f"someone else changed {self.where} while this command was at work ({said})")
        self.tip = tip
        return theirs == ours

    def _blobs(self, commit: str | None, paths: frozenset[str]) -> Mapping[str, TreeEntry]:
        """The entry of each of the paths that is in the commit."""
        entries = {} if commit is None else self._repository.entries(commit, os.path.dirname(self._work.path))
        return {path: entries[path] for path in paths if path in entries}

    def _message(self, is_open: bool) -> str:
        work = self._work
        stage = f"{work.what}, under way" if is_open else work.what
        return f"reconciler {stage} [skip ci]\n\n{work.path} by {work.who} since {work.since}\n"
