"""Which plugin keeps the state at a URL: the built-in ones come first, and other packages are asked for the rest."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import directory_home
from reconciler.model.errors import ReconcilerError
from reconciler.state.backends.file import FilePlugin
from reconciler.state.backends.git import GitPlugin
from reconciler.state.registry import UnknownPlace, is_path, plugin_of
from reconciler_scripts.directory import DirectoryPlugin


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package is installed that has plugins for new schemes, for the built-in ones, and one that is broken."""
    directory_home.install(str(tmp_path))
    (tmp_path / "directory_home-1.dist-info" / "entry_points.txt").write_text(
        f"{directory_home.ENTRY_POINTS}git = directory_home:PLUGIN\nfile = directory_home:PLUGIN\n"
        "other = directory_home:PLUGIN\nbroken = there_is_no_such_module:PLUGIN\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_plugin_is_found_by_the_scheme_of_the_url() -> None:
    assert plugin_of("dir:///srv/states").prefix == directory_home.PLUGIN.prefix
    assert plugin_of("plain://states").prefix == directory_home.PLAIN.prefix


def test_entry_points_are_read_only_for_a_text_that_looks_like_a_scheme(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom reconciler.state.registry import url_meant\n"
        "print(url_meant({!r}, '.', '.') or '-', 'importlib.metadata' in sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": directory_home.path_with(str(tmp_path))}
    said = {
        url: subprocess.run(
            [sys.executable, "-c", program.format(url)], capture_output=True, text=True, check=True, env=env
        ).stdout.split()
        for url in ("jobs.state.json", "file:jobs.state.json", "./dir:x", "dir:x", "DIR:/x", "dir:")
    }
    assert said == {
        "jobs.state.json": ["-", "False"],
        "file:jobs.state.json": ["-", "False"],
        "./dir:x": ["-", "False"],
        "dir:x": ["dir://x", "True"],
        "DIR:/x": ["dir:///x", "True"],
        "dir:": ["-", "True"],
    }


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("git+origin", GitPlugin),
        ("git+https://host/r.git#state", GitPlugin),
        ("jobs.state.json", FilePlugin),
        ("file:///srv/jobs.state.json", FilePlugin),
        ("a+b:c.json", FilePlugin),
    ],
)
def test_a_package_does_not_take_the_place_of_a_built_in_plugin(url: str, kind: type) -> None:
    assert isinstance(plugin_of(url), kind)
    assert not isinstance(plugin_of(url), DirectoryPlugin)
    assert is_path(url) is (kind is FilePlugin)


@pytest.mark.parametrize("url", ["s3://bucket/state", "other://bucket", "://x", "1://x"])
def test_a_url_that_no_plugin_takes_is_refused_with_what_is_taken(url: str) -> None:
    with pytest.raises(UnknownPlace) as refusal:
        plugin_of(url)
    assert "git+https://" in refusal.value.hint


def test_a_plugin_that_can_not_be_loaded_is_named() -> None:
    with pytest.raises(ReconcilerError, match="there_is_no_such_module:PLUGIN, which keeps states at") as said:
        plugin_of("broken://x")
    assert said.value.hint == "install the package that has it anew"


@pytest.mark.parametrize(("url", "looks"), [("jobs.state.json", False), ("git+origin", False), ("dir://x", True)])
def test_packages_are_looked_through_only_for_an_unknown_scheme(tmp_path: Path, url: str, looks: bool) -> None:
    program = "import sys; from reconciler.state.registry import plugin_of; plugin_of(sys.argv[1]); print(*sys.modules)"
    env = {**os.environ, "PYTHONPATH": directory_home.path_with(str(tmp_path))}
    done = subprocess.run([sys.executable, "-c", program, url], env=env, capture_output=True, text=True, check=True)
    assert ("importlib.metadata" in done.stdout.split()) is looks
