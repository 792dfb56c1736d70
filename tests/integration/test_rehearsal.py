"""A rehearsal has a state of its own: nothing that is pasted binds the real state to another service."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkout import ROOT
from project import TOKEN, Project, done, served_project
from reconciler.engines.sandbox.server import SandboxServer


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Project]:
    """A folder whose state knows of one run at the real service."""
    with served_project(tmp_path) as project:
        project.write("a: {state: running}")
        assert project.run("apply", "--yes").code == 0
        yield project


@pytest.fixture
def rehearsal(tmp_path: Path) -> Iterator[str]:
    """The endpoint of another server."""
    with SandboxServer(tmp_path / "rehearsal.db", access_token=TOKEN, create_missing=True) as server:
        yield server.endpoint


def commands_in(text: str) -> list[list[str]]:
    """The commands that a text names, in backticks or up to the end of a line, as words."""
    found = re.findall(
        r"`reconciler ([^`\n]+)`|(?<!`)reconciler ((?:state )?(?:accept|apply|plan)[^\n`]*)$", text, re.M
    )
    return [shlex.split(inline or at_end) for inline, at_end in found]


def test_no_command_that_is_pasted_from_a_refusal_binds_the_real_state(real: Project, rehearsal: str) -> None:
    before = (real.folder / "jobs.state.json").read_bytes()
    run = real.run("apply", "--yes", "--endpoint", rehearsal)
    assert run.code == 1
    assert "give it a state of its own: add --state rehearsal.state.json" in run.err
    pasted = commands_in(run.err)
    assert ["state", "accept", "--help"] in pasted
    for words in [*pasted, ["state", "accept", "--endpoint", rehearsal]]:
        output = real.run(*words)
        for again in commands_in(output.err):
            real.run(*again)
    assert (real.folder / "jobs.state.json").read_bytes() == before
    assert real.run("plan").out == "No changes: 1 job is as recorded.\n"


def test_accept_does_not_take_a_state_for_another_service_unless_that_is_named(real: Project, rehearsal: str) -> None:
    before = (real.folder / "jobs.state.json").read_bytes()
    for words in ((), ("--moved-to", "http://127.0.0.1:1/v1/customer"), ("--moved-to", "")):
        run = real.run("state", "accept", "--endpoint", rehearsal, *words)
        assert run.code in (1, 4), run.err
        assert rehearsal in run.err
    assert (real.folder / "jobs.state.json").read_bytes() == before
    run = real.run("state", "accept", "--endpoint", rehearsal, "--moved-to", f"{rehearsal}/")
    assert run.code == 0, run.err
    assert "and is taken for bytenite at" in run.err
    assert real.run("plan", "--endpoint", rehearsal).out == "No changes: 1 job is as recorded.\n"


def test_a_journal_without_its_state_is_for_one_service_too(real: Project, rehearsal: str) -> None:
    """Of a first apply that was killed."""
    folder = real.folder / "other"
    folder.mkdir()
    from in_process import store_in
    from reconciler.model.errors import StateError
    from reconciler.model.jobs import Desired, Record, Target

    with (
        pytest.raises(KeyboardInterrupt),
        store_in(folder).open(Target("bytenite", "https://a"), "apply", 0) as session,
    ):
        session.put("a", Record("a", Desired.RUNNING))
        session.close = lambda: None  # type: ignore[method-assign]
        raise KeyboardInterrupt
    with pytest.raises(StateError, match="is for bytenite at https://a, and the manifest for bytenite at https://b"):
        store_in(folder).accept(Target("bytenite", "https://b"), 0)
    state, _ = store_in(folder).accept(Target("bytenite", "https://b"), 0, has_moved=True)
    assert (state.target.address, list(state.jobs)) == ("https://b", ["a"])


def test_the_rehearsal_of_the_page_leaves_the_real_state_alone(real: Project, rehearsal: str) -> None:
    page = (ROOT / "docs/how-to/sandbox.md").read_text()
    (words,) = re.findall(r"^reconciler (apply --yes --state rehearsal\.state\.json .*)$", page, re.MULTILINE)
    before = (real.folder / "jobs.state.json").read_bytes()
    run = real.run(*words.replace("http://127.0.0.1:8080/v1/customer", rehearsal).split())
    assert run.code == 0, run.err
    assert (real.folder / "rehearsal.state.json").exists()
    assert (real.folder / "jobs.state.json").read_bytes() == before
    assert done(real) == [("run", "a")]
    assert real.run("plan").out == "No changes: 1 job is as recorded.\n"
