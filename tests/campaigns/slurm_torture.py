"""Breaks what starts jobs on a real Slurm controller, in eight ways, and counts what was released and executed.

    python tests/campaigns/slurm_torture.py --rounds 150 --seed 1

The controller keeps each job of the campaign, and each job notes its start in a file. So neither count comes from the
engine or from the state. Whatever is broken, one job of each run was released, and it was executed once. A run that was
asked for and not executed is one that the last command has named, with exit code 4.

    killed     an apply is killed with SIGKILL at a random moment; then applies follow until nothing is left to do
    commands   the commands that submit, release and cancel are killed in the middle of it; then as above
    lost       requests to the controller or its answers are lost; then as above
    late       a submission arrives after its sender has given up; then as above
    applies    eight applies of one manifest with copies of one state, at the same moment
    engines    eight engines send one run at the same moment: one call, calls for the same, or for different configs
    older      the state is an older copy, on a machine that has neither its marks nor its history
    gone       the state is lost, after an apply that has ended or was killed; an apply holds what is there, or
               `state rebuild` comes first
"""

import argparse
import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from slurm.cluster import Accounting, Cluster, missing
from slurm.wrappers import wrapped

import fork_server
from project import Project, Run
from reconciler.engines.port import AnswerClass, Engine, Marks, Reason, Step, Surroundings, Verb
from reconciler.engines.slurm.plugin import PLUGIN
from slurm_record import Record

KINDS = ("killed", "commands", "lost", "late", "applies", "engines", "older", "gone")
SENDERS = 8
JOBS = 4
"""The jobs of a round whose apply is broken."""
ROUNDS_OF_A_CLUSTER = 60
"""Each command reads all jobs of the controller. So the rounds move on to an empty one."""
_MOST_APPLIES = 12


class Found(NamedTuple):
    """What came of one round: the kind, how far it was when it was broken, and how it was settled."""

    kind: str
    moment: str
    end: str


class Folder(Project):
    """A user's folder, whose jobs are jobs of a cluster."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        folder.mkdir()
        super().__init__(folder)
        self.env = {**self.env, **cluster.env}
        self._conf = cluster.conf

    @property
    def target(self) -> str:
        return f"{{engine: slurm, conf: {self._conf}}}"

    @property
    def state_file(self) -> Path:
        return self.folder / "jobs.state.json"

    def killed_apply(self, after_s: float) -> bool:
        """Kill an apply after so many seconds. Returns False if it had ended before."""
        try:
            fork_server.run(self.command("apply", "--yes"), self.folder, self.env, "", timeout_s=after_s)
        except subprocess.TimeoutExpired:
            return True
        except ProcessLookupError:  # it ended at that very moment
            return False
        return False

    def settled(self, *codes: int) -> str:
        """Apply until nothing is left to do, and return the exit codes on the way there in one text.

        With `codes`, one of them may come at last instead: what the last apply says is then the end.
        """
        seen: list[int] = []
        for _ in range(_MOST_APPLIES):
            run = self.run("apply", "--yes")
            if run.code == 0 and run.out.startswith("Nothing to do"):
                return " ".join(map(str, [*seen, "settled"]))
            seen.append(run.code)
            if run.code in codes and "locked" not in run.err:
                return " ".join(map(str, seen))
            assert run.code in (0, 3, 4, 5), run
        raise AssertionError(f"still not settled: {run}")


class Torture:
    """The rounds of one kind, each cluster of its own."""

    def __init__(self, folder: Path, seed: str, accounting: Accounting | None) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self._accounting = accounting
        self._apply_s = 0.5
        """How long an apply took that nobody has killed."""
        self._rounds = 0
        self._stack = ExitStack()
        self._cluster: Cluster | None = None
        self._record: Record | None = None

    def close(self) -> None:
        self._stack.close()

    def one_round(self, kind: str, number: int) -> Found:
        """Carry out one round. Raises `AssertionError` if a promise is broken."""
        if self._rounds % ROUNDS_OF_A_CLUSTER == 0:
            self._stack.close()
            name = f"torture{secrets.token_hex(4)}"
            self._cluster = self._stack.enter_context(Cluster(name, accounting=self._accounting, min_job_age_s=36_000))
            self._record = Record(self._cluster, self._folder)
        self._rounds += 1
        rounds: Mapping[str, Callable[[str], tuple[Sequence[str], str, str]]] = {
            "killed": self._killed,
            "commands": lambda name: self._wrapped(name, "killed"),
            "lost": lambda name: self._wrapped(name, self._random.choice(("unsent", "lost"))),
            "late": lambda name: self._wrapped(name, "late"),
            "applies": self._applies,
            "engines": self._engines,
            "older": self._older,
            "gone": self._gone,
        }
        runs, moment, end = rounds[kind](f"{kind}-{number}")
        self.record.judge(runs)
        return Found(kind, moment, end)

    @property
    def cluster(self) -> Cluster:
        assert self._cluster is not None
        return self._cluster

    @property
    def record(self) -> Record:
        assert self._record is not None
        return self._record

    def _killed(self, name: str) -> tuple[Sequence[str], str, str]:
        project, jobs = self._project(name), _names(name)
        project.write(self._lines(jobs))
        moment = self._kill(project, jobs)
        return _first(jobs), moment, project.settled()

    def _wrapped(self, name: str, word: str) -> tuple[Sequence[str], str, str]:
        """Apply with commands that fail, and then with those that do not. What is late arrives in between, or after."""
        project, jobs = self._project(name), _names(name)
        project.write(self._lines(jobs))
        path = wrapped(project.folder / "wrapped", word, self._random.choice((0.2, 0.5, 1.0)))
        code = project.run("apply", "--yes", PATH=path).code
        assert code in (0, 1, 3, 4, 5), code
        if self._random.random() < 0.5:
            self.record.wait_for_commands()
        end = project.settled()
        self.record.wait_for_commands()
        return _first(jobs), word, f"{code} {end}"

    def _applies(self, name: str) -> tuple[Sequence[str], str, str]:
        """All senders have copies of one state, so they are one owner; some have a state of a run before."""
        first, jobs = self._project(name), _names(name)[:1]
        is_second = self._random.random() < 0.5
        first.write(self._lines(jobs if is_second else [f"{name}-other"]))
        first.settled()
        self.record.wait_for_idle()  # a run that is still active would be aborted for the next one
        folders = [first, *(self._project(f"{name}-{number}") for number in range(1, SENDERS))]
        for folder in folders[1:]:
            shutil.copy(first.state_file, folder.state_file)
        for folder in folders:
            folder.write(self._lines(jobs, token="2"))
        codes = Counter(run.code for run in _at_once([_applying(folder) for folder in folders]))
        assert set(codes) <= {0, 3, 4, 5}, codes
        ends = {folder.settled() for folder in folders}
        runs = [f"{jobs[0]}-1", f"{jobs[0]}-2"] if is_second else [f"{jobs[0]}-1", f"{name}-other-1"]
        return runs, "second run" if is_second else "first run", ", ".join(sorted(ends))

    def _engines(self, name: str) -> tuple[Sequence[str], str, str]:
        config = {"script": self.record.script}
        differ = self._random.choice(("nothing", "op", "config", "lineage"))

        def marks(number: int) -> Marks:
            own = {"op": "op-0", "config_digest": "config-0", "lineage": name}
            number = 0 if differ == "nothing" else number
            own["op"] = f"op-{number}"
            if differ in ("config", "lineage"):
                own[{"config": "config_digest"}.get(differ, differ)] = f"{name}-{number}"
            return Marks(**own)

        with ExitStack() as stack:
            engines = [stack.enter_context(self._engine()) for _ in range(SENDERS)]
            sends = [
                _sending(engine, Step(Verb.RUN, name, f"{name}-1", config, marks=marks(number)))
                for number, engine in enumerate(engines)
            ]
            results = _at_once(sends)
        assert {result.kind for result in results} <= {AnswerClass.APPLIED, AnswerClass.REJECTED}, results
        applied = sum(result.kind is AnswerClass.APPLIED for result in results)
        # Of one call, each sender may say that it was carried out; of different ones, only one was.
        assert applied >= 1 if differ == "nothing" else applied <= 1, results
        refused = {result.reason for result in results if result.kind is AnswerClass.REJECTED}
        reason = {"config": Reason.OTHER_OP, "lineage": Reason.OTHER_OWNER}.get(differ, Reason.WAS_THERE)
        assert refused <= {reason}, results
        return [f"{name}-1"], f"other {differ}" if differ != "nothing" else "one call", str(reason)

    def _older(self, name: str) -> tuple[Sequence[str], str, str]:
        project, jobs = self._project(name), _names(name)[:2]
        project.write(self._lines(jobs))
        project.settled()
        self.record.wait_for_idle()
        older = project.state_file.read_bytes()
        project.write(self._lines(jobs, token="2"))
        is_killed = self._random.random() < 0.5
        if is_killed:
            self._kill(project, jobs)
        else:
            project.settled()
        elsewhere = self._project(f"{name}-elsewhere")
        elsewhere.state_file.write_bytes(older)
        token = self._random.choice(("1", "2", "3"))
        elsewhere.write(self._lines(jobs, token=token))
        end = elsewhere.settled(4)
        # What the older state asks for runs unless the controller has a second run already.
        there = self.record.released()
        second = [f"{job}-2" for job in jobs if token != "1" or f"{job}-2" in there]
        moment = "killed" if is_killed else "ended"
        return [*_first(jobs), *second], f"{moment}, asks for run {token}", end

    def _gone(self, name: str) -> tuple[Sequence[str], str, str]:
        project, jobs = self._project(name), _names(name)
        project.write(self._lines(jobs))
        moment = "ended"
        if self._random.random() < 0.6:
            moment = self._kill(project, jobs)
        else:
            project.settled()
        self.record.wait_for_idle()
        there = self.record.released()
        elsewhere = self._project(f"{name}-elsewhere")
        elsewhere.write(self._lines(jobs))
        if self._random.random() < 0.5:
            run = elsewhere.run("state", "rebuild", "--yes")
            assert run.code == 0 or not any(f"{job}-1" in there for job in jobs), run
            return _first(jobs), moment, f"rebuilt, {elsewhere.settled()}"
        end = elsewhere.settled(4)
        last = elsewhere.run("apply", "--yes")
        for job in jobs:
            if f"{job}-1" in there:
                assert f"{job} " in last.out, last
                assert "another owner's" in last.out, last
        assert (last.code == 4) == any(f"{job}-1" in there for job in jobs), last
        return _first(jobs), moment, end

    def _kill(self, project: Folder, jobs: Sequence[str]) -> str:
        """Kill an apply at a random moment, and return how far it was once the commands of it have ended."""
        before = self.record.released().total()
        began_s = time.monotonic()
        was_killed = project.killed_apply(self._random.uniform(0, self._apply_s * 1.2))
        if not was_killed:
            self._apply_s = time.monotonic() - began_s
        self.record.wait_for_commands()
        made = self.record.released().total() - before
        if was_killed and not made:  # the machine may have become slower
            self._apply_s = min(10.0, self._apply_s * 1.1)
        if not was_killed:
            return "had ended"
        if not made:
            return "some held" if self.record.left() else "nothing there"
        return "all released" if made == len(jobs) else "some released"

    def _lines(self, jobs: Sequence[str], token: str = "1") -> str:
        script = self.record.script.replace("'", "''")
        return "\n".join(
            f"{job}: {{state: running, runToken: '{token}', config: {{script: '{script}'}}}}" for job in jobs
        )

    def _project(self, name: str) -> Folder:
        return Folder(self._folder / name, self.cluster)

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        target = PLUGIN.target({"conf": str(self.cluster.conf)}, str(self._folder))
        around = Surroundings(
            self.cluster.env, _pause, lambda text: None, time.monotonic, time.time, 1, None, os.devnull
        )
        with PLUGIN.open(target, around) as engine:
            yield engine


def _names(name: str) -> list[str]:
    return [f"{name}-{letter}" for letter in "abcdefgh"[:JOBS]]


def _first(jobs: Sequence[str]) -> list[str]:
    return [f"{job}-1" for job in jobs]


def _applying(folder: Folder) -> Callable[[], Run]:
    return lambda: folder.run("apply", "--yes")


def _sending(engine: Engine, step: Step) -> Callable[[], Any]:
    return lambda: engine.send(step._replace(staged=engine.stage(step)))


def _at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Make all calls at the same moment, and return what they return."""
    together = threading.Barrier(len(calls))

    def made(call: Callable[[], Any]) -> Any:
        together.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(made, calls))


def _pause(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def torture(folder: Path, kind: str, rounds: int, seed: str, accounting: Accounting | None = None) -> Counter[Found]:
    """Carry out so many rounds of a kind, and return how often each end was found."""
    found: Counter[Found] = Counter()
    own = folder / kind
    own.mkdir()
    torment = Torture(own, f"{seed}-{kind}", accounting)
    try:
        for number in range(rounds):
            found[torment.one_round(kind, number)] += 1
            if number % 25 == 24:
                print(f"{kind}: {number + 1} rounds", file=sys.stderr, flush=True)
    finally:
        torment.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--accounting", action="store_true", help="with accounting")
    given = parser.parse_args()
    if reason := missing():
        print(f"skipped: {reason}")
        return 1
    began_s = time.monotonic()
    found: Counter[Found] = Counter()
    faults: list[str] = []
    with ExitStack() as stack:
        accounting = stack.enter_context(Accounting()) if given.accounting else None
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        for kind in given.kinds:
            try:
                found += torture(Path(folder), kind, given.rounds, str(given.seed), accounting)
            except (AssertionError, OSError, subprocess.SubprocessError):
                faults.append(f"{kind}:\n{traceback.format_exc()}")
    for (kind, moment, end), count in sorted(found.items()):
        print(f"{kind:8} {moment:26} {end:40} {count}")
    for kind in given.kinds:
        print(f"{kind:8} {sum(count for each, count in found.items() if each.kind == kind)} rounds")
    print("".join(faults), end="")
    verdict = f"{len(faults)} kinds broke a promise" if faults else "no run twice, none lost without a word"
    print(f"in {time.monotonic() - began_s:.0f} s, seed {given.seed}; {verdict}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
