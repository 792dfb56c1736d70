"""The life of simulated jobs: the effect of each call on a job, and the database of the embedded server.

    draft ── run ──> active ── time passes ──> complete, or failed
      │                └────── abort ────────> aborted, at once or after a drain
      └── abort ──> deleted        complete, failed and aborted jobs run again

The state of a job is computed from its times at each read, so nothing runs in the background. All times are seconds
since 1970, in UTC. The file is an SQLite database with a write-ahead log. A transaction is on file as a whole or not at
all, whenever the program is killed.
"""

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from reconciler.model.errors import EngineError
from reconciler.model.jobs import Verb

RunConfig = Mapping[str, int | bool]
"""What a run is started with: the `jobJobConfig` of the API."""


class JobState(StrEnum):
    """The states, as the API writes them.

    The API publishes NEW, COMPLETE and FAILED; the other two are of this server.
    """

    NEW = "JOB_STATE_NEW"
    RUNNING = "JOB_STATE_RUNNING"
    COMPLETE = "JOB_STATE_COMPLETE"
    FAILED = "JOB_STATE_FAILED"
    ABORTED = "JOB_STATE_ABORTED"


class NotAllowed(Exception):
    """The state of a job forbids the call. `message` is short, and `advice` says what the client can do."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice


class Job(NamedTuple):
    """One job, as a row of the database.

    `config` is the JSON of the last run's config. `ends_at` is the time at which the last run ends by itself. `failure`
    is the reason why that run fails, or "" if it completes. `aborted_at` is the time at which an abort shows, which is
    later than the abort if the job drains. `created_at` is None for a draft that is not stored.
    """

    id: str
    name: str = ""
    template_id: str = ""
    description: str = ""
    config: str = "{}"
    created_at: float | None = None
    submitted_at: float | None = None
    ends_at: float | None = None
    failure: str = ""
    aborted_at: float | None = None
    deleted_at: float | None = None


class Execution(NamedTuple):
    """One line of the ledger: a call that the server carried out.

    `verb` is the effect of the call: an abort that deletes a draft is a delete. `at` is in seconds since 1970. `config`
    is the config of a run, and empty for another verb.
    """

    job_id: str
    verb: Verb
    at: float
    request_id: str
    config: RunConfig


class ReceivedCall(NamedTuple):
    """One call that the server received.

    `status` is None if no response was sent, and `fault` is "" without a fault.
    """

    at: float
    method: str
    path: str
    status: int | None
    fault: str
    request_id: str


def state(job: Job, now: float) -> JobState:
    """Return the state of a job at a time."""
    if job.ends_at is None:
        return JobState.NEW
    if job.aborted_at is not None:
        return JobState.ABORTED if job.aborted_at <= now else JobState.RUNNING
    if now < job.ends_at:
        return JobState.RUNNING
    return JobState.FAILED if job.failure else JobState.COMPLETE


def run(job: Job, config: RunConfig, now: float, job_seconds: float, failure: str = "") -> Job:
    """Return the job with a new run. Raises `NotAllowed` if the job is active.

    `failure` is the reason why the run will fail, or "". A `jobTimeout` of 0 sets no limit, since Protocol Buffers
    can't tell 0 from a missing field.
    """
    if state(job, now) is JobState.RUNNING:
        raise NotAllowed("already running", "The job is running; abort it before you run it again.")
    limit = int(config.get("jobTimeout", 0))
    if 0 < limit < job_seconds:
        failure = f"jobTimeout of {limit} s is over (a simulated job takes {job_seconds:g} s)"
        job_seconds = limit
    return job._replace(
        config=json.dumps(dict(config)),
        created_at=now if job.created_at is None else job.created_at,
        submitted_at=now,
        ends_at=now + job_seconds,
        failure=failure,
        aborted_at=None,
    )


def abort(job: Job, now: float, drain_s: float = 0.0) -> Job:
    """Return the job aborted, or deleted if the job was never run, as the contract says.

    The job stays active for `drain_s` seconds. Raises `NotAllowed` if the job is neither active nor a draft, and if an
    earlier abort has yet to show.
    """
    match state(job, now):
        case JobState.NEW:
            return delete(job, now)
        case JobState.RUNNING if job.aborted_at is not None:
            raise NotAllowed("already being aborted", "The job was aborted and has yet to end.")
        case JobState.RUNNING:
            return job._replace(aborted_at=now + drain_s)
        case ended:
            raise NotAllowed("not running", f"The job is not running: its state is {ended}.")


def delete(job: Job, now: float) -> Job:
    """Return the job deleted. Raises `NotAllowed` if the job is active."""
    if state(job, now) is JobState.RUNNING:
        raise NotAllowed("still running", "The job is running; abort it before you delete it.")
    return job._replace(created_at=now if job.created_at is None else job.created_at, deleted_at=now)


def to_wire(job: Job, now: float, time_format: str = "") -> dict[str, Any]:
    """Return the job as the API writes it. Each int64 is a decimal string, as in the JSON of Protocol Buffers.

    `time_format` is one of `faults.TIME_FORMATS`, or "" for microseconds.
    """

    def written(at: float | None) -> str | None:
        return None if at is None else _rfc3339(at, time_format)

    word = state(job, now)
    ended = job.aborted_at if word is JobState.ABORTED else job.ends_at if word is not JobState.RUNNING else None
    times = {JobState.NEW: job.created_at, JobState.RUNNING: job.submitted_at}
    if ended is not None:
        times[word] = ended
    config = json.loads(job.config)
    return {
        "id": job.id,
        "name": job.name,
        "templateId": job.template_id,
        "description": job.description,
        "config": {key: value if isinstance(value, bool) else str(value) for key, value in config.items()},
        "state": word.value,
        "createdAt": written(job.created_at),
        "submittedAt": written(job.submitted_at),
        "startedAt": written(job.submitted_at),
        "endedAt": written(ended),
        "deletedAt": None,
        "errorMessage": job.failure if word is JobState.FAILED else "",
        "stateTimestamps": {key.value: written(at) for key, at in times.items() if at is not None},
    }


def _rfc3339(at: float, time_format: str) -> str:
    when = datetime.fromtimestamp(at, UTC)
    match time_format:
        case "seconds":
            return when.isoformat(timespec="seconds").replace("+00:00", "Z")
        case "millis":
            return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case "nanos":
            return when.isoformat(timespec="microseconds").replace("+00:00", "000Z")
        case "offset":
            return when.astimezone(timezone(timedelta(hours=1))).isoformat(timespec="microseconds")
        case "lower":
            return when.isoformat(timespec="microseconds").replace("+00:00", "z").replace("T", "t")
        case _:
            return when.isoformat(timespec="microseconds").replace("+00:00", "Z")


_APPLICATION_ID = 0x5EC0_5A2D
_SCHEMA = (
    # `before` is the job before its last change, as a JSON list, or NULL for a new job.
    """CREATE TABLE jobs (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, template_id TEXT NOT NULL, description TEXT NOT NULL,
        config TEXT NOT NULL, created_at REAL, submitted_at REAL, ends_at REAL, failure TEXT NOT NULL,
        aborted_at REAL, deleted_at REAL, before TEXT)""",
    "CREATE INDEX jobs_by_age ON jobs (created_at, id) WHERE deleted_at IS NULL",
    """CREATE TABLE ledger (
        seq INTEGER PRIMARY KEY, job_id TEXT NOT NULL, verb TEXT NOT NULL, at REAL NOT NULL,
        request_id TEXT NOT NULL, config TEXT NOT NULL)""",
    """CREATE TABLE calls (
        seq INTEGER PRIMARY KEY, at REAL NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL, status INTEGER,
        fault TEXT NOT NULL, request_id TEXT NOT NULL)""",
    f"PRAGMA application_id = {_APPLICATION_ID}",
)


class Database:
    """The database: the jobs, the ledger of executions, and the calls that were received.

    All threads share one connection behind one lock. Every method but `close` must be called inside `transaction`. A
    deleted job stays in the database, with its time of deletion. Raises `EngineError` if the file can't be used.
    """

    def __init__(self, db_path: str | os.PathLike[str]) -> None:
        self._lock = threading.RLock()
        try:
            self._sql = sqlite3.connect(db_path, timeout=10, isolation_level=None, check_same_thread=False)
            self._prepare()
        except sqlite3.Error as error:
            hint = "Give the path of a sandbox database, or of a new file in a folder that is there."
            raise EngineError(f"can't use {os.fspath(db_path)} as the sandbox database: {error}", hint) from error

    def _prepare(self) -> None:
        try:
            self._sql.execute("PRAGMA journal_mode = WAL")
            self._sql.execute("PRAGMA synchronous = NORMAL")  # in WAL mode, a killed program loses no commit
            with self.transaction():
                if self._sql.execute("PRAGMA application_id").fetchone()[0] == _APPLICATION_ID:
                    return
                if self._sql.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    raise sqlite3.DatabaseError("it holds something else")
                for statement in _SCHEMA:
                    self._sql.execute(statement)
        except sqlite3.Error:
            self._sql.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep all changes of the block together, or none of them if an exception leaves the block."""
        with self._lock:
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._sql.execute("COMMIT")
            except BaseException:
                if self._sql.in_transaction:
                    self._sql.execute("ROLLBACK")
                raise

    def find(self, job_id: str) -> tuple[Job | None, Job | None]:
        """Return the job, and the job before its last change; None for each that does not exist.

        A deleted job has `deleted_at`.
        """
        row = self._sql.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None:
            return None, None
        return Job(*row[:-1]), None if row[-1] is None else Job(*json.loads(row[-1]))

    def page(self, limit: int, offset: int) -> tuple[int, list[Job]]:
        """Return the number of all jobs, and the jobs of one page, oldest first."""
        total = self._sql.execute("SELECT count(*) FROM jobs WHERE deleted_at IS NULL").fetchone()[0]
        rows = self._sql.execute(
            "SELECT * FROM jobs WHERE deleted_at IS NULL ORDER BY created_at, id LIMIT ? OFFSET ?", (limit, offset)
        )
        return total, [Job(*row[:-1]) for row in rows]

    def keep(self, job: Job, before: Job | None) -> None:
        """Store a job that is new or has changed. `before` is the job as it was stored, or None."""
        earlier = None if before is None else json.dumps(before)
        self._sql.execute("INSERT OR REPLACE INTO jobs VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", (*job, earlier))

    def enter(self, execution: Execution) -> None:
        """Add an execution to the ledger."""
        self._sql.execute(
            "INSERT INTO ledger (job_id, verb, at, request_id, config) VALUES (?,?,?,?,?)",
            (
                execution.job_id,
                execution.verb.value,
                execution.at,
                execution.request_id,
                json.dumps(dict(execution.config)),
            ),
        )

    def note(self, call: ReceivedCall) -> None:
        """Add a call that was received."""
        self._sql.execute("INSERT INTO calls (at, method, path, status, fault, request_id) VALUES (?,?,?,?,?,?)", call)

    def close(self) -> None:
        """Close the file. A later call of another method raises `sqlite3.ProgrammingError`."""
        with self._lock:
            self._sql.close()


def ledger(db_path: str | os.PathLike[str]) -> list[Execution]:
    """Return the executions of a database, oldest first. The server may be running, stopped or killed."""
    rows = _read(db_path, "SELECT job_id, verb, at, request_id, config FROM ledger ORDER BY seq")
    return [
        Execution(job_id, Verb(verb), at, request_id, json.loads(config))
        for job_id, verb, at, request_id, config in rows
    ]


def calls(db_path: str | os.PathLike[str]) -> list[ReceivedCall]:
    """Return the calls that the server received, oldest first."""
    rows = _read(db_path, "SELECT at, method, path, status, fault, request_id FROM calls ORDER BY seq")
    return [ReceivedCall(*row) for row in rows]


def _read(db_path: str | os.PathLike[str], query: str) -> list[Any]:
    with closing(sqlite3.connect(f"{Path(db_path).absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as sql:
        return sql.execute(query).fetchall()
