"""Engines with one bug each, and the tests of the suite that have to fail for them.

`test_the_suites_notice.py` runs the tests that each class names in `CAUGHT_BY`. Nothing else collects this file.
"""

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

import cluster_plugin
from cluster_plugin import ClusterPlugin, ClusterService
from reconciler.apply import calls
from reconciler.engines.port import (
    AnswerClass,
    Engine,
    Marks,
    Observation,
    Reason,
    Request,
    Result,
    Status,
    Step,
    Surroundings,
    Target,
    Verb,
    always,
)
from reconciler.engines.sandbox.cluster import ATOMIC, ClusterEngine
from reconciler.testing.engines import EngineContract


class LooksFirst(ClusterEngine):
    """Looks whether there is a run of this id, and then starts one: two steps."""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        if step.verb is not Verb.RUN or self.observe(step.job_id, step.run_id).status is not Status.MISSING:
            return super().send(step, may_be_sent)
        time.sleep(0.05)
        run = self._cluster.start(step.job_id, step.run_id, step.marks, step.config)
        return Result(AnswerClass.APPLIED, ref=run.ref)


class TakesAll(ClusterEngine):
    """Takes every run of a taken id for the run of this call."""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        result = super().send(step, may_be_sent)
        is_taken = result.reason in (Reason.OTHER_OP, Reason.OTHER_OWNER)
        return result._replace(reason=Reason.WAS_THERE) if is_taken else result


class Optimist(ClusterEngine):
    """Takes a lost answer for a good one."""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        result = super().send(step, may_be_sent)
        return Result(AnswerClass.APPLIED) if result.kind is AnswerClass.IN_DOUBT else result


class Pessimist(ClusterEngine):
    """Takes a lost answer for a call that never left."""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        result = super().send(step, may_be_sent)
        return Result(AnswerClass.NOT_SENT) if result.kind is AnswerClass.IN_DOUBT else result


class AsksLate(ClusterEngine):
    """Asks whether a call may leave once it has left."""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        result = super().send(step)
        may_be_sent()
        return result


class RunsWhileStaging(ClusterEngine):
    """Starts the run in the step that has to be harmless."""

    def stage(self, step: Step) -> str:
        if step.verb is Verb.RUN:
            self._cluster.start(step.job_id, step.run_id, step.marks, step.config)
        return ""


class LosesLogLines(ClusterEngine):
    """Loses the last line of a log."""

    def log(self, job_id: str, run_id: str, *, tail: int | None, follow: bool, stop: Event) -> Iterator[bytes]:
        yield from list(super().log(job_id, run_id, tail=tail, follow=follow, stop=stop))[:-1]


class FollowsForever(ClusterEngine):
    """Follows a log, and never asks whether it is to stop."""

    def log(self, job_id: str, run_id: str, *, tail: int | None, follow: bool, stop: Event) -> Iterator[bytes]:
        yield from super().log(job_id, run_id, tail=tail, follow=follow, stop=stop)
        while follow:
            time.sleep(0.05)


class ListsTwice(ClusterEngine):
    """Lists each job twice, as pages do that move while they are read."""

    def observe_all(self) -> Iterator[tuple[str, Observation]]:
        for job_id, one in super().observe_all():
            yield job_id, one
            yield job_id, one


class LeavesOutMissing(ClusterEngine):
    """Leaves out of many observations the jobs that are not there."""

    def observe_many(self, job_ids: Collection[str]) -> Mapping[str, Observation]:
        found = super().observe_many(job_ids)
        return {job_id: one for job_id, one in found.items() if one.status is not Status.MISSING}


class CallsMissingUnreadable(ClusterEngine):
    """Reports a job that is not there as one that can't be read."""

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        found = super().observe(job_id, run_id)
        return Observation(Status.UNREADABLE) if found.status is Status.MISSING else found


class CountsSeconds(ClusterEngine):
    """Reports when a run began as a number of seconds."""

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        began: Any = 1_800_000_000
        return super().observe(job_id, run_id)._replace(submitted_at=began)


class ForgetsMarks(ClusterEngine):
    """Reports runs without what they bear."""

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        return super().observe(job_id, run_id)._replace(marks=Marks())


class NewestRun(ClusterEngine):
    """Reports the newest run, whichever was asked for."""

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        return super().observe(job_id)


class EndsAll(ClusterEngine):
    """Ends whatever is active, though the call has seen an earlier run."""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        return super().send(step._replace(seen="") if step.verb is Verb.ABORT else step, may_be_sent)


class EndsOthers(ClusterEngine):
    """Ends what belongs to another state."""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        blind = step.verb is not Verb.RUN
        return super().send(step._replace(marks=Marks()) if blind else step, may_be_sent)


class AbortsAgain(ClusterEngine):
    """Answers that it has aborted what was not active."""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        result = super().send(step, may_be_sent)
        return Result(AnswerClass.APPLIED) if result.reason is Reason.NOT_RUNNING else result


class OneIdentity(ClusterEngine):
    """Has one name for all clusters."""

    def identity(self) -> Mapping[str, str]:
        return {"cluster": "the cluster"}


class TakesRefusalForDuplicate(ClusterEngine):
    """Takes each refusal of a run for the refusal of a run id that is taken."""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        result = super().send(step, may_be_sent)
        is_refused = step.verb is Verb.RUN and result.reason is Reason.NOT_PERMITTED
        return result._replace(reason=Reason.OTHER_OP) if is_refused else result


class ComparesOps(ClusterEngine):
    """Takes the run of this state for another one, if another program has asked for it."""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        return super().send(step._replace(marks=step.marks._replace(config_digest="")), may_be_sent)


class TakesAnyRefusal(ClusterPlugin):
    """Not a bug of the engine, but one of the tool: a refusal of a repeated run is taken for the end of the doubt."""

    def open(self, target: Target, surroundings: Surroundings) -> AbstractContextManager[Engine]:
        calls._is_about_run_id = lambda result: result.kind in (AnswerClass.APPLIED, AnswerClass.REJECTED)
        return super().open(target, surroundings)


class SaysOp(ClusterPlugin):
    """Shows in a plan the op of a call that no apply will make."""

    def wording(self, target: Target, step: Step) -> tuple[Request, ...]:
        return tuple(one._replace(text=f"{one.text} as {step.marks.op}") for one in super().wording(target, step))


def __getattr__(name: str) -> ClusterPlugin:
    """Return the plugin of an engine of this module, by the name of its class after `plugin_of_`."""
    kind = globals().get(name.removeprefix("plugin_of_")) if name.startswith("plugin_of_") else None
    if not isinstance(kind, type):
        raise AttributeError(name)
    if issubclass(kind, ClusterPlugin):
        return kind()
    assert issubclass(kind, ClusterEngine)
    plugin = ClusterPlugin()
    plugin.engine_class = kind
    return plugin


class _Seeded(EngineContract):
    more: Mapping[str, Any] = {"identity": {"cluster": "one"}}

    @pytest.fixture
    def service(self, tmp_path: Path) -> ClusterService:
        return _Service(tmp_path, **self.more)


class _Service(ClusterService):
    @property
    def environment(self) -> Mapping[str, str]:
        path = os.pathsep.join([os.path.dirname(__file__), os.path.dirname(cluster_plugin.__file__)])
        return {**os.environ, "PYTHONPATH": path}


class TestLooksFirst(_Seeded):
    plugin = "seeded_engines:plugin_of_LooksFirst"
    CAUGHT_BY = ("test_of_eight_senders_of_one_run_id_one_starts_it",)


class TestCountsSeconds(_Seeded):
    plugin = "seeded_engines:plugin_of_CountsSeconds"
    CAUGHT_BY = ("test_each_value_of_the_engine_has_the_type_of_the_port",)


class TestTakesAll(_Seeded):
    plugin = "seeded_engines:plugin_of_TakesAll"
    CAUGHT_BY = (
        "test_a_run_id_that_is_taken_is_refused_and_the_reason_says_whose_it_is[another config-active]",
        "test_a_run_id_that_is_taken_is_refused_and_the_reason_says_whose_it_is[another token-complete]",
        "test_a_run_id_that_is_taken_is_refused_and_the_reason_says_whose_it_is[another state-failed]",
    )


class TestOptimist(_Seeded):
    plugin = "seeded_engines:plugin_of_Optimist"
    CAUGHT_BY = ("test_a_run_whose_answer_is_lost_is_in_doubt_or_known[unsent]",)


class TestPessimist(_Seeded):
    plugin = "seeded_engines:plugin_of_Pessimist"
    CAUGHT_BY = ("test_a_run_whose_answer_is_lost_is_in_doubt_or_known[lost]",)


class TestAsksLate(_Seeded):
    plugin = "seeded_engines:plugin_of_AsksLate"
    CAUGHT_BY = (
        "test_the_engine_asks_right_before_a_call_leaves",
        "test_a_call_that_is_held_back_does_nothing[run]",
        "test_a_call_that_is_held_back_does_nothing[abort]",
        "test_a_program_that_is_killed_leaves_a_call_that_can_be_settled[sending]",
    )


class TestRunsWhileStaging(_Seeded):
    plugin = "seeded_engines:plugin_of_RunsWhileStaging"
    CAUGHT_BY = (
        "test_staging_is_harmless_and_may_be_done_twice",
        "test_a_program_that_is_killed_leaves_a_call_that_can_be_settled[staged]",
    )


class TestLosesLogLines(_Seeded):
    plugin = "seeded_engines:plugin_of_LosesLogLines"
    CAUGHT_BY = ("test_a_log_is_whole_and_its_tail_is_its_end",)


class TestFollowsForever(_Seeded):
    plugin = "seeded_engines:plugin_of_FollowsForever"
    CAUGHT_BY = ("test_following_a_log_ends_when_it_is_asked_to",)


class TestListsTwice(_Seeded):
    plugin = "seeded_engines:plugin_of_ListsTwice"
    CAUGHT_BY = ("test_the_list_holds_each_job_once",)


class TestLeavesOutMissing(_Seeded):
    plugin = "seeded_engines:plugin_of_LeavesOutMissing"
    CAUGHT_BY = ("test_many_jobs_are_observed_as_each_of_them_is",)


class TestCallsMissingUnreadable(_Seeded):
    plugin = "seeded_engines:plugin_of_CallsMissingUnreadable"
    CAUGHT_BY = ("test_an_observation_tells_the_run_and_its_marks",)


class TestForgetsMarks(_Seeded):
    plugin = "seeded_engines:plugin_of_ForgetsMarks"
    CAUGHT_BY = ("test_an_observation_tells_the_run_and_its_marks", "test_marks_come_back_as_they_were")


class TestNewestRun(_Seeded):
    plugin = "seeded_engines:plugin_of_NewestRun"
    CAUGHT_BY = ("test_an_earlier_run_is_told_from_the_newest_one",)


class TestEndsAll(_Seeded):
    plugin = "seeded_engines:plugin_of_EndsAll"
    CAUGHT_BY = ("test_a_call_about_an_earlier_run_leaves_the_newer_one_alone[abort]",)


class TestEndsOthers(_Seeded):
    plugin = "seeded_engines:plugin_of_EndsOthers"
    CAUGHT_BY = (
        "test_what_belongs_to_another_state_is_left_alone[abort]",
        "test_what_belongs_to_another_state_is_left_alone[delete]",
    )


class TestAbortsAgain(_Seeded):
    plugin = "seeded_engines:plugin_of_AbortsAgain"
    CAUGHT_BY = ("test_an_abort_ends_what_is_active_and_nothing_else[complete]",)


class TestOneIdentity(_Seeded):
    plugin = "seeded_engines:plugin_of_OneIdentity"
    CAUGHT_BY = ("test_the_identity_is_the_same_each_time_and_another_one_elsewhere",)


class TestTakesRefusalForDuplicate(_Seeded):
    plugin = "seeded_engines:plugin_of_TakesRefusalForDuplicate"
    CAUGHT_BY = ("test_a_refusal_of_one_call_is_not_taken_for_a_word_about_its_run_id",)


class TestComparesOps(_Seeded):
    plugin = "seeded_engines:plugin_of_ComparesOps"
    CAUGHT_BY = (
        "test_a_run_id_that_is_taken_is_refused_and_the_reason_says_whose_it_is[this run-active]",
        "test_a_run_whose_answer_was_lost_stays_in_doubt_while_what_follows_is_refused[one call]",
    )

    @pytest.fixture
    def service(self, tmp_path: Path) -> ClusterService:
        service = _Service(tmp_path, ATOMIC._replace(reads=False))
        service.reads = False
        return service


class TestApplyThatTakesAnyRefusal(_Seeded):
    plugin = "seeded_engines:plugin_of_TakesAnyRefusal"
    CAUGHT_BY = (
        "test_a_run_whose_answer_was_lost_stays_in_doubt_while_what_follows_is_refused[credentials]",
        "test_a_run_whose_answer_was_lost_stays_in_doubt_while_what_follows_is_refused[one call]",
    )


class TestSaysOp(_Seeded):
    plugin = "seeded_engines:plugin_of_SaysOp"
    CAUGHT_BY = ("test_the_wording_is_pure_and_holds_neither_op_nor_commit[run]",)


class TestAuthorWhoForgetsWhatAPromiseNeeds(_Seeded):
    """The author promises logs, and does not say what a log holds: the test fails, and is not skipped."""

    plugin = "cluster_plugin:PLUGIN"
    CAUGHT_BY = ("test_a_log_is_whole_and_its_tail_is_its_end",)

    @pytest.fixture
    def service(self, tmp_path: Path) -> ClusterService:
        return _Silent(tmp_path)


class _Silent(_Service):
    def logged(self, job_id: str) -> bytes:
        return super(ClusterService, self).logged(job_id)
