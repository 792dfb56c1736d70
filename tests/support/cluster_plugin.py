"""The pretend cluster of the sandbox as an engine with a plugin, whose promises stand in the target block."""

import math
import os
import sqlite3
import time
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from reconciler.engines.port import (
    Config,
    Engine,
    Job,
    Observation,
    Promises,
    Reason,
    Request,
    Schema,
    Status,
    Step,
    Surroundings,
    Target,
)
from reconciler.engines.sandbox.cluster import ATOMIC, Cluster, ClusterEngine, Lost
from reconciler.testing.proxy import Fault
from reconciler.testing.services import Service

LOST = {Fault.UNSENT: Lost.BEFORE, Fault.LOST: Lost.AFTER}


_TARGET_SCHEMA: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["path"],
    "properties": {
        "path": {"type": "string"},
        "promises": {"type": "array"},
        "identity": {"type": "object"},
        "lost": {"type": "string"},
        "refuses": {"type": "string"},
        "stop_s": {"type": "number"},
        "stages": {"type": "boolean"},
        "owned": {"type": "object"},
    },
}
_CONFIG_SCHEMA: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"fails": {"type": "boolean"}, "text": {"type": "string"}},
}


class ClusterPlugin:
    """An `EnginePlugin`. `engine_class` is the class of the engine, so that a test can seed a bug."""

    name = "cluster"
    engine_class: type[ClusterEngine] = ClusterEngine
    opened_with: ClassVar[list[Surroundings]] = []
    """What each engine of this program was opened with, in order."""

    target_schema = _TARGET_SCHEMA
    config_schema = _CONFIG_SCHEMA

    def target(self, block: Mapping[str, Any], folder: str) -> Target:
        return Target(self.name, os.path.join(folder, block["path"]), dict(block))

    def target_faults(self, block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from ()

    def job_fault(self, job: Job) -> str:
        return "" if len(job.id) <= 63 else "a job id has 63 characters at most"

    def same_config(self, a: Config, b: Config) -> bool:
        return a == b

    def wording(self, target: Target, step: Step) -> tuple[Request, ...]:
        return (Request(step.verb, f"{step.verb} {step.run_id}", dict(step.config) or None),)

    def addressed(self, target: Target, request: Request) -> Request:
        return request._replace(text=f"{request.text} at {target.address}")

    def warnings(self, target: Target, jobs: Collection[Job]) -> Iterable[str]:
        return [f"{job.name} ends with its machine" for job in jobs if job.config.get("text") == "drain"]

    def promises(self, target: Target) -> Promises:
        block: Any = target.settings
        if "promises" not in block:
            return ATOMIC
        values: list[Any] = [math.inf if value is None else value for value in block["promises"]]
        return Promises(*values)

    def is_on_this_machine(self, target: Target) -> bool:
        return True

    def secrets(self, env: Mapping[str, str]) -> Iterable[str]:
        return ()

    def open(self, target: Target, surroundings: Surroundings) -> AbstractContextManager[Engine]:
        self.opened_with.append(surroundings)
        return self._opened(target)

    @contextmanager
    def _opened(self, target: Target) -> Iterator[Engine]:
        block: Any = target.settings
        cluster = Cluster(time.time, path=block["path"], stop_s=block.get("stop_s", 0.0))
        if block.get("lost"):
            cluster.faults.extend(map(Lost, block["lost"].split(", ")))
        cluster.refusal = Reason(block["refuses"]) if "refuses" in block else None
        with closing(cluster):
            made = self.engine_class(
                cluster, self.promises(target), identity=block.get("identity", {}), stages=block.get("stages", False)
            )
            yield _Owned(made, block["owned"]) if "owned" in block else made


class _Owned:
    """An engine some of whose jobs another program owns. `owners` maps engine job ids to the words for the owner."""

    def __init__(self, engine: Engine, owners: Mapping[str, str]) -> None:
        self._engine = engine
        self._owners = owners

    def observe_all(self) -> Iterator[tuple[str, Observation]]:
        for job_id, observed in self._engine.observe_all():
            yield job_id, observed._replace(owned_by=self._owners.get(job_id, ""))

    def observe_many(self, job_ids: Collection[str]) -> Mapping[str, Observation]:
        found = self._engine.observe_many(job_ids).items()
        return {job_id: observed._replace(owned_by=self._owners.get(job_id, "")) for job_id, observed in found}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


PLUGIN = ClusterPlugin()


class ClusterService(Service):
    """A cluster in an SQLite database."""

    def __init__(self, folder: Path, promises: Promises = ATOMIC, **more: Any) -> None:
        self.cluster = Cluster(time.time, path=str(folder / "cluster.db"))
        # Python 3.13 warns of a database that is left open, and no suite closes a service.
        weakref.finalize(self, self.cluster.close)
        self._folder = folder
        self._promises = promises
        self._more = more

    @property
    def block(self) -> Mapping[str, Any]:
        # JSON has no infinity.
        promises = [None if value == math.inf else value for value in self._promises]
        return {"engine": "cluster", "path": str(self._folder / "cluster.db"), "promises": promises, **self._more}

    @property
    def other_block(self) -> Mapping[str, Any]:
        return {**self.block, "path": str(self._folder / "other.db"), "identity": {"cluster": "another"}}

    @property
    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}

    def config(self, *, fails: bool = False) -> Config:
        return {"fails": fails}

    def config_with(self, text: str) -> Config | None:
        return {"text": text}

    def runs(self, job_id: str) -> int:
        return sum(run.executes_from is not None for run in self.cluster.runs(job_id))

    def create(self, job_id: str) -> None:
        self.cluster.create(job_id)

    def end(self, job_id: str) -> None:
        fails = any(run.config.get("fails") for run in self.cluster.runs(job_id) if run.status is Status.ACTIVE)
        self.cluster.end(job_id, Status.FAILED if fails else Status.COMPLETE)

    def lose(self, job_id: str) -> None:
        self.cluster.forget(job_id)

    def forget(self, job_id: str) -> None:
        with closing(sqlite3.connect(self._folder / "cluster.db", timeout=10)) as sql, sql:
            kept_s = self._promises.keeps_ended_s
            sql.execute("UPDATE runs SET ended_at = ended_at - ? WHERE job_id = ?", (kept_s + 1, job_id))

    def logged(self, job_id: str) -> bytes:
        runs = self.cluster.runs(job_id)
        return f"run {runs[-1].number} began\n{runs[-1].status}\n".encode()

    @contextmanager
    def disturbed(self, fault: Fault) -> Iterator[Mapping[str, Any] | None]:
        yield {**self.block, **({"lost": LOST[fault].value} if fault in LOST else {})}

    @contextmanager
    def stopping_slowly(self) -> Iterator[Mapping[str, Any] | None]:
        yield {**self.block, "stop_s": 1.0}

    def executes(self, job_id: str) -> bool:
        return any(run.status is Status.ACTIVE for run in self.cluster.runs(job_id))

    @contextmanager
    def refusing(self) -> Iterator[Mapping[str, Any] | None]:
        yield {**self.block, "refuses": Reason.NOT_PERMITTED.value}


FORGETFUL = ATOMIC._replace(keeps_ended_s=300.0)
PLAIN = Promises(False, False, reads=True, lists=False, keeps_ended_s=math.inf, has_logs=False)
BLIND = PLAIN._replace(reads=False)
