"""What is on disk before a run is handed over, so that a power loss takes no run off the record that may execute."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ptrace
from local_runs import end_all, engine_at, look_at, over, run_folder, step_of
from reconciler.engines.port import AnswerClass, Status

_SENDER = """
import json, sys
from pathlib import Path
import ptrace
from local_runs import engine_at, step_of
folder, calls = Path(sys.argv[1]), []

def body():
    with engine_at(folder) as engine:
        for run_id in ("a-1", "a-2"):
            engine.send(step_of(run_id, {"command": ["true"]}))

def before(call):
    start = b'"start"' in call.content
    path = "the spawner" if start else call.path.removeprefix(f"{folder}/runs/")
    if start or call.name in ("fsync", "rename"):
        calls.append([call.name, path])

assert ptrace.trace(body, str(folder), before, lambda call, result: None) == 0
print(json.dumps(calls))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    end_all(tmp_path)


@pytest.mark.skipif(ptrace.unavailable() != "", reason="children cannot be traced on this machine")
def test_a_run_and_its_folders_are_flushed_before_it_is_handed_over(folder: Path) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    program = [sys.executable, "-c", _SENDER, str(folder.resolve())]
    done = subprocess.run(program, env=env, check=True, stdout=subprocess.PIPE, text=True)
    calls = [tuple(each) for each in json.loads(done.stdout)]
    renames = [at for at, (name, path) in enumerate(calls) if name == "rename" and path.startswith("tmp/")]
    for rename, run_id in zip(renames, ("a-1", "a-2"), strict=True):
        prepared = calls[rename][1]
        assert calls[rename - 1 : rename + 5] == [
            ("fsync", f"{prepared}/spec.json"),
            ("rename", prepared),
            ("fsync", f"jobs/a/{run_id}"),
            ("fsync", "jobs/a"),
            ("fsync", "jobs"),
            ("sendto", "the spawner"),
        ]


def test_a_folder_that_a_power_loss_has_left_empty_is_no_run(folder: Path) -> None:
    with engine_at(folder) as engine:
        engine.send(step_of("a-1", {"script": f"echo 1 >> {folder}/ran"}))
        over(engine, "a-1")
        run_folder(folder, "a-2").mkdir(mode=0o700)
        assert (look_at(engine, "a-2").status, engine.observe("a").run_id) == (Status.MISSING, "a-1")
        assert engine.send(step_of("a-2", {"script": f"echo 2 >> {folder}/ran"})).kind is AnswerClass.APPLIED
        assert over(engine, "a-2").status is Status.COMPLETE
    assert (folder / "ran").read_text() == "1\n2\n"
