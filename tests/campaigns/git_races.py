"""Machines that share a state on a branch of a bare repository, as real programs, judged by the server's ledger.

    python tests/campaigns/git_races.py --all [--seed S]
    python tests/campaigns/git_races.py --rounds 5 --kills 20

In each round the manifest asks for one more run of each job, and two or eight machines start at the same moment. The
machines share only the remote. Each job must be run once. One apply does the work, and every other apply is refused (4)
or finds nothing to do (0). In a round with kills, some machines are killed before, during or after one of their git
commands, chosen at random. Machines that come later must then bring everything to rest.

On each machine a script stands before git on the PATH, and plays the tricks in `TRICK`.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from git_crash import BRANCH, PATH, files_of, open_intents
from project import Project, Run, sandbox_in
from reconciler.engines.sandbox.life import calls, ledger
from reconciler.engines.sandbox.server import SandboxServer
from reconciler.model.jobs import Verb
from waits import until

JOBS = ("a", "b", "c")
SEND_WITHIN_S = 3.0
WAITS = {
    "TAKE_OVER_AFTER_S": 6.0,
    "SEND_WITHIN_S": SEND_WITHIN_S,
    "RENEW_AFTER_S": 1.0,
    "POLL_S": 0.1,
    "TRY_AGAIN_AFTER_S": [0.1],
}
"""The waits of a shared state, all shortened in proportion."""

_PROGRAM = Path(__file__).with_name("hurried.py")

TRICK = """\
#!/bin/sh
# Breaks the N-th of the git commands that contain a given word.
[ "$GIT_TRICK_MODE" = none ] && exec "$REAL_GIT" "$@"
case " $* " in *" ${GIT_TRICK_COMMAND} "*) it=1 ;; *) it= ;; esac
[ "$GIT_TRICK_COMMAND" = any ] && it=1
if [ -n "$it" ]; then
    echo x >>"$GIT_TRICK_COUNT"
    number=$(wc -l <"$GIT_TRICK_COUNT")
    if [ "$GIT_TRICK_NUMBER" = all ] || [ "$number" -eq "$GIT_TRICK_NUMBER" ]; then
        case $GIT_TRICK_MODE in
        before) kill -KILL $PPID; exit 1 ;;
        during) "$REAL_GIT" "$@" & kill -KILL $PPID; wait; exit 1 ;;
        after) "$REAL_GIT" "$@"; code=$?; kill -KILL $PPID; exit $code ;;
        stop) "$REAL_GIT" "$@"; code=$?; kill -STOP $PPID; exit $code ;;
        lie) "$REAL_GIT" "$@" >/dev/null 2>&1; echo 'fatal: the remote end hung up unexpectedly' >&2; exit 128 ;;
        drop) echo 'fatal: the remote end hung up unexpectedly' >&2; exit 128 ;;
        hang) exec sleep 1000 ;;
        esac
    fi
fi
exec "$REAL_GIT" "$@"
"""


class Machine(Project):
    """A machine with a manifest that shares only the remote with other machines."""

    def __init__(self, folder: Path, server: SandboxServer, state_url: str, **waits: object) -> None:
        folder.mkdir()
        super().__init__(folder, server)
        self.state_url = state_url
        self.waits = {**WAITS, **waits}
        self.env["USER"] = folder.name
        tools = folder / ".tools"
        tools.mkdir()
        (tools / "git").write_text(TRICK)
        (tools / "git").chmod(0o755)
        real = subprocess.run(["sh", "-c", "command -v git"], capture_output=True, text=True, check=True, timeout=60)
        self.env |= {"PATH": f"{tools}:{os.environ['PATH']}", "REAL_GIT": real.stdout.strip()}
        self.trick("none", "any", "0")

    def trick(self, mode: str, command: str, number: int | str) -> None:
        """Set what happens to one of the git commands that follow."""
        count = self.folder / ".tools" / "count"
        count.write_text("")
        values = {"MODE": mode, "COMMAND": command, "NUMBER": str(number), "COUNT": str(count)}
        self.env |= {f"GIT_TRICK_{name}": value for name, value in values.items()}

    def command(self, *arguments: str) -> list[str]:
        state = ["--state", self.state_url] if "--state" not in arguments else []
        return [sys.executable, str(_PROGRAM), json.dumps(self.waits), *arguments, *state]


def applied(machine: Machine, jobs: str, *arguments: str) -> Run:
    """Apply a manifest of these jobs."""
    machine.write(jobs)
    return machine.run("apply", "--yes", "--settle", "0.1", *arguments)


def hook(remote: Path, name: str, body: str) -> None:
    """Install a script as a hook of a remote."""
    path = remote / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


class Round(NamedTuple):
    """The result of one round: how many applies did the work, were refused, had nothing to do, or were killed."""

    worked: int
    refused: int
    idle: int
    killed: int


class Team:
    """A server, a bare repository, and machines that each live for a while."""

    def __init__(self, folder: Path, server: SandboxServer) -> None:
        self.folder = folder
        self.server = server
        self.remote = folder / "the remote.git"
        self._machines = 0
        subprocess.run(["git", "init", "-q", "--bare", str(self.remote)], check=True, timeout=60)

    def machine(self, state_url: str = "", **waits: object) -> Machine:
        """Return a new machine."""
        self._machines += 1
        url = state_url or f"git+file://{self.remote}#{BRANCH}:{PATH}"
        return Machine(self.folder / f"machine-{self._machines}", self.server, url, **waits)

    def runs(self) -> Counter[str]:
        """Return how many times each job was run, by the ledger."""
        return Counter(job for verb, job in self.executions() if verb == Verb.RUN)

    def executions(self) -> list[tuple[str, str]]:
        """Return (verb, job) of each execution, by the ledger."""
        return [(execution.verb, execution.job_id) for execution in ledger(self.folder / "server.db")]

    def received(self) -> int:
        """Return how many calls that change a job the server received."""
        return sum(call.method != "GET" for call in calls(self.folder / "server.db"))

    @property
    def files(self) -> Mapping[str, bytes]:
        """The files beside the state on the branch."""
        return files_of(self.remote)

    @property
    def intents(self) -> set[tuple[str, str]]:
        """(job, verb) of each intent on the branch without a result."""
        return open_intents(self.remote)

    def rest(self, jobs: str) -> None:
        """Apply from new machines until nothing is left to do."""
        for _ in range(6):
            machine = self.machine(TAKE_OVER_AFTER_S=0.3)
            machine.write(jobs)
            run = machine.run("apply", "--yes", "--settle", "0.1")
            assert run.code in (0, 3, 4, 5), (run.code, run.out, run.err)
            if run.code == 0:
                assert set(self.files) == {"jobs.state.json", "jobs.history.jsonl"}, set(self.files)
                plan = machine.run("plan", "--detailed-exitcode")
                assert plan.code == 0, plan.out
                return
        raise AssertionError(f"it does not come to rest: {run.out}{run.err}")


@contextmanager
def team(folder: Path, job_seconds: float = 0.0, latency_s: float = 0.02, faults: Sequence[str] = ()) -> Iterator[Team]:
    """Yield a team with a server so slow that the applies overlap; each run call that it receives is a run."""
    with sandbox_in(folder, *faults, job_seconds=job_seconds, latency_s=latency_s) as served:
        yield Team(folder, served)


WAIT_S = 60.0


def stopped(machine: Machine, at: str, jobs: str, *command: str) -> "subprocess.Popen[str]":
    """Start a command (`apply` by default) and stop it after its first git command of this name."""
    machine.trick("stop", at, 1)
    machine.write(jobs)
    child = machine.start(*(command or ("apply", "--yes")))
    status = Path(f"/proc/{child.pid}/stat")
    until(lambda: status.read_text().rpartition(") ")[2].startswith(("T", "t")), "it was never stopped")
    return child


def resumed(child: "subprocess.Popen[str]") -> Run:
    """Continue a stopped command and wait for its end."""
    child.send_signal(signal.SIGCONT)
    out, err = child.communicate(timeout=WAIT_S)
    return Run(child.returncode, out, err)


def one_round(team: Team, number: int, hands: int, tricks: Sequence[tuple[str, str, int]] = ()) -> Round:
    """Ask for one more run of each job with many machines. Raises `AssertionError` if a promise is broken.

    The first machines get one of the `tricks` each.
    """
    jobs = "\n".join(f'{job}: {{state: running, runToken: "{number}"}}' for job in JOBS)
    before = team.runs()
    children = []
    for hand in range(hands):
        machine = team.machine()
        machine.write(jobs)
        if hand < len(tricks):
            machine.trick(*tricks[hand])
        waiting = ["--lock-timeout", "60"] if hand % 4 == 3 else []
        children.append(machine.start("apply", "--yes", "--settle", "0.1", *waiting))
    found: Counter[str] = Counter()
    for child in children:
        out, err = child.communicate(timeout=240)
        assert "Traceback" not in err, err
        if child.returncode == -9:
            found["killed"] += 1
        elif child.returncode == 4:
            why = ("the state is locked", "someone else changed", "run since this was recorded")
            assert any(words in err + out for words in why), (out, err)
            found["refused"] += 1
        elif child.returncode in (3, 5) and tricks:  # another machine took over, or a killed machine left a doubt
            found["worked"] += 1
        else:
            assert child.returncode == 0, (child.returncode, out, err)
            found["idle" if "Nothing to do" in out else "worked"] += 1
    if not tricks:
        assert found["worked"] == 1, found
    team.rest(jobs)
    runs = team.runs()
    runs.subtract(before)
    assert runs == dict.fromkeys(JOBS, 1), runs
    return Round(found["worked"], found["refused"], found["idle"], found["killed"])


def rounds(
    folder: Path, count: int, hands: int, tell: Callable[[int, Round], None], chance: random.Random | None = None
) -> None:
    """Play many rounds on one remote and one server; with `chance`, half of the machines are killed."""
    with team(folder) as made:
        for number in range(1, count + 1):
            tricks = []
            if chance is not None:
                tricks = [
                    (chance.choice(("before", "during", "after")), *chance.choice(_MOMENTS)) for _ in range(hands // 2)
                ]
            tell(number, one_round(made, number, hands, tricks))


def suspended_round(team: Team, number: int, chance: random.Random) -> Round:
    """Suspend a machine while it waits for an answer; resume the machine after another one has taken over and ended.

    The monotonic clock of the suspended machine stands still. Raises `AssertionError` if a promise is broken.
    """
    jobs = "\n".join(f'{job}: {{state: running, runToken: "{number}"}}' for job in JOBS)
    before, received = team.runs(), team.received()
    sleeper = team.machine(suspends=True)
    sleeper.write(jobs)
    child = sleeper.start("apply", "--yes", "--settle", "0.1", "--parallelism", str(chance.choice((1, 1, 2))))
    calls_until = received + chance.randint(1, len(JOBS) - 1)
    until_s = time.monotonic() + 60
    while team.received() < calls_until and child.poll() is None:
        assert time.monotonic() < until_s, "it sends nothing"
        time.sleep(0.01)
    child.send_signal(signal.SIGSTOP)
    other = team.machine(TAKE_OVER_AFTER_S=2 * SEND_WITHIN_S)
    taken_over = applied(other, jobs)
    child.send_signal(signal.SIGCONT)
    out, err = child.communicate(timeout=240)
    assert "Traceback" not in err, err
    assert child.returncode in (0, 3, 4, 5), (child.returncode, out, err)
    assert taken_over.code in (0, 3, 4, 5), taken_over
    team.rest(jobs)
    runs = team.runs()
    runs.subtract(before)
    assert runs == dict.fromkeys(JOBS, 1), (runs, out, err, taken_over)
    return Round(int(taken_over.code == 0), int(child.returncode != 0), int(child.returncode == 0), 0)


def suspended_rounds(
    folder: Path, count: int, tell: Callable[[int, Round], None], chance: random.Random, job_seconds: float = 0.0
) -> None:
    """Play many such rounds on one remote, with a server that answers slowly."""
    with team(folder, job_seconds=job_seconds, faults=("run:slow:seconds=1",)) as made:
        for number in range(1, count + 1):
            tell(number, suspended_round(made, number, chance))


_MOMENTS = (*(("any", number) for number in range(1, 45)), *(("push", number) for number in (1, 1, 1, 2, 2, 3)))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="rounds without kills, for two and for eight"
    )
    parser.add_argument("--kills", type=int, default=20, metavar="N", help="rounds with kills, for two and for eight")
    parser.add_argument("--suspended", type=int, default=5, metavar="N", help="rounds with a suspended machine")
    parser.add_argument("--all", action="store_true", help="50 rounds, 200 with kills, for two and eight; 50 suspended")
    parser.add_argument("--seed", type=int, default=None, metavar="S")
    given = parser.parse_args()
    seed = random.randrange(10**6) if given.seed is None else given.seed
    counts = (50, 200) if given.all else (given.rounds, given.kills)
    print(f"--seed {seed}", flush=True)
    for hands in (2, 8):
        for count, chance in zip(counts, (None, random.Random(f"{seed}/{hands}")), strict=True):
            sums: Counter[str] = Counter()
            started_s = time.monotonic()

            def tell(_: int, found: Round, sums: Counter[str] = sums) -> None:
                sums.update(found._asdict())

            with tempfile.TemporaryDirectory() as folder:
                rounds(Path(folder), count, hands, tell, chance)
            words = ", ".join(f"{number} {kind}" for kind, number in sums.items())
            print(f"{count} rounds of {hands} machines: {words}; no run twice, none lost; "
                  f"{time.monotonic() - started_s:.0f} s", flush=True)  # fmt: skip
    overtaken, started_s = 0, time.monotonic()

    def tell_suspended(_: int, found: Round) -> None:
        nonlocal overtaken
        overtaken += found.refused

    with tempfile.TemporaryDirectory() as folder:
        count = 50 if given.all else given.suspended
        suspended_rounds(Path(folder), count, tell_suspended, random.Random(f"{seed}/suspended"))
    print(f"{count} machines that were suspended: {overtaken} found that they were overtaken; no run twice, none "
          f"lost; {time.monotonic() - started_s:.0f} s", flush=True)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
