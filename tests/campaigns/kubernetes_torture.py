"""Breaks what starts Jobs on a real API server, in six ways, and counts what the server created and the node executed.

    python tests/campaigns/kubernetes_torture.py --rounds 150 --seed 1

A watch counts each Job that the server has ever created, by its uid, and each pod notes its start in a file. So neither
count comes from the engine or from the state. Whatever is broken, the server has one Job of a run, and one pod of it
was executed. A run that was asked for and not executed is one that the last command has named, with exit code 4.

    killed     an apply is killed with SIGKILL at a random moment; then applies follow until nothing is left to do
    cut        connections are cut before the server has a request, or before its answer has come back; then as above
    applies    eight applies of one manifest with copies of one state, at the same moment
    engines    eight engines send one run at the same moment: one call, calls for the same, or for different configs
    older      the state is an older copy, on a machine that has neither its marks nor its history
    lost       the state is lost, after an apply that has ended or was killed; an apply holds what is there, or
               `state rebuild` comes first
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

from kubernetes.cluster import Cluster, missing

import fork_server
from kubernetes_record import Record
from project import Project, Run
from reconciler.engines.kubernetes.plugin import PLUGIN
from reconciler.engines.port import AnswerClass, Engine, Marks, Reason, Step, Surroundings, Verb
from reconciler.testing.proxy import Fault, FaultProxy

KINDS = ("killed", "cut", "applies", "engines", "older", "lost")
SENDERS = 8
JOBS = 4
"""The jobs of a round whose apply is killed or cut off."""
ROUNDS_OF_A_NAMESPACE = 60
"""A server goes through all objects of a namespace for each list. So the rounds move on to an empty one."""
_HANDSHAKE_PIECES = 2
"""What a client of TLS 1.3 sends before its first request; see tests/kubernetes/service.py."""
_MOST_APPLIES = 12


class Found(NamedTuple):
    """What came of one round: the kind, how far it was when it was broken, and how it was settled."""

    kind: str
    moment: str
    end: str


class Folder(Project):
    """A user's folder, whose jobs are Jobs of a namespace."""

    def __init__(self, folder: Path, cluster: Cluster, namespace: str) -> None:
        folder.mkdir()
        super().__init__(folder)
        self.env["KUBECONFIG"] = str(cluster.kubeconfig)
        self._namespace = namespace

    @property
    def target(self) -> str:
        return f"{{engine: kubernetes, namespace: {self._namespace}, allowOldServer: true}}"

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
    """The rounds on one cluster."""

    def __init__(self, cluster: Cluster, folder: Path, seed: str) -> None:
        self._cluster = cluster
        self._folder = folder
        self._random = random.Random(seed)
        self._apply_s = 0.3
        """How long an apply took that nobody has killed."""
        self._rounds = 0
        self._stack = ExitStack()
        self._record: Record | None = None

    def close(self) -> None:
        self._stack.close()

    def one_round(self, kind: str, number: int) -> Found:
        """Carry out one round. Raises `AssertionError` if a promise is broken."""
        if self._rounds % ROUNDS_OF_A_NAMESPACE == 0:
            self._stack.close()
            self._record = self._stack.enter_context(Record(self._cluster, self._folder))
        self._rounds += 1
        rounds: Mapping[str, Callable[[str], tuple[Sequence[str], str, str]]] = {
            "killed": self._killed,
            "cut": self._cut,
            "applies": self._applies,
            "engines": self._engines,
            "older": self._older,
            "lost": self._lost,
        }
        runs, moment, end = rounds[kind](f"{kind}-{number}")
        self.record.judge(runs)
        return Found(kind, moment, end)

    @property
    def record(self) -> Record:
        assert self._record is not None
        return self._record

    def _killed(self, name: str) -> tuple[Sequence[str], str, str]:
        project, jobs = self._project(name), _names(name)
        project.write(self._lines(jobs))
        moment = self._kill(project, jobs)
        return _first(jobs), moment, project.settled()

    def _cut(self, name: str) -> tuple[Sequence[str], str, str]:
        project, jobs = self._project(name), _names(name)
        project.write(self._lines(jobs))
        fault = self._random.choice((Fault.UNSENT, Fault.LOST))
        # Either the n-th request of each connection is cut, or any of them with a chance.
        spared, chance = self._random.choice(((self._random.randint(0, 9), 1.0), (0, 0.4)))
        place = self._cluster.place
        with FaultProxy(
            *place,
            fault=fault,
            chance=chance,
            spared=_HANDSHAKE_PIECES + spared,
            seed=self._random.getrandbits(32),
            work_s=0.1,
        ) as proxy:
            through = self._cluster.kubeconfig_for(f"https://127.0.0.1:{proxy.port}")
            code = project.run("apply", "--yes", KUBECONFIG=str(through)).code
            assert code in (0, 1, 3, 4, 5), code
            moment = f"{fault}, {'some' if proxy.broken else 'no'} request cut"
        return _first(jobs), moment, f"{code} {project.settled()}"

    def _applies(self, name: str) -> tuple[Sequence[str], str, str]:
        """All senders have copies of one state, so they are one owner; some have a state of a run before."""
        first, jobs = self._project(name), _names(name)[:1]
        is_second = self._random.random() < 0.5
        if is_second:
            first.write(self._lines(jobs))
        else:
            first.write(self._lines([f"{name}-other"]))
        first.settled()
        self.record.wait_for_idle()  # as in `_older`
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
        config = {"image": "i", "script": self.record.script(name)}
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
        kinds = Counter(result.kind for result in results)
        assert kinds == {AnswerClass.APPLIED: 1, AnswerClass.REJECTED: SENDERS - 1}, results
        reason = {"config": Reason.OTHER_OP, "lineage": Reason.OTHER_OWNER}.get(differ, Reason.WAS_THERE)
        assert {result.reason for result in results if result.kind is AnswerClass.REJECTED} == {reason}, results
        return [f"{name}-1"], f"other {differ}" if differ != "nothing" else "one call", str(reason)

    def _older(self, name: str) -> tuple[Sequence[str], str, str]:
        project, jobs = self._project(name), _names(name)[:2]
        project.write(self._lines(jobs))
        project.settled()
        older = project.state_file.read_bytes()
        self.record.wait_for_idle()  # a run that has not begun to execute would be aborted for the next one
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
        # What the older state asks for runs unless the server has a second run already.
        there = self.record.created()
        second = [f"{job}-2" for job in jobs if token != "1" or f"{job}-2" in there]
        moment = "killed" if is_killed else "ended"
        return [*_first(jobs), *second], f"{moment}, asks for run {token}", end

    def _lost(self, name: str) -> tuple[Sequence[str], str, str]:
        project, jobs = self._project(name), _names(name)
        project.write(self._lines(jobs))
        moment = "ended"
        if self._random.random() < 0.6:
            moment = self._kill(project, jobs)
        else:
            project.settled()
        self.record.wait_for_idle()
        there = self.record.created()
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
        """Kill an apply at a random moment, and return how far it was."""
        before = len(self.record.created())
        began_s = time.monotonic()
        was_killed = project.killed_apply(self._random.uniform(0, self._apply_s * 1.2))
        if not was_killed:
            self._apply_s = time.monotonic() - began_s
        made = len(self.record.created()) - before
        if was_killed and not made:  # the machine may have become slower
            self._apply_s = min(5.0, self._apply_s * 1.1)
        if not was_killed:
            return "had ended"
        return "no Job there" if not made else "all Jobs there" if made == len(jobs) else "some Jobs there"

    def _lines(self, jobs: Sequence[str], token: str = "1") -> str:
        return "\n".join(
            f"{job}: {{state: running, runToken: '{token}', config: {{image: i, script: '{self.record.script(job)}'}}}}"
            for job in jobs
        )

    def _project(self, name: str) -> Folder:
        return Folder(self._folder / name, self._cluster, self.record.namespace)

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        block = {"kubeconfig": str(self._cluster.kubeconfig), "namespace": self.record.namespace}
        target = PLUGIN.target({**block, "allowOldServer": True}, "/")
        around = Surroundings(
            os.environ, _pause, lambda text: None, time.monotonic, time.time, 1, None, str(self._folder / "beside")
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
    return lambda: engine.send(step)


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
    parser.add_argument("--jobs", type=int, default=3, help="the kinds at a time")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    given = parser.parse_args()
    if reason := missing():
        print(f"skipped: {reason}")
        return 1
    began_s = time.monotonic()
    found: Counter[Found] = Counter()
    faults: list[str] = []
    with (
        Cluster() as cluster,
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(given.jobs) as pool,
    ):
        for kind, rounds in [
            (kind, pool.submit(torture, cluster, Path(folder), kind, given.rounds, str(given.seed)))
            for kind in given.kinds
        ]:
            if fault := rounds.exception():
                faults.append("".join([f"{kind}:\n", *traceback.format_exception(fault)]))
            else:
                found += rounds.result()
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
