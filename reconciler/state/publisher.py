"""Publishes what was written to the replica of a remote, one version at a time."""

import json
import os
from collections.abc import Callable
from contextlib import suppress

from reconciler.host.clocks import Clocks, Instant
from reconciler.host.disk import OsDisk, replace
from reconciler.host.user_folders import make_own_folder
from reconciler.model.digests import sha256
from reconciler.model.errors import ReconcilerError, StateError
from reconciler.state.journal import JournalBroken, Overtaken
from reconciler.state.lease import MarkOncePublished, Unpublished
from reconciler.state.port import Content, Denied, Moved, Note, Pace, Remote, Unreachable, Write
from reconciler.state.replica import ReplicaDisk

TRY_AGAIN_AFTER_S = (1.0, 3.0)
"""The pauses before a publish that the network failed is tried again."""

_FOLLOWED = 20
"""How often a publish is tried on top of a version that others wrote, and that left this state alone."""


class KnownVersion:
    """The version of a remote that this machine knew last, and the lock among the commands of this machine.

    Both are files in a folder of this machine. An empty folder name means that no version is known.
    """

    def __init__(self, folder: str, where: str) -> None:
        """`where` tells one state from all others."""
        self._folder = folder
        self._path = os.path.join(folder, f"remote-{sha256(where.encode())[:32]}")

    @property
    def lock_path(self) -> str:
        """The path of the lock file, in a folder that is made if needed. Raises `StateError`."""
        make_own_folder(self._folder, "XDG_STATE_HOME")
        return f"{self._path}.lock"

    def read(self) -> str:
        """The version, "" if none is known."""
        if not self._folder:
            return ""
        try:
            return (OsDisk().read(self._path) or b"").decode("utf-8", "replace").strip()
        except StateError:
            return ""

    def note(self, version: str | None) -> None:
        """Remember the version. This is best effort, like the high-water marks."""
        if self._folder and version is not None and version != self.read():
            with suppress(OSError):
                replace(OsDisk(), self._path, f"{version}\n".encode(), 0o600)


class RemotePublisher:
    """A `Publisher` that writes to a remote. For one thread at a time."""

    def __init__(
        self,
        remote: Remote,
        replica: ReplicaDisk,
        version: str | None,
        note: Note,
        nonce: str,
        *,
        mark: MarkOncePublished,
        known: KnownVersion,
        clocks: Clocks,
        wait: Callable[[float], bool],
    ) -> None:
        """`version` is the one that the replica was made of, and `nonce` an id of this run.

        `wait` pauses for seconds, and returns True if a stop was asked for.
        """
        self._remote = remote
        self._note = note
        self._nonce = nonce
        self._known = known
        self._wait = wait
        self._beat = 0
        self._unsettled: list[Write] = []
        """Writes that follow `version`, and of which nobody knows whether they arrived. One of them may have."""
        self.mark = mark
        self.replica = replica
        self.version = version
        """The version that the next publish follows."""
        self.clocks = clocks
        self.began = Instant(float("-inf"), float("-inf"))
        self.is_open_there = False

    @property
    def where(self) -> str:
        """See `Publisher.where`."""
        return self._remote.where

    @property
    def pace(self) -> Pace:
        """See `Publisher.pace`."""
        return self._remote.pace

    def stopped(self) -> bool:
        """See `Publisher.stopped`."""
        return self._wait(0.0)

    def publish(self, *, is_open: bool) -> None:
        """See `Publisher.publish`."""
        began = self.clocks.now()
        noted = self.mark.take()
        if self._put(self._lease() if is_open else None):
            self.began = began
            self.is_open_there = is_open
        if noted is not None:
            self.mark.keep(*noted)
        self._known.note(self.version)

    def _lease(self) -> bytes:
        """The content of the lease, which no other publish has: it names this run, and counts its publishes."""
        self._beat += 1
        record = {**self._note._asdict(), "nonce": self._nonce, "beat": self._beat}
        return json.dumps(record, sort_keys=True, indent=1).encode() + b"\n"

    def _put(self, holder: bytes | None) -> bool:
        """Bring what was written since the last publish to the remote, with this content of the lease.

        Returns False if there was nothing to bring there.
        """
        for _ in range(_FOLLOWED):
            write = self.replica.write_for(holder)
            if write is None:
                return False
            try:
                with self.replica.remote_turn:
                    arrived = self._arrived(write)
            except Unreachable as fault:
                if not isinstance(fault, Denied):
                    self._unsettled.append(write)
                raise Unpublished(fault.message) from fault
            if arrived is not None:
                self.replica.published(arrived)
                self._unsettled.clear()
            if arrived is write:
                return True
        raise JournalBroken(
            f"{self.where}: others write to that place all the time; give this state a place of its own"
        )

    def _arrived(self, write: Write) -> Write | None:
        """Publish a write. Returns the write that is now known to have arrived, None if none has.

        That may be an earlier one, whose outcome was not known. The write then has to be made again.
        """
        try:
            self.version = self._insist(write)
        except Moved:
            return self._found_there(write)
        return write

    def _insist(self, write: Write) -> str:
        """Publish, and publish again if the network fails. Returns the new version.

        Every try follows the same version, so one of them can arrive at most. Raises as `Remote.publish` does.
        """
        for pause_s in (*TRY_AGAIN_AFTER_S, None):
            try:
                return self._remote.publish(self.version, write, self._note)
            except Unreachable as fault:
                if pause_s is None or isinstance(fault, Denied) or self._wait(pause_s):
                    raise
        raise AssertionError("the last try returns or raises")

    def _found_there(self, write: Write) -> Write | None:
        """Look at what the remote has instead. Returns the write of this command that it has, perhaps with more of
        other states on top.

        None means that others left this state alone. Then the write has to follow their version. Raises `Overtaken`
        for anything else.
        """
        try:
            snapshot = self._remote.fetch()
        except Unreachable:
            raise
        except ReconcilerError as fault:  # what is there now can't be a state
            raise Overtaken(fault.message) from fault
        before = self.replica.content
        theirs = Content() if snapshot is None else snapshot.content
        ours = [one for one in (write, *self._unsettled) if theirs == before.after(one)]
        grown = snapshot is not None and (self.version is None or self._remote.follows(self.version))
        if not grown or not (ours or theirs == before):
            said = "it is gone" if snapshot is None else self._remote.author_of(snapshot.version)
            words = f" ({said})" if said else ""
            raise Overtaken(f"someone else changed {self.where} while this command was at work{words}")
        self.version = None if snapshot is None else snapshot.version
        return ours[0] if ours else None
