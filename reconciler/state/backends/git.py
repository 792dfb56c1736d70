"""State on a branch of its own of the team's git remote.

The state, the journal, the history and the lease are files of the branch. A push is a compare-and-swap: it names the
commit that it follows, and the remote accepts it only if the branch is still there. Several states may share a branch.
"""

import os
from collections.abc import Callable, Mapping

from reconciler.model.errors import Refused, StateError
from reconciler.state.backends.git_objects import Author, TreeEntry
from reconciler.state.backends.git_settings import author_of, settings_of_checkout, url_of_remote
from reconciler.state.backends.git_url import SCHEME, BranchUrl, fault_of, is_path, parse
from reconciler.state.backends.repository import Remade, Repository
from reconciler.state.file_store import refuse_shared_history
from reconciler.state.leased_store import LeasedStore
from reconciler.state.paths import paths_of
from reconciler.state.port import (
    Advice,
    Append,
    Content,
    Fold,
    Hold,
    Leave,
    Note,
    Pace,
    Page,
    Snapshot,
    Store,
    Surroundings,
    Write,
)

GATHER_S = 5.0
"""No intent waits longer than this for other intents that go with the same push."""

MOST_AT_ONCE = 256
"""The largest number of actions under way at once, and so of intents in one push."""

_ADVICE = Advice(
    version="commit",
    damaged="put a sound commit on top of that branch (git log shows what was there, git revert makes one)",
    rolled_back="push that commit to the branch again, from a clone that has it",
)


class GitRemote:
    """A `Remote` on a branch of a git remote: a version is a commit, and a write is a push of one commit."""

    def __init__(self, repository: Repository, path: str, author: Callable[[], Author]) -> None:
        """`path` is the path of the state file in the branch. `author` is called when there is something to commit."""
        self._repository = repository
        self._path = path
        self._author = author
        self._files = _Files(repository, None, path)
        """The files of the commit that was fetched or pushed last."""

    @property
    def where(self) -> str:
        """The path of the state and the branch, in words."""
        return f"{self._path} on {self._repository.where}"

    @property
    def pace(self) -> Pace:
        """See `Remote.pace`."""
        return Pace(MOST_AT_ONCE, GATHER_S)

    @property
    def advice(self) -> Advice:
        """See `Remote.advice`."""
        return _ADVICE

    def version(self) -> str | None:
        """See `Remote.version`."""
        return self._repository.tip()

    def fetch(self) -> Snapshot | None:
        """See `Remote.fetch`. Raises `Refused` if the branch has a folder in place of a file, or the other way round.

        Raises `StateError` for anything else in place of a file, such as a link.
        """
        tip = self._repository.fetch()
        if tip is None:
            return None
        self._files = self._at(tip)
        return self._files.snapshot(tip)

    def publish(self, base: str | None, write: Write, note: Note) -> str:
        """See `Remote.publish`. All files of other states stay as they are."""
        before = self._at(base)
        changes = before.changes(write)
        is_open = not isinstance(write, Leave) and write.holder is not None
        stage = f"{note.what}, under way" if is_open else note.what
        message = f"reconciler {stage} [skip ci]\n\n{self._path} by {note.who} since {note.since}\n"
        while True:
            commit = self._repository.commit(base, changes, message, self._author())
            try:
                self._repository.push(commit, base)
            except Remade:
                continue
            self._files = before.with_changes(commit, changes)
            return commit

    def follows(self, version: str) -> bool:
        """See `Remote.follows`."""
        return self._repository.holds(version)

    def author_of(self, version: str) -> str:
        """The author and the message of a commit."""
        return self._repository.message(version)

    def past(self, version: str, after: str | None, limit: int) -> Page:
        """See `Remote.past`. `after` is a place in the file of the history, in bytes."""
        content = self._at(version).read(paths_of(self._path).history) or b""
        begin = end = int(after or 0)
        for _ in range(limit):
            end = content.find(b"\n", end) + 1 or len(content)
            if end == len(content):
                break
        return Page(content[begin:end], str(end) if end < len(content) else None)

    def at(self, revision: str) -> Snapshot:
        """See `Remote.at`. A revision is a commit of the branch, as `Repository.revision` takes it."""
        commit = self._repository.revision(revision)
        self._files = self._at(commit)
        return self._files.snapshot(commit)

    def probe(self) -> None:
        """Do nothing: every git server compares and sets a branch in one step."""

    def _at(self, commit: str | None) -> "_Files":
        return self._files if commit == self._files.commit else _Files(self._repository, commit, self._path)


class _Files:
    """The files of one state at one commit. Their content is read when it is first needed, and kept."""

    def __init__(self, repository: Repository, commit: str | None, path: str) -> None:
        """Without a commit there are no files. Raises `Refused` if a folder of the path is a file at that commit."""
        if commit is not None and (file := repository.file_above(commit, path)):
            raise _clash(path, file, "file", repository.where)
        self.commit = commit
        self._repository = repository
        self._path = path
        self._entries = {} if commit is None else repository.entries(commit, os.path.dirname(path))
        self._known: dict[str, bytes | None] = {}

    def read(self, path: str) -> bytes | None:
        """The content of a file in the folder of the state. Raises `Refused` for a folder, `StateError` for a link."""
        if path not in self._known:
            entry = self._entry(path)
            self._known[path] = None if entry is None else self._repository.content(entry.id)
        return self._known[path]

    def snapshot(self, commit: str) -> Snapshot:
        """The content of these files. Raises `Refused` if another state would share the history."""
        refuse_shared_history(self._path, self.read)
        path = self._path
        content = Content(
            state=self.read(path),
            journal=self.read(paths_of(path).journal),
            holder=self.read(_lock_path(path)),
            history_bytes=self._size_bytes(paths_of(path).history),
        )
        return Snapshot(commit, content)

    def changes(self, write: Write) -> Mapping[str, bytes | None]:
        """The files that a write changes: the new content, or None for a file to remove."""
        path, journal, lock = self._path, paths_of(self._path).journal, _lock_path(self._path)
        before = self.read(journal)
        match write:
            case Append(holder, keep_bytes, content):
                return {journal: (before or b"")[:keep_bytes] + content, lock: holder}
            case Hold(holder):
                return {lock: holder}
            case Leave():
                return {lock: None}
            case Fold(holder, state, new_journal, lines):
                found: dict[str, bytes | None] = {}
                if holder is not None or self.read(lock) is not None:
                    found[lock] = holder
                if state is not None:
                    found[path] = state
                if new_journal != before:
                    found[journal] = new_journal
                if lines:
                    history = paths_of(path).history
                    found[history] = (self.read(history) or b"") + lines
                return found

    def with_changes(self, commit: str, changes: Mapping[str, bytes | None]) -> "_Files":
        """The files at the commit that has these changes."""
        after = _Files(self._repository, None, self._path)
        after.commit, after._entries = commit, self._entries
        after._known = {**self._known, **changes}
        return after

    def _size_bytes(self, path: str) -> int:
        if path in self._known:
            return len(self._known[path] or b"")
        entry = self._entry(path)
        return 0 if entry is None else int(entry.size_bytes)

    def _entry(self, path: str) -> TreeEntry | None:
        entry = self._entries.get(path)
        if entry is not None and entry.type == "tree":
            raise _clash(path, path, "folder", self._repository.where)
        if entry is not None and entry.mode not in ("100644", "100755"):
            raise StateError(f"{path} is no regular file", "remove it from the branch, or name another --state")
        return entry


class GitPlugin:
    """The `StatePlugin` for `git+REMOTE[#[BRANCH][:PATH]]`."""

    prefix = SCHEME

    def fault_of(self, url: str) -> tuple[str, str] | None:
        """See `StatePlugin.fault_of`."""
        return fault_of(url)

    def full_url(self, url: str) -> str:
        """See `StatePlugin.full_url`."""
        return str(parse(url))

    def open(self, url: str, surroundings: Surroundings) -> Store:
        """See `StatePlugin.open`."""
        around, named = surroundings, parse(url)
        remote = url_of_remote(named.remote, around.checkout, around.env) if named.is_name else named.remote
        if is_path(remote):
            remote = os.path.abspath(os.path.join(around.folder, remote))
        return store_on(named._replace(remote=remote), surroundings)


def store_on(url: BranchUrl, surroundings: Surroundings) -> LeasedStore:
    """The store on a branch, whose remote is a URL or an absolute path."""
    around = surroundings
    repository = Repository(
        around.cache_folder,
        url.remote,
        url.branch,
        env=around.env,
        settings=settings_of_checkout(around.checkout, around.env),
        wait=around.wait,
    )
    remote = GitRemote(repository, url.path, lambda: author_of(around.person(), around.checkout, around.env))
    return LeasedStore(remote, surroundings, url.path)


PLUGIN = GitPlugin()


def _lock_path(path: str) -> str:
    """The path of the lease of a state file."""
    return f"{path}.lock"


def _clash(path: str, there: str, kind: str, where: str) -> Refused:
    """The error for a path that a branch can't have, because `there` is a file or a folder (`kind`) on it."""
    return Refused(
        f"{path} can't be on {where}: {there} is a {kind} there, and git has no file and folder of one name",
        "name another path with --state; what is there belongs to another state, as it seems",
    )
