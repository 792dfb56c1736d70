"""The service of the model: the sandbox in memory with its ledger, and the transport that finds each call's intent."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from reconciler.engines.http.reply import Reply
from reconciler.engines.port import Engine, Result, Step, always
from reconciler.engines.sandbox import answers, life
from reconciler.engines.sandbox import service as service_module
from reconciler.engines.sandbox.direct import DirectTransport
from reconciler.engines.sandbox.faults import Kind
from reconciler.engines.sandbox.life import Database, Execution
from reconciler.engines.sandbox.life import Job as ServerJob
from reconciler.engines.sandbox.service import Service
from reconciler.model.jobs import Marks, Observation, Target, Verb

if TYPE_CHECKING:
    from model_commands import CommandWorld

TOKEN = "an-access-token"
ENDPOINT = "http://127.0.0.1:1/v1/customer"
TARGET = Target("bytenite", ENDPOINT)
SETTLE_S = 60.0
KEEPS_ENDED_S = 20_000.0
"""How long a service that forgets still knows a run that has ended. Commands take less time than that."""


class Done(NamedTuple):
    """One line of the ledger: the execution, who caused it, and the op of its intent on disk, None for no intent.

    `run_id` is the run id of a run, "" without one. `ref` is the handle of a run of a cluster, else "".
    """

    execution: Execution
    by_us: bool
    op: str | None
    run_id: str = ""
    ref: str = ""


class WatchedDatabase(Database):
    """The sandbox's database as a mapping, with its ledger. Reads are assumed to be no older than the settle time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._jobs: dict[str, tuple[ServerJob, ServerJob | None, float]] = {}
        """Each job, the job before its last change, and when that change was."""
        self.done: list[Done] = []
        self.by_us = False
        self.op: str | None = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        before = dict(self._jobs)
        try:
            yield
        except BaseException:
            self._jobs = before
            raise

    def forget(self, job_id: str) -> None:
        """Drop all that the service knows of a job. The ledger stays."""
        self._jobs.pop(job_id, None)

    def enter(self, execution: Execution) -> None:
        self.done.append(Done(execution, self.by_us, self.op))

    def keep(self, job: ServerJob, before: ServerJob | None) -> None:
        self._jobs[job.id] = job, before, self._clock()

    def find(self, job_id: str) -> tuple[ServerJob | None, ServerJob | None]:
        stored, before, kept_at = self._jobs.get(job_id, (None, None, 0.0))
        return stored, before if self._clock() - kept_at < SETTLE_S else stored

    def page(self, limit: int, offset: int) -> tuple[int, list[ServerJob]]:
        there = [job for job, _, _ in self._jobs.values() if job.deleted_at is None]
        there.sort(key=lambda job: (job.created_at or 0.0, job.id))
        return len(there), there[offset : offset + limit]

    def note(self, call: object) -> None:
        """Ignore the call, since the transport counts the calls."""

    def close(self) -> None:
        """Do nothing, since there is no file."""


class CreatingService(Service):
    """The service of an engine whose run creates the job: a job that is not there is missing until its first run."""

    def _start(self, *arguments: Any) -> ServerJob:
        started: ServerJob = getattr(service_module, "run")(*arguments)  # noqa: B009  the model replaces it
        return started

    def _run(self, routed: Any, config: Any) -> Any:
        stored, _ = self._database.find(routed.job_id)
        if stored is not None and stored.deleted_at is None:
            return super()._run(routed, config)
        failing = routed.fault is not None and routed.fault.kind is Kind.FAIL
        made = ServerJob(routed.job_id, created_at=routed.now)
        failure = "a simulated fault failed this run" if failing else ""
        after = self._start(made, config, routed.now, self._options.job_seconds, failure)
        return self._changed(routed, stored, after, Verb.RUN, config)


class OwnedJobs:
    """An engine that tells of some jobs whose they are. It stands for one whose objects bear marks."""

    def __init__(self, engine: Engine, world: "CommandWorld") -> None:
        self._engine = engine
        self._world = world
        self.promises = world.promises

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        return self._owned(job_id, self._engine.observe(job_id, run_id))

    def observe_many(self, job_ids: Collection[str]) -> Mapping[str, Observation]:
        return {job_id: self._owned(job_id, seen) for job_id, seen in self._engine.observe_many(job_ids).items()}

    def observe_all(self) -> Iterator[tuple[str, Observation]]:
        for job_id, seen in self._engine.observe_all():
            yield job_id, self._owned(job_id, seen)

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        if step.job_id in self._world.foreign:
            self._world.trespasses.append(step)
        return self._engine.send(step, may_be_sent)

    def _owned(self, job_id: str, seen: Observation) -> Observation:
        if job_id not in self._world.foreign:
            return seen
        # The object is theirs, and so is not the one that a record of ours names.
        return seen._replace(marks=Marks(lineage="another team"), ref=seen.ref and f"{seen.ref} of another team")


class WatchedTransport(DirectTransport):
    """Carries the reconciler's requests, finds their intents, and may end the program before or after each request."""

    def __init__(self, world: "CommandWorld", service: Service) -> None:
        super().__init__(service, clock=world.clock, pause=world.stop.wait)
        self._world = world

    def exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        world = self._world
        # Nobody can see what others do between the last check of the files and the request.
        world.fuse.pass_one(alone=method != "GET")
        world.count_request()
        database = world.database
        database.by_us, database.op = (
            True,
            None if method == "GET" else world.intent_of(method, url.removeprefix(ENDPOINT)),
        )
        if method != "GET":
            world.changing.append((method, url.removeprefix(ENDPOINT)))
        odd = world.next_odd_answer(method, url)
        try:
            if odd is None or odd.after:
                reply = self._reworded(super().exchange(method, url, headers, body))
            if odd is not None:
                reply = self._whole(answers.Response(200, odd.body))
        finally:
            database.by_us, database.op = False, None
        world.fuse.pass_one()
        return reply

    def _reworded(self, reply: Reply) -> Reply:
        """Rewrite the reply as a service that leaves out some fields and formats times in its own way."""
        world, document = self._world, reply.document
        if not isinstance(document, dict):
            return reply
        if "data" in document:
            worded = next(world.list_wordings)
            return replace(reply, document={**document, "data": [world.shown(job, worded) for job in document["data"]]})
        job = document.get("job")
        if job is None:
            return reply
        if job["id"] in world.unreadable:
            return Reply(sent=True, status=500)
        return replace(reply, document={"job": world.shown(job, next(world.read_wordings))})


Wording = Callable[[datetime], str]
"""A format for an instant that RFC 3339 allows."""


def _in_zone(moment: datetime) -> str:
    return moment.astimezone(timezone(timedelta(hours=2))).isoformat(timespec="microseconds")


WORDINGS: tuple[Wording, ...] = (
    lambda moment: moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
    lambda moment: moment.isoformat(timespec="microseconds"),
    lambda moment: moment.isoformat(timespec="microseconds").replace("+00:00", "000Z"),
    _in_zone,
)
"""The formats of a service for one and the same instant."""


def run_anew(job: ServerJob, config: life.RunConfig, now: float, job_seconds: float, failure: str = "") -> ServerJob:
    if life.state(job, now) is life.JobState.RUNNING:
        job = job._replace(ends_at=now, aborted_at=None)
    return life.run(job, config, now, job_seconds, failure)
