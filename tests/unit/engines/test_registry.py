"""Engines by name: those that come with the tool, and those of packages that are installed beside it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.engines.port import EnginePlugin, Request, Surroundings
from reconciler.engines.registry import built_in, plugin
from reconciler.manifest.model import TargetBlock
from reconciler.model.errors import EngineError, Usage
from reconciler.model.jobs import Desired, Job, Target, Verb
from reconciler.usecases.engines import plugin_named
from reconciler.usecases.place import Place
from steps import step_for

PLUGINS = built_in()
OVER_HTTP = [one for one in PLUGINS if "endpoint" in one.target_schema["properties"]]
OTHER = """\
class Plugin:
    name = "shell"
    target_schema = {"type": "object", "properties": {"folder": {"type": "string"}}}


PLUGIN = Plugin()
"""


def printed_by(program: str, *paths: Path) -> str:
    command = [sys.executable, "-c", program]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, paths), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout.strip()


def install_shell_engine(folder: Path) -> None:
    """Put a package with an engine of its own into a folder, as an installer would."""
    (folder / "shell_engine.py").write_text(OTHER)
    metadata = folder / "shell_engine-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: shell-engine\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[reconciler.engines]\nshell = shell_engine:PLUGIN\nbytenite = shell_engine:PLUGIN\n"
    )


def test_the_engines_that_come_with_the_tool_go_by_their_own_names() -> None:
    assert [one.name for one in PLUGINS] == ["bytenite", "kubernetes", "local", "ray", "sandbox", "slurm"]
    assert [plugin(one.name) for one in PLUGINS] == list(PLUGINS)


def test_an_engine_that_is_built_in_is_found_without_reading_the_entry_points() -> None:
    program = "import sys\nfrom reconciler.engines.registry import plugin\nplugin({!r})\n"
    asks = "print('importlib.metadata' in sys.modules)"
    assert printed_by(program.format("bytenite") + asks) == "False"
    assert printed_by(program.format("shell") + asks) == "True"


def test_an_engine_of_another_package_is_found_by_its_entry_point(tmp_path: Path) -> None:
    install_shell_engine(tmp_path)
    program = "from reconciler.engines.registry import plugin\nprint(plugin('shell').name, plugin('bytenite').name)"
    assert printed_by(program, tmp_path) == "shell bytenite"


def test_an_engine_that_nobody_has_is_an_error_that_names_it() -> None:
    assert plugin("no-such-engine") is None
    with pytest.raises(EngineError, match="no engine is installed by the name no-such-engine"):
        plugin_named("no-such-engine")


@pytest.mark.parametrize("one", OVER_HTTP, ids=lambda one: one.name)
def test_a_step_is_worded_without_the_address_and_addressed_with_it(one: EnginePlugin) -> None:
    target = one.target({"engine": one.name, "endpoint": "HTTPS://Example.org:443/v1/"}, ".")
    assert str(target) == f"{one.name} at https://example.org/v1"
    [request] = one.wording(target, step_for(Verb.RUN, "a/b", {"taskTimeout": 5}))
    assert request == Request(Verb.RUN, "POST /jobs/a%2Fb/run", {"config": {"taskTimeout": 5}})
    assert str(one.addressed(target, request)) == (
        'POST https://example.org/v1/jobs/a%2Fb/run {"config":{"taskTimeout":5}}'
    )
    assert one.job_fault(Job("a", "a", Desired.RUNNING, {})) == ""


@pytest.mark.parametrize("one", OVER_HTTP, ids=lambda one: one.name)
def test_a_target_is_the_same_whatever_way_leads_to_it(one: EnginePlugin) -> None:
    block = {"engine": one.name, "endpoint": "https://example.org/v1"}
    plain, other = one.target(block, "a"), one.target({**block, "ca": "ca.pem", "insecure": True}, "b")
    assert plain == other == Target(one.name, "https://example.org/v1")
    assert hash(plain) == hash(other)
    assert plain != Target(one.name, "https://example.org/v2")


@pytest.mark.parametrize("one", OVER_HTTP, ids=lambda one: one.name)
def test_an_endpoint_in_clear_is_a_fault_or_a_warning(one: EnginePlugin) -> None:
    block = {"engine": one.name, "endpoint": "http://example.org/v1"}
    assert [field for field, _ in one.target_faults(block)] == ["endpoint"]
    insecure = {**block, "insecure": True}
    assert list(one.target_faults(insecure)) == []
    assert any("in clear" in warning for warning in one.warnings(one.target(insecure, "."), ()))
    assert not one.is_on_this_machine(one.target(insecure, "."))
    assert one.is_on_this_machine(one.target({**block, "endpoint": "http://127.0.0.1:9"}, "."))


def test_the_credentials_of_an_engine_are_those_that_its_variables_hold() -> None:
    env = {
        "BYTENITE_ACCESS_TOKEN": " canary-token ",
        "BYTENITE_API_KEY": "",
        "SLURM_JWT": "jwt",
        "HOME": "/root",
        "RAY_AUTH_TOKEN": "ray-token ",
        "RAY_JOB_HEADERS": '{"Authorization": "Basic Y2FuYXJ5", "X-Zone": "eu"}',
    }
    of_ray = ["ray-token", "Basic Y2FuYXJ5", "Y2FuYXJ5"]
    assert {one.name: list(one.secrets(env)) for one in PLUGINS} == {
        "bytenite": ["canary-token"],
        "kubernetes": [],
        "local": [],
        "ray": of_ray,
        "sandbox": ["canary-token"],
        "slurm": ["jwt"],
    }


def test_the_embedded_server_keeps_its_jobs_beside_the_state(tmp_path: Path) -> None:
    sandbox = plugin_named("sandbox")
    noted: list[str] = []
    target = sandbox.target({"engine": "sandbox"}, ".")
    surroundings = Surroundings(
        env={},
        pause=lambda seconds: False,
        note_credential=noted.append,
        boot_s=lambda: 0.0,
        wall_s=lambda: 0.0,
        parallelism=1,
        max_rps=None,
        beside_state=str(tmp_path / "jobs"),
    )
    assert (str(target), sandbox.is_on_this_machine(target)) == ("sandbox (embedded)", True)
    with sandbox.open(target, surroundings) as engine:
        assert engine.send(step_for(Verb.RUN, "a"), lambda: True).code == "200"
        assert engine.observe_many(["a"]).keys() == {"a"}
    assert (tmp_path / "jobs.sandbox.db").exists()


def test_an_endpoint_is_refused_for_an_engine_whose_targets_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_shell_engine(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    place = Place(endpoint="https://example.org/v1", endpoint_from="RECONCILER_ENDPOINT")
    with pytest.raises(Usage, match="RECONCILER_ENDPOINT: a target of the engine shell has no endpoint"):
        place.target(Target("shell", "here"), TargetBlock())
