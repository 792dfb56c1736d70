"""Configs that nest go through every command: the real program, and the engine of another package in a manifest."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from checkout import ROOT
from project import Project, Run
from reconciler.manifest.schema import schema_text
from reconciler.model.jobs import Config, Desired, Record, State, Target
from reconciler.state.codec import decode, encode

CONFIG: Config = {"args": ["one", "two"], "env": {"LEVEL": "2", "REGION": "eu"}}
HOSTILE = "x\n::error::\x1b[31m\u202e<script>`"


class Scripts(Project):
    """A folder with a manifest for the engine of `examples/plugin`, which is on the path as if it were installed."""

    target = "{engine: scripts, folder: scripts}"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        metadata = folder / "site" / "reconciler_scripts-1.0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: reconciler-scripts\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text("[reconciler.engines]\nscripts = reconciler_scripts.plugin:PLUGIN\n")
        paths = [str(folder / "site"), str(ROOT / "examples" / "plugin"), self.env.get("PYTHONPATH", "")]
        self.env["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        (folder / "scripts").mkdir()

    def declare(self, **configs: Config) -> None:
        """Declare a running job for each config."""
        jobs = {name: {"state": "running", "config": config} for name, config in configs.items()}
        self.write("\n".join(f"{name}: {json.dumps(fields)}" for name, fields in jobs.items()))

    def record(self, **configs: Config) -> bytes:
        """Write a state in which each job runs with its config."""
        jobs = {name: Record(name, Desired.RUNNING, config) for name, config in configs.items()}
        target = Target("scripts", str(self.folder / "scripts"))
        content = encode(State("3f1c2f6e-8a55-4c0e-9f0a-6b1f0d9f4b11", 1, target, jobs))
        self.state.write_bytes(content)
        return content

    @property
    def state(self) -> Path:
        return self.folder / "jobs.state.json"

    def plan(self, *options: str) -> Any:
        run = self.run("plan", "--format", "json", *options)
        assert run.code == 0, run
        jsonschema.validate(run.json, json.loads(schema_text("plan.schema.json")))
        return run.json


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


def changes_in(plan: Any) -> list[tuple[str, Any, Any]]:
    return [(c["path"], c["before"], c["after"]) for action in plan["actions"] for c in action["changes"]]


def test_a_change_inside_a_config_is_told_by_path_in_every_view(scripts: Scripts) -> None:
    scripts.record(nightly=CONFIG)
    scripts.declare(nightly={"args": ["one", "three", "four"], "env": {"LEVEL": "3", "A": HOSTILE}})
    plan = scripts.plan()
    assert changes_in(plan) == [
        ("config.args[1]", "two", "three"),
        ("config.args[2]", None, "four"),
        ("config.env.A", None, HOSTILE),
        ("config.env.LEVEL", "2", "3"),
        ("config.env.REGION", "eu", None),
    ]
    for view in ("text", "markdown", "html", "github"):
        run = scripts.run("plan", "--format", view)
        assert run.code == 0
        assert "config.env.LEVEL" in run.out
        assert "–" in run.out or "&#8211;" in run.out
        assert not any(odd in run.out for odd in ("\x1b[31m", "\u202e"))
        assert view != "html" or "<script>`" not in run.out
        assert not any(line.lstrip().startswith("::error::") for line in run.out.splitlines())


def test_the_order_of_keys_changes_nothing(scripts: Scripts) -> None:
    content = scripts.record(nightly=CONFIG)
    scripts.declare(nightly=CONFIG)
    before = scripts.plan()
    scripts.declare(nightly={"env": {"REGION": "eu", "LEVEL": "2"}, "args": ["one", "two"]})
    assert scripts.plan() == before
    assert [action["action"] for action in before["actions"]] == ["noop"]
    document = json.loads(content)
    document["jobs"]["nightly"]["config"] = {"env": {"REGION": "eu", "LEVEL": "2"}, "args": ["one", "two"]}
    scripts.state.write_text(json.dumps(document))
    assert scripts.run("plan").code == 1
    assert scripts.run("state", "accept").code == 0
    accepted, written = json.loads(scripts.state.read_text()), json.loads(content)
    assert json.dumps(accepted["jobs"]) == json.dumps(written["jobs"])
    assert scripts.plan()["actions"] == before["actions"]


def test_defaults_of_the_engine_are_no_change(scripts: Scripts) -> None:
    scripts.record(nightly={"args": ["one"]})
    scripts.declare(nightly={"args": ["one"], "env": {}})
    assert [action["action"] for action in scripts.plan()["actions"]] == ["noop"]


def test_a_saved_plan_with_a_nested_config_fits_its_manifest_alone(scripts: Scripts) -> None:
    scripts.record(nightly=CONFIG)
    scripts.declare(nightly={**CONFIG, "env": {"LEVEL": "3", "REGION": "eu"}})
    saved = scripts.plan("--out", "plan.json")
    assert json.loads((scripts.folder / "plan.json").read_text()) == saved
    assert saved["actions"][0]["calls"][1]["body"] == {"args": ["one", "two"], "env": {"LEVEL": "3", "REGION": "eu"}}
    document = json.loads((scripts.folder / "plan.json").read_text())
    document["actions"][0]["calls"][1]["body"]["env"]["LEVEL"] = "9"
    (scripts.folder / "edited.json").write_text(json.dumps(document))
    refused = scripts.run("apply", "--yes", "--plan", "edited.json")
    assert (refused.code, "the saved plan is stale" in refused.err) == (4, True), refused
    scripts.declare(nightly={**CONFIG, "env": {"LEVEL": "4", "REGION": "eu"}})
    assert scripts.run("apply", "--yes", "--plan", "plan.json").code == 4


def test_a_diff_between_two_commits_tells_the_paths(scripts: Scripts) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=scripts.folder, check=True)

    def commit(message: str) -> None:
        git("add", "jobs.yaml")
        git("commit", "-qm", message)

    git("init", "-q")
    scripts.declare(nightly=CONFIG)
    commit("one")
    scripts.declare(nightly={**CONFIG, "args": ["one", "2"]})
    commit("two")
    run = scripts.run("diff", "HEAD~1", "HEAD", "--format", "json")
    assert changes_in(run.json) == [("config.args[1]", "two", "2")]
    assert 'config.args[1] "two" → "2"' in scripts.run("diff", "HEAD~1", "HEAD").out


def test_a_rerun_and_a_layout_keep_the_config(scripts: Scripts) -> None:
    scripts.record(nightly=CONFIG)
    scripts.declare(nightly=CONFIG)
    assert scripts.run("fmt").code == 0
    assert scripts.run("fmt", "--check").code == 0
    run = scripts.run("rerun", "nightly", "--token", "second")
    assert run.code == 0, run
    [action] = scripts.plan()["actions"]
    assert (action["action"], action["changes"]) == (
        "restart",
        [{"path": "runToken", "before": None, "after": "second"}],
    )
    assert decode(scripts.state.read_bytes(), "").jobs["nightly"].config == CONFIG


def faults(run: Run) -> list[str]:
    assert run.code == 1
    return run.out.splitlines()


def test_a_fault_in_a_config_has_its_place_also_where_the_target_stands_elsewhere(scripts: Scripts) -> None:
    folder = scripts.folder / "jobs"
    folder.mkdir()
    (folder / "a-target.yaml").write_text("apiVersion: reconciler/v1\ntarget: {engine: scripts, folder: scripts}\n")
    (folder / "b-jobs.yaml").write_text(
        "apiVersion: reconciler/v1\ndefaults: {config: {env: {LEVEL: 3}}}\n"
        "jobs:\n  nightly: {state: running, config: {argz: [x]}}\n"
    )
    assert faults(scripts.run("validate")) == [
        "jobs/b-jobs.yaml:2:34: LEVEL: expected text, found 3: put it in quotes",
        'jobs/b-jobs.yaml:4:38: unknown field "argz"; did you mean "args"?',
    ]
    (folder / "a-target.yaml").write_text("apiVersion: reconciler/v1\ntarget: {engine: script, folder: scripts}\n")
    [fault] = faults(scripts.run("validate"))
    assert fault.startswith(
        'jobs/a-target.yaml:2:18: engine: no engine is installed by the name script; did you mean "'
    )
    assert (
        '"scripts"? There are bytenite, kubernetes, local, ray, sandbox, scripts and slurm; another one comes with '
        in fault
    )


def test_the_schema_of_an_installed_engine_is_printed(scripts: Scripts) -> None:
    printed = scripts.run("schema", "--engine", "scripts")
    assert printed.code == 0
    jsonschema.Draft202012Validator.check_schema(printed.json)
    assert printed.json["$defs"]["target"]["properties"]["engine"]["const"] == "scripts"
    assert "args" in printed.json["$defs"]["config"]["properties"]
    unknown = scripts.run("schema", "--engine", "script")
    assert (unknown.code, unknown.out) == (64, "")
    assert unknown.err.startswith(
        'error: --engine: no engine is installed by the name script; did you mean "scripts"?\n'
    )
    assert scripts.run("schema", "plan", "--engine", "scripts").code == 64
    assert json.loads(scripts.run("schema").out) == json.loads(schema_text("manifest.schema.json"))


def test_a_package_whose_engine_is_broken_is_named(scripts: Scripts) -> None:
    [metadata] = (scripts.folder / "site").iterdir()
    (metadata / "entry_points.txt").write_text("[reconciler.engines]\nscripts = reconciler_scripts.nothing:PLUGIN\n")
    scripts.declare(nightly=CONFIG)
    run = scripts.run("validate")
    assert run.code == 1
    assert run.err.startswith("error: the engine scripts can't be loaded: ModuleNotFoundError: ")
    assert scripts.run("schema", "--engine", "scripts").code == 1


def test_an_apply_runs_a_job_once_for_each_config_that_was_asked_for(scripts: Scripts) -> None:
    script = scripts.folder / "scripts" / "nightly.sh"
    script.write_text('#!/bin/sh\necho "$LEVEL $*" >> ../ran\n')
    script.chmod(0o755)

    def applied(config: Config) -> list[str]:
        scripts.declare(nightly=config)
        assert scripts.run("apply", "--yes").code == 0
        assert scripts.run("apply", "--yes", "--wait", "60").code == 0
        return (scripts.folder / "ran").read_text().splitlines()

    assert applied(CONFIG) == ["2 one two"]
    before = scripts.state.read_bytes()
    assert applied({"env": {"REGION": "eu", "LEVEL": "2"}, "args": ["one", "two"]}) == ["2 one two"]
    assert json.loads(scripts.state.read_bytes())["jobs"]["nightly"]["config"] == CONFIG
    assert json.loads(before)["jobs"]["nightly"]["config"] == CONFIG
    scripts.write('nightly: {state: running, runToken: "b", config: {env: {LEVEL: "3"}}}')
    assert scripts.run("apply", "--yes").code == 0
    assert scripts.run("plan").out.startswith("No changes")
