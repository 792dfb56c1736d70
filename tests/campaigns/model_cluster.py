"""A world whose engine is the pretend cluster of the sandbox: run ids, marks, owners and an identity.

The promises of the cluster are drawn for each history. All steps of the model work on both worlds.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from sqlite3 import Connection
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from cluster_plugin import ClusterPlugin
from model_service import SETTLE_S, Done, OwnedJobs
from model_world import ModelWorld
from reconciler.engines import registry
from reconciler.engines.bytenite.plugin import PLUGIN as BYTENITE
from reconciler.engines.port import (
    AnswerClass,
    Config,
    CredentialsError,
    Engine,
    EngineError,
    Marks,
    Observation,
    Promises,
    Reason,
    Request,
    Result,
    Schema,
    Status,
    Step,
    Target,
    Verb,
    always,
)
from reconciler.engines.sandbox.cluster import Cluster, ClusterEngine
from reconciler.engines.sandbox.faults import Fault, Faults, Kind, Operation, parse_fault
from reconciler.engines.sandbox.life import Execution, JobState
from reconciler.engines.sandbox.life import Job as ServerJob
from reconciler.engines.sandbox.runs import Run
from reconciler.rules.runs import run_id

if TYPE_CHECKING:
    from model_commands import Seam

NO_ANSWER_S = 30.0
"""How long the engine waits for an answer."""


class Plugin(ClusterPlugin):
    """The plugin of the cluster. The promises stand in the target."""

    config_schema: Schema = MappingProxyType({"type": "object"})

    def same_config(self, a: Config, b: Config) -> bool:
        return BYTENITE.same_config(a, b)

    def wording(self, target: Target, step: Step) -> tuple[Request, ...]:
        return (Request(step.verb, " ".join(_words(step)), dict(step.config) or None),)

    def promises(self, target: Target) -> Promises:
        return cast(Promises, target.settings)


PLUGIN = Plugin()


class WatchedCluster(Cluster):
    """The cluster with the ledger of the model. Each run ends at a time that is known when the run starts.

    Reads are no older than the settle time. An aborted run is active for `drain_s` seconds more.
    """

    def __init__(self, clock: Callable[[], float], job_seconds: float, drain_s: float, keeps_s: float) -> None:
        super().__init__(clock)
        self._now_s = clock
        self._job_seconds = job_seconds
        self._drain_s = drain_s
        self._keeps_s = keeps_s
        self._ends: dict[int, tuple[float, Status]] = {}
        self._waiting: dict[int, Status] = {}
        """How the runs end that wait for others, once they execute."""
        self._before: dict[str, tuple[float, list[Run]]] = {}
        self._stale = False
        self.fails = False
        """Whether the next run fails."""
        self.done: list[Done] = []
        self.by_us = False
        self.op: str | None = None

    def __del__(self) -> None:
        self.close()

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        is_inside = self._database.in_transaction
        with super()._changing() as database:
            while not is_inside and self._end_what_is_due(database):
                self._begin_what_waited()
            yield database

    def _end_what_is_due(self, database: Connection) -> bool:
        """End the runs whose time has come. Return whether there was one."""
        for number in list(self._waiting):
            query = "SELECT executes_from FROM runs WHERE number = ?"
            (from_s,) = database.execute(query, (number,)).fetchone()
            if from_s is not None:
                self._ends[number] = from_s + self._job_seconds, self._waiting.pop(number)
        due = [number for number, (at_s, _) in self._ends.items() if at_s <= self._now_s()]
        for number in due:
            at_s, status = self._ends.pop(number)
            database.execute(
                "UPDATE runs SET status = ?, ended_at = ? WHERE number = ? AND status = ?",
                (status.value, at_s, number, Status.ACTIVE.value),
            )
        return bool(due)

    def start(self, job_id: str, run_id: str, marks: Marks, config: Config, after: Collection[str] = ()) -> Run:
        self._remember(job_id)
        run = super().start(job_id, run_id, marks, config, after)
        status, self.fails = Status.FAILED if self.fails else Status.COMPLETE, False
        if after:
            self._waiting[run.number] = status
        else:
            self._ends[run.number] = run.began_at + self._job_seconds, status
        return run

    def end(self, job_id: str, status: Status = Status.COMPLETE, ref: str = "") -> None:
        self._remember(job_id)
        active = [run for run in self.runs(job_id) if run.status is Status.ACTIVE and ref in ("", run.ref)]
        for run in active:
            at_s = self._now_s() + (self._drain_s if self.by_us and run.executes_from is not None else 0.0)
            if run.number in self._waiting or at_s < self._ends[run.number][0]:
                self._ends[run.number] = at_s, status
                self._waiting.pop(run.number, None)

    def withdrawn(self) -> set[str]:
        """Return the handles of the runs that were withdrawn before they executed anything."""
        return {run.ref for run in self.runs() if run.status is Status.WITHDRAWN}

    def forget(self, job_id: str, ref: str = "") -> None:
        self._remember(job_id)
        super().forget(job_id, ref)

    def shown(self, job_id: str, keeps_ended_s: float = 0.0) -> list[Run]:
        """The runs that the cluster still shows. A config may have its run kept for a shorter time."""
        now_s = self._now_s()
        changed_s, before = self._before.get(job_id, (0.0, []))
        if self._stale and now_s - changed_s < SETTLE_S:
            return before
        runs = super().shown(job_id, self._keeps_s)
        return [run for run in runs if run.ended_at is None or run.ended_at + kept_for_s(run.config) > now_s]

    @contextmanager
    def as_before(self) -> Iterator[None]:
        """Show each job as it was before its last change."""
        self._stale = True
        try:
            yield
        finally:
            self._stale = False

    def _remember(self, job_id: str) -> None:
        self._before[job_id] = self._now_s(), self.shown(job_id)

    def enter(self, verb: Verb, job_id: str, config: Config, run_id: str = "", ref: str = "") -> None:
        """Add an execution to the ledger."""
        execution = Execution(job_id, verb, self._now_s(), "", cast(Any, config))
        self.done.append(Done(execution, self.by_us, self.op, run_id, ref))


def kept_for_s(config: Config) -> float:
    """Return for how long a config has its run kept."""
    return float(cast(float, config.get("keepFor", float("inf"))))


class WatchedEngine(ClusterEngine):
    """The engine, under faults: it finds the intent of each call, and may end the program around each call."""

    def __init__(self, world: "ClusterWorld", faults: Faults) -> None:
        super().__init__(world.database, world.promises, identity=world.identity, stages=world.stages)
        self._world = world
        self._faults = faults

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        if not self.promises.reads:
            return super().observe(job_id, run_id)
        found = self._read(Operation.READ, job_id, lambda: ClusterEngine.observe(self, job_id, run_id))
        return cast(Observation, found)

    def observe_many(self, job_ids: Collection[str]) -> Mapping[str, Observation]:
        if not (self.promises.reads and self.promises.lists):
            return {job_id: self.observe(job_id) for job_id in job_ids}

        def listed() -> Mapping[str, Observation]:
            return {job_id: ClusterEngine.observe(self, job_id) for job_id in job_ids}

        found = self._read(Operation.LIST, "", listed)
        return found if isinstance(found, Mapping) else dict.fromkeys(job_ids, found)

    def _read(self, operation: Operation, job_id: str, read: Callable[[], Any]) -> Any:
        """Read under a fault. Returns an unreadable observation, or raises, where the fault hides the answer."""
        fault = self._met(operation, job_id, is_read=True)
        try:
            if fault is None:
                return read()
            match fault.kind:
                case Kind.STALE:
                    with self._world.database.as_before():
                        return read()
                case Kind.STATUS if fault.status == 401:
                    raise CredentialsError("the token is not accepted")
                case Kind.RESET | Kind.CLOSE | Kind.HANG:
                    self._world.forward(min(fault.seconds, NO_ANSWER_S))
                    raise EngineError("the cluster can't be reached")
                case Kind.SLOW:
                    self._world.forward(min(fault.seconds, NO_ANSWER_S))
                    if fault.seconds < NO_ANSWER_S:
                        return read()
            return Observation(Status.UNREADABLE, detail=f"{fault.kind} instead of an answer")
        finally:
            self._world.fuse.pass_one()

    def _met(self, operation: Operation, job_id: str, *, is_read: bool = False) -> Fault | None:
        # Nobody can see what others do between the last check of the files and the request.
        self._world.fuse.pass_one(alone=not is_read)
        self._world.count_request()
        return self._faults.match(operation, job_id)

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        world, cluster = self._world, self._world.database
        if not may_be_sent():
            return Result(AnswerClass.NOT_SENT, message="held back")
        fault = self._met(Operation(step.verb.value), step.job_id)
        odd = world.next_odd_answer("DELETE" if step.verb is Verb.DELETE else "POST", f"/{step.verb}")
        cluster.by_us, cluster.op = True, self._op_of(step)
        world.changing.append(_words(step))
        try:
            if fault is not None and not fault.works:
                result = self._refused(fault)
            elif odd is not None and not odd.after:
                result = _LOST
            else:
                cluster.fails = fault is not None and fault.kind is Kind.FAIL
                result = self._worked(step, fault)
                cluster.fails = False
        finally:
            cluster.by_us, cluster.op = False, None
        world.fuse.pass_one()
        return result if odd is None else _LOST

    def _op_of(self, step: Step) -> str | None:
        """Return the op of the intent of a call. What is wrong with the intent is kept for the judge."""
        try:
            return self._world.intent_for(step)
        except AssertionError as fault:  # the product takes it for a failure of the engine
            self._world.faults_of_intents.append(fault)
            return None

    def _worked(self, step: Step, fault: Fault | None) -> Result:
        """Return the answer to a call that the cluster carried out, or refused for a reason of its own."""
        world = self._world
        if not world.lenient and step.verb is Verb.RUN and world.life_of(step.job_id) is JobState.RUNNING:
            taken = [run.run_id for run in world.database.shown(step.job_id)]
            if not self.promises.atomic_run or step.run_id not in taken:
                return Result(AnswerClass.REJECTED, Reason.INVALID, "the job is active", "400")
        result = super().send(step)
        if result.kind is AnswerClass.APPLIED:
            ref = result.ref if step.verb is Verb.RUN else ""
            world.database.enter(step.verb, step.job_id, dict(step.config), step.run_id, ref)
        result = result._replace(code=_CODES.get(result.reason, ""))
        if fault is None or fault.kind in (Kind.FAIL, Kind.DRAIN):
            return result
        world.forward(min(fault.seconds, NO_ANSWER_S))
        return result if fault.kind is Kind.SLOW and fault.seconds < NO_ANSWER_S else _LOST

    def _refused(self, fault: Fault) -> Result:
        """Return the answer to a call that the cluster did not carry out."""
        self._world.forward(min(fault.seconds, NO_ANSWER_S))
        if fault.kind in (Kind.NOT_OK, Kind.ERROR_IN_200):
            return Result(AnswerClass.REJECTED, Reason.OTHER, "it is not done")
        reason = _REFUSALS.get(fault.status) if fault.kind is Kind.STATUS else None
        return Result(AnswerClass.REJECTED, reason, fault.text, str(fault.status)) if reason else _LOST


def _words(step: Step) -> tuple[str, str]:
    """Return a call in words: a run names its run id, and each other call its job."""
    return step.verb.value, step.run_id if step.verb is Verb.RUN else step.job_id


_LOST = Result(AnswerClass.IN_DOUBT, message="the answer was lost")
_CODES = {Reason.NO_SUCH_JOB: "404", Reason.NOT_RUNNING: "400", Reason.INVALID: "400", Reason.OTHER_OWNER: "409"}
_REFUSALS = {
    400: Reason.INVALID,
    401: Reason.NOT_AUTHENTICATED,
    403: Reason.NOT_PERMITTED,
    404: Reason.NO_SUCH_JOB,
    429: Reason.BUSY,
}
_LIFE = {
    Status.ACTIVE: JobState.RUNNING,
    Status.COMPLETE: JobState.COMPLETE,
    Status.FAILED: JobState.FAILED,
    Status.ABORTED: JobState.ABORTED,
    Status.WITHDRAWN: JobState.ABORTED,
}


class ClusterWorld(ModelWorld):
    """One user's disk, and a cluster with these promises.

    With `stages`, a run needs a handle of `Engine.stage`. With `lenient`, a run of an active job starts a second run.
    """

    database: WatchedCluster  # type: ignore[assignment]

    def __init__(
        self,
        promises: Promises,
        *,
        job_seconds: float = 1000.0,
        lenient: bool = False,
        drain_s: float = 0.0,
        stages: bool = False,
        identity: Mapping[str, str],
    ) -> None:
        super().__init__(reads=promises.reads, job_seconds=job_seconds, lenient=lenient, drain_s=drain_s)
        self.promises = promises
        self.lenient = lenient
        self.stages = stages
        self.identity = identity
        self.target = Target("cluster", "here", promises)
        self.database = WatchedCluster(self.clock, job_seconds, drain_s, promises.keeps_ended_s)
        self.declare({})
        self._read = self._read._replace(target=self.target)

    def seams(self) -> "list[Seam]":
        known = {**registry._BUILT_IN, "cluster": "model_cluster"}
        return [(registry, "_BUILT_IN", known)]

    def engine_under(self, faults: Sequence[str]) -> Callable[[], Engine]:
        parsed = Faults([parse_fault(text) for text in faults])
        return lambda: cast(Engine, OwnedJobs(WatchedEngine(self, parsed), self))

    def intent_for(self, step: Step) -> str | None:
        """Return the op of the open intent on disk for a call, None if there is none."""
        for job_id, doubt in self.open_intents():
            if (job_id, doubt["op"], doubt["verb"]) == (step.job_id, step.marks.op, step.verb):
                assert doubt["before"] is not None or not self.options.reads, "no baseline"
                assert step.verb is not Verb.RUN or run_id(job_id, doubt["run"]) == step.run_id, (doubt, step)
                assert doubt.get("staged", "") == step.staged, (doubt, step)
                return step.marks.op
        return None

    def add_job(self, job: ServerJob) -> None:
        self.database.create(job.id)

    def forget_ended(self) -> None:
        """Do nothing: the cluster shows no run that ended too long ago."""

    def act(self, verb: Verb, job_id: str, body: bytes = b"", fault: str = "") -> int:
        cluster, there = self.database, self.life_of(job_id)
        is_active = there is JobState.RUNNING
        fits = {
            Verb.RUN: self.lenient or not is_active,
            Verb.ABORT: is_active,
            Verb.DELETE: not is_active and there is not None,
        }
        if self.is_gone(job_id) or not fits[verb]:
            return 400
        match verb:
            case Verb.RUN:
                cluster.fails = bool(fault)
                cluster.start(job_id, "", Marks(), {})
            case Verb.ABORT:
                cluster.end(job_id, Status.ABORTED)
            case Verb.DELETE:
                cluster.forget(job_id)
        cluster.enter(verb, job_id, {})
        return 200

    def withdrawn(self) -> set[str]:
        return self.database.withdrawn() if self.promises.chains else set()

    def server_job(self, job_id: str) -> ServerJob | None:
        shown = self.database.shown(job_id)
        if not shown:
            return ServerJob(job_id, created_at=0.0) if self.database.has(job_id) else None
        run = shown[0]
        return ServerJob(job_id, config=json.dumps(dict(run.config)), created_at=0.0, submitted_at=run.began_at)

    def life_of(self, job_id: str) -> JobState | None:
        shown = self.database.shown(job_id)
        if shown:
            return _LIFE[shown[0].status]
        return JobState.NEW if self.database.has(job_id) else None

    def ended_by_itself(self, job_id: str) -> bool:
        runs = self.database.runs(job_id)
        return bool(runs) and runs[-1].status in (Status.COMPLETE, Status.FAILED)

    def is_gone(self, job_id: str) -> bool:
        return not self.promises.creates_on_run and self.life_of(job_id) is None
