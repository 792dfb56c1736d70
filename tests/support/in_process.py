"""Apply a plan within the process of the tests: an engine, a store in real files, and their context."""

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

from project import TOKEN
from reconciler.apply.context import ApplyContext
from reconciler.apply.execute import carry_out
from reconciler.engines.bytenite.auth import Credentials
from reconciler.engines.bytenite.engine import ByteniteEngine
from reconciler.engines.bytenite.plugin import PLUGIN
from reconciler.engines.port import Engine
from reconciler.host.disk import OsDisk
from reconciler.model.jobs import Job, Record, State, Target
from reconciler.model.outcomes import ActionOutcome
from reconciler.model.plan import Plan, Request
from reconciler.model.steps import Step
from reconciler.rules.actions import make_plan
from reconciler.rules.matching import Subject, match_records
from reconciler.state.file_lock import FileContext
from reconciler.state.file_store import FileStore
from reconciler.state.session import Session

TARGET = Target("bytenite", "http://127.0.0.1/v1/customer")


def wording(step: Step) -> tuple[Request, ...]:
    """Return the requests of a step, as the ByteNite engine words them."""
    return PLUGIN.wording(TARGET, step)


def engine_at(
    endpoint: str, timeout_s: float = 10.0, *, parallelism: int = 1, kind: type[ByteniteEngine] = ByteniteEngine
) -> ByteniteEngine:
    """Return an engine that never waits between two calls."""
    return kind(
        endpoint,
        Credentials(TOKEN),
        parallelism=parallelism,
        max_rps=None,
        wait=lambda seconds: False,
        random=Random(1),
        timeout_s=timeout_s,
    )


def store_in(folder: Path, disk: OsDisk | None = None, *, tell: Callable[[str], None] = lambda text: None) -> FileStore:
    """Return a store whose files and marks lie in this folder."""
    around = FileContext(
        disk or OsDisk(),
        str(folder / "marks"),
        "ada",
        lambda: "now",
        lambda: "lineage",
        lambda seconds: False,
        tell=tell,
    )
    return FileStore(str(folder / "jobs.state.json"), around)


def planned(jobs: Mapping[str, Job], records: Mapping[str, Record]) -> tuple[Plan, Mapping[str, Subject]]:
    """Plan these jobs without observations; return the plan and its subjects by name."""
    matching = match_records(jobs, records, PLUGIN.same_config)
    state = State("lineage", 0, TARGET, {})
    plan = make_plan(matching, {}, wording, lambda name: True, state=state, manifest_digest="", commit=None, paths=[])
    return plan, {subject.job.name: subject for subject in matching.subjects}


def carried_out(
    plan: Plan, subjects: Mapping[str, Subject], engine: Engine, session: Session, *, parallelism: int = 1
) -> list[ActionOutcome]:
    """Carry out a plan to its end; return the outcome of each action."""
    ends = carry_out(plan, subjects, context_of(engine, session), parallelism=parallelism, fail_fast=False)
    return [event.outcome for ended in ends for event in ended]


def context_of(engine: Engine, session: Session) -> ApplyContext:
    """Return the context of an apply that is never interrupted and never waits."""
    return ApplyContext(
        engine=engine,
        session=session,
        wording=wording,
        stop=threading.Event(),
        pause=lambda seconds: False,
        monotonic=time.monotonic,
        now=lambda: "2026-11-21T10:00:00Z",
        new_op=lambda: str(uuid.uuid4()),
        runs={},
    )
