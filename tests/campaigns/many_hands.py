"""Many applies at once on one folder, as real programs, judged by the server's ledger.

    python tests/campaigns/many_hands.py --rounds 50

In each round the manifest asks for one more run of each job, and all applies start at the same moment. Each job must be
run once. One apply does the work, and every other apply finds the lock taken (4) or nothing left to do (0).
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn

from project import Project, sandbox_in
from reconciler.engines.sandbox.life import ledger
from reconciler.engines.sandbox.server import SandboxServer
from reconciler.model.jobs import Verb

HANDS = 8
JOBS = ("a", "b", "c")


class Round(NamedTuple):
    """The result of one round: how many applies did the work, found the lock taken, or had nothing to do."""

    worked: int
    locked: int
    idle: int


def served(folder: Path) -> SandboxServer:
    """Yield a server so slow that the applies overlap."""
    return sandbox_in(folder, job_seconds=10_000, latency_s=0.02)


def one_round(project: Project, number: int) -> Round:
    """Ask for one more run of each job with many applies at once. Raises `AssertionError` if a promise is broken."""
    project.write("\n".join(f'{job}: {{state: running, runToken: "{number}"}}' for job in JOBS))
    before = _runs(project)
    waiting = ["--lock-timeout", "60"]
    children = [project.start("apply", "--yes", *(waiting if hand % 4 == 3 else [])) for hand in range(HANDS)]
    found: Counter[str] = Counter()
    for child in children:
        out, err = child.communicate(timeout=120)
        assert "Traceback" not in err, err
        if child.returncode == 4:
            assert "the state is locked" in err, err
            found["locked"] += 1
        else:
            assert child.returncode == 0, (child.returncode, out, err)
            found["idle" if "Nothing to do" in out else "worked"] += 1
    runs = _runs(project)
    runs.subtract(before)
    assert found["worked"] == 1, found
    assert runs == dict.fromkeys(JOBS, 1), runs
    assert sorted(project.state["jobs"]) == list(JOBS)
    assert all(str(number) in record["runTokens"] for record in project.state["jobs"].values())
    left = sorted(path.name for path in project.folder.iterdir() if ".db" not in path.name)
    assert [name for name in left if name.startswith("jobs.state.json")] == ["jobs.state.json"], left
    return Round(found["worked"], found["locked"], found["idle"])


def rounds(folder: Path, count: int, tell: Callable[[int, Round], None]) -> None:
    """Play many rounds on one folder and one server."""
    with served(folder) as server:
        project = Project(folder, server)
        for number in range(1, count + 1):
            tell(number, one_round(project, number))


def _runs(project: Project) -> Counter[str]:
    executions = ledger(project.folder / "server.db")
    return Counter(execution.job_id for execution in executions if execution.verb is Verb.RUN)


def main() -> NoReturn:
    """Parse the command line and play the rounds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    sums: Counter[str] = Counter()
    started_s = time.monotonic()

    def tell(number: int, found: Round) -> None:
        sums.update(found._asdict())

    with tempfile.TemporaryDirectory() as folder:
        rounds(Path(folder), options.rounds, tell)
    words = ", ".join(f"{count} {kind}" for kind, count in sums.items())
    print(f"{options.rounds} rounds of {HANDS} applies at once: {words}; no run twice, none lost")
    print(f"in {time.monotonic() - started_s:.0f} s")
    sys.exit(0)


if __name__ == "__main__":
    main()
