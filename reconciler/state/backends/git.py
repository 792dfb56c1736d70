"""State on a branch of its own of the team's git remote.

The state, the journal and the history are files of the branch. A push is a compare-and-swap: it names the commit that
it follows, and the remote accepts it only if the branch is still there. `reconciler.state.lease` says why nothing runs
twice, and nothing is lost.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from reconciler.host.clocks import Clocks
from reconciler.host.disk import OsDisk
from reconciler.host.lock import locked
from reconciler.host.user_folders import NoOwnFolder
from reconciler.model.errors import StateError
from reconciler.model.jobs import State, Target
from reconciler.state.backends.branch_disk import BranchDisk, BranchLock, lock_path
from reconciler.state.backends.file import FileStore
from reconciler.state.backends.file_lock import FileContext
from reconciler.state.backends.git_commands import Unreachable
from reconciler.state.backends.git_objects import Author
from reconciler.state.backends.git_url import BranchUrl
from reconciler.state.backends.publisher import BranchPublisher, KnownTip, Work
from reconciler.state.backends.repository import Repository
from reconciler.state.history import StoredHistory
from reconciler.state.journal import JournalBroken
from reconciler.state.lease import LeaseGate, MarkOncePublished, await_turn
from reconciler.state.loading import OtherTarget
from reconciler.state.marks import HighWaterMarks
from reconciler.state.session import Session


class Means(NamedTuple):
    """What a store on a branch needs from its environment, in addition to a `FileContext`.

    `author` says who commits, and is called when there is something to commit. `tell` is called with a sentence for
    the person who waits. `folder` is the folder for local locks and marks. `clocks` measure the age of a push.
    """

    repository: Repository
    author: Callable[[], Author]
    tell: Callable[[str], None]
    folder: str
    clocks: Clocks = Clocks()


class BranchStore:
    """A `Store` on a branch of a git remote."""

    def __init__(self, url: BranchUrl, means: Means, context: FileContext) -> None:
        """The disk of the `context` is not used: the files are on the branch."""
        self._path = url.path
        self._means = means
        self._context = context
        self._repository = means.repository
        self._known = KnownTip(means.folder, f"{url.remote}#{url.branch}")
        self._branch = _Branch(means.repository, url.path)

    @property
    def where(self) -> str:
        """The path of the state and the branch, in words."""
        return self._branch.where

    def read(self, target: Target) -> State | None:
        """See `Store.read`. Raises `StateError` if the branch was rewritten."""
        with self._wording():
            disk = self._branch.fetch()
            remarks = self._rewritten(disk.tip)
            if remarks:
                raise _refusal(remarks[0])
            return self._files(disk).read(target)

    @contextmanager
    def open(self, target: Target, what: str, timeout_s: float) -> Iterator[Session]:
        """See `Store.open`. An intent is on the branch when `Session.intend` returns."""
        with self._opened(what, timeout_s) as (publisher, _), ExitStack() as stack:
            with self._wording():
                session = stack.enter_context(self._files(publisher.disk, publisher).open(target, what, timeout_s))
            yield session

    def accept(self, target: Target, timeout_s: float, *, has_moved: bool = False) -> tuple[State, list[str]]:
        """See `Store.accept`. A branch that was rewritten is accepted as well."""
        with self._opened("state accept", timeout_s, takes_rewritten=True) as (publisher, rewritten):
            with self._wording():
                files = self._files(publisher.disk, publisher)
                accepted, remarks = files.accept(target, timeout_s, has_moved=has_moved)
            publisher.publish(is_open=False)
            self._known.note(publisher.tip)
        return accepted, [*rewritten, *remarks]

    def read_history(self) -> StoredHistory:
        """See `Store.read_history`."""
        return self._files(self._branch.fetch()).read_history()

    def read_history_at(self, name: str) -> StoredHistory:
        """The history and the state at a revision of the branch. Raises as `Repository.revision` does."""
        return self._files(BranchDisk(self._repository, self._repository.revision(name), self._path)).read_history()

    def put(self, state: State, target: Target, timeout_s: float) -> bool:
        """See `Store.put`."""
        with self._opened("state push", timeout_s) as (publisher, _):
            with self._wording():
                changed = self._files(publisher.disk, publisher).put(state, target, timeout_s)
            publisher.publish(is_open=False)
        return changed

    @contextmanager
    def _opened(
        self, what: str, timeout_s: float, *, takes_rewritten: bool = False
    ) -> Iterator[tuple[BranchPublisher, list[str]]]:
        """Hold the lock among the commands of this machine, and wait for the turn on the branch.

        Yields a publisher, and a sentence if the branch was rewritten, which is refused unless `takes_rewritten`.
        """
        context, means = self._context, self._means
        work = Work(context.who, what, context.now(), "", self._path)
        holder = {"who": work.who, "what": work.what, "since": work.since}
        with locked(self._known.lock_path, holder, timeout_s, context.wait):
            disk = await_turn(self._branch, timeout_s, context.wait, means.clocks.boot_s, means.tell)
            remarks = self._rewritten(disk.tip)
            if remarks and not takes_rewritten:
                raise _refusal(remarks[0])
            publisher = BranchPublisher(
                self._repository,
                means.author,
                disk,
                work._replace(nonce=context.new_lineage()),
                mark=MarkOncePublished(self._marks()),
                known=self._known,
                clocks=means.clocks,
                wait=context.wait,
            )
            yield publisher, remarks

    def _rewritten(self, tip: str | None) -> list[str]:
        """A sentence if `tip` does not follow the commit that this machine knew last, else nothing."""
        known = self._known.read()
        if not known or known == tip or (tip is not None and self._repository.holds(known)):
            return []
        what = "is gone" if tip is None else "was rewritten"
        return [f"{self._repository.where} {what}: it does not hold commit {known}, which was seen from here before"]

    def _marks(self) -> HighWaterMarks:
        return HighWaterMarks(OsDisk(), self._context.marks_folder)

    def _files(self, disk: BranchDisk, publisher: BranchPublisher | None = None) -> FileStore:
        """The files of the branch as a store. Without a `publisher` they can only be read."""
        return FileStore(
            self._path,
            self._context._replace(disk=disk),
            lock=BranchLock(disk, self._path),
            marks=self._marks(),
            note=publisher.mark.note if publisher else None,
            gate=(lambda writer: LeaseGate(publisher, writer.failure, lambda: writer.records.in_flight))
            if publisher
            else None,
        )

    @contextmanager
    def _wording(self) -> Iterator[None]:
        """Let an error of the files name the branch, and say what can be done about it there."""
        try:
            yield
        except (JournalBroken, NoOwnFolder, OtherTarget, Unreachable):
            raise
        except StateError as fault:
            raise StateError(
                f"{fault.message} ({self._repository.where})",
                "put a sound commit on top of that branch (git log shows what was there, git revert makes one), or "
                "look it through and accept it as it is: `reconciler state accept`",
            ) from fault


class _Branch:
    """A branch with a state at `path`, as a `LeasedHome`."""

    def __init__(self, repository: Repository, path: str) -> None:
        self._repository = repository
        self._path = path

    @property
    def where(self) -> str:
        return f"{self._path} on {self._repository.where}"

    @property
    def remote(self) -> str:
        return self._repository.where

    def fetch(self) -> BranchDisk:
        return BranchDisk(self._repository, self._repository.fetch(), self._path)

    def lease_in(self, snapshot: BranchDisk) -> bytes | None:
        return snapshot.read(lock_path(self._path))

    def has_moved(self, snapshot: BranchDisk) -> bool:
        return self._repository.tip() != snapshot.tip


def _refusal(why: str) -> StateError:
    return StateError(
        why,
        "push that commit to the branch again, from a clone that has it; or, if the branch is meant to be as it is, "
        "look it through and accept it: `reconciler state accept`",
    )
