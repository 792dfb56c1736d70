"""State file, journal and lock on a real disk: what is refused, what survives, what stays byte for byte."""

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from journals import record_of
from lossy_disk import SCRIBE
from reconciler.host.disk import OsDisk, OsFile, replace
from reconciler.model.errors import LockTaken, StateError
from reconciler.model.history import Details
from reconciler.model.jobs import Desired, Doubt, Evidence, Record, State, Status, Target, Verb
from reconciler.state import codec
from reconciler.state.file_lock import FileContext
from reconciler.state.file_store import FileStore
from reconciler.state.journal import Displaced, Journal, JournalBroken, JournalDamaged, Overtaken, decode, encode_entry
from reconciler.state.lease import Unpublished
from reconciler.state.session import Session
from reconciler.state.state_files import Opened
from reconciler.state.writer import Writer

TARGET = Target("bytenite", "https://api.example/v1/customer")
RECORD = Record("id-a", Desired.RUNNING, {"taskTimeout": 600}, frozenset({"t"}))
OTHER = RECORD._replace(id="id-b")
DOUBT = Doubt(
    "op-1", Verb.RUN, {"taskTimeout": 600}, "t", Evidence(Status.DRAFT, "JOB_STATE_NEW"), "2026-11-21T10:00:00Z", ""
)


def store(tmp_path: Path, name: str = "jobs.state.json", marks: str = "marks", disk: OsDisk | None = None) -> FileStore:
    around = FileContext(
        disk=disk or OsDisk(),
        marks_folder=str(tmp_path / marks),
        who="ada@host (process 1)",
        now=lambda: "2026-11-21T10:00:00Z",
        new_lineage=lambda: "lineage-1",
        wait=lambda seconds: False,
    )
    return FileStore(str(tmp_path / name), around)


def applied_once(tmp_path: Path) -> Path:
    with store(tmp_path).open(TARGET, "apply", 0) as session:
        session.put("a", RECORD)
    return tmp_path / "jobs.state.json"


def crash(tmp_path: Path, *, concluded: bool) -> None:
    """Leave behind what an apply leaves that is killed within a call, or after it."""

    def call(session: Session) -> None:
        session.intend("a", "id-a", DOUBT)
        if concluded:
            session.conclude("op-1", "a", RECORD, "HTTP 200")

    killed_after(tmp_path, call)


def killed_after(tmp_path: Path, change: Callable[[Session], None]) -> None:
    """Leave behind what a killed apply leaves: a journal, and no state write."""
    with pytest.raises(KeyboardInterrupt), store(tmp_path).open(TARGET, "apply", 0) as session:
        change(session)
        session.close = lambda: None  # type: ignore[method-assign]
        raise KeyboardInterrupt


def test_the_state_file_is_sorted_indented_and_ends_with_a_newline() -> None:
    state = State("lineage-1", 3, TARGET, {"b": Record("2", Desired.ABORTED), "a": RECORD})
    content = codec.encode(state).decode()
    assert content.endswith("}\n")
    assert content.splitlines()[1].startswith('  "digest": "sha256:')
    assert list(json.loads(content)["jobs"]) == ["a", "b"]
    assert codec.decode(content.encode(), "x") == state


def test_true_in_a_config_does_not_become_one() -> None:
    configs: list[dict[str, int | bool]] = [
        {"taskTimeout": 1},
        {"taskTimeout": True},
        {"jobTimeout": 1},
    ]
    jobs = {str(number): Record(str(number), Desired.RUNNING, config) for number, config in enumerate(configs)}
    content = codec.encode(State("l", 1, TARGET, jobs))
    assert codec.encode(codec.decode(content, "x")) == content


def test_a_state_with_a_lone_surrogate_from_a_server_round_trips() -> None:
    doubt = Doubt("op", Verb.RUN, {}, None, Evidence(Status.ACTIVE, "\ud800"), "when", "é")
    state = State("l", 1, TARGET, {"ä": Record("1", None, doubt=doubt)})
    assert codec.decode(codec.encode(state), "x") == state


def test_a_session_that_changes_nothing_leaves_every_byte_and_no_other_file(tmp_path: Path) -> None:
    path = applied_once(tmp_path)
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    with store(tmp_path).open(TARGET, "apply", 0) as session:
        session.put("a", RECORD)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["jobs.history.jsonl", "jobs.state.json", "marks"]


def test_the_serial_counts_changed_writes_and_the_lineage_stays(tmp_path: Path) -> None:
    applied_once(tmp_path)
    with store(tmp_path).open(TARGET, "apply", 0) as session:
        session.put("b", OTHER)
        session.put("c", RECORD._replace(id="id-c"))
    state = store(tmp_path).read(TARGET)
    assert state is not None
    assert (state.lineage, state.serial, sorted(state.jobs)) == ("lineage-1", 2, ["a", "b", "c"])


@pytest.mark.parametrize("size", range(0, 400, 7))
def test_a_truncated_state_is_refused(tmp_path: Path, size: int) -> None:
    path = applied_once(tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(StateError, match=r"damaged"):
        store(tmp_path).read(TARGET)


def test_every_flipped_bit_of_a_state_is_refused(tmp_path: Path) -> None:
    content = applied_once(tmp_path).read_bytes()
    for at in range(len(content)):
        for bit in range(8):
            flipped = content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
            with pytest.raises(StateError):
                codec.decode(flipped, "x")


def test_a_hand_edit_is_refused_and_accept_takes_it(tmp_path: Path) -> None:
    path = applied_once(tmp_path)
    path.write_text(path.read_text().replace("600", "601"))
    with pytest.raises(StateError, match="edited or merged by hand") as refusal:
        store(tmp_path).read(TARGET)
    assert "reconciler state accept" in refusal.value.hint
    state, remarks = store(tmp_path).accept(TARGET, 0)
    assert state.jobs["a"].config == {"taskTimeout": 601}
    assert state.serial == 2
    assert remarks
    assert store(tmp_path).read(TARGET) == state


def test_accepting_a_sound_state_changes_nothing(tmp_path: Path) -> None:
    path = applied_once(tmp_path)
    before = path.read_bytes()
    state, remarks = store(tmp_path).accept(TARGET, 0)
    assert (state.serial, remarks, path.read_bytes()) == (1, [], before)


def test_conflict_marks_are_refused_by_name_even_by_accept(tmp_path: Path) -> None:
    path = applied_once(tmp_path)
    path.write_text("<<<<<<< HEAD\n" + path.read_text() + "=======\n{}\n>>>>>>> other\n")
    for attempt in (lambda: store(tmp_path).read(TARGET), lambda: store(tmp_path).accept(TARGET, 0)):
        with pytest.raises(StateError, match="merge conflict"):
            attempt()


def test_a_state_for_another_target_is_refused(tmp_path: Path) -> None:
    applied_once(tmp_path)
    with pytest.raises(StateError, match=r"is for bytenite at https://api\.example/v1/customer, and the manifest for"):
        store(tmp_path).read(Target("bytenite", "https://other.example"))


class _KilledAtRemoval(OsDisk):
    """A disk of a command that is killed when it comes to remove the journal."""

    def remove(self, path: str) -> None:
        if path.endswith(".journal"):
            raise KeyboardInterrupt
        super().remove(path)


class _KilledAtMark(OsDisk):
    """A disk of a command that is killed when it comes to write the high-water mark."""

    def create(self, path: str, mode: int) -> OsFile:
        if os.path.basename(os.path.dirname(path)) == "marks":
            raise KeyboardInterrupt
        return super().create(path, mode)


def test_a_rolled_back_state_is_refused_and_accept_takes_it_with_a_newer_serial(tmp_path: Path) -> None:
    path = applied_once(tmp_path)
    old = path.read_bytes()
    with store(tmp_path).open(TARGET, "apply", 0) as session:
        session.put("b", OTHER)
    path.write_bytes(old)
    with pytest.raises(StateError, match="was rolled back: it is at serial 1, and serial 2"):
        store(tmp_path).read(TARGET)
    state, remarks = store(tmp_path).accept(TARGET, 0)
    assert (state.serial, sorted(state.jobs)) == (3, ["a"])
    assert ["was rolled back: it is at serial 1" in remark for remark in remarks] == [True]


def test_a_state_whose_writer_was_killed_before_its_mark_is_marked_by_the_next_command(tmp_path: Path) -> None:
    path = applied_once(tmp_path)
    old = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), store(tmp_path, disk=_KilledAtMark()).open(TARGET, "apply", 0) as session:
        session.put("b", OTHER)
    with store(tmp_path).open(TARGET, "apply", 0) as session:
        assert session.state.serial == 2
    path.write_bytes(old)
    with pytest.raises(StateError, match="was rolled back: it is at serial 1, and serial 2"):
        store(tmp_path).read(TARGET)


def test_two_clones_with_one_state_and_the_later_one_is_refused(tmp_path: Path) -> None:
    path = applied_once(tmp_path)
    (tmp_path / "clone.state.json").write_bytes(path.read_bytes())
    with store(tmp_path).open(TARGET, "apply", 0) as session:
        session.put("b", OTHER)
    with (
        pytest.raises(StateError, match=f"serial 2 was written from this machine before, to {path}"),
        store(tmp_path, "clone.state.json").open(TARGET, "apply", 0) as session,
    ):
        pytest.fail("it was opened")


def test_a_newer_format_is_refused_by_its_number(tmp_path: Path) -> None:
    content = codec.encode(State("l", 1, TARGET, {}))
    rest = content.split(b"\n", 2)[2].replace(b'"formatVersion": 2', b'"formatVersion": 3')
    forged = b'{\n  "digest": "sha256:' + codec.digest_of(rest).encode() + b'",\n' + rest
    with pytest.raises(StateError, match="format version 3"):
        codec.decode(forged, "x")


def test_a_result_on_record_survives_a_crash_and_reaches_the_state(tmp_path: Path) -> None:
    crash(tmp_path, concluded=True)
    seen = store(tmp_path).read(TARGET)
    assert seen is not None
    assert (seen.serial, seen.jobs) == (1, {"a": RECORD})
    with store(tmp_path).open(TARGET, "apply", 0) as session:
        assert session.state == seen
    assert store(tmp_path).read(TARGET) == seen
    assert not (tmp_path / "jobs.state.json.journal").exists()


def test_an_intent_without_a_result_becomes_a_doubt(tmp_path: Path) -> None:
    crash(tmp_path, concluded=False)
    with store(tmp_path).open(TARGET, "apply", 0) as session:
        doubt = session.state.jobs["a"].doubt
    assert doubt is not None
    assert (doubt.op, doubt.verb, doubt.before) == ("op-1", Verb.RUN, DOUBT.before)
    assert doubt.answer == "no answer is recorded: the command ended before the answer came"


def test_reading_after_a_crash_writes_nothing(tmp_path: Path) -> None:
    crash(tmp_path, concluded=False)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    store(tmp_path).read(TARGET)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


def test_a_journal_whose_state_moved_away_is_refused(tmp_path: Path) -> None:
    path = applied_once(tmp_path)
    old = path.read_bytes()
    crash(tmp_path, concluded=True)
    journal = (tmp_path / "jobs.state.json.journal").read_bytes()
    with store(tmp_path).open(TARGET, "apply", 0) as session:
        session.put("b", OTHER)
    (tmp_path / "jobs.state.json.journal").write_bytes(journal)
    with pytest.raises(StateError, match="unfinished apply that started from serial 1"):
        store(tmp_path).read(TARGET)
    path.write_bytes(old)
    with pytest.raises(StateError, match="rolled back"):
        store(tmp_path).read(TARGET)


def test_a_state_file_that_is_gone_while_its_journal_is_there_is_refused(tmp_path: Path) -> None:
    path = applied_once(tmp_path)
    crash(tmp_path, concluded=True)
    path.unlink()
    with pytest.raises(StateError, match="is gone"):
        store(tmp_path).read(TARGET)


def test_a_checkpoint_in_the_midst_of_calls_keeps_their_intents(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), store(tmp_path).open(TARGET, "apply", 0) as session:
        session.put("b", OTHER)
        session.intend("a", "id-a", DOUBT)
        session.checkpoint()
        session.close = lambda: None  # type: ignore[method-assign]
        raise KeyboardInterrupt
    state = store(tmp_path).read(TARGET)
    assert state is not None
    assert state.jobs["b"] == OTHER
    assert state.jobs["a"].doubt is not None


def test_a_crash_between_state_and_journal_counts_nothing_twice(tmp_path: Path) -> None:
    """The state file is in place and the journal still there: its records are in the file already."""
    with pytest.raises(KeyboardInterrupt), store(tmp_path, disk=_KilledAtRemoval()).open(TARGET, "apply", 0) as session:
        session.put("a", RECORD)
        session.move({"a": "b"})
    assert (tmp_path / "jobs.state.json.journal").exists()
    state = store(tmp_path).read(TARGET)
    assert state is not None
    assert (state.serial, state.jobs) == (1, {"b": RECORD})


def test_a_push_that_is_killed_before_it_removes_an_older_journal_is_not_undone_by_that(tmp_path: Path) -> None:
    with store(tmp_path).open(TARGET, "apply", 0) as session:
        session.put("a", Record("a", Desired.RUNNING, {}, frozenset({"1"})))
    killed_after(tmp_path, lambda s: s.put("a", Record("a", Desired.RUNNING, {}, frozenset({"1", "2"}))))
    newer = State("lineage-1", 9, TARGET, {"a": Record("a", Desired.RUNNING, {}, frozenset({"1", "2", "3"}))})
    with pytest.raises(KeyboardInterrupt):
        store(tmp_path, disk=_KilledAtRemoval()).put(newer, TARGET, 0)
    assert store(tmp_path).read(TARGET) == newer
    assert store(tmp_path).put(newer, TARGET, 0) is False
    assert not (tmp_path / "jobs.state.json.journal").exists()
    assert store(tmp_path).read(TARGET) == newer


def test_an_accept_that_is_killed_before_it_removes_the_journal_swaps_no_names_twice(tmp_path: Path) -> None:
    one, two = Record("1", Desired.RUNNING), Record("2", Desired.RUNNING)
    with store(tmp_path).open(TARGET, "apply", 0) as session:
        session.put_all({"a": one, "b": two})
    killed_after(tmp_path, lambda s: s.move({"a": "b", "b": "a"}))
    journal = tmp_path / "jobs.state.json.journal"
    journal.write_bytes(journal.read_bytes().rstrip(b"\0"))
    with pytest.raises(KeyboardInterrupt):
        store(tmp_path, disk=_KilledAtRemoval()).accept(TARGET, 0)
    accepted, _ = store(tmp_path).accept(TARGET, 0)
    assert accepted.jobs == {"a": two, "b": one}
    assert not journal.exists()


def test_an_accepted_edit_of_a_state_takes_nothing_twice_from_a_journal_that_it_holds(tmp_path: Path) -> None:
    one, two = Record("1", Desired.RUNNING), Record("2", Desired.RUNNING)
    with store(tmp_path).open(TARGET, "apply", 0) as session:
        session.put_all({"a": one, "b": two})
    with pytest.raises(KeyboardInterrupt), store(tmp_path, disk=_KilledAtRemoval()).open(TARGET, "apply", 0) as session:
        session.move({"a": "b", "b": "a"})
    state = tmp_path / "jobs.state.json"
    text = state.read_text()
    state.write_text(text.replace('"id": "2",\n      "state": "running"', '"id": "2",\n      "state": "aborted"'))
    accepted, _ = store(tmp_path).accept(TARGET, 0)
    assert accepted.jobs == {"a": two._replace(state=Desired.ABORTED), "b": one}


@pytest.mark.parametrize("name", ["jobs.state.json", "jobs.state.json.journal", "jobs.state.json.lock"])
def test_symbolic_links_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").write_bytes(b"")
    (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(StateError, match="symbolic link"),
        store(tmp_path).open(TARGET, "apply", 0),
    ):
        pytest.fail("it was opened")


def test_new_files_are_private_and_later_ones_follow_the_states_mode(tmp_path: Path) -> None:
    path = applied_once(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with store(tmp_path).open(TARGET, "apply", 0) as session:
        session.put("b", OTHER)
        assert (tmp_path / "jobs.state.json.journal").stat().st_mode & 0o777 == 0o644
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_lock_that_is_held_is_refused_with_its_holder(tmp_path: Path) -> None:
    with (
        store(tmp_path).open(TARGET, "apply", 0),
        pytest.raises(LockTaken, match=r"ada@host \(process 1\) has been running `apply` since 2026-11-21T10:00:00Z"),
        store(tmp_path).open(TARGET, "apply", 0),
    ):
        pytest.fail("it was opened")


def test_a_lock_dies_with_its_holder(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[2]); import test_state as t; from pathlib import Path\n"
        "with t.store(Path(sys.argv[1])).open(t.TARGET, 'apply', 0):\n    print('held', flush=True); input()"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path), str(Path(__file__).parent)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(arguments, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockTaken), store(tmp_path).open(TARGET, "apply", 0):
            pytest.fail("it was opened")
        holder.kill()
        holder.wait()
    with store(tmp_path).open(TARGET, "apply", 0) as session:
        assert session.state.jobs == {}


def journal_bytes(*jobs: str) -> bytes:
    entries = [{"type": "header"}, *({"type": "record", "job": job} for job in jobs)]
    return b"".join(record_of(entry, number) for number, entry in enumerate(entries)) + bytes(64)


def test_every_flipped_bit_of_a_journal_is_refused_or_proved_equal() -> None:
    content = journal_bytes("a", "b")
    whole = decode(content, "x")
    for at in range(len(content)):
        for bit in range(8):
            flipped = content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
            try:
                assert decode(flipped, "x") == whole
            except JournalDamaged:
                assert at == len(content) - 1


def test_every_truncation_of_a_journal_is_refused_or_proved_equal() -> None:
    content = journal_bytes("a", "b")
    whole = decode(content, "x")
    used = len(content) - 64
    for size in range(len(content)):
        if size > used:
            assert decode(content[:size], "x") == whole
        else:
            with pytest.raises(JournalDamaged):
                decode(content[:size], "x")


def test_a_torn_last_record_is_dropped() -> None:
    content = journal_bytes("a", "b")
    used = len(content) - 64
    record = len(record_of({"type": "record", "job": "b"}, 2))
    torn = content[: used - record + 20] + bytes(record - 20 + 64)
    assert [entry.get("job") for entry in decode(torn, "x")] == [None, "a"]


def test_a_damaged_middle_record_is_refused_and_the_rest_is_readable() -> None:
    content = journal_bytes("a", "b", "c")
    record = record_of({"type": "record", "job": "b"}, 2)
    damaged = content.replace(record, b"\0" * len(record))
    with pytest.raises(JournalDamaged, match="records are missing") as refusal:
        decode(damaged, "x")
    assert [entry.get("job") for entry in refusal.value.readable] == [None, "a", "c"]


def test_accept_salvages_what_a_damaged_journal_still_tells(tmp_path: Path) -> None:
    crash(tmp_path, concluded=True)
    path = tmp_path / "jobs.state.json.journal"
    path.write_bytes(path.read_bytes().rstrip(b"\0"))
    with pytest.raises(JournalDamaged, match="cut off"):
        store(tmp_path).read(TARGET)
    state, remarks = store(tmp_path).accept(TARGET, 0)
    assert state.jobs == {"a": RECORD}
    assert state.lineage == "lineage-1"
    assert any("cut off" in remark for remark in remarks)


def test_many_threads_share_flushes_and_every_record_is_there(tmp_path: Path) -> None:
    flushes = 0

    class CountingDisk(OsDisk):
        def create(self, path: str, mode: int):  # type: ignore[no-untyped-def]
            file = super().create(path, mode)
            sync = file.sync

            def counted() -> None:
                nonlocal flushes
                flushes += 1
                sync()

            file.sync = counted  # type: ignore[method-assign]
            return file

    journal = Journal(CountingDisk(), str(tmp_path / "j"), 0o600, [{"type": "header"}])
    barrier = threading.Barrier(16)

    def work(worker: int) -> None:
        barrier.wait()
        for number in range(20):
            journal.append(encode_entry({"type": "record", "job": f"{worker}-{number}"}))

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    entries = decode((tmp_path / "j").read_bytes(), "j")
    assert {e["job"] for e in entries[1:]} == {f"{w}-{n}" for w in range(16) for n in range(20)}
    assert flushes <= 321


def test_one_failed_flush_ends_the_journal(tmp_path: Path) -> None:
    class FailingDisk(OsDisk):
        def create(self, path: str, mode: int):  # type: ignore[no-untyped-def]
            file = super().create(path, mode)
            syncs = iter([None, OSError(28, "No space left on device"), None, None])

            def failing() -> None:
                fault = next(syncs)
                if fault is not None:
                    raise fault

            file.sync = failing  # type: ignore[method-assign]
            return file

    journal = Journal(FailingDisk(), str(tmp_path / "j"), 0o600, [{"type": "header"}])
    for _ in range(2):
        with pytest.raises(JournalBroken, match="No space left"):
            journal.append(encode_entry({"type": "record"}))
    journal.close()


class FaultyDisk(OsDisk):
    """Fails at one operation, which is named by `failing`: flush or rename."""

    failing = ""

    def create(self, path: str, mode: int) -> OsFile:
        file = super().create(path, mode)
        sync = file.sync

        def synced() -> None:
            self._fail("flush")
            sync()

        file.sync = synced  # type: ignore[method-assign]
        return file

    def rename(self, old: str, new: str) -> None:
        self._fail("rename")
        super().rename(old, new)

    def _fail(self, operation: str) -> None:
        if self.failing == operation:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def fault_of(call: Callable[[], object]) -> str:
    try:
        call()
    except JournalBroken as fault:
        return fault.message
    return ""


def test_no_call_follows_a_checkpoint_that_failed(tmp_path: Path) -> None:
    disk, faults = FaultyDisk(), []
    with pytest.raises(JournalBroken), store(tmp_path, disk=disk).open(TARGET, "apply", 0) as session:
        session.put("b", OTHER)
        session.intend("a", "id-a", DOUBT)
        faults.append(fault_of(session.assure))
        disk.failing = "rename"
        faults.append(fault_of(session.checkpoint))
        disk.failing = ""
        faults.append(fault_of(session.assure))
    assert not faults[0]
    assert all("Input/output error" in fault for fault in faults[1:])


def test_a_journal_whose_first_record_may_not_be_on_disk_stays(tmp_path: Path) -> None:
    """What the disk has of it may be read later, though this program can't know what that is."""
    disk, journal = FaultyDisk(), tmp_path / "jobs.state.json.journal"
    with pytest.raises(JournalBroken), store(tmp_path, disk=disk).open(TARGET, "apply", 0) as session:
        session.put("b", OTHER)
        session.checkpoint()
        was_there = journal.exists()
        with session.announcing([]):
            disk.failing = "flush"
            fault = fault_of(lambda: session.put("a", RECORD))
            disk.failing = ""
    assert not was_there
    assert "Input/output error" in fault
    assert journal.exists()


@pytest.mark.parametrize("operation", ["flush", "rename"])
def test_a_file_that_could_not_be_replaced_leaves_no_other_one(tmp_path: Path, operation: str) -> None:
    disk, path = FaultyDisk(), tmp_path / "file"
    path.write_bytes(b"old")
    disk.failing = operation
    with pytest.raises(OSError, match="Input/output error"):
        replace(disk, str(path), b"new", 0o600)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("file", b"old")]


class FillingDisk(OsDisk):
    """Has no room for one byte more once it is full."""

    is_full = False

    def create(self, path: str, mode: int) -> OsFile:
        file = super().create(path, mode)
        allocate = file.allocate

        def within(size_bytes: int) -> None:
            if self.is_full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            allocate(size_bytes)

        file.allocate = within  # type: ignore[method-assign]
        return file


WIDE = "\U0001d4d0"
"""A character that takes twelve bytes in JSON."""
LONG = [WIDE * 2000, '"' * 3000, "\x00" * 1000, "x" * 9000]


@pytest.mark.parametrize("text", LONG, ids=["wide", "quotes", "controls", "plain"])
@pytest.mark.parametrize("tokens", [0, 400])
@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("in_doubt", [False, True])
def test_the_longest_result_of_a_call_fits_into_the_room_that_was_kept_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, tokens: int, folded: bool, in_doubt: bool
) -> None:
    """A job's record grows with each runToken; the call was sent, so what came of it has to be put on record."""
    for name in ("CHUNK_BYTES", "_CHUNKS_LIMIT_BYTES"):  # no room by chance
        monkeypatch.setattr(f"reconciler.state.journal.{name}", 512)
    disk = FillingDisk()
    name, config = WIDE * 128, {"taskTimeout": 2**63 - 1, "jobTimeout": 2**63 - 1, "isTestJob": True}
    used = frozenset(f"{WIDE * 120}{number}" for number in range(tokens))
    before = Evidence(Status.COMPLETE, WIDE * 500, WIDE * 100, {WIDE * n: WIDE * 30 for n in range(1, 20)})
    record = Record("i" * 128, Desired.RUNNING, {}, used) if tokens else None
    path = str(tmp_path / "jobs.state.json")
    writer = Writer(Opened(disk, path, None, lambda: State("lineage-1", 0, TARGET, {}), lambda state, digest: None))
    session = Session(writer, SCRIBE)
    with closing(session):
        if record:
            session.put(name, record)
        doubt = Doubt("op-1" * 10, Verb.RUN, config, WIDE * 128, before, "2026-11-21T10:00:00Z", "")
        session.intend(name, "i" * 128, doubt, text)
        if folded:
            session.checkpoint()
        disk.is_full = True
        after = Record("i" * 128, Desired.RUNNING, config, used | {WIDE * 128}, WIDE * 100, protect=True)
        if in_doubt:
            after = (record or Record("i" * 128, None))._replace(doubt=doubt._replace(answer=text))
        details = Details("in-doubt", 503, WIDE * 500, 123456.789, text)
        session.conclude(doubt.op, name, after, text, details)
        assert writer.reserved_bytes == 0
        disk.is_full = False
        kept = session.record_of(name)
    content = json.loads((tmp_path / "jobs.history.jsonl").read_text().splitlines()[-1])
    assert text.startswith(content["answer"])
    assert len(content["answer"]) >= 160
    assert kept is not None
    assert store(tmp_path).read(TARGET) == State("lineage-1", 2 if folded and record else 1, TARGET, {name: kept})


def test_space_is_taken_ahead_so_that_a_result_has_room(tmp_path: Path) -> None:
    journal = Journal(OsDisk(), str(tmp_path / "j"), 0o600, [{"type": "header"}])
    journal.append(encode_entry({"type": "intent"}), reserve_bytes=200 * 1024)
    taken = os.stat(tmp_path / "j").st_size
    journal.append(encode_entry({"type": "result", "answer": "x" * 90_000}), reserve_bytes=-200 * 1024)
    journal.close()
    assert taken > 200 * 1024
    assert os.stat(tmp_path / "j").st_size == taken


@pytest.mark.parametrize("kind", [JournalBroken, Overtaken, Displaced, Unpublished])
def test_a_changed_error_is_a_copy_and_says_what_to_do_by_what_is_kept(kind: type[JournalBroken]) -> None:
    first = kind("it failed")
    other = first.changed(kept="it is all in x: look there", doubtful=frozenset("a")).changed(is_unsent=True)
    assert (first.kept, first.doubtful, first.is_unsent) == (kind("").kept, frozenset(), False)
    assert (other.message, other.kept, other.doubtful, other.is_unsent) == (
        "it failed",
        "it is all in x: look there",
        frozenset("a"),
        True,
    )
    assert type(other) is kind
    assert (other.hint == other.kept) == issubclass(kind, Overtaken)
    assert other.changed(message="nothing was sent: it failed").message == "nothing was sent: it failed"
