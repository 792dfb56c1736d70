"""A wrong clock changes no decision: the same plan, calls, outcome and records in 1970, 2038, 2100, or jumping."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from project import Project, sandbox_in
from reconciler.engines.http.retries import retry_after_s
from reconciler.engines.sandbox.life import ledger
from reconciler.engines.sandbox.server import SandboxServer
from reconciler.model.jobs import Evidence, Observation, Status, Verb
from reconciler.rules.lost_calls import Trace, trace_of

CLOCKS = {
    "as it is": "lambda real: real",
    "1970": "lambda real: 0.0",
    "before 2038": "lambda real: 2.0**31 - 1",
    "after 2038": "lambda real: 2.0**31 + 1",
    "2100": "lambda real: 4102444800.0",
    "running backwards": "lambda real, jumps=itertools.count(1): 4102444800.0 - 1e7 * next(jumps)",
    "jumping": "lambda real, jumps=itertools.cycle((0.0, 4102444800.0, 2.0**31, 1e9)): next(jumps)",
}

_PROGRAM = """
import itertools, sys, time
from datetime import UTC, datetime
told, real, gmtime = {clock}, time.time, time.gmtime
time.time = lambda: told(real())
time.gmtime = lambda *at: gmtime(*at) if at else gmtime(time.time())
from reconciler.cli import main
main()
"""


class ClockProject(Project):
    """A folder in which every command runs under another clock than the machine's."""

    def __init__(self, folder: Path, server: SandboxServer, clock: str) -> None:
        super().__init__(folder, server)
        self._program = _PROGRAM.format(clock=CLOCKS[clock])

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", self._program, *arguments]


@contextmanager
def served(folder: Path, *faults: str, clock: str = "as it is") -> Iterator[ClockProject]:
    folder.mkdir()
    with sandbox_in(folder, *faults, job_seconds=10_000) as server:
        yield ClockProject(folder, server, clock)


def story(folder: Path, clock: str) -> list[Any]:
    """All that is decided in two applies: runs, a restart, an abort, a delete, lost answers settled by looking."""
    results: list[Any] = []
    with served(folder, "run:503:after:job=doubted:times=1", "abort:reset:times=1", clock=clock) as project:
        assert project.server is not None
        for jobs in (
            "a: {state: running}\nb: {state: running}\nc: {state: running}\ndoubted: {state: running}",
            """
            a: {state: aborted}
            b: {state: absent}
            c: {state: running, config: {jobTimeout: 900}}
            doubted: {state: running, runToken: "2"}
            """,
        ):
            project.write(jobs)
            plan = project.run("plan", "--format", "json")
            run = project.run("apply", "--yes", "--parallelism", "1", "--settle", "0.1", "--format", "json")
            results += [_stable(plan.json), run.code, _stable(run.json), _records(project)]
        results.append(sorted((execution.verb, execution.job_id) for execution in ledger(folder / "server.db")))
    return results


def _stable(document: Any) -> Any:
    """A document without what is made anew each time: ids, the address of the server, and its times."""
    if isinstance(document, dict):
        made = ("requestId", "lineage", "endpoint", "manifestDigest", "recordsDigest", "submittedAt", "commit")
        return {key: _stable(value) for key, value in document.items() if key not in made}
    return [_stable(value) for value in document] if isinstance(document, list) else document


def _records(project: Project) -> Any:
    return _stable(project.state["jobs"])


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    results = story(tmp_path_factory.mktemp("clock") / "as it is", "as it is")
    assert [code for code in results if isinstance(code, int)] == [0, 0]
    assert ("run", "doubted") in results[-1]
    return results


@pytest.mark.parametrize("clock", [clock for clock in CLOCKS if clock != "as it is"])
def test_a_wrong_clock_changes_no_plan_no_outcome_no_record_and_no_call(
    tmp_path: Path, expected: list[Any], clock: str
) -> None:
    assert story(tmp_path / "wrong", clock) == expected


def recovery(folder: Path, clock: str) -> list[Any]:
    """A doubt that is sent under the right clock, and settled by several applies under another."""
    results: list[Any] = []
    with served(folder, "read:403:skip=2:times=4", "run:reset:after:times=1") as project:
        project.write("a: {state: running}")
        assert project.run("apply", "--yes").code == 5
        sent_at = project.state["jobs"]["a"]["inDoubt"]["sentAt"]
        project._program = _PROGRAM.format(clock=CLOCKS[clock])
        assert sent_at in project.run("plan").out
        for _ in range(4):
            run = project.run("apply", "--yes", "--settle", "0.1", "--format", "json")
            results += [run.code, json.dumps(_stable(run.json)).replace(sent_at, "then"), list(_records(project)["a"])]
        assert [(execution.verb, execution.job_id) for execution in ledger(project.folder / "server.db")] == [
            ("run", "a")
        ]
    return results


@pytest.mark.parametrize("clock", ["1970", "2100", "jumping"])
def test_a_doubt_of_another_decade_is_settled_as_one_of_today(tmp_path: Path, clock: str) -> None:
    """The time of sending is shown, and no decision rests on it."""
    expected = recovery(tmp_path / "as it is", "as it is")
    assert expected[0] == 5
    assert expected[-3] == 0
    assert recovery(tmp_path / "wrong", clock) == expected


@pytest.mark.parametrize(
    ("submitted_at", "trace"),
    [
        ("1970-01-01T00:00:00Z", Trace.UNKNOWN),
        ("2026-11-21T09:59:59Z", Trace.UNKNOWN),
        ("2100-01-01T00:00:00Z", Trace.DONE),
    ],
)
def test_a_clock_of_the_service_that_jumps_has_no_run_sent_again(submitted_at: str, trace: Trace) -> None:
    """Back, it looks like a read of an older run: then a person is asked."""
    before = Evidence(Status.COMPLETE, "JOB_STATE_COMPLETE", "2026-11-21T10:00:00Z")
    now = Observation(Status.COMPLETE, "JOB_STATE_COMPLETE", submitted_at=submitted_at)
    assert trace_of(Verb.RUN, before, now) is trace


@pytest.mark.parametrize("now_s", [0.0, 2.0**31, 4102444800.0])
def test_a_pause_that_the_service_asks_for_is_counted_by_its_own_clock(now_s: float) -> None:
    headers = {"retry-after": "Sat, 21 Nov 2026 10:00:05 GMT", "date": "Sat, 21 Nov 2026 10:00:00 GMT"}
    assert retry_after_s(headers, now_s) == 5.0


def test_the_clocks_are_what_they_say(tmp_path: Path) -> None:
    for clock, prefix in (("1970", "1970-01-01"), ("after 2038", "2038-01-19"), ("2100", "2100-01-01")):
        program = _PROGRAM.format(clock=CLOCKS[clock]).replace(
            "from reconciler.cli import main\nmain()", "from reconciler.usecases.world import now\nprint(now())"
        )
        results = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path
        )
        assert results.stdout.startswith(prefix)


def test_a_state_and_a_plan_hold_no_time_but_that_of_a_doubt(tmp_path: Path) -> None:
    with served(tmp_path / "times", clock="2100") as project:
        project.write("a: {state: running}")
        assert project.run("apply", "--yes").code == 0
        assert "2100" not in json.dumps(project.state)
        assert "2100" not in project.run("plan", "--format", "json").out
