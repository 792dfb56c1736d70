"""The package in `examples/plugin` is built, installed and used as a stranger would use a package of their own."""

import ast
import importlib
import json
import os
import random
import re
import shutil
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from checkout import ROOT
from waits import until
from wheels import EXAMPLE, build, environment_with

PAGE = ROOT / "docs" / "how-to" / "write-a-plugin.md"


def public_names() -> dict[str, set[str]]:
    """Return what the page declares public: the names of each module."""
    found: dict[str, set[str]] = {}
    for module, names in re.findall(r"^\| `(reconciler\.[\w.]+)` \| ([^|]*)\|", PAGE.read_text(), re.MULTILINE):
        listed = set(re.findall(r"`(\w+)`", names))
        found[module] = set(importlib.import_module(module).__all__) if "__all__" in listed else listed
    return found


def names_used(source: str) -> Iterator[tuple[str, str]]:
    """Yield each name of `reconciler` that a module uses, as (module, name)."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.partition(".")[0] == "reconciler")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "reconciler":
            yield from ((node.module or "", alias.name) for alias in node.names)


def private(source: str, public: dict[str, set[str]]) -> list[str]:
    return [f"{module} {name}" for module, name in names_used(source) if name not in public.get(module, set())]


def test_the_example_uses_public_names_alone() -> None:
    public = public_names()
    assert {"reconciler.engines.port", "reconciler.state.port"} <= public.keys()
    sources = {path.relative_to(EXAMPLE): path.read_text() for path in sorted(EXAMPLE.rglob("*.py"))}
    assert len(sources) > 4
    assert {str(path): found for path, source in sources.items() if (found := private(source, public))} == {}
    assert [name for source in sources.values() for name in re.findall(r"import_module|\b__import__", source)] == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from reconciler.engines.port import Step", []),
        ("from reconciler.engines.port import Protocol", ["reconciler.engines.port Protocol"]),
        ("from reconciler.model.jobs import Verb", ["reconciler.model.jobs Verb"]),
        ("def f():\n    import reconciler.host.git", ["reconciler.host.git "]),
        ("from reconciler_scripts.runs import Run", []),
    ],
)
def test_a_name_that_is_not_public_is_found(source: str, found: list[str]) -> None:
    assert private(source, public_names()) == found


@pytest.mark.parametrize("module", ["reconciler.engines.port", "reconciler.state.port"])
def test_every_public_name_exists(module: str) -> None:
    imported = importlib.import_module(module)
    assert [name for name in imported.__all__ if not hasattr(imported, name)] == []


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has both packages, each from its wheel."""
    folder = tmp_path_factory.mktemp("packages")
    wheels = [build(ROOT, "wheel", folder / "tool"), build(EXAMPLE, "wheel", folder / "example")]
    with zipfile.ZipFile(wheels[1]) as wheel:
        held = {name for name in wheel.namelist() if not name.partition("/")[0].endswith(".dist-info")}
    shipped = (EXAMPLE / "reconciler_scripts").iterdir()
    assert held == {f"reconciler_scripts/{path.name}" for path in shipped if path.is_file()}
    return environment_with(folder / "venv", *wheels)


class Fleet:
    """A folder of scripts with a manifest, and the program of the new environment."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self._program = programs / "reconciler"
        (folder / "scripts").mkdir()

    def script(self, job: str, text: str) -> None:
        path = self.folder / "scripts" / f"{job}.sh"
        path.write_text(f"#!/bin/sh\necho ran >> '{self.folder}/{job}.ran'\n{text}\n")
        path.chmod(0o755)

    def declare(self, jobs: str, state: str = "dir://states") -> None:
        head = f"apiVersion: reconciler/v1\ntarget: {{engine: scripts, folder: scripts}}\nstate: {state}\njobs:\n"
        (self.folder / "jobs.yaml").write_text(head + "".join(f"  {line}\n" for line in jobs.splitlines()))

    def started(self, *words: str) -> "subprocess.Popen[str]":
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RECONCILER_"))}
        return subprocess.Popen(
            [self._program, *words],
            cwd=self.folder,
            env={**env, "HOME": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, code: int = 0) -> str:
        with self.started(*words) as program:
            out, err = program.communicate(timeout=120)
        assert program.returncode == code, out + err
        return out

    def json(self, *words: str, code: int = 0) -> Any:
        return json.loads(self.run(*words, "--format", "json", code=code))

    def until(self, job: str, observed: str) -> None:
        """Wait until the tool observes this status of a job."""
        until(lambda: {job: observed}.items() <= {one["job"]: one["observed"] for one in self._status()}.items())

    def until_there(self, path: str) -> None:
        until((self.folder / path).exists)

    def _status(self) -> list[dict[str, Any]]:
        jobs: list[dict[str, Any]] = self.json("status")["jobs"]
        return jobs

    def runs(self, job: str) -> int:
        """How often the script of a job was executed."""
        path = self.folder / f"{job}.ran"
        return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def fleet(tmp_path: Path, programs: Path) -> Fleet:
    return Fleet(tmp_path, programs)


def test_the_program_finds_the_plugins_of_the_package_that_is_installed_beside_it(programs: Path) -> None:
    program = (
        "import sys, reconciler, reconciler_scripts\n"
        "from reconciler.engines.registry import plugin\nfrom reconciler.state.registry import plugin_of\n"
        "print(plugin('scripts').name, {'subprocess', 'requests'} & sys.modules.keys(), plugin_of('dir://x').prefix)\n"
        "print(reconciler.__file__, reconciler_scripts.__file__)\n"
    )
    done = subprocess.run([programs / "python", "-c", program], capture_output=True, text=True, check=True)
    names, files = done.stdout.splitlines()
    assert names == "scripts set() dir://", "a plan imports the plugin, and has to start fast"
    assert all(path.startswith(str(programs.parent)) for path in files.split())


def test_a_manifest_names_the_engine_and_the_home_of_the_package(fleet: Fleet) -> None:
    fleet.script("nightly", "exit 0")
    fleet.declare('nightly: {state: running, config: {args: ["--full"], env: {LEVEL: "3"}}}')
    fleet.run("validate")
    plan = fleet.json("plan")
    assert [(action["action"], action["calls"][0]["request"]) for action in plan["actions"]] == [
        ("run", "start nightly.sh as nightly-1")
    ]
    assert fleet.runs("nightly") == 0
    fleet.declare('nightly: {state: running, config: {arg: ["--full"]}}')
    fleet.run("validate", code=1)


def test_a_job_runs_once_is_observed_and_is_deleted(fleet: Fleet) -> None:
    fleet.script("nightly", "exit 0")
    fleet.declare("nightly: {state: running}")
    fleet.run("apply", "--yes")
    fleet.until("nightly", "complete")
    fleet.run("apply", "--yes")
    fleet.run("drift")
    assert fleet.runs("nightly") == 1
    fleet.run("history", "--check")
    fleet.declare("nightly: {state: absent}")
    fleet.run("apply", "--yes")
    assert fleet.runs("nightly") == 1
    left = [path.name for path in (fleet.folder / "scripts" / ".runs" / "nightly").iterdir()]
    assert left == ["nightly-1.json"]


def test_a_changed_config_ends_the_run_and_starts_the_next_one(fleet: Fleet) -> None:
    fleet.script("nightly", "exec sleep 1000")
    fleet.declare("nightly: {state: running}")
    fleet.run("apply", "--yes")
    fleet.declare('nightly: {state: running, config: {args: ["--full"]}}')
    fleet.run("apply", "--yes")
    assert fleet.json("status")["jobs"][0]["observed"] == "active"
    fleet.declare('nightly: {state: aborted, config: {args: ["--full"]}}')
    fleet.run("apply", "--yes")
    fleet.run("drift")
    assert fleet.json("status")["jobs"][0]["observed"] == "aborted"
    assert fleet.runs("nightly") == 2


def test_a_job_that_another_state_ran_is_held_and_not_run_again(fleet: Fleet) -> None:
    fleet.script("nightly", "exit 0")
    fleet.declare("nightly: {state: running}", "dir://ours")
    fleet.run("apply", "--yes")
    fleet.until("nightly", "complete")
    fleet.declare("nightly: {state: running}", "dir://theirs")
    assert "another owner's" in fleet.run("apply", "--yes", code=4)
    assert fleet.runs("nightly") == 1


def test_a_folder_that_took_the_place_of_another_one_is_refused(fleet: Fleet) -> None:
    fleet.script("nightly", "exit 0")
    fleet.declare("nightly: {state: running}")
    fleet.run("apply", "--yes")
    fleet.until("nightly", "complete")
    shutil.rmtree(fleet.folder / "scripts" / ".runs")
    for command in (["apply", "--yes"], ["plan", "--refresh"], ["drift"]):
        fleet.run(*command, code=1)
    assert fleet.runs("nightly") == 1


def test_an_apply_that_is_killed_at_any_moment_is_followed_by_one_run(fleet: Fleet) -> None:
    chance = random.Random(1)
    jobs = [f"job-{number}" for number in range(6)]
    for job in jobs:
        fleet.script(job, "exit 0")
    for number, job in enumerate(jobs):
        # In a state file, nobody has to wait until the lease of a dead program is over.
        fleet.declare("\n".join(f"{one}: {{state: running}}" for one in jobs[: number + 1]), "jobs.state.json")
        with fleet.started("apply", "--yes") as apply:
            fleet.until_there(f"scripts/.runs/{job}")
            time.sleep(chance.uniform(0, 0.03))
            apply.kill()
        fleet.run("apply", "--yes", "--settle", "0.1")
        fleet.until(job, "complete")
        assert fleet.runs(job) == 1
    fleet.run("history", "--check")
