"""Histories with losses of power, each judged by what was promised and by the server's own ledger.

    python tests/campaigns/power_loss.py --histories 100000 --seed 1 --jobs 2
    python tests/campaigns/power_loss.py --only apply:1:4711        (one history, as a failure names it)

There are two kinds of histories, half of each kind.

A `session` history makes random calls of the real `Session`, sometimes several at once, on the disk of `lossy_disk`.
The power is lost before any operation, and the state is loaded again. The change of every method that returned must be
there.

In an `apply` history people edit a manifest and apply it, with the real planner, apply, recovery, journal, engine and
answer classes, against the embedded server's own logic. The server fails at times, other people act on it, and it never
loses data. After each loss of power the promised changes must be there. After each call no job may have run more often
than people asked for. In the end further applies must come to rest, and the ledger must show everything that counts as
done.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from itertools import count
from random import Random
from typing import Any, NamedTuple, NoReturn, Protocol, cast
from unittest.mock import patch

import tally
from lossy_disk import LossyDisk, PowerLoss
from no_thread import NoThread
from reconciler.apply import execute
from reconciler.engines.bytenite.auth import Credentials
from reconciler.engines.bytenite.engine import ByteniteEngine
from reconciler.engines.http.reply import Reply
from reconciler.engines.sandbox.faults import SILENT, Faults, Kind, parse_fault
from reconciler.engines.sandbox.life import Database, Execution, ReceivedCall
from reconciler.engines.sandbox.life import Job as RemoteJob
from reconciler.engines.sandbox.service import Options, Request, Service
from reconciler.host import threads
from reconciler.manifest import Manifest
from reconciler.model.errors import ExitCode, ReconcilerError, StateError
from reconciler.model.history import Details
from reconciler.model.jobs import Config, Desired, Doubt, Evidence, Job, OnConfigChange, Record, Status, Target, Verb
from reconciler.model.plan import ActionKind
from reconciler.state import history, journal, session, writer
from reconciler.state.file_lock import FileContext
from reconciler.state.file_store import FileStore
from reconciler.state.journal import JournalBroken
from reconciler.state.session import Session
from reconciler.usecases.apply import Applied, apply
from reconciler.usecases.apply_options import ApplyOptions, Interaction
from reconciler.usecases.engines import Pace
from reconciler.usecases.resolve import resolve
from reconciler.usecases.selection import Selection
from reconciler.usecases.world import World
from workspaces import GivenWorkspace

TARGET = Target("bytenite", "http://127.0.0.1:1/v1/customer")
STALE_S = 30.0
"""The maximum age of a server's read. It is less than the settle time, as `apply --settle` demands."""

_SETTLE_S = 60.0
_WAIT_S = 5.0
_TOKEN = "an-access-token"
_APPLIES_TO_REST = 4
_ENOUGH = 5
"""A run ends after this many failures, as more of them would show nothing new."""


class Violation(BaseException):
    """A history breaks a promise. The product must not catch this exception."""


Jobs = dict[str, Record]
Change = Callable[[Jobs, dict[str, tuple[str, str, Doubt]]], None]


class Promises:
    """What a state must show after any loss of power. A `Promises` outlives the machine.

    Changes under way are kept in the order in which they reach the disk. Any prefix of these changes may be found.
    """

    def __init__(self) -> None:
        self._jobs: Jobs = {}
        self.open: dict[str, tuple[str, str, Doubt]] = {}
        self._counts: dict[str, int] = {}
        self._under_way: list[tuple[int, Change]] = []
        self._numbers = iter(range(1_000_000))
        self._broken = False
        self.lineage = ""
        self.ops: set[str] = set()
        self._turn = threading.Lock()

    @contextmanager
    def change(self, change: Change) -> Iterator[None]:
        """Make a change; it is promised once the block ends without an error."""
        with self._turn:
            number = next(self._numbers)
            self._under_way.append((number, change))
        try:
            yield
        except BaseException:
            self._broken = True
            raise
        with self._turn:
            if self._broken:
                # A change that failed may be found or not. After such a failure only a change without effect can
                # succeed.
                change(self._jobs, self.open)
            while not self._broken and self._under_way and self._under_way[0][0] <= number:
                self._under_way.pop(0)[1](self._jobs, self.open)

    def views(self) -> list[Jobs]:
        """Return each view of the records that may be found, from the fewest changes to the most."""
        jobs, opened = dict(self._jobs), dict(self.open)
        found = [_view(jobs, opened)]
        for _, change in self._under_way:
            change(jobs, opened)
            found.append(_view(jobs, opened))
        return found

    def settle_on(self, found: Mapping[str, Record]) -> None:
        """Take the records that were found as promised, since they are on disk."""
        self._jobs, self.open, self._under_way, self._broken = dict(found), {}, [], False

    def count(self, record: Record | None) -> None:
        """Note that the run count of the record's job is on disk."""
        if record is not None:
            self._counts[record.id] = max(record.run, self._counts.get(record.id, 0))

    def check_counts(self, found: Mapping[str, int]) -> None:
        lower = {job_id: n for job_id, n in self._counts.items() if found.get(job_id, 0) < n}
        if lower:
            raise Violation(f"{lower} runs were counted, and now {found}")

    def check(self, found: Mapping[str, Record], lineage: str) -> None:
        views = self.views()
        comparable = _comparable(found)
        if comparable not in views:
            raise Violation(f"found {comparable}\n  but promised was any of {views}")
        if self.lineage and lineage != self.lineage and found:
            raise Violation(f"the lineage went from {self.lineage} to {lineage}")


def _view(jobs: Jobs, opened: Mapping[str, tuple[str, str, Doubt]]) -> Jobs:
    records = dict(jobs)
    for name, job_id, doubt in opened.values():
        records[name] = (records.get(name) or Record(job_id, None))._replace(doubt=doubt)
    return _comparable(records)


def _comparable(jobs: Mapping[str, Record]) -> Jobs:
    """Return the records without the text of answers, and without spent records, which may be dropped at any time."""
    return {
        name: record if record.doubt is None else record._replace(doubt=record.doubt._replace(answer=""))
        for name, record in jobs.items()
        if not (record.state is Desired.ABSENT and record.doubt is None)
    }


class Witness:
    """A session that notes its own promises."""

    def __init__(self, real: Session, promises: Promises) -> None:
        self._real = real
        self._promises = promises
        promises.check(real.state.jobs, real.state.lineage)
        promises.check_counts(real.state.last)
        promises.settle_on(real.state.jobs)
        promises.lineage = real.state.lineage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def intend(self, name: str, job_id: str, doubt: Doubt, reason: str = "") -> None:
        def intended(_: Jobs, opened: dict[str, tuple[str, str, Doubt]]) -> None:
            opened[doubt.op] = (name, job_id, doubt)

        with self._promises.change(intended):
            self._real.intend(name, job_id, doubt, reason)
        self._promises.ops.add(doubt.op)

    def conclude(self, op: str, name: str, record: Record | None, answer: str, details: Details | None = None) -> None:
        def concluded(jobs: Jobs, opened: dict[str, tuple[str, str, Doubt]]) -> None:
            opened.pop(op, None)
            _set(jobs, name, record)

        with self._promises.change(concluded):
            self._real.conclude(op, name, record, answer, details)
        self._promises.count(record)

    def put(self, name: str, record: Record | None, *recorded_with: Any) -> None:
        with self._promises.change(lambda jobs, _: _set(jobs, name, record)):
            self._real.put(name, record, *recorded_with)

    def put_all(self, records: Mapping[str, Record], *recorded_with: Any) -> None:
        with self._promises.change(lambda jobs, _: jobs.update(records)):
            self._real.put_all(records, *recorded_with)

    def note_ends(self, records: Mapping[str, Record]) -> None:
        with self._promises.change(lambda jobs, _: jobs.update(records)):
            self._real.note_ends(records)

    def move(self, moves: Mapping[str, str]) -> None:
        def moved(jobs: Jobs, _: object) -> None:
            renamed = {moves.get(name, name): record for name, record in jobs.items()}
            jobs.clear()
            jobs.update(renamed)

        with self._promises.change(moved):
            self._real.move(moves)


def _set(jobs: Jobs, name: str, record: Record | None) -> None:
    if record is None:
        jobs.pop(name, None)
    else:
        jobs[name] = record


class Machine:
    """The machine that runs the tool. The lock is a real file, since the lock ends with its holder in any case."""

    def __init__(self, random: Random, folder: str) -> None:
        self.disk = LossyDisk(random)
        self.disk.torn_sectors = random.random() < 0.5
        self.path = f"{folder}/jobs.state.json"
        self.marks = f"{folder}/marks"
        self.promises = Promises()
        self.losses = 0
        self.stores = 0

    def store(self) -> FileStore:
        self.stores += 1
        around = FileContext(
            disk=self.disk,
            marks_folder=self.marks,
            who="ada@host (process 1)",
            now=lambda: "2026-11-21T10:00:00Z",
            new_lineage=map(f"lineage-{self.stores}.{{}}".format, count()).__next__,
            wait=lambda seconds: False,
        )
        return FileStore(self.path, around)

    def lose_power(self) -> None:
        """Lose the power and start again: the disk must hold what was promised."""
        self.losses += 1
        self.disk = self.disk.power_up()
        self.promises.settle_on(self.check())

    def check(self) -> Mapping[str, Record]:
        """Check that the loaded records are the promised ones."""
        try:
            state = self.store().read(TARGET)
        except StateError as fault:
            raise Violation(f"refused after the power was back: {fault.message}") from fault
        jobs = {} if state is None else state.jobs
        self.promises.check(jobs, "" if state is None else state.lineage)
        return jobs

    def check_history(self) -> None:
        """Check that the history lists each recorded call once, after a session that ended without an error."""
        stored = self.store().read_history()
        if stored.unwritten:
            raise Violation("the history lacks what is in a journal that is left")
        calls = Counter(one.entry.op for one in history.read(stored.content)[0] if not one.entry.settles)
        missing = self.promises.ops - calls.keys()
        twice = [op for op, times in calls.items() if times > 1]
        if missing or twice:
            raise Violation(f"the history lacks {missing}, and has twice {twice}")
        if found := history.faults(stored):
            raise Violation(f"the history has faults: {found}")


class Outcome(NamedTuple):
    """The figures of one history, for the table."""

    losses: int
    applies: int
    runs: int
    doubts: int


# --- the journal and the state by themselves ---------------------------------------------------------------------


def session_history(random: Random, folder: str) -> Outcome:
    """Make random calls of a session, while the machine loses power several times."""
    machine = Machine(random, folder)
    with _small_sizes(random):
        for _ in range(random.randint(1, 3)):
            machine.disk.off_at = machine.disk.ticks + random.randint(0, random.choice((8, 30, 80)))
            machine.disk.failing = random.choice((0.0, 0.0, 0.0, 0.1))
            try:
                with machine.store().open(TARGET, "apply", 0) as real:
                    _use(Witness(real, machine.promises), machine, random)
            except (PowerLoss, JournalBroken, OSError):
                pass
            if machine.disk.off or random.random() < 0.5:
                machine.lose_power()
            else:
                machine.disk.failing, machine.disk.off_at = 0.0, None
                machine.check()
        machine.disk.failing, machine.disk.off_at = 0.0, None
        with machine.store().open(TARGET, "apply", 0):
            pass
        machine.check()
        machine.check_history()
    _refuse_leftovers(machine)
    return Outcome(machine.losses, 0, 0, 0)


def _use(watched: Witness, machine: Machine, random: Random) -> None:
    opened: dict[str, tuple[str, Doubt]] = {}
    dropped: set[str] = set()
    for _ in range(random.randint(1, random.choice((4, 12)))):
        match random.choice("iiicccpppqmdk" if random.random() < 0.7 else "b"):
            case "i":
                name, doubt = random.choice("abcdef"), _doubt(random)
                if name not in dropped and all(name != other for other, _ in opened.values()):
                    watched.intend(name, _fresh_id(name, random), doubt)
                    opened[doubt.op] = (name, doubt)
            case "c" if opened:
                op = random.choice(sorted(opened))
                name, doubt = opened.pop(op)
                watched.conclude(op, name, random.choice((_record(name, random), None)), "HTTP 200")
            case "p":
                name = random.choice("abcdef")
                if name not in dropped and all(name != other for other, _ in opened.values()):
                    watched.put(name, random.choice((_record(name, random), None)))
            case "q":
                busy = dropped | {other for other, _ in opened.values()}
                free = [name for name in random.sample("abcdef", 3) if name not in busy]
                watched.put_all({name: _record(name, random) for name in free})
            case "m" if not opened and not dropped and "a" in watched.state.jobs:
                watched.move({"a": "z"} if "z" not in watched.state.jobs else {"a": "z", "z": "a"})
            case "d":
                taken = {name for name, _ in opened.values()}
                records = watched.state.jobs.items()
                spent = {name for name, record in records if record.state is Desired.ABSENT and record.doubt is None}
                watched.drop_spent(tuple(spent - taken))
                dropped |= spent - taken
            case "k":
                watched.checkpoint()
            case "b":
                _two_at_once(watched, machine, random, {*dropped, *(name for name, _ in opened.values())})
            case _:
                pass


def _two_at_once(watched: Witness, machine: Machine, random: Random, taken: set[str]) -> None:
    """Make a second change during the flush of the first. The next flush must include it."""
    first, second = random.sample([name for name in "abcdefgh" if name not in taken], 2)
    records = _record(first, random), _record(second, random)
    if watched.record_of(second) == records[1]:
        return
    ended, threads = threading.Event(), []

    def work() -> None:
        try:
            watched.put(second, records[1])
        except (PowerLoss, JournalBroken, OSError):
            pass
        finally:
            ended.set()

    def crowd(path: str) -> None:
        if not path.endswith(".journal.tmp"):
            return
        machine.disk.before_flush = None
        thread = threading.Thread(target=work)
        threads.append(thread)
        before = watched.journal_bytes
        thread.start()
        until_s = time.monotonic() + _WAIT_S
        while not (ended.wait(0.0005) or watched.journal_bytes > before):
            if time.monotonic() > until_s:
                raise Violation("while one thread flushes, no other can add a record")

    machine.disk.before_flush = crowd
    try:
        watched.put(first, records[0])
    finally:
        machine.disk.before_flush = None
        for thread in threads:
            thread.join()


def _doubt(random: Random) -> Doubt:
    before = Evidence(Status.DRAFT, "JOB_STATE_NEW") if random.random() < 0.5 else None
    op = f"op-{random.getrandbits(48):012x}"
    return Doubt(op, random.choice(list(Verb)), {"jobTimeout": 7}, "t", before, "2026-11-21T10:00:00Z", "")


def _fresh_id(name: str, random: Random) -> str:
    """Return a new id of an engine job, since names move in these histories and no state may hold an id twice."""
    return f"id-{name}-{random.getrandbits(32):08x}"


def _record(name: str, random: Random) -> Record:
    # Some records are longer than a sector, and some longer than several sectors.
    tokens = frozenset(f"token-{n:03d}" for n in range(random.choice((0, 1, 2, 70, 200))))
    config = {"jobTimeout": random.randint(1, 3)}
    return Record(_fresh_id(name, random), random.choice(list(Desired)), config, tokens, run=random.randint(0, 9))


@contextmanager
def _small_sizes(random: Random) -> Iterator[None]:
    """In half of the histories, let the journal grow and be folded into the state every few records."""
    if random.random() < 0.5:
        yield
        return
    with (
        patch.object(journal, "CHUNK_BYTES", random.choice((1024, 4096))),
        patch.object(session, "RESERVE_BYTES", random.choice((64, 2048))),
        patch.object(writer, "CHECKPOINT_BYTES", random.choice((2048, 8192, 1024 * 1024))),
    ):
        yield


def _refuse_leftovers(machine: Machine) -> None:
    left = [name for name in machine.disk.names() if name.endswith(".journal")]
    if left:
        raise Violation(f"left behind: {left}")


# --- all of an apply ---------------------------------------------------------------------------------------------


class Clock:
    """A clock that advances only while somebody waits."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def read(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> bool:
        self.now_s += seconds
        return False


class Ledger:
    """The database of the embedded server, in memory, with a count of the runs that people asked for.

    `budget` is how many more times each job may run. `ours` is set while the tool's own call is carried out.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._jobs: dict[str, tuple[RemoteJob, RemoteJob | None]] = {}
        self.executions: list[tuple[Execution, bool]] = []
        self.ours = False
        self.budget: dict[str, int] = {}
        self.ran: Callable[[str], None] = lambda job_id: None
        self.changed_at: dict[str, float] = {}

    @contextmanager
    def transaction(self) -> Iterator[None]:
        yield

    def find(self, job_id: str) -> tuple[RemoteJob | None, RemoteJob | None]:
        return self._jobs.get(job_id, (None, None))

    def page(self, limit: int, offset: int) -> tuple[int, list[RemoteJob]]:
        jobs = [job for job, _ in self._jobs.values() if job.deleted_at is None]
        return len(jobs), jobs[offset : offset + limit]

    def keep(self, job: RemoteJob, before: RemoteJob | None) -> None:
        self._jobs[job.id] = (job, before)
        self.changed_at[job.id] = self._clock.now_s

    def enter(self, execution: Execution) -> None:
        self.executions.append((execution, self.ours))
        if execution.verb is Verb.RUN and self.ours:
            self.budget[execution.job_id] = self.budget.get(execution.job_id, 0) - 1
            self.ran(execution.job_id)

    def note(self, call: ReceivedCall) -> None:
        pass

    def last(self, job_id: str) -> Execution | None:
        """Return the last execution of a job."""
        return next((execution for execution, _ in reversed(self.executions) if execution.job_id == job_id), None)


class Wire:
    """The engine's transport: calls the service directly, with the faults of the machine and the network in between."""

    def __init__(self, remote: "Remote", service: Service, machine: Machine, refusing: float, stale: float) -> None:
        self._remote = remote
        self._service = service
        self._machine = machine
        self._refusing = refusing
        self._stale = stale

    def exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        self._machine.disk.tick()
        random, ledger = self._remote.random, self._remote.ledger
        if random.random() < self._refusing:
            return Reply(False, fault="the host refused the connection")
        target = url.removeprefix("http://127.0.0.1:1")
        job_id = target.removeprefix("/v1/customer/jobs/").partition("/")[0]
        op = self._remote.op_of(job_id, self._machine.promises) if method != "GET" else ""
        request = Request(method, target, headers["Authorization"], headers.get("Content-Type", ""), body or b"")
        fresh = ledger._jobs.get(job_id)
        is_stale = (
            method == "GET"
            and fresh is not None
            and fresh[1] is not None
            and self._remote.clock.now_s - ledger.changed_at[job_id] < STALE_S
            and random.random() < self._stale
        )
        if is_stale:
            assert fresh is not None
            assert fresh[1] is not None
            ledger._jobs[job_id] = (fresh[1], None)
        count = len(ledger.executions)
        ledger.ours = True
        reply, fault = self._service.answer(request)
        ledger.ours = False
        if is_stale:
            assert fresh is not None
            ledger._jobs[job_id] = fresh
        if len(ledger.executions) > count:
            self._remote.done_by.add(op)
            if ledger.budget.get(job_id, 0) < 0:
                raise Violation(f"{job_id} was run more often than was asked for")
        self._machine.disk.tick()
        if fault is not None and fault.kind in SILENT:
            return Reply(True, fault="the connection was reset before the whole answer came")
        if fault is not None and fault.kind is Kind.TRUNCATED:
            return Reply(True, reply.status, fault="the answer broke off before its end")
        text = reply.body.decode(errors="replace")
        kept = {name.lower(): value for name, value in reply.headers.items()}
        return Reply(True, reply.status, kept, reply.body, text, _json(text))

    def close(self) -> None:
        pass


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


class Remote:
    """The service on another machine: its jobs, its faults, and the other people who act on it."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.clock = Clock()
        self.ledger = Ledger(self.clock)
        self.done_by: set[str] = set()
        self.moody = True
        self._options = Options(
            _TOKEN, "", 3600, random.choice((1.0, 500.0, 10_000.0)), random.random() < 0.5, random.random() < 0.7
        )
        for name in JOB_NAMES:
            if random.random() < 0.9:
                self.ledger.keep(RemoteJob(f"id-{name}", created_at=self.clock.now_s), None)
        self.clock.wait(1000)

    @property
    def reads(self) -> bool:
        return self._options.reads

    def wire(self, machine: Machine) -> Wire:
        random = self.random
        rules = []
        if self.moody and random.random() < 0.6:
            for _ in range(random.randint(1, 3)):
                verb = random.choice(("run", "run", "abort", "delete", "read", "any"))
                kinds = ["503", "503:after", "500:after", "502", "reset", "reset:after", "truncated:after", "429"]
                kinds += ["403", "empty:after", "html", "not-ok", "wrong-type:after", "302:after", "404"]
                kinds += ["fail"] if verb == "run" else []
                rule = f"{verb}:{random.choice(kinds)}:p={random.choice(('0.3', '0.7', '1'))}"
                times = f":times={random.randint(1, 5)}" if random.random() < 0.7 else ""
                rules.append(parse_fault(f"{rule}{times}:seed={random.getrandbits(16)}"))
        moody = self.moody and random.random() < 0.3
        return Wire(self, self._service(rules), machine, 0.2 if moody else 0.0, 0.5 if moody else 0.0)

    def act_from_outside(self) -> None:
        """Run or abort a job as somebody else."""
        job_id = f"id-{self.random.choice(JOB_NAMES)}"
        verb = self.random.choice(("run", "abort", "abort"))
        body = b'{"config": {"jobTimeout": 5000}}' if verb == "run" else b""
        self._service([]).answer(Request("POST", f"/v1/customer/jobs/{job_id}/{verb}", _TOKEN, body=body))

    def op_of(self, job_id: str, promises: Promises) -> str:
        """Return the op of the intent of a call. The intent must have been on disk before the call."""
        ops = [op for op, (_, intended_id, _) in promises.open.items() if intended_id == job_id]
        if len(ops) != 1:
            raise Violation(f"a call for {job_id} was sent with {len(ops)} intents on record")
        return ops[0]

    def _service(self, rules: list[Any]) -> Service:
        database = cast(Database, self.ledger)
        return Service(database, Faults(rules), self._options, self.clock.read, self.random.randbytes)


JOB_NAMES = ("a", "b", "c")


class People:
    """The people who edit the manifest. Each edit asks for at most one run, and they know which edits ask."""

    def __init__(self, random: Random, ledger: Ledger) -> None:
        self.random = random
        self._ledger = ledger
        self._spent_tokens: dict[str, set[str | None]] = {name: {None} for name in JOB_NAMES}
        self.jobs: dict[str, Job] = {}
        ledger.ran = self._ran
        for name in JOB_NAMES[: random.randint(1, 3)]:
            self._declare(self._draw(name))

    def manifest(self) -> Manifest:
        jobs = dict(sorted(self.jobs.items()))
        return Manifest(TARGET, jobs, {}, {})

    def edit(self) -> None:
        for _ in range(self.random.randint(1, 2)):
            name = self.random.choice(JOB_NAMES)
            if name in self.jobs and len(self.jobs) > 1 and self.random.random() < 0.1:
                del self.jobs[name]
            else:
                self._declare(self._draw(name))

    def _draw(self, name: str) -> Job:
        random = self.random
        old = self.jobs.get(name)
        state = random.choice([Desired.RUNNING] * 5 + [Desired.ABORTED] * 2 + [Desired.ABSENT])
        config: Config = {"jobTimeout": random.choice((7000, 8000))}
        token = random.choice((None, None, "1", "2", "3"))
        if old is not None and random.random() < 0.5:
            config, token = old.config, old.run_token
        change = random.choice([OnConfigChange.RESTART] * 4 + list(OnConfigChange))
        return Job(name, f"id-{name}", state, config, token, change, protect=random.random() < 0.05)

    def _declare(self, job: Job) -> None:
        old = self.jobs.get(job.name)
        running = job.state is Desired.RUNNING
        if not running:
            self._ledger.budget[job.id] = 0
        elif (
            old is None
            or old.state is not Desired.RUNNING
            or job.config != old.config
            or job.on_config_change != old.on_config_change
            or job.run_token not in self._spent_tokens[job.name]
        ):
            self._ledger.budget[job.id] = 1
        self.jobs[job.name] = job

    def _ran(self, job_id: str) -> None:
        """Note that a token has led to a run.

        A token asks for one run only, even if the manifest returns to the token.
        """
        name = job_id.removeprefix("id-")
        self._spent_tokens[name].add(self.jobs[name].run_token)


class Applies:
    """The use cases on this machine and this service."""

    def __init__(self, random: Random, folder: str) -> None:
        self.random = random
        self.machine = Machine(random, folder)
        self.remote = Remote(random)
        self.people = People(random, self.remote.ledger)
        self.world = World({}, cast(threading.Event, _Flag(self.remote.clock)))
        self.count = 0
        self.doubts = 0

    def apply(self) -> "Applied | None":
        """Apply; return None if the power was lost, or the disk failed for good."""
        self.count += 1
        options = ApplyOptions(Pace(parallelism=1), settle_s=_SETTLE_S, fail_fast=self.random.random() < 0.1)
        selection = Selection(prune=self.random.random() < 0.2)
        try:
            interaction = Interaction(confirm=lambda plan: None, watch=lambda plan, event: None)
            done = apply(self.workspace, selection, options, interaction)
        except PowerLoss:
            return None
        except (ReconcilerError, OSError) as fault:
            if self.remote.moody and not isinstance(fault, StateError):
                return None
            if isinstance(fault, StateError) and "nothing was sent" in fault.message and self.machine.disk.failing:
                return None
            raise
        if self.machine.disk.off:
            return None
        self.doubts += done.exit_code is ExitCode.IN_DOUBT
        return done

    @property
    def workspace(self) -> GivenWorkspace:
        """The workspace of this machine, this service and the present manifest."""
        return GivenWorkspace(
            self.world,
            self.people.manifest(),
            lambda: _WitnessedStore(self.machine),
            lambda: nullcontext(self._engine()),
        )

    def _engine(self) -> ByteniteEngine:
        clock = self.remote.clock
        engine = ByteniteEngine(
            TARGET.address,
            Credentials(access_token=_TOKEN),
            parallelism=1,
            max_rps=None,
            wait=clock.wait,
            random=self.random,
            clock=clock.read,
            wall_clock=clock.read,
        )
        engine._transport = cast(Any, self.remote.wire(self.machine))
        return engine

    def recorded(self) -> Mapping[str, Record]:
        state = self.machine.store().read(TARGET)
        return {} if state is None else state.jobs

    def check_runs_on_record(self) -> None:
        """Check by the ledger that the record of each job shows our last execution, or a doubt."""
        recorded = {record.id: record for record in self.recorded().values()}
        # only declared jobs, since --prune drops the record of an undeclared job that is gone
        for name in self.people.jobs:
            execution = self.remote.ledger.last(f"id-{name}")
            ours = [d for d, is_ours in self.remote.ledger.executions if d.job_id == f"id-{name}" and is_ours]
            if ours and ours[-1].verb is Verb.RUN and ours[-1] is execution and execution.job_id not in recorded:
                raise Violation(f"{execution.job_id} was run, and nothing is on record of it")


class _Flag:
    """The part of a stop flag that an apply uses, on the clock of the history."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        return self._clock.wait(seconds)


class _InTurn:
    """A pool that runs each task at once, so that the order is always the same, and ten times as fast."""

    def __init__(self, threads: int) -> None:
        pass

    def __enter__(self) -> "_InTurn":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def help(self) -> None:
        """Do nothing, since each task has been run already."""

    def submit(self, task: Callable[..., None], *arguments: object) -> None:
        try:
            task(*arguments)
        except PowerLoss:
            # A real pool would keep the exception in a future that nobody reads. A `Violation` must not be lost that
            # way.
            pass


class _WitnessedStore:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._real = machine.store()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    @contextmanager
    def open(self, target: Target, what: str, timeout_s: float) -> Iterator[Witness]:
        with self._real.open(target, what, timeout_s) as real:
            yield Witness(real, self._machine.promises)


def apply_history(random: Random, folder: str) -> Outcome:
    """People edit and apply, with a faulty service and a machine that loses power, until everything comes to rest."""
    applies = Applies(random, folder)
    machine, remote, disk = applies.machine, applies.remote, applies.machine.disk
    in_turn = patch.object(execute, "WorkerPool", _InTurn), patch.object(threads, "Thread", NoThread)
    with in_turn[0], in_turn[1], _small_sizes(random):
        for _ in range(random.randint(1, 3)):
            machine.disk.off_at = None
            if random.random() < 0.75:
                machine.disk.off_at = machine.disk.ticks + random.randint(0, random.choice((15, 40, 80)))
            machine.disk.failing = random.choice((0.0,) * 9 + (0.05,))
            done = applies.apply()
            if done is None or machine.disk.off or random.random() < 0.2:
                machine.lose_power()
            else:
                machine.disk.failing, machine.disk.off_at = 0.0, None
                machine.check()
            applies.check_runs_on_record()
            remote.clock.wait(random.choice((1.0, 2 * STALE_S, 1000.0, 20_000.0)))
            if random.random() < 0.1:
                remote.act_from_outside()
                remote.clock.wait(2 * STALE_S)
            if random.random() < 0.6:
                applies.people.edit()
        disk = machine.disk
        disk.off_at, disk.failing, remote.moody = None, 0.0, False
        _come_to_rest(applies)
    _refuse_leftovers(machine)
    machine.check_history()
    runs = sum(execution.verb is Verb.RUN for execution, _ in remote.ledger.executions)
    return Outcome(machine.losses, applies.count, runs, applies.doubts)


def _come_to_rest(applies: Applies) -> None:
    """Apply without faults until nothing changes, and check that only a person's doubts are left."""
    remote = applies.remote
    for _ in range(2):
        for attempt in range(_APPLIES_TO_REST):
            count = len(remote.ledger.executions)
            before = applies.recorded()
            done = applies.apply()
            if done is None:
                raise Violation("an apply failed where nothing fails any more")
            remote.clock.wait(1000)
            if len(remote.ledger.executions) == count and applies.recorded() == before:
                break
            if attempt == _APPLIES_TO_REST - 1:
                raise Violation("applying again does not come to rest")
        assert done is not None
        applies.machine.check()
        doubtful = {name: record.doubt for name, record in applies.recorded().items() if record.doubt is not None}
        declared = [name for name in doubtful if name in applies.people.jobs]
        if declared and done.exit_code is not ExitCode.IN_DOUBT:
            raise Violation(f"{declared} in doubt, and the exit code is {done.exit_code}")
        if not doubtful:
            break
        for name, doubt in doubtful.items():
            resolve(applies.workspace, name, doubt.op in remote.done_by, "I looked", 0.0)
    else:
        raise Violation(f"still in doubt after a person said what became of it: {doubtful}")
    _check_done(applies, done)


def _check_done(applies: Applies, done: "Applied") -> None:
    """Check that each job that counts as running was run."""
    recorded = applies.recorded()
    for outcome in done.outcomes:
        if outcome.done is not ActionKind.NOOP or outcome.action.job not in applies.people.jobs:
            continue
        job = applies.people.jobs[outcome.action.job]
        record, execution = recorded.get(job.name), applies.remote.ledger.last(job.id)
        if job.state is Desired.RUNNING:
            ran = any(d.job_id == job.id and d.verb is Verb.RUN for d, _ in applies.remote.ledger.executions)
            if record is None or not ran:
                raise Violation(f"{job.name} counts as run, and the ledger has no run of it: {record}, {execution}")
            ours = [d for d, is_ours in applies.remote.ledger.executions if d.job_id == job.id and is_ours]
            if ours and ours[-1] is execution and execution.verb is not Verb.RUN:
                raise Violation(f"{job.name} counts as run, and the last that we did was {execution}")


# --- the runner --------------------------------------------------------------------------------------------------


class History(Protocol):
    def __call__(self, random: Random, folder: str) -> Outcome: ...


KINDS: Mapping[str, History] = {"session": session_history, "apply": apply_history}


def run_history(kind: str, seed: int, number: int, folder: str) -> Outcome:
    """Play one history, which is the same each time. Raises any error of the history."""
    return KINDS[kind](Random(f"{kind}:{seed}:{number}"), folder)


def run_histories(kind: str, seed: int, numbers: range) -> tuple[Counter[str], list[str]]:
    """Play many histories; return the sums of their figures, and the failures with the names that repeat them."""
    sums: Counter[str] = Counter()
    failures: list[str] = []
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        os.mkdir(f"{folder}/marks")
        for number in numbers:
            try:
                outcome = run_history(kind, seed, number, folder)
            except BaseException as fault:  # any exception is a finding
                if isinstance(fault, KeyboardInterrupt):
                    raise
                failures.append(f"{kind}:{seed}:{number}: {type(fault).__name__}: {fault}")
                if len(failures) >= _ENOUGH:
                    break
            else:
                sums.update(outcome._asdict())
            sums["histories"] += 1
    return sums, failures


def main() -> NoReturn:
    """Parse the command line and play the histories."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--histories", type=int, default=100_000, help="half of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--only", default="", metavar="KIND:SEED:NUMBER", help="one history, with its traceback")
    options = parser.parse_args()
    if options.only:
        kind, seed, number = options.only.split(":")
        with tempfile.TemporaryDirectory() as folder:
            os.mkdir(f"{folder}/marks")
            try:
                print(run_history(kind, int(seed), int(number), folder))
            except Violation:
                traceback.print_exc()
                sys.exit(1)
        sys.exit(0)
    sys.exit(_run_all(options.histories, options.seed, options.jobs))


def _run_all(histories: int, seed: int, jobs: int) -> int:
    from multiprocessing import get_context

    size = 250
    half = histories // 2
    tasks = [(kind, seed, range(at, min(at + size, half))) for at in range(0, half, size) for kind in KINDS]
    sums: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    failures: list[str] = []
    started_s = time.monotonic()
    with get_context("spawn").Pool(jobs) as pool:
        results = [(task[0], pool.apply_async(run_histories, task)) for task in tasks]
        for kind, result in results:
            some_sums, some_failures = result.get()
            sums[kind] += some_sums
            failures += some_failures
            if len(failures) >= _ENOUGH:
                pool.terminate()
                break
    for kind, counts in sums.items():
        words = ", ".join(f"{counts[key]} {key}" for key in ("losses", "applies", "runs", "doubts") if counts[key])
        print(f"{kind}: {counts['histories']} histories: {words}")
    print(f"seed {seed}: {len(failures)} broken, in {time.monotonic() - started_s:.0f} s")
    count = sum(one["histories"] for one in sums.values())
    print(tally.last_line("power loss", f"--seed {seed} (other histories with any other)", count, len(failures)))
    for failure in failures:
        print(failure)
    return 1 if failures else 0


if __name__ == "__main__":
    main()
