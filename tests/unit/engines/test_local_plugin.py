"""What a manifest may say of jobs on this machine, and how a plan words their calls."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from reconciler.engines.local.plugin import PLUGIN
from reconciler.engines.local.settings import Settings
from reconciler.engines.port import Config, Job, Step, Target, Verb
from reconciler.model.jobs import Desired

TOO_LONG = "is longer than the 131,071 bytes that Linux lets a program have in one: put it into a file"


def is_valid(config: Any) -> bool:
    return Draft202012Validator(dict(PLUGIN.config_schema)).is_valid(config)


@pytest.mark.parametrize(
    "config",
    [
        {"command": ["python", "train.py", ""]},
        {"script": "make all\n", "workdir": "..", "env": {"LEVEL": "3", "TOKEN": {"secret": "train/token.v2"}}},
        {
            "command": ["true"],
            "jobTimeout": 7200,
            "taskTimeout": 3600,
            "retry": {"times": 3, "exitCodes": [75]},
            "abort": {"signal": "INT", "grace": 0},
            "resources": {"cpu": 1.5, "memory": "4GiB", "gpu": 1},
            "keepFor": 0,
            "keepRuns": {"complete": 3, "failed": 1},
        },
    ],
)
def test_a_config_may_say(config: dict[str, Any]) -> None:
    assert is_valid(config)
    assert PLUGIN.job_fault(Job("a", "a", Desired.RUNNING, config)) == ""


@pytest.mark.parametrize(
    "config",
    [
        {"command": []},
        {"command": "make all"},
        {"script": "a\0b"},
        {"command": ["true"], "env": {"LEVEL": 3}},
        {"command": ["true"], "env": {"A=B": "3"}},
        {"command": ["true"], "env": {"A": {"secret": "../up"}}},
        {"command": ["true"], "env": {"A": {"secret": "/etc/shadow"}}},
        {"command": ["true"], "env": {"A": {"secret": "a//b"}}},
        {"command": ["true"], "env": {"A": {"value": "a"}}},
        {"command": ["true"], "resources": {"gpu": -1}},
        {"command": ["true"], "resources": {"memory": "4 GB"}},
        {"command": ["true"], "retry": {}},
        {"command": ["true"], "abort": {"signal": "KILL"}},
        {"command": ["true"], "image": "train:7"},
        {"command": ["true"], "workdir": "  "},
        {"batch": " "},
        {"command": ["true"], "keepRuns": 3},
        {"command": ["true"], "keepRuns": {}},
        {"command": ["true"], "keepRuns": {"failed": 0}},
        {"command": ["true"], "keepRuns": {"aborted": 3}},
    ],
)
def test_a_config_may_not_say(config: dict[str, Any]) -> None:
    assert not is_valid(config)


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({}, 'a job of the engine local needs a config with "command", "script" or "batch"'),
        (
            {"command": ["true"], "script": "true"},
            'a config of the engine local has one of "command", "script" and "batch", and not two',
        ),
        ({"command": ["echo", "a\0b"]}, "config.command[1] holds a NUL character"),
        ({"command": ["echo", "a" * 131_071]}, ""),
        ({"command": ["echo", "a" * 131_072]}, f"config.command[1] {TOO_LONG}"),
        ({"command": ["echo"], "env": {"A": "ä" * 65_536}}, f"config.env.A {TOO_LONG}"),
        ({"script": "a" * 200_000}, ""),
        ({"script": "echo a\0b"}, "config.script holds a NUL character"),
        ({"command": ["echo"], "workdir": "a\0b"}, "config.workdir holds a NUL character"),
        ({"command": ["echo"], "env": {"A": "1", "B": "a\0b"}}, "config.env.B holds a NUL character"),
        ({"command": ["echo", "\ud800"]}, "config.command[1] holds half of a surrogate pair, which is no character"),
        (
            {"command": ["echo"], "env": {"A\0": "1"}},
            "the name of a field in config.env holds a NUL character",
        ),
        ({"command": ["", "x"]}, "config.command has no program: its first text is empty"),
        (
            {"script": "#!/usr/bin/env python3\r\nprint(1)\r\n"},
            "config.script names its program in a line that ends in CR LF: end the lines with LF alone",
        ),
    ],
)
def test_a_job_needs_a_command_or_a_script(config: dict[str, Any], fault: str) -> None:
    assert PLUGIN.job_fault(Job("a", "a", Desired.RUNNING, config)) == fault


def test_the_longest_text_that_is_taken_is_the_longest_that_linux_takes() -> None:
    """The limit is MAX_ARG_STRLEN of the kernel, whatever execve(2) says of the sum."""
    subprocess.run(["true", "a" * 131_071], check=True)
    for given, env in ((["true", "a" * 131_072], {}), (["true"], {"A": "a" * 131_070})):
        with pytest.raises(OSError, match="Argument list too long"):
            subprocess.run(given, env={**os.environ, **env}, check=True)


def test_a_job_that_is_not_to_run_needs_no_config() -> None:
    assert PLUGIN.job_fault(Job("a", "a", Desired.ABORTED, {})) == ""
    assert PLUGIN.job_fault(Job("a", "a", Desired.ABSENT, {})) == ""
    assert PLUGIN.job_fault(Job("a", "a", Desired.ABSENT, {"command": ["a" * 200_000]})) == ""
    assert PLUGIN.job_fault(Job("a", "a", Desired.ABORTED, {"command": ["true"], "script": "true"})) != ""


def test_configs_that_start_a_command_alike_are_the_same() -> None:
    plain: Config = {"command": ["true"]}
    explicit: Config = {
        **plain,
        "workdir": ".",
        "env": {},
        "abort": {"signal": "TERM", "grace": 10},
        "retry": {"times": 0},
        "resources": {},
        "keepRuns": {"failed": 3},
    }
    assert PLUGIN.same_config(plain, explicit)
    assert PLUGIN.same_config({**plain, "resources": {"memory": "1MiB"}}, {**plain, "resources": {"memory": 1 << 20}})
    for other in (
        {"abort": {"grace": 9}},
        {"retry": {"times": 1}},
        {"resources": {"memory": "1MiB"}},
        {"resources": {"cpu": 1}},
        {"resources": {"gpu": 1}},
        {"env": {"A": ""}},
        {"keepFor": 3600},
    ):
        assert not PLUGIN.same_config(plain, {**plain, **other})


def test_a_target_is_its_root_as_the_manifest_names_it_and_paths_are_relative_to_the_manifest() -> None:
    plain, named = PLUGIN.target({"engine": "local"}, "/srv/jobs"), PLUGIN.target({"root": "../runs"}, "/srv/jobs")
    assert (str(plain), str(named)) == ("local (embedded)", "local at ../runs")
    assert plain == Target("local", "")
    block = {"root": "/var/runs", "slots": 3, "logBytes": 4096, "secrets": "secrets", "secretVariables": ["TOKEN"]}
    settings = PLUGIN.target(block, "/srv/jobs").settings
    assert isinstance(settings, Settings)
    assert settings[:4] == ("/srv/jobs", "/var/runs", 3, 4096)
    assert settings.secrets == ("/srv/jobs/secrets", ("TOKEN",))
    assert [settings.workdir(config) for config in ({}, {"workdir": "a/../b"}, {"workdir": "/c"})] == [
        "/srv/jobs",
        "/srv/jobs/b",
        "/c",
    ]
    assert settings.workdir({"workdir": "~/d"}) == str(Path.home() / "d")


@pytest.mark.parametrize("field", ["root", "secrets"])
@pytest.mark.parametrize(
    ("path", "is_path"),
    [("runs", True), ("/srv/my runs", True), ("~", True), ("", False), (" \t\n", False), ("a\0b", False)],
)
def test_a_folder_has_a_name_that_can_be_seen(field: str, path: str, is_path: bool) -> None:
    assert Draft202012Validator(dict(PLUGIN.target_schema)).is_valid({field: path}) == is_path


def test_a_plan_names_the_run_and_no_secret() -> None:
    config: Config = {"command": ["true"], "env": {"TOKEN": {"secret": "TOKEN"}}}
    target = PLUGIN.target({}, "/srv")
    steps = [Step(Verb.RUN, "a", "a-7", config), Step(Verb.ABORT, "a", "a-7"), Step(Verb.DELETE, "a", "a-7")]
    [run], [abort], [delete] = [PLUGIN.wording(target, step) for step in steps]
    assert (run.text, run.body) == ("start a-7", config)
    assert (abort.text, delete.text) == ("end a-7", "remove the runs of a")
    assert PLUGIN.addressed(target, run).text == "start a-7 on this machine"
    assert PLUGIN.addressed(PLUGIN.target({"root": "runs"}, "/srv"), abort).text == "end a-7 in runs"
