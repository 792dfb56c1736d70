"""Engines with one bug each in what they read, and the tests of the suite that have to fail for them.

`test_the_suites_notice.py` runs the tests that each class names in `CAUGHT_BY`. Nothing else collects this file.
"""

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from threading import Event
from typing import Any

import pytest

import cluster_plugin
from cluster_plugin import FORGETFUL, ClusterPlugin, ClusterService
from reconciler.engines.port import (
    AnswerClass,
    Marks,
    Observation,
    Reason,
    Result,
    Status,
    Step,
    Verb,
    always,
)
from reconciler.engines.sandbox.cluster import ATOMIC, ClusterEngine
from reconciler.testing import engine_base
from reconciler.testing.engines import EngineContract


class Seeded(EngineContract):
    """The suite for an engine with a bug. The service is a cluster in a database."""

    more: Mapping[str, Any] = {"identity": {"cluster": "one"}}

    @pytest.fixture(autouse=True)
    def _settles_soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each test here fails. None waits long for what never comes."""
        monkeypatch.setattr(engine_base, "SETTLES_WITHIN_S", 2.0)

    @pytest.fixture
    def service(self, tmp_path: Path) -> ClusterService:
        return SeededService(tmp_path, **self.more)


class SeededService(ClusterService):
    """A cluster whose programs find the engines with bugs."""

    @property
    def environment(self) -> Mapping[str, str]:
        path = os.pathsep.join([os.path.dirname(__file__), os.path.dirname(cluster_plugin.__file__)])
        return {**os.environ, "PYTHONPATH": path}


def plugin_of(kind: object) -> ClusterPlugin:
    """Return the plugin of an engine with a bug."""
    assert isinstance(kind, type)
    assert issubclass(kind, ClusterEngine)
    plugin = ClusterPlugin()
    plugin.engine_class = kind
    return plugin


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


class WaitsForNobody(ClusterEngine):
    """Begins a run at once, whatever it comes after."""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        return super().send(step._replace(after=()), may_be_sent)


class WaitsForOne(ClusterEngine):
    """Lets a run wait for the first run alone that it comes after."""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        return super().send(step._replace(after=step.after[:1]), may_be_sent)


class WithdrawsInSilence(ClusterEngine):
    """Reports a run as aborted that never began, since one that it comes after failed."""

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        found = super().observe(job_id, run_id)
        return found._replace(status=Status.ABORTED) if found.status is Status.WITHDRAWN else found


class BeginsOnAbort(ClusterEngine):
    """Lets a run that waits for others begin before it aborts that run."""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        for run in self._cluster.runs() if step.verb is Verb.ABORT else ():
            if run.job_id != step.job_id:
                self._cluster.end(run.job_id)
        return super().send(step, may_be_sent)


class WaitsForActiveRunsAlone(ClusterEngine):
    """Refuses a run that comes after one that has completed."""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        if any(run.ref in step.after and run.ended_at is not None for run in self._cluster.runs()):
            return Result(AnswerClass.REJECTED, Reason.OTHER, "nothing to wait for")
        return super().send(step, may_be_sent)


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


class EndsEarly(ClusterEngine):
    """Reports a run as aborted as soon as the abort was accepted."""

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        found = super().observe(job_id, run_id)
        stops = any(run.stops_at is not None for run in self._cluster.runs(job_id))
        return found._replace(status=Status.ABORTED) if stops else found


class NewIdentity(ClusterEngine):
    """Has an identity of its own until the first run."""

    def identity(self) -> Mapping[str, str]:
        return {"cluster": "one" if self._cluster.runs() else str(id(self))}


class OneIdentity(ClusterEngine):
    """Has one name for all clusters."""

    def identity(self) -> Mapping[str, str]:
        return {"cluster": "the cluster"}


class GuessesWithoutReads(ClusterEngine):
    """Says of each job that it is not there, though the cluster offers no reads."""

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        return Observation(Status.MISSING)


class ShowsNoConfig(ClusterEngine):
    """Reports an empty config of each run."""

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        found = super().observe(job_id, run_id)
        return found if found.config is None else found._replace(config={})


class Remembers(ClusterEngine):
    """Reports what was there once, as a cache does that nobody cleans."""

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        found = super().observe(job_id, run_id)
        runs = self._cluster.runs(job_id)
        return Observation(runs[-1].status, "cached") if found.status is Status.MISSING and runs else found


def __getattr__(name: str) -> ClusterPlugin:
    """Return the plugin of an engine of this module, by the name of its class after `plugin_of_`."""
    if not name.startswith("plugin_of_"):
        raise AttributeError(name)
    return plugin_of(globals()[name.removeprefix("plugin_of_")])


class TestLosesLogLines(Seeded):
    plugin = "seeded_engines:plugin_of_LosesLogLines"
    CAUGHT_BY = ("test_a_log_is_whole_and_its_tail_is_its_end",)


class TestFollowsForever(Seeded):
    plugin = "seeded_engines:plugin_of_FollowsForever"
    CAUGHT_BY = ("test_following_a_log_ends_when_it_is_asked_to",)


class _Chaining(Seeded):
    """The suite for an engine that promises `chains`."""

    @pytest.fixture
    def service(self, tmp_path: Path) -> ClusterService:
        return SeededService(tmp_path, ATOMIC._replace(chains=True))


class TestWaitsForNobody(_Chaining):
    plugin = "seeded_engines:plugin_of_WaitsForNobody"
    CAUGHT_BY = ("test_a_run_begins_once_the_runs_that_it_comes_after_have_completed",)


class TestWaitsForOne(_Chaining):
    plugin = "seeded_engines:plugin_of_WaitsForOne"
    CAUGHT_BY = ("test_a_run_begins_once_the_runs_that_it_comes_after_have_completed",)


class TestWithdrawsInSilence(_Chaining):
    plugin = "seeded_engines:plugin_of_WithdrawsInSilence"
    CAUGHT_BY = ("test_a_run_is_withdrawn_if_one_that_it_comes_after_does_not_complete",)


class TestBeginsOnAbort(_Chaining):
    plugin = "seeded_engines:plugin_of_BeginsOnAbort"
    CAUGHT_BY = ("test_a_run_that_waits_for_others_is_aborted_without_having_begun",)


class TestWaitsForActiveRunsAlone(_Chaining):
    plugin = "seeded_engines:plugin_of_WaitsForActiveRunsAlone"
    CAUGHT_BY = ("test_a_run_may_come_after_one_that_has_completed",)


class TestListsTwice(Seeded):
    plugin = "seeded_engines:plugin_of_ListsTwice"
    CAUGHT_BY = ("test_the_list_holds_each_job_once",)


class TestLeavesOutMissing(Seeded):
    plugin = "seeded_engines:plugin_of_LeavesOutMissing"
    CAUGHT_BY = ("test_many_jobs_are_observed_as_each_of_them_is",)


class TestCallsMissingUnreadable(Seeded):
    plugin = "seeded_engines:plugin_of_CallsMissingUnreadable"
    CAUGHT_BY = ("test_an_observation_tells_the_run_and_its_marks",)


class TestCountsSeconds(Seeded):
    plugin = "seeded_engines:plugin_of_CountsSeconds"
    CAUGHT_BY = ("test_each_value_of_the_engine_has_the_type_of_the_port",)


class TestForgetsMarks(Seeded):
    plugin = "seeded_engines:plugin_of_ForgetsMarks"
    CAUGHT_BY = ("test_an_observation_tells_the_run_and_its_marks", "test_marks_come_back_as_they_were")


class TestNewestRun(Seeded):
    plugin = "seeded_engines:plugin_of_NewestRun"
    CAUGHT_BY = ("test_an_earlier_run_is_told_from_the_newest_one",)


class TestEndsEarly(Seeded):
    plugin = "seeded_engines:plugin_of_EndsEarly"
    CAUGHT_BY = ("test_a_run_has_ended_once_nothing_of_it_executes",)


class TestNewIdentity(Seeded):
    plugin = "seeded_engines:plugin_of_NewIdentity"
    CAUGHT_BY = ("test_an_engine_that_is_opened_to_read_makes_nothing",)


class TestOneIdentity(Seeded):
    plugin = "seeded_engines:plugin_of_OneIdentity"
    CAUGHT_BY = ("test_the_identity_is_the_same_each_time_and_another_one_elsewhere",)


class TestGuessesWithoutReads(Seeded):
    plugin = "seeded_engines:plugin_of_GuessesWithoutReads"
    CAUGHT_BY = ("test_without_reads_nothing_is_observed",)

    @pytest.fixture
    def service(self, tmp_path: Path) -> ClusterService:
        service = SeededService(tmp_path, ATOMIC._replace(reads=False))
        service.reads = False
        return service


class TestShowsNoConfig(Seeded):
    plugin = "seeded_engines:plugin_of_ShowsNoConfig"
    CAUGHT_BY = ("test_a_config_is_observed_as_it_was_sent",)


class TestRemembers(Seeded):
    plugin = "seeded_engines:plugin_of_Remembers"
    CAUGHT_BY = (
        "test_a_job_that_somebody_took_away_is_missing",
        "test_a_run_that_the_service_forgot_is_missing_and_runs_again_under_a_new_id",
    )

    @pytest.fixture
    def service(self, tmp_path: Path) -> ClusterService:
        return SeededService(tmp_path, FORGETFUL)


class TestAuthorWhoForgetsWhatAPromiseNeeds(Seeded):
    """The author promises logs, and does not say what a log holds: the test fails, and is not skipped."""

    plugin = "cluster_plugin:PLUGIN"
    CAUGHT_BY = ("test_a_log_is_whole_and_its_tail_is_its_end",)

    @pytest.fixture
    def service(self, tmp_path: Path) -> ClusterService:
        return _Silent(tmp_path)


class _Silent(SeededService):
    def logged(self, job_id: str) -> bytes:
        return super(ClusterService, self).logged(job_id)
