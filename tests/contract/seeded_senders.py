"""Engines with one bug each in the calls that they send; see `seeded_engines`."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster_plugin import ClusterPlugin, ClusterService
from reconciler.engines.port import (
    AnswerClass,
    Marks,
    Reason,
    Result,
    Status,
    Step,
    Verb,
    always,
)
from reconciler.engines.sandbox.cluster import ATOMIC, ClusterEngine
from seeded_engines import Seeded, SeededService, plugin_of


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


class StartsTwice(ClusterEngine):
    """Sends a run once more, under an id of its own, as a client does that repeats what failed."""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        result = super().send(step, may_be_sent)
        if step.verb is Verb.RUN and result.kind is AnswerClass.APPLIED:
            self._cluster.start(step.job_id, f"{step.run_id}-again", step.marks, step.config)
        return result


class KeepsDeleted(ClusterEngine):
    """Answers that it has deleted a job, and deletes nothing."""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        if step.verb is not Verb.DELETE or not may_be_sent():
            return super().send(step, may_be_sent)
        return Result(AnswerClass.APPLIED)


class DeletesTheNewest(ClusterEngine):
    """Deletes the newest run of a job, and leaves those before it."""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        if step.verb is not Verb.DELETE or not may_be_sent():
            return super().send(step, may_be_sent)
        self._cluster.forget(step.job_id, step.seen)
        return Result(AnswerClass.APPLIED)


class NeverSureOfAborts(ClusterEngine):
    """Never says that an abort was carried out."""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        result = super().send(step, may_be_sent)
        return Result(AnswerClass.IN_DOUBT) if step.verb is Verb.ABORT else result


class AbortsByPrefix(ClusterEngine):
    """Aborts each run whose id begins with that of the job."""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        result = super().send(step, may_be_sent)
        if step.verb is Verb.ABORT and result.kind is AnswerClass.APPLIED:
            for run in self._cluster.runs():
                if run.run_id.startswith(step.job_id) and run.status is Status.ACTIVE:
                    self._cluster.end(run.job_id, Status.ABORTED)
        return result


class RefusesDots(ClusterEngine):
    """Refuses ids with a dot, of which the plugin says nothing."""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        if "." in step.job_id:
            return Result(AnswerClass.REJECTED, Reason.INVALID)
        return super().send(step, may_be_sent)


class RefusesMarkup(ClusterEngine):
    """Refuses a text in a config, of which the plugin says nothing."""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        if "<" in str(step.config.get("text")):
            return Result(AnswerClass.REJECTED, Reason.INVALID)
        return super().send(step, may_be_sent)


class CutsTexts(ClusterEngine):
    """Keeps the first letters of a text in a config, as a column of a database may."""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        config = {name: value[:20] if isinstance(value, str) else value for name, value in step.config.items()}
        return super().send(step._replace(config=config), may_be_sent)


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


def __getattr__(name: str) -> ClusterPlugin:
    """Return the plugin of an engine of this module, by the name of its class after `plugin_of_`."""
    if not name.startswith("plugin_of_"):
        raise AttributeError(name)
    return plugin_of(globals()[name.removeprefix("plugin_of_")])


class TestLooksFirst(Seeded):
    plugin = "seeded_senders:plugin_of_LooksFirst"
    CAUGHT_BY = ("test_of_eight_senders_of_one_run_id_one_starts_it",)


class TestTakesAll(Seeded):
    plugin = "seeded_senders:plugin_of_TakesAll"
    CAUGHT_BY = (
        "test_a_run_id_that_is_taken_is_refused_and_the_reason_says_whose_it_is[another config-active]",
        "test_a_run_id_that_is_taken_is_refused_and_the_reason_says_whose_it_is[another token-complete]",
        "test_a_run_id_that_is_taken_is_refused_and_the_reason_says_whose_it_is[another state-failed]",
    )


class TestOptimist(Seeded):
    plugin = "seeded_senders:plugin_of_Optimist"
    CAUGHT_BY = ("test_a_run_whose_answer_is_lost_is_in_doubt_or_known[unsent]",)


class TestPessimist(Seeded):
    plugin = "seeded_senders:plugin_of_Pessimist"
    CAUGHT_BY = ("test_a_run_whose_answer_is_lost_is_in_doubt_or_known[lost]",)


class TestAsksLate(Seeded):
    plugin = "seeded_senders:plugin_of_AsksLate"
    CAUGHT_BY = (
        "test_the_engine_asks_right_before_a_call_leaves",
        "test_a_call_that_is_held_back_does_nothing[run]",
        "test_a_call_that_is_held_back_does_nothing[abort]",
        "test_a_program_that_is_killed_leaves_a_call_that_can_be_settled[sending]",
    )


class TestRunsWhileStaging(Seeded):
    plugin = "seeded_senders:plugin_of_RunsWhileStaging"
    CAUGHT_BY = (
        "test_staging_is_harmless_and_may_be_done_twice",
        "test_a_program_that_is_killed_leaves_a_call_that_can_be_settled[staged]",
    )


class TestEndsAll(Seeded):
    plugin = "seeded_senders:plugin_of_EndsAll"
    CAUGHT_BY = ("test_a_call_about_an_earlier_run_leaves_the_newer_one_alone[abort]",)


class TestEndsOthers(Seeded):
    plugin = "seeded_senders:plugin_of_EndsOthers"
    CAUGHT_BY = (
        "test_what_belongs_to_another_state_is_left_alone[abort]",
        "test_what_belongs_to_another_state_is_left_alone[delete]",
    )


class TestAbortsAgain(Seeded):
    plugin = "seeded_senders:plugin_of_AbortsAgain"
    CAUGHT_BY = ("test_an_abort_ends_what_is_active_and_nothing_else[complete]",)


class TestStartsTwice(Seeded):
    plugin = "seeded_senders:plugin_of_StartsTwice"
    CAUGHT_BY = (
        "test_a_run_starts_one_run_or_none_as_its_answer_says[complete]",
        "test_senders_that_meet_get_answers_that_are_true",
        "test_many_jobs_run_once_each_and_are_all_observed",
        "test_a_program_that_is_killed_while_it_sends_leaves_one_run_or_none",
    )


class TestKeepsDeleted(Seeded):
    plugin = "seeded_senders:plugin_of_KeepsDeleted"
    CAUGHT_BY = ("test_a_delete_removes_what_has_ended[missing]",)


class TestDeletesTheNewest(Seeded):
    plugin = "seeded_senders:plugin_of_DeletesTheNewest"
    CAUGHT_BY = ("test_a_delete_removes_all_runs_of_the_job",)


class TestNeverSureOfAborts(Seeded):
    plugin = "seeded_senders:plugin_of_NeverSureOfAborts"
    CAUGHT_BY = ("test_an_abort_or_a_delete_whose_answer_is_lost_may_be_sent_again[abort-lost]",)


class TestAbortsByPrefix(Seeded):
    plugin = "seeded_senders:plugin_of_AbortsByPrefix"
    CAUGHT_BY = ("test_an_id_that_looks_like_a_run_of_another_job_is_a_job_of_its_own",)


class TestRefusesDots(Seeded):
    plugin = "seeded_senders:plugin_of_RefusesDots"
    CAUGHT_BY = ("test_an_id_is_taken_or_refused_with_a_sentence[A.b_c-9]",)


class TestRefusesMarkup(Seeded):
    plugin = "seeded_senders:plugin_of_RefusesMarkup"
    CAUGHT_BY = ("test_hostile_texts_in_a_config_do_no_harm",)


class TestCutsTexts(Seeded):
    plugin = "seeded_senders:plugin_of_CutsTexts"
    CAUGHT_BY = ("test_hostile_texts_in_a_config_do_no_harm",)


class TestTakesRefusalForDuplicate(Seeded):
    plugin = "seeded_senders:plugin_of_TakesRefusalForDuplicate"
    CAUGHT_BY = ("test_a_refusal_of_one_call_is_not_taken_for_a_word_about_its_run_id",)


class TestComparesOps(Seeded):
    plugin = "seeded_senders:plugin_of_ComparesOps"
    CAUGHT_BY = (
        "test_a_run_id_that_is_taken_is_refused_and_the_reason_says_whose_it_is[this run-active]",
        "test_a_run_whose_answer_was_lost_stays_in_doubt_while_what_follows_is_refused[one call]",
    )

    @pytest.fixture
    def service(self, tmp_path: Path) -> ClusterService:
        service = SeededService(tmp_path, ATOMIC._replace(reads=False))
        service.reads = False
        return service
