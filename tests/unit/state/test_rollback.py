"""A state that is older than its own history is refused, and `accept` brings it up to what the history knows."""

from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from in_process import TARGET, store_in
from lossy_disk import LossyDisk, PowerLoss
from reconciler.host.disk import OsDisk
from reconciler.model.errors import ExitCode
from reconciler.model.history import Details
from reconciler.model.jobs import Config, Desired, Doubt, Evidence, Record, Status, Verb
from reconciler.rules.reruns import text_of
from reconciler.state import codec
from reconciler.state.file_lock import FileContext
from reconciler.state.file_store import FileStore
from reconciler.state.journal import Displaced, JournalBroken
from reconciler.state.rollback import RolledBack
from reconciler.state.session import Session

BEFORE = Evidence(Status.COMPLETE, "")
STATE, HISTORY = "jobs.state.json", "jobs.history.jsonl"


def doubt(run: int, config: Config, token: str | None, verb: Verb = Verb.RUN) -> Doubt:
    return Doubt(f"op-{verb}-{run}", verb, config, token, BEFORE, f"2026-11-21T10:0{run}:00Z", "", run=run)


def send(session: Session, run: int, config: Config, token: str | None = None, outcome: str = "succeeded") -> None:
    """Record a run of the job `a` with all that it consumes, as an apply does."""
    record = session.record_of("a")
    tokens = record.run_tokens if record else frozenset[str]()
    configs = record.ran_configs if record else frozenset[str]()
    session.intend("a", "id-a", doubt(run, config, token))
    if outcome == "succeeded":
        consumed = tokens | {token} if token else tokens
        ran = configs | {text_of(config)}
        record = Record("id-a", Desired.RUNNING, config, consumed, run=run, ran_configs=ran)
    session.conclude(f"op-run-{run}", "a", record, "said", Details(outcome))


def ran(folder: Path, run: int, config: Config, token: str | None = None, outcome: str = "succeeded") -> None:
    with store_in(folder).open(TARGET, "apply", 0) as session:
        send(session, run, config, token, outcome)


def on_another_machine(folder: Path) -> None:
    """Take away the high-water marks of this machine."""
    for mark in (folder / "marks").iterdir():
        mark.unlink()


def refused(folder: Path) -> str:
    """The message with which the state is refused, to be read and to be written."""
    messages = set()
    with pytest.raises(RolledBack) as read:
        store_in(folder).read(TARGET)
    messages.add(read.value.message)
    with pytest.raises(RolledBack) as opened, store_in(folder).open(TARGET, "apply", 0):
        pytest.fail("it was opened")
    messages.add(opened.value.message)
    assert {read.value.exit_code, opened.value.exit_code} == {ExitCode.REFUSED}
    assert "`reconciler state accept`" in opened.value.hint
    [message] = messages
    return message.replace(f"{folder}/", "")


def test_a_state_of_an_earlier_serial_than_its_history_is_refused(tmp_path: Path) -> None:
    ran(tmp_path, 1, {})
    older = (tmp_path / STATE).read_bytes()
    ran(tmp_path, 2, {}, "t")
    (tmp_path / STATE).write_bytes(older)
    on_another_machine(tmp_path)
    assert refused(tmp_path) == (
        "jobs.state.json is older than its history: it is at serial 1, and jobs.history.jsonl tells of serial 2"
    )


def test_of_a_merge_that_took_one_side_the_runs_of_the_other_side_are_missed(tmp_path: Path) -> None:
    """Both sides have the same serial, and git has merged the two histories by lines."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    ran(ours, 1, {})
    theirs.mkdir()
    for name in (STATE, HISTORY):
        (theirs / name).write_bytes((ours / name).read_bytes())
    ran(theirs, 2, {"size": 2}, "t")
    with store_in(ours).open(TARGET, "apply", 0) as session:
        session.put("b", Record("id-b", Desired.ABORTED))
    added = (theirs / HISTORY).read_bytes()[len((ours / HISTORY).read_bytes().splitlines()[0]) + 1 :]
    (ours / HISTORY).write_bytes((ours / HISTORY).read_bytes() + added)
    assert refused(ours) == (
        "jobs.state.json is older than its history: it is at serial 2 and has run 1 of a, and jobs.history.jsonl tells "
        "of its run 2, at serial 2"
    )
    accepted, _ = store_in(ours).accept(TARGET, 0)
    assert (accepted.jobs["a"].run, accepted.jobs["a"].run_tokens) == (2, frozenset({"t"}))
    assert accepted.jobs["b"] == Record("id-b", Desired.ABORTED)


def test_an_accepted_older_state_has_consumed_what_its_history_tells_of(tmp_path: Path) -> None:
    ran(tmp_path, 1, {"size": 1}, "mon")
    older = (tmp_path / STATE).read_bytes()
    ran(tmp_path, 2, {"size": 2}, "tue")
    ran(tmp_path, 3, {"size": 9}, "sat", outcome="failed")
    ran(tmp_path, 3, {"size": 3, "run": 99}, "wed", outcome="in-doubt")
    (tmp_path / STATE).write_bytes(older)
    on_another_machine(tmp_path)
    refused(tmp_path)
    accepted, remarks = store_in(tmp_path).accept(TARGET, 0)
    record = accepted.jobs["a"]
    # A run that was in doubt may have been carried out, and counts as such.
    assert (record.state, record.config, record.run) == (Desired.RUNNING, {"size": 3, "run": 99}, 3)
    assert record.run_tokens == {"mon", "tue", "wed"}
    assert record.ran_configs == {'{"size":1}', '{"size":2}', '{"run":99,"size":3}'}
    assert (accepted.last, accepted.serial) == ({"id-a": 3}, 3)
    assert remarks[0].endswith("it is at serial 1, and " + str(tmp_path / HISTORY) + " tells of serial 2")
    assert remarks[1].startswith("the history tells of later runs of id-a: they count as run")
    assert store_in(tmp_path).read(TARGET) == accepted


def test_a_job_that_the_older_state_does_not_know_counts_as_run(tmp_path: Path) -> None:
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        session.put("b", Record("id-b", Desired.ABORTED))
    older = (tmp_path / STATE).read_bytes()
    ran(tmp_path, 1, {"size": 1}, "mon")
    (tmp_path / STATE).write_bytes(older)
    on_another_machine(tmp_path)
    accepted, _ = store_in(tmp_path).accept(TARGET, 0)
    assert sorted(accepted.jobs) == ["a", "b"]
    assert (accepted.jobs["a"].id, accepted.jobs["a"].run, accepted.jobs["a"].run_tokens) == (
        "id-a",
        1,
        frozenset({"mon"}),
    )


def test_a_call_in_doubt_in_the_older_state_stays_for_its_own_settlement(tmp_path: Path) -> None:
    ran(tmp_path, 1, {})
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        session.intend("a", "id-a", doubt(2, {"size": 2}, "t"))
    older = (tmp_path / STATE).read_bytes()
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        session.put("b", Record("id-b", Desired.ABORTED))
    (tmp_path / STATE).write_bytes(older)
    on_another_machine(tmp_path)
    accepted, _ = store_in(tmp_path).accept(TARGET, 0)
    record = accepted.jobs["a"]
    assert record.doubt is not None
    assert (record.doubt.run, record.run, record.run_tokens) == (2, 1, frozenset())


def test_a_newer_state_that_is_pushed_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    ran(tmp_path, 1, {})
    older = (tmp_path / STATE).read_bytes()
    ran(tmp_path, 2, {}, "t")
    newer = codec.decode((tmp_path / STATE).read_bytes(), "x")
    (tmp_path / STATE).write_bytes(older)
    on_another_machine(tmp_path)
    assert store_in(tmp_path).put(newer, TARGET, 0)
    assert store_in(tmp_path).read(TARGET) == newer


def _files_reverted_together(folder: Path) -> None:
    old = {name: (folder / name).read_bytes() for name in (STATE, HISTORY)}
    ran(folder, 2, {})
    for name, content in old.items():
        (folder / name).write_bytes(content)


def _history_gone(folder: Path) -> None:
    (folder / HISTORY).unlink()


def _history_cut(folder: Path) -> None:
    ran(folder, 2, {})
    (folder / HISTORY).write_bytes(b"".join((folder / HISTORY).read_bytes().splitlines(keepends=True)[:1]))


def _renamed(folder: Path) -> None:
    with store_in(folder).open(TARGET, "state mv", 0) as session:
        session.move({"a": "z"})


def _doubt_that_was_not_carried_out(folder: Path) -> None:
    ran(folder, 2, {}, outcome="in-doubt")
    with store_in(folder).open(TARGET, "apply", 0) as session:
        session.conclude("op-run-2", "a", session.record_of("a"), "no", Details("not-applied"))


def _lines_of_another_state(folder: Path) -> None:
    (folder / HISTORY).write_bytes((folder / HISTORY).read_bytes().replace(b'"lineage"', b'"lineage":"other","l"'))


@pytest.mark.parametrize(
    "change",
    [
        _files_reverted_together,
        _history_gone,
        _history_cut,
        _renamed,
        _doubt_that_was_not_carried_out,
        _lines_of_another_state,
    ],
)
def test_a_state_that_is_no_older_is_taken(change: Callable[[Path], None], tmp_path: Path) -> None:
    ran(tmp_path, 1, {"run": 77, "serial": 88})
    change(tmp_path)
    on_another_machine(tmp_path)
    assert store_in(tmp_path).read(TARGET) is not None
    with store_in(tmp_path).open(TARGET, "apply", 0):
        pass


class _KilledAtOperation(OsDisk):
    """A disk of a command that is killed before its operation of this number."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self._left = left

    def _tick(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt

    def create(self, path: str, mode: int):  # type: ignore[no-untyped-def]
        self._tick()
        return super().create(path, mode)

    def rename(self, old: str, new: str) -> None:
        self._tick()
        super().rename(old, new)

    def remove(self, path: str) -> None:
        self._tick()
        super().remove(path)

    def sync_folder(self, path: str) -> None:
        self._tick()
        super().sync_folder(path)


@pytest.mark.parametrize("second", [1, 6, 11])
@pytest.mark.parametrize("first", range(16))
def test_wherever_two_commands_are_killed_the_state_is_not_taken_for_an_older_one(
    first: int, second: int, tmp_path: Path
) -> None:
    ran(tmp_path, 1, {})
    newer = codec.decode((tmp_path / STATE).read_bytes(), "x")._replace(serial=9, last={"id-a": 4})
    with (
        suppress(KeyboardInterrupt, Displaced),
        store_in(tmp_path, _KilledAtOperation(first)).open(TARGET, "a", 0) as session,
    ):
        send(session, 2, {"size": 2})
        session.checkpoint()
        send(session, 3, {"size": 3})
    with (
        suppress(KeyboardInterrupt, Displaced),
        store_in(tmp_path, _KilledAtOperation(second)).open(TARGET, "a", 0) as session,
    ):
        send(session, session.last_of("id-a") + 1, {"size": 4})
    with suppress(KeyboardInterrupt, Displaced):
        store_in(tmp_path, _KilledAtOperation(second)).put(newer, TARGET, 0)
    on_another_machine(tmp_path)
    assert store_in(tmp_path).read(TARGET) is not None
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        assert session.last_of("id-a") in (1, 2, 3, 4)


@pytest.mark.parametrize("seed", range(40))
def test_a_journal_that_is_lost_with_the_power_leaves_no_history_ahead_of_the_state(seed: int) -> None:
    """A command is killed before a record of its journal is flushed, and the next one loses power while it folds."""
    disk = LossyDisk(Random(seed))

    def store() -> FileStore:
        around = FileContext(disk, "", "ada", lambda: "now", lambda: "lineage", lambda seconds: False)
        return FileStore("/f/jobs.state.json", around, lock=_NoLock())

    with store().open(TARGET, "apply", 0) as session:
        send(session, 1, {})
    disk.before_flush = lambda path: setattr(disk, "failing", 1.0)
    with suppress(JournalBroken), store().open(TARGET, "apply", 0) as session:
        session.close = lambda: None  # type: ignore[method-assign]
        send(session, 2, {})
    disk.before_flush, disk.failing = None, 0.0
    disk.off_at = disk.ticks + seed % 20
    with suppress(PowerLoss), store().open(TARGET, "apply", 0):
        pass
    disk = disk.power_up()
    assert store().read(TARGET) is not None


class _NoLock:
    """The lock of a disk that has one user."""

    @contextmanager
    def held(self, what: str, timeout_s: float):  # type: ignore[no-untyped-def]
        yield lambda: True

    def holder(self, folder: int | None) -> str:
        return ""
