"""A call in doubt is settled by two looks, never by one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from in_process import TARGET, carried_out, engine_at, planned, store_in
from project import TOKEN
from reconciler.apply.settle import look, look_again
from reconciler.engines.bytenite.engine import ByteniteEngine
from reconciler.engines.sandbox.faults import parse_fault
from reconciler.engines.sandbox.server import SandboxServer
from reconciler.model.jobs import Desired, Doubt, Evidence, Job, Observation, Record, Status, Verb
from reconciler.model.outcomes import ActionOutcome, Outcome
from reconciler.model.plan import ActionKind
from steps import step_for


def wall_clock() -> str:
    return "2026-11-21T10:00:00Z"


def test_a_run_that_left_no_trace_stays_in_doubt_until_the_second_look(tmp_path: Path) -> None:
    doubt = Doubt("op", Verb.RUN, {}, None, Evidence(Status.DRAFT, "JOB_STATE_NEW"), "then", "HTTP 503")
    waited: list[float] = []

    def pause(seconds: float) -> bool:
        waited.append(seconds)
        return False

    with (
        SandboxServer(tmp_path / "server.db", access_token=TOKEN, create_missing=True) as server,
        store_in(tmp_path).open(TARGET, "apply", 0) as session,
    ):
        engine = engine_at(server.endpoint)
        session.put("a", Record("a", None, doubt=doubt))
        pending = look(session, engine, lambda: 100.0, wall_clock)
        assert [one.op for one in pending] == ["op"]
        assert session.record_of("a") == Record("a", None, doubt=doubt)
        settled = list(look_again(pending, session, engine, 60.0, lambda: 110.0, pause, wall_clock))
        assert (settled, waited, session.record_of("a")) == (["a"], [50.0], None)
        engine.close()


def test_a_second_look_settles_the_call_that_the_first_was_about_whatever_its_job_is_named_by_then(
    tmp_path: Path,
) -> None:
    first = Doubt("first", Verb.RUN, {}, None, Evidence(Status.DRAFT, "JOB_STATE_NEW"), "then", "HTTP 503")
    other = first._replace(op="other")
    with (
        SandboxServer(tmp_path / "server.db", access_token=TOKEN, create_missing=True) as server,
        store_in(tmp_path).open(TARGET, "apply", 0) as session,
    ):
        engine = engine_at(server.endpoint)
        session.put("a", Record("one", None, doubt=first))
        pending = look(session, engine, lambda: 0.0, wall_clock)
        session.move({"a": " a@one"})
        session.put("a", Record("two", None, doubt=other))
        settled = list(look_again(pending, session, engine, 0.0, lambda: 1.0, lambda seconds: False, wall_clock))
        assert (settled, session.record_of(" a@one")) == ([" a@one"], None)
        assert session.record_of("a") == Record("two", None, doubt=other)
        engine.close()


class OldFirstRead(ByteniteEngine):
    """An engine whose next read is old, as a service with a cache may answer: it still has `old`."""

    old: Observation | None = None

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        old, self.old = self.old, None
        return old or super().observe(job_id, run_id)


@contextmanager
def abort_in_doubt(folder: Path, asked: Job, *faults: str) -> Iterator[tuple[ActionOutcome, Record | None]]:
    """Apply `asked` to a job that was aborted, though the answer was lost and the next read is old.

    Yields the outcome and the record.
    """
    record = Record("a", Desired.RUNNING)
    plan, subjects = planned({"a": asked}, {"a": record})
    with (
        SandboxServer(
            folder / "server.db", access_token=TOKEN, create_missing=True, faults=[parse_fault(one) for one in faults]
        ) as server,
        store_in(folder).open(TARGET, "apply", 0) as session,
    ):
        engine = engine_at(server.endpoint, kind=OldFirstRead)
        assert isinstance(engine, OldFirstRead)
        engine.send(step_for(Verb.RUN, "a", {}), lambda: True)
        active = engine.observe("a")
        assert engine.send(step_for(Verb.ABORT, "a", {}), lambda: True).code == "200"
        session.put("a", record._replace(doubt=Doubt("op", Verb.ABORT, {}, None, active.evidence, "then", "HTTP 503")))
        engine.old = active
        [outcome] = carried_out(plan, subjects, engine, session)
        yield outcome, session.record_of("a")
        engine.close()


@pytest.mark.parametrize("asked", [Desired.ABSENT, Desired.ABORTED])
def test_an_abort_in_doubt_is_settled_where_the_service_rejects_another_one(tmp_path: Path, asked: Desired) -> None:
    with abort_in_doubt(tmp_path, Job("a", "a", asked, {})) as (outcome, record):
        done = ActionKind.DELETE if asked is Desired.ABSENT else ActionKind.ABORT
        assert (outcome.outcome, outcome.done) == (Outcome.SUCCEEDED, done)
        assert record is None or record.doubt is None
    [history] = tmp_path.glob("*history*")
    assert "observed: the service says that nothing is left to do" in history.read_text()


@pytest.mark.parametrize("asked", [Desired.ABSENT, Desired.ABORTED])
def test_an_abort_in_doubt_stays_so_where_another_one_is_refused_and_the_way_out_is_named(
    tmp_path: Path, asked: Desired
) -> None:
    with abort_in_doubt(tmp_path, Job("a", "a", asked, {}), "abort:403:skip=1:times=9") as (outcome, record):
        assert outcome.outcome is Outcome.IN_DOUBT
        assert "; sent again, and refused: " in outcome.error
        assert "reconciler resolve a" in outcome.error
        assert record is not None
        assert record.doubt is not None
        assert (record.doubt.op, record.doubt.sent_at) == ("op", "then")
