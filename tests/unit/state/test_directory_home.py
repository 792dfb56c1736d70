"""A home of state that is no file and not git: nothing runs twice there, and nothing is lost.

The home is a directory: the one of the package in `examples/plugin`, which knows public names alone.
"""

import os
import random
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import directory_home
from directory_home import DirectoryRemote, install
from git_races import Machine, Team, applied, one_round, resumed
from in_process import TARGET
from project import sandbox_in
from reconciler.host.clocks import Clocks
from reconciler.host.disk import OsDisk
from reconciler.model.jobs import Desired, Doubt, Record, Verb
from reconciler.state import publisher
from reconciler.state.journal import Overtaken, decode
from reconciler.state.lease import MarkOncePublished, Unpublished
from reconciler.state.leased_store import LeasedStore
from reconciler.state.marks import HighWaterMarks
from reconciler.state.port import Fold, Leave, Moved, Note, NotFenced, Snapshot, Surroundings, Unreachable, Write
from reconciler.state.publisher import KnownVersion, RemotePublisher
from reconciler.state.replica import ReplicaDisk
from reconciler.state.rollback import RolledBack
from reconciler.state.session import Session
from waits import until

JOBS = "a: {state: running}\nb: {state: running}\nc: {state: running}"


# --- one command, and what becomes of its publishes --------------------------------------------------------------


def store_of(remote: DirectoryRemote, marks: Path) -> LeasedStore:
    marks.mkdir(exist_ok=True)
    count = iter(range(100))
    around = Surroundings(
        env={},
        folder=str(marks),
        checkout=str(marks),
        marks_folder=str(marks),
        cache_folder="",
        user="ada@one",
        person=lambda: "ada",
        now=lambda: "now",
        new_id=lambda: f"id-{next(count)}",
        wait=lambda seconds: False,
        tell=lambda text: None,
    )
    return LeasedStore(remote, around)


def intended(session: Session, name: str) -> None:
    session.begin(1)
    session.intend(name, name, Doubt(name, Verb.RUN, {}, None, None, "now", ""))
    assert session.assure()


def ran(session: Session, name: str) -> None:
    intended(session, name)
    session.conclude(name, name, Record(name, Desired.RUNNING), "ok")
    session.end()


def versions(folder: Path) -> int:
    return len(list(folder.glob("*.json")))


def test_an_older_state_that_was_published_over_its_history_is_refused_until_it_is_accepted(
    tmp_path: Path,
) -> None:
    remote = DirectoryRemote(tmp_path / "home")
    with store_of(remote, tmp_path / "ada").open(TARGET, "apply", 0) as session:
        ran(session, "a")
    first = remote.fetch()
    with store_of(remote, tmp_path / "ada").open(TARGET, "apply", 0) as session:
        ran(session, "b")
    newest = remote.fetch()
    assert first is not None
    assert newest is not None
    remote.publish(newest.version, Fold(None, first.content.state, None, b""), Note("eve", "a restore", "now"))
    store = store_of(remote, tmp_path / "grace")
    with pytest.raises(RolledBack, match=r"it is at serial 1, and .* tells of serial 2") as raised:
        store.read(TARGET)
    assert remote.where in raised.value.message
    with pytest.raises(RolledBack), store.open(TARGET, "apply", 0):
        pytest.fail("it was opened")
    accepted, _ = store.accept(TARGET, 0)
    assert (accepted.serial, sorted(accepted.jobs)) == (3, ["a"])
    assert store_of(remote, tmp_path / "grace").read(TARGET) == accepted


class Lossy(DirectoryRemote):
    """A directory from which the answer to some publishes never comes, though they may arrive.

    While it `forgets`, a write that follows another version than the last one has no answer either.
    """

    def __init__(self, folder: Path, loses: Callable[[int], bool], *, arrives: bool) -> None:
        super().__init__(folder)
        self._loses = loses
        self._arrives = arrives
        self.tries = 0
        self.forgets = False

    def publish(self, base: str | None, write: Write, note: Note) -> str:
        self.tries += 1
        if not self._loses(self.tries):
            return super().publish(base, write, note)
        if self._arrives:
            with suppress(*([Moved] if self.forgets else [])):
                super().publish(base, write, note)
        raise Unreachable("no answer")


def test_a_publish_whose_answer_is_lost_is_found_there_and_not_published_twice(tmp_path: Path) -> None:
    remote = Lossy(tmp_path / "there", lambda number: number % 2 == 1, arrives=True)
    with store_of(remote, tmp_path / "marks").open(TARGET, "apply", 0) as session:
        ran(session, "a")
    assert (versions(tmp_path / "there"), remote.tries) == (2, 4)
    state = store_of(DirectoryRemote(tmp_path / "there"), tmp_path / "other").read(TARGET)
    assert state is not None
    assert state.jobs == {"a": Record("a", Desired.RUNNING)}


def test_a_publish_that_never_left_is_published_again(tmp_path: Path) -> None:
    remote = Lossy(tmp_path / "there", lambda number: number == 1, arrives=False)
    with store_of(remote, tmp_path / "marks").open(TARGET, "apply", 0) as session:
        ran(session, "a")
    assert versions(tmp_path / "there") == 2


def test_where_nobody_can_tell_whether_a_publish_arrived_nothing_is_sent(tmp_path: Path) -> None:
    class Blind(Lossy):
        def fetch(self) -> Snapshot | None:
            if self.tries:
                raise Unreachable("no answer")
            return super().fetch()

    remote = Blind(tmp_path / "there", lambda number: True, arrives=True)
    with pytest.raises(Unpublished) as broken, store_of(remote, tmp_path / "marks").open(TARGET, "apply", 0) as session:
        intended(session, "a")
    assert (broken.value.is_unsent, broken.value.doubtful) == (True, frozenset())
    # It had arrived: the next command finds a call that may have been sent.
    state = store_of(DirectoryRemote(tmp_path / "there"), tmp_path / "other").read(TARGET)
    assert state is not None
    assert state.jobs["a"].doubt is not None


def test_a_command_knows_its_own_publish_of_which_it_had_no_word(tmp_path: Path) -> None:
    """It was not a call that waited for that publish, so the command goes on, and publishes again later."""
    remote = Lossy(tmp_path / "there", lambda number: number <= 1 + len(publisher.TRY_AGAIN_AFTER_S), arrives=True)
    disk = ReplicaDisk(remote, None, "jobs.state.json")
    publishing = RemotePublisher(
        remote,
        disk,
        None,
        Note("ada@one", "apply", "now"),
        "nonce",
        mark=MarkOncePublished(HighWaterMarks(OsDisk(), "")),
        known=KnownVersion("", ""),
        clocks=Clocks(),
        wait=lambda seconds: False,
    )
    remote.forgets = True
    with pytest.raises(Unpublished):
        publishing.publish(is_open=True)
    remote.forgets = False
    publishing.publish(is_open=True)
    publishing.publish(is_open=False)
    assert versions(tmp_path / "there") == 3
    snapshot = remote.fetch()
    assert snapshot is not None
    assert snapshot.content.holder is None


def test_who_comes_second_sends_nothing_and_is_told_who_was_first(tmp_path: Path) -> None:
    one, two = (store_of(DirectoryRemote(tmp_path / "there"), tmp_path / name) for name in ("one", "two"))
    said = r"someone else changed directory .* \(ada@one: apply\)"
    with pytest.raises(Overtaken, match=said), two.open(TARGET, "apply", 0) as session:
        with one.open(TARGET, "apply", 0) as first:
            ran(first, "a")
        intended(session, "b")
    state = one.read(TARGET)
    assert state is not None
    assert set(state.jobs) == {"a"}


def test_a_version_of_others_that_leaves_the_state_alone_is_followed(tmp_path: Path) -> None:
    remote = DirectoryRemote(tmp_path / "there")
    with store_of(remote, tmp_path / "marks").open(TARGET, "apply", 0) as session:
        remote.publish(remote.version(), Leave(), Note("bob", "look", "now"))
        ran(session, "a")
    assert versions(tmp_path / "there") == 3


def test_a_place_without_a_fence_is_refused_before_the_first_write(tmp_path: Path) -> None:
    class Open(DirectoryRemote):
        def probe(self) -> None:
            raise NotFenced("it ignores conditions")

    store = store_of(Open(tmp_path / "there"), tmp_path / "marks")
    with pytest.raises(NotFenced), store.open(TARGET, "apply", 0):
        pass
    assert versions(tmp_path / "there") == 0


def test_a_place_that_was_put_back_is_refused_until_it_is_accepted(tmp_path: Path) -> None:
    store = store_of(DirectoryRemote(tmp_path / "there"), tmp_path / "marks")
    for name in "ab":
        with store.open(TARGET, "apply", 0) as session:
            ran(session, name)
    newest = sorted((tmp_path / "there").glob("*.json"))[-1]
    newest.unlink()
    with pytest.raises(Exception, match="was rewritten: it does not hold revision 4-"):
        store.read(TARGET)
    _, remarks = store.accept(TARGET, 0)
    assert "was rewritten" in remarks[0]
    assert store.read(TARGET) is not None


# --- whole programs ----------------------------------------------------------------------------------------------


class DirectoryTeam(Team):
    """Machines that share a directory, which an installed plugin keeps states in."""

    def machine(self, state_url: str = "", **waits: object) -> Machine:
        machine = super().machine(state_url or f"dir://{self.there}", **waits)
        machine.env["PYTHONPATH"] = os.pathsep.join(filter(None, [machine.env.get("PYTHONPATH"), self._site]))
        return machine

    @property
    def there(self) -> Path:
        return self.folder / "the states"

    @property
    def _site(self) -> str:
        site = self.folder / "site"
        return directory_home.path_with(str(site))

    @property
    def files(self) -> Mapping[str, bytes]:
        snapshot = DirectoryRemote(self.there).fetch()
        assert snapshot is not None
        content = snapshot.content
        names = {"jobs.state.json": content.state, ".journal": content.journal, ".lock": content.holder}
        found = {name: held for name, held in names.items() if held is not None}
        return found | ({"jobs.history.jsonl": b""} if content.history_bytes else {})

    @property
    def intents(self) -> set[tuple[str, str]]:
        snapshot = DirectoryRemote(self.there).fetch()
        found: dict[str, tuple[str, str]] = {}
        if snapshot is not None and snapshot.content.journal is not None:
            for entry in decode(snapshot.content.journal, "there"):
                if entry["type"] == "intent":
                    found[entry["doubt"]["op"]] = entry["id"], entry["doubt"]["verb"]
                elif entry["type"] == "result":
                    found.pop(entry["op"], None)
        return set(found.values())


@contextmanager
def directory_team(folder: Path, *faults: str, job_seconds: float = 10_000) -> Iterator[DirectoryTeam]:
    install(str(folder / "site"))
    with sandbox_in(folder, *faults, job_seconds=job_seconds, latency_s=0.05) as served:
        yield DirectoryTeam(folder, served)


def test_a_plugin_of_another_package_keeps_a_state_and_looks_back(tmp_path: Path) -> None:
    with directory_team(tmp_path) as team:
        machine, other = team.machine(), team.machine()
        assert applied(machine, "a: {state: running, config: {jobTimeout: 5000}}").code == 0
        assert applied(machine, "a: {state: aborted}\nb: {state: running}").code == 0
        other.write("a: {state: aborted}\nb: {state: running}")
        assert other.run("plan", "--detailed-exitcode").code == 0
        since = other.run("history", "--since", "2", "--format", "json")
        assert [(entry["job"], entry["verb"]) for entry in since.json["entries"]] == [("b", "run"), ("a", "abort")]
        assert len(other.run("history", "--format", "json").json["entries"]) == 3
        assert other.run("history", "--check").code == 0
        assert other.run("state", "show", "a", "--at", "2", "--format", "json").json["config"] == {"jobTimeout": 5000}
        assert other.run("state", "show", "a", "--at", "1", "--format", "json").json["inDoubt"]["verb"] == "run"
        missing = other.run("state", "show", "a", "--at", "99")
        assert (missing.code, "has no revision 99" in missing.err) == (1, True)
        assert team.executions() == [("run", "a"), ("abort", "a"), ("run", "b")]


def test_a_place_without_revisions_says_so_and_what_is_taken_instead(tmp_path: Path) -> None:
    with directory_team(tmp_path) as team:
        machine = team.machine(f"plain://{team.there}")
        assert applied(machine, "a: {state: running}").code == 0
        show = machine.run("state", "show", "a", "--at", "1")
        assert (show.code, "keeps no revisions" in show.err, "state pull --out FILE" in show.err) == (1, True, True)
        since = machine.run("history", "--since", "1")
        assert (since.code, "keeps no revisions" in since.err) == (1, True)
        assert "give a date or a time in UTC" in since.err
        assert "or a revision" not in since.err
        assert len(machine.run("history", "--since", "2020-01-01", "--format", "json").json["entries"]) == 1


def test_a_url_that_no_plugin_takes_or_that_its_plugin_refuses_is_a_usage_error(tmp_path: Path) -> None:
    with directory_team(tmp_path) as team:
        machine = team.machine("s3://bucket")
        machine.write("a: {state: running}")
        unknown = machine.run("plan")
        assert (unknown.code, "--state: state is kept in a file" in unknown.err) == (64, True)
        empty = machine.run("plan", "--state", "dir://")
        assert (empty.code, "--state: no directory is named" in empty.err) == (64, True)


def test_of_four_machines_that_race_one_does_the_work(tmp_path: Path) -> None:
    with directory_team(tmp_path, job_seconds=0) as team:
        found = one_round(team, 1, 4)
        assert (found.worked, found.refused + found.idle) == (1, 3)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_machine_that_is_killed_at_work_loses_nothing(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    with directory_team(tmp_path) as team:
        machine = team.machine()
        machine.write(JOBS)
        child = machine.start("apply", "--yes", "--parallelism", "1")
        sent = chance.randint(0, 2)
        until(lambda: team.intents and team.received() >= sent, "it never began")
        child.send_signal(signal.SIGKILL)
        child.communicate()
        team.rest(JOBS)
        assert team.runs() == dict.fromkeys("abc", 1)
        other = team.machine()
        other.write(JOBS)
        check = other.run("history", "--check")
        assert check.code == 0, check.out + check.err


def test_a_machine_that_is_stopped_until_another_took_over_sends_nothing_more(tmp_path: Path) -> None:
    with directory_team(tmp_path, "run:slow:seconds=1") as team:
        stalled, other = team.machine(SEND_WITHIN_S=0.5), team.machine(TAKE_OVER_AFTER_S=1.5)
        stalled.write(JOBS)
        child = stalled.start("apply", "--yes", "--parallelism", "1")
        until(lambda: team.intents and team.received(), "it never began")
        child.send_signal(signal.SIGSTOP)
        run = applied(other, JOBS)
        assert run.code in (0, 5), run.out + run.err
        late = resumed(child)
        assert late.code in (4, 5), late
        assert "someone else changed" in late.out + late.err
        team.rest(JOBS)
        assert team.runs() == dict.fromkeys("abc", 1)
