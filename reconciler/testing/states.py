"""The contract of a home of state, as pytest tests.

    class TestMyHome(StateContract):
        @pytest.fixture
        def url(self, tmp_path):
            return f"mine://{tmp_path}/fleet"

        def keep_copy(self, url): ...

`HomeUnderTest` lists all that an author may say about the home. The tests take the place of the commands: they open the
store through the plugin, from machines that share nothing else.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from reconciler.model.errors import LockTaken, ReconcilerError, Refused, StateError
from reconciler.model.history import Details
from reconciler.model.jobs import EMPTY, Desired, Doubt, Record, State, Target, Verb
from reconciler.state import history
from reconciler.state.port import NoRevisions
from reconciler.state.session import Session
from reconciler.testing.amount import Amount
from reconciler.testing.homes import Home, raising
from reconciler.testing.hostile import TEXTS
from reconciler.testing.machines import Machine
from reconciler.testing.races import ProgramContract
from reconciler.testing.worker import TARGET, plugin_at

_LOCK_S = 30.0
"""How long a session of these tests waits for its turn, in seconds of its machine."""


def ran(session: Session, name: str, op: str, *, answer: str = "ok", reason: str = "") -> None:
    """Carry out the call of one job, as an apply does."""
    session.begin(1)
    session.intend(name, name, _doubt(op), reason)
    assert session.assure()
    session.conclude(op, name, Record(name, Desired.RUNNING), answer, Details(reason=reason))
    session.end()


def _doubt(op: str) -> Doubt:
    return Doubt(op, Verb.RUN, EMPTY, None, None, "2026-01-02T03:04:05Z", "")


class StateContract(ProgramContract):
    """The whole contract of a home of state."""

    # --- the plugin ----------------------------------------------------------------------------------------------

    def test_the_plugin_takes_its_url(self, home: Home) -> None:
        plugin = plugin_at(self.plugin, home.url)
        assert home.url.startswith(plugin.prefix)
        assert plugin.fault_of(home.url) is None
        full = plugin.full_url(home.url)
        assert plugin.full_url(full) == full, "the full URL of a full URL is the same"

    def test_the_place_has_a_name_of_one_line(self, home: Home) -> None:
        where = home.store().where
        assert where
        assert "\n" not in where

    # --- reading and writing -------------------------------------------------------------------------------------

    def test_an_empty_place_has_no_state_and_reading_leaves_it_empty(self, home: Home) -> None:
        for _ in range(2):
            assert home.read() is None
            assert home.store().read_history().entries == []

    def test_what_one_machine_records_another_one_reads(self, home: Home) -> None:
        with home.store().open(TARGET, "apply", _LOCK_S) as session:
            ran(session, "a", "op-a")
            session.put("b", Record("b", Desired.ABORTED))
        state = home.read()
        assert state is not None
        assert state.jobs == {"a": Record("a", Desired.RUNNING), "b": Record("b", Desired.ABORTED)}
        assert state.target == TARGET

    def test_an_intent_is_on_record_when_intend_returns(self, home: Home) -> None:
        with home.store().open(TARGET, "apply", _LOCK_S) as session:
            session.begin(1)
            session.intend("a", "a", _doubt("op-a"))
            state = home.read()
            session.conclude("op-a", "a", Record("a", Desired.RUNNING), "ok", Details())
            session.end()
        assert state is not None, "an intent was acknowledged, and another machine reads nothing"
        doubt = state.jobs["a"].doubt
        assert doubt is not None
        assert doubt.op == "op-a"

    def test_a_session_without_a_change_writes_nothing(self, home: Home) -> None:
        with home.store().open(TARGET, "apply", _LOCK_S) as session:
            ran(session, "a", "op-a")
        before = home.read()
        with home.store().open(TARGET, "apply", _LOCK_S):
            pass
        assert home.read() == before

    def test_records_are_changed_moved_and_removed(self, home: Home) -> None:
        with home.store().open(TARGET, "apply", _LOCK_S) as session:
            session.put_all({name: Record(name, Desired.RUNNING) for name in ("a", "b", "c")})
            session.move({"a": "z"})
            session.put("b", None)
        with home.store().open(TARGET, "apply", _LOCK_S) as session:
            ran(session, "c", "op-c")
        state = home.read()
        assert state is not None
        assert sorted(state.jobs) == ["c", "z"]

    def test_each_change_is_in_the_history_once(self, home: Home, amount: Amount) -> None:
        machines = [home.machine(), home.machine()]
        for number in range(6):
            with home.store(machines[number % 2]).open(TARGET, "apply", _LOCK_S) as session:
                ran(session, f"job-{number}", f"op-{number}")
        stored = home.store().read_history()
        assert [entry.op for entry in stored.entries] == [f"op-{number}" for number in range(6)]
        assert history.faults(stored) == []

    def test_the_serial_grows_with_each_change_and_the_lineage_stays(self, home: Home) -> None:
        found: list[State] = []
        for number in range(3):
            with home.store().open(TARGET, "apply", _LOCK_S) as session:
                ran(session, f"job-{number}", f"op-{number}")
            state = home.read()
            assert state is not None
            found.append(state)
        assert len({state.lineage for state in found}) == 1
        assert [state.serial for state in found] == sorted({state.serial for state in found})

    def test_hostile_texts_come_back_as_they_were(self, home: Home, amount: Amount) -> None:
        """Texts from a manifest and from a service, in each field of a record that holds texts, and in the history."""
        records = {f"job-{at}": _hostile_record(f"job-{at}", text) for at, text in enumerate(TEXTS)}
        # In a home that is shared, each call is a write.
        answers = dict(list(enumerate(TEXTS))[:: amount.nth_text])
        with home.store().open(TARGET, "apply", _LOCK_S) as session:
            for at, text in enumerate(TEXTS):
                session.put(f"job-{at}", records[f"job-{at}"], details=Details(request_id=text, reason=text))
            for at, text in answers.items():
                ran(session, f"called-{at}", f"op-{at}", answer=text, reason=text)
        state, stored = home.read(), home.store().read_history()
        assert state is not None
        assert {name: state.jobs[name] for name in records} == records
        found = {entry.op: entry for entry in stored.entries}
        assert {at: found[f"op-{at}"].answer for at in answers} == {
            at: history.cut(text) for at, text in answers.items()
        }
        assert history.faults(stored) == []

    def test_many_jobs_are_all_there(self, home: Home, amount: Amount) -> None:
        records = {f"job-{number}": Record(f"job-{number}", Desired.RUNNING) for number in range(amount.jobs)}
        with home.store().open(TARGET, "import", _LOCK_S) as session:
            session.put_all(records)
        state = home.read()
        assert state is not None
        assert state.jobs == records

    def test_the_state_of_another_target_is_refused(self, home: Home) -> None:
        with home.store().open(TARGET, "apply", _LOCK_S) as session:
            ran(session, "a", "op-a")
        other = Target("ledger", "https://other.example")
        with raising(StateError, what="the state of one target was read for another one"):
            home.store().read(other)
        with (
            raising(StateError, what="the state of one target was opened for another one"),
            home.store().open(other, "apply", _LOCK_S),
        ):
            pass

    # --- one session at a time -----------------------------------------------------------------------------------

    def test_a_session_that_holds_the_state_excludes_others(self, home: Home) -> None:
        machine = home.machine()
        with home.store(machine).open(TARGET, "apply", _LOCK_S) as session:
            session.begin(1)
            session.intend("a", "a", _doubt("op-a"))
            for other in (machine, home.machine()):
                with (
                    raising(LockTaken, what="two sessions were open at the same time"),
                    home.store(other).open(TARGET, "apply", 0.0),
                ):
                    pass
            session.conclude("op-a", "a", Record("a", Desired.RUNNING), "ok", Details())
            session.end()
        with home.store().open(TARGET, "apply", _LOCK_S) as session:
            assert session.record_of("a") == Record("a", Desired.RUNNING)

    def test_of_two_sessions_that_open_at_once_one_records_at_most(self, home: Home) -> None:
        """A home may let both open, as long as the first one that writes stops the other one."""
        ended = 0
        with ExitStack() as stack:
            sessions = []
            for _ in range(2):
                try:
                    sessions.append(stack.enter_context(_opened(home, home.machine())))
                except LockTaken:
                    continue
            for number, session in enumerate(sessions):
                try:
                    ran(session, f"job-{number}", f"op-{number}")
                    ended += 1
                except StateError:
                    continue
        state = home.read()
        assert state is not None
        assert (ended, sorted(state.jobs)) == (1, ["job-0"])

    # --- whole states --------------------------------------------------------------------------------------------

    def test_a_whole_state_takes_the_place_of_an_older_one(self, home: Home) -> None:
        first = _state(1, "a")
        assert home.store().put(first, TARGET, _LOCK_S)
        assert home.read() == first
        assert not home.store().put(first, TARGET, _LOCK_S), "the same state is recorded already"
        newer = _state(5, "a", "b")
        assert home.store().put(newer, TARGET, _LOCK_S)
        assert home.read() == newer

    @pytest.mark.parametrize("other", ["older", "another lineage"])
    def test_a_whole_state_that_is_not_newer_is_refused(self, home: Home, other: str) -> None:
        there = _state(5, "a")
        assert home.store().put(there, TARGET, _LOCK_S)
        pushed = _state(4, "a") if other == "older" else _state(9)._replace(lineage="another")
        with raising(Refused, StateError, what=f"{other} took the place of a newer state"):
            home.store().put(pushed, TARGET, _LOCK_S)
        assert home.read() == there

    def test_a_sound_state_is_accepted_without_a_remark(self, home: Home) -> None:
        with home.store().open(TARGET, "apply", _LOCK_S) as session:
            ran(session, "a", "op-a")
        state, remarks = home.store().accept(TARGET, _LOCK_S)
        assert remarks == []
        assert state.jobs == {"a": Record("a", Desired.RUNNING)}

    # --- older states --------------------------------------------------------------------------------------------

    def test_a_state_that_was_rolled_back_is_refused_until_it_is_accepted(self, home: Home) -> None:
        machine = home.machine()
        with home.store(machine).open(TARGET, "apply", _LOCK_S) as session:
            ran(session, "a", "op-a")
        put_back: Callable[[], None] = self.keep_copy(home.url)
        with home.store(machine).open(TARGET, "apply", _LOCK_S) as session:
            ran(session, "b", "op-b")
        put_back()
        with raising(StateError, what="a machine that knew a newer state read an older one"):
            home.store(machine).read(TARGET)
        with (
            raising(StateError, what="a machine that knew a newer state opened an older one"),
            home.store(machine).open(TARGET, "apply", _LOCK_S),
        ):
            pass
        accepted, remarks = home.store(machine).accept(TARGET, _LOCK_S)
        assert remarks
        assert sorted(accepted.jobs) == ["a"]
        assert home.store(machine).read(TARGET) == accepted

    def test_an_older_revision_shows_the_state_as_it_was(self, home: Home) -> None:
        with home.store().open(TARGET, "apply", _LOCK_S) as session:
            ran(session, "a", "op-a")
        before, named = home.read(), self.revision(home.url)
        with home.store().open(TARGET, "apply", _LOCK_S) as session:
            ran(session, "b", "op-b")
        if not named:
            with raising(NoRevisions, what="a home without revisions has to raise NoRevisions"):
                home.store().at("1")
            return
        assert home.store().at(named).state == before
        with raising(ReconcilerError, what="a revision was found that nobody made"):
            home.store().at("no-such-revision")


def _hostile_record(job_id: str, text: str) -> Record:
    return Record(
        job_id,
        Desired.RUNNING,
        config={"text": text, "nested": [{"text": text}], text: 1},
        run_tokens=frozenset([text]),
        submitted_at=text,
        resolved=text,
        ref=text,
    )


@contextmanager
def _opened(home: Home, machine: Machine) -> Iterator[Session]:
    """A session that is left without an error even if another one has written the state meanwhile."""
    with suppress(StateError), home.store(machine).open(TARGET, "apply", 0.0) as session:
        yield session


def _state(serial: int, *names: str) -> State:
    return State("a-lineage", serial, TARGET, {name: Record(name, Desired.RUNNING) for name in names})
