"""The part of the contract of an engine about calls that are refused after an answer was lost.

The first call for a run was carried out, and its answer was lost. What is asked next is refused: the credentials have
expired meanwhile, or there is any other reason. Such a refusal says nothing about the first call.
"""

import json
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from reconciler.engines.port import AnswerClass, Engine, EnginePlugin, Reason, Status, Step, Verb
from reconciler.model.jobs import Desired, Record
from reconciler.state.registry import plugin_of
from reconciler.testing import between
from reconciler.testing.between import LOST, Script
from reconciler.testing.engine_base import EngineUnderTest, await_status, gone, is_readable, prepare, send
from reconciler.testing.machines import Machine
from reconciler.testing.services import Service, opened, step, target_of

_TELLS_OF_RUN_ID = frozenset({Reason.WAS_THERE, Reason.OTHER_OP, Reason.OTHER_OWNER})

OF_ONE_CALL = (Reason.NOT_PERMITTED, Reason.INVALID, Reason.NO_SUCH_JOB, Reason.BUSY, Reason.OTHER, Reason.NOT_RUNNING)
"""The reasons that say nothing about a run id. NOT_AUTHENTICATED is one more, and ends all calls of an apply."""

_OF_ONE_ABORT = (Reason.NOT_PERMITTED, Reason.INVALID, Reason.BUSY, Reason.OTHER)
"""The reasons that do not say that there is nothing to abort."""

_PROGRAM_S = 120.0
"""How long an apply may take. After that it counts as hanging, which fails the test."""

_IN_DOUBT = 5
"""The exit code of an apply that leaves a call in doubt."""


class RefusalContract(EngineUnderTest):
    """A refusal is about one call. A run whose answer was lost stays in doubt until something is known about it."""

    def test_a_refusal_of_one_call_is_not_taken_for_a_word_about_its_run_id(
        self, engine_plugin: EnginePlugin, engine: Engine, service: Service
    ) -> None:
        prepare(engine, service, "nightly", "weekly")
        ran, other = (step(Verb.RUN, job_id, config=service.config()) for job_id in ("nightly", "weekly"))
        assert send(engine, ran).kind is AnswerClass.APPLIED
        with service.refusing() as block:
            if block is None:
                pytest.skip("the author has no service that refuses calls: see Service.refusing")
            with opened(engine_plugin, service, block) as refused:
                again, first = (_sent_without_stage(engine, refused, one) for one in (ran, other))
        assert (service.runs("nightly"), service.runs("weekly")) == (1, 0)
        # A service may look first whether there is a run of this id.
        if again.kind is not AnswerClass.APPLIED and again.reason is not Reason.WAS_THERE:
            assert again.kind is AnswerClass.REJECTED, again
            assert again.reason not in _TELLS_OF_RUN_ID, again
        assert first.kind is AnswerClass.REJECTED, first
        assert first.reason not in _TELLS_OF_RUN_ID, first
        assert send(engine, other).kind is AnswerClass.APPLIED
        assert service.runs("weekly") == 1

    @pytest.mark.parametrize("reasons", [(Reason.NOT_AUTHENTICATED,), OF_ONE_CALL], ids=["credentials", "one call"])
    def test_a_run_whose_answer_was_lost_stays_in_doubt_while_what_follows_is_refused(
        self, engine_plugin: EnginePlugin, engine: Engine, service: Service, reasons: tuple[Reason, ...], tmp_path: Path
    ) -> None:
        """The whole program applies a manifest with a job for each reason: twice under refusals, and once without."""
        jobs = {f"job-{number}": reason for number, reason in enumerate(reasons)}
        prepare(engine, service, *jobs)
        fleet = _Fleet(tmp_path / "fleet", self.plugin, service, jobs)
        lost = {job_id: [LOST, reason.value] for job_id, reason in jobs.items()}
        fleet.apply(lost, reads_are_refused=True, exit_codes={_IN_DOUBT})
        self._are_in_doubt(fleet, engine_plugin, service, jobs)
        refused = {job_id: [reason.value] for job_id, reason in jobs.items()}
        fleet.apply(refused, reads_are_refused=True, from_start=True, exit_codes=range(1, 6))
        self._are_in_doubt(fleet, engine_plugin, service, jobs)
        is_settled = engine.promises.atomic_run or is_readable(engine, service)
        fleet.apply({}, exit_codes={0} if is_settled else {_IN_DOUBT})
        if not is_settled:
            self._are_in_doubt(fleet, engine_plugin, service, jobs)
            return
        records = fleet.records(engine_plugin)
        assert {name: (record.state, record.doubt) for name, record in records.items()} == dict.fromkeys(
            jobs, (Desired.RUNNING, None)
        )
        fleet.started_once()

    def test_an_abort_whose_answer_was_lost_stays_in_doubt_while_what_follows_is_refused(
        self, engine_plugin: EnginePlugin, engine: Engine, service: Service, tmp_path: Path
    ) -> None:
        """The same for an abort. An apply without refusals settles it if the jobs can be observed."""
        jobs = {f"job-{number}": reason for number, reason in enumerate(_OF_ONE_ABORT)}
        prepare(engine, service, *jobs)
        fleet = _Fleet(tmp_path / "fleet", self.plugin, service, jobs)
        fleet.apply({}, exit_codes={0})
        fleet.declare(Desired.ABORTED)
        lost = {job_id: [LOST, reason.value] for job_id, reason in jobs.items()}
        fleet.apply(lost, reads_are_refused=True, exit_codes={_IN_DOUBT})
        self._are_in_doubt(fleet, engine_plugin, service, jobs)
        refused = {job_id: [reason.value] for job_id, reason in jobs.items()}
        fleet.apply(refused, reads_are_refused=True, from_start=True, exit_codes=range(1, 6))
        self._are_in_doubt(fleet, engine_plugin, service, jobs)
        if not is_readable(engine, service):
            fleet.apply({}, exit_codes={_IN_DOUBT})
            self._are_in_doubt(fleet, engine_plugin, service, jobs)
            return
        fleet.apply({}, exit_codes={0})
        records = fleet.records(engine_plugin)
        assert {(record.state, record.doubt) for record in records.values()} == {(Desired.ABORTED, None)}
        ended = {Status.ABORTED, *gone(service)}
        # A service may give a run some time to end.
        assert {await_status(engine, job_id, ended).status for job_id in jobs} <= ended
        fleet.started_once()

    def _are_in_doubt(self, fleet: "_Fleet", plugin: EnginePlugin, service: Service, jobs: Iterable[str]) -> None:
        records = fleet.records(plugin)
        for job_id in jobs:
            record = records.get(job_id)
            assert record is not None, f"nothing is recorded about {job_id}, whose run may have been started"
            assert record.doubt is not None, f"the first call for {job_id} is in doubt no more, though nothing is known"
        fleet.started_once()


class _Fleet:
    """A folder with a manifest, whose engine is the one under test behind a script."""

    def __init__(self, folder: Path, plugin: str, service: Service, jobs: Iterable[str]) -> None:
        self._folder, self._service, self._jobs = folder, service, list(jobs)
        folder.mkdir()
        engine = service.block["engine"]
        self._script = Script(engine, plugin, service.beside_state, str(folder / "sent.jsonl"), {}, False, False)
        environment = {name: value for name, value in service.environment.items() if not name.startswith("RECONCILER_")}
        homes = {name: str(folder / name) for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")}
        path = between.installed_in(folder / "site", environment.get("PYTHONPATH", ""))
        self._environment = {**environment, **homes, "PYTHONPATH": path, between.SCRIPT: str(folder / "script.json")}
        self.declare(Desired.RUNNING)

    def declare(self, state: Desired) -> None:
        """Write the manifest, in which all jobs are to be in this state."""
        job = {"state": state.value, "config": dict(self._service.config())}
        manifest = {
            "apiVersion": "reconciler/v1",
            "target": {**self._service.block, "engine": between.NAME},
            "jobs": dict.fromkeys(self._jobs, job),
        }
        # JSON is YAML.
        (self._folder / "jobs.yaml").write_text(json.dumps(manifest), "utf-8")

    def apply(
        self,
        sends: Mapping[str, list[str]],
        *,
        exit_codes: Collection[int],
        reads_are_refused: bool = False,
        from_start: bool = False,
    ) -> None:
        """Apply the manifest, and do to the calls what `sends` says of each job."""
        script = self._script._replace(sends=sends, refused=reads_are_refused, refused_from_start=from_start)
        (self._folder / "script.json").write_text(json.dumps(script._asdict()), "utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "reconciler", "apply", "jobs.yaml", "--yes", "--settle", "0"],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PROGRAM_S,
            check=False,
        )
        assert done.returncode in exit_codes, f"{done.returncode}: {done.stdout}{done.stderr}"

    def records(self, plugin: EnginePlugin) -> Mapping[str, Record]:
        """Return what the state has of the jobs, as another machine reads it."""
        path = str(self._folder / "jobs.state.json")
        around = Machine("reader", str(self._folder / "reader")).surroundings({})
        target = target_of(plugin, self._service.block)._replace(engine=between.NAME)
        state = plugin_of(path).open(path, around).read(target)
        return {} if state is None else state.jobs

    def started_once(self) -> None:
        """Fail if any job was run twice, or was asked for under a second run id."""
        for job_id in self._jobs:
            assert self._service.runs(job_id) == 1, f"{job_id} was started {self._service.runs(job_id)} times"
        sent = between.sent_in(Path(self._script.log))
        runs = {(call.job_id, call.run_id) for call in sent if call.verb == Verb.RUN}
        assert runs == {(job_id, f"{job_id}-1") for job_id in self._jobs}, "a call left under another run id"


def _sent_without_stage(engine: Engine, refused: Engine, wanted: Step) -> Any:
    """Send a call under refusals. What comes before it was made ready when nothing was refused yet."""
    return refused.send(wanted._replace(staged=engine.stage(wanted)))
