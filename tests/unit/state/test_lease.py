"""The gate of a state on a remote, by itself: the remote is a publisher in memory, and the clocks are set by a test."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from directory_home import DirectoryRemote
from in_process import TARGET
from lossy_disk import SCRIBE, LossyDisk
from reconciler.host.clocks import Clocks, Instant
from reconciler.model.errors import LockTaken, StateError
from reconciler.model.jobs import Desired, Doubt, Record, State, Verb
from reconciler.state import lease
from reconciler.state.journal import JournalBroken, Overtaken
from reconciler.state.lease import LeaseGate, Unpublished, await_turn
from reconciler.state.port import Hold, Leave, Note, Pace
from reconciler.state.records import Call, Records
from reconciler.state.session import Session
from reconciler.state.state_files import Opened
from reconciler.state.writer import Writer


class Remote:
    """A `Publisher` in memory. `failing` makes the error of the next publishes, `takes_s` is how long each takes."""

    where = "jobs.state.json on a remote"
    pace = Pace()

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.takes_s = 0.0
        self.failing: Callable[[], Exception] | None = None
        self.is_stopped = False
        self.published: list[bool] = []
        self.clocks = Clocks(lambda: self.now_s, lambda: self.now_s)
        self.began = Instant(float("-inf"), float("-inf"))
        self.is_open_there = False
        self.renewed: Callable[[], object] = lambda: None

    def stopped(self) -> bool:
        return self.is_stopped

    def publish(self, *, is_open: bool) -> None:
        began = self.clocks.now()
        self.now_s += self.takes_s
        if self.failing is not None:
            raise self.failing()
        self.published.append(is_open)
        self.began, self.is_open_there = began, is_open
        self.renewed()


@pytest.fixture
def remote() -> Remote:
    return Remote()


@pytest.fixture
def session(remote: Remote) -> Session:
    writer = Writer(
        Opened(LossyDisk(Random(1)), "/f/s", None, lambda: State("l", 0, TARGET, {}), lambda state, digest: None)
    )
    return Session(writer, SCRIBE, LeaseGate(remote, writer.failure, lambda: writer.records.in_flight))


def doubt(op: str) -> Doubt:
    return Doubt(op, Verb.RUN, {}, None, None, "now", "")


def intended(session: Session, *names: str) -> None:
    for name in names:
        session.begin(1)
        session.intend(name, name, doubt(name))
        session.end()


def test_an_intent_is_published_with_the_lease_and_the_last_publish_gives_the_lease_up(
    session: Session, remote: Remote
) -> None:
    intended(session, "a")
    assert remote.published[0]
    assert session.assure()
    session.conclude("a", "a", Record("a", Desired.RUNNING), "ok")
    session.close()
    assert not remote.published[-1]
    assert session.doubtful == frozenset()


def test_an_intent_that_was_never_published_is_not_in_doubt_after_a_break(session: Session, remote: Remote) -> None:
    intended(session, "a")
    remote.failing = lambda: Unpublished("no answer")
    with pytest.raises(Unpublished):
        intended(session, "b")
    assert session.doubtful == {"a"}
    with pytest.raises(Unpublished) as broken:
        session.close()
    assert (broken.value.doubtful, broken.value.is_unsent) == (frozenset("a"), False)


def test_a_first_intent_that_can_not_be_published_means_that_nothing_was_sent(session: Session, remote: Remote) -> None:
    remote.failing = lambda: Unpublished("no answer")
    with pytest.raises(Unpublished):
        intended(session, "a")
    with pytest.raises(Unpublished) as broken:
        session.close()
    assert (broken.value.doubtful, broken.value.is_unsent) == (frozenset(), True)


@pytest.mark.parametrize("fault", [ValueError("no such field"), KeyError("etag"), StateError("the remote is full")])
def test_a_publish_that_fails_in_any_way_lets_no_call_follow(
    session: Session, remote: Remote, fault: Exception
) -> None:
    intended(session, "a")
    remote.failing = lambda: fault
    with pytest.raises(JournalBroken, match="on a remote can't be written to"):
        intended(session, "b")
    for call in (session.assure, lambda: intended(session, "c")):
        with pytest.raises(JournalBroken):
            call()
    assert remote.published == [True]
    assert session.doubtful == {"a"}


def test_what_is_in_doubt_is_for_the_command_that_overtook_this_one(session: Session, remote: Remote) -> None:
    intended(session, "a")
    remote.failing = lambda: Overtaken("someone else was quicker")
    with pytest.raises(Overtaken):
        intended(session, "b")
    with pytest.raises(Overtaken) as broken:
        session.close()
    assert (broken.value.doubtful, broken.value.is_unsent) == (frozenset(), False)


def test_a_call_follows_no_publish_that_took_too_long(session: Session, remote: Remote) -> None:
    intended(session, "a")
    remote.takes_s = lease.SEND_WITHIN_S + 1
    remote.now_s += lease.SEND_WITHIN_S + 1
    with pytest.raises(JournalBroken, match="takes longer than the 30 s within which a call must follow it"):
        session.assure()
    with pytest.raises(JournalBroken, match="takes longer"):
        session.put("b", Record("b", Desired.RUNNING))


def test_a_stop_lets_no_call_follow_and_is_no_fault(session: Session, remote: Remote) -> None:
    intended(session, "a")
    remote.is_stopped = True
    assert session.assure() is False
    session.conclude("a", "a", None, "not sent")
    session.close()
    assert not remote.published[-1]


@pytest.mark.parametrize("beats", [True, False])
def test_a_command_that_has_nothing_under_way_renews_its_lease_only_where_it_beats_while_idle(
    session: Session, remote: Remote, beats: bool
) -> None:
    remote.pace = Pace(beats_while_idle=beats)
    intended(session, "a")
    renewed = threading.Event()
    before, remote.renewed = len(remote.published), renewed.set
    remote.now_s += lease.RENEW_AFTER_S + lease.RESULTS_AFTER_S
    assert renewed.wait(10), "the results of the step are not published"
    renewed.clear()
    remote.now_s += lease.RENEW_AFTER_S
    assert renewed.wait(10 if beats else 1.2) is beats
    assert len(remote.published) == before + 1 + beats
    remote.renewed = lambda: None


class Watched(DirectoryRemote):
    """A remote whose lease changes with each look, until the leases are used up."""

    def __init__(self, folder: Path, *leases: bytes | None) -> None:
        super().__init__(folder)
        self._leases = list(leases)
        self._next()

    def version(self) -> str | None:
        self._next()
        return super().version()

    def _next(self) -> None:
        if self._leases:
            lease = self._leases.pop(0)
            base = super().version()
            self.publish(base, Leave() if lease is None else Hold(lease), Note("ada", "apply", "now"))


@pytest.mark.parametrize(
    ("leases", "waits_s"), [((None,), 0.0), ((b"1", None), lease.POLL_S), ((b"1",), lease.TAKE_OVER_AFTER_S)]
)
def test_a_turn_comes_once_a_lease_is_gone_or_has_not_changed_for_long(
    tmp_path: Path, leases: tuple[bytes | None, ...], waits_s: float
) -> None:
    clock = Remote()

    def wait(seconds: float) -> bool:
        clock.now_s += seconds
        return False

    said: list[str] = []
    await_turn(Watched(tmp_path, *leases), 0.0, wait, clock.clocks.boot_s, said.append)
    assert (clock.now_s - 1000.0, len(said)) == (waits_s, leases[0] is not None)


def test_a_lease_that_is_renewed_is_not_taken_over(tmp_path: Path) -> None:
    with pytest.raises(LockTaken, match="another command holds it"):
        await_turn(Watched(tmp_path, b"1", b"2", b"3"), 0.0, lambda s: False, Remote().clocks.boot_s, lambda text: None)


def test_calls_in_flight_are_read_while_other_threads_add_more() -> None:
    """The publishing thread does so. An error there would leave every other thread waiting."""
    records = Records(State("lineage", 0, TARGET, {}), is_changed=False)
    ended = threading.Event()

    def work(number: int) -> None:
        step = 0
        while not ended.is_set():
            step += 1
            records.begin_call(f"{number}.{step}", Call({"job": str(number)}, 1))
            records.put(f"{number}.{step}", Record("x", None))
            if step % 40 == 0:
                for old in range(step - 39, step + 1):
                    records.end_call(f"{number}.{old}")
                    records.put(f"{number}.{old}", None)

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    try:
        for thread in threads:
            thread.start()
        for _ in range(3000):
            assert records.in_flight <= {"0", "1", "2"}
            assert records.room_bytes < 1000
            assert records.doubtful == frozenset()
    finally:
        ended.set()
        sys.setswitchinterval(interval_s)
        for thread in threads:
            thread.join()
