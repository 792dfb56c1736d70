"""The lease: the right to write a state that is on a remote, and to send calls on the word of that state.

The state, the journal and the history are on the remote as they would be on a disk, and a flush is a publish. A publish
is a compare-and-swap: it names the version that it follows, and the remote accepts it only if that version is still the
latest. If two commands know the same version, one of them succeeds, and the other sends nothing. A remote of any kind
will do, as long as it keeps what `reconciler.state.port.Remote` promises.

Why nothing runs twice, and nothing is lost:

1.  A call is sent only after a publish that holds its intent is known to have arrived. If the answer to a publish is
    lost, the remote is read: no two publishes have the same lease, so the content shows which one arrived. If that
    fails too, nothing is sent. The next command then finds one of two things. If it finds no intent, nothing was sent.
    If it finds an intent without a result, the call is in doubt, and two looks settle it. A publish that is tried again
    follows the same version, so that it can't arrive twice.
2.  From its first intent to its last result a command keeps a lease on the remote. It renews the lease with each
    publish, every `RENEW_AFTER_S` at least. On a remote whose pace has no `beats_while_idle`, it does so only while
    actions are under way. The age of a publish is the time since it was begun. A call is sent only if the last publish
    that arrived is younger than `SEND_WITHIN_S`. Otherwise, another publish has to arrive first. Two clocks measure the
    age, and the longer time counts (`reconciler.host.clocks`). So a machine that was suspended, or a virtual machine
    that was paused, publishes before it sends.
3.  A command that finds the lease of another command waits until the lease is gone, or until the lease has not changed
    for `TAKE_OVER_AFTER_S`, measured with a clock that never runs ahead of real time. In the second case the waiting
    command takes the lease over. The other command is then dead, or its last publish is too old to send a call. It may
    still be about to renew its lease. Both publishes follow the same version, so the remote accepts only the first of
    them, and refuses the other command.
4.  The second look at a doubt is therefore taken `--settle` after the last moment at which its call could have left, as
    with a lock that dies with its holder. The result of two looks is acted upon only after a publish that follows the
    version in which the doubt was found.

Two cases are not covered. A machine that stops between the last check and the write to the socket sends late if it
stops for longer than `TAKE_OVER_AFTER_S` - `SEND_WITHIN_S`, less the 10 s that connecting may take. A virtual machine
that was paused does the same until its wall clock is set again: neither of its clocks shows the pause.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from reconciler.host.clocks import Clocks, Instant
from reconciler.host.crash_report import exhausted_resource
from reconciler.model.errors import LockTaken, ReconcilerError
from reconciler.model.jobs import State
from reconciler.state.failure import Failure
from reconciler.state.journal import JournalBroken, Overtaken
from reconciler.state.marks import HighWaterMarks
from reconciler.state.port import Pace, Remote, Snapshot

RENEW_AFTER_S = 10.0
"""A command whose intents are on the remote publishes at least this often, which also brings results there."""

SEND_WITHIN_S = 30.0
"""No call is sent later than this after the beginning of the last publish that arrived."""

TAKE_OVER_AFTER_S = 60.0
"""A lease is taken over once it has not changed for this long."""

RESULTS_AFTER_S = 1.0
"""The results of a step wait this long before a publish of their own: mostly they can go with the next intents."""

POLL_S = 2.0
"""How often a waiting command asks whether the remote has changed."""

_WAKE_S = 0.1
"""How often a waiting thread asks for a stop: a signal sets the stop and notifies no thread."""


class Unpublished(JournalBroken):
    """A publish did not arrive, or it is not known whether it did."""

    DEFAULT_KEPT = "what the remote lacks of it is in doubt there, and is looked at when you apply again"
    DEFAULT_HINT = "see that the remote can be reached and takes writes, and run the command again"


class Publisher(Protocol):
    """Publishes what the session wrote, one revision at a time. Only one thread at a time calls `publish`."""

    @property
    def where(self) -> str:
        """The place of the state in words."""

    @property
    def pace(self) -> Pace:
        """How often to publish."""

    @property
    def clocks(self) -> Clocks:
        """The clocks of this machine."""

    @property
    def began(self) -> Instant:
        """When the last publish that arrived was begun."""

    @property
    def is_open_there(self) -> bool:
        """Whether the remote has the lease of this command."""

    def stopped(self) -> bool:
        """Whether a stop was asked for, so that nothing new may start."""

    def publish(self, *, is_open: bool) -> None:
        """Publish every change since the last publish, with the lease if `is_open`, and without it otherwise.

        Raises `Overtaken` if another command changed the state, and `JournalBroken` if it is not known whether the
        changes arrived.
        """


class LeaseGate:
    """The gate of a session on a remote: an intent is on the remote when `await_intent` returns.

    One thread publishes for all others. It does so once every action under way waits for its intent or has ended, so
    that the intents of a step go together.
    """

    is_local = False

    def __init__(self, publisher: Publisher, failure: Failure, in_flight: Callable[[], frozenset[str]]) -> None:
        """`failure` ends the session. `in_flight` returns the jobs of the calls that have no result yet."""
        self._publisher = publisher
        self._failure = failure
        self._in_flight = in_flight
        self._boot_s = publisher.clocks.boot_s
        self._moved = threading.Condition()
        """Notified when any of the values below changes."""
        self._unfinished = 0
        """The actions that have begun and not ended."""
        self._intended = 0
        """The intents in the journal. The last `_intended - _published` of them wait for a publish."""
        self._published = 0
        self._rounds = 0
        """The publishes that have ended, whatever became of them."""
        self._first_at_s = 0.0
        self._results_at_s: float | None = None
        self._renewal_wanted = False
        self._closing = False
        self._in_flight_there: frozenset[str] = frozenset()
        """The jobs whose calls were in flight at the last publish that arrived."""
        self._thread: threading.Thread | None = None

    def threads(self, parallelism: int) -> int:
        return self._publisher.pace.intents_ahead

    def begin(self, actions: int) -> None:
        with self._moved:
            self._unfinished += actions
        # Before the threads that send are started, and before anything is sent: without this thread nothing would be
        # published.
        try:
            self._start()
        except RuntimeError as fault:
            with self._moved:
                self._unfinished -= actions
            raise Unpublished(exhausted_resource(fault)) from fault

    def end(self) -> None:
        with self._moved:
            self._unfinished -= 1
            if not self._unfinished:
                self._results_at_s = self._boot_s() + RESULTS_AFTER_S
            self._moved.notify_all()

    def await_intent(self) -> None:
        with self._moved:
            if self._intended == self._published:
                self._first_at_s = self._boot_s()
            self._intended += 1
            ticket = self._intended
            self._moved.notify_all()
            while self._published < ticket and self._may_go_on():
                self._moved.wait(_WAKE_S)
        self._failure.check()

    def assure(self) -> bool:
        # An intent is on the remote already: only the age of the last publish counts.
        for _ in range(2):
            if self._publisher.stopped():
                return False
            with self._moved:
                self._failure.check()
                if self._may_send():
                    return True
                before = self._rounds
                self._renewal_wanted = True
                self._moved.notify_all()
                while self._rounds == before and self._may_go_on():
                    self._moved.wait(_WAKE_S)
        raise self._failure.end_with(
            JournalBroken(f"a publish takes longer than the {SEND_WITHIN_S:g} s within which a call must follow it")
        )

    def maybe_sent(self, in_flight: frozenset[str]) -> frozenset[str]:
        # An intent that never reached the remote was not followed by a call.
        return in_flight if self._failure.error is None else self._in_flight_there

    @contextmanager
    def closing(self) -> Iterator[None]:
        with self._moved:
            self._closing = True
            self._moved.notify_all()
        if self._thread is not None:
            self._thread.join()
        try:
            yield
            self._publisher.publish(is_open=False)
        except JournalBroken as fault:
            # After `Overtaken`, the other command settles what is in doubt.
            doubtful = frozenset() if isinstance(fault, Overtaken) else self._in_flight_there
            raise fault.changed(doubtful=doubtful, is_unsent=not self._published) from fault

    def _may_go_on(self) -> bool:
        return self._failure.error is None and not self._publisher.stopped()

    def _may_send(self) -> bool:
        """Whether a call may follow the last publish that arrived. The clock that shows the longer time counts."""
        return self._publisher.clocks.longest_since(self._publisher.began) <= SEND_WITHIN_S

    def _start(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._publish_when_due, name="publish", daemon=True)
            thread.start()
            self._thread = thread

    def _publish_when_due(self) -> None:
        """Publish until the session closes or ends early."""
        while True:
            with self._moved:
                while not self._closing and (left_s := self._due_in_s(self._boot_s())) > 0:
                    self._moved.wait(left_s)
                if self._closing or self._failure.error is not None:
                    return
                is_needed = self._renewal_wanted or self._intended > self._published
                upto = self._intended
                self._renewal_wanted, self._results_at_s = False, None
                self._first_at_s = self._boot_s()
            fault = self._publish(is_needed)
            with self._moved:
                if fault is not None:
                    self._failure.end_with(fault)
                else:
                    self._published = upto
                self._rounds += 1
                self._moved.notify_all()

    def _publish(self, is_needed: bool) -> JournalBroken | None:
        """Publish, and return the error that ends the session, or None if it may go on.

        If no call waits for this publish (`is_needed` is False), a publish that failed is tried again later.
        """
        in_flight = self._in_flight()
        try:
            self._publisher.publish(is_open=True)
        except Overtaken as fault:
            self._in_flight_there = frozenset()  # the other command settles them
            return fault
        except JournalBroken as fault:
            return fault if is_needed else None
        except ReconcilerError as fault:
            return JournalBroken(f"{self._publisher.where} can't be written to: {fault.message}")
        except Exception as fault:  # noqa: BLE001  the threads that wait for this publish must not wait for ever
            return JournalBroken(f"{self._publisher.where} can't be written to: {type(fault).__name__}")
        self._in_flight_there = in_flight
        return None

    def _due_in_s(self, now_s: float) -> float:
        """In how many seconds a publish is due, 0 or less for now."""
        waiting = 0 if self._publisher.stopped() else self._intended - self._published
        if self._renewal_wanted or self._failure.error is not None or (waiting and waiting >= self._at_once):
            return 0.0
        times_s = [now_s + 0.5]  # to ask for a stop, which notifies no thread
        if waiting:
            times_s.append(self._first_at_s + self._publisher.pace.gather_s)
        if self._results_at_s is not None:
            times_s.append(self._results_at_s)
        if self._publisher.is_open_there and (self._unfinished or self._publisher.pace.beats_while_idle):
            times_s.append(self._publisher.began.boot_s + RENEW_AFTER_S)
        return min(times_s) - now_s

    @property
    def _at_once(self) -> int:
        """How many intents one publish waits for."""
        return min(self._unfinished, self._publisher.pace.intents_ahead)


class MarkOncePublished:
    """Keeps the high-water mark of a state only once the remote has that state."""

    def __init__(self, marks: HighWaterMarks) -> None:
        self._marks = marks
        self._pending: tuple[State, str] | None = None

    def note(self, state: State, digest: str) -> None:
        """Note a state that was written for the next publish, with the digest of its file."""
        self._pending = state, digest

    def take(self) -> tuple[State, str] | None:
        """The state that goes with the publish that begins now, or None if no state was written."""
        pending, self._pending = self._pending, None
        return pending

    def keep(self, state: State, digest: str) -> None:
        """Keep the mark of this state: the remote has it."""
        self._marks.note(state, digest)


def await_turn(
    remote: Remote,
    timeout_s: float,
    wait: Callable[[float], bool],
    boot_s: Callable[[], float],
    tell: Callable[[str], None],
) -> Snapshot | None:
    """The latest version, once no other command holds the lease or the lease may be taken over; None without one.

    `wait` pauses for seconds, and returns True if a stop was asked for. `boot_s` is a clock in seconds. `tell` is
    called with one sentence before the first pause. A command that renews its lease is waited for at least `timeout_s`.
    Raises `LockTaken` after that time, or on a stop.
    """
    snapshot = remote.fetch()
    began_s = since_s = boot_s()
    lease = _lease_in(snapshot)
    if lease is not None:
        tell(
            f"{holder_of(lease)}, and has not ended: going on once {remote.where} has not "
            f"changed for {TAKE_OVER_AFTER_S:g} s"
        )
    while lease is not None:
        left_s = since_s + TAKE_OVER_AFTER_S - boot_s()
        if left_s <= 0:
            break
        if wait(min(POLL_S, left_s)):
            raise _taken(lease, remote.where)
        if remote.version() == (snapshot and snapshot.version):
            continue
        snapshot = remote.fetch()
        before, lease = lease, _lease_in(snapshot)
        if lease != before:
            since_s = boot_s()
            if lease is not None and since_s - began_s >= timeout_s:
                raise _taken(lease, remote.where)
    return snapshot


def holder_of(lease: bytes) -> str:
    """The words for the command that holds a lease with this content."""
    try:
        holder = json.loads(lease)
        return f"{holder['who']} has been running `{holder['what']}` since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "another command holds it"


def _lease_in(snapshot: Snapshot | None) -> bytes | None:
    return None if snapshot is None else snapshot.content.holder


def _taken(lease: bytes, where: str) -> LockTaken:
    return LockTaken(
        f"the state is locked: {holder_of(lease)} ({where})",
        "wait for that command to end and try again, or give --lock-timeout SECONDS",
    )
