"""The commands of one user over a disk, a clock and a service that take no time.

Time passes only while something waits.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from itertools import count, cycle
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, cast

from model_disk import Crash, Fuse, MemoryDisk
from model_how import HONEST, Ended, How, OddAnswer, SteppedFlag
from model_service import (
    ENDPOINT,
    KEEPS_ENDED_S,
    SETTLE_S,
    TARGET,
    TOKEN,
    WORDINGS,
    CreatingService,
    OwnedJobs,
    WatchedDatabase,
    WatchedTransport,
    Wording,
    run_anew,
)
from no_thread import NoThread
from reconciler.engines import many
from reconciler.engines.bytenite import plugin as plugin_module
from reconciler.engines.bytenite.auth import Credentials
from reconciler.engines.bytenite.engine import ByteniteEngine
from reconciler.engines.bytenite.wire import PROMISES
from reconciler.engines.port import Engine, Step
from reconciler.engines.sandbox import life
from reconciler.engines.sandbox import service as service_module
from reconciler.engines.sandbox.faults import Faults, parse_fault
from reconciler.engines.sandbox.life import Job as ServerJob
from reconciler.engines.sandbox.service import Options, Request, Service
from reconciler.host import threads
from reconciler.host.clocks import Clocks
from reconciler.manifest import Manifest
from reconciler.manifest.document import Document
from reconciler.model.errors import ReconcilerError
from reconciler.model.jobs import Job, Record, State, Status, Verb
from reconciler.model.plan import Plan
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
from reconciler.usecases.resolve import resolve, resolve_end
from reconciler.usecases.selection import Selection
from reconciler.usecases.world import World
from workspaces import GivenWorkspace

STATE = "jobs.state.json"
JOURNAL = f"{STATE}.journal"
LOCK = f"{STATE}.lock"
HISTORY = "jobs.history.jsonl"
# The folder of the marks is made on the real disk, and stays empty.
_FOLDER = TemporaryDirectory(prefix="reconciler-model-")
MARKS = _FOLDER.name


Seam = tuple[Any, str, Any]
"""A module, a name in it, and the substitute for that name in this world."""


@contextmanager
def _with(seams: Sequence[Seam]) -> Iterator[None]:
    real = [(module, name, getattr(module, name)) for module, name, _ in seams]
    try:
        for module, name, value in seams:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in real:
            setattr(module, name, value)


class CommandWorld:
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
        self.identity: Mapping[str, str] = {}
        self.foreign: set[str] = set()
        self.faults_of_intents: list[AssertionError] = []
        self.trespasses: list[Step] = []
        """The calls for jobs of other owners."""
        self._run = run_anew if lenient else life.run
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
        self.target = TARGET
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
            self._read = self.store().read(self.target) or State("", 0, self.target, {})
            self._read_at = self.disk.changes
        return self._read

    def declare(self, jobs: Mapping[str, Job]) -> None:
        """Write the manifest."""
        jobs = dict(sorted(jobs.items()))
        document = Document("jobs.yaml", {"jobs": dict.fromkeys(jobs)}, array("Q"), {})
        self.manifest = Manifest(self.target, jobs, self.guards, dict.fromkeys(jobs, document))

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
        job_id = path.split("/")[2]
        intents = [doubt for one, doubt in self.open_intents() if (one, doubt["verb"]) == (job_id, verb)]
        assert all(intent["before"] is not None for intent in intents) or not self.options.reads, "no baseline"
        return str(intents[-1]["op"]) if intents else None

    def open_intents(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the intents on disk without a result, each as the engine job id and the doubt."""
        content = self.disk.read(JOURNAL)
        entries = [] if content is None else decode(content, JOURNAL)
        concluded = {entry["op"] for entry in entries if entry["type"] == "result"}
        intents = [(entry["id"], entry["doubt"]) for entry in entries if entry["type"] == "intent"]
        return [(job_id, doubt) for job_id, doubt in intents if doubt["op"] not in concluded]

    @contextmanager
    def wired(self, faults: Sequence[str] = ()) -> Iterator[GivenWorkspace]:
        """Yield the workspace of this world's manifest, disk and service."""
        engine = self.engine_under(faults)
        seams: list[Seam] = [
            *self.seams(),
            (writer, "CHECKPOINT_BYTES", 3000),  # after two or three calls, not after thousands
            (file_lock, "locked", self.disk.locked),
            (threads, "Thread", NoThread),
        ]
        with _with(seams):
            clocks = Clocks(self.clock, self.clock)
            world = World({"USER": "ada"}, self.stop, self.remarks.append, clocks=clocks)
            yield GivenWorkspace(world, self.manifest, self.checked_store, lambda: nullcontext(engine()))

    def seams(self) -> list[Seam]:
        """Return what stands in the place of parts of the product and of its sandbox."""
        return [
            (service_module, "run", self._run),
            (plugin_module, "PROMISES", self.promises),
            *([(many, "_LIST_FROM", 1)] if self._lists else []),
        ]

    def engine_under(self, faults: Sequence[str]) -> Callable[[], Engine]:
        """Return how to open the engine at a service with these faults."""
        asked = self.service(faults)

        def engine() -> Engine:
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
            return cast(Engine, OwnedJobs(engine, self))

        return engine

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

    def state_end(self, name: str, end: Status) -> str:
        """Say on a person's word how the last run of a job ended; return the text that the command prints."""
        with self.wired() as workspace:
            return resolve_end(workspace, name, end, "it was looked up", 0)

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

    def ended_by_itself(self, job_id: str) -> bool:
        """Whether the last run of the job completed or failed, though the service may have forgotten it."""
        return self.life_of(job_id) in (life.JobState.COMPLETE, life.JobState.FAILED)

    def withdrawn(self) -> set[str]:
        """The handles of the runs that the service has withdrawn before they executed anything."""
        return set()

    def is_gone(self, job_id: str) -> bool:
        """Whether the service says that there is no such job."""
        there = self.server_job(job_id)
        if self.promises.creates_on_run:
            return False
        return not self.options.create_missing if there is None else there.deleted_at is not None
