"""Run ids on an engine with an atomic guard: what becomes of a run whose answer was lost, and of its number."""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from in_process import TARGET, context_of, store_in
from reconciler.apply.execute import carry_out
from reconciler.apply.settle import look
from reconciler.engines.port import AnswerClass, Engine, EngineError, Marks, Promises, Reason, Result, Step, always
from reconciler.engines.sandbox.cluster import ATOMIC, Cluster, ClusterEngine, Lost
from reconciler.model.jobs import Desired, Doubt, Job, Observation, Record, State, Status, Verb
from reconciler.model.outcomes import ActionOutcome, Outcome
from reconciler.model.plan import ActionKind, Request
from reconciler.rules.actions import make_plan
from reconciler.rules.drift import compare
from reconciler.rules.matching import Subject, Terms, match_records
from reconciler.rules.runs import digests
from reconciler.rules.table import Kind
from reconciler.state.session import Session

CONFIG = {"size": 1}
JOB = Job("a", "a", Desired.RUNNING, CONFIG)
NEEDS_JOB = ATOMIC._replace(creates_on_run=False)
LINEAGE = "lineage"


class Ended(NamedTuple):
    """The outcome of an apply of one job, the record that is left, and the run count of the job."""

    outcome: ActionOutcome
    record: Record | None
    last: int


class Clock:
    """A wall clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with closing(Cluster(Clock())) as made:
        made.create("a")
        yield made


def wording(step: Step) -> tuple[Request, ...]:
    return (Request(step.verb, f"{step.verb} {step.run_id or step.job_id}", None),)


def applied(
    folder: Path,
    engine: Engine,
    job: Job = JOB,
    *,
    guarded: bool = False,
    before: Callable[[Session], None] = lambda session: None,
) -> Ended:
    """Plan and apply one job as it is now. With `guarded` a run in doubt may be sent again."""
    with store_in(folder).open(TARGET, "apply", 0) as session:
        before(session)
        state = session.state
        terms = Terms(lineage=state.lineage, last=state.last)
        matching = match_records({job.name: job}, state.jobs, lambda a, b: a == b, terms)
        matching = matching._replace(subjects=tuple(s._replace(may_ask_again=guarded) for s in matching.subjects))
        observed = engine.observe_many([job.id])
        plan = make_plan(
            matching, observed, wording, lambda name: True, state=state, manifest_digest="", commit=None, paths=[]
        )
        context = context_of(engine, session)._replace(wording=wording, commit="c0ffee")
        ends = carry_out(plan, matching.by_name, context, parallelism=1, fail_fast=False)
        [outcome] = [event.outcome for ended in ends for event in ended]
        return Ended(outcome, session.record_of(job.name), session.last_of(job.id))


def recorded(record: Record) -> Callable[[Session], None]:
    return lambda session: session.put("a", record)


def run_ids(cluster: Cluster) -> list[str]:
    return [run.run_id for run in cluster.runs()]


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "jobs.history.jsonl").read_text().splitlines()]


def doubt_of(run: int, config: Mapping[str, float] = CONFIG, *, op: str = "op-1", at: str = "") -> Doubt:
    return Doubt(op, Verb.RUN, config, None, None, at or "2026-11-21T10:00:00Z", "no answer", run=run)


# --- what a call bears ---------------------------------------------------------------------------------------------


def test_a_run_bears_its_number_its_marks_and_the_handle_that_was_made_ready(cluster: Cluster, tmp_path: Path) -> None:
    ended = applied(tmp_path, ClusterEngine(cluster, NEEDS_JOB, stages=True))
    assert ended.outcome.outcome is Outcome.SUCCEEDED
    [run] = cluster.runs()
    assert run.run_id == "a-1"
    assert run.marks._replace(op="") == digests(CONFIG, None)._replace(lineage=LINEAGE, commit="c0ffee")
    assert run.marks.op
    assert ended.record is not None
    assert (ended.record.run, ended.record.ref, ended.last) == (1, "uid-1", 1)


class Watched(ClusterEngine):
    """An engine that keeps what is on record when a call is made ready, and when it is sent."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        super().__init__(cluster, NEEDS_JOB, stages=True)
        self.folder = folder
        self.doubts: list[Doubt | None] = []

    def _look(self) -> None:
        state = store_in(self.folder).read(TARGET)
        record = state.jobs.get("a") if state else None
        self.doubts.append(record.doubt if record else None)

    def stage(self, step: Step) -> str:
        self._look()
        return super().stage(step)

    def send(self, step: Step, may_be_sent: Callable[[], bool] = lambda: True):  # type: ignore[no-untyped-def]
        self._look()
        return super().send(step, may_be_sent)


def test_the_harmless_work_comes_before_the_intent_and_the_intent_names_its_handle(
    cluster: Cluster, tmp_path: Path
) -> None:
    engine = Watched(cluster, tmp_path)
    applied(tmp_path, engine)
    while_made_ready, while_sent = engine.doubts
    assert while_made_ready is None
    assert while_sent is not None
    assert (while_sent.staged, while_sent.run, while_sent.commit) == ("staged-1", 1, "c0ffee")


# --- numbers -------------------------------------------------------------------------------------------------------


def test_each_run_has_a_number_of_its_own_and_an_abort_bears_that_of_its_run(cluster: Cluster, tmp_path: Path) -> None:
    engine = ClusterEngine(cluster, NEEDS_JOB)
    applied(tmp_path, engine)
    restarted = applied(tmp_path, engine, JOB._replace(config={"size": 2}))
    assert (restarted.outcome.done, restarted.last, run_ids(cluster)) == (ActionKind.RESTART, 2, ["a-1", "a-2"])
    calls = [call.text for call in restarted.outcome.action.calls]
    assert calls == ["abort a-1", "run a-2"]


def test_a_rejected_run_uses_no_number(cluster: Cluster, tmp_path: Path) -> None:
    rejecting = ClusterEngine(cluster, NEEDS_JOB, stages=True)
    rejecting.stage = lambda step: ""  # type: ignore[method-assign]  # nothing is ready, so the cluster refuses the run
    ended = applied(tmp_path, rejecting)
    assert (ended.outcome.outcome, ended.record, ended.last) == (Outcome.FAILED, None, 0)
    assert applied(tmp_path, ClusterEngine(cluster, NEEDS_JOB)).last == 1
    assert run_ids(cluster) == ["a-1"]


def test_a_run_that_was_not_sent_uses_no_number(cluster: Cluster, tmp_path: Path) -> None:
    engine = ClusterEngine(cluster, NEEDS_JOB)
    cluster.faults.append(Lost.NOT_SENT)
    assert applied(tmp_path, engine).last == 0
    assert (applied(tmp_path, engine).last, run_ids(cluster)) == (1, ["a-1"])


def test_the_count_stays_when_the_job_is_deleted_or_its_record_is_dropped(cluster: Cluster, tmp_path: Path) -> None:
    engine = ClusterEngine(cluster, NEEDS_JOB)
    applied(tmp_path, engine)
    cluster.end("a")
    gone = applied(tmp_path, engine, JOB._replace(state=Desired.ABSENT))
    assert gone.record == Record("a", Desired.ABSENT, run=1, ran_configs=frozenset({'{"size":1}'}))
    cluster.create("a")
    assert applied(tmp_path, engine).last == 2
    cluster.forget("a")
    cluster.create("a")
    third = applied(tmp_path, engine, before=lambda session: session.put("a", None))
    assert (third.last, run_ids(cluster)) == (3, ["a-1", "a-2", "a-3"])


def test_a_restart_that_ended_after_its_abort_runs_the_next_number_once(cluster: Cluster, tmp_path: Path) -> None:
    engine = ClusterEngine(cluster, NEEDS_JOB)
    applied(tmp_path, engine)
    changed = JOB._replace(config={"size": 2})
    cluster.end("a", Status.ABORTED)
    aborted = Record("a", Desired.ABORTED, CONFIG, run=1)
    ended = applied(tmp_path, engine, changed, before=recorded(aborted))
    assert (ended.outcome.done, ended.last, run_ids(cluster)) == (ActionKind.RUN, 2, ["a-1", "a-2"])
    assert applied(tmp_path, engine, changed).outcome.done is ActionKind.NOOP


def test_a_number_that_a_deleted_run_had_is_not_used_again(cluster: Cluster, tmp_path: Path) -> None:
    """A person said that the second run was not applied. It had only arrived late, and the job is deleted with it."""
    engine = ClusterEngine(cluster, NEEDS_JOB)
    cluster.start("a", "a-2", digests(CONFIG, None)._replace(lineage=LINEAGE, op="late"), CONFIG)
    known = Record("a", Desired.RUNNING, CONFIG, run=1)
    gone = applied(tmp_path, engine, JOB._replace(state=Desired.ABSENT), before=recorded(known))
    assert (gone.outcome.outcome, gone.last) == (Outcome.SUCCEEDED, 2)
    cluster.create("a")
    assert (applied(tmp_path, engine).last, run_ids(cluster)) == (3, ["a-2", "a-3"])


def test_a_run_that_is_adopted_after_its_end_brings_its_end(cluster: Cluster, tmp_path: Path) -> None:
    cluster.start("a", "a-1", digests(CONFIG, None)._replace(lineage=LINEAGE, op="earlier"), CONFIG)
    cluster.end("a", Status.FAILED)
    ended = applied(tmp_path, ClusterEngine(cluster, NEEDS_JOB))
    assert ended.record is not None
    assert (ended.outcome.done, ended.record.end) == (ActionKind.ADOPT, Status.FAILED)


def test_an_adopted_run_brings_its_number_and_its_handle(cluster: Cluster, tmp_path: Path) -> None:
    marks = digests(CONFIG, None)._replace(lineage=LINEAGE, op="earlier")
    cluster.start("a", "a-7", marks, CONFIG)
    ended = applied(tmp_path, ClusterEngine(cluster, NEEDS_JOB))
    assert ended.outcome.done is ActionKind.ADOPT
    assert ended.record is not None
    assert (ended.record.run, ended.record.ref, ended.last) == (7, "uid-1", 7)
    cluster.end("a")
    again = applied(tmp_path, ClusterEngine(cluster, NEEDS_JOB), JOB._replace(run_token="t"))
    assert (again.last, run_ids(cluster)) == (8, ["a-7", "a-8"])


def test_an_adopted_run_with_a_name_of_its_own_keeps_it_as_its_handle_alone(cluster: Cluster, tmp_path: Path) -> None:
    cluster.start("a", "somebody-s-run", Marks(), CONFIG)
    ended = applied(tmp_path, ClusterEngine(cluster, NEEDS_JOB))
    assert ended.record is not None
    assert (ended.outcome.done, ended.record.run, ended.record.ref, ended.last) == (ActionKind.ADOPT, 0, "uid-1", 0)


# --- a lost answer, in the same apply --------------------------------------------------------------------------------


@pytest.mark.parametrize("faults", [[Lost.AFTER], [Lost.BEFORE], [Lost.BEFORE, Lost.AFTER], [Lost.BEFORE] * 2])
@pytest.mark.parametrize("reads", [True, False])
def test_a_run_whose_answer_was_lost_is_asked_for_again_and_runs_once(
    faults: list[Lost], reads: bool, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.faults.extend(faults)
    ended = applied(tmp_path, ClusterEngine(cluster, NEEDS_JOB._replace(reads=reads)))
    assert ended.outcome.outcome is Outcome.SUCCEEDED
    assert run_ids(cluster) == ["a-1"]
    assert ended.record is not None
    assert (ended.record.doubt, ended.record.ref, ended.last) == (None, "uid-1", 1)


def test_without_the_guard_a_lost_run_is_never_sent_twice_in_one_apply(cluster: Cluster, tmp_path: Path) -> None:
    cluster.faults.append(Lost.BEFORE)
    ended = applied(tmp_path, ClusterEngine(cluster, NEEDS_JOB._replace(atomic_run=False, reads=False)))
    assert (ended.outcome.outcome, run_ids(cluster), ended.last) == (Outcome.IN_DOUBT, [], 0)


def test_a_run_that_the_engine_may_have_dropped_already_stays_in_doubt(cluster: Cluster, tmp_path: Path) -> None:
    cluster.faults.append(Lost.BEFORE)
    ended = applied(tmp_path, ClusterEngine(cluster, NEEDS_JOB._replace(keeps_ended_s=0.0)))
    assert (ended.outcome.outcome, run_ids(cluster), ended.last) == (Outcome.IN_DOUBT, [], 0)


class Refusing(ClusterEngine):
    """An engine that loses its first answer, can't be read after that, and refuses all further calls."""

    def __init__(self, cluster: Cluster, reason: Reason, promises: Promises = NEEDS_JOB) -> None:
        super().__init__(cluster, promises)
        self.reason = reason
        self.sent = 0

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        if self.sent:
            raise EngineError("the connection was reset")
        return super().observe(job_id, run_id)

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        self.sent += 1
        if self.sent > 1:
            return Result(AnswerClass.REJECTED, self.reason, "not now", "403")
        self._cluster.faults.append(Lost.AFTER)
        return super().send(step, may_be_sent)


REFUSALS = sorted(set(Reason) - {Reason.WAS_THERE, Reason.OTHER_OP, Reason.OTHER_OWNER})


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("reason", REFUSALS)
def test_a_refusal_of_the_second_call_tells_nothing_of_the_first_one(
    reason: Reason, reads: bool, cluster: Cluster, tmp_path: Path
) -> None:
    ended = applied(tmp_path, Refusing(cluster, reason, NEEDS_JOB._replace(reads=reads)))
    assert (ended.outcome.outcome, ended.last, run_ids(cluster)) == (Outcome.IN_DOUBT, 0, ["a-1"])
    assert ended.record is not None
    assert ended.record.doubt is not None
    if reason is not Reason.BUSY:
        assert ended.record.doubt.answer == "the answer was lost; sent again, and refused: not now"
    answering = ClusterEngine(cluster, NEEDS_JOB._replace(reads=reads))
    if reads:
        pending, record, last = looked(tmp_path, answering, ended.record)
        assert (pending, record and record.doubt, last) == (None, None, 1)
    else:
        again = applied(tmp_path, answering, guarded=True)
        assert (again.outcome.outcome, again.last) == (Outcome.SUCCEEDED, 1)
    assert run_ids(cluster) == ["a-1"]


def test_a_repeated_call_that_is_not_let_in_halts_the_apply_as_a_first_one_does(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.create("b")
    jobs = {name: Job(name, name, Desired.RUNNING, CONFIG) for name in ("a", "b")}
    engine = Refusing(cluster, Reason.NOT_AUTHENTICATED, NEEDS_JOB._replace(reads=False))
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        matching = match_records(jobs, {}, lambda a, b: a == b)
        plan = make_plan(
            matching, {}, wording, lambda name: True, state=session.state, manifest_digest="", commit=None, paths=[]
        )
        context = context_of(engine, session)._replace(wording=wording)
        ends = carry_out(plan, matching.by_name, context, parallelism=1, fail_fast=False)
        outcomes = {event.outcome.action.job: event.outcome.outcome for ended in ends for event in ended}
    assert outcomes == {"a": Outcome.IN_DOUBT, "b": Outcome.SKIPPED}
    assert run_ids(cluster) == ["a-1"]


def test_an_answer_that_was_lost_is_not_taken_from_an_object_without_an_op(cluster: Cluster, tmp_path: Path) -> None:
    """The read after the lost answer shows a run of the asked id and config, which may be anybody's."""

    class Stripped(ClusterEngine):
        def observe(self, job_id: str, run_id: str = "") -> Observation:
            found = super().observe(job_id, run_id)
            return found._replace(marks=found.marks._replace(op=""))

    cluster.faults.extend([Lost.AFTER, Lost.AFTER, Lost.AFTER])
    ended = applied(tmp_path, Stripped(cluster, NEEDS_JOB))
    assert ended.outcome.outcome is Outcome.IN_DOUBT
    assert run_ids(cluster) == ["a-1"]


class Broken(ClusterEngine):
    """A built-in engine with a fault of its own: it carries out a call, and then breaks the port."""

    def __init__(self, cluster: Cluster, answer: Callable[[], object], promises: Promises) -> None:
        super().__init__(cluster, promises)
        self.answer = answer

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        super().send(step, may_be_sent)
        return self.answer()  # type: ignore[return-value]


def _raises() -> object:
    raise ZeroDivisionError("a text that may hold a secret")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (_raises, "reconciler itself failed: ZeroDivisionError in _raises, line"),
        (lambda: None, "reconciler itself failed: the engine returned None where a result is to be"),
        (lambda: Result("applied"), "reconciler itself failed: the engine returned a result whose kind is"),  # type: ignore[arg-type]
        (lambda: Result(AnswerClass.APPLIED, ref=7), "reconciler itself failed: the engine returned a result whose"),  # type: ignore[arg-type]
    ],
    ids=["raises", "nothing", "no class", "a number"],
)
def test_a_fault_of_the_engine_itself_leaves_the_call_in_doubt_and_says_how_to_settle_it(
    answer: Callable[[], object], why: str, cluster: Cluster, tmp_path: Path
) -> None:
    engine = Broken(cluster, answer, NEEDS_JOB._replace(atomic_run=False, reads=False))
    ended = applied(tmp_path, engine)
    assert ended.outcome.outcome is Outcome.IN_DOUBT
    assert why in ended.outcome.error
    assert "the next apply checks again, or settle it: `reconciler resolve a --applied`" in ended.outcome.error
    assert "secret" not in ended.outcome.error
    assert ended.record is not None
    assert ended.record.doubt is not None
    assert len(cluster.runs()) == 1


@pytest.mark.parametrize("raised", [KeyboardInterrupt, GeneratorExit, SystemExit])
def test_what_ends_an_action_after_its_call_was_sent_leaves_the_call_in_doubt(
    raised: type[BaseException], cluster: Cluster, tmp_path: Path
) -> None:
    def answer() -> object:
        raise raised

    job = Job("a", "a", Desired.RUNNING, CONFIG)
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        matching = match_records({"a": job}, {}, lambda a, b: a == b)
        plan = make_plan(
            matching, {}, wording, lambda name: True, state=session.state, manifest_digest="", commit=None, paths=[]
        )
        context = context_of(Broken(cluster, answer, NEEDS_JOB._replace(reads=False)), session)
        events = carry_out(plan, matching.by_name, context._replace(wording=wording), parallelism=1, fail_fast=False)
        outcomes = []
        with suppress(raised):
            for ended in events:
                outcomes += [event.outcome for event in ended]
    [outcome] = outcomes
    assert outcome.outcome is Outcome.IN_DOUBT
    assert "run was sent, and it is not known whether it was carried out: the apply ended before" in outcome.error
    state = store_in(tmp_path).read(TARGET)
    assert state is not None
    assert state.jobs["a"].doubt is not None
    assert len(cluster.runs()) == 1


def test_after_a_fault_of_the_engine_itself_no_other_call_is_sent(cluster: Cluster, tmp_path: Path) -> None:
    jobs = {name: Job(name, name, Desired.RUNNING, CONFIG) for name in ("a", "b")}
    cluster.create("b")
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        matching = match_records(jobs, {}, lambda a, b: a == b)
        plan = make_plan(
            matching, {}, wording, lambda name: True, state=session.state, manifest_digest="", commit=None, paths=[]
        )
        engine = Broken(cluster, _raises, NEEDS_JOB._replace(atomic_run=False, reads=False))
        context = context_of(engine, session)._replace(wording=wording)
        ends = carry_out(plan, matching.by_name, context, parallelism=1, fail_fast=False)
        outcomes = {event.outcome.action.job: event.outcome.outcome for ended in ends for event in ended}
    assert outcomes == {"a": Outcome.IN_DOUBT, "b": Outcome.SKIPPED}
    assert len(cluster.runs()) == 1


# --- a run in doubt, in a later apply --------------------------------------------------------------------------------


def looked(
    folder: Path, engine: Engine, record: Record, now: str = "2026-11-21T10:00:05Z"
) -> tuple[bool | None, Record | None, int]:
    """Look once at a run in doubt.

    Returns whether it may be sent again if it is pending, else None; the record afterwards; and the run count.
    """
    with store_in(folder).open(TARGET, "apply", 0) as session:
        session.put("a", record)
        pending = look(session, engine, itertools.count().__next__, lambda: now)
        may_ask_again = pending[0].may_ask_again if pending else None
        return may_ask_again, session.record_of("a"), session.last_of("a")


IN_DOUBT = Record("a", Desired.RUNNING, {"size": 0}, run=1, doubt=doubt_of(2))


@pytest.mark.parametrize(
    "marks",
    [
        digests({"size": 9}, None)._replace(lineage=LINEAGE, op="op-1"),
        digests(CONFIG, None)._replace(lineage=LINEAGE, op="op-of-a-runner-that-died-with-its-journal"),
    ],
)
def test_a_run_that_is_there_from_this_call_or_one_like_it_is_settled_as_applied(
    marks: Marks, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.start("a", "a-1", Marks(LINEAGE, "op-0"), {"size": 0})
    cluster.start("a", "a-2", marks, CONFIG)
    pending, record, last = looked(tmp_path, ClusterEngine(cluster, NEEDS_JOB), IN_DOUBT)
    assert (pending, last) == (None, 2)
    assert record is not None
    assert (record.run, record.ref, record.config, record.doubt) == (2, "uid-2", CONFIG, None)


def test_a_run_of_another_call_of_this_state_leaves_the_doubt(cluster: Cluster, tmp_path: Path) -> None:
    marks = digests({"size": 9}, None)._replace(lineage=LINEAGE, op="op-9")
    cluster.start("a", "a-2", marks, {"size": 9})
    assert looked(tmp_path, ClusterEngine(cluster, NEEDS_JOB), IN_DOUBT) == (None, IN_DOUBT, 1)


@pytest.mark.parametrize(
    "marks",
    [
        Marks(),
        Marks(op="op-1"),
        Marks(op="op-9"),
        Marks(lineage="theirs"),
        digests(CONFIG, None)._replace(lineage=LINEAGE),
        digests(CONFIG, None)._replace(op="op-1"),
    ],
    ids=["none", "our op alone", "an op alone", "another lineage alone", "no op", "no lineage"],
)
def test_a_run_whose_marks_lack_the_lineage_or_the_op_proves_nothing(
    marks: Marks, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.start("a", "a-2", marks, CONFIG)
    assert looked(tmp_path, ClusterEngine(cluster, NEEDS_JOB), IN_DOUBT) == (None, IN_DOUBT, 1)


def test_a_run_that_is_not_there_may_be_sent_again_at_once_under_its_own_number(
    cluster: Cluster, tmp_path: Path
) -> None:
    engine = ClusterEngine(cluster, NEEDS_JOB)
    assert looked(tmp_path, engine, IN_DOUBT) == (True, IN_DOUBT, 1)
    ended = applied(tmp_path, engine, guarded=True)
    assert ended.outcome.outcome is Outcome.SUCCEEDED
    assert "is sent again as a-2" in ended.outcome.action.reason
    assert [call.text for call in ended.outcome.action.calls] == ["run a-2"]
    assert (run_ids(cluster), ended.last) == (["a-2"], 2)


def test_a_first_call_that_arrives_late_is_the_run_that_is_asked_for_again(cluster: Cluster, tmp_path: Path) -> None:
    class Late(ClusterEngine):
        """The first call of the run in doubt arrives just before the second one."""

        def send(self, step: Step, may_be_sent: Callable[[], bool] = lambda: True):  # type: ignore[no-untyped-def]
            cluster.start("a", "a-2", digests(CONFIG, None)._replace(lineage=LINEAGE, op="op-1"), CONFIG)
            return super().send(step, may_be_sent)

    ended = applied(tmp_path, Late(cluster, NEEDS_JOB), guarded=True, before=recorded(IN_DOUBT))
    assert (ended.outcome.outcome, run_ids(cluster), ended.last) == (Outcome.SUCCEEDED, ["a-2"], 2)
    assert ended.record is not None
    assert (ended.record.doubt, ended.record.ref) == (None, "uid-1")


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_run_in_doubt_stays_the_same_doubt_if_a_later_apply_is_refused(
    reason: Reason, cluster: Cluster, tmp_path: Path
) -> None:
    refusing = ClusterEngine(cluster, NEEDS_JOB._replace(reads=False))
    refusing.send = lambda step, may_be_sent=always: Result(  # type: ignore[method-assign]
        AnswerClass.REJECTED, reason, "not now"
    )
    in_doubt = IN_DOUBT._replace(state=Desired.ABORTED)
    refused = in_doubt._replace(doubt=doubt_of(2)._replace(answer="no answer; sent again, and refused: not now"))
    for before in (in_doubt, refused):
        ended = applied(tmp_path, refusing, guarded=True, before=recorded(before))
        assert ended.outcome.outcome is Outcome.IN_DOUBT
        assert (ended.record, ended.last) == (refused, 1)
    told = [(line["op"], line["outcome"]) for line in lines(tmp_path) if line["verb"] == "run"]
    assert [outcome for _, outcome in told] == ["failed", "failed"]


def test_a_run_that_was_sent_again_counts_from_its_first_call(cluster: Cluster, tmp_path: Path) -> None:
    """The answer to the second call is lost too. By the third one, the engine may have forgotten the run."""
    engine = ClusterEngine(cluster, NEEDS_JOB._replace(keeps_ended_s=300.0, reads=False))
    doubt = doubt_of(2, at="2026-11-21T09:55:01Z")  # the apply is at 10:00:00
    first = IN_DOUBT._replace(state=Desired.ABORTED, doubt=doubt)
    cluster.faults.extend([Lost.BEFORE] * 9)
    ended = applied(tmp_path, engine, guarded=True, before=recorded(first))
    assert ended.record is not None
    assert ended.record.doubt is not None
    assert ended.record.doubt.op != "op-1"
    assert (ended.record.doubt.sent_at, ended.record.doubt.first_sent_at) == (
        "2026-11-21T10:00:00Z",
        "2026-11-21T09:55:01Z",
    )
    cluster.faults.clear()
    assert looked(tmp_path, engine, ended.record, "2026-11-21T10:00:00Z")[0] is True
    assert looked(tmp_path, engine, ended.record, "2026-11-21T10:00:01Z")[0] is None


@pytest.mark.parametrize(
    ("config", "now", "may_ask_again"),
    [
        ({"keepFor": 20}, "2026-11-21T10:00:19Z", True),
        ({"keepFor": 20}, "2026-11-21T10:00:20Z", None),
        ({"keepFor": 0.5}, "2026-11-21T10:00:01Z", None),
        ({"keepFor": 900}, "2026-11-21T10:05:00Z", None),
        ({"keepFor": True}, "2026-11-21T10:04:00Z", True),
    ],
)
def test_a_run_in_doubt_is_kept_for_as_long_as_its_own_config_says_if_that_is_shorter(
    config: Mapping[str, float], now: str, may_ask_again: bool | None, cluster: Cluster, tmp_path: Path
) -> None:
    engine = ClusterEngine(cluster, NEEDS_JOB._replace(keeps_ended_s=300.0))
    in_doubt = IN_DOUBT._replace(config={"keepFor": 5000}, doubt=doubt_of(2, config))
    assert looked(tmp_path, engine, in_doubt, now) == (may_ask_again, in_doubt, 1)


def test_a_run_is_not_asked_for_again_once_its_own_config_lets_the_engine_forget_it(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.faults.append(Lost.AFTER)
    engine = ClusterEngine(cluster, NEEDS_JOB._replace(reads=False))
    ended = applied(tmp_path, engine, JOB._replace(config={"keepFor": 0}))
    assert (ended.outcome.outcome, run_ids(cluster)) == (Outcome.IN_DOUBT, ["a-1"])


def test_without_the_guard_a_run_in_doubt_is_held(cluster: Cluster, tmp_path: Path) -> None:
    ended = applied(tmp_path, ClusterEngine(cluster, NEEDS_JOB), before=recorded(IN_DOUBT))
    assert (ended.outcome.done, ended.record, run_ids(cluster)) == (ActionKind.HOLD, IN_DOUBT, [])


@pytest.mark.parametrize("job", [JOB._replace(config={"size": 2}), JOB._replace(run_token="t")])
def test_a_run_that_is_no_longer_asked_for_is_not_sent_again(job: Job, cluster: Cluster, tmp_path: Path) -> None:
    engine = ClusterEngine(cluster, NEEDS_JOB)
    ended = applied(tmp_path, engine, job, guarded=True, before=recorded(IN_DOUBT))
    assert (ended.outcome.done, ended.record, run_ids(cluster)) == (ActionKind.HOLD, IN_DOUBT, [])


@pytest.mark.parametrize(
    ("now", "keeps_s", "may_ask_again"),
    [
        ("2026-11-21T10:04:59Z", 300.0, True),
        ("2026-11-21T10:05:00Z", 300.0, None),
        ("2026-11-21T09:59:00Z", 300.0, None),
        ("whenever", 300.0, None),
        ("2027-11-21T10:00:00Z", float("inf"), True),
    ],
)
def test_a_run_is_sent_again_only_while_the_engine_can_t_have_dropped_it(
    now: str, keeps_s: float, may_ask_again: bool | None, cluster: Cluster, tmp_path: Path
) -> None:
    engine = ClusterEngine(cluster, NEEDS_JOB._replace(keeps_ended_s=keeps_s))
    assert looked(tmp_path, engine, IN_DOUBT, now) == (may_ask_again, IN_DOUBT, 1)


@pytest.mark.parametrize(
    ("promises", "may_ask_again"),
    [
        (NEEDS_JOB._replace(atomic_run=False), None),
        (NEEDS_JOB._replace(atomic_run=False, reads=False), None),
        (NEEDS_JOB._replace(reads=False), True),
        (NEEDS_JOB._replace(reads=False, keeps_ended_s=1.0), None),
    ],
)
def test_one_look_settles_nothing_without_the_guard_and_without_reads_the_engine_is_asked(
    promises: Promises, may_ask_again: bool | None, cluster: Cluster, tmp_path: Path
) -> None:
    assert looked(tmp_path, ClusterEngine(cluster, promises), IN_DOUBT) == (may_ask_again, IN_DOUBT, 1)


def test_a_run_is_not_sent_again_once_the_engine_may_have_dropped_it_though_it_was_kept_at_the_look(
    cluster: Cluster, tmp_path: Path
) -> None:
    """A person may take long to confirm a plan, and a call may wait long for its turn."""
    engine = ClusterEngine(cluster, NEEDS_JOB._replace(keeps_ended_s=300.0))
    old = IN_DOUBT._replace(doubt=doubt_of(2, at="2026-11-21T09:55:00Z"))  # the apply is at 10:00:00
    ended = applied(tmp_path, engine, guarded=True, before=recorded(old))
    assert (ended.outcome.outcome, ended.record, run_ids(cluster)) == (Outcome.SKIPPED, old, [])
    assert "may have forgotten the first call" in ended.outcome.note
    younger = IN_DOUBT._replace(doubt=doubt_of(2, at="2026-11-21T09:55:01Z"))
    assert applied(tmp_path, engine, guarded=True, before=recorded(younger)).outcome.outcome is Outcome.SUCCEEDED
    assert run_ids(cluster) == ["a-2"]


def test_a_run_in_doubt_is_sent_again_to_an_engine_without_reads(cluster: Cluster, tmp_path: Path) -> None:
    engine = ClusterEngine(cluster, NEEDS_JOB._replace(reads=False))
    in_doubt = IN_DOUBT._replace(state=Desired.ABORTED)
    cluster.start("a", "a-2", digests(CONFIG, None)._replace(lineage=LINEAGE, op="op-1"), CONFIG)
    ended = applied(tmp_path, engine, guarded=True, before=recorded(in_doubt))
    assert (ended.outcome.outcome, ended.last, run_ids(cluster)) == (Outcome.SUCCEEDED, 2, ["a-2"])


# --- an older state, another state ----------------------------------------------------------------------------------


class Hidden(ClusterEngine):
    """An engine whose observations are a moment old: they lack the newest run, which the guard knows."""

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        return Observation(Status.DRAFT, "created")


def test_an_older_state_runs_nothing_that_the_engine_has_run(cluster: Cluster, tmp_path: Path) -> None:
    cluster.start("a", "a-1", digests({"size": 9}, None)._replace(lineage=LINEAGE, op="op-9"), {"size": 9})
    ended = applied(tmp_path, Hidden(cluster, NEEDS_JOB))
    assert (ended.outcome.outcome, ended.outcome.done) == (Outcome.SKIPPED, ActionKind.HOLD)
    assert "the state is older than what the engine has" in ended.outcome.note
    assert "`reconciler state forget a`" in ended.outcome.note
    assert (ended.record, ended.last, run_ids(cluster)) == (None, 0, ["a-1"])


def test_a_state_that_lost_the_record_of_this_very_run_takes_it_for_its_own(cluster: Cluster, tmp_path: Path) -> None:
    cluster.start("a", "a-1", digests(CONFIG, None)._replace(lineage=LINEAGE, op="op-9"), CONFIG)
    ended = applied(tmp_path, Hidden(cluster, NEEDS_JOB))
    assert (ended.outcome.outcome, ended.outcome.note) == (Outcome.SUCCEEDED, "a-1 was there already")
    assert (ended.last, run_ids(cluster)) == (1, ["a-1"])


def test_a_run_of_another_state_is_rejected_and_its_owner_is_named(cluster: Cluster, tmp_path: Path) -> None:
    cluster.start("a", "a-1", Marks("theirs", "op-9"), CONFIG)
    ended = applied(tmp_path, Hidden(cluster, NEEDS_JOB))
    assert ended.outcome.outcome is Outcome.FAILED
    assert "belongs to lineage theirs; the object is another owner's" in ended.outcome.error
    assert (ended.record, ended.last) == (None, 0)


@pytest.mark.parametrize("state", [Desired.ABORTED, Desired.ABSENT])
def test_an_imported_run_of_another_state_obeys_and_one_that_was_not_imported_is_held(
    state: Desired, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.start("a", "a-1", Marks("theirs", "op-9"), CONFIG)
    job, engine = JOB._replace(state=state), ClusterEngine(cluster, NEEDS_JOB)
    unknown = Record("a", Desired.RUNNING, CONFIG, run=1)
    assert applied(tmp_path, engine, job, before=recorded(unknown)).outcome.done is ActionKind.HOLD
    ended = applied(tmp_path, engine, job, before=recorded(unknown._replace(ref="uid-1")))
    assert ended.outcome.outcome is Outcome.SUCCEEDED, ended
    [run] = cluster.runs()
    assert (run.status, run.forgotten) == (Status.ABORTED, state is Desired.ABSENT)


def test_a_run_id_that_another_run_has_ends_the_doubt_about_it(cluster: Cluster, tmp_path: Path) -> None:
    cluster.start("a", "a-2", Marks("theirs", "op-9"), CONFIG)
    ended = applied(tmp_path, Hidden(cluster, NEEDS_JOB), guarded=True, before=recorded(IN_DOUBT))
    assert (ended.outcome.outcome, ended.record) == (Outcome.FAILED, IN_DOUBT._replace(doubt=None))


def test_a_plan_says_that_a_run_was_there_where_its_marks_are_those_of_the_asked_run(
    cluster: Cluster, tmp_path: Path
) -> None:
    """The state was rolled back to the first run: the second one has the run token that the manifest gives."""
    job = JOB._replace(run_token="t")
    cluster.start("a", "a-2", digests(CONFIG, "t")._replace(lineage=LINEAGE, op="op-9"), CONFIG)
    cluster.end("a")
    older = Record("a", Desired.RUNNING, CONFIG, run=1, ref="uid-0", submitted_at="2026-11-21T10:00:00Z")
    ended = applied(tmp_path, ClusterEngine(cluster, NEEDS_JOB), job, before=recorded(older))
    assert (ended.outcome.done, ended.last, run_ids(cluster)) == (ActionKind.ADOPT, 2, ["a-2"])
    assert ended.record is not None
    assert (ended.record.run_tokens, ended.record.ref) == (frozenset({"t"}), "uid-1")


def test_a_plan_holds_a_job_whose_newest_run_this_state_does_not_know(cluster: Cluster, tmp_path: Path) -> None:
    cluster.start("a", "a-2", digests(CONFIG, "other")._replace(lineage=LINEAGE, op="op-9"), CONFIG)
    cluster.end("a")
    older = Record("a", Desired.RUNNING, CONFIG, run=1, submitted_at="2026-11-21T10:00:00Z")
    ended = applied(tmp_path, ClusterEngine(cluster, NEEDS_JOB), JOB._replace(run_token="t"), before=recorded(older))
    assert (ended.outcome.done, ended.record, run_ids(cluster)) == (ActionKind.HOLD, older, ["a-2"])
    assert "a-2" in ended.outcome.action.reason
    assert "recorded a-1" in ended.outcome.action.reason


# --- a record of another target ---------------------------------------------------------------------------------------


def test_a_job_that_is_recorded_for_another_service_is_held_and_never_called(cluster: Cluster, tmp_path: Path) -> None:
    elsewhere = Record("a", Desired.RUNNING, {"size": 0}, run=1, target=TARGET._replace(address="http://127.0.0.1/v2"))
    for record in (elsewhere, elsewhere._replace(doubt=doubt_of(2))):
        for desired in Desired:
            ended = applied(
                tmp_path,
                ClusterEngine(cluster, NEEDS_JOB),
                JOB._replace(state=desired),
                guarded=True,
                before=recorded(record),
            )
            assert (ended.outcome.done, ended.record, run_ids(cluster)) == (ActionKind.HOLD, record, [])
            assert "recorded for bytenite at http://127.0.0.1/v2" in ended.outcome.action.reason
            finding = compare(Subject(JOB, record, lambda a, b: a == b), Observation(Status.ACTIVE))
            assert (finding.kind, finding.reason) == (
                Kind.UNREADABLE,
                "recorded for bytenite at http://127.0.0.1/v2, which is not the service of the state",
            )
    assert looked(tmp_path, ClusterEngine(cluster, NEEDS_JOB), elsewhere._replace(doubt=doubt_of(2)))[0] is None


def test_a_state_reads_what_it_wrote_of_all_that(tmp_path: Path, cluster: Cluster) -> None:
    cluster.faults.extend([Lost.BEFORE] * 9)
    applied(tmp_path, ClusterEngine(cluster, NEEDS_JOB, stages=True))
    state = store_in(tmp_path).read(TARGET)
    assert isinstance(state, State)
    doubt = state.jobs["a"].doubt
    assert doubt is not None
    assert (doubt.run, doubt.staged, state.last) == (1, "staged-1", {})
