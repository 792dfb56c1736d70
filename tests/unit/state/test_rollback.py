"""A state that is older than its own history is refused, and `accept` brings it up to what the history knows."""

import json
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from in_process import TARGET, store_in
from lossy_disk import LossyDisk, PowerLoss
from reconciler.host.disk import OsDisk
from reconciler.model.errors import ExitCode, Refused, StateError
from reconciler.model.history import Details
from reconciler.model.jobs import Config, Desired, Doubt, Evidence, Record, Status, Verb
from reconciler.rules.records import settled
from reconciler.rules.reruns import text_of
from reconciler.state import codec
from reconciler.state.file_lock import FileContext
from reconciler.state.file_store import FileStore
from reconciler.state.history import faults
from reconciler.state.journal import Displaced, JournalBroken
from reconciler.state.rollback import RolledBack
from reconciler.state.session import Session

BEFORE = Evidence(Status.COMPLETE, "")
STATE, HISTORY = "jobs.state.json", "jobs.history.jsonl"


def doubt(run: int, config: Config, token: str | None, verb: Verb = Verb.RUN) -> Doubt:
    return Doubt(f"op-{verb}-{run}", verb, config, token, BEFORE, f"2026-11-21T10:0{run}:00Z", "", run=run)


def send(
    session: Session,
    run: int,
    config: Config,
    token: str | None = None,
    outcome: str = "succeeded",
    op: str = "",
) -> None:
    """Record a run of the job `a` with all that it consumes, as an apply does."""
    record = session.record_of("a")
    tokens = record.run_tokens if record else frozenset[str]()
    configs = record.ran_configs if record else frozenset[str]()
    op = op or f"op-run-{run}"
    session.intend("a", "id-a", doubt(run, config, token)._replace(op=op))
    if outcome == "succeeded":
        consumed = tokens | {token} if token else tokens
        ran = configs | {text_of(config)}
        record = Record("id-a", Desired.RUNNING, config, consumed, run=run, ran_configs=ran)
    elif outcome == "in-doubt":
        record = (record or Record("id-a", None))._replace(doubt=doubt(run, config, token)._replace(op=op))
    session.conclude(op, "a", record, "said", Details(outcome))


def ran(
    folder: Path, run: int, config: Config, token: str | None = None, outcome: str = "succeeded", op: str = ""
) -> None:
    with store_in(folder).open(TARGET, "apply", 0) as session:
        send(session, run, config, token, outcome, op)


def branched(folder: Path) -> tuple[Path, Path]:
    """Two folders with the state and the history of a job that ran once, each as if on a machine of its own."""
    ours, theirs = folder / "ours", folder / "theirs"
    ours.mkdir()
    ran(ours, 1, {"size": 1}, "mon")
    theirs.mkdir()
    for name in (STATE, HISTORY):
        (theirs / name).write_bytes((ours / name).read_bytes())
    return ours, theirs


def unite(ours: Path, theirs: Path, *, theirs_first: bool = False) -> None:
    """Unite the histories in `ours` as `merge=union` of git does. The state of `ours` is taken whole."""
    one, other = (lines_of(folder) for folder in ((theirs, ours) if theirs_first else (ours, theirs)))
    shared = [line for line in one if line in other]
    added = [*(line for line in one if line not in shared), *(line for line in other if line not in shared)]
    (ours / HISTORY).write_bytes(b"".join([*shared, *added]))
    on_another_machine(ours)


def lines_of(folder: Path) -> list[bytes]:
    return (folder / HISTORY).read_bytes().splitlines(keepends=True)


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
    assert (accepted.last, accepted.serial) == ({"id-a": 3}, 4)
    assert remarks[0].endswith("it is at serial 1, and " + str(tmp_path / HISTORY) + " tells of serial 3")
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


def settle(folder: Path, outcome: str) -> None:
    """Record what became of the run in doubt."""
    with store_in(folder).open(TARGET, "resolve", 0) as session:
        record = session.record_of("a")
        assert record is not None
        assert record.doubt is not None
        session.conclude(record.doubt.op, "a", settled(record, outcome == "applied"), "said", Details(outcome))


@pytest.mark.parametrize("more", [0, 1], ids=["of-one-serial", "of-a-higher-serial"])
@pytest.mark.parametrize("theirs_first", [False, True], ids=["ours-first", "theirs-first"])
@pytest.mark.parametrize(
    ("config", "token", "outcome"),
    [({"size": 1}, "wed", "succeeded"), ({"size": 3}, None, "succeeded"), ({"size": 3}, "wed", "in-doubt")],
    ids=["token", "config", "in-doubt"],
)
def test_a_run_of_the_other_branch_with_the_same_number_is_missed(
    config: Config, token: str | None, outcome: str, theirs_first: bool, more: int, tmp_path: Path
) -> None:
    """Both branches gave the number 2 to a run. The run count of the state tells nothing then."""
    ours, theirs = branched(tmp_path)
    ran(ours, 2, {"size": 2}, "tue")
    ran(theirs, 2, config, token, outcome, op="theirs")
    for _ in range(more):
        with store_in(ours).open(TARGET, "apply", 0) as session:
            session.put("b", Record("id-b", Desired.ABORTED))
    unite(ours, theirs, theirs_first=theirs_first)
    assert refused(ours) == (
        "jobs.state.json lacks a run that its history tells of: jobs.history.jsonl tells of a run 2 of a"
        f"{f' by the run token {token}' if token else ''}, at serial 2, which the state has not counted"
    )
    accepted, remarks = store_in(ours).accept(TARGET, 0)
    record = accepted.jobs["a"]
    assert (record.config, record.run, accepted.last) == ({"size": 2}, 2, {"id-a": 2})
    assert record.run_tokens == {"mon", "tue", token} - {None}
    assert record.ran_configs == {text_of({"size": 1}), text_of({"size": 2}), text_of(config)}
    assert remarks[-1] == (
        "the history tells of other runs of id-a: their run tokens and configs count as used; look at these jobs"
    )
    # Nobody knows which of two runs of one number is the later one: with another config, a person has to say.
    assert record.doubt is not None
    assert (record.doubt.run, record.doubt.config, record.doubt.run_token) == (2, config, token)
    on_another_machine(ours)
    assert store_in(ours).read(TARGET) == accepted
    told = (ours / HISTORY).read_bytes()
    for said in ("applied", "not-applied"):
        (ours / STATE).write_bytes(codec.encode(accepted))
        (ours / HISTORY).write_bytes(told)
        on_another_machine(ours)
        settle(ours, said)
        after = store_in(ours).read(TARGET)
        assert after is not None
        assert after.jobs["a"].config == (config if said == "applied" else {"size": 2})
        assert after.jobs["a"].run_tokens == record.run_tokens


def test_a_merge_that_nothing_was_lost_in_is_taken(tmp_path: Path) -> None:
    """Each branch ran another job, or forgot what it ran, and the state is brought up with one accept."""
    ours, theirs = branched(tmp_path)
    ran(ours, 2, {"size": 2}, "tue")
    with store_in(ours).open(TARGET, "state forget", 0) as session:
        session.put("a", None)
    ran(ours, 3, {"size": 3}, "thu")
    with store_in(theirs).open(TARGET, "apply", 0) as session:
        session.put("b", Record("id-b", Desired.ABORTED))
    unite(ours, theirs)
    state = store_in(ours).read(TARGET)
    assert state is not None
    assert state.jobs["a"].run_tokens == {"thu"}
    ran(ours, 4, {"size": 4}, "fri")
    on_another_machine(ours)
    assert store_in(ours).read(TARGET) is not None


def test_a_branch_that_was_brought_up_once_is_not_looked_at_again(tmp_path: Path) -> None:
    """The next line names both ends. From then on, what was forgotten since is no reason to refuse the state."""
    ours, theirs = branched(tmp_path)
    ran(ours, 2, {"size": 2}, "tue")
    ran(theirs, 2, {"size": 1}, "wed", op="theirs")
    unite(ours, theirs)
    store_in(ours).accept(TARGET, 0)
    with store_in(ours).open(TARGET, "state forget", 0) as session:
        session.put("a", None)
    ran(ours, 3, {"size": 3}, "thu")
    on_another_machine(ours)
    assert store_in(ours).read(TARGET) is not None


def forked(folder: Path) -> Path:
    """A folder with the state of one of two branches, both of which have a run 2, and with both histories."""
    ours, theirs = branched(folder)
    ran(ours, 2, {"size": 1}, "tue")
    ran(theirs, 2, {"size": 1}, "wed", op="theirs")
    unite(ours, theirs)
    return ours


@pytest.mark.parametrize("state", [Desired.ABSENT, Desired.RUNNING])
def test_only_a_job_that_was_seen_to_be_gone_begins_anew(state: Desired, tmp_path: Path) -> None:
    """Other records that are made without a call go on: what another branch ran before them is missed."""
    ours, theirs = branched(tmp_path)
    ran(ours, 2, {"size": 1}, "tue")
    with store_in(ours).open(TARGET, "apply", 0) as session:
        record = session.record_of("a")
        assert record is not None
        session.put("a", record._replace(state=state, protect=True))
        session.drop_spent(("a",) if state is Desired.ABSENT else ())
    ran(ours, 3, {"size": 1}, "thu")
    ran(theirs, 2, {"size": 1}, "wed", op="theirs")
    unite(ours, theirs)
    if state is Desired.RUNNING:
        assert "by the run token wed" in refused(ours)
    else:
        assert store_in(ours).read(TARGET) is not None


@pytest.mark.parametrize("at", range(12))
def test_an_accept_that_is_killed_hides_no_run(at: int, tmp_path: Path) -> None:
    """The line of the accept names both branches before the accepted state is in place."""
    ours = forked(tmp_path)
    with suppress(KeyboardInterrupt):
        store_in(ours, _KilledAtOperation(at)).accept(TARGET, 0)
    on_another_machine(ours)
    with suppress(RolledBack, StateError):
        state = store_in(ours).read(TARGET)
        assert state is not None
        assert state.jobs["a"].run_tokens == {"mon", "tue", "wed"}
    accepted, _ = store_in(ours).accept(TARGET, 0)
    assert accepted.jobs["a"].run_tokens == {"mon", "tue", "wed"}


def test_a_state_from_before_an_accept_is_missed_too(tmp_path: Path) -> None:
    ours = forked(tmp_path)
    before = (ours / STATE).read_bytes()
    store_in(ours).accept(TARGET, 0)
    (ours / STATE).write_bytes(before)
    on_another_machine(ours)
    assert "by the run token wed" in refused(ours)


def test_a_state_with_the_history_of_the_other_branch_is_missed(tmp_path: Path) -> None:
    """Git did not unite the histories: each side was taken whole, but not the same one."""
    ours, theirs = branched(tmp_path)
    ran(ours, 2, {"size": 1}, "tue")
    ran(theirs, 2, {"size": 1}, "wed", op="theirs")
    (ours / HISTORY).write_bytes((theirs / HISTORY).read_bytes())
    on_another_machine(ours)
    assert "by the run token wed" in refused(ours)


def test_a_journal_beside_the_history_of_another_branch_hides_no_run(tmp_path: Path) -> None:
    ours, theirs = branched(tmp_path)
    before = (ours / STATE).read_bytes()
    with suppress(KeyboardInterrupt), store_in(ours).open(TARGET, "apply", 0) as session:
        session.close = lambda: None  # type: ignore[method-assign]
        send(session, 2, {"size": 1}, "tue")
        send(session, 3, {"size": 1}, "thu")
    ran(theirs, 2, {"size": 1}, "wed", op="theirs")
    (ours / HISTORY).write_bytes((theirs / HISTORY).read_bytes())
    assert (ours / STATE).read_bytes() == before
    assert "by the run token wed" in refused(ours)
    accepted, _ = store_in(ours).accept(TARGET, 0)
    assert accepted.jobs["a"].run_tokens == {"mon", "tue", "thu", "wed"}


def test_a_state_that_is_pushed_to_an_empty_place_is_held_against_the_history_there(tmp_path: Path) -> None:
    ours = forked(tmp_path)
    state = codec.decode((ours / STATE).read_bytes(), "x")
    (ours / STATE).unlink()
    assert store_in(ours).put(state, TARGET, 0)
    on_another_machine(ours)
    assert "by the run token wed" in refused(ours)


def test_a_newer_state_that_comes_back_from_another_home_is_taken(tmp_path: Path) -> None:
    """This machine wrote the newer serials, and this home has none of them: that is no roll-back of this home."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    ran(one, 1, {}, "mon")
    state = store_in(one).read(TARGET)
    assert state is not None
    (other / "marks").symlink_to(one / "marks")
    assert store_in(other).put(state, TARGET, 0)
    ran(other, 2, {}, "tue")
    newer = store_in(other).read(TARGET)
    assert newer is not None
    assert store_in(one).put(newer, TARGET, 0)
    assert store_in(one).read(TARGET) == newer


def test_two_calls_in_doubt_for_one_number_and_two_configs_are_two_runs(tmp_path: Path) -> None:
    ours, theirs = branched(tmp_path)
    ran(ours, 2, {"size": 2}, None, "in-doubt")
    ran(theirs, 2, {"size": 3}, None, "in-doubt", op="theirs")
    unite(ours, theirs)
    assert "tells of a run 2 of a" in refused(ours)
    accepted, _ = store_in(ours).accept(TARGET, 0)
    record = accepted.jobs["a"]
    assert record.doubt is not None
    assert record.doubt.config == {"size": 2}
    assert text_of({"size": 3}) in record.ran_configs


@pytest.mark.parametrize("theirs_first", [False, True], ids=["ours-first", "theirs-first"])
def test_a_later_run_of_a_job_that_this_branch_forgot_comes_back(theirs_first: bool, tmp_path: Path) -> None:
    ours, theirs = branched(tmp_path)
    with store_in(ours).open(TARGET, "state forget", 0) as session:
        session.put("a", None)
    ran(theirs, 2, {"size": 1}, "wed", op="theirs")
    unite(ours, theirs, theirs_first=theirs_first)
    refused(ours)
    accepted, _ = store_in(ours).accept(TARGET, 0)
    assert accepted.jobs["a"].run == 2
    assert accepted.jobs["a"].run_tokens == {"wed"}


@pytest.mark.parametrize("state", [Desired.ABORTED, Desired.ABSENT])
def test_a_run_beside_one_that_this_branch_ended_is_on_record(state: Desired, tmp_path: Path) -> None:
    ours, theirs = branched(tmp_path)
    ran(ours, 2, {"size": 2}, "tue")
    with store_in(ours).open(TARGET, "apply", 0) as session:
        record = session.record_of("a")
        assert record is not None
        session.put("a", record._replace(state=state), verb="abort")
    ran(theirs, 2, {"size": 3}, "wed", op="theirs")
    unite(ours, theirs)
    refused(ours)
    accepted, _ = store_in(ours).accept(TARGET, 0)
    record = accepted.jobs["a"]
    assert (record.state, record.config, record.run) == (Desired.RUNNING, {"size": 3}, 2)
    assert record.run_tokens == {"mon", "tue", "wed"}


def test_an_older_doubt_that_is_settled_leaves_the_newer_run_on_record(tmp_path: Path) -> None:
    ours, theirs = branched(tmp_path)
    ran(ours, 2, {"size": 2}, "tue", "in-doubt")
    ran(theirs, 2, {"size": 2}, "thu", op="theirs")
    ran(theirs, 3, {"size": 3}, "wed", op="theirs-3")
    unite(ours, theirs)
    refused(ours)
    store_in(ours).accept(TARGET, 0)
    settle(ours, "applied")
    state = store_in(ours).read(TARGET)
    assert state is not None
    record = state.jobs["a"]
    assert (record.config, record.run, record.doubt) == ({"size": 3}, 3, None)
    assert record.run_tokens == {"mon", "tue", "wed", "thu"}


@pytest.mark.parametrize("merged", [False, True])
def test_a_run_in_doubt_that_was_sent_twice_and_not_applied_was_never_run(merged: bool, tmp_path: Path) -> None:
    ours, theirs = branched(tmp_path)
    ran(ours, 2, {"size": 2}, "tue", "in-doubt", op="first")
    ran(ours, 2, {"size": 2}, "tue", "in-doubt", op="second")
    settle(ours, "not-applied")
    if merged:
        with store_in(theirs).open(TARGET, "state mv", 0) as session:
            session.move({"a": "z"})
        unite(ours, theirs)
        assert store_in(ours).read(TARGET) is not None
    (ours / STATE).write_bytes((ours / STATE).read_bytes().replace(b"\n", b"\r\n"))
    accepted, remarks = store_in(ours).accept(TARGET, 0)
    assert (accepted.last, len(remarks)) == ({"id-a": 1}, 1)
    assert accepted.jobs["a"].run_tokens == {"mon"}


def test_a_call_of_another_lineage_that_was_not_carried_out_is_no_run(tmp_path: Path) -> None:
    ours, theirs = branched(tmp_path)
    with store_in(theirs).open(TARGET, "apply", 0) as session:
        session.intend("c", "id-c", doubt(1, {}, "t"))
        session.conclude("op-run-1", "c", Record("id-c", None, doubt=doubt(1, {}, "t")), "?", Details("in-doubt"))
    with store_in(theirs).open(TARGET, "resolve", 0) as session:
        session.conclude("op-run-1", "c", None, "said", Details("not-applied"))
    content = (theirs / HISTORY).read_bytes().replace(b'"lineage":"lineage"', b'"lineage":"x"')
    (theirs / HISTORY).write_bytes(content)
    unite(ours, theirs)
    assert store_in(ours).read(TARGET) is not None


def test_a_line_with_counts_that_no_state_can_have_is_unreadable(tmp_path: Path) -> None:
    ran(tmp_path, 1, {}, "mon")
    for old, new in ((b'"run":1,', b'"run":1000000000000,'), (b'"serial":1,', b'"serial":10000000000000000000,')):
        content = (tmp_path / HISTORY).read_bytes()
        (tmp_path / HISTORY).write_bytes(content + content.splitlines(keepends=True)[0].replace(old, new))
    told: list[str] = []
    store = store_in(tmp_path, tell=told.append)
    assert store.read(TARGET) is not None
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes().replace(b"\n", b"\r\n"))
    accepted, _ = store.accept(TARGET, 0)
    assert accepted.last == {"id-a": 1}


def test_a_run_that_is_seen_active_has_a_line_for_the_serial_of_its_state(tmp_path: Path) -> None:
    ran(tmp_path, 1, {})
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        record = session.record_of("a")
        assert record is not None
        session.note_ends({"a": record._replace(last_active="2026-11-21T10:05:00Z")})
    told: list[str] = []
    store = store_in(tmp_path, tell=told.append)
    assert store.read(TARGET) is not None
    assert told == []
    assert faults(store.read_history()) == []
    assert (store.read_history().entries[-1].verb, store.read_history().entries[-1].serial) == ("note", 2)


@pytest.mark.parametrize("theirs_first", [False, True], ids=["ours-first", "theirs-first"])
@pytest.mark.parametrize("then", [0, 1], ids=["at-once", "after-another-run"])
def test_a_doubt_that_two_branches_settled_in_two_ways_counts_as_a_run(
    theirs_first: bool, then: int, tmp_path: Path
) -> None:
    ours, theirs = branched(tmp_path)
    for folder in (ours, theirs):
        ran(folder, 2, {"size": 2}, "tue", "in-doubt")
    (theirs / HISTORY).write_bytes((ours / HISTORY).read_bytes())
    settle(ours, "not-applied")
    settle(theirs, "applied")
    for _ in range(then):
        ran(ours, 2, {"size": 9}, "wed", op="later")
    unite(ours, theirs, theirs_first=theirs_first)
    refused(ours)
    accepted, _ = store_in(ours).accept(TARGET, 0)
    assert accepted.last == {"id-a": 2}
    assert "tue" in accepted.jobs["a"].run_tokens
    on_another_machine(ours)
    assert store_in(ours).read(TARGET) == accepted


@pytest.mark.parametrize("is_known", [False, True], ids=["new-job", "known-job"])
def test_a_run_of_another_lineage_on_the_same_target_is_missed(is_known: bool, tmp_path: Path) -> None:
    """Two clones made a state each, and one of the two states was taken whole."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    if is_known:
        ran(ours, 1, {"size": 1}, "mon")
    else:
        with store_in(ours).open(TARGET, "apply", 0) as session:
            session.put("b", Record("id-b", Desired.ABORTED))
    ran(theirs, 1, {"size": 1}, "tue", op="theirs")
    (theirs / HISTORY).write_bytes((theirs / HISTORY).read_bytes().replace(b'"lineage":"lineage"', b'"lineage":"x"'))
    unite(ours, theirs)
    refused(ours)
    accepted, _ = store_in(ours).accept(TARGET, 0)
    assert (accepted.lineage, accepted.jobs["a"].run) == ("lineage", 1)
    assert accepted.jobs["a"].run_tokens == ({"mon", "tue"} if is_known else {"tue"})
    on_another_machine(ours)
    assert store_in(ours).read(TARGET) == accepted


def test_a_run_of_another_lineage_on_another_target_is_of_no_concern(tmp_path: Path) -> None:
    ours, theirs = branched(tmp_path)
    with store_in(theirs).open(TARGET, "apply", 0) as session:
        session.intend("c", "id-c", doubt(1, {}, "t"))
        session.conclude("op-run-1", "c", Record("id-c", Desired.RUNNING, run=1), "said", Details())
    content = (theirs / HISTORY).read_bytes()
    content = content.replace(b'"lineage":"lineage"', b'"lineage":"staging"').replace(b"127.0.0.1", b"127.0.0.2")
    (theirs / HISTORY).write_bytes(content)
    unite(ours, theirs)
    assert store_in(ours).read(TARGET) is not None
    (ours / STATE).write_bytes((ours / STATE).read_bytes().replace(b"\n", b"\r\n"))
    accepted, remarks = store_in(ours).accept(TARGET, 0)
    assert (sorted(accepted.jobs), accepted.last, len(remarks)) == (["a"], {"id-a": 1}, 1)


def test_what_an_edit_took_from_a_state_is_brought_back_by_its_history(tmp_path: Path) -> None:
    ran(tmp_path, 1, {"size": 1}, "mon")
    text = (tmp_path / STATE).read_text()
    text = text.replace('"mon"', "").replace('"lineage": "lineage"', '"lineage": "other"')
    (tmp_path / STATE).write_text(text)
    accepted, remarks = store_in(tmp_path).accept(TARGET, 0)
    assert accepted.jobs["a"].run_tokens == {"mon"}
    assert remarks[1:] == [
        "the lineage of the state is 'other', and its history is of the lineage lineage",
        "the history tells of other runs of id-a: their run tokens and configs count as used; look at these jobs",
    ]


def _at_work(folder: Path, random: Random) -> list[tuple[str, str | None]]:
    """Run, settle and forget at random in a folder. Returns the config and the run token of each run that may have been
    carried out since the job was last forgotten.
    """
    run: list[tuple[str, str | None]] = []
    for step in range(random.randint(0, 5)):
        state = store_in(folder).read(TARGET)
        assert state is not None
        record = state.jobs.get("a")
        if record is not None and record.doubt is not None:
            outcome = random.choice(["applied", "not-applied"])
            settle(folder, outcome)
            if outcome == "not-applied":
                run.pop()
        elif random.random() < 0.1:
            with store_in(folder).open(TARGET, "state forget", 0) as session:
                session.put("a", None)
            run = []
        else:
            config: Config = {"size": random.randint(1, 4)}
            token, name = random.choice([None, f"{folder.name}-{step}"]), f"{folder.name}-{step}"
            outcome = random.choice(["succeeded", "succeeded", "failed", "in-doubt"])
            ran(folder, state.last.get("id-a", 0) + 1, config, token, outcome, op=name)
            run += [(text_of(config), token)] if outcome != "failed" else []
    return run


@pytest.mark.parametrize("seed", range(100))
def test_an_accepted_state_has_all_that_two_branches_ran_and_is_not_refused(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    ours, theirs = branched(tmp_path)
    run = [*_at_work(ours, random), *_at_work(theirs, random)]
    unite(ours, theirs, theirs_first=random.random() < 0.5)
    with suppress(RolledBack):
        store_in(ours).read(TARGET)
        (ours / STATE).write_bytes((ours / STATE).read_bytes().replace(b"\n", b"\r\n"))  # so that it is accepted
    accepted, _ = store_in(ours).accept(TARGET, 0)
    on_another_machine(ours)
    assert store_in(ours).read(TARGET) == accepted
    record = accepted.jobs.get("a", Record("id-a", None))
    if b"state forget" not in (ours / HISTORY).read_bytes():
        pending = record.doubt
        known = {(text_of(pending.config), pending.run_token)} if pending is not None else set()
        missed = [
            (config, token)
            for config, token in run
            if (config, token) not in known
            and (config not in record.ran_configs or (token is not None and token not in record.run_tokens))
        ]
        assert missed == []


@pytest.mark.parametrize("lacks", ["token", "config", "record", "run"])
def test_a_pushed_state_never_lacks_what_the_recorded_one_has_run(lacks: str, tmp_path: Path) -> None:
    ran(tmp_path, 1, {"size": 1}, "mon")
    state = codec.decode((tmp_path / STATE).read_bytes(), "x")._replace(serial=9)
    record = state.jobs["a"]
    jobs = {
        "token": {"a": record._replace(run_tokens=frozenset())},
        "config": {"a": record._replace(ran_configs=frozenset())},
        "record": {},
        "run": {"a": record._replace(run=0)},
    }[lacks]
    pushed = state._replace(jobs=jobs, last=state.last if lacks != "run" else {})
    with pytest.raises(Refused):
        store_in(tmp_path).put(pushed, TARGET, 0)
    assert store_in(tmp_path).put(state, TARGET, 0)


def test_a_pushed_state_is_held_against_the_history_beside_the_recorded_one(tmp_path: Path) -> None:
    ours, theirs = branched(tmp_path)
    ran(ours, 2, {"size": 2}, "tue")
    ran(theirs, 2, {"size": 2}, "wed", op="theirs")
    unite(ours, theirs)
    pushed = codec.decode((ours / STATE).read_bytes(), "x")._replace(serial=9)
    with pytest.raises(RolledBack, match=r"the state to push lacks a run .* by the run token wed"):
        store_in(ours).put(pushed, TARGET, 0)


def _spaced(line: bytes) -> bytes:
    return json.dumps(json.loads(line)).encode()


@pytest.mark.parametrize("what", ["serial", "run"])
def test_lines_that_another_program_wrote_anew_are_read_too(what: str, tmp_path: Path) -> None:
    ran(tmp_path, 1, {}, "mon")
    older = (tmp_path / STATE).read_bytes()
    ran(tmp_path, 2, {}, "tue")
    lines = [_spaced(line) for line in lines_of(tmp_path)]
    if what == "run":
        lines = [line.replace(b'"serial": 2', b'"serial": 1') for line in lines]
    (tmp_path / HISTORY).write_bytes(b"\n".join(lines) + b"\n")
    (tmp_path / STATE).write_bytes(older)
    on_another_machine(tmp_path)
    assert "is older than its history" in refused(tmp_path)


@pytest.mark.parametrize(
    ("change", "gap"),
    [
        (lambda path: path.unlink(), "is missing, empty or unreadable"),
        (lambda path: path.write_bytes(b""), "is missing, empty or unreadable"),
        (lambda path: (path.unlink(), path.mkdir()), "is missing, empty or unreadable"),
        (lambda path: (path.unlink(), path.symlink_to("nowhere")), "is missing, empty or unreadable"),
        (lambda path: path.write_bytes(path.read_bytes().splitlines(True)[0]), "ends before serial 2 of the state"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9] + b"\n"), "has an unreadable line"),
        (lambda path: path.write_text(path.read_text(), "utf-16"), "unreadable lines"),
        (lambda path: path.write_bytes(path.read_bytes() + b"<<<<<<< x\n=======\n"), "has 2 unreadable lines"),
    ],
    ids=["gone", "empty", "folder", "dangling", "cut", "torn", "utf-16", "conflict"],
)
def test_a_history_that_can_not_show_a_rollback_is_warned_of_once(
    change: Callable[[Path], object], gap: str, tmp_path: Path
) -> None:
    ran(tmp_path, 1, {})
    ran(tmp_path, 2, {})
    told: list[str] = []
    store = store_in(tmp_path, tell=told.append)
    assert store.read(TARGET) is not None
    assert told == []
    change(tmp_path / HISTORY)
    for _ in range(2):
        assert store.read(TARGET) is not None
    [warning] = told
    assert gap in warning
    assert warning.endswith("a state that is rolled back would not be noticed; see `reconciler history --check`")


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
    settle(folder, "not-applied")


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
    configs = frozenset(text_of(config) for config in ({}, {"size": 2}, {"size": 3}, {"size": 4}))
    newer = newer._replace(jobs={"a": newer.jobs["a"]._replace(ran_configs=configs)})
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


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_an_accepted_journal_of_a_lost_state_has_the_records_that_the_history_tells_of(
    is_forgotten: bool, tmp_path: Path
) -> None:
    journal = tmp_path / f"{STATE}.journal"
    ran(tmp_path, 1, {"size": 1}, "mon")
    ran(tmp_path, 2, {"size": 2}, "tue")
    if is_forgotten:
        with store_in(tmp_path).open(TARGET, "state forget", 0) as session:
            session.put("a", None)
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        session.intend("b", "id-b", doubt(1, {}, None))
        of_killed = journal.read_bytes()
    (tmp_path / STATE).unlink()
    journal.write_bytes(of_killed)
    accepted, remarks = store_in(tmp_path).accept(TARGET, 0)
    assert accepted.jobs["b"].doubt is not None
    assert accepted.last["id-a"] == 2
    assert ("a" in accepted.jobs) is not is_forgotten
    if not is_forgotten:
        record = accepted.jobs["a"]
        assert (record.state, record.config, record.run) == (Desired.RUNNING, {"size": 2}, 2)
        assert record.run_tokens == {"mon", "tue"}
        assert record.ran_configs == {'{"size":1}', '{"size":2}'}
        assert remarks[-1].startswith("the history tells of later runs of id-a")
    assert store_in(tmp_path).read(TARGET) == accepted
