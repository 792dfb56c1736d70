"""Damaged bytes of a state file or its journal: refused, or proved to say the same; and not one call is made."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from lossy_disk import SCRIBE, LossyDisk, PowerLoss
from project import Project, served_project
from reconciler.engines.sandbox.life import calls
from reconciler.host.disk import OsDisk
from reconciler.model.errors import StateError
from reconciler.model.jobs import Desired, Doubt, Evidence, Record, State, Status, Target, Verb
from reconciler.state import codec
from reconciler.state import journal as journals
from reconciler.state.file_lock import FileContext
from reconciler.state.file_store import FileStore
from reconciler.state.loading import load
from reconciler.state.replay import LoadedState
from reconciler.state.session import Session
from reconciler.state.state_files import Opened
from reconciler.state.writer import Writer

TARGET = Target("bytenite", "https://api.example/v1/customer")
BEFORE = Evidence(Status.DRAFT, "JOB_STATE_NEW")
STATE, JOURNAL = "/f/jobs.state.json", "/f/jobs.state.json.journal"
PARTS = 6


class Files(NamedTuple):
    """A state file and the journal beside it, b"" for none."""

    state: bytes
    journal: bytes


def opened(disk: LossyDisk) -> Session:
    fresh = State("lineage-1", 0, TARGET, {})
    return Session(
        Writer(Opened(disk, STATE, load(disk, STATE, TARGET), lambda: fresh, lambda state, digest: None)), SCRIBE
    )


def doubt(op: str) -> Doubt:
    return Doubt(op, Verb.RUN, {"jobTimeout": 7}, "t", BEFORE, "2026-11-21T10:00:00Z", "")


def crashed(monkeypatch: pytest.MonkeyPatch, *, in_place: bool) -> Files:
    """What a loss of power leaves after a run, in the middle of another and of a checkpoint.

    The journal holds a result, an open intent and a checkpoint; the file of that checkpoint is `in_place` or not.
    """
    with monkeypatch.context() as small:
        small.setattr(journals, "CHUNK_BYTES", 512)
        disk = LossyDisk(Random(1))
        session = opened(disk)
        session.put("old", Record("id-old", Desired.ABORTED))
        session.close()
        session = opened(disk)
        small.setattr("reconciler.state.session.RESERVE_BYTES", 64)
        session.intend("a", "id-a", doubt("op-1"))
        session.conclude("op-1", "a", Record("id-a", Desired.RUNNING, {"jobTimeout": 7}, frozenset({"t"})), "HTTP 200")
        session.intend("b", "id-b", doubt("op-2"))
        # The checkpoint's record takes two operations, or three where the file grows; the rename is the last but one.
        rename = disk.rename

        def lose_power(old: str, new: str) -> None:
            if in_place:
                rename(old, new)
            raise PowerLoss

        disk.rename = lose_power  # type: ignore[method-assign]
        with pytest.raises(PowerLoss):
            session.checkpoint()
    files = Files(disk.read(STATE) or b"", disk.read(JOURNAL) or b"")
    assert len(files.journal) < 8192
    return files


def loaded(files: Files) -> LoadedState | None:
    disk = LossyDisk(Random(1))
    for path, content in ((STATE, files.state), (JOURNAL, files.journal)):
        if content:
            disk.create(path, 0o600).write(0, content)
    return load(disk, path=STATE, target=TARGET)


def is_refused(files: Files, whole: LoadedState | None) -> bool:
    """Whether it is refused; where it is not, it says the same as the whole one."""
    try:
        found = loaded(files)
    except StateError as refusal:
        return bool(refusal.message and refusal.hint)
    assert found == whole
    return False


def flips(content: bytes, part: int) -> Iterator[bytes]:
    """Every flipped bit, in `PARTS` parts."""
    for at in range(part, len(content), PARTS):
        for bit in range(8):
            yield content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


@pytest.mark.parametrize("part", range(PARTS))
def test_every_flipped_bit_is_refused_or_proved_equal(monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    files = crashed(monkeypatch, in_place=part % 2 == 0)
    whole = loaded(files)
    assert whole is not None
    assert whole.state.jobs["a"].state is Desired.RUNNING
    assert whole.state.jobs["b"].doubt is not None
    assert all(is_refused(files._replace(state=state), whole) for state in flips(files.state, part))
    refused = sum(is_refused(files._replace(journal=journal), whole) for journal in flips(files.journal, part))
    # Each record is there twice, so that a flip can spoil nothing but the file's last byte.
    assert refused == (8 if len(files.journal) % PARTS == (part + 1) % PARTS else 0)


@pytest.mark.parametrize("in_place", [False, True])
def test_every_truncation_is_refused_or_proved_equal(monkeypatch: pytest.MonkeyPatch, in_place: bool) -> None:
    files = crashed(monkeypatch, in_place=in_place)
    whole = loaded(files)
    for size in range(1, len(files.state)):
        assert is_refused(files._replace(state=files.state[:size]), whole)
    used = len(files.journal.rstrip(b"\0"))
    for size in range(1, len(files.journal)):
        assert is_refused(files._replace(journal=files.journal[:size]), whole) == (size <= used)


def test_a_state_file_that_is_gone_or_empty_beside_its_journal_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    files = crashed(monkeypatch, in_place=False)
    assert is_refused(files._replace(state=b""), None)
    disk = LossyDisk(Random(1))
    disk.create(STATE, 0o600)
    with pytest.raises(StateError, match="it is empty"):
        load(disk, STATE, TARGET)
    disk = LossyDisk(Random(1))
    disk.create(STATE, 0o600).write(0, files.state)
    disk.create(JOURNAL, 0o600)
    with pytest.raises(StateError, match="records are missing"):
        load(disk, STATE, TARGET)


def test_two_bytes_swapped_anywhere_in_a_state_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    files = crashed(monkeypatch, in_place=True)
    whole, content = loaded(files), files.state
    for at in range(len(content) - 1):
        swapped = content[:at] + content[at + 1 : at + 2] + content[at : at + 1] + content[at + 2 :]
        assert swapped == content or is_refused(files._replace(state=swapped), whole)


@pytest.mark.parametrize("in_place", [False, True])
def test_what_editors_and_transfers_do_to_files_is_refused_or_proved_equal(
    monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    files = crashed(monkeypatch, in_place=in_place)
    whole, state, journal = loaded(files), files.state, files.journal
    for changed in (
        state.replace(b"\n", b"\r\n"),
        state + b"\n",
        state + b"\0" * 512,
        state.rstrip(b"\n"),
        b"\xef\xbb\xbf" + state,
        state.decode().encode("utf-16"),
        state + state,
        state + journal,
        journal,
        state.replace(b'"serial": ', b'"serial": 1'),
        state.replace(b"aborted", b"running"),
        b"{}",
        b"null",
    ):
        assert is_refused(files._replace(state=changed), whole)
    used = journal.rstrip(b"\0")
    for changed, refused in (
        (journal.replace(b"\n", b"\r\n"), True),
        (journal + journal, False),
        (used + journal, False),
        (journal + state, True),
        (state, True),
        (state + journal, False),
        (journal.decode().encode("utf-16"), True),
        (b"\0" * len(journal), True),
        (journal[512:], True),
        (journal[1:], False),
    ):
        assert is_refused(files._replace(journal=changed), whole) == refused, changed[:80]


def test_a_journal_of_another_apply_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restored backup may bring back a journal of another time, or append one to the other."""
    files = crashed(monkeypatch, in_place=True)
    disk = LossyDisk(Random(1))
    session = opened(disk)
    session.put("x", Record("id-x", Desired.RUNNING))
    other = disk.read(JOURNAL) or b""
    whole = loaded(files)
    assert is_refused(files._replace(journal=other), whole)
    assert is_refused(files._replace(journal=files.journal + other), whole)
    assert is_refused(files._replace(journal=other + files.journal), whole)


# --- merges ------------------------------------------------------------------------------------------------------


class Clone:
    """A git checkout with a manifest's state in it, as two people who each applied something leave it."""

    def __init__(self, folder: Path, driver: str = "") -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "-q", "-b", "main")
        if driver:
            (folder / ".gitattributes").write_text(f"*.state.json {driver}\n")
        self.apply("old", 1, "old-2", "old-3", "old-4", "old-5")
        self.git("checkout", "-q", "-b", "theirs")
        self.apply("z", 2)
        self.git("checkout", "-q", "main")
        self.apply("a", 2)

    @property
    def content(self) -> bytes:
        return (self.folder / "jobs.state.json").read_bytes()

    def git(self, *arguments: str) -> int:
        who = ["-c", "user.name=ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *who, *arguments], cwd=self.folder, capture_output=True, check=False, timeout=60
        ).returncode

    def apply(self, name: str, serial: int, *more: str) -> None:
        store = self.store(f"marks-{name}")
        with store.open(TARGET, "apply", 0) as session:
            for job in (name, *more):
                session.put(job, Record(f"id-{job}", Desired.RUNNING, {"jobTimeout": serial}))
        state = store.read(TARGET)
        assert state is not None
        assert state.serial == serial
        self.git("add", "jobs.state.json", *([".gitattributes"] if (self.folder / ".gitattributes").exists() else []))
        assert self.git("commit", "-q", "-m", f"apply {name}") == 0

    def store(self, marks: str) -> FileStore:
        around = FileContext(
            disk=OsDisk(),
            marks_folder=str(self.folder / ".git" / marks),
            who="ada@host (process 1)",
            now=lambda: "2026-11-21T10:00:00Z",
            new_lineage=lambda: "lineage-1",
            wait=lambda seconds: False,
        )
        return FileStore(str(self.folder / "jobs.state.json"), around)


def test_a_merge_of_two_applies_conflicts_and_its_marks_are_refused(tmp_path: Path) -> None:
    clone = Clone(tmp_path / "clone")
    assert clone.git("merge", "-q", "theirs") != 0
    with pytest.raises(StateError, match="merge conflict") as refusal:
        clone.store("fresh").read(TARGET)
    assert "git checkout --ours" in refusal.value.hint


@pytest.mark.parametrize(
    ("driver", "arguments"),
    [("merge=union", ()), ("", ("-X", "ours")), ("", ("-X", "theirs")), ("", ("-X", "theirs", "-X", "patience"))],
)
def test_a_clean_but_wrong_merge_is_refused(tmp_path: Path, driver: str, arguments: tuple[str, ...]) -> None:
    clone = Clone(tmp_path / "clone", driver)
    assert clone.git("merge", "-q", "-m", "merge", *arguments, "theirs") == 0
    assert b"<<<<<<<" not in clone.content
    with pytest.raises(StateError, match=r"edited or merged by hand|is no state file|damaged"):
        clone.store("fresh").read(TARGET)


def test_a_merge_by_hand_that_is_good_json_is_refused_until_it_is_accepted(tmp_path: Path) -> None:
    clone = Clone(tmp_path / "clone")
    ours = clone.content.decode()
    clone.git("checkout", "-q", "theirs")
    theirs = clone.content.decode()
    block = theirs[theirs.index('    "z": {') : theirs.index('  },\n  "last"')]
    merged = ours.replace('    }\n  },\n  "last"', "    },\n" + block + '  },\n  "last"')
    (clone.folder / "jobs.state.json").write_text(merged)
    with pytest.raises(StateError, match="edited or merged by hand"):
        clone.store("fresh").read(TARGET)
    state, remarks = clone.store("fresh").accept(TARGET, 0)
    assert (sorted(state.jobs), state.serial) == (["a", "old", "old-2", "old-3", "old-4", "old-5", "z"], 3)
    assert remarks


def test_one_side_taken_whole_is_refused_where_the_other_was_seen(tmp_path: Path) -> None:
    """Both are at serial 2: on the machine that wrote one of them, the other is not taken for it."""
    clone = Clone(tmp_path / "clone")
    clone.git("merge", "-q", "theirs")
    clone.git("checkout", "-q", "--theirs", "jobs.state.json")
    assert clone.store("fresh").read(TARGET) is not None
    with pytest.raises(StateError, match="replaced by another one of the same serial"):
        clone.store("marks-a").read(TARGET)


def test_line_ends_that_git_changed_are_refused_by_their_name(tmp_path: Path) -> None:
    clone = Clone(tmp_path / "clone")
    clone.git("config", "core.autocrlf", "true")
    (clone.folder / "jobs.state.json").unlink()
    assert clone.git("checkout", "-q", "--", "jobs.state.json") == 0
    with pytest.raises(StateError, match=r"CR LF \(in \.gitattributes"):
        clone.store("fresh").read(TARGET)


# --- through the command line ------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Project]:
    with served_project(tmp_path) as project:
        project.write("a: {state: running, config: {jobTimeout: 7}}\nb: {state: running}")
        assert project.run("apply", "--yes").code == 0
        project.write("a: {state: running, config: {jobTimeout: 8}}\nb: {state: absent}\nc: {state: running}")
        yield project


def refused(project: Project, *command: str) -> str:
    """Run a command that must end with 1 and not reach the server; what it says."""
    before = calls(project.folder / "server.db")
    run = project.run(*command)
    assert run.code == 1, (command, run)
    assert run.err.startswith("error: ")
    assert "jobs.state.json" in run.err
    assert calls(project.folder / "server.db") == before
    return run.err


@pytest.mark.parametrize("damage", ["empty", "half", "bit", "edited", "crlf", "twice", "conflict"])
def test_a_damaged_state_file_ends_an_apply_before_its_first_call(served: Project, damage: str) -> None:
    path = served.folder / "jobs.state.json"
    content = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "half": content[: len(content) // 2],
            "bit": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
            "edited": content.replace(b'"jobTimeout": 7', b'"jobTimeout": 8'),
            "crlf": content.replace(b"\n", b"\r\n"),
            "twice": content + content,
            "conflict": b"<<<<<<< HEAD\n" + content + b"=======\n" + content + b">>>>>>> theirs\n",
        }[damage]
    )
    printed = refused(served, "apply", "--yes")
    assert ("git checkout" in printed) or ("state accept" in printed)
    assert served.run("plan").code == 1


@pytest.mark.parametrize("command", [["plan", "--refresh"], ["status"], ["resolve", "a", "--applied"]])
def test_every_command_that_trusts_a_state_refuses_a_damaged_one(served: Project, command: list[str]) -> None:
    path = served.folder / "jobs.state.json"
    path.write_bytes(path.read_bytes().replace(b"running", b"aborted", 1))
    assert "edited or merged by hand" in refused(served, *command)


@pytest.mark.parametrize("damage", ["cut", "middle", "empty", "other"])
def test_a_damaged_journal_ends_an_apply_before_its_first_call(served: Project, damage: str) -> None:
    assert served.server is not None
    path = served.folder / "jobs.state.json"
    target = Target("bytenite", served.server.endpoint)
    loaded = load(OsDisk(), str(path), target)
    writer = Writer(Opened(OsDisk(), str(path), loaded, lambda: State("", 0, target, {}), lambda state, digest: None))
    session = Session(writer, SCRIBE)
    session.intend("c", "c", doubt("op-1"))
    session.put("b", None)
    journal = served.folder / "jobs.state.json.journal"
    content = journal.read_bytes()
    journal.write_bytes(
        {
            "cut": content.rstrip(b"\0"),
            "middle": content.replace(b"op-1", b"op-2"),
            "empty": b"",
            "other": content.replace(codec.stated_digest(path.read_bytes()).encode(), b"0" * 64),
        }[damage]
    )
    assert "state accept" in refused(served, "apply", "--yes")
    journal.write_bytes(content)
    assert served.run("state", "list").code == 0
