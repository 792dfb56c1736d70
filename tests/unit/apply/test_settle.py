"""A call in doubt is settled by two looks, never by one."""

from pathlib import Path

from in_process import TARGET, engine_at, store_in
from project import TOKEN
from reconciler.apply.settle import look, look_again
from reconciler.engines.sandbox.server import SandboxServer
from reconciler.model.jobs import Doubt, Evidence, Record, Status, Verb


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
        pending = look(session, engine, lambda: 100.0)
        assert [one.op for one in pending] == ["op"]
        assert session.record_of("a") == Record("a", None, doubt=doubt)
        settled = list(look_again(pending, session, engine, 60.0, lambda: 110.0, pause))
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
        pending = look(session, engine, lambda: 0.0)
        session.move({"a": " a@one"})
        session.put("a", Record("two", None, doubt=other))
        settled = list(look_again(pending, session, engine, 0.0, lambda: 1.0, lambda seconds: False))
        assert (settled, session.record_of(" a@one")) == ([" a@one"], None)
        assert session.record_of("a") == Record("two", None, doubt=other)
        engine.close()
