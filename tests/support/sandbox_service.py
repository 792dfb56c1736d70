"""The server of the sandbox as the service of a contract suite: what a person does to it stands in its database."""

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from project import TOKEN
from reconciler.engines.port import Config, Verb
from reconciler.engines.sandbox.faults import parse_fault
from reconciler.engines.sandbox.life import Database, Job, ledger
from reconciler.engines.sandbox.server import SandboxServer
from reconciler.testing.services import Service


class SandboxService(Service):
    """A server with a database. Its jobs run until a test ends them."""

    def __init__(self, engine: str, db: Path, server: SandboxServer) -> None:
        self._engine = engine
        self._db = db
        self._endpoint = server.endpoint
        host, _, port = server.endpoint.removeprefix("http://").partition("/")[0].partition(":")
        self.server = host, int(port)

    @property
    def block(self) -> Mapping[str, Any]:
        return {"engine": self._engine, "endpoint": self._endpoint}

    @property
    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "BYTENITE_ACCESS_TOKEN": TOKEN}

    def config(self, *, fails: bool = False) -> Config:
        return {"jobTimeout": 100 if fails else 100_000}

    def runs(self, job_id: str) -> int:
        return sum(one.job_id == job_id and one.verb is Verb.RUN for one in ledger(self._db))

    def create(self, job_id: str) -> None:
        database = Database(self._db)
        with database.transaction():
            database.keep(Job(job_id, created_at=time.time()), None)
        database.close()

    def end(self, job_id: str) -> None:
        self._change("UPDATE jobs SET ends_at = ? WHERE id = ?", time.time(), job_id)

    def lose(self, job_id: str) -> None:
        self._change("UPDATE jobs SET deleted_at = ? WHERE id = ?", time.time(), job_id)

    def block_through(self, host: str, port: int) -> Mapping[str, Any]:
        return {"engine": self._engine, "endpoint": f"http://{host}:{port}/v1/customer"}

    @contextmanager
    def refusing(self) -> Iterator[Mapping[str, Any] | None]:
        faults = [parse_fault(f"{verb}:403") for verb in Verb]
        with SandboxServer(self._db, access_token=TOKEN, faults=faults, reads=self.reads) as server:
            yield {"engine": self._engine, "endpoint": server.endpoint}

    def _change(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self._db, timeout=10)) as sql, sql:
            sql.execute(statement, values)


class EmbeddedSandboxService(SandboxService):
    """The server that the sandbox engine starts by itself, which keeps its jobs beside the state."""

    knows_every_id = True
    server = None

    def __init__(self, folder: Path) -> None:
        self._engine = "sandbox"
        self._folder = folder
        self._db = folder / "jobs.sandbox.db"

    @property
    def block(self) -> Mapping[str, Any]:
        return {"engine": "sandbox"}

    @property
    def beside_state(self) -> str:
        return str(self._folder / "jobs")

    def config(self, *, fails: bool = False) -> Config:
        return {"jobTimeout": 20} if fails else {}

    @contextmanager
    def refusing(self) -> Iterator[Mapping[str, Any] | None]:
        yield None
