"""The pretend cluster: it keeps the promises that it is given, and breaks those that it is not given."""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from reconciler.engines.port import AnswerClass, Marks, Reason, Step
from reconciler.engines.sandbox.cluster import ATOMIC, Cluster, ClusterEngine, Lost
from reconciler.model.errors import EngineError
from reconciler.model.jobs import NOT_OBSERVED, Status, Verb

OURS = Marks("ours", "op-1", "config-1", "token-1", "c0ffee")
RUN = Step(Verb.RUN, "a", "a-1", {"size": 1}, marks=OURS)


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def new_cluster() -> Iterator[Callable[..., Cluster]]:
    """Return a function that makes a cluster, which is closed with the test. Its clock stands still by default."""
    with ExitStack() as stack:

        def made(clock: Clock | None = None, *, path: str = ":memory:", run_s: float = math.inf) -> Cluster:
            return stack.enter_context(closing(Cluster(clock or Clock(), path=path, run_s=run_s)))

        yield made


def test_a_run_creates_its_job_and_bears_its_id_and_marks(new_cluster: Callable[..., Cluster]) -> None:
    engine = ClusterEngine(new_cluster())
    result = engine.send(RUN)
    assert (result.kind, result.ref) == (AnswerClass.APPLIED, "uid-1")
    seen = engine.observe("a")
    assert (seen.status, seen.run_id, seen.ref, seen.marks) == (Status.ACTIVE, "a-1", "uid-1", OURS)
    assert engine.observe("a", "a-2").status is Status.MISSING
    assert dict(engine.observe_all()) == {"a": seen}


def test_a_job_has_to_be_there_before_its_first_run_if_runs_create_none(new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster()
    engine = ClusterEngine(cluster, ATOMIC._replace(creates_on_run=False))
    assert engine.send(RUN).reason is Reason.NO_SUCH_JOB
    cluster.create("a")
    assert engine.observe("a").status is Status.DRAFT
    assert engine.send(RUN).kind is AnswerClass.APPLIED


@pytest.mark.parametrize(
    ("marks", "reason"),
    [
        (OURS, Reason.WAS_THERE),
        (OURS._replace(op="op-2"), Reason.WAS_THERE),
        (OURS._replace(config_digest="config-2"), Reason.WAS_THERE),
        (OURS._replace(op="op-2", config_digest="config-2"), Reason.OTHER_OP),
        (OURS._replace(op="op-2", token_digest="token-2"), Reason.OTHER_OP),
        (OURS._replace(lineage="theirs"), Reason.OTHER_OWNER),
    ],
)
def test_a_run_id_runs_once_and_the_answer_says_whose_run_it_is(
    marks: Marks, reason: Reason, new_cluster: Callable[..., Cluster]
) -> None:
    cluster = new_cluster()
    engine = ClusterEngine(cluster)
    engine.send(RUN)
    assert engine.send(RUN._replace(marks=marks)).reason is reason
    assert len(cluster.runs()) == 1


def test_without_the_guard_each_call_is_a_run_that_bears_nothing(new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster()
    engine = ClusterEngine(cluster, ATOMIC._replace(atomic_run=False))
    assert [engine.send(RUN).kind for _ in range(2)] == [AnswerClass.APPLIED] * 2
    assert len(cluster.runs("a")) == 2
    assert (engine.observe("a").run_id, engine.observe("a").marks) == ("", Marks())


@pytest.mark.parametrize(("lost", "started"), [(Lost.NOT_SENT, 0), (Lost.BEFORE, 0), (Lost.AFTER, 1)])
def test_a_fault_loses_the_request_or_the_answer(lost: Lost, started: int, new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster()
    cluster.faults.append(lost)
    engine = ClusterEngine(cluster)
    kind = AnswerClass.NOT_SENT if lost is Lost.NOT_SENT else AnswerClass.IN_DOUBT
    assert engine.send(RUN).kind is kind
    assert len(cluster.runs()) == started
    assert engine.send(RUN).reason is (Reason.WAS_THERE if started else Reason.OTHER)


def test_an_ended_run_is_shown_for_as_long_as_the_engine_promises(new_cluster: Callable[..., Cluster]) -> None:
    clock = Clock()
    cluster = new_cluster(clock, run_s=10.0)
    engine = ClusterEngine(cluster, ATOMIC._replace(keeps_ended_s=300.0))
    engine.send(RUN)
    clock.now_s += 11.0
    assert engine.observe("a").status is Status.COMPLETE
    clock.now_s += 298.0
    assert engine.observe("a").status is Status.COMPLETE
    clock.now_s += 2.0
    assert engine.observe("a").status is Status.MISSING
    assert [run.status for run in cluster.runs()] == [Status.COMPLETE]


def test_an_abort_and_a_delete_hit_what_was_seen_and_nothing_of_another_owner(
    new_cluster: Callable[..., Cluster],
) -> None:
    cluster = new_cluster()
    engine = ClusterEngine(cluster)
    engine.send(RUN)
    abort, delete = Step(Verb.ABORT, "a", "a-1", marks=OURS), Step(Verb.DELETE, "a", "a-1", marks=OURS)
    assert engine.send(abort._replace(marks=Marks("theirs"))).reason is Reason.OTHER_OWNER
    assert engine.send(abort._replace(seen="uid-9")).reason is Reason.NOT_RUNNING
    assert engine.send(delete).reason is Reason.INVALID
    assert engine.send(abort._replace(seen="uid-1")).kind is AnswerClass.APPLIED
    assert engine.observe("a").status is Status.ABORTED
    assert engine.send(abort).reason is Reason.NOT_RUNNING
    assert engine.send(delete).kind is AnswerClass.APPLIED
    assert engine.observe("a").status is Status.MISSING


def test_a_job_that_was_never_run_can_be_deleted(new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster()
    cluster.create("a")
    engine = ClusterEngine(cluster, ATOMIC._replace(creates_on_run=False))
    assert engine.send(Step(Verb.DELETE, "a", marks=OURS)).kind is AnswerClass.APPLIED
    assert engine.observe("a").status is Status.MISSING


def test_a_run_needs_what_was_made_ready_for_it(new_cluster: Callable[..., Cluster]) -> None:
    engine = ClusterEngine(new_cluster(), stages=True)
    assert engine.send(RUN).reason is Reason.INVALID
    assert engine.send(RUN._replace(staged=engine.stage(RUN))).kind is AnswerClass.APPLIED
    assert ClusterEngine(new_cluster()).stage(RUN) == ""


def test_an_engine_without_reads_lists_or_logs_has_none(new_cluster: Callable[..., Cluster]) -> None:
    promises = ATOMIC._replace(reads=False, lists=False, has_logs=False)
    engine = ClusterEngine(new_cluster(), promises)
    assert engine.observe("a") is NOT_OBSERVED
    with pytest.raises(EngineError, match="no list"):
        next(engine.observe_all())
    with pytest.raises(EngineError, match="no logs"):
        next(engine.log("a", "", tail=None, follow=False, stop=threading.Event()))


def test_a_log_is_cut_to_its_last_lines(new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster()
    engine = ClusterEngine(cluster)
    engine.send(RUN)
    cluster.end("a", Status.FAILED)

    def logged(tail: int | None) -> list[bytes]:
        return list(engine.log("a", "a-1", tail=tail, follow=False, stop=threading.Event()))

    assert (logged(None), logged(1), logged(0)) == ([b"run 1 began\n", b"failed\n"], [b"failed\n"], [])


def test_the_runs_of_a_cluster_in_a_file_are_those_of_all_who_use_it(
    tmp_path: Path, new_cluster: Callable[..., Cluster]
) -> None:
    path, clock = str(tmp_path / "cluster.db"), Clock()
    engines = [ClusterEngine(new_cluster(clock, path=path)) for _ in range(4)]
    answers = []
    threads = [
        threading.Thread(target=lambda engine=engine: answers.append(engine.send(RUN).reason)) for engine in engines
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == sorted([Reason.OTHER, *[Reason.WAS_THERE] * 3])
    assert len(new_cluster(clock, path=path).runs()) == 1
