"""The part of the contract of a home of state that needs several programs: kills, pauses, races and cut connections."""

import random
import time
from collections.abc import Sequence
from contextlib import ExitStack

import pytest

from reconciler.model.jobs import Desired
from reconciler.state.lease import TAKE_OVER_AFTER_S
from reconciler.testing.amount import Amount
from reconciler.testing.homes import Home, HomeUnderTest
from reconciler.testing.machines import SPEED
from reconciler.testing.programs import Program
from reconciler.testing.proxy import Fault, FaultProxy
from reconciler.testing.worker import Errand, Point

_GAVE_UP = frozenset({"overtaken", "broken", "refused"})
"""How a program may end that another one has overtaken."""

_HOUR_S = 3600.0


class ProgramContract(HomeUnderTest):
    """Programs that share a home, and are killed, stopped, raced and cut off. No job runs twice, and none is lost."""

    @pytest.mark.parametrize("point", [point for point in Point if point is not Point.BEGUN])
    def test_a_program_that_is_killed_leaves_all_it_did_on_record(self, home: Home, point: Point) -> None:
        with home.started(home.errand(pause_at=point, turn=1, jobs=6, at_once=2)) as program:
            at = program.await_point(point)
            assert at.get("at") == point, at
            program.kill()
        state = home.read()
        recorded = {} if state is None else state.jobs
        for name in {at["job"], *home.called()} - {""}:
            assert name in recorded, f"{name} was intended, and a reader on another machine finds no record of it"
        if point is Point.INTENDED:
            doubt = recorded[at["job"]].doubt
            assert doubt is not None, "an intent that was acknowledged is in doubt until its result is recorded"
        if point is Point.CLOSED:
            assert all(record.state is Desired.RUNNING and record.doubt is None for record in recorded.values())
        home.finish(jobs=6)
        assert home.faults() == []
        assert sorted(home.called()) == [f"job-{number}" for number in range(6)]

    def test_kills_at_any_moment_lose_nothing_and_repeat_nothing(self, home: Home, amount: Amount) -> None:
        """Every second program is killed once it has made a call, and the others once they have opened the state."""
        moments = random.Random(1)  # noqa: S311  a test has to be repeatable
        for number in range(amount.kills):
            jobs = amount.calls * (number + 1) // amount.kills
            machine = home.machine(leaps=True)
            with home.started(home.errand(machine, jobs=jobs, at_once=8, call_s=0.02)) as program:
                program.await_point(Point.OPENED)
                if number % 2:
                    _await_more_calls(home)
                time.sleep(moments.uniform(0.0, 0.3))
                program.kill()
        home.finish(jobs=amount.calls)
        assert home.faults() == []
        assert len(home.called()) == amount.calls

    @pytest.mark.parametrize("point", [Point.OPENED, Point.INTENDED, Point.CALLED, Point.CLOSING])
    def test_a_program_that_is_stopped_and_continues_late_does_no_harm(
        self, home: Home, amount: Amount, point: Point
    ) -> None:
        for number in range(1, amount.stops + 1):
            jobs = 4 * number
            with home.started(home.errand(pause_at=point, turn=1, jobs=jobs, at_once=2)) as first:
                at = first.await_point(point)
                assert at.get("at") == point, at
                first.stop()
                # A lease that nobody renews is waited for in any case, and a lock of this machine in vain.
                with home.started(home.errand(jobs=jobs, lock_s=0.5)) as second:
                    other = second.await_end()
                first.resume()
                first.go_on()
                end = first.await_end()
            if other["end"] == "closed":
                assert end["end"] in _GAVE_UP or end["calls"] == 0 or point is Point.CLOSING, (other, end)
            else:
                assert (other["end"], end["end"]) == ("locked", "closed"), (other, end)
            home.finish(jobs)
            assert home.faults() == []
            assert len(home.called()) == jobs

    def test_of_programs_that_start_at_once_one_makes_each_call(self, home: Home, amount: Amount) -> None:
        for number in range(1, amount.races + 1):
            jobs = 10 * number
            with ExitStack() as stack:
                errands = [home.errand(pause_at=Point.BEGUN, jobs=jobs) for _ in range(6)]
                programs = _at_once(home, errands, stack)
                ends = [program.await_end()["end"] for program in programs]
            assert "refused" not in ends, ends
            home.finish(jobs)
            assert home.faults() == []
            assert len(home.called()) == jobs

    def test_machines_whose_clocks_are_an_hour_apart_share_the_home(self, home: Home, amount: Amount) -> None:
        """The one that is behind waits for the one that is ahead, and the other way round."""
        for number in range(1, amount.races + 1):
            jobs = 12 * number
            with ExitStack() as stack:
                ahead = (_HOUR_S, -_HOUR_S, 0.0)
                machines = [home.machine(ahead_s=one) for one in ahead]
                errands = [home.errand(one, pause_at=Point.BEGUN, jobs=jobs, call_s=0.05) for one in machines]
                programs = _at_once(home, errands, stack)
                ends = [program.await_end()["end"] for program in programs]
            assert "refused" not in ends, ends
            home.finish(jobs)
            assert home.faults() == []
            assert len(home.called()) == jobs

    def test_a_program_on_a_machine_that_is_ahead_is_not_overtaken_while_it_works(self, home: Home) -> None:
        """A machine that is an hour behind does not take the lease of one that renews it, and waits for its end."""
        with home.started(home.errand(home.machine(ahead_s=_HOUR_S), pause_at=Point.CALLED, jobs=2, at_once=1)) as one:
            one.await_point(Point.CALLED)
            with home.started(home.errand(home.machine(ahead_s=-_HOUR_S), jobs=2, lock_s=0.5)) as other:
                other.await_point(Point.BEGUN)
                began_s = time.monotonic()
                end = other.await_end()["end"]
            one.go_on()
            # On a busy machine, the renewal itself may be late.
            is_late = time.monotonic() - began_s > TAKE_OVER_AFTER_S / SPEED
            assert (end, one.await_end()["end"]) == ("locked", "closed") or is_late
        home.finish(jobs=2)
        assert home.faults() == []

    @pytest.mark.parametrize("fault", list(Fault))
    def test_connections_that_break_lose_nothing_and_repeat_nothing(
        self, home: Home, server: tuple[str, int] | None, amount: Amount, fault: Fault
    ) -> None:
        if server is None:
            pytest.skip("this home is not reached over TCP")
        for number in range(amount.cuts):
            jobs = amount.calls * (number + 1) // amount.cuts
            with FaultProxy(*server, fault=fault, chance=0.15, seed=number) as proxy:
                url = self.url_through(home.url, "127.0.0.1", proxy.port)
                with home.started(home.errand(url=url, jobs=jobs, call_s=0.02)) as program:
                    if fault is Fault.HALF_OPEN:
                        # A deadline of the home may be a minute. The program is not waited for that long.
                        time.sleep(3)
                        program.kill()
                    else:
                        program.await_end()
        home.finish(amount.calls)
        assert home.faults() == []
        assert len(home.called()) == amount.calls

    def test_many_calls_at_once_are_all_on_record(self, home: Home, amount: Amount) -> None:
        errand: Errand = home.errand(jobs=amount.jobs, at_once=64)
        with home.started(errand) as program:
            program.await_end()
        home.finish(amount.jobs)
        state = home.read()
        assert state is not None
        assert len(state.jobs) == amount.jobs
        assert home.faults() == []
        assert len(home.called()) == amount.jobs


def _await_more_calls(home: Home, within_s: float = 10.0) -> None:
    """Wait for the next call of any program. A home may take long to acknowledge a first intent."""
    before, until_s = len(home.called()), time.monotonic() + within_s
    while len(home.called()) == before and time.monotonic() < until_s:
        time.sleep(0.01)


def _at_once(home: Home, errands: Sequence[Errand], stack: ExitStack) -> list[Program]:
    """Start programs that open the state in the same moment. Their errands pause at `Point.BEGUN`."""
    programs = [stack.enter_context(home.started(errand)) for errand in errands]
    for program in programs:
        program.await_point(Point.BEGUN)
    for program in programs:
        program.go_on()
    return programs
