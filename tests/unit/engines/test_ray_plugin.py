"""What the plugin of Ray says of targets and configs without a connection."""

from typing import Any

import pytest

from reconciler.engines.port import Job, Step, Target, Verb
from reconciler.engines.ray.plugin import PLUGIN, settings_of
from reconciler.manifest.folders import Folder, FolderFile, Named, Rules
from reconciler.manifest.parse import parse
from reconciler.model.errors import ManifestError
from reconciler.model.jobs import Desired
from reconciler.usecases.engines import plugin_named

MANIFEST = """\
apiVersion: reconciler/v1
target: {engine: ray, %s}
jobs:
  train:
    state: running
    config: %s
"""
CONTENT = {"folder": "train", "content": "0" * 40}


def job(**config: Any) -> Job:
    return Job("train", "train", Desired.RUNNING, config)


def job_fault(**config: Any) -> str:
    return PLUGIN.job_fault(job(**{"command": ["x"], **config}))


def target(**block: Any) -> Target:
    return PLUGIN.target(block, "/srv")


def read_folder(named: Named, rules: Rules) -> Folder:
    """Return a folder with one file, whatever is asked for."""
    return Folder(named.path, [FolderFile("main.py", is_executable=False, size_bytes=1, pieces=lambda: [b"x"])])


def faults(config: str, target: str = "") -> str:
    """Return what is wrong with a manifest of one job, each fault in a line."""
    try:
        parse([("jobs.yaml", (MANIFEST % (target, config)).encode())], plugin_named, read_folder=read_folder)
    except ManifestError as error:
        return "\n".join(map(str, error.diagnostics))
    return ""


def test_a_target_without_an_address_is_that_of_the_environment() -> None:
    assert str(target()) == "ray at the address of the environment"
    assert settings_of(target())[:2] == ("/srv", "")
    assert not PLUGIN.is_on_this_machine(target())


def test_an_address_has_one_form() -> None:
    named = target(address="HTTP://LocalHost:8265/")
    assert str(named) == "ray at http://localhost:8265"
    assert named == target(address="http://localhost:8265", ca="ca.pem")
    assert named != target(address="http://localhost:8266")
    assert PLUGIN.is_on_this_machine(named)
    assert settings_of(target(address="https://ray", ca="ca.pem")).access.ca == "/srv/ca.pem"


def test_http_beyond_loopback_needs_insecure_and_is_told_in_each_plan() -> None:
    assert "is http" in faults("{command: [x]}", "address: 'http://head:8265'")
    insecure = {"address": "http://head:8265", "insecure": True}
    assert faults("{command: [x]}", "address: 'http://head:8265', insecure: true") == ""
    assert [*PLUGIN.warnings(target(**insecure), ())] == [
        "http://head:8265 is http: jobs, and the token if there is one, go over the network in clear"
    ]
    assert not [*PLUGIN.warnings(target(address="http://localhost:8265"), ())]


def test_a_plan_says_that_the_environment_may_name_an_address_in_clear() -> None:
    """No plan depends on the environment, so the address itself is not known to it."""
    [told] = PLUGIN.warnings(target(insecure=True), ())
    assert told == (
        "target.insecure allows an address of the environment that is http: jobs, and the token if there is one, "
        "go over the network in clear then"
    )
    assert not [*PLUGIN.warnings(target(), ())]
    for address in ("https://head", "http://localhost:8265"):
        assert not [*PLUGIN.warnings(target(address=address, insecure=True), ())]


def test_a_plan_says_what_is_asked_of_the_head() -> None:
    named = target(address="https://ray")
    words = {}
    for verb in Verb:
        [request] = PLUGIN.wording(named, Step(verb, "train", "train-3", {"command": ["x"]}))
        words[verb] = PLUGIN.addressed(named, request).text
    assert words == {
        Verb.RUN: "submit train-3 at https://ray",
        Verb.ABORT: "stop train-3 at https://ray",
        Verb.DELETE: "delete all runs of train at https://ray",
    }


def test_a_run_needs_an_entrypoint_and_one_alone() -> None:
    assert 'needs a config with "command", "script" or "batch"' in faults("{env: {A: b}}")
    assert PLUGIN.job_fault(Job("train", "train", Desired.ABSENT, {})) == ""
    assert "and not two" in faults("{command: [x], script: x}")


@pytest.mark.parametrize(
    "config",
    [
        "{script: 'echo $HOME'}",
        "{command: [python, train.py], jobTimeout: 3600}",
        "{command: [x], working_dir: train}",
        "{command: [x], working_dir: 's3://bucket/train.zip'}",
        "{command: [x], resources: {cpu: 0.5, gpu: 0.25, memory: 2GiB, custom: {TPU: 1}}}",
        "{command: [x], runtime_env: {pip: [torch], py_modules: ['s3://bucket/lib.zip'], conda: base}}",
        "{command: [x], runtime_env: {conda: {dependencies: [python]}, config: {eager_install: false}}}",
        "{command: [x], native: {entrypoint_label_selector: {region: eu}, metadata: {team: media}}}",
    ],
)
def test_configs_that_ray_can_have(config: str) -> None:
    assert faults(config) == ""


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("{command: ['']}", "has no program"),
        ("{command: [-x]}", "hyphen"),
        ("{script: '#!/usr/bin/env python3'}", "put it into `working_dir`"),
        ("{command: [x], env: {A: 1}}", "expected text"),
        ("{command: [x], working_dir: 'train://x.zip'}", "Ray knows no such URI"),
        ("{command: [x], working_dir: {folder: train, content: abc}}", "expected a digest"),
        ("{command: [x], runtime_env: {env_vars: {A: b}}}", "write `env`"),
        ("{command: [x], runtime_env: {working_dir: .}}", "write `working_dir`"),
        ("{command: [x], runtime_env: {excludes: [a]}}", ".rayignore"),
        ("{command: [x], runtime_env: {pip: requirements.txt}}", "write the list"),
        ("{command: [x], runtime_env: {pip: {packages: requirements.txt}}}", "write the list"),
        ("{command: [x], runtime_env: {uv: requirements.txt}}", "write the list"),
        ("{command: [x], runtime_env: {conda: environment.yml}}", "write its content"),
        ("{command: [x], runtime_env: {py_modules: [lib]}}", "is not uploaded"),
        ("{command: [x], native: {submission_id: mine}}", "each run has its own"),
        ("{command: [x], native: {entrypoint: x}}", "write `command`"),
        ("{command: [x], native: {metadata: {reconciler_op: x}}}", "reconciler's own"),
        ("{command: [x], native: {metadata: {a: 1}}}", "expected text"),
        ("{command: [x], native: {metadata: [a]}}", "expected a mapping"),
        ("{command: [x], resources: {memory: 2GB}}", "512MiB or 4GiB"),
        ("{command: [x], image: ray}", "runtime_env: {image_uri"),
        ("{command: [x], workdir: train}", "write `working_dir`"),
        ("{entrypoint: x}", "write `command`"),
    ],
)
def test_what_ray_can_t_have_is_refused_with_what_to_do(config: str, why: str) -> None:
    assert why in faults(config)


def test_a_secret_is_refused_since_ray_shows_it() -> None:
    told = faults("{command: [x], env: {TOKEN: {secret: train/token}}}")
    assert told.startswith("jobs.yaml:6:34: ")
    assert "config.env.TOKEN: Ray shows the variables of a job" in told
    assert "let the job read the secret itself" in told


def test_an_entrypoint_that_no_kernel_takes_is_refused() -> None:
    """An argument of a program has less than 128 KiB (execve(2)), and the shell gets the entrypoint as one."""
    assert job_fault(command=["x", "a" * 131_000]) == ""
    assert "put it into a file of `working_dir`" in job_fault(command=["x", "a" * 131_072])
    assert "leave out some" in job_fault(env={"A": "a" * 131_072})


def test_text_that_no_program_can_have_is_refused() -> None:
    assert job_fault(command=["x", "\ud800"]) == (
        "config.command[1] holds half of a surrogate pair, which is no character"
    )
    assert job_fault(command=["x"], runtime_env={"pip": ["a\0"]}) == "config.runtime_env.pip[0] holds a NUL character"


def test_configs_that_submit_the_same_job_are_the_same() -> None:
    def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
        return PLUGIN.same_config({"command": ["x"], **a}, {"command": ["x"], **b})

    assert same({}, {"env": {}})
    assert same({"resources": {"memory": "1GiB"}}, {"resources": {"memory": 1 << 30}})
    assert same({"working_dir": CONTENT}, {"working_dir": {**CONTENT, "folder": "moved"}})
    assert not same({"working_dir": CONTENT}, {"working_dir": {**CONTENT, "content": "1" * 40}})
    assert not same({}, {"jobTimeout": 5})
    assert not same({}, {"env": {"A": "b"}})
    assert not same({"resources": {"cpu": 1}}, {"resources": {"cpu": True}})


@pytest.mark.parametrize(
    "part", [{"env": {"A": "b"}}, {"resources": {"cpu": 1}}, {"working_dir": {"content": "x"}}, {}]
)
def test_a_part_of_a_config_can_be_compared(part: dict[str, Any]) -> None:
    assert PLUGIN.same_config(part, dict(part))
    assert not PLUGIN.same_config(part, {"env": {"C": "d"}})
