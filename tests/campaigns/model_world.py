"""A world in memory: the real use cases over a disk, a clock and a service that take no time.

Time passes only while something waits. A fuse ends the program at any operation of the disk or the network, and data
written before that operation stays.
"""

import re
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from errno import ENOENT
from itertools import count, cycle
from random import Random
from tempfile import TemporaryDirectory
from threading import Event as Flag
from typing import Any, NamedTuple, cast

from no_thread import NoThread
from reconciler.engines import many
from reconciler.engines.bytenite import plugin as plugin_module
from reconciler.engines.bytenite.auth import Credentials
from reconciler.engines.bytenite.engine import ByteniteEngine
from reconciler.engines.bytenite.wire import PROMISES
from reconciler.engines.http.reply import Reply
from reconciler.engines.port import Result, Step, always
from reconciler.engines.sandbox import answers, life
from reconciler.engines.sandbox import service as service_module
from reconciler.engines.sandbox.direct import DirectTransport
from reconciler.engines.sandbox.faults import Faults, Kind, parse_fault
from reconciler.engines.sandbox.life import Database, Execution
from reconciler.engines.sandbox.life import Job as ServerJob
from reconciler.engines.sandbox.service import Options, Request, Service
from reconciler.host import threads
from reconciler.host.clocks import Clocks
from reconciler.manifest import Manifest
from reconciler.manifest.document import Document
from reconciler.model.errors import ExitCode, LockTaken, ReconcilerError
from reconciler.model.jobs import Job, Marks, Observation, Record, State, Target, Verb
from reconciler.model.outcomes import ActionOutcome, Outcome
from reconciler.model.plan import ActionKind, Plan
from reconciler.state import file_lock, writer
from reconciler.state.file_lock import FileContext
from reconciler.state.file_store import FileStore
from reconciler.state.homes import CheckedStore, Home
from reconciler.state.journal import decode
from reconciler.usecases import state as state_commands
from reconciler.usecases.apply import apply
from reconciler.usecases.apply_options import ApplyOptions, Interaction
from reconciler.usecases.engines import Pace
from reconciler.usecases.plan import plan
from reconciler.usecases.resolve import resolve
from reconciler.usecases.selection import Selection
from reconciler.usecases.world import World
from workspaces import GivenWorkspace

TOKEN = "an-access-token"
ENDPOINT = "http://127.0.0.1:1/v1/customer"
TARGET = Target("bytenite", ENDPOINT)
SETTLE_S = 60.0
KEEPS_ENDED_S = 20_000.0
"""How long a service that forgets still knows a run that has ended. Commands take less time than that."""

STATE = "jobs.state.json"
JOURNAL = f"{STATE}.journal"
LOCK = f"{STATE}.lock"
HISTORY = "jobs.history.jsonl"
# The folder of the marks is made on the real disk, and stays empty.
_FOLDER = TemporaryDirectory(prefix="reconciler-model-")
MARKS = _FOLDER.name


class Crash(BaseException):
    """The program is gone. The product must not catch this exception, and has no further effect."""


class Fuse:
    """Ends the program before its n-th operation, and before each later one; can let others act before an operation."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.burnt = False
        self._meanwhile: Callable[[], object] | None = None
        self._before = 0

    def meanwhile(self, operations: int, act: Callable[[], object] | None) -> None:
        """Call `act` before the operation that follows after `operations` others."""
        self._before, self._meanwhile = operations, act

    def set(self, operations: int | None) -> None:
        """End the program after this many operations; None never ends it."""
        self.left, self.burnt = operations, False

    def pass_one(self, *, alone: bool = False) -> None:
        """Begin the next operation.

        Others do not act before an operation that is `alone`, but before the one after it.
        """
        self._before -= 1
        if self._before < 0 and not alone and self._meanwhile is not None:
            act, self._meanwhile = self._meanwhile, None
            act()
        if self.left == 0:
            self.burnt = True
        if self.burnt:
            raise Crash
        if self.left is not None:
            self.left -= 1


Files = dict[str, bytearray]
"""A folder: file names and contents. An open file is the content itself, even after its name changed."""


class MemoryDisk:
    """A `Disk` that loses nothing. `changes` counts its changes; a torn write leaves its first half.

    `files` is the folder at the path. Someone else may change the path to another folder. A program that holds the
    first folder stays with that folder.
    """

    def __init__(self, fuse: Fuse) -> None:
        self.fuse = fuse
        self.files: Files = {}
        self.changes = 0
        self.held: list[Files] = []
        self.reads: Counter[str] = Counter()
        self._locks: list[bytearray] = []

    @property
    def _there(self) -> Files:
        return self.held[-1] if self.held else self.files

    def change(self) -> None:
        self.fuse.pass_one()
        self.changes += 1

    def put(self, path: str, content: bytes | None) -> None:
        """Write or remove a file, as somebody else."""
        self.changes += 1
        if content is None:
            self.files.pop(path, None)
        else:
            self.files[path] = bytearray(content)

    def lead_to(self, files: Files) -> None:
        """Change the path to another folder."""
        self.changes += 1
        self.files = files

    def read(self, path: str) -> bytes | None:
        self.reads[path] += 1
        found = self._there.get(path)
        return None if found is None else bytes(found)

    def create(self, path: str, mode: int) -> "MemoryFile":
        self.change()
        self._there[path] = bytearray()
        return MemoryFile(self, self._there[path])

    def rename(self, old: str, new: str) -> None:
        # A check and a rename are two steps, so others act after the rename instead of before it.
        self.fuse.pass_one(alone=True)
        self.changes += 1
        if old not in self._there:
            raise FileNotFoundError(ENOENT, "No such file or directory")
        self._there[new] = self._there.pop(old)

    def remove(self, path: str) -> None:
        self.fuse.pass_one(alone=True)
        self.changes += 1
        if self._there.pop(path, None) is None:
            raise FileNotFoundError(ENOENT, "No such file or directory")

    def sync_folder(self, path: str) -> None:
        self.fuse.pass_one()

    def mode(self, path: str) -> int | None:
        return 0o600 if path in self._there else None

    @contextmanager
    def hold(self, path: str) -> Iterator[None]:
        self.held.append(self._there)
        try:
            yield
        finally:
            self.held.pop()

    def stamp(self, path: str) -> object:
        content = self._there.get(path)
        return None if content is None else (id(content), bytes(content))

    def is_at(self, path: str, file: object) -> bool:
        return isinstance(file, MemoryFile) and self._there.get(path) is file.content

    @contextmanager
    def locked(self, path: str, *_: object) -> "Iterator[HeldLock]":
        """A substitute for `state.lock.locked`: the lock belongs to the file, and is gone when the file is."""
        there = self._there
        content = there.setdefault(path, bytearray(b"{}"))
        if any(content is held for held in self._locks):
            raise LockTaken(f"the state is locked ({path})", "wait for it to end and try again")
        self._locks.append(content)
        try:
            yield HeldLock(there, path, content)
        finally:
            self._locks = [held for held in self._locks if held is not content]
            if not self.fuse.burnt and there.get(path) is content:
                del there[path]


class HeldLock(NamedTuple):
    """A lock that is held on a file of a `MemoryDisk`."""

    files: Files
    path: str
    content: bytearray

    def is_held(self) -> bool:
        """Whether the lock file is still the file that was locked."""
        return self.files.get(self.path) is self.content


class MemoryFile:
    """An open file of a `MemoryDisk`."""

    def __init__(self, disk: MemoryDisk, content: bytearray) -> None:
        self._disk = disk
        self.content = content

    def write(self, offset: int, content: bytes) -> None:
        try:
            self._disk.change()
        except Crash:
            if self._disk.fuse.left == 0:
                self._put(offset, content[: len(content) // 2])
                self._disk.fuse.left = -1
            raise
        self._put(offset, content)

    def _put(self, offset: int, content: bytes) -> None:
        self.allocate_bytes(offset + len(content))
        self.content[offset : offset + len(content)] = content

    def allocate(self, size_bytes: int) -> None:
        self._disk.change()
        self.allocate_bytes(size_bytes)

    def allocate_bytes(self, size_bytes: int) -> None:
        self.content.extend(bytes(max(0, size_bytes - len(self.content))))

    def sync(self) -> None:
        self._disk.fuse.pass_one()

    def read(self) -> bytes:
        return bytes(self.content)

    def close(self) -> None:
        pass


class Done(NamedTuple):
    """One line of the ledger: the execution, who caused it, and the op of its intent on disk, None for no intent."""

    execution: Execution
    by_us: bool
    op: str | None


class WatchedDatabase(Database):
    """The sandbox's database in memory, with its ledger. Reads are assumed to be no older than the settle time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(":memory:")
        self._clock = clock
        self._kept_at: dict[str, float] = {}
        self.done: list[Done] = []
        self.by_us = False
        self.op: str | None = None

    def __del__(self) -> None:
        self.close()

    def forget(self, job_id: str) -> None:
        """Drop all that the service knows of a job. The ledger stays."""
        with self.transaction():
            self._sql.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def enter(self, execution: Execution) -> None:
        self.done.append(Done(execution, self.by_us, self.op))

    def keep(self, job: ServerJob, before: ServerJob | None) -> None:
        super().keep(job, before)
        self._kept_at[job.id] = self._clock()

    def find(self, job_id: str) -> tuple[ServerJob | None, ServerJob | None]:
        stored, before = super().find(job_id)
        return stored, before if self._clock() - self._kept_at.get(job_id, 0.0) < SETTLE_S else stored

    def note(self, call: object) -> None:
        """Ignore the call, since the transport counts the calls."""


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

    def __init__(self, engine: ByteniteEngine, world: "ModelWorld") -> None:
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
        return seen._replace(marks=Marks(lineage="another team")) if job_id in self._world.foreign else seen


class WatchedTransport(DirectTransport):
    """Carries the reconciler's requests, finds their intents, and may end the program before or after each request."""

    def __init__(self, world: "ModelWorld", service: Service) -> None:
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


class SteppedFlag(Flag):
    """A stop flag whose wait takes no time. The flag can be set at the n-th request."""

    def __init__(self, forward: Callable[[float], None]) -> None:
        super().__init__()
        self._forward = forward

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            self._forward(timeout or 0.0)
        return self.is_set()


class OddAnswer(NamedTuple):
    """A 200 that does not say that the call was done: the call, and whether it was done nevertheless.

    `verb` is the verb of the call; the first `skip` calls of this verb get honest answers.
    """

    verb: Verb
    body: bytes
    after: bool
    skip: int = 0


class How(NamedTuple):
    """What goes wrong during a command: a crash, an interruption, a fault of the service, an odd answer.

    `meanwhile` is called before the operation (of the disk or the network) with the number `meanwhile_at`.
    """

    crash_at: int | None = None
    stop_at: int | None = None
    faults: tuple[str, ...] = ()
    odd: OddAnswer | None = None
    meanwhile: Callable[[], object] | None = None
    meanwhile_at: int = 0

    @property
    def is_honest(self) -> bool:
        return self == How()


HONEST = How()


class Ended(NamedTuple):
    """The end of an apply; `outcomes` is empty if the apply crashed or was refused."""

    outcomes: tuple[ActionOutcome, ...] = ()
    exit_code: ExitCode | None = None
    refusal: ReconcilerError | None = None
    crashed: bool = False
    changing: tuple[tuple[str, str], ...] = ()


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


def _run_anew(job: ServerJob, config: life.RunConfig, now: float, job_seconds: float, failure: str = "") -> ServerJob:
    if life.state(job, now) is life.JobState.RUNNING:
        job = job._replace(ends_at=now, aborted_at=None)
    return life.run(job, config, now, job_seconds, failure)


_Seam = tuple[Any, str, Any]
"""A module, a name in it, and the substitute for that name in this world."""


@contextmanager
def _with(seams: Sequence[_Seam]) -> Iterator[None]:
    real = [(module, name, getattr(module, name)) for module, name, _ in seams]
    try:
        for module, name, value in seams:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in real:
            setattr(module, name, value)


class ModelWorld:
    """One user's disk and one service. All commands go through `app`."""

    def __init__(
        self,
        *,
        reads: bool = True,
        create_missing: bool = False,
        job_seconds: float = 1000.0,
        lenient: bool = False,
        drain_s: float = 0.0,
        notes_after_s: float | None = None,
        wordings: bool = False,
        lists: bool = False,
        creates: bool = False,
    ) -> None:
        """Make a world.

        With `lenient`, a run of an active job starts another run instead of an error. An aborted job stays active for
        `drain_s` seconds. The service adds another timestamp to a run `notes_after_s` seconds after the run's end. With
        `wordings`, every read formats times differently. With `lists`, the list of jobs is read instead of single jobs,
        as for many jobs. With `creates`, a run creates its job, and the service forgets a job `KEEPS_ENDED_S` seconds
        after its end.
        """
        self.promises = PROMISES._replace(creates_on_run=True, keeps_ended_s=KEEPS_ENDED_S) if creates else PROMISES
        self.foreign: set[str] = set()
        self.trespasses: list[Step] = []
        """The calls for jobs of other owners."""
        self._run = _run_anew if lenient else life.run
        self._drain_s = drain_s
        self._drain = (f"abort:drain:seconds={drain_s:g}",) if drain_s else ()
        self._notes_after_s = notes_after_s
        self._lists = lists
        self._words_times = wordings
        self.read_wordings: Iterator[Wording] = cycle(WORDINGS[::-1] if wordings else WORDINGS[:1])
        self.list_wordings: Iterator[Wording] = cycle(WORDINGS if wordings else WORDINGS[:1])
        self._odd: OddAnswer | None = None
        self.remarks: list[str] = []
        self.guards: Mapping[str, int | str] = {}
        self.fuse = Fuse()
        self.disk = MemoryDisk(self.fuse)
        self._now = 1_800_000_000.0
        self.database = WatchedDatabase(self.clock)
        self.options = Options(TOKEN, "", 3600, job_seconds, create_missing, reads)
        self.tells_config = True
        self.unreadable: frozenset[str] = frozenset()
        self.manifest = Manifest(TARGET, {}, {}, {})
        self.changing: list[tuple[str, str]] = []
        self.names_state = False
        """Whether commands name the state with --state, which allows an empty state."""
        self.stop = SteppedFlag(self.forward)
        self.stop_at: int | None = None
        self._numbers = count(1)
        self._read_at = -1
        self._read = State("", 0, TARGET, {})

    def clock(self) -> float:
        """Return seconds since 1970. No two calls return the same time, so that no two runs have the same time."""
        self._now += 0.001
        return self._now

    def forward(self, seconds: float) -> None:
        self._now += seconds

    def count_request(self) -> None:
        if self.stop_at is not None:
            if self.stop_at == 0:
                self.stop.set()
            self.stop_at -= 1

    def randbytes(self, size: int) -> bytes:
        return next(self._numbers).to_bytes(size, "big")

    def service(self, faults: Iterable[str] = ()) -> Service:
        parsed = Faults([parse_fault(text) for text in (*faults, *self._drain)])
        self.forget_ended()
        made = CreatingService if self.promises.creates_on_run else Service
        return made(self.database, parsed, self.options, self.clock, self.randbytes)

    def store(self) -> FileStore:
        around = FileContext(
            disk=self.disk,
            marks_folder=MARKS,
            who="ada",
            now=lambda: "2026-11-21T10:00:00Z",
            new_lineage=lambda: f"lineage-{next(self._numbers)}",
            wait=lambda seconds: False,
        )
        return FileStore(STATE, around)

    def checked_store(self) -> CheckedStore:
        """Return the store as commands use it: it refuses an empty state if the history has records."""
        home = Home(STATE, ".", ".", "--state" if self.names_state else "")
        return CheckedStore(self.store(), home, ("jobs.yaml",), lambda _: None)

    @property
    def state(self) -> State:
        """The recorded state, the journal included. Raises `StateError`."""
        if self._read_at != self.disk.changes:
            self._read = self.store().read(TARGET) or State("", 0, TARGET, {})
            self._read_at = self.disk.changes
        return self._read

    def declare(self, jobs: Mapping[str, Job]) -> None:
        """Write the manifest."""
        jobs = dict(sorted(jobs.items()))
        document = Document("jobs.yaml", {"jobs": dict.fromkeys(jobs)}, array("Q"), {})
        self.manifest = Manifest(TARGET, jobs, self.guards, dict.fromkeys(jobs, document))

    def set_guards(self, guards: Mapping[str, int | str]) -> None:
        """Write the manifest with these guards."""
        self.guards = guards
        self.declare(self.manifest.jobs)

    def shown(self, job: Mapping[str, Any], wording: Wording) -> dict[str, Any]:
        """Return the job as the service shows it now, with its times in this format."""

        def worded(value: str | None) -> str | None:
            # If the world has no formats of its own, a time stays as the service wrote it, even with an odd number of
            # digits.
            return value if value is None or not self._words_times else wording(datetime.fromisoformat(value))

        shown = {name: worded(value) if name.endswith("At") else value for name, value in job.items()}
        stamps = {word: worded(value) for word, value in job["stateTimestamps"].items()}
        if self._notes_after_s is not None and job["endedAt"] is not None:
            noted_s = datetime.fromisoformat(job["endedAt"]).timestamp() + self._notes_after_s
            if noted_s <= self._now:
                stamps["JOB_STATE_ARCHIVED"] = wording(datetime.fromtimestamp(noted_s, UTC))
        shown["stateTimestamps"] = stamps
        if not self.tells_config:
            del shown["config"]
        return shown

    def next_odd_answer(self, method: str, url: str) -> OddAnswer | None:
        """Return the odd answer to this call, None if the call gets an honest answer."""
        odd = self._odd
        verb = Verb.DELETE if method == "DELETE" else url.rpartition("/")[2]
        if odd is None or method == "GET" or verb != odd.verb:
            return None
        self._odd = odd._replace(skip=odd.skip - 1) if odd.skip else None
        return None if odd.skip else odd

    def add_job(self, job: ServerJob) -> None:
        """Put a job on the server, as if the job had always existed."""
        with self.database.transaction():
            self.database.keep(job, None)

    def forget_ended(self) -> None:
        """Let the service forget each job that ended too long ago."""
        for job_id in self.known if self.promises.creates_on_run else ():
            there = self.server_job(job_id)
            if there is not None and there.submitted_at is not None and there.deleted_at is None:
                ended_s = min(one for one in (there.ends_at, there.aborted_at) if one is not None)
                if self._now - ended_s > KEEPS_ENDED_S:
                    self.database.forget(job_id)

    @property
    def known(self) -> set[str]:
        """The ids of all jobs of which the ledger has an execution."""
        return {done.execution.job_id for done in self.database.done}

    def act(self, verb: Verb, job_id: str, body: bytes = b'{"config": {}}', fault: str = "") -> int:
        """Call the service as somebody else; return the status."""
        path = f"/v1/customer/jobs/{job_id}" + ("" if verb is Verb.DELETE else f"/{verb}")
        method = "DELETE" if verb is Verb.DELETE else "POST"
        request = Request(method, path, TOKEN, "application/json", body if verb is Verb.RUN else b"")
        with _with([(service_module, "run", self._run)]):
            return self.service([fault] if fault else []).answer(request)[0].status

    def intent_of(self, method: str, path: str) -> str | None:
        """Return the op of the open intent on disk for such a call, None if there is none."""
        verb = Verb.DELETE if method == "DELETE" else path.rpartition("/")[2]
        content = self.disk.read(JOURNAL)
        entries = [] if content is None else decode(content, JOURNAL)
        concluded = {entry["op"] for entry in entries if entry["type"] == "result"}
        job_id = path.split("/")[2]
        intents = [
            entry["doubt"]
            for entry in entries
            if entry["type"] == "intent"
            and (entry["id"], entry["doubt"]["verb"]) == (job_id, verb)
            and entry["doubt"]["op"] not in concluded
        ]
        assert all(intent["before"] is not None for intent in intents) or not self.options.reads, "no baseline"
        return str(intents[-1]["op"]) if intents else None

    @contextmanager
    def wired(self, faults: Sequence[str] = ()) -> Iterator[GivenWorkspace]:
        """Yield the workspace of this world's manifest, disk and service."""
        asked = self.service(faults)

        @contextmanager
        def engine() -> Iterator[ByteniteEngine]:
            engine = ByteniteEngine(
                ENDPOINT,
                Credentials(access_token=TOKEN),
                parallelism=1,
                max_rps=None,
                wait=self.stop.wait,
                random=Random(0),
                clock=self.clock,
                wall_clock=self.clock,
                transport=WatchedTransport(self, asked),
            )
            yield cast(ByteniteEngine, OwnedJobs(engine, self))

        seams: list[_Seam] = [
            (service_module, "run", self._run),
            (plugin_module, "PROMISES", self.promises),
            *([(many, "_LIST_FROM", 1)] if self._lists else []),
            (writer, "CHECKPOINT_BYTES", 3000),  # after two or three calls, not after thousands
            (file_lock, "locked", self.disk.locked),
            (threads, "Thread", NoThread),
        ]
        with _with(seams):
            clocks = Clocks(self.clock, self.clock)
            world = World({"USER": "ada"}, self.stop, self.remarks.append, clocks=clocks)
            yield GivenWorkspace(world, self.manifest, self.checked_store, engine)

    def plan(self, *, refresh: bool, prune: bool = False) -> Plan:
        """Return the plan. Raises `ReconcilerError` as the use case does."""
        with self.wired() as workspace:
            return plan(workspace, Selection(prune=prune), refresh=refresh, parallelism=1)[0]

    def apply(self, how: How = HONEST, *, prune: bool = False, saved: Plan | None = None) -> Ended:
        """Apply while something goes wrong, and return how the apply ended."""
        self.fuse.set(how.crash_at)
        self.fuse.meanwhile(how.meanwhile_at, how.meanwhile)
        self.stop_at = how.stop_at
        self._odd = how.odd
        self.changing = []
        try:
            with self.wired(how.faults) as workspace:
                applied = apply(
                    workspace,
                    Selection(prune=prune),
                    ApplyOptions(Pace(parallelism=1), settle_s=SETTLE_S),
                    Interaction(confirm=lambda plan: None, watch=lambda plan, event: None),
                    saved,
                )
            crashed = self.fuse.burnt
            ended = Ended(crashed=True) if crashed else Ended(applied.outcomes, applied.exit_code)
        except Crash:
            ended = Ended(crashed=True)
        except ReconcilerError as refusal:
            ended = Ended(refusal=refusal)
        self.names_state &= STATE not in self.disk.files
        self.fuse.set(None)
        self.fuse.meanwhile(0, None)
        self.stop.clear()
        self.stop_at = self._odd = None
        return ended._replace(changing=tuple(self.changing))

    @contextmanager
    def another_clone(self) -> Iterator[MemoryDisk]:
        """Continue in another clone of the repository on another machine, with the committed files only."""
        here = self.disk
        self.disk = MemoryDisk(self.fuse)
        for path in (STATE, HISTORY):
            if path in here.files:
                self.disk.put(path, bytes(here.files[path]))
        self._read_at = -1
        try:
            yield self.disk
        finally:
            self.disk, self._read_at = here, -1

    def beside(self, act: Callable[[], object]) -> None:
        """Act as another program while one is at work here."""
        fuse, database = self.fuse, self.database
        here = fuse.left, fuse.burnt, self.stop_at, self._odd, self.changing, database.by_us, database.op
        held, self.disk.held = self.disk.held, []
        fuse.set(None)
        try:
            act()
        finally:
            fuse.left, fuse.burnt, self.stop_at, self._odd, self.changing, database.by_us, database.op = here
            self.disk.held = held

    def settle_doubt(self, name: str, *, applied: bool) -> str:
        """Settle a call in doubt on a person's word; return the text that the command prints before and after."""
        self.remarks.clear()
        with self.wired() as workspace:
            message = resolve(workspace, name, applied, "it was looked up", 0)
        return "\n".join([*self.remarks, message])

    def forget(self, name: str) -> None:
        with self.wired() as workspace:
            state_commands.forget(workspace, name, 0)

    def push(self, content: bytes) -> None:
        with self.wired() as workspace:
            state_commands.push(workspace, content, "pushed.json", 0)

    def accept(self) -> None:
        with self.wired() as workspace:
            state_commands.accept(workspace, 0)

    def record_of(self, job_id: str) -> Record | None:
        return next((record for record in self.state.jobs.values() if record.id == job_id), None)

    def server_job(self, job_id: str) -> ServerJob | None:
        with self.database.transaction():
            return self.database.find(job_id)[0]

    def life_of(self, job_id: str) -> life.JobState | None:
        """Return the present status of the job, None if the job does not exist."""
        there = self.server_job(job_id)
        return None if there is None or there.deleted_at is not None else life.state(there, self.clock())

    def is_gone(self, job_id: str) -> bool:
        """Whether the service says that there is no such job."""
        there = self.server_job(job_id)
        if self.promises.creates_on_run:
            return False
        return not self.options.create_missing if there is None else there.deleted_at is not None

    def come_to_rest(self, apply: Callable[[], Ended]) -> Ended:
        """Apply with honest answers until nothing changes any more, and check that all is at rest."""
        ended = apply()
        for _ in range(4):
            if all(outcome.done is ActionKind.NOOP for outcome in ended.outcomes):
                break
            # Wait for the settle time, for the end of a run that others wait for, and for the end of an abort.
            self.forward(max(SETTLE_S, self.options.job_seconds, self._drain_s))
            ended = apply()
        before = self.disk.changes
        last = apply()
        self.check_at_rest(ended, last)
        assert last.changing or self.disk.changes == before, "an apply with nothing to do wrote something"
        return last

    def is_out_of_reach(self, outcome: ActionOutcome) -> bool:
        """Whether a job is gone or unreadable, or is in a wrong status for the call at a service without reads.

        Such a rejection (400, 404) comes again with each apply until a person changes the manifest.
        """
        job_id = outcome.action.id
        rejected = not self.options.reads and outcome.status in (400, 404)
        return rejected or self.is_gone(job_id) or job_id in self.unreadable

    def check_at_rest(self, ended: Ended, last: Ended) -> None:
        """Check that the second of two applies did nothing more, and that plans show only holds.

        A lasting obstacle is reported each time: a job that is out of reach is an error, a job that is held stays held,
        and nothing is deleted after an error.
        """
        assert _plainly(last) == _plainly(ended), f"two applies in a row did not do the same: {ended}, then {last}"
        for outcome in last.outcomes:
            match outcome.outcome:
                case Outcome.SUCCEEDED:
                    assert outcome.done is ActionKind.NOOP, f"not at rest: {outcome}"
                case Outcome.SKIPPED:
                    erring = any(other.outcome is Outcome.FAILED for other in last.outcomes)
                    after_error = outcome.action.kind is ActionKind.DELETE and erring
                    assert outcome.done is ActionKind.HOLD or after_error, outcome
                case Outcome.FAILED:
                    assert self.is_out_of_reach(outcome), f"it fails for ever: {outcome}"
                case Outcome.IN_DOUBT:
                    raise AssertionError(f"a call is sent again and again: {outcome}")
        assert not last.changing or not self.options.reads, last.changing
        self.check_plans(last)

    def check_plans(self, ended: Ended) -> None:
        """Check that no plan, offline or refreshed, asks for more of a job that an apply has finished."""
        unfinished = {o.action.job for o in ended.outcomes if o.outcome is not Outcome.SUCCEEDED}
        offline = {action.job: action for action in self.plan(refresh=False).actions}
        for action in offline.values():
            assert action.kind in _QUIET or action.job in unfinished, f"still planned: {action}"
        if not self.options.reads:
            return
        for action in self.plan(refresh=True).actions:
            # A job that someone else ran or created again is drift, which only a refreshed plan can see.
            drift = offline[action.job].kind is ActionKind.NOOP and action.kind in _DRIFT
            assert action.kind in _QUIET or action.job in unfinished or drift, f"still planned: {action}"


_QUIET = (ActionKind.NOOP, ActionKind.HOLD)
_DRIFT = (ActionKind.ABORT, ActionKind.DELETE, ActionKind.ADOPT)


def _plainly(ended: Ended) -> list[tuple[str, Outcome, ActionKind, str]]:
    """Return what became of each job, with why. A job is not read any more once the end of its run is recorded."""
    return [
        (o.action.job, o.outcome, o.done, "" if o.done is ActionKind.NOOP else _TIME.sub(_instant, o.action.reason))
        for o in ended.outcomes
    ]


_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)")


def _instant(shown: re.Match[str]) -> str:
    return str(datetime.fromisoformat(shown[0]).timestamp())
