"""Applies that lack threads or file descriptors, as real programs, judged by the server's ledger.

    python tests/campaigns/scarce.py                                        every case
    python tests/campaigns/scarce.py --home branch --lack threads --left 3   one case again

The manifest asks for one run of each of forty jobs, 64 at once, and the program has only a few descriptors or threads.
The program must end within a minute, and must not ask the user to report a bug. Exit code 0 means that all jobs were
run, and 1 that nothing was sent. With 3 and 5 the state holds the rest. One more apply without limits brings everything
to rest: each job was run once, and has a record that says so. The state is a file, or lies on a branch of a bare
repository.

A thread needs address space for its stack. With stacks of four gigabytes, a limit on the address space limits the
threads. Unlike the limit on processes, this limit also holds for root.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from git_crash import BRANCH, PATH
from project import Project, sandbox_in
from reconciler.engines.sandbox.life import ledger
from reconciler.engines.sandbox.server import SandboxServer
from reconciler.model.jobs import Verb

JOBS = tuple(f"job-{number:02}" for number in range(40))
DEADLINE_S = 60.0
HOMES = ("file", "branch")
_STACK_BYTES = 4 * 1024**3
_PROGRAM_BYTES = 3 * 1024**3
"""More than the program itself needs, and less than the program and one more stack need."""


class Case(NamedTuple):
    """Where the state is kept, which resource is limited (`descriptors` or `threads`), and the limit.

    The limit of descriptors counts all of them. The limit of threads does not count the main thread.
    """

    home: str
    lack: str
    left: int

    def __str__(self) -> str:
        return f"--home {self.home} --lack {self.lack} --left {self.left}"


CASES = (
    *(Case(home, "descriptors", left) for home in HOMES for left in (*range(5, 40), *range(40, 100, 6))),
    *(Case(home, "threads", left) for home in HOMES for left in (*range(9), 16, 40)),
)


class Verdict(NamedTuple):
    """The result of one case: the exit code, the number of runs that were sent under the limit, and the fault."""

    case: Case
    code: int | None
    sent: int
    fault: str


class Scarce(Project):
    """A folder in which the program can run under a limit."""

    def __init__(self, folder: Path, server: SandboxServer, home: str) -> None:
        super().__init__(folder, server)
        self.limit = Case(home, "", 0)
        self._remote = folder / "the remote.git"
        if home == "branch":
            subprocess.run(["git", "init", "-q", "--bare", str(self._remote)], check=True, timeout=60)

    def command(self, *arguments: str) -> list[str]:
        on_branch = self.limit.home == "branch"
        state = ["--state", f"git+file://{self._remote}#{BRANCH}:{PATH}"] if on_branch else []
        launched = [__file__, "--launch", self.limit.lack, str(self.limit.left)] if self.limit.lack else []
        return [sys.executable, *(launched or ["-m", "reconciler"]), *arguments, *state]


def judge(case: Case) -> Verdict:
    """Play one case."""
    with tempfile.TemporaryDirectory(prefix="scarce-") as name:
        folder = Path(name)
        with sandbox_in(folder, job_seconds=10_000) as server:
            (folder / "project").mkdir()
            project = Scarce(folder / "project", server, case.home)
            project.write("\n".join(f"{job}: {{state: running}}" for job in JOBS))
            project.limit = case
            child = project.start("apply", "--yes", "--parallelism", "64", "--settle", "0.1")
            try:
                out, err = child.communicate(timeout=DEADLINE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.communicate()
                return Verdict(case, None, _runs(folder).total(), f"it does not end within {DEADLINE_S:g} s")
            sent = _runs(folder).total()
            project.limit = Case(case.home, "", 0)
            fault = _fault_of(child.returncode, out + err, sent) or _fault_at_rest(project, folder)
            return Verdict(case, child.returncode, sent, f"{fault}; {err[-500:]}" if fault and err else fault)


def _fault_of(code: int, output: str, sent: int) -> str:
    if "report it" in output or ("Traceback" in output and "reconciler" in output):
        line = next(line for line in output.splitlines() if "report it" in line or "Traceback" in line)
        return f"it asks to be reported: {line.strip()}"
    if code == 0 and sent != len(JOBS):
        return f"it says that all is done, and {sent} of {len(JOBS)} were run"
    if code == 1 and sent:
        return f"it says that nothing was done, and {sent} were run"
    return "" if code in (0, 1, 3, 4, 5) else f"exit {code}"


def _fault_at_rest(project: Scarce, folder: Path) -> str:
    """Apply without limits until no doubt is left, and compare the records with the ledger."""
    for _ in range(3):
        # On a branch, this apply counts as another machine, and waits until the claim of the first apply has expired.
        run = project.run("apply", "--yes", "--settle", "0.1", "--lock-timeout", "90")
        if run.code == 0:
            break
    if run.code != 0:
        return f"applied again it ends in {run.code}: {run.out}{run.err}"
    runs = _runs(folder)
    if runs != dict.fromkeys(JOBS, 1):
        return f"not one run of each: { ({job: runs[job] for job in JOBS if runs[job] != 1}) }"
    listed = project.run("state", "list", "--format", "json").json
    recorded = {job: record.get("state") for job, record in listed["jobs"].items()}
    return "" if recorded == dict.fromkeys(JOBS, "running") else f"the state says {recorded}"


def _runs(folder: Path) -> Counter[str]:
    return Counter(execution.job_id for execution in ledger(folder / "server.db") if execution.verb is Verb.RUN)


def launch(lack: str, left: int, arguments: Sequence[str]) -> None:
    """Turn this process into the program, with this many descriptors or threads."""
    import fork_server
    from reconciler import cli

    if lack == "descriptors":
        resource.setrlimit(resource.RLIMIT_NOFILE, (left, left))
    else:
        fork_server.load_all()
        threading.stack_size(_STACK_BYTES)
        room = _PROGRAM_BYTES + left * _STACK_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
    sys.argv = ["reconciler", *arguments]
    cli.main()


def verdicts(cases: Sequence[Case]) -> Iterator[Verdict]:
    """Judge each case."""
    return map(judge, cases)


def main() -> int:
    if sys.argv[1:2] == ["--launch"]:
        launch(sys.argv[2], int(sys.argv[3]), sys.argv[4:])
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--home", choices=HOMES)
    parser.add_argument("--lack", choices=("descriptors", "threads"))
    parser.add_argument("--left", type=int, metavar="N")
    given = parser.parse_args()
    wanted = (given.home, given.lack, given.left)
    cases = [case for case in CASES if all(want in (None, has) for want, has in zip(wanted, case, strict=True))]
    if None not in wanted:
        cases = [Case(*wanted)]
    started_s = time.monotonic()
    wrong = 0
    for verdict in verdicts(cases):
        print(f"{verdict.case}: exit {verdict.code}, {verdict.sent} sent", flush=True)
        if verdict.fault:
            wrong += 1
            print(f"  FAULT {verdict.fault}", flush=True)
    print(f"{len(cases)} applies that lacked something: {wrong} faults; {time.monotonic() - started_s:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
