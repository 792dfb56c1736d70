"""The frame of the campaigns that break what starts runs on a real engine: folders, rounds and the verdict.

A campaign has kinds of rounds. Each round breaks something once. The record of the engine then compares what was
executed with what was asked for, and neither comes from the engine's plugin or from the state.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import fork_server
from project import Project, Run
from reconciler.engines.port import AnswerClass, Config, Engine, Marks, Reason, Step, Verb
from reconciler.model.jobs import EMPTY

SENDERS = 8
_MOST_APPLIES = 12
_SLOWER, _SLOWEST_S = 1.1, 10.0

Round = tuple[Sequence[str], str, str]
"""What came of a round: the runs that were asked for, how far it was when it was broken, and how it was settled."""


class Found(NamedTuple):
    """A round in the tally: its kind, how far it was when it was broken, and how it was settled."""

    kind: str
    moment: str
    end: str


class Settled(NamedTuple):
    """How applies ended that followed each other: their exit codes in one text, and the last one."""

    codes: str
    last: Run


class Folder(Project):
    """A user's folder, with a target and with variables of its own."""

    def __init__(self, folder: Path, target: Mapping[str, Any], env: Mapping[str, str] = EMPTY) -> None:
        folder.mkdir()
        super().__init__(folder)
        self.env |= env
        self._target = json.dumps(target)

    @property
    def target(self) -> str:
        return self._target

    @property
    def state_file(self) -> Path:
        return self.folder / "jobs.state.json"

    def apply(self, **env: str) -> Run:
        return self.run("apply", "--yes", **env)

    def killed_apply(self, after_s: float) -> bool:
        """Kill an apply after so many seconds. Returns False if it had ended before."""
        try:
            fork_server.run(self.command("apply", "--yes"), self.folder, self.env, "", timeout_s=after_s)
        except subprocess.TimeoutExpired:
            return True
        except ProcessLookupError:  # it ended at that very moment
            return False
        return False

    def settle(self, *codes: int) -> Settled:
        """Apply until nothing is left to do. With `codes`, one of these exit codes may come at last instead."""
        seen: list[int] = []
        for _ in range(_MOST_APPLIES):
            run = self.apply()
            if run.code == 0 and "Nothing to do" in run.out:  # after the plan, if something else has run a job
                return Settled(" ".join(map(str, [*seen, "settled"])), run)
            seen.append(run.code)
            if run.code in codes and "locked" not in run.err:
                return Settled(" ".join(map(str, seen)), run)
            assert run.code in (0, 3, 4, 5), run
        raise AssertionError(f"still not settled: {run}")


class Torture(ABC):
    """The rounds of one kind on an engine."""

    jobs = 4
    """The jobs of a round whose apply is broken."""
    answers_once = True
    """Whether one of several senders alone is told that it has started the run."""

    def __init__(self, folder: Path, seed: str, apply_s: float) -> None:
        """`apply_s` is about how long an apply takes that nobody kills."""
        self.folder = folder
        self.random = random.Random(seed)
        self.apply_s = apply_s
        self.stack = ExitStack()
        """What the rounds have started, and what ends with the last one."""

    @abstractmethod
    def rounds(self) -> Mapping[str, Callable[[str], Round]]:
        """Return the kinds of rounds. Each is given a name that no other round has."""

    @abstractmethod
    def project(self, name: str) -> Folder:
        """Return a new folder of a user."""

    @abstractmethod
    def config(self, job: str) -> Config:
        """Return the config of a job, which notes its start."""

    @abstractmethod
    def engine(self) -> AbstractContextManager[Engine]:
        """Return an engine with connections of its own."""

    @abstractmethod
    def there(self, jobs: Sequence[str]) -> Collection[str]:
        """Return the ids of the runs of these jobs that the service has taken."""

    @abstractmethod
    def wait_for_idle(self) -> None:
        """Wait until no run executes. A run that still does would be aborted for the next one."""

    @abstractmethod
    def judge(self, runs: Sequence[str]) -> None:
        """Compare with what was asked for: each of these runs once, and no other run of their jobs.

        Raises `AssertionError`.
        """

    def one_round(self, kind: str, number: int) -> Found:
        """Carry out one round. Raises `AssertionError` if a promise is broken."""
        runs, moment, end = self.rounds()[kind](f"{kind}-{number}")
        self.judge(runs)
        return Found(kind, moment, end)

    # --- rounds ------------------------------------------------------------------------------------------------------

    def killed(self, name: str) -> Round:
        """Kill an apply at a random moment."""
        project, jobs = self.begun(name)
        moment = self.kill(project, jobs)
        return first(jobs), moment, project.settle().codes

    def applies(self, name: str) -> Round:
        """All senders have copies of one state, so they are one owner; some have a state of a run before."""
        project, jobs = self.project(name), self.names(name)[:1]
        is_second = self.random.random() < 0.5
        project.write(self.lines(jobs if is_second else [f"{name}-other"]))
        project.settle()
        self.wait_for_idle()
        folders = [project, *(self.project(f"{name}-{number}") for number in range(1, SENDERS))]
        for folder in folders[1:]:
            shutil.copy(project.state_file, folder.state_file)
        for folder in folders:
            folder.write(self.lines(jobs, token="2"))
        codes = Counter(run.code for run in at_once([folder.apply for folder in folders]))
        assert set(codes) <= {0, 3, 4, 5}, codes
        ends = {folder.settle().codes for folder in folders}
        runs = [f"{jobs[0]}-1", f"{jobs[0]}-2"] if is_second else [f"{jobs[0]}-1", f"{name}-other-1"]
        return runs, "second run" if is_second else "first run", ", ".join(sorted(ends))

    def engines(self, name: str) -> Round:
        """Eight engines send one run: one call, calls for the same, for different configs, or of different owners."""
        differ = self.random.choice(("nothing", "op", "config", "lineage"))

        def marks(number: int) -> Marks:
            own = {"op": f"op-{0 if differ == 'nothing' else number}", "config_digest": "config-0", "lineage": name}
            if differ in ("config", "lineage"):
                own[{"config": "config_digest"}.get(differ, differ)] = f"{name}-{number}"
            return Marks(**own)

        with ExitStack() as stack:
            engines = [stack.enter_context(self.engine()) for _ in range(SENDERS)]
            config = self.config(name)
            sends = [
                _sending(engine, Step(Verb.RUN, name, f"{name}-1", config, marks=marks(number)))
                for number, engine in enumerate(engines)
            ]
            results = at_once(sends)
        assert {result.kind for result in results} <= {AnswerClass.APPLIED, AnswerClass.REJECTED}, results
        applied = sum(result.kind is AnswerClass.APPLIED for result in results)
        if self.answers_once:
            assert applied == 1, results
        else:
            # Of one call, each sender may say that it was carried out; of different ones, only one was.
            assert applied >= 1 if differ == "nothing" else applied <= 1, results
        reason = {"config": Reason.OTHER_OP, "lineage": Reason.OTHER_OWNER}.get(differ, Reason.WAS_THERE)
        assert {result.reason for result in results if result.kind is AnswerClass.REJECTED} <= {reason}, results
        return [f"{name}-1"], f"other {differ}" if differ != "nothing" else "one call", str(reason)

    def older(self, name: str) -> Round:
        """The state is an older copy, on a machine that has neither its marks nor its history."""
        project, jobs = self.project(name), self.names(name)[:2]
        project.write(self.lines(jobs))
        project.settle()
        older = project.state_file.read_bytes()
        self.wait_for_idle()
        project.write(self.lines(jobs, token="2"))
        is_killed = self.random.random() < 0.5
        if is_killed:
            self.kill(project, jobs)
        else:
            project.settle()
        elsewhere = self.project(f"{name}-elsewhere")
        elsewhere.state_file.write_bytes(older)
        token = self.random.choice(("1", "2", "3"))
        elsewhere.write(self.lines(jobs, token=token))
        end = elsewhere.settle(4).codes
        # What the older state asks for runs unless the service has a second run already.
        there = self.there(jobs)
        second = [f"{job}-2" for job in jobs if token != "1" or f"{job}-2" in there]
        return [*first(jobs), *second], f"{'killed' if is_killed else 'ended'}, asks for run {token}", end

    def stateless(self, name: str) -> Round:
        """The state is lost, after an apply that has ended or was killed; in half of the rounds, it is rebuilt."""
        project, jobs = self.begun(name)
        moment = "ended"
        if self.random.random() < 0.6:
            moment = self.kill(project, jobs)
        else:
            project.settle()
        self.wait_for_idle()
        there = self.there(jobs)
        elsewhere = self.project(f"{name}-elsewhere")
        elsewhere.write(self.lines(jobs))
        if self.random.random() < 0.5:
            run = elsewhere.run("state", "rebuild", "--yes")
            assert run.code == 0 or not there, run
            return first(jobs), moment, f"rebuilt, {elsewhere.settle().codes}"
        end = elsewhere.settle(4).codes
        last = elsewhere.apply()
        for job in jobs:
            if f"{job}-1" in there:
                assert f"{job} " in last.out, last
                assert "another owner's" in last.out, last
        assert (last.code == 4) == bool(there), last
        return first(jobs), moment, end

    # --- parts of rounds ---------------------------------------------------------------------------------------------

    def begun(self, name: str) -> tuple[Folder, list[str]]:
        """Return a folder whose manifest asks for a first run of each job, and the jobs."""
        project, jobs = self.project(name), self.names(name)
        project.write(self.lines(jobs))
        return project, jobs

    def kill(self, project: Folder, jobs: Sequence[str]) -> str:
        """Kill an apply at a random moment, and return how far it was."""
        before = len(self.there(jobs))
        began_s = time.monotonic()
        was_killed = project.killed_apply(self.random.uniform(0, self.apply_s * 1.2))
        if not was_killed:
            self.apply_s = time.monotonic() - began_s
        made = len(self.there(jobs)) - before
        if was_killed and not made:  # the machine may have become slower
            self.apply_s = min(_SLOWEST_S, self.apply_s * _SLOWER)
        if not was_killed:
            return "had ended"
        return "none there" if not made else "all there" if made == len(jobs) else "some there"

    def names(self, name: str) -> list[str]:
        return [f"{name}-{letter}" for letter in "abcdefgh"[: self.jobs]]

    def lines(self, jobs: Sequence[str], token: str = "1") -> str:
        """Return the `jobs:` block of a manifest."""
        return "\n".join(
            f"{job}: {{state: running, runToken: '{token}', config: {json.dumps(self.config(job))}}}" for job in jobs
        )


def first(jobs: Sequence[str]) -> list[str]:
    """Return the ids of the first runs."""
    return [f"{job}-1" for job in jobs]


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Make all calls at the same moment, and return what they return."""
    together = threading.Barrier(len(calls))

    def made(call: Callable[[], Any]) -> Any:
        together.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(made, calls))


def paused(seconds: float) -> bool:
    """Wait for real, as a command does that nobody stops."""
    time.sleep(seconds)
    return False


def tally(torture: Torture, kind: str, rounds: int) -> Counter[Found]:
    """Carry out so many rounds of a kind, and return how often each end was found."""
    found: Counter[Found] = Counter()
    try:
        for number in range(rounds):
            found[torture.one_round(kind, number)] += 1
            if number % 25 == 24:
                print(f"{kind}: {number + 1} rounds", file=sys.stderr, flush=True)
    finally:
        torture.stack.close()
    return found


def parser(documentation: str | None, kinds: Sequence[str], rounds: int) -> argparse.ArgumentParser:
    """Return the options that all campaigns have."""
    made = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--kinds", nargs="+", choices=kinds, default=kinds)
    return made


def verdict(given: argparse.Namespace, carried_out: Callable[[str], Counter[Found]], at_a_time: int = 1) -> int:
    """Carry out the rounds of each kind, print what came of them, and return the exit code."""
    began_s = time.monotonic()
    found: Counter[Found] = Counter()
    faults: list[str] = []
    with ThreadPoolExecutor(at_a_time) as pool:
        for kind, rounds in [(kind, pool.submit(carried_out, kind)) for kind in given.kinds]:
            if fault := rounds.exception():
                faults.append("".join([f"{kind}:\n", *traceback.format_exception(fault)]))
            else:
                found += rounds.result()
    for (kind, moment, end), count in sorted(found.items()):
        print(f"{kind:9} {moment:34} {end:40} {count}")
    for kind in given.kinds:
        print(f"{kind:9} {sum(count for each, count in found.items() if each.kind == kind)} rounds")
    print("".join(faults), end="")
    words = f"{len(faults)} kinds broke a promise" if faults else "no run twice, none lost without a word"
    print(f"in {time.monotonic() - began_s:.0f} s, seed {given.seed}; {words}")
    return 1 if faults else 0


def _sending(engine: Engine, step: Step) -> Callable[[], Any]:
    return lambda: engine.send(step._replace(staged=engine.stage(step)))
