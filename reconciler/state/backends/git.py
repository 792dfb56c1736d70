"""State on a branch of its own of the team's git remote.

State, journal and history are files of the branch, as they would lie on a disk, and a flush is a push. Each
push names the commit that it follows, and the remote takes it only where the branch is still there:
so of two that know the same commit one gets through, and the other sends nothing.

Why nothing runs twice, and nothing is lost:

1.  A call is sent only after a push that holds its intent is known to have arrived. Where the answer to a
    push is lost the branch is read; where that fails too, nothing is sent. Whoever comes next finds
    either no intent, and nothing was sent, or an intent without a result: a doubt, settled by two looks.
2.  From its first intent to its last result a command keeps a lock file on the branch, and renews it with
    each push, every `RENEW_AFTER_S` at least. A call leaves only within `SEND_WITHIN_S` of the moment
    at which the last push that arrived was begun; later, another push has to arrive first. How long ago that
    was is told by two clocks, of which the one that moved further counts (`reconciler.host.clocks`): a machine that was
    suspended, or a virtual machine that was paused, asks the remote before it sends.
3.  Another command that finds the lock file waits until it is gone, or until it has not changed for
    `TAKE_OVER_AFTER_S` as measured here, by a clock that never runs ahead of real time. Then the other one is
    dead, or may send no more: its right has run out, and the push that would renew it must follow a
    commit that is about to be followed by ours. If it gets through before ours does, ours is refused.
4.  So the second look at a doubt is taken `--settle` after the last moment at which its call could have
    left, as with a lock that dies with its holder. What two looks led to is acted upon only after a
    push that follows the commit which told of the doubt.

What can't be had: a machine that is stopped between the last check and the write to the socket sends late if that takes
longer than `TAKE_OVER_AFTER_S` - `SEND_WITHIN_S`, less the 10 s that connecting may take. So does a virtual machine
that was paused, until its wall clock is set again: neither of its clocks tells of the pause.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from typing import Any, NamedTuple

from reconciler.host.clocks import Clocks, Instant
from reconciler.host.crash_report import exhausted_resource
from reconciler.host.disk import File, OsDisk, replace
from reconciler.host.lock import locked
from reconciler.host.user_folders import NoOwnFolder, make_own_folder
from reconciler.model.errors import LockTaken, ReconcilerError, Refused, StateError
from reconciler.model.jobs import Doubt, State, Target
from reconciler.state import codec
from reconciler.state.backends.file import FileStore, HighWaterMarks, Surroundings
from reconciler.state.backends.git_commands import Denied, Unreachable
from reconciler.state.backends.git_objects import Author, TreeEntry
from reconciler.state.backends.git_url import BranchUrl
from reconciler.state.backends.repository import Moved, Remade, Repository
from reconciler.state.history import StoredHistory
from reconciler.state.journal import JournalBroken, Overtaken
from reconciler.state.loading import OtherTarget
from reconciler.state.session import Session

RENEW_AFTER_S = 10.0
"""A command whose intents are on the branch pushes at least so often, which also brings the results."""

SEND_WITHIN_S = 30.0
"""No call is sent later than this after the beginning of the last push that arrived."""

TAKE_OVER_AFTER_S = 60.0
"""An unfinished command of someone else's is taken for dead once the branch has not moved for so long."""

GATHER_S = 5.0
"""No intent waits longer than this for others to go with it."""

MOST_AT_ONCE = 256
"""So many actions are under way at once, at most, and their intents go in one push."""

_RESULTS_AFTER_S = 1.0
"""The results of a step go this long after it: by then, mostly, they go with the next intents or the end."""

_POLL_S = 2.0
_TRY_AGAIN_AFTER_S = (1.0, 3.0)
_REBASES = 20


class Means(NamedTuple):
    """What a store on a branch takes from the world, beside what one in files does.

    `author` says who commits, and is asked when there is something to commit. `tell` gets a remark for
    the person who waits. `folder` is where local locks and marks are kept. `clocks` tell how long ago a push was.
    """

    repository: Repository
    author: Callable[[], Author]
    tell: Callable[[str], None]
    folder: str
    clocks: Clocks = Clocks()


class BranchStore:
    """A `Store` on a branch of a git remote."""

    def __init__(self, url: BranchUrl, means: Means, around: Surroundings) -> None:
        self._path = url.path
        self._url = str(url)
        self._means = means
        self._around = around
        self._repository = means.repository
        self._seen = _Seen(means.folder, f"{url.remote}#{url.branch}")

    @property
    def where(self) -> str:
        return f"{self._path} on {self._repository.where}"

    def read(self, target: Target) -> State | None:
        with self._worded():
            return self._files(self._seen_disk()).read(target)

    @contextmanager
    def open(self, target: Target, what: str, timeout_s: float) -> Iterator[Session]:
        with self._opened(what, timeout_s) as publisher, ExitStack() as stack:
            files = self._files(publisher.disk, publisher.marks, publisher)
            with self._worded():
                session = stack.enter_context(files.open(target, what, timeout_s))
            yield session

    def accept(self, target: Target, timeout_s: float, *, has_moved: bool = False) -> tuple[State, list[str]]:
        with self._opened("state accept", timeout_s, takes_rewritten=True) as publisher:
            with self._worded():
                files = self._files(publisher.disk, publisher.marks)
                accepted, remarks = files.accept(target, timeout_s, has_moved=has_moved)
            publisher.publish(is_open=False)
            self._seen.note(publisher.tip)
        return accepted, [*publisher.remarks, *remarks]

    def read_history(self) -> StoredHistory:
        return self._files(self._disk()).read_history()

    def read_history_at(self, name: str) -> StoredHistory:
        """History and state as they were at a revision of the branch. Raises as `Repository.revision` does."""
        return self._files(BranchDisk(self._repository, self._repository.revision(name), self._path)).read_history()

    def put(self, state: State, target: Target, timeout_s: float) -> bool:
        with self._opened("state push", timeout_s) as publisher:
            with self._worded():
                changed = self._files(publisher.disk, publisher.marks).put(state, target, timeout_s)
            publisher.publish(is_open=False)
        return changed

    @contextmanager
    def _opened(self, what: str, timeout_s: float, *, takes_rewritten: bool = False) -> "Iterator[_Publisher]":
        """Hold the local lock and have the turn on the branch."""
        around = self._around
        holder = {"who": around.who, "what": what, "since": around.now()}
        with locked(self._seen.lock_path, holder, timeout_s, around.wait):
            disk = self._await_turn(timeout_s)
            remarks = self._rewritten(disk.tip)
            if remarks and not takes_rewritten:
                raise _refusal(remarks[0])
            marks = _MarksOfPublished(around.marks_folder)
            about = {**holder, "nonce": around.new_lineage(), "path": self._path}
            yield _Publisher(self._means, around, self._seen, marks, disk, about, self.where, remarks)

    def _await_turn(self, timeout_s: float) -> "BranchDisk":
        """The branch's files once no other command is at work on this state. Raises `LockTaken`."""
        disk = self._disk()
        boot_s = self._means.clocks.boot_s
        began_s = since_s = boot_s()
        found = disk.read(_lock_path(self._path))
        if found is not None:
            self._means.tell(
                f"{_holder(found)}, and has not ended: going on once {self._repository.where} has not "
                f"moved for {TAKE_OVER_AFTER_S:g} s"
            )
        while found is not None:
            left_s = since_s + TAKE_OVER_AFTER_S - boot_s()
            if left_s <= 0:
                break
            if self._around.wait(min(_POLL_S, left_s)):
                raise self._taken(found)
            if self._repository.tip() == disk.tip:
                continue
            disk = self._disk()
            before, found = found, disk.read(_lock_path(self._path))
            if found != before:
                since_s = boot_s()
                if found is not None and since_s - began_s >= timeout_s:
                    raise self._taken(found)
        return disk

    def _taken(self, lock: bytes) -> LockTaken:
        return LockTaken(
            f"the state is locked: {_holder(lock)} ({self.where})",
            "wait for that command to end and try again, or give --lock-timeout SECONDS",
        )

    def _disk(self) -> "BranchDisk":
        """The branch's files now."""
        return BranchDisk(self._repository, self._repository.fetch(), self._path)

    def _seen_disk(self) -> "BranchDisk":
        """The same. Raises `StateError` where the branch was rewritten."""
        disk = self._disk()
        remarks = self._rewritten(disk.tip)
        if remarks:
            raise _refusal(remarks[0])
        return disk

    def _rewritten(self, tip: str | None) -> list[str]:
        """Why this is not the branch that was seen here before, nothing where it is."""
        seen = self._seen.read()
        if not seen or seen == tip or (tip is not None and self._repository.holds(seen)):
            return []
        what = "is gone" if tip is None else "was rewritten"
        return [f"{self._repository.where} {what}: it does not hold commit {seen}, which was seen from here before"]

    def _files(
        self, disk: "BranchDisk", marks: HighWaterMarks | None = None, publisher: "_Publisher | None" = None
    ) -> "_Files":
        return _Files(self._path, self._around._replace(disk=disk), marks, publisher)

    @contextmanager
    def _worded(self) -> Iterator[None]:
        """Let an error of the files say which branch they lie on, and what is done about it there."""
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


class Unpublished(JournalBroken):
    """A push did not arrive, or it is not known whether it did."""

    DEFAULT_KEPT = "what the branch lacks of it is in doubt there, and is looked at when you apply again"
    DEFAULT_HINT = "see that the remote can be reached and takes pushes, and run the command again"


class BranchDisk:
    """The files of one commit, `tip`, as a `Disk`, with what was written since in memory.

    Safe for use by many threads. Without a commit there is no file.
    """

    def __init__(self, repository: Repository, tip: str | None, path: str) -> None:
        self.tip = tip
        self._repository = repository
        if tip is not None and (file := repository.file_above(tip, path)):
            raise _clash(path, file, "file", repository.where)
        self._entries = {} if tip is None else repository.entries(tip, os.path.dirname(path))
        self._turn = threading.RLock()
        self._base: dict[str, bytes | None] = {}
        self._files: dict[str, BranchFile | None] = {}

    def read(self, path: str) -> bytes | None:
        with self._turn:
            if path in self._files:
                file = self._files[path]
                return None if file is None else file.content
            return self._read_base(path)

    def create(self, path: str, mode: int) -> "BranchFile":
        with self._turn:
            file = self._files[path] = BranchFile()
            return file

    def rename(self, old: str, new: str) -> None:
        with self._turn:
            self._read_base(new)
            self._files[new] = self._files.pop(old)

    def remove(self, path: str) -> None:
        with self._turn:
            self._read_base(path)
            self._files[path] = None

    def sync_folder(self, path: str) -> None:
        return

    def mode(self, path: str) -> int | None:
        return None if self.read(path) is None else 0o644

    def hold(self, path: str) -> AbstractContextManager[None]:
        return nullcontext()

    def stamp(self, path: str) -> object:
        return self.read(path)

    def is_at(self, path: str, file: File) -> bool:
        with self._turn:
            return self._files.get(path) is file

    def changes(self) -> dict[str, bytes | None]:
        """What differs from the branch, as it is at one moment: new content, None for what is to go."""
        with self._turn:
            now = {
                path: None if file is None else file.content
                for path, file in self._files.items()
                if not path.endswith(".tmp")
            }
            return {path: content for path, content in now.items() if content != self._base.get(path)}

    def published(self, changes: Mapping[str, bytes | None]) -> None:
        """These changes are on the branch."""
        with self._turn:
            self._base |= changes

    @property
    def touched(self) -> frozenset[str]:
        """The paths that were read or written."""
        with self._turn:
            return frozenset(self._base) | frozenset(path for path in self._files if not path.endswith(".tmp"))

    def _read_base(self, path: str) -> bytes | None:
        if path not in self._base:
            entry = self._entries.get(path)
            if entry is not None and entry.type == "tree":
                raise _clash(path, path, "folder", self._repository.where)
            if entry is not None and entry.mode not in ("100644", "100755"):
                raise StateError(f"{path} is no regular file", "remove it from the branch, or name another --state")
            self._base[path] = None if entry is None else self._repository.content(entry.id)
        return self._base[path]


class BranchFile:
    """A file in memory. Space that is taken ahead shows as one zero byte at its end."""

    def __init__(self) -> None:
        self._written = bytearray()
        self._size_bytes = 0

    @property
    def content(self) -> bytes:
        written = bytes(self._written)
        return written + b"\0" if len(written) < self._size_bytes else written

    def write(self, offset: int, content: bytes) -> None:
        self._written[offset : offset + len(content)] = content

    def allocate(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes

    def sync(self) -> None:
        return

    def read(self) -> bytes:
        return self.content

    def close(self) -> None:
        return


class PublishedSession(Session):
    """A session whose intents are on the branch when `intend` returns.

    One thread pushes, for all: once every action that is under way waits for its intent to be
    published or has come to its end, so that the intents of a step go together.
    """

    is_local = False

    def __init__(self, publisher: "_Publisher", *arguments: Any) -> None:
        self._publisher = publisher
        self._boot_s = publisher.clocks.boot_s
        self._gate = threading.Condition()
        self._unfinished = 0
        self._intended = 0
        """Intents that were put into the journal; the last `_intended - _told` of them wait for a push."""
        self._told = 0
        self._rounds = 0
        self._first_at_s = 0.0
        self._results_at_s: float | None = None
        self._renewal_wanted = False
        self._closing = False
        self._doubtful_there: frozenset[str] = frozenset()
        self._thread: threading.Thread | None = None
        super().__init__(*arguments)

    @property
    def doubtful(self) -> frozenset[str]:
        if self._broken is None:
            return super().doubtful
        # An intent that never got to the branch was not followed by a call.
        with self._turn:
            return self._doubtful_there | {name for name, record in self._jobs.items() if record.doubt}

    def threads(self, parallelism: int) -> int:
        return MOST_AT_ONCE

    def begin(self, actions: int) -> None:
        with self._gate:
            self._unfinished += actions
        # Ahead of the threads that send, and before anything is sent: without it nothing would be published.
        try:
            self._start()
        except RuntimeError as fault:
            with self._gate:
                self._unfinished -= actions
            raise Unpublished(exhausted_resource(fault)) from fault

    def end(self) -> None:
        with self._gate:
            self._unfinished -= 1
            if not self._unfinished:
                self._results_at_s = self._boot_s() + _RESULTS_AFTER_S
            self._gate.notify_all()

    def intend(self, name: str, job_id: str, doubt: Doubt, *arguments: Any) -> None:
        super().intend(name, job_id, doubt, *arguments)
        with self._gate:
            if self._intended == self._told:
                self._first_at_s = self._boot_s()
            self._intended += 1
            ticket = self._intended
            self._gate.notify_all()
            while self._told < ticket and self._broken is None and not self._publisher.stopped():
                self._gate.wait(0.1)  # a signal sets the stop, and wakes nobody
        self._check()

    def assure(self) -> bool:
        for _ in range(2):
            if self._publisher.stopped():
                return False
            with self._gate:
                self._check()
                if self._publisher.may_send:
                    return True
                before = self._rounds
                self._renewal_wanted = True
                self._gate.notify_all()
                while self._rounds == before and self._broken is None and not self._publisher.stopped():
                    self._gate.wait(0.1)
        raise self._fail(f"a push takes longer than the {SEND_WITHIN_S:g} s within which a call must follow it")

    def close(self) -> None:
        with self._gate:
            self._closing = True
            self._gate.notify_all()
        if self._thread is not None:
            self._thread.join()
        try:
            super().close()
            self._publisher.publish(is_open=False)
        except JournalBroken as fault:
            doubtful = frozenset() if isinstance(fault, Overtaken) else self._doubtful_there
            raise fault.changed(doubtful=doubtful, is_unsent=not self._told) from fault

    def _start(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._publish_when_due, name="publish", daemon=True)
            thread.start()
            self._thread = thread

    def _publish_when_due(self) -> None:
        while True:
            with self._gate:
                while not self._closing and (left_s := self._due_in_s(self._boot_s())) > 0:
                    self._gate.wait(left_s)
                if self._closing or self._broken is not None:
                    return
                is_needed = self._renewal_wanted or self._intended > self._told
                upto = self._intended
                self._renewal_wanted, self._results_at_s = False, None
                self._first_at_s = self._boot_s()
            fault = self._published(is_needed)
            with self._gate:
                if fault is not None:
                    self._broken = fault
                else:
                    self._told = upto
                self._rounds += 1
                self._gate.notify_all()

    def _published(self, is_needed: bool) -> JournalBroken | None:
        """Publish, and return why that ends the session, None where it does not."""
        with self._turn:
            open_jobs = frozenset(self._in_flight())
        try:
            self._publisher.publish(is_open=True)
        except Overtaken as fault:
            self._doubtful_there = frozenset()  # they are the other's to settle
            return fault
        except JournalBroken as fault:
            return fault if is_needed else None
        except ReconcilerError as fault:
            return JournalBroken(f"{self._publisher.where} can't be pushed to: {fault.message}")
        except Exception as fault:  # noqa: BLE001  whoever waits for the push must not wait for ever
            return JournalBroken(f"{self._publisher.where} can't be pushed to: {type(fault).__name__}")
        self._doubtful_there = open_jobs
        return None

    def _due_in_s(self, now_s: float) -> float:
        """In how many seconds a push is due; 0 or less for now."""
        waiting = 0 if self._publisher.stopped() else self._intended - self._told
        if self._renewal_wanted or self._broken is not None or (waiting and waiting >= self._at_once):
            return 0.0
        times_s = [now_s + 0.5]  # to look for a stop, which wakes nobody
        if waiting:
            times_s.append(self._first_at_s + GATHER_S)
        if self._results_at_s is not None:
            times_s.append(self._results_at_s)
        if self._publisher.is_open_there:
            times_s.append(self._publisher.began.boot_s + RENEW_AFTER_S)
        return min(times_s) - now_s

    @property
    def _at_once(self) -> int:
        return min(self._unfinished, MOST_AT_ONCE)


class _Publisher:
    """Puts what was written to the disk of a branch on that branch, a commit at a time.

    `began` is when the last push that arrived was begun. For one thread at a time.
    """

    def __init__(
        self,
        means: Means,
        around: Surroundings,
        seen: "_Seen",
        marks: "_MarksOfPublished",
        disk: BranchDisk,
        about: Mapping[str, str],
        where: str,
        remarks: list[str],
    ) -> None:
        self._means = means
        self._repository = means.repository
        self._around = around
        self._seen = seen
        self._about = about
        self._beat = 0
        self.marks = marks
        self.disk = disk
        self.tip = disk.tip
        self.where = where
        self.remarks = remarks
        self.clocks = means.clocks
        self.began = Instant(float("-inf"), float("-inf"))
        self.is_open_there = False

    @property
    def may_send(self) -> bool:
        """Whether a call may follow the last push that arrived, whichever clock is asked."""
        return self.clocks.longest_since(self.began) <= SEND_WITHIN_S

    def stopped(self) -> bool:
        """Whether nothing new may start."""
        return self._around.wait(0.0)

    def publish(self, *, is_open: bool) -> None:
        """Push what differs from the branch, and the lock file, which goes where `is_open` is False.

        Raises `Overtaken` where someone else pushed to this state, `JournalBroken` where it is not
        known to have arrived.
        """
        began = self.clocks.now()
        noted = self.marks.take()
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
            self.marks.keep(*noted)
        self._seen.note(self.tip)

    def _lock_change(self, is_open: bool) -> dict[str, bytes | None]:
        path = _lock_path(self._about["path"])
        if not is_open:
            return {} if self.disk.read(path) is None else {path: None}
        self._beat += 1
        record = {name: value for name, value in self._about.items() if name != "path"} | {"beat": self._beat}
        return {path: json.dumps(record, sort_keys=True, indent=1).encode() + b"\n"}

    def _push(self, changes: Mapping[str, bytes | None], is_open: bool) -> None:
        for _ in range(_REBASES):
            if self.tip not in (None, self.disk.tip):
                self._refuse_clash(self.tip)
            commit = self._repository.commit(self.tip, changes, self._message(is_open), self._means.author())
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
        """Raise `Overtaken` where someone else's commit has a file in place of a folder of ours.

        A commit of ours on top of it would remove that file.
        """
        file = self._repository.file_above(tip, self._about["path"])
        if file:
            raise Overtaken(_clash(self._about["path"], file, "file", self._repository.where).message)

    def _insist(self, commit: str) -> None:
        """Push one commit, and where the network fails push the same again. Raises as `Repository.push` does."""
        for pause_s in (*_TRY_AGAIN_AFTER_S, None):
            try:
                self._repository.push(commit, self.tip)
            except Unreachable as fault:
                if pause_s is None or isinstance(fault, Denied) or self._around.wait(pause_s):
                    raise
            else:
                return

    def _follow(self, commit: str, changes: Mapping[str, bytes | None]) -> bool:
        """Look at what someone else pushed: True where it came after our commit; False where it left this state alone.

        Then the next commit follows theirs. Raises `Overtaken` for anything else.
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
        entries = {} if commit is None else self._repository.entries(commit, os.path.dirname(self._about["path"]))
        return {path: entries[path] for path in paths if path in entries}

    def _message(self, is_open: bool) -> str:
        about = self._about
        stage = f"{about['what']}, under way" if is_open else about["what"]
        return f"reconciler {stage} [skip ci]\n\n{about['path']} by {about['who']} since {about['since']}\n"


class _Files(FileStore):
    """The files of a branch, locked by whoever opened the branch."""

    def __init__(
        self, path: str, around: Surroundings, marks: HighWaterMarks | None, publisher: _Publisher | None
    ) -> None:
        super().__init__(path, around)
        self._marks = marks or HighWaterMarks(OsDisk(), around.marks_folder)
        if publisher is not None:
            self._session = partial(PublishedSession, publisher)

    def _at_work(self, folder: int | None) -> str:
        lock = self._around.disk.read(_lock_path(self._path))
        return _holder(lock) if lock else ""

    @contextmanager
    def _locked(self, what: str, timeout_s: float) -> Iterator[Callable[[], bool]]:
        yield lambda: True


class _MarksOfPublished(HighWaterMarks):
    """High-water marks that are kept once the state which they are of is on the branch."""

    def __init__(self, folder: str) -> None:
        super().__init__(OsDisk(), folder)
        self._unpublished: tuple[State, str] | None = None

    def note(self, state: State, digest: str) -> None:
        self._unpublished = state, digest

    def note_found(self, state: State, digest: str, path: str) -> None:
        self.keep(state, digest)

    def take(self) -> tuple[State, str] | None:
        """What was noted since."""
        noted, self._unpublished = self._unpublished, None
        return noted

    def keep(self, state: State, digest: str) -> None:
        """It is on the branch."""
        super().note(state, digest)


class _Seen:
    """The commit of a branch that was seen last from this machine, and the lock among commands on it.

    Without a folder nothing was seen.
    """

    def __init__(self, folder: str, branch: str) -> None:
        self._folder = folder
        self._path = os.path.join(folder, f"git-{codec.digest_of(branch.encode())[:32]}")

    @property
    def lock_path(self) -> str:
        """Where the lock file stands, in a folder that is there. Raises `StateError`."""
        make_own_folder(self._folder, "XDG_STATE_HOME")
        return f"{self._path}.lock"

    def read(self) -> str:
        """The commit, "" where none was seen."""
        if not self._folder:
            return ""
        try:
            return (OsDisk().read(self._path) or b"").decode("ascii", "replace").strip()
        except StateError:
            return ""

    def note(self, commit: str | None) -> None:
        """Remember it. Best effort, as all marks."""
        if self._folder and commit is not None and commit != self.read():
            with suppress(OSError):
                replace(OsDisk(), self._path, f"{commit}\n".encode(), 0o600)


def _lock_path(path: str) -> str:
    return f"{path}.lock"


def _holder(lock: bytes) -> str:
    try:
        holder = json.loads(lock)
        return f"{holder['who']} has been running `{holder['what']}` since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "another command holds it"


def _clash(path: str, there: str, kind: str, where: str) -> Refused:
    return Refused(
        f"{path} can't be on {where}: {there} is a {kind} there, and git has no file and folder of one name",
        "name another path with --state; what is there belongs to another state, as it seems",
    )


def _refusal(why: str) -> StateError:
    return StateError(
        why,
        "push that commit to the branch again, from a clone that has it; or, if the branch is meant to be as it is, "
        "look it through and accept it: `reconciler state accept`",
    )
