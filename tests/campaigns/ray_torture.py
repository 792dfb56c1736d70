"""Breaks what submits jobs to a real head of Ray, in five ways, and counts what the head has executed.

    python tests/campaigns/ray_torture.py --rounds 50 --seed 1

Each entrypoint notes its start in a file, so that the count comes neither from the engine nor from the state. Whatever
is broken, a run was executed once. After a restart of the head, a run may not have been executed, because the head took
it and was killed before it began: the last command then names that job, with exit code 4 or 5.

    killed     an apply is killed with SIGKILL at a random moment; then applies follow until nothing is left to do
    cut        connections are cut before the head has a request, or before its answer has come back, or the head gets
               the request some time after that; then as above
    applies    eight applies of one manifest with copies of one state, at the same moment
    engines    eight engines send one run at the same moment: one call, calls for the same, or for different configs
    restarted  the head is killed while an apply is at work, which may be killed as well, and is started anew
"""

import argparse
import os
import random
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

from ray.between import Between, Loss
from ray.cluster import Cluster, missing

import fork_server
from project import Project, Run
from ray_record import Record
from reconciler.engines.port import AnswerClass, Engine, Marks, Reason, Step, Surroundings, Verb
from reconciler.engines.ray.plugin import PLUGIN

KINDS = ("killed", "cut", "applies", "engines", "restarted")
SENDERS = 8
JOBS = 3
"""The jobs of a round whose apply is killed or cut off."""
_BEGINS_WITHIN_S = 5.0
"""How long a head takes to execute an entrypoint, more or less."""
_MOST_APPLIES = 12
_HELD = (4, 5)


class Found(NamedTuple):
    """What came of one round: the kind, how far it was when it was broken, and how it was settled."""

    kind: str
    moment: str
    end: str


class Folder(Project):
    """A user's folder, whose jobs are jobs of a head."""

    def __init__(self, folder: Path, address: str) -> None:
        folder.mkdir()
        super().__init__(folder)
        self.address = address

    @property
    def target(self) -> str:
        # The address of the target is the same, whatever leads there.
        return "{engine: ray}"

    @property
    def state_file(self) -> Path:
        return self.folder / "jobs.state.json"

    def apply(self, address: str = "") -> Run:
        """Apply, by way of another address if one is given."""
        return self.run("apply", "--yes", RAY_ADDRESS=address or self.address)

    def killed_apply(self, after_s: float) -> bool:
        """Kill an apply after so many seconds. Returns False if it had ended before."""
        env = {**self.env, "RAY_ADDRESS": self.address}
        try:
            fork_server.run(self.command("apply", "--yes"), self.folder, env, "", timeout_s=after_s)
        except subprocess.TimeoutExpired:
            return True
        except ProcessLookupError:  # it ended at that very moment
            return False
        return False

    def settled(self, *codes: int) -> tuple[str, Run]:
        """Apply until nothing is left to do. Return the exit codes on the way there in one text, and the last apply.

        With `codes`, one of them may come at last instead.
        """
        seen: list[int] = []
        for _ in range(_MOST_APPLIES):
            run = self.apply()
            if run.code == 0 and run.out.startswith("Nothing to do"):
                return " ".join(map(str, [*seen, "settled"])), run
            seen.append(run.code)
            if run.code in codes and "locked" not in run.err:
                return " ".join(map(str, seen)), run
            assert run.code in (0, 3, 4, 5), run
        raise AssertionError(f"still not settled: {run}")


class Torture:
    """The rounds on one head."""

    def __init__(self, cluster: Cluster, folder: Path, seed: str) -> None:
        self._cluster = cluster
        self._folder = folder
        self._random = random.Random(seed)
        self._apply_s = 0.0
        """How long an apply took that nobody has killed."""
        self._record = Record(cluster, folder)

    def one_round(self, kind: str, number: int) -> Found:
        """Carry out one round. Raises `AssertionError` if a promise is broken."""
        rounds: Mapping[str, Callable[[str], tuple[str, str]]] = {
            "killed": self._killed,
            "cut": self._cut,
            "applies": self._applies,
            "engines": self._engines,
            "restarted": self._restarted,
        }
        if not self._apply_s:
            self._measure(f"{kind}-measured")
        return Found(kind, *rounds[kind](f"{kind}-{number}"))

    def _measure(self, name: str) -> None:
        project, jobs = self._project(name), _names(name)
        project.write(self._lines(jobs))
        began_s = time.monotonic()
        project.apply()
        self._apply_s = time.monotonic() - began_s
        self._record.judge(_first(jobs))

    def _killed(self, name: str) -> tuple[str, str]:
        project, jobs = self._project(name), _names(name)
        project.write(self._lines(jobs))
        moment = self._kill(project, jobs)
        end, _ = project.settled()
        self._record.judge(_first(jobs))
        return moment, end

    def _cut(self, name: str) -> tuple[str, str]:
        project, jobs = self._project(name), _names(name)
        project.write(self._lines(jobs))
        loss = self._random.choice((Loss.UNSENT, Loss.LOST, Loss.LATE))
        chance = self._random.choice((1.0, 0.4))
        seed = self._random.getrandbits(32)
        with Between(*self._cluster.place, loss, chance, seed) as between:
            code = project.apply(between.address).code
            assert code in (0, 1, 3, 4, 5), code
        moment = f"{loss}, {'some' if between.lost else 'no'} request lost"
        end, _ = project.settled()
        self._record.judge(_first(jobs))
        return moment, f"{code} {end}"

    def _applies(self, name: str) -> tuple[str, str]:
        """All senders have copies of one state, so they are one owner; some have a state of a run before."""
        first, jobs = self._project(name), _names(name)[:1]
        is_second = self._random.random() < 0.5
        first.write(self._lines(jobs if is_second else [f"{name}-other"]))
        first.settled()
        self._record.wait_for_idle()
        folders = [first, *(self._project(f"{name}-{number}") for number in range(1, SENDERS))]
        for folder in folders[1:]:
            shutil.copy(first.state_file, folder.state_file)
        for folder in folders:
            folder.write(self._lines(jobs, token="2"))
        codes = Counter(run.code for run in _at_once([folder.apply for folder in folders]))
        assert set(codes) <= {0, 3, 4, 5}, codes
        ends = {folder.settled()[0] for folder in folders}
        self._record.judge([f"{jobs[0]}-1", f"{jobs[0]}-2"] if is_second else [f"{jobs[0]}-1", f"{name}-other-1"])
        return "second run" if is_second else "first run", ", ".join(sorted(ends))

    def _engines(self, name: str) -> tuple[str, str]:
        config = {"script": self._record.script}
        differ = self._random.choice(("nothing", "op", "config", "lineage"))

        def marks(number: int) -> Marks:
            own = {"op": f"op-{0 if differ == 'nothing' else number}", "config_digest": "config-0", "lineage": name}
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
        kinds = Counter(result.kind for result in results)
        assert kinds == {AnswerClass.APPLIED: 1, AnswerClass.REJECTED: SENDERS - 1}, results
        reason = {"config": Reason.OTHER_OP, "lineage": Reason.OTHER_OWNER}.get(differ, Reason.WAS_THERE)
        assert {result.reason for result in results if result.kind is AnswerClass.REJECTED} == {reason}, results
        self._record.judge([f"{name}-1"])
        return f"other {differ}" if differ != "nothing" else "one call", str(reason)

    def _restarted(self, name: str) -> tuple[str, str]:
        """Kill the head at a random moment of an apply. What it has begun before may have been executed or not."""
        project, jobs = self._project(name), _names(name)
        project.write(self._lines(jobs))
        is_killed = self._random.random() < 0.3
        after_s = self._random.uniform(0, self._apply_s * 1.2 + self._random.choice((0.0, _BEGINS_WITHIN_S)))
        with ThreadPoolExecutor(1) as pool:
            applying = pool.submit(project.killed_apply, after_s + 0.05 if is_killed else 300.0)
            time.sleep(after_s)
            self._cluster.kill()
            applying.result()
        before = self._record.executed(jobs)
        self._cluster.start()
        end, last = project.settled(*_HELD)
        lost = [run for run in _first(jobs) if run not in before]
        self._record.judge(_first(jobs), may_be_lost=lost)
        for run in _first(jobs):
            if run not in self._record.executed(jobs):
                assert last.code in _HELD, last
                assert run.rpartition("-")[0] in last.out + last.err, (run, last)
        how = "none" if not before else "all" if len(before) == len(jobs) else "some"
        return f"{how} executed before{', apply killed' if is_killed else ''}", end

    def _kill(self, project: Folder, jobs: Sequence[str]) -> str:
        """Kill an apply at a random moment, and return how far it was."""
        began_s = time.monotonic()
        was_killed = project.killed_apply(self._random.uniform(0, self._apply_s * 1.2))
        if not was_killed:
            self._apply_s = time.monotonic() - began_s
        made = sum(self._cluster.job(run) is not None for run in _first(jobs))
        if was_killed and not made:  # the machine may have become slower
            self._apply_s = min(10.0, self._apply_s * 1.1)
        if not was_killed:
            return "had ended"
        return "no job there" if not made else "all jobs there" if made == len(jobs) else "some jobs there"

    def _lines(self, jobs: Sequence[str], token: str = "1") -> str:
        return "\n".join(
            f"{job}: {{state: running, runToken: '{token}', config: {{script: '{self._record.script}'}}}}"
            for job in jobs
        )

    def _project(self, name: str) -> Folder:
        return Folder(self._folder / name, self._cluster.address)

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        target = PLUGIN.target({"address": self._cluster.address}, "/")
        around = Surroundings(
            os.environ, _pause, lambda text: None, time.monotonic, time.time, 1, None, str(self._folder / "beside")
        )
        with PLUGIN.open(target, around) as engine:
            yield engine


def _names(name: str) -> list[str]:
    return [f"{name}-{letter}" for letter in "abcdefgh"[:JOBS]]


def _first(jobs: Sequence[str]) -> list[str]:
    return [f"{job}-1" for job in jobs]


def _sending(engine: Engine, step: Step) -> Callable[[], Any]:
    staged = step._replace(staged=engine.stage(step))
    return lambda: engine.send(staged)


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


def torture(cluster: Cluster, folder: Path, kind: str, rounds: int, seed: str) -> Counter[Found]:
    """Carry out so many rounds of a kind, and return how often each end was found."""
    found: Counter[Found] = Counter()
    own = folder / kind
    own.mkdir()
    torment = Torture(cluster, own, f"{seed}-{kind}")
    for number in range(rounds):
        found[torment.one_round(kind, number)] += 1
        if number % 10 == 9:
            print(f"{kind}: {number + 1} rounds", file=sys.stderr, flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    given = parser.parse_args()
    if reason := missing():
        print(f"skipped: {reason}")
        return 1
    began_s = time.monotonic()
    found: Counter[Found] = Counter()
    faults: list[str] = []
    with Cluster() as cluster, tempfile.TemporaryDirectory() as folder:
        for kind in given.kinds:
            try:
                found += torture(cluster, Path(folder), kind, given.rounds, str(given.seed))
            except Exception as fault:  # noqa: BLE001  the other kinds are tried too
                faults.append("".join([f"{kind}:\n", *traceback.format_exception(fault)]))
    for (kind, moment, end), count in sorted(found.items()):
        print(f"{kind:9} {moment:34} {end:40} {count}")
    for kind in given.kinds:
        print(f"{kind:9} {sum(count for each, count in found.items() if each.kind == kind)} rounds")
    print("".join(faults), end="")
    verdict = f"{len(faults)} kinds broke a promise" if faults else "no run twice, none lost without a word"
    print(f"in {time.monotonic() - began_s:.0f} s, seed {given.seed}; {verdict}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
