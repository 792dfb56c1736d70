"""What the Jobs API of Ray is sent for a config, and what its entrypoint does in a shell as Ray starts it."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.engines.ray.submission import entrypoint_of, submission, was_timed_out
from waits import until

SHOW = ["printf", "%s\\0"]
"""A program that prints each argument, and a NUL behind it."""


def started(config: Mapping[str, Any], folder: Path | None = None) -> subprocess.Popen[bytes]:
    """Start an entrypoint as a supervisor of Ray does (job_supervisor.py, _exec_entrypoint)."""
    return subprocess.Popen(entrypoint_of(config), shell=True, start_new_session=True, cwd=folder)


def output(config: Mapping[str, Any], env: Mapping[str, str] | None = None) -> bytes:
    """Return what an entrypoint prints."""
    entrypoint = entrypoint_of(config)
    done = subprocess.run(entrypoint, shell=True, env=env, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b""), done
    return done.stdout


def test_each_word_of_a_config_has_its_field() -> None:
    config = {
        "command": ["python", "train.py", "--rate", "0.1"],
        "env": {"LEVEL": "3"},
        "runtime_env": {"pip": ["torch==2.5.1"], "config": {"setup_timeout_seconds": 300}},
        "working_dir": {"folder": "train", "content": "0" * 40},
        "resources": {"cpu": 0.5, "gpu": 1, "memory": "2GiB", "custom": {"TPU": 4}},
        "native": {"entrypoint_label_selector": {"region": "eu"}, "metadata": {"team": "media"}},
    }
    assert submission(config, "gcs://_ray_pkg_00.zip") == {
        "entrypoint": "exec python train.py --rate 0.1",
        "runtime_env": {
            "pip": ["torch==2.5.1"],
            "config": {"setup_timeout_seconds": 300},
            "env_vars": {"LEVEL": "3"},
            "working_dir": "gcs://_ray_pkg_00.zip",
        },
        "entrypoint_num_cpus": 0.5,
        "entrypoint_num_gpus": 1,
        "entrypoint_memory": 2 << 30,
        "entrypoint_resources": {"TPU": 4},
        "entrypoint_label_selector": {"region": "eu"},
        "metadata": {"team": "media"},
    }


def test_a_config_of_a_command_alone_has_nothing_else() -> None:
    assert submission({"command": ["true"]}) == {"entrypoint": "exec true"}


def test_a_uri_stays_as_it_is() -> None:
    made = submission({"script": "echo", "working_dir": "s3://bucket/train.zip"})
    assert made == {"entrypoint": "echo", "runtime_env": {"working_dir": "s3://bucket/train.zip"}}


def test_a_config_is_left_as_it_was() -> None:
    config = {"command": ["x"], "env": {"A": "b"}, "runtime_env": {"pip": ["a"]}, "native": {"metadata": {"a": "b"}}}
    before = json.dumps(config)
    submission(config)
    assert json.dumps(config) == before


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])), min_size=1, max_size=4))
def test_the_arguments_of_a_program_are_those_of_the_config(arguments: list[str]) -> None:
    expected = b"".join(each.encode() + b"\0" for each in arguments)
    assert output({"command": [*SHOW, *arguments]}) == expected
    assert output({"command": [*SHOW, *arguments], "jobTimeout": 60}) == expected


@pytest.mark.parametrize("name", ["A=b", "if", "{", "exit", "cd", "!", "~", "*", "two words", "time"])
def test_the_name_of_a_program_is_no_word_of_the_shell(tmp_path: Path, name: str) -> None:
    program = tmp_path / name
    program.write_text("#!/bin/sh\necho ran with $1\n")
    program.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.defpath}"}
    assert output({"command": [name, "x"]}, env) == b"ran with x\n"


def test_a_script_is_read_by_the_shell() -> None:
    script = "for one in a b; do\n  echo \"$one 'x'\"\ndone\n"
    assert output({"script": script}) == output({"script": script, "jobTimeout": 60}) == b"a 'x'\nb 'x'\n"


def test_a_script_without_a_timeout_stands_in_the_dashboard_as_it_is_written() -> None:
    assert entrypoint_of({"script": "python train.py --epochs 3"}) == "python train.py --epochs 3"


def test_the_end_of_a_program_is_that_of_the_entrypoint() -> None:
    for config in ({"script": "exit 7"}, {"command": ["sh", "-c", "exit 7"]}):
        for timed in (config, {**config, "jobTimeout": 60}):
            assert started(timed).wait(60) == 7


@pytest.mark.parametrize("word", ["script", "command"])
def test_a_timeout_ends_all_processes_of_the_job(tmp_path: Path, word: str) -> None:
    """`timeout` signals its process group, in which the entrypoint stays."""
    script = "sleep 1000 & echo $! > child; sh -c 'sleep 1000 & echo $! > grandchild; wait' & wait"
    config: dict[str, Any] = {"script": script} if word == "script" else {"command": ["sh", "-c", script]}
    process = started({**config, "jobTimeout": 1}, tmp_path)
    assert process.wait(60) == 124
    for name in ("child", "grandchild"):
        pid = int((tmp_path / name).read_text())
        until(partial(_is_gone, pid), f"the {name} is still there")


def test_a_program_that_ignores_the_timeout_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.engines.ray.submission.GRACE_S", 0.2)
    process = started({"command": ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"], "jobTimeout": 1})
    assert process.wait(60) in (137, -signal.SIGKILL)


def test_the_group_of_a_job_is_that_which_ray_kills(tmp_path: Path) -> None:
    """A supervisor that dies is followed by `kill -9 -PGID` of the process that it started."""
    process = started({"script": "echo $$ > pid; sleep 1000", "jobTimeout": 900}, tmp_path)
    pid = until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
    assert os.getpgid(int(pid)) == process.pid
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    until(partial(_is_gone, int(pid)), "the job has outlived its group")


def test_what_ended_by_the_timeout_is_told_from_what_ended_by_itself() -> None:
    timed, free = entrypoint_of({"script": "x", "jobTimeout": 5}), entrypoint_of({"script": "x"})
    assert was_timed_out(timed, 124)
    assert not was_timed_out(timed, 1)
    assert not was_timed_out(free, 124)


def test_the_wrapper_needs_nothing_but_coreutils() -> None:
    assert shutil.which("timeout"), "this test is about the program of this machine"
    assert entrypoint_of({"command": ["a"], "jobTimeout": 5}) == "exec timeout --kill-after=10 5 a"


def _is_gone(pid: int) -> bool:
    """Whether a process has ended, whoever is to collect it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
