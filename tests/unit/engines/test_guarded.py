"""The guard before the engine of another package: what it checks, what it lets through, and what it blames."""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

import adverse_plugin
from reconciler.engines.answers import LONGEST_TEXT, REPORTED
from reconciler.engines.guarded import GuardedEngine, GuardedPlugin
from reconciler.engines.port import (
    AnswerClass,
    EngineError,
    ListIncomplete,
    Marks,
    Observation,
    Promises,
    Result,
    Status,
    Verb,
)
from reconciler.engines.sandbox.cluster import ATOMIC, Cluster, ClusterEngine
from reconciler.host.packages import Package
from reconciler.host.secrecy import Secrets
from reconciler.model.errors import EngineFailed
from reconciler.rules.runs import MAX_RUN, number_of, run_id
from steps import step_for

PACKAGE = Package("the engine odd", "odd-engine 1.0", Secrets())
RUN = step_for(Verb.RUN, "a", {})


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with closing(Cluster(time.time)) as made:
        yield made


def guarded(engine: Any) -> GuardedEngine:
    return GuardedEngine(engine, PACKAGE)


class Sends(ClusterEngine):
    """An engine whose `send` is given."""

    def __init__(self, cluster: Cluster, does: Callable[[Any], Any]) -> None:
        super().__init__(cluster)
        self._does = does

    def send(self, step: Any, may_be_sent: Any = None) -> Any:
        return self._does(may_be_sent)


class Reads(ClusterEngine):
    """An engine that returns one observation for each job, and lists what it is given."""

    def __init__(self, cluster: Cluster, seen: Any, listed: Any = ()) -> None:
        super().__init__(cluster)
        self._seen = seen
        self._listed = listed

    def observe(self, job_id: str, run_id: str = "") -> Any:
        return self._seen

    def observe_many(self, job_ids: Any) -> Any:
        return self._seen

    def observe_all(self) -> Any:
        return self._listed() if callable(self._listed) else self._listed


def test_sound_values_pass_unchanged(cluster: Cluster) -> None:
    cluster.start("a", "a-1", Marks("lineage", "op"), {"b": [1, {"y": None, "x": 2.5}]})
    plain = ClusterEngine(cluster, identity={"cluster": "one"})
    engine = guarded(plain)
    assert engine.promises == ATOMIC
    assert engine.identity() == {"cluster": "one"}
    assert engine.observe("a") == plain.observe("a")
    assert engine.observe_many(["a", "b"]) == plain.observe_many(["a", "b"])
    assert list(engine.observe_all()) == list(plain.observe_all())
    assert engine.stage(RUN) == ""
    assert engine.send(step_for(Verb.ABORT, "a", {})).kind is AnswerClass.APPLIED
    whole = engine.log("a", "a-1", tail=None, follow=False, stop=threading.Event())
    assert b"".join(whole).startswith(b"run 1 began")


@pytest.mark.parametrize("status", list(Status))
def test_an_engine_reports_the_statuses_of_the_port_alone(cluster: Cluster, status: Status) -> None:
    seen = guarded(Reads(cluster, Observation(status))).observe("a")
    assert seen.status is (status if status in REPORTED else Status.UNREADABLE)


def test_what_observe_many_has_beyond_the_wanted_jobs_is_left_out(cluster: Cluster) -> None:
    sound = Observation(Status.COMPLETE)
    found = guarded(Reads(cluster, {"a": sound, 5: "x", "other": sound})).observe_many(["a", "b"])
    assert found["a"] == sound
    assert (sorted(found), found["b"].status) == (["a", "b"], Status.UNREADABLE)
    assert "(package odd-engine 1.0) failed: observe_many left the job out" in found["b"].detail
    with pytest.raises(EngineFailed, match="observe_many returned a list where a mapping is to be"):
        guarded(Reads(cluster, [sound])).observe_many(["a"])


def test_a_list_that_ends_with_an_error_ends_with_it(cluster: Cluster) -> None:
    def listed() -> Iterator[Any]:
        yield "a", Observation(Status.COMPLETE)
        yield "b", Observation(Status.COMPLETE, ref=5)  # type: ignore[arg-type]
        raise ListIncomplete("the list may have more")

    found: list[tuple[str, Observation]] = []
    with pytest.raises(ListIncomplete, match="the list may have more"):
        found.extend(guarded(Reads(cluster, None, listed)).observe_all())
    assert [(job, one.status) for job, one in found] == [("a", Status.COMPLETE), ("b", Status.UNREADABLE)]
    for odd in (5, [("a",)], [None]):
        with pytest.raises(EngineFailed, match="in observe_all"):
            list(guarded(Reads(cluster, None, odd)).observe_all())


class Stop(Exception):
    pass


def stops() -> bool:
    raise Stop


@pytest.mark.parametrize("swallows", [False, True])
def test_what_may_be_sent_raises_comes_through(cluster: Cluster, swallows: bool) -> None:
    def does(may_be_sent: Callable[[], bool]) -> Result:
        try:
            may_be_sent()
        except Stop:
            if not swallows:
                raise
        return Result(AnswerClass.APPLIED)

    with pytest.raises(Stop):
        guarded(Sends(cluster, does)).send(RUN, stops)


def test_an_interrupt_of_the_user_comes_through(cluster: Cluster) -> None:
    class Interrupted(ClusterEngine):
        def observe(self, job_id: str, run_id: str = "") -> Observation:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guarded(Interrupted(cluster)).observe("a")


@pytest.mark.parametrize("raised", [KeyboardInterrupt, GeneratorExit, SystemExit])
def test_whatever_a_send_raises_leaves_the_call_in_doubt(cluster: Cluster, raised: type[BaseException]) -> None:
    def does(may_be_sent: Callable[[], bool]) -> Result:
        raise raised

    result = guarded(Sends(cluster, does)).send(RUN)
    assert result.kind is AnswerClass.IN_DOUBT
    assert result.message == (
        f"the engine odd (package odd-engine 1.0) failed: {raised.__name__} in send; report it to that package"
    )


def test_a_generator_exit_is_the_fault_of_the_package_that_raises_it(cluster: Cluster) -> None:
    class Leaving(ClusterEngine):
        def observe(self, job_id: str, run_id: str = "") -> Observation:
            raise GeneratorExit

        def log(self, *_: Any, **__: Any) -> Iterator[bytes]:
            yield b"one"
            yield b"two"

    with pytest.raises(EngineFailed, match=r"the engine odd .* failed: GeneratorExit in observe"):
        guarded(Leaving(cluster)).observe("a")
    pieces = guarded(Leaving(cluster)).log("a", "a-1", tail=None, follow=False, stop=threading.Event())
    assert next(iter(pieces)) == b"one"
    # Whoever stops reading ends the generator, and that is no fault.
    cast(Generator[bytes, None, None], pieces).close()


def test_a_call_that_failed_may_be_asked_again_and_holds_back_others_until_it_is_answered(cluster: Cluster) -> None:
    answers: list[Any] = [None, None, Result(AnswerClass.APPLIED), Result(AnswerClass.APPLIED)]
    engine = guarded(Sends(cluster, lambda may_be_sent: answers.pop(0)))
    other = step_for(Verb.RUN, "b", {})
    assert engine.send(RUN).kind is AnswerClass.IN_DOUBT
    held = engine.send(other)
    assert (held.kind, "send returned None where a result is to be" in held.message) == (AnswerClass.NOT_SENT, True)
    assert engine.send(RUN).kind is AnswerClass.IN_DOUBT
    assert engine.send(RUN).kind is AnswerClass.APPLIED
    assert engine.send(other).kind is AnswerClass.APPLIED


def test_a_long_message_is_cut_and_a_long_handle_is_no_result(cluster: Cluster) -> None:
    said = Result(AnswerClass.APPLIED, message="x" * (LONGEST_TEXT + 1))
    cut = guarded(Sends(cluster, lambda may_be_sent: said)).send(RUN)
    assert (cut.kind, len(cut.message)) == (AnswerClass.APPLIED, LONGEST_TEXT + 1)
    long = Result(AnswerClass.APPLIED, ref="x" * 100_000)
    assert guarded(Sends(cluster, lambda may_be_sent: long)).send(RUN).kind is AnswerClass.IN_DOUBT


@pytest.mark.parametrize("kept_s", [float("nan"), -1.0, True, "300"])
def test_promises_hold_a_time(cluster: Cluster, kept_s: Any) -> None:
    with pytest.raises(EngineFailed, match="keeps_ended_s"):
        guarded(ClusterEngine(cluster, ATOMIC._replace(keeps_ended_s=kept_s)))
    odd = Promises(1, False, reads=True, lists=True, keeps_ended_s=1.0, has_logs=False)  # type: ignore[arg-type]
    with pytest.raises(EngineFailed, match="promises whose creates_on_run is 1"):
        guarded(ClusterEngine(cluster, odd))


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def test_an_exception_without_a_text_is_told_by_its_kind(cluster: Cluster) -> None:
    def does(may_be_sent: Callable[[], bool]) -> Result:
        raise Unprintable

    message = guarded(Sends(cluster, does)).send(RUN).message
    assert message == "the engine odd (package odd-engine 1.0) failed: Unprintable in send; report it to that package"


@pytest.mark.parametrize(
    "method", ["is_on_this_machine", "promises", "warnings", "wording", "addressed", "secrets", "job_fault"]
)
@pytest.mark.parametrize("behaviour", ["SystemExit", "number"])
def test_each_method_of_a_plugin_is_guarded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, method: str, behaviour: str
) -> None:
    plugin = GuardedPlugin(adverse_plugin.PLUGIN, "adverse", "adverse-plugin 2.1")
    target = plugin.target({"engine": "adverse", "path": str(tmp_path / "cluster.db")}, ".")
    arguments: dict[str, tuple[Any, ...]] = {
        "wording": (target, RUN),
        "addressed": (target, plugin.wording(target, RUN)[0]),
        "warnings": (target, ()),
        "secrets": ({},),
        "job_fault": (None,),
    }
    monkeypatch.setenv("ADVERSE", f"{method}={behaviour}")
    with pytest.raises(EngineFailed, match=rf"\(package adverse-plugin 2.1\) failed: .*{method}") as caught:
        getattr(plugin, method)(*arguments.get(method, (target,)))
    assert isinstance(caught.value, EngineError)
    assert caught.value.__cause__ is not None


def test_a_plugin_under_the_name_of_another_entry_point_is_refused() -> None:
    with pytest.raises(EngineFailed, match="name returned 'adverse' where the name of its entry point is to be, other"):
        GuardedPlugin(adverse_plugin.PLUGIN, "other", "")


def test_a_number_of_a_run_is_sane(cluster: Cluster) -> None:
    assert number_of(run_id("a", MAX_RUN), "a") == MAX_RUN
    assert number_of(run_id("a", MAX_RUN + 1), "a") == 0
    assert number_of("a-" + "9" * 5000, "a") == 0
    for number, status in ((MAX_RUN, Status.COMPLETE), (MAX_RUN + 1, Status.UNREADABLE)):
        seen = Observation(Status.COMPLETE, run_id=f"a-{number}")
        assert guarded(Reads(cluster, seen)).observe("a").status is status
