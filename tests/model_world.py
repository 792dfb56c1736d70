"""A world in memory: the real use cases of `app` over a disk, a clock and a service that cost nothing.

Time goes forward only where something waits. A fuse ends the program at any operation of the disk
or the network; what was written by then stays.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from threading import Event as Flag
from typing import Any, NamedTuple

import pytest

from reconciler import app
from reconciler.engines.bytenite.auth import Credentials
from reconciler.engines.bytenite.engine import ByteniteEngine
from reconciler.engines.http import Reply
from reconciler.engines.sandbox.direct import DirectTransport
from reconciler.engines.sandbox.faults import Faults, Kind, parse_fault
from reconciler.engines.sandbox.life import Book, Deed
from reconciler.engines.sandbox.life import Job as ServerJob
from reconciler.engines.sandbox.service import Options, Request, Service
from reconciler.errors import ExitCode, ReconcilerError
from reconciler.jobs import Job, State, Target, Verb
from reconciler.manifest import Manifest
from reconciler.plan import ActionOutcome, Plan
from reconciler.state.file import FileStore, Surroundings
from reconciler.state.journal import decode

TOKEN = "an-access-token"
ENDPOINT = "http://127.0.0.1:1/v1/customer"
TARGET = Target("bytenite", ENDPOINT)
SETTLE_S = 60.0

# The lock alone is on the real disk, and so in a real folder.
_FOLDER = TemporaryDirectory(prefix="reconciler-model-")
STATE = str(Path(_FOLDER.name) / "jobs.state.json")
JOURNAL = f"{STATE}.journal"
MARKS = str(Path(_FOLDER.name) / "marks")


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


class MemoryDisk:
    """A `Disk` that forgets nothing. `changes` counts what was done to it; a torn write leaves its first half."""

    def __init__(self, fuse: Fuse) -> None:
        self.fuse = fuse
        self.files: dict[str, bytearray] = {}
        self.changes = 0

    def change(self) -> None:
        self.fuse.pass_one()
        self.changes += 1

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


class MemoryFile:
    """An open file of a `MemoryDisk`."""

    def __init__(self, disk: MemoryDisk, content: bytearray) -> None:
        self._disk = disk
        self._content = content

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
        self._content[offset : offset + len(content)] = content

    def allocate(self, size_bytes: int) -> None:
        self._disk.change()
        self.allocate_bytes(size_bytes)

    def allocate_bytes(self, size_bytes: int) -> None:
        self._content.extend(bytes(max(0, size_bytes - len(self._content))))

    def sync(self) -> None:
        self._disk.fuse.pass_one()

    def close(self) -> None:
        pass


class Done(NamedTuple):
    """One line of the ledger, by whom it came about, and under which intent: None for no intent on disk."""

    deed: Deed
    by_us: bool
    op: str | None


class WatchedBook(Book):
    """The sandbox's database in memory, its ledger at hand."""

    def __init__(self) -> None:
        super().__init__(":memory:")
        self.done: list[Done] = []
        self.by_us = False
        self.op: str | None = None

    def enter(self, deed: Deed) -> None:
        self.done.append(Done(deed, self.by_us, self.op))

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
            reply = super().exchange(method, url, headers, body)
        finally:
            book.by_us, book.op = False, None
        world.fuse.pass_one()
        return reply


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


class ModelWorld:
    """One user's disk and one service. All commands go through `app`."""

    def __init__(self, *, reads: bool = True, create_missing: bool = False, job_seconds: float = 1000.0) -> None:
        self.fuse = Fuse()
        self.disk = MemoryDisk(self.fuse)
        self.book = WatchedBook()
        self.options = Options(TOKEN, "", 3600, job_seconds, create_missing, reads)
        self.manifest = Manifest(TARGET, {}, {}, "sha256:0", {})
        self.changing: list[tuple[str, str]] = []
        self.stop = SteppedFlag(self._forward)
        self.stop_at: int | None = None
        self._now = 1_800_000_000.0
        self._numbers = count(1)
        self._faults = Faults(())

    def clock(self) -> float:
        """Seconds since 1970. No two readings are equal, so that no two runs are."""
        self._now += 0.001
        return self._now

    def forward(self, seconds: float) -> None:
        self._now += seconds

    def _forward(self, seconds: float) -> None:
        self.forward(seconds)
        if seconds > SETTLE_S / 2:
            # What the settle time stands for: no read is older than that.
            for at, fault in enumerate(self._faults._faults):
                if fault.kind is Kind.STALE:
                    self._faults._fired[at] = fault.times or 0

    def count_request(self) -> None:
        if self.stop_at is not None:
            if self.stop_at == 0:
                self.stop.set()
            self.stop_at -= 1

    def randbytes(self, size: int) -> bytes:
        return next(self._numbers).to_bytes(size, "big")

    def service(self, faults: Iterable[str] = ()) -> Service:
        self._faults = Faults([parse_fault(text) for text in faults])
        return Service(self.book, self._faults, self.options, self.clock, self.randbytes)

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

    @property
    def state(self) -> State:
        """What is recorded, the journal included. Raises `StateError`."""
        return self.store().read(TARGET) or State("", 0, TARGET, {})

    def declare(self, jobs: Mapping[str, Job]) -> None:
        """Write the manifest."""
        jobs = dict(sorted(jobs.items()))
        self.manifest = Manifest(TARGET, jobs, {}, f"sha256:{sorted(map(repr, jobs.values()))}", {})

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
        ops = [
            str(entry["doubt"]["op"])
            for entry in entries
            if entry["type"] == "intent" and (entry["id"], entry["doubt"]["verb"]) == (job_id, verb)
        ]
        ops = [op for op in ops if op not in concluded]
        return ops[-1] if ops else None

    @contextmanager
    def wired(self, faults: Sequence[str] = ()) -> Iterator[tuple[app.Place, app.World]]:
        """`app` with this world's manifest, disk and service in place of the real ones."""
        service = self.service(faults)

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
                transport=WatchedTransport(self, service),
            )

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(app, "validate", lambda place: (self.manifest, 1))
            patch.setattr(app, "_store", lambda place, world: self.store())
            patch.setattr(app, "_engine", engine)
            yield app.Place(("jobs.yaml",)), app.World({"USER": "ada"}, self.stop)

    def plan(self, *, refresh: bool, prune: bool = False) -> Plan:
        """The plan. Raises `ReconcilerError` as `app.plan` does."""
        with self.wired() as (place, world):
            return app.plan(place, world, app.Selection(prune=prune), refresh=refresh, parallelism=1)[0]

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
                    app.Selection(prune=prune),
                    app.ApplyOptions(parallelism=1, settle_s=SETTLE_S),
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
