"""A store made of any remote: `reconciler.state.lease` says why nothing runs twice, and nothing is lost."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from reconciler.host.disk import OsDisk
from reconciler.host.lock import locked
from reconciler.host.user_folders import NoOwnFolder
from reconciler.model.errors import StateError
from reconciler.model.jobs import State, Target
from reconciler.state.file_lock import FileContext
from reconciler.state.file_store import FileStore
from reconciler.state.history import StoredHistory
from reconciler.state.journal import JournalBroken
from reconciler.state.lease import LeaseGate, MarkOncePublished, await_turn
from reconciler.state.loading import OtherTarget
from reconciler.state.marks import HighWaterMarks
from reconciler.state.port import Note, Remote, Snapshot, Surroundings, Unreachable
from reconciler.state.publisher import KnownVersion, RemotePublisher
from reconciler.state.replica import ReplicaDisk, ReplicaLock
from reconciler.state.rollback import RolledBack
from reconciler.state.session import Session

DEFAULT_NAME = "jobs.state.json"
"""The name of the state file in messages, where the remote has no such name."""


class LeasedStore:
    """A `Store` on a remote. The store works on a copy of the files in memory, and publishes what changes there."""

    def __init__(self, remote: Remote, surroundings: Surroundings, name: str = DEFAULT_NAME) -> None:
        """`name` is the name of the state file in messages."""
        self._remote = remote
        self._surroundings = surroundings
        self._name = name
        self._known = KnownVersion(surroundings.marks_folder, remote.where)

    def guard(self, around: Callable[[Remote], Remote]) -> None:
        """Put a guard around the remote, before the store is used."""
        self._remote = around(self._remote)

    @property
    def where(self) -> str:
        """The place of the remote in words."""
        return self._remote.where

    def read(self, target: Target) -> State | None:
        """See `Store.read`. Raises `StateError` if the remote was rewritten."""
        with self._wording():
            snapshot = self._remote.fetch()
            remarks = self._rewritten(snapshot)
            if remarks:
                raise self._refusal(remarks[0])
            return self._files(self._replica(snapshot)).read(target)

    @contextmanager
    def open(self, target: Target, what: str, timeout_s: float) -> Iterator[Session]:
        """See `Store.open`. An intent is on the remote when `Session.intend` returns."""
        with self._opened(what, timeout_s) as (publisher, _), ExitStack() as stack:
            with self._wording():
                files = self._files(publisher.replica, publisher)
                session = stack.enter_context(files.open(target, what, timeout_s))
            yield session

    def accept(self, target: Target, timeout_s: float, *, has_moved: bool = False) -> tuple[State, list[str]]:
        """See `Store.accept`. A remote that was rewritten is accepted as well."""
        with self._opened("state accept", timeout_s, takes_rewritten=True) as (publisher, rewritten):
            with self._wording():
                files = self._files(publisher.replica, publisher)
                accepted, remarks = files.accept(target, timeout_s, has_moved=has_moved)
            publisher.publish(is_open=False)
            self._known.note(publisher.version)
        return accepted, [*rewritten, *remarks]

    def read_history(self) -> StoredHistory:
        """See `Store.read_history`."""
        return self._files(self._replica(self._remote.fetch())).read_history()

    def at(self, revision: str) -> StoredHistory:
        """See `Store.at`. What a command at work had in its journal then is part of the state."""
        return self._files(self._replica(self._remote.at(revision))).read_history()

    def put(self, state: State, target: Target, timeout_s: float) -> bool:
        """See `Store.put`."""
        with self._opened("state push", timeout_s) as (publisher, _):
            with self._wording():
                changed = self._files(publisher.replica, publisher).put(state, target, timeout_s)
            publisher.publish(is_open=False)
        return changed

    @contextmanager
    def _opened(
        self, what: str, timeout_s: float, *, takes_rewritten: bool = False
    ) -> Iterator[tuple[RemotePublisher, list[str]]]:
        """Hold the lock among the commands of this machine, and wait for the turn on the remote.

        Yields a publisher, and a sentence if the remote was rewritten, which is refused unless `takes_rewritten`.
        """
        around, remote = self._surroundings, self._remote
        note = Note(around.user, what, around.now())
        with locked(self._known.lock_path, note._asdict(), timeout_s, around.wait):
            snapshot = await_turn(remote, timeout_s, around.wait, around.clocks.boot_s, around.tell)
            remarks = self._rewritten(snapshot)
            if remarks and not takes_rewritten:
                raise self._refusal(remarks[0])
            if snapshot is None:
                remote.probe()
            publisher = RemotePublisher(
                remote,
                self._replica(snapshot),
                snapshot.version if snapshot else None,
                note,
                around.new_id(),
                mark=MarkOncePublished(self._marks()),
                known=self._known,
                clocks=around.clocks,
                wait=around.wait,
            )
            yield publisher, remarks

    def _rewritten(self, snapshot: Snapshot | None) -> list[str]:
        """A sentence if a snapshot does not follow the version that this machine knew last, else nothing."""
        known, remote = self._known.read(), self._remote
        if not known or (snapshot is not None and (known == snapshot.version or remote.follows(known))):
            return []
        what = "is gone" if snapshot is None else "was rewritten"
        noun = remote.advice.version
        return [f"{remote.where} {what}: it does not hold {noun} {known}, which was seen from here before"]

    def _refusal(self, why: str) -> StateError:
        return StateError(
            why,
            f"{self._remote.advice.rolled_back}; or, if what is there is meant, look it through and accept it: "
            "`reconciler state accept`",
        )

    def _marks(self) -> HighWaterMarks:
        return HighWaterMarks(OsDisk(), self._surroundings.marks_folder)

    def _replica(self, snapshot: Snapshot | None) -> ReplicaDisk:
        return ReplicaDisk(self._remote, snapshot, self._name)

    def _files(self, disk: ReplicaDisk, publisher: RemotePublisher | None = None) -> FileStore:
        """The files of the replica as a store. Without a `publisher` they can only be read."""
        return FileStore(
            self._name,
            FileContext.of(self._surroundings, disk),
            lock=ReplicaLock(disk),
            marks=self._marks(),
            note=publisher.mark.note if publisher else None,
            gate=(lambda writer: LeaseGate(publisher, writer.failure, lambda: writer.records.in_flight))
            if publisher
            else None,
        )

    @contextmanager
    def _wording(self) -> Iterator[None]:
        """Let an error of the files name the remote, and say what can be done about it there."""
        try:
            yield
        except (JournalBroken, NoOwnFolder, OtherTarget, Unreachable):
            raise
        except RolledBack as fault:
            # The files are those of the replica, which nobody can check out.
            raise RolledBack(f"{fault.message} ({self._remote.where})", newer=fault.newer) from fault
        except StateError as fault:
            raise StateError(
                f"{fault.message} ({self._remote.where})",
                f"{self._remote.advice.damaged}, or look it through and accept it as it is: `reconciler state accept`",
            ) from fault
