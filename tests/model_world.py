"""A world in memory: the real use cases of `app` over a disk, a clock and a service that cost nothing.

Time goes forward only where something waits. A fuse ends the program at any operation of the disk
or the network; what was written by then stays.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from itertools import count
from random import Random
from tempfile import TemporaryDirectory
from threading import Event as Flag
from typing import Any, NamedTuple

from reconciler import app, planning, sources, threads, wiring
from reconciler.clocks import Clocks
from reconciler.engines.bytenite.auth import Credentials
from reconciler.engines.bytenite.engine import ByteniteEngine
from reconciler.engines.http.reply import Reply
from reconciler.engines.sandbox import life
from reconciler.engines.sandbox import service as service_module
from reconciler.engines.sandbox.direct import DirectTransport
from reconciler.engines.sandbox.faults import Faults, parse_fault
from reconciler.engines.sandbox.life import Book, Deed
from reconciler.engines.sandbox.life import Job as ServerJob
from reconciler.engines.sandbox.service import Options, Request, Service
from reconciler.errors import ExitCode, ReconcilerError
from reconciler.homes import CheckedStore, Home
from reconciler.jobs import Access, Config, Job, Record, State, Target, Verb
from reconciler.manifest import Head, Manifest
from reconciler.plan import ActionKind, ActionOutcome, Outcome, Plan
from reconciler.planning import Selection
from reconciler.state import file, session
from reconciler.state.disk import File
from reconciler.state.file import FileStore, Surroundings
from reconciler.state.journal import decode

TOKEN = "an-access-token"
ENDPOINT = "http://127.0.0.1:1/v1/customer"
TARGET = Target("bytenite", ENDPOINT)
SETTLE_S = 60.0

STATE = "jobs.state.json"
JOURNAL = f"{STATE}.journal"
HISTORY = "jobs.history.jsonl"
# The folder of the marks is made on the real disk, and stays empty.
_FOLDER = TemporaryDirectory(prefix="reconciler-model-")
MARKS = _FOLDER.name


class Crash(BaseException):
    """The program is gone: nothing of it catches this, and nothing that it does has an effect any more."""


class Fuse:
    """Ends the program ahead of its n-th operation, and at every one after that."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.burnt = False

    def set(self, operations: int | None) -> None:
        """Burn after so many operations; None never does."""
        self.left, self.burnt = operations, False

    def pass_one(self) -> None:
        if self.left == 0:
            self.burnt = True
        if self.burnt:
            raise Crash
        if self.left is not None:
            self.left -= 1


class NoThread:
    """A thread that can't be had, so that all is done in one: starting threads would take most of the time."""

    def __init__(self, **_: Any) -> None:
        pass

    def start(self) -> None:
        raise RuntimeError("can't start new thread")


class MemoryDisk:
    """A `Disk` that forgets nothing. `changes` counts what was done to it; a torn write leaves its first half."""

    def __init__(self, fuse: Fuse) -> None:
        self.fuse = fuse
        self.files: dict[str, bytearray] = {}
        self.changes = 0

    def change(self) -> None:
        self.fuse.pass_one()
        self.changes += 1

    def put(self, path: str, content: bytes | None) -> None:
        """Somebody else writes a file, or removes it."""
        self.changes += 1
        if content is None:
            self.files.pop(path, None)
        else:
            self.files[path] = bytearray(content)

    def read(self, path: str) -> bytes | None:
        found = self.files.get(path)
        return None if found is None else bytes(found)

    def create(self, path: str, mode: int) -> "MemoryFile":
        self.change()
        self.files[path] = bytearray()
        return MemoryFile(self, self.files[path])

    def rename(self, old: str, new: str) -> None:
        self.change()
        self.files[new] = self.files.pop(old)

    def remove(self, path: str) -> None:
        self.change()
        del self.files[path]

    def sync_folder(self, path: str) -> None:
        self.fuse.pass_one()

    def mode(self, path: str) -> int | None:
        return 0o600 if path in self.files else None

    def hold(self, path: str) -> AbstractContextManager[None]:
        return nullcontext()

    def stamp(self, path: str) -> object:
        return self.read(path)

    def is_at(self, path: str, file: File) -> bool:
        return isinstance(file, MemoryFile) and self.files.get(path) is file.content


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
    """One line of the ledger, by whom it came about, and under which intent: None for no intent on disk."""

    deed: Deed
    by_us: bool
    op: str | None


class WatchedBook(Book):
    """The sandbox's database in memory, its ledger at hand. No read is older than the settle time: so it is assumed."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(":memory:")
        self._clock = clock
        self._kept_at: dict[str, float] = {}
        self.done: list[Done] = []
        self.by_us = False
        self.op: str | None = None

    def __del__(self) -> None:
        self.close()

    def enter(self, deed: Deed) -> None:
        self.done.append(Done(deed, self.by_us, self.op))

    def keep(self, job: ServerJob, before: ServerJob | None) -> None:
        super().keep(job, before)
        self._kept_at[job.id] = self._clock()

    def find(self, job_id: str) -> tuple[ServerJob | None, ServerJob | None]:
        stored, before = super().find(job_id)
        return stored, before if self._clock() - self._kept_at.get(job_id, 0.0) < SETTLE_S else stored

    def note(self, call: object) -> None:
        """The calls are counted by the transport."""


class WatchedTransport(DirectTransport):
    """Carries the reconciler's requests, looks for their intents, and may end the program before or after each."""

    def __init__(self, world: "ModelWorld", service: Service) -> None:
        super().__init__(service, clock=world.clock, pause=world.stop.wait)
        self._world = world

    def exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        world = self._world
        world.fuse.pass_one()
        world.count_request()
        book = world.book
        book.by_us, book.op = True, None if method == "GET" else world.intent_of(method, url.removeprefix(ENDPOINT))
        if method != "GET":
            world.changing.append((method, url.removeprefix(ENDPOINT)))
        try:
            reply = self._as_told(super().exchange(method, url, headers, body))
        finally:
            book.by_us, book.op = False, None
        world.fuse.pass_one()
        return reply

    def _as_told(self, reply: Reply) -> Reply:
        """The reply of a service that leaves out what it does not tell."""
        job = reply.document.get("job") if isinstance(reply.document, dict) else None
        if job is None:
            return reply
        if job["id"] in self._world.unreadable:
            return Reply(sent=True, status=500)
        if not self._world.tells_config:
            return replace(reply, document={"job": {name: told for name, told in job.items() if name != "config"}})
        return reply


class HeldLock:
    """The lock of a world with one program at a time."""

    def is_held(self) -> bool:
        return True


class SteppedFlag(Flag):
    """A stop flag whose wait takes no time; it is set at the n-th request, where that is asked for."""

    def __init__(self, forward: Callable[[float], None]) -> None:
        super().__init__()
        self._forward = forward

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            self._forward(timeout or 0.0)
        return self.is_set()


class How(NamedTuple):
    """What goes wrong during a command: a crash, an interruption, or a fault of the service."""

    crash_at: int | None = None
    stop_at: int | None = None
    faults: tuple[str, ...] = ()

    @property
    def is_honest(self) -> bool:
        return self == How()


HONEST = How()


class Ended(NamedTuple):
    """How an apply ended; `outcomes` is empty where it crashed or was refused."""

    outcomes: tuple[ActionOutcome, ...] = ()
    exit_code: ExitCode | None = None
    refusal: ReconcilerError | None = None
    crashed: bool = False
    changing: tuple[tuple[str, str], ...] = ()


def _run_anew(job: ServerJob, config: Config, now: float, job_seconds: float, failure: str = "") -> ServerJob:
    if life.state(job, now) is life.JobState.RUNNING:
        job = life.abort(job, now)
    return life.run(job, config, now, job_seconds, failure)


class ModelWorld:
    """One user's disk and one service. All commands go through `app`."""

    def __init__(
        self, *, reads: bool = True, create_missing: bool = False, job_seconds: float = 1000.0, lenient: bool = False
    ) -> None:
        """`lenient`: a run of a job that is active is no error, and starts another one."""
        self._run = _run_anew if lenient else life.run
        self.fuse = Fuse()
        self.disk = MemoryDisk(self.fuse)
        self._now = 1_800_000_000.0
        self.book = WatchedBook(self.clock)
        self.options = Options(TOKEN, "", 3600, job_seconds, create_missing, reads)
        self.tells_config = True
        self.unreadable: frozenset[str] = frozenset()
        self.manifest = Manifest(TARGET, {}, {}, {})
        self.changing: list[tuple[str, str]] = []
        self.names_state = False
        """Whether commands name the state with --state, which takes an empty one at its word."""
        self.stop = SteppedFlag(self.forward)
        self.stop_at: int | None = None
        self._numbers = count(1)
        self._read_at = -1
        self._read = State("", 0, TARGET, {})

    def clock(self) -> float:
        """Seconds since 1970. No two readings are equal, so that no two runs are."""
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
        parsed = Faults([parse_fault(text) for text in faults])
        return Service(self.book, parsed, self.options, self.clock, self.randbytes)

    def store(self) -> FileStore:
        around = Surroundings(
            disk=self.disk,
            marks_folder=MARKS,
            who="ada",
            now=lambda: "2026-11-21T10:00:00Z",
            new_lineage=lambda: f"lineage-{next(self._numbers)}",
            wait=lambda seconds: False,
        )
        return FileStore(STATE, around)

    def checked_store(self, place: wiring.Place, world: wiring.World) -> CheckedStore:
        """The store as commands have it: it refuses to be empty where the history tells of records."""
        home = Home(STATE, ".", ".", "--state" if self.names_state else "")
        return CheckedStore(self.store(), home, place.paths, lambda _: None)

    @property
    def state(self) -> State:
        """What is recorded, the journal included. Raises `StateError`."""
        if self._read_at != self.disk.changes:
            self._read = self.store().read(TARGET) or State("", 0, TARGET, {})
            self._read_at = self.disk.changes
        return self._read

    def declare(self, jobs: Mapping[str, Job]) -> None:
        """Write the manifest."""
        jobs = dict(sorted(jobs.items()))
        self.manifest = Manifest(TARGET, jobs, {}, {})

    def add_job(self, job: ServerJob) -> None:
        """Put a job on the server as if it had always been there."""
        with self.book.transaction():
            self.book.keep(job, None)

    def act(self, verb: Verb, job_id: str, body: bytes = b'{"config": {}}', fault: str = "") -> int:
        """Somebody else calls the service; returns the status."""
        path = f"/v1/customer/jobs/{job_id}" + ("" if verb is Verb.DELETE else f"/{verb}")
        method = "DELETE" if verb is Verb.DELETE else "POST"
        request = Request(method, path, TOKEN, "application/json", body if verb is Verb.RUN else b"")
        return self.service([fault] if fault else []).answer(request)[0].status

    def intent_of(self, method: str, path: str) -> str | None:
        """The op of the open intent on disk that such a call needs; None where there is none."""
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
    def wired(self, faults: Sequence[str] = ()) -> Iterator[tuple[wiring.Place, wiring.World]]:
        """`app` with this world's manifest, disk and service in place of the real ones."""
        asked = self.service(faults)

        @contextmanager
        def engine(*_: Any) -> Iterator[ByteniteEngine]:
            yield ByteniteEngine(
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

        seams: list[tuple[Any, str, Any]] = [
            *((module, "validate", lambda place, world, *_: (self.manifest, 1)) for module in (app, planning)),
            (sources, "read_sources", lambda paths: []),
            (app, "head_at", lambda place, world: (place, Head(TARGET, Access(), None))),
            (app, "open_store", self.checked_store),
            (app, "open_engine", engine),
            (planning, "commit_of", lambda place, world: None),
            (wiring, "open_engine", engine),
            (service_module, "run", self._run),
            (session, "_CHECKPOINT_BYTES", 3000),  # after two or three calls, not after thousands
            (file, "locked", lambda *_: nullcontext(HeldLock())),
            (threads, "Thread", NoThread),
        ]
        real = [(module, name, getattr(module, name)) for module, name, _ in seams]
        try:
            for module, name, value in seams:
                setattr(module, name, value)
            yield (
                wiring.Place(("jobs.yaml",)),
                wiring.World({"USER": "ada"}, self.stop, clocks=Clocks(self.clock, self.clock)),
            )
        finally:
            for module, name, value in real:
                setattr(module, name, value)

    def plan(self, *, refresh: bool, prune: bool = False) -> Plan:
        """The plan. Raises `ReconcilerError` as `app.plan` does."""
        with self.wired() as (place, world):
            return app.plan(place, world, Selection(prune=prune), [], refresh=refresh, parallelism=1)[0]

    def apply(self, how: How = HONEST, *, prune: bool = False, saved: Plan | None = None) -> Ended:
        """Apply under what goes wrong, and say how it ended."""
        self.fuse.set(how.crash_at)
        self.stop_at = how.stop_at
        self.changing = []
        try:
            with self.wired(how.faults) as (place, world):
                applied = app.apply(
                    place,
                    world,
                    Selection(prune=prune),
                    wiring.ApplyOptions(parallelism=1, settle_s=SETTLE_S),
                    saved=saved,
                    confirm=lambda plan: None,
                    watch=lambda plan, event: None,
                    remark=lambda text: None,
                )
            crashed = self.fuse.burnt
            ended = Ended(crashed=True) if crashed else Ended(applied.outcomes, applied.exit_code)
        except Crash:
            ended = Ended(crashed=True)
        except ReconcilerError as refusal:
            ended = Ended(refusal=refusal)
        self.names_state &= STATE not in self.disk.files
        self.fuse.set(None)
        self.stop.clear()
        self.stop_at = None
        return ended._replace(changing=tuple(self.changing))

    def settle_doubt(self, name: str, *, applied: bool) -> None:
        with self.wired() as (place, world):
            app.resolve(place, world, name, applied, "it was looked up", 0)

    def forget(self, name: str) -> None:
        with self.wired() as (place, world):
            app.forget(place, world, name, 0)

    def accept(self) -> None:
        with self.wired() as (place, world):
            app.accept(place, world, 0)

    def record_of(self, job_id: str) -> Record | None:
        return next((record for record in self.state.jobs.values() if record.id == job_id), None)

    def server_job(self, job_id: str) -> ServerJob | None:
        with self.book.transaction():
            return self.book.find(job_id)[0]

    def is_gone(self, job_id: str) -> bool:
        """Whether the service says that there is no such job."""
        there = self.server_job(job_id)
        return not self.options.create_missing if there is None else there.deleted_at is not None

    def come_to_rest(self, apply: Callable[[], Ended]) -> Ended:
        """Apply with honest answers until nothing moves any more, and check that it is so."""
        ended = apply()
        for _ in range(4):
            if all(outcome.done is ActionKind.NOOP for outcome in ended.outcomes):
                break
            # A settle time, and the end of a run of someone else's that something was held for.
            self.forward(max(SETTLE_S, self.options.job_seconds))
            ended = apply()
        before = self.disk.changes
        last = apply()
        self.check_at_rest(ended, last)
        assert last.changing or self.disk.changes == before, "an apply with nothing to do wrote something"
        return last

    def is_out_of_reach(self, outcome: ActionOutcome) -> bool:
        """Whether a job is gone or unreadable, or is not as the call needs it at a service that has no reads.

        Such a rejection (400, 404) comes again with each apply until a person changes the manifest.
        """
        job_id = outcome.action.id
        rejected = not self.options.reads and outcome.status in (400, 404)
        return rejected or self.is_gone(job_id) or job_id in self.unreadable

    def check_at_rest(self, ended: Ended, last: Ended) -> None:
        """The second of two applies in a row did nothing more, and plans show nothing but holds.

        What can't be done for good is said each time: a job that is out of reach is an error, a job
        that is held is held, and after an error nothing is deleted.
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
        """No plan, offline or refreshed, asks for anything more of the jobs that an apply was done with."""
        unfinished = {o.action.job for o in ended.outcomes if o.outcome is not Outcome.SUCCEEDED}
        offline = {action.job: action for action in self.plan(refresh=False).actions}
        for action in offline.values():
            assert action.kind in _QUIET or action.job in unfinished, f"still planned: {action}"
        if not self.options.reads:
            return
        for action in self.plan(refresh=True).actions:
            # A job that someone else ran again or made anew is drift: to see it takes a look.
            drift = offline[action.job].kind is ActionKind.NOOP and action.kind in _DRIFT
            assert action.kind in _QUIET or action.job in unfinished or drift, f"still planned: {action}"


_QUIET = (ActionKind.NOOP, ActionKind.HOLD)
_DRIFT = (ActionKind.ABORT, ActionKind.DELETE, ActionKind.ADOPT)


def _plainly(ended: Ended) -> list[tuple[str, Outcome, ActionKind, str]]:
    return [(o.action.job, o.outcome, o.done, o.action.reason) for o in ended.outcomes]
