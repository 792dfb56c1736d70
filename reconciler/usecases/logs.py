"""`reconciler logs`: what a run of a job has printed."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

from reconciler.model.commands import command
from reconciler.model.errors import EngineError
from reconciler.model.jobs import EMPTY, Status, title
from reconciler.usecases.engines import Pace
from reconciler.usecases.named_records import find_record

if TYPE_CHECKING:
    from reconciler.usecases.workspace import Workspace


class Wanted(NamedTuple):
    """The log that a user asks for.

    `job` is the name of the job in a plan. `run` is the number of a run; None for the last one. `tail` is the number of
    lines at the end; None for all of the log. With `follow` the log goes on until the run is over.
    """

    job: str
    run: int | None = None
    tail: int | None = None
    follow: bool = False


class Log(NamedTuple):
    """The log of a run of the job of a name, in pieces."""

    name: str
    run_id: str
    pieces: Iterator[bytes]


@contextmanager
def logs(workspace: "Workspace", wanted: Wanted) -> Iterator[Log]:
    """Yield the log of a run. The engine is open until the end of the block.

    Raises `ReconcilerError` if the job is not recorded, and `EngineError` if the engine keeps no logs, or does not have
    the run.
    """
    from reconciler.rules.runs import run_id

    state = workspace.store.read(workspace.head.target)
    found = find_record(wanted.job, workspace.declared_ids, state, workspace.world.remark)
    record, engine_name = found.record, workspace.head.target.engine
    number = record.run if wanted.run is None else wanted.run
    with workspace.open_engine(Pace(), state.identity if state else EMPTY) as engine:
        if not engine.promises.has_logs:
            raise EngineError(f"the engine {engine_name} gives no logs", "look at the service itself")
        wanted_id = run_id(record.id, number)
        observed = engine.observe(record.id, wanted_id)
        if observed.status is Status.MISSING:
            name = wanted_id or f"run of {title(found.name)}"
            raise EngineError(
                f"the engine {engine_name} has no {name}", f"{command('runs', title(found.name))} shows its runs"
            )
        pieces = engine.log(record.id, observed.run_id, tail=wanted.tail, follow=wanted.follow, stop=Event())

        def or_remark() -> Iterator[bytes]:
            is_empty = True
            for piece in pieces:
                is_empty = False
                yield piece
            if is_empty and wanted.tail != 0:
                now = engine.observe(record.id, observed.run_id)
                why = f"{now.status}, {now.detail}" if now.detail else now.status
                workspace.world.remark(f"the log of {observed.run_id or title(found.name)} is empty: {why}")

        yield Log(title(found.name), observed.run_id, or_remark())
