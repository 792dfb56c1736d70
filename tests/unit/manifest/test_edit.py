"""Edits of a manifest change the requested part, and leave every other byte as it is. `reconciler rerun` is an edit."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests import MARK, Written, manifests
from project import Project, served_project
from reconciler.engines.sandbox.life import ledger
from reconciler.manifest import Manifest
from reconciler.manifest.edit import _edited, _Splice, add_jobs, set_config_text, set_field
from reconciler.manifest.faults import job_fields
from reconciler.manifest.parse import parse
from reconciler.model.errors import ReconcilerError
from reconciler.model.jobs import Desired
from reconciler.usecases.engines import plugin_named
from reconciler.usecases.place import Place
from reconciler.usecases.rerun import rerun
from reconciler.usecases.workspace import Workspace
from reconciler.usecases.world import World

HEAD = "apiVersion: reconciler/v1\ntarget: {engine: sandbox}\n"
NEW = {"id": "new-1", "state": "running", "config": {"taskTimeout": 5}}
TOKENS = ["2026-11-21", "plain", "it's", "räksmörgås"]
VALUES: dict[str, list[str]] = {"runToken": TOKENS, "state": list(Desired), "id": ["x.1"]}


def manifest(source: bytes) -> Manifest:
    return parse([("f", source)], plugin_named)


def edited(body: str, field: str = "runToken", value: str = "2", job: str = "a") -> str:
    text = HEAD + body
    made = set_field(text.encode(), "f", job, field, value, job_fields()).decode()
    assert made.startswith(HEAD)
    return made.removeprefix(HEAD)


def with_tasks(body: str) -> str:
    """Return jobs with a text set in the config of the job a."""
    made = set_config_text((HEAD + body).encode(), "f", "a", "tasks", "3 of x", job_fields()).decode()
    assert made.startswith(HEAD)
    return made.removeprefix(HEAD)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("jobs:\n  a: {state: running}\n", "jobs:\n  a: {state: running, config: {tasks: 3 of x}}\n"),
        (
            "jobs:\n  a:\n    state: running\n    runToken: z\n",
            "jobs:\n  a:\n    state: running\n    config: {tasks: 3 of x}\n    runToken: z\n",
        ),
        ("jobs:\n  a: {config: {}, state: running}\n", "jobs:\n  a: {config: {tasks: 3 of x}, state: running}\n"),
        (
            "jobs:\n  a: {config: {b: [1]}, state: running}\n",
            "jobs:\n  a: {config: {b: [1], tasks: 3 of x}, state: running}\n",
        ),
        (
            "jobs:\n  a:\n    config:\n      b: 1  # one\n      # two\n    state: running\n",
            "jobs:\n  a:\n    config:\n      b: 1  # one\n      tasks: 3 of x\n      # two\n    state: running\n",
        ),
        (
            'jobs:\n  a: {config: {tasks: "1 of y", b: 1}, state: running}\n',
            'jobs:\n  a: {config: {tasks: "3 of x", b: 1}, state: running}\n',
        ),
        (
            "jobs:\n  a:\n    config:\n      script: |\n        echo\n    state: running\n",
            "jobs:\n  a:\n    config:\n      script: |\n        echo\n      tasks: 3 of x\n    state: running\n",
        ),
    ],
)
def test_a_text_in_a_config_is_set_and_nothing_else_is_touched(before: str, after: str) -> None:
    assert with_tasks(before) == after


def added(body: str, *names: str) -> str:
    made = add_jobs((HEAD + body).encode(), "f", {name: {"id": f"{name}-id", "state": "running"} for name in names})
    return made.decode().removeprefix(HEAD)


def same(left: bytes, right: bytes) -> int:
    """Return the number of bytes that both begin with."""
    return next(
        (at for at, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1]), min(len(left), len(right))
    )


@given(manifests(), st.data())
@settings(max_examples=100, deadline=None)
def test_a_field_is_set_and_nothing_else_is_touched(written: Written, data: st.DataObject) -> None:
    job = data.draw(st.sampled_from(sorted(written.value["jobs"])))
    field = data.draw(st.sampled_from(sorted(VALUES)))
    value = data.draw(st.sampled_from(VALUES[field]))
    before = manifest(written.source)
    made = set_field(written.source, "f", job, field, value, job_fields())
    changed: dict[str, Any] = {"run_token" if field == "runToken" else field: value}
    assert manifest(made).jobs == {**before.jobs, job: before.jobs[job]._replace(**changed)}
    ahead = same(written.source, made)
    behind = same(written.source[ahead:][::-1], made[ahead:][::-1])
    gone = written.source[ahead : len(written.source) - behind].decode()
    old = written.value["jobs"][job].get(field)
    assert gone == "" if old is None else len(gone) <= 10 * len(old) + 2
    assert not MARK.search(gone)
    assert "\n" not in gone


@given(manifests(), st.lists(st.sampled_from(["0", "b", "new one", "zz", "é"]), min_size=1, max_size=3, unique=True))
@settings(max_examples=100, deadline=None)
def test_jobs_are_added_and_every_line_stays(written: Written, names: list[str]) -> None:
    before = manifest(written.source)
    jobs = {name: {**NEW, "id": f"new-{number}"} for number, name in enumerate(names) if name not in before.jobs}
    made = add_jobs(written.source, "f", jobs)
    after = manifest(made)
    assert after.jobs == {**before.jobs, **{name: after.jobs[name] for name in jobs}}
    assert {name: (job.id, job.state) for name, job in after.jobs.items() if name in jobs} == {
        name: (fields["id"], "running") for name, fields in jobs.items()
    }
    left: Iterator[str] = iter(made.decode())
    assert all(character in left for character in written.source.decode())
    assert MARK.findall(made.decode()) == MARK.findall(written.source.decode())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("jobs:\n  a: {state: running}\n", 'jobs:\n  a: {state: running, runToken: "2"}\n'),
        ("jobs: {a: {state: running,},}\n", 'jobs: {a: {state: running, runToken: "2",},}\n'),
        ("jobs:\n  a: {state: running, runToken: '1'} # x", "jobs:\n  a: {state: running, runToken: '2'} # x"),
        ('jobs:\n  a:\n    runToken:   "1"   # x\n', 'jobs:\n  a:\n    runToken:   "2"   # x\n'),
        (
            "jobs:\r\n   a:\r\n      state: running # x\r\n",
            'jobs:\r\n   a:\r\n      state: running # x\r\n      runToken: "2"\r\n',
        ),
        ("jobs:\n  a:\n    state: running", 'jobs:\n  a:\n    state: running\n    runToken: "2"'),
        (
            "jobs:\n  a: {\n    state: running, # on\n  }\n",
            'jobs:\n  a: {\n    state: running, runToken: "2", # on\n  }\n',
        ),
    ],
)
def test_a_token_is_written_the_way_the_file_is(before: str, after: str) -> None:
    assert edited(before) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("jobs: {}  # none\n", "jobs:  # none\n  m:\n    id: m-id\n    state: running\n"),
        ("", "jobs:\n  m:\n    id: m-id\n    state: running\n"),
        ("jobs: {b: {state: aborted}}\n", "jobs: {b: {state: aborted}, m: {id: m-id, state: running}}\n"),
        ("jobs: {  # none\n}\n", "jobs: {  # none\nm: {id: m-id, state: running}}\n"),
    ],
)
def test_a_first_job_finds_a_place(before: str, after: str) -> None:
    assert added(before, "m") == after


def test_among_sorted_jobs_a_new_one_has_its_sorted_place() -> None:
    before = "jobs:\n  # c\n  b: {state: aborted}  # b\n  # d\n  z: {state: aborted}\n"
    assert added(before, "m", "p", "a") == (
        "jobs:\n  a: {id: a-id, state: running}\n  # c\n  b: {state: aborted}  # b\n"
        "  m: {id: m-id, state: running}\n  p: {id: p-id, state: running}\n  # d\n  z: {state: aborted}\n"
    )


def test_among_others_a_new_one_comes_last_and_apart_as_they_are() -> None:
    before = "jobs:\n   z:\n     state: aborted\n\n   a:\n     state: aborted\n     # end\n   # foot\n# last\n"
    new = "\n   m:\n     id: m-id\n     state: running\n"
    assert added(before, "m") == before.replace("     # end\n", f"     # end\n{new}")
    first = "jobs:  # all\n  # o\n  o:\n    state: aborted\n\n  p:\n    state: aborted\n"
    assert added(first, "m") == first.replace("# all\n", "# all\n  m:\n    id: m-id\n    state: running\n\n")


def test_a_new_field_comes_after_those_before_it_and_the_comments_at_their_foot() -> None:
    ahead = "jobs:\n  a:\n    state: running\n    config:\n      jobTimeout: 5 # s\n      # end of config\n"
    behind = "\n    # why\n    protect: true\n"
    assert edited(ahead + behind) == f'{ahead}    runToken: "2"\n{behind}'


def test_an_edit_that_would_lose_a_comment_is_refused() -> None:
    body = "jobs:\n  a:\n    state: running\n    runToken: >-  # why\n      one\n"
    with pytest.raises(ReconcilerError, match="f can't be edited as it is laid out: a comment would be lost"):
        edited(body)


def test_an_edit_that_would_say_something_else_is_refused() -> None:
    source = f"{HEAD}jobs: {{a: {{state: running}}, b: {{state: running}}}}\n".encode()
    misplaced = _Splice(len(source) - 3, len(source) - 3, ', runToken: "2"')
    with pytest.raises(ReconcilerError, match="it would say something else"):
        _edited(source, "f", [misplaced], lambda document: document["jobs"]["a"].update(runToken="2"))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Project]:
    with served_project(tmp_path, job_seconds=0.01) as project:
        yield project


def test_a_rerun_is_one_run_more_once_it_is_applied(served: Project) -> None:
    served.write('a: {state: running, runToken: "1"}  # mine')
    assert served.run("apply", "--yes").code == 0
    run = served.run("rerun", "a", "--token", "2")
    assert (run.code, run.out) == (0, 'jobs.yaml:5: a: runToken "1" → "2"\n')
    assert "reconciler apply" in run.err
    assert [execution.verb for execution in ledger(served.folder / "server.db")] == ["run"]
    assert (served.folder / "jobs.yaml").read_text().endswith('jobs:\n  a: {state: running, runToken: "2"}  # mine\n')
    assert served.run("apply", "--yes").code == 0
    assert [execution.verb for execution in ledger(served.folder / "server.db")] == ["run", "run"]


def test_a_token_that_was_consumed_or_stands_there_is_not_taken_again(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write('a: {state: running, runToken: "2026-11-21"}')
    assert project.run("apply", "--yes").code == 0
    place, world = Place((str(tmp_path / "jobs.yaml"),)), World(project.env, Event())
    tokens = [rerun(Workspace(place, world), "a", None, "2026-11-21").token for _ in range(3)]
    assert tokens == ["2026-11-21.2", "2026-11-21.3", "2026-11-21.4"]
    consumed = project.run("rerun", "a", "--token", "2026-11-21")
    assert consumed.code == 4
    assert "a has used the runToken 2026-11-21 already: it would run nothing" in consumed.err


def test_a_token_that_is_asked_for_already_and_not_consumed_is_no_fault(served: Project) -> None:
    served.write("a: {state: running}")
    assert served.run("apply", "--yes").code == 0
    assert served.run("rerun", "a", "--token", "x").code == 0
    before = served.files
    again = served.run("rerun", "a", "--token", "x")
    assert (again.code, again.out) == (0, 'jobs.yaml:5: a: the manifest asks for runToken "x" already\n')
    assert again.err == "Nothing was written. `reconciler apply` runs it.\n"
    assert served.files == before
    assert served.run("apply", "--yes").code == 0
    assert served.run("rerun", "a", "--token", "x").code == 4


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["idle"], 4, "jobs.yaml:4:3: idle is declared aborted"),
        (["idel"], 1, "did you mean idle?"),
        (["busy"], 0, "An apply would not run it yet: protected"),
        (["busy", "--tasks", "failed"], 64, "the engine sandbox has no tasks"),
        (["busy", "--token", "a\nb"], 64, "--token: runToken: expected text without control characters"),
    ],
)
def test_a_rerun_says_what_stands_in_its_way(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    project = Project(tmp_path)
    (tmp_path / "jobs.yaml").write_text(f"{HEAD}jobs:\n  idle: {{state: aborted}}\n  busy: {{state: running}}\n")
    assert project.run("apply", "--yes").code == 0
    text = (tmp_path / "jobs.yaml").read_text().replace("{state: running}", "{state: running, protect: true}")
    (tmp_path / "jobs.yaml").write_text(text)
    run = project.run("rerun", *arguments)
    assert run.code == code
    assert message in run.err
    assert ((tmp_path / "jobs.yaml").read_text() == text) == (code != 0)


def test_a_new_token_is_higher_than_all_that_manifest_state_and_history_know(served: Project) -> None:
    place, world = Place((str(served.folder / "jobs.yaml"),)), World(served.env, Event())

    def asked() -> str:
        return rerun(Workspace(place, world), "a", None, "2026-11-21").token

    served.write('a: {state: running, runToken: "2026-11-21.2"}')
    assert asked() == "2026-11-21.3"
    assert served.run("apply", "--yes").code == 0
    served.write("a: {state: running}")
    assert asked() == "2026-11-21.4"
    assert asked() == "2026-11-21.5"
    assert served.run("apply", "--yes").code == 0
    assert served.run("state", "forget", "a").code == 0
    served.write("a: {state: running}")
    assert asked() == "2026-11-21.6", "the history tells of .5"
    served.write('a: {state: running, runToken: "2026-11-21.x"}')
    assert served.run("rerun", "a", "--token", "2026-11-21.5").err.startswith(
        "error: the history tells of a run of a by the runToken 2026-11-21.5\n"
    )
    assert asked() == "2026-11-21.6"
