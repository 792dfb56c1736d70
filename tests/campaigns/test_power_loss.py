"""The promises after a loss of power: a sample of `power_loss.py`, and each of its findings by name."""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from journals import record_of
from lossy_disk import SCRIBE, LossyDisk, PowerLoss
from power_loss import KINDS, TARGET, Machine, run_histories
from reconciler.model.errors import ExitCode
from reconciler.model.jobs import Desired, Doubt, Evidence, Observation, Record, State, Status, Verb
from reconciler.model.outcomes import ActionOutcome, Outcome
from reconciler.model.plan import Action, ActionKind, Plan
from reconciler.rules.lost_calls import Trace, trace_of
from reconciler.state import journal as journals
from reconciler.state.journal import RESERVE_BYTES, Entry, Journal, JournalBroken, decode, encode_entry
from reconciler.state.loading import load
from reconciler.state.session import Session
from reconciler.state.state_files import Opened
from reconciler.state.writer import Writer
from reconciler.usecases.apply import Applied

HEADER = {"type": "header"}


@pytest.mark.parametrize("seed", range(16))
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_promised_outlives_the_power_and_nothing_runs_twice(kind: str, seed: int) -> None:
    sums, failures = run_histories(kind, seed, range(60))
    assert failures == []
    assert sums["histories"] == 60
    assert sums["losses"] > 30


def test_a_history_is_the_same_each_time() -> None:
    assert [run_histories(kind, 7, range(20)) for kind in KINDS] == [
        run_histories(kind, 7, range(20)) for kind in KINDS
    ]


@pytest.mark.parametrize("seed", range(20))
def test_the_history_never_tells_more_than_what_is_left_of_the_journal(tmp_path: Path, seed: int) -> None:
    """A result whose flush failed is read by the next session. It is gone with the power, and so is what came of it."""
    for ticks in range(40):
        folder = tmp_path / str(ticks)
        folder.mkdir()
        machine = Machine(Random(seed), str(folder))
        with suppress(JournalBroken), machine.store().open(TARGET, "apply", 0) as session:
            session.intend("a", "id-a", Doubt("op-1", Verb.RUN, {}, None, None, "2026-11-21T10:00:00Z", ""))
            machine.disk.failing = 1.0
            session.conclude("op-1", "a", None, "HTTP 200")
        machine.disk.failing, machine.disk.off_at = 0.0, machine.disk.ticks + ticks
        with suppress(PowerLoss), machine.store().open(TARGET, "apply", 0):
            pass
        was_lost = machine.disk.off
        machine.disk = machine.disk.power_up()
        with machine.store().open(TARGET, "apply", 0):
            pass
        machine.check_history()
        if not was_lost:
            return
    raise AssertionError("the power was lost each time")


@pytest.mark.parametrize("seed", range(50))
def test_an_unfinished_write_spoils_no_record_before_it(seed: int) -> None:
    disk = LossyDisk(Random(seed))
    journal = Journal(disk, "/f/j", 0o600, [HEADER])
    journal.append(encode_entry({"type": "intent"}))
    journal._file.write(journal._offset, record_of({"type": "result"}, 2))
    assert _kinds(disk.power_up())[:2] == ["header", "intent"]


@pytest.mark.parametrize("seed", range(50))
def test_a_journal_that_was_growing_is_not_taken_for_one_that_was_cut(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "CHUNK_BYTES", 1024)
    disk = LossyDisk(Random(seed))
    journal = Journal(disk, "/f/j", 0o600, [HEADER])
    disk.before_flush = lambda path: setattr(disk, "off_at", disk.ticks)
    with pytest.raises(PowerLoss):
        journal.append(encode_entry({"type": "record", "text": "x" * 1500}))
    assert _kinds(disk.power_up()) in (["header"], ["header", "record"])


def test_of_two_records_in_one_flush_the_second_may_be_all_that_reached_the_disk() -> None:
    content = _journal(*({"type": kind, "flushed": 2} for kind in ("a", "b", "c")))
    without = content.replace(record_of({"type": "b", "flushed": 2}, 2), bytes(512))
    assert _kinds(_disk_with(without)) == ["header", "a"]


def test_a_record_that_was_flushed_before_a_later_one_was_written_is_missed() -> None:
    content = _journal({"type": "a", "flushed": 1}, {"type": "b", "flushed": 2}, {"type": "c", "flushed": 3})
    with pytest.raises(journals.JournalDamaged, match="records are missing"):
        _kinds(_disk_with(content.replace(record_of({"type": "b", "flushed": 2}, 2), bytes(512))))


def test_a_call_in_flight_over_a_checkpoint_keeps_the_room_for_its_result() -> None:
    disk, writer = _writer()
    session = Session(writer, SCRIBE)
    session.intend("a", "id-a", _doubt("op-1"))
    session.put("b", Record("id-b", Desired.RUNNING))
    session.checkpoint()
    room = disk.read("/f/s.journal")
    assert room is not None
    assert len(room) - len(room.rstrip(b"\0")) > RESERVE_BYTES
    session.conclude("op-1", "a", Record("id-a", Desired.RUNNING), "HTTP 200")
    assert writer.reserved_bytes == 0


def test_after_a_checkpoint_that_failed_nothing_more_is_written() -> None:
    disk, session = _session()
    session.intend("a", "id-a", _doubt("op-1"))
    session.put("b", Record("id-b", Desired.RUNNING))
    disk.failing = 1.0
    with pytest.raises(JournalBroken):
        session.checkpoint()
    disk.failing = 0.0
    ticks = disk.ticks
    attempts: list[Callable[[], None]] = [
        lambda: session.put("c", Record("id-c", Desired.RUNNING)),
        lambda: session.intend("d", "id-d", _doubt("op-2")),
        session.checkpoint,
        session.close,
    ]
    for attempt in attempts:
        with pytest.raises(JournalBroken):
            attempt()
    assert disk.ticks == ticks


@pytest.mark.parametrize("second", range(4))
@pytest.mark.parametrize("first", range(1, 6))
def test_a_checkpoint_that_failed_at_any_flush_leaves_what_can_be_loaded(first: int, second: int) -> None:
    """The journal in place may be the new one. A further write to the old journal would then be lost."""
    disk, session = _session()
    session.intend("a", "id-a", _doubt("op-1"))
    session.put("b", Record("id-b", Desired.RUNNING))
    good_flushes = iter([*[True] * first, False, *[True] * second, False])

    def maybe_fail() -> None:
        if not next(good_flushes, True):
            raise OSError(5, "Input/output error")

    disk.maybe_fail = maybe_fail  # type: ignore[method-assign]
    for attempt in (session.checkpoint, session.close):
        with suppress(JournalBroken):
            attempt()
    loaded = load(disk, "/f/s", TARGET)
    assert loaded is not None
    assert loaded.state.jobs["b"] == Record("id-b", Desired.RUNNING)
    assert loaded.state.jobs["a"].doubt is not None


@pytest.mark.parametrize("seed", range(30))
def test_a_state_whose_rename_may_yet_be_lost_is_not_remembered_as_seen(seed: int, tmp_path: Path) -> None:
    """Otherwise the older state, found after a loss of power with its journal whole, would count as rolled back."""
    machine = Machine(Random(seed), str(tmp_path))
    with machine.store().open(TARGET, "apply", 0) as session:
        session.put("a", Record("id-a", Desired.RUNNING))
    with suppress(JournalBroken), machine.store().open(TARGET, "apply", 0) as session:
        session.put("b", Record("id-b", Desired.RUNNING))
        sync_folder = machine.disk.sync_folder

        def fail(path: str) -> None:
            raise OSError(5, "Input/output error")

        machine.disk.sync_folder = fail  # type: ignore[method-assign]
    machine.disk.sync_folder = sync_folder  # type: ignore[method-assign]
    machine.disk.off_at = machine.disk.ticks + 7
    with suppress(PowerLoss), machine.store().open(TARGET, "apply", 0):
        pass
    machine.disk = machine.disk.power_up()
    state = machine.store().read(TARGET)
    assert state is not None
    assert sorted(state.jobs) == ["a", "b"]


def test_a_flush_whose_failure_was_told_to_another_thread_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "CHUNK_BYTES", 1024)
    disk = LossyDisk(Random(1))
    journal = Journal(disk, "/f/j", 0o600, [HEADER])
    reported: list[str] = []

    def other() -> None:
        disk.failing = 1.0
        with pytest.raises(JournalBroken):
            journal.append(encode_entry({"type": "other", "text": "x" * 2000}))
        disk.failing = 0.0
        reported.append("other")

    def meanwhile(path: str) -> None:
        disk.before_flush = None
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    disk.before_flush = meanwhile
    with pytest.raises(JournalBroken):
        journal.append(encode_entry({"type": "record"}))
    assert reported == ["other"]


def test_a_call_in_doubt_weighs_more_than_a_failure_beside_it() -> None:
    held = Action("a", "id-a", ActionKind.HOLD, "in doubt: run was sent")
    broken = Action("b", "id-b", ActionKind.HOLD, "error: no such job", error="no such job")
    outcomes = (
        ActionOutcome(held, Outcome.SKIPPED, ActionKind.HOLD),
        ActionOutcome(broken, Outcome.FAILED, ActionKind.HOLD, error="no such job"),
    )
    plan = Plan(TARGET, "l", 1, "sha256:0", None, ("jobs.yaml",), (held, broken))
    assert Applied(plan, outcomes, frozenset({"a"})).exit_code is ExitCode.IN_DOUBT


def test_a_stale_read_of_an_abort_is_no_evidence_of_the_run_after_it() -> None:
    """The run was not done. The stale read shows the old run before the abort, as active."""
    first, second, third, fourth = (f"2026-11-21T10:00:0{second}Z" for second in range(4))
    times = {"JOB_STATE_NEW": first, "JOB_STATE_RUNNING": second}
    before = Evidence(Status.ABORTED, "JOB_STATE_ABORTED", second, {**times, "JOB_STATE_ABORTED": third})
    stale = Observation(Status.ACTIVE, "JOB_STATE_RUNNING", submitted_at=second, timestamps=times)
    assert trace_of(Verb.RUN, before, stale) is Trace.UNKNOWN
    newer = stale._replace(submitted_at=fourth, timestamps={**times, "JOB_STATE_RUNNING": fourth})
    assert trace_of(Verb.RUN, before, newer) is Trace.DONE


def test_a_state_file_is_whole_whatever_was_flushed_of_the_next(tmp_path: Path) -> None:
    """The power is lost at each operation of a checkpoint. Either state is found, with all promised changes."""
    for off_at in range(40):
        disk, session = _session()
        session.put("a", Record("id-a", Desired.RUNNING))
        session.close()
        disk.off_at = disk.ticks + off_at
        promised = 0
        try:
            for number in range(3):
                session.put("b", Record("id-b", Desired.RUNNING, {"jobTimeout": number}))
                promised += 1
            session.close()
        except PowerLoss:
            pass
        loaded = load(disk.power_up(), "/f/s", TARGET)
        assert loaded is not None
        assert loaded.state.jobs["a"] == Record("id-a", Desired.RUNNING)
        found = loaded.state.jobs.get("b")
        assert promised <= (0 if found is None else int(str(found.config["jobTimeout"])) + 1) <= promised + 1


def _session() -> tuple[LossyDisk, Session]:
    disk, writer = _writer()
    return disk, Session(writer, SCRIBE)


def _writer() -> tuple[LossyDisk, Writer]:
    disk = LossyDisk(Random(1))
    fresh = State("lineage-1", 0, TARGET, {})
    return disk, Writer(Opened(disk, "/f/s", None, lambda: fresh, lambda state, digest: None))


def _doubt(op: str) -> Doubt:
    return Doubt(op, Verb.RUN, {}, None, None, "2026-11-21T10:00:00Z", "")


def _journal(*entries: Entry) -> bytes:
    return b"".join(record_of(entry, number) for number, entry in enumerate([HEADER, *entries])) + bytes(64)


def _disk_with(content: bytes) -> LossyDisk:
    disk = LossyDisk(Random(1))
    disk.create("/f/j", 0o600).write(0, content)
    return disk


def _kinds(disk: LossyDisk) -> list[str]:
    content = disk.read("/f/j")
    assert content is not None
    return [entry["type"] for entry in decode(content, "j")]
