"""A pretend cluster: an engine in this process that keeps every promise, or breaks any of them on request.

The service of the sandbox is the ByteNite API, which knows neither run ids nor owners. This engine has them, and its
promises are arguments. An author of rules or of a plugin sees with it what a tool does on an engine of each kind:

    cluster = Cluster(clock)
    engine = ClusterEngine(cluster, ATOMIC._replace(keeps_ended_s=300.0))

A `Cluster` is the service, and any number of engines may be at work on it, also in several processes: a cluster with a
path is an SQLite database, in which each call is carried out whole or not at all, whenever a program is killed.
`Cluster.faults` makes answers disappear.
"""

import json
import math
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum

from reconciler.engines.port import AnswerClass, Promises, Reason, Result, Step, always, reason_of_duplicate
from reconciler.engines.sandbox.runs import Run, run_from
from reconciler.model.errors import EngineError
from reconciler.model.jobs import EMPTY, ENDS, NOT_OBSERVED, Config, Marks, Observation, Status, Verb

ATOMIC = Promises(creates_on_run=True, atomic_run=True, reads=True, lists=True, keeps_ended_s=math.inf, has_logs=True)
"""The promises of an engine whose runs have names of their own, such as Kubernetes."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    marks TEXT NOT NULL,
    config TEXT NOT NULL,
    began_at REAL NOT NULL,
    status TEXT NOT NULL,
    ended_at REAL,
    forgotten INTEGER NOT NULL DEFAULT 0,
    stops_at REAL,
    after TEXT NOT NULL DEFAULT '[]',
    executes_from REAL
);
CREATE TABLE IF NOT EXISTS staged (number INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT NOT NULL);
"""


class Lost(StrEnum):
    """What happens to a call of the cluster.

    NOT_SENT  no byte of the request leaves
    BEFORE    the request is lost, and the cluster does nothing
    AFTER     the cluster carries out the call, and the answer is lost
    """

    NOT_SENT = "not sent"
    BEFORE = "before the work"
    AFTER = "after the work"


class Cluster:
    """The service: jobs and their runs. Safe for use by many threads, and with a `path` by many processes.

    A run is active until `end` ends it, or for `run_s` seconds. A run that is aborted is active for `stop_s` seconds
    more. A run that comes after others is active while it waits for them, and is withdrawn if one of them does not
    complete. `clock` returns seconds since 1970.
    """

    def __init__(
        self, clock: Callable[[], float], *, path: str = ":memory:", run_s: float = math.inf, stop_s: float = 0.0
    ) -> None:
        self._clock = clock
        self._run_s = run_s
        self._stop_s = stop_s
        self._turn = threading.RLock()
        self._database = sqlite3.connect(path, timeout=60.0, isolation_level=None, check_same_thread=False)
        self._database.executescript(_SCHEMA)
        self.faults: deque[Lost] = deque()
        """What happens to the next calls, in order. A call beyond them is answered."""
        self.refusal: Reason | None = None
        """Why the cluster refuses every call, without a look at its jobs; None if it refuses none."""

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def create(self, *job_ids: str) -> None:
        """Create jobs that have no run yet, for an engine that does not create a job with its first run."""
        with self._changing() as database:
            database.executemany("INSERT OR IGNORE INTO jobs VALUES (?)", [(job_id,) for job_id in job_ids])

    def end(self, job_id: str, status: Status = Status.COMPLETE, ref: str = "") -> None:
        """End the active runs of a job with this status; with the handle of a run, that run alone.

        A run that waits for others can only be aborted.
        """
        with self._changing() as database:
            for run in self.runs(job_id):
                if run.status is not Status.ACTIVE or ref not in ("", run.ref):
                    continue
                executes, now_s = run.executes_from is not None, self._clock()
                if status is Status.ABORTED and executes and self._stop_s:
                    database.execute(
                        "UPDATE runs SET stops_at = ? WHERE number = ?", (now_s + self._stop_s, run.number)
                    )
                elif status is Status.ABORTED or executes:
                    self._conclude(run, status, now_s)

    def forget(self, job_id: str, ref: str = "") -> None:
        """Take away all that the cluster shows of a job, as `kubectl delete` does; with the handle of a run, that run.

        The ledger of `runs` stays. A job goes with the last of its runs.
        """
        with self._changing() as database:
            database.execute(
                "UPDATE runs SET forgotten = 1 WHERE job_id = ? AND ? IN ('', 'uid-' || number)", (job_id, ref)
            )
            database.execute(
                "DELETE FROM jobs WHERE id = ?"
                " AND NOT EXISTS (SELECT 1 FROM runs WHERE job_id = jobs.id AND NOT forgotten)",
                (job_id,),
            )

    def runs(self, job_id: str = "") -> list[Run]:
        """Every run that was ever started, the oldest first, also those that the cluster shows no more."""
        with self._changing() as database:
            rows = database.execute("SELECT * FROM runs WHERE ? IN ('', job_id) ORDER BY number", (job_id,)).fetchall()
        return [run_from(row) for row in rows]

    def shown(self, job_id: str, keeps_ended_s: float = math.inf) -> list[Run]:
        """The runs of a job that the cluster still shows, the newest first."""
        now_s = self._clock()
        with self._changing():
            found = reversed(self.runs(job_id))
        return [run for run in found if not run.forgotten and (run.ended_at or math.inf) + keeps_ended_s > now_s]

    def job_ids(self) -> list[str]:
        """The ids of all jobs that were created or run, in their order."""
        with self._changing() as database:
            rows = database.execute("SELECT id FROM jobs UNION SELECT job_id FROM runs WHERE NOT forgotten ORDER BY 1")
            return [job_id for (job_id,) in rows]

    def has(self, job_id: str) -> bool:
        """Whether a job was created."""
        with self._changing() as database:
            return database.execute("SELECT 1 FROM jobs WHERE id = ?", (job_id,)).fetchone() is not None

    def start(self, job_id: str, run_id: str, marks: Marks, config: Config, after: Collection[str] = ()) -> Run:
        """Start a run, whatever runs already, or let it wait for the runs of some handles. Returns the run."""
        with self._changing() as database:
            now_s = self._clock()
            words = job_id, run_id, json.dumps(marks), json.dumps(dict(config)), now_s, Status.ACTIVE.value
            cursor = database.execute(
                "INSERT INTO runs (job_id, run_id, marks, config, began_at, status, after, executes_from)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*words, json.dumps(sorted(after)), None if after else now_s),
            )
            row = database.execute("SELECT * FROM runs WHERE number = ?", (cursor.lastrowid,)).fetchone()
        return run_from(row)

    def stage(self, job_id: str) -> str:
        """Make something ready for a run of a job. Returns its handle."""
        with self._changing() as database:
            cursor = database.execute("INSERT INTO staged (job_id) VALUES (?)", (job_id,))
        return f"staged-{cursor.lastrowid}"

    def has_staged(self, handle: str) -> bool:
        """Whether `stage` returned this handle."""
        with self._changing() as database:
            number = handle.removeprefix("staged-")
            return database.execute("SELECT 1 FROM staged WHERE number = ?", (number,)).fetchone() is not None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let nobody else read or change the cluster during the block."""
        with self._changing():
            yield

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """Yield the database in a transaction, in which all runs that are over have ended."""
        with self._turn:
            if self._database.in_transaction:
                yield self._database
                return
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._end_what_is_over()
                while self._begin_what_waited():
                    self._end_what_is_over()
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def _end_what_is_over(self) -> None:
        now_s = self._clock()
        self._database.execute(
            "UPDATE runs SET status = ?, ended_at = executes_from + ? WHERE status = ? AND executes_from + ? <= ?",
            (Status.COMPLETE.value, self._run_s, Status.ACTIVE.value, self._run_s, now_s),
        )
        self._database.execute(
            "UPDATE runs SET status = ?, ended_at = stops_at WHERE status = ? AND stops_at <= ?",
            (Status.ABORTED.value, Status.ACTIVE.value, now_s),
        )

    def _begin_what_waited(self) -> bool:
        """Let the runs execute whose others have completed, and withdraw those whose others have not.

        Return whether there was one.
        """
        waiting = "SELECT 1 FROM runs WHERE status = ? AND executes_from IS NULL"
        if self._database.execute(waiting, (Status.ACTIVE.value,)).fetchone() is None:
            return False
        runs = {run.ref: run for run in self.runs()}
        has_changed = False
        for run in runs.values():
            if run.status is not Status.ACTIVE or run.executes_from is not None:
                continue
            others = [runs[ref] for ref in run.after]
            at_s = max(other.ended_at or 0.0 for other in others)
            if all(other.status is Status.COMPLETE for other in others):
                self._database.execute("UPDATE runs SET executes_from = ? WHERE number = ?", (at_s, run.number))
            elif any(other.status not in (Status.ACTIVE, Status.COMPLETE) for other in others):
                self._conclude(run, Status.WITHDRAWN, at_s)
            else:
                continue
            has_changed = True
        return has_changed

    def _conclude(self, run: Run, status: Status, at_s: float) -> None:
        self._database.execute(
            "UPDATE runs SET status = ?, ended_at = ? WHERE number = ?", (status.value, at_s, run.number)
        )


class ClusterEngine:
    """An `Engine` at a pretend cluster. Its promises are what the caller says.

    Without `atomic_run`, the cluster has neither run ids nor marks, and each run that it is sent is a new one. With
    `stages`, a run needs a handle of `stage`. `identity` is what `Engine.identity` returns.
    """

    def __init__(
        self,
        cluster: Cluster,
        promises: Promises = ATOMIC,
        *,
        identity: Mapping[str, str] = EMPTY,
        stages: bool = False,
    ) -> None:
        self._cluster = cluster
        self._promises = promises
        self._identity = dict(identity)
        self._stages = stages

    @property
    def promises(self) -> Promises:
        """See `Engine.promises`."""
        return self._promises

    def identity(self) -> Mapping[str, str]:
        """See `Engine.identity`."""
        return dict(self._identity)

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        """See `Engine.observe`."""
        if not self._promises.reads:
            return NOT_OBSERVED
        with self._cluster.alone():
            shown = self._shown(job_id)
            wanted = [run for run in shown if run_id in ("", run.run_id)] if self._promises.atomic_run else shown
            if wanted:
                return _observation(wanted[0])
            is_draft = self._cluster.has(job_id) and not run_id
        return Observation(Status.DRAFT, "created") if is_draft else Observation(Status.MISSING)

    def observe_many(self, job_ids: Collection[str]) -> Mapping[str, Observation]:
        """See `Engine.observe_many`."""
        with self._cluster.alone():
            return {job_id: self.observe(job_id) for job_id in job_ids}

    def observe_all(self) -> Iterator[tuple[str, Observation]]:
        """See `Engine.observe_all`."""
        if not self._promises.lists:
            raise EngineError("the cluster has no list of its jobs", "name the jobs one by one")
        with self._cluster.alone():
            found = self.observe_many(self._cluster.job_ids())
        yield from ((job_id, one) for job_id, one in found.items() if one.status is not Status.MISSING)

    def stage(self, step: Step) -> str:
        """See `Engine.stage`."""
        return self._cluster.stage(step.job_id) if self._stages and step.verb is Verb.RUN else ""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        """See `Engine.send`."""
        if not may_be_sent():
            return Result(AnswerClass.NOT_SENT, message="held back")
        fault = self._cluster.faults.popleft() if self._cluster.faults else None
        if fault is Lost.NOT_SENT:
            return Result(AnswerClass.NOT_SENT, message="the connection was refused")
        if self._cluster.refusal is not None:
            return _rejected(self._cluster.refusal, "the cluster refuses every call")
        if fault is not Lost.BEFORE:
            with self._cluster.alone():
                result = self._carry_out(step)
        return Result(AnswerClass.IN_DOUBT, message="the answer was lost") if fault else result

    def log(
        self, job_id: str, run_id: str, *, tail: int | None, follow: bool, stop: threading.Event
    ) -> Iterator[bytes]:
        """See `Engine.log`. A run logs one line when it begins, and one when it has ended."""
        if not self._promises.has_logs:
            raise EngineError("the cluster keeps no logs", "run the job where its log is kept")
        runs = [run for run in self._shown(job_id) if run_id in ("", run.run_id)]
        lines = [f"run {run.number} began\n" for run in runs[:1]]
        lines += [f"{run.status}\n" for run in runs[:1] if run.ended_at is not None]
        yield from (line.encode() for line in (lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]))

    def close(self) -> None:
        """Do nothing. The owner of the cluster closes the cluster."""

    def _shown(self, job_id: str) -> list[Run]:
        return self._cluster.shown(job_id, self._promises.keeps_ended_s)

    def _carry_out(self, step: Step) -> Result:
        """Carry out a call. The cluster is alone with it."""
        runs = self._shown(step.job_id)
        if not runs and not self._cluster.has(step.job_id) and not self._creates(step):
            return _rejected(Reason.NO_SUCH_JOB, f"there is no job {step.job_id}")
        match step.verb:
            case Verb.RUN:
                return self._start(step, runs)
            case Verb.ABORT | Verb.DELETE:
                return self._stop(step, runs)

    def _creates(self, step: Step) -> bool:
        return step.verb is Verb.RUN and self._promises.creates_on_run

    def _start(self, step: Step, runs: list[Run]) -> Result:
        """Start a run, unless the cluster has a run of that id already and promises to tell the two apart."""
        if self._stages and not self._cluster.has_staged(step.staged):
            return _rejected(Reason.INVALID, "nothing was made ready for the run")
        if not self._promises.atomic_run:
            run = self._cluster.start(step.job_id, "", Marks(), step.config, step.after)
            return Result(AnswerClass.APPLIED, ref=run.ref)
        for run in runs:
            if run.run_id == step.run_id:
                return _duplicate(run, step)
        known = {run.ref for run in self._cluster.runs()} if step.after else set()
        if unknown := [ref for ref in step.after if ref not in known]:
            return _rejected(Reason.OTHER, f"there is no run {unknown[0]} to wait for")
        run = self._cluster.start(step.job_id, step.run_id, step.marks, step.config, step.after)
        return Result(AnswerClass.APPLIED, ref=run.ref)

    def _stop(self, step: Step, runs: list[Run]) -> Result:
        """Abort the run that was seen, or all of them; or delete all, if the one that was seen is the newest."""
        owner = next((run.marks.lineage for run in runs if run.marks.lineage), "")
        if owner and step.marks.lineage and owner != step.marks.lineage:
            return _rejected(Reason.OTHER_OWNER, f"{step.job_id} belongs to lineage {owner}")
        about = [run for run in runs if step.seen in ("", run.ref)]
        if step.seen and not about:
            return _rejected(Reason.NOT_RUNNING, f"{step.seen} is not there any more")
        is_delete = step.verb is Verb.DELETE
        active = [run for run in (runs if is_delete else about) if run.status is Status.ACTIVE]
        if not is_delete:
            if not active:
                return _rejected(Reason.NOT_RUNNING, f"{step.job_id} has no active run")
            self._cluster.end(step.job_id, Status.ABORTED, step.seen)
        elif active:
            return _rejected(Reason.INVALID, f"{step.job_id} is active")
        elif runs and step.seen not in ("", runs[0].ref):
            return _rejected(Reason.OTHER, f"{runs[0].ref} is newer than {step.seen}")
        else:
            self._cluster.forget(step.job_id)
        return Result(AnswerClass.APPLIED)


def _duplicate(run: Run, step: Step) -> Result:
    """The answer to a run whose id the cluster has already."""
    reason = reason_of_duplicate(run.marks, step.marks)
    owner = f", and belongs to lineage {run.marks.lineage or 'nobody'}" if reason is Reason.OTHER_OWNER else ""
    ref = run.ref if reason is Reason.WAS_THERE else ""
    return Result(AnswerClass.REJECTED, reason, f"{run.run_id} was there already{owner}", ref=ref)


def _rejected(reason: Reason, message: str) -> Result:
    return Result(AnswerClass.REJECTED, reason, message)


def _observation(run: Run) -> Observation:
    return Observation(
        run.status,
        run.status.value,
        run.config,
        _time(run.began_at),
        {} if run.ended_at is None or run.status not in ENDS else {run.status.value: _time(run.ended_at)},
        run_id=run.run_id,
        ref=run.ref,
        marks=run.marks,
    )


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
