"""Engines on roots of a test, and waiting for what their processes do."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local_service import kill_ours, kill_runs, opened, supervisor_of
from reconciler.engines.local.engine import LocalEngine
from reconciler.engines.local.files import holder
from reconciler.engines.local.plugin import PLUGIN
from reconciler.engines.local.spawner import LOCK
from reconciler.engines.port import Marks, Observation, Status, Step, Surroundings, Verb
from reconciler.host.clocks import boot_s
from waits import until

OURS = Marks("lineage-1", "op-1", "config-1", "token-1", "commit-1")


def pause(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def surroundings(**changed: Any) -> Surroundings:
    """What an engine takes from outside, with a PATH and no other variable."""
    plain = Surroundings(
        env={"PATH": os.environ["PATH"]},
        pause=pause,
        note_credential=lambda text: None,
        boot_s=boot_s,
        wall_s=time.time,
        parallelism=4,
        max_rps=None,
        beside_state=os.devnull,
    )
    return plain._replace(**changed)


@contextmanager
def engine_at(folder: Path, slots: int = 4, around: Surroundings | None = None, **fields: Any) -> Iterator[LocalEngine]:
    """An engine whose root is the folder `runs` in a folder."""
    target = PLUGIN.target({"root": "runs", "slots": slots, **fields}, str(folder))
    with PLUGIN.open(target, around or surroundings()) as engine:
        yield engine


def step_of(run_id: str, config: Mapping[str, Any] | None = None, *, verb: Verb = Verb.RUN) -> Step:
    """A call for a run: with a config, or with another verb."""
    return Step(verb, run_id.rpartition("-")[0], run_id, config or {}, marks=OURS)


def look_at(engine: LocalEngine, run_id: str) -> Observation:
    return engine.observe(run_id.rpartition("-")[0], run_id)


def over(engine: LocalEngine, run_id: str) -> Observation:
    """Wait until a run is over, and return how it ended."""
    until(lambda: look_at(engine, run_id).status is not Status.ACTIVE)
    return look_at(engine, run_id)


def run_folder(folder: Path, run_id: str) -> Path:
    return folder / "runs" / "jobs" / run_id.rpartition("-")[0] / run_id


def spawner_of(folder: Path) -> int:
    """The process id of the spawner; 0 if there is none."""
    with opened(folder / "runs") as root:
        return holder(root, LOCK).pid


def kill(folder: Path, pid: int) -> None:
    """Kill a spawner or a supervisor of a test, and return once it is gone."""
    assert kill_ours(pid, folder / "runs")
    until(lambda: not is_alive(pid))


def kill_supervisor(folder: Path, run_id: str) -> None:
    kill(folder, supervisor_of(run_folder(folder, run_id)))


def end_all(folder: Path) -> None:
    """Kill what is left of the runs of a test, and its spawner."""
    if not (folder / "runs" / "root.json").exists():
        return
    if pid := spawner_of(folder):
        kill_ours(pid, folder / "runs")
    kill_runs(run for run in (folder / "runs" / "jobs").glob("*/*") if run.is_dir())


def is_alive(pid: int) -> bool:
    """Whether a process executes. One that has ended may still have an entry, until its parent takes its end."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # the latter if it ends between the open and the read
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
