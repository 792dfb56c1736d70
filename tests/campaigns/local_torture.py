"""Kills whoever takes part in a run on this machine, at random moments, and counts what was executed.

    python tests/campaigns/local_torture.py --rounds 1500 --seed 1 --jobs 2

Each command adds a line to a file of its own, so this count comes from no part of the engine. Real processes are killed
with SIGKILL, and other senders are at work on the same run at the same time. Whatever is killed, no run may be executed
twice, no run may stay active for ever, and a run that was not executed must not be shown as complete.

    sender      a sender is killed while it sends, alone or with all that it has started; then two others send the run
    supervisor  the supervisor is killed while it works; then two others send the run
    spawner     the spawner is killed with a queue; then another command opens the engine
    abort       a run is aborted while it starts, and the command that aborts is killed
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from local_runs import OURS, engine_at, run_folder, spawner_of
from local_service import kill_ours, supervisor_of
from reconciler.engines.port import AnswerClass, Config, Reason, Status, Step, Verb

OVER_WITHIN_S = 60.0
LONGEST_S = 0.1
"""The longest time that a round lets pass before it kills somebody. A run takes about as long."""
SENT = {Reason.OTHER, Reason.WAS_THERE}


class Found(NamedTuple):
    """What came of a run: how often its command began and ended, and what the engine says.

    `moment` is how far the run was when somebody was killed.
    """

    kind: str
    moment: str
    began: int
    finished: int
    status: str
    detail: str


class Torture:
    """The rounds in one folder, and what they have in common."""

    def __init__(self, folder: Path, seed: str) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.slots = 4
        self._moment = ""

    def one_round(self, kind: str, number: int) -> Iterator[Found]:
        """Carry out one round. Raises `AssertionError` if a promise is broken."""
        rounds: Mapping[str, Callable[[str], list[str]]] = {
            "sender": self._sender,
            "supervisor": self._supervisor,
            "spawner": self._spawner,
            "abort": self._abort,
        }
        job_id = f"{kind}-{number}"
        for run_id in rounds[kind](job_id):
            found = self._judged(kind, run_id)
            is_complete = found.status == "complete"
            assert found.began <= 1, found
            assert found.finished == 1 or not is_complete, found
            assert found.status != "failed" or found.detail, found
            if kind == "spawner":
                assert is_complete, found
            yield found

    def _sender(self, job_id: str) -> list[str]:
        run = f"{job_id}-1"
        is_warm = self.random.random() < 0.7
        with engine_at(self.folder, self.slots) as other, self._program(run) as (program, go):
            if is_warm:  # There is a spawner, so the sender need not start one.
                assert other.send(self._step(f"{job_id}-0-1")).kind is AnswerClass.APPLIED
            go()
            self._sleep(LONGEST_S if is_warm else 6 * LONGEST_S)
            whom = self.random.choice(("sender", "spawner", "everything"))
            program.kill()
            self._note_moment(run)
            if whom != "sender":
                self._kill(spawner_of(self.folder))
            if whom == "everything":
                self._kill(supervisor_of(run_folder(self.folder, run)))
        self._send_twice(run)
        return [run]

    def _supervisor(self, job_id: str) -> list[str]:
        run = f"{job_id}-1"
        with engine_at(self.folder, self.slots) as engine:
            assert engine.send(self._step(run)).kind is AnswerClass.APPLIED
            self._sleep()
            self._kill(supervisor_of(run_folder(self.folder, run)))
            self._note_moment(run)
        self._send_twice(run)
        return [run]

    def _spawner(self, job_id: str) -> list[str]:
        """Fill a queue behind one slot. The spawner is killed, and all runs are executed nevertheless."""
        runs = [f"{job_id}-{number}-1" for number in range(5)]
        with engine_at(self.folder, 1) as engine:
            for run in runs:
                assert engine.send(self._step(run)).kind is AnswerClass.APPLIED
            self._sleep()
            self._kill(spawner_of(self.folder))
            self._note_moment(runs[2])
        with engine_at(self.folder, 1), engine_at(self.folder, 1):
            pass
        return runs

    def _abort(self, job_id: str) -> list[str]:
        run = f"{job_id}-1"
        with engine_at(self.folder, self.slots) as engine, self._program(run, Verb.ABORT) as (program, go):
            assert engine.send(self._step(run)).kind is AnswerClass.APPLIED
            self._sleep()
            go()
            self._sleep()
            program.kill()
            self._note_moment(run)
            result = engine.send(self._step(run, Verb.ABORT))
            assert result.kind is AnswerClass.APPLIED or result.reason is Reason.NOT_RUNNING, result
        return [run]

    def _sleep(self, longest_s: float = LONGEST_S) -> None:
        time.sleep(self.random.uniform(0, longest_s))

    def _note_moment(self, run: str) -> None:
        there = run_folder(self.folder, run)
        names = ("ended.json", "abort.json", "started.json", "spec.json")
        self._moment = next((name.removesuffix(".json") for name in names if (there / name).exists()), "nothing")

    def _send_twice(self, run: str) -> None:
        """Send a run from two engines at the same moment, as two commands do."""
        together = threading.Barrier(2)

        def sent() -> None:
            with engine_at(self.folder, self.slots) as engine:
                together.wait()
                result = engine.send(self._step(run))
                assert result.reason in SENT, result
                assert result.kind in (AnswerClass.APPLIED, AnswerClass.REJECTED), result

        with ThreadPoolExecutor(2) as pool:
            for future in [pool.submit(sent) for _ in range(2)]:
                future.result()

    def _judged(self, kind: str, run: str) -> Found:
        job_id = run.rpartition("-")[0]
        until_s = time.monotonic() + OVER_WITHIN_S
        with engine_at(self.folder, self.slots) as engine:
            while (look := engine.observe(job_id, run)).status is Status.ACTIVE:
                assert time.monotonic() < until_s, look
                time.sleep(0.005)
        return Found(
            kind, self._moment, self._count(run, "began"), self._count(run, "finished"), look.status.value, look.detail
        )

    def _count(self, run: str, name: str) -> int:
        path = self.folder / f"{run}.{name}"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def _step(self, run: str, verb: Verb = Verb.RUN) -> Step:
        return step_of(self.folder, run, verb)

    def _kill(self, pid: int) -> None:
        """Kill a process of this folder, if there is one."""
        if pid:
            kill_ours(pid, self.folder / "runs")

    @contextmanager
    def _program(self, run: str, verb: Verb = Verb.RUN) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], None]]]:
        """Start a program that sends one call, once the function that this yields with the program is called."""
        command = [sys.executable, __file__, "--send", verb.value, str(self.folder / "runs"), run]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as program:
            assert program.stdout is not None
            stdin = program.stdin
            assert stdin is not None
            assert program.stdout.read(1) == b"r"

            def go() -> None:
                stdin.write(b"g")
                stdin.flush()

            try:
                yield program, go
            finally:
                program.kill()


def step_of(folder: Path, run: str, verb: Verb) -> Step:
    script = f"echo x >> '{folder}/{run}.began'; sleep 0.05; echo x >> '{folder}/{run}.finished'"
    config: Config = {"script": script, "abort": {"grace": 1}} if verb is Verb.RUN else {}
    return Step(verb, run.rpartition("-")[0], run, config, marks=OURS)


def send(verb: str, folder: Path, run: str) -> None:
    """Send one call once a byte comes. A program of its own, which the rounds kill."""
    with engine_at(folder, 4) as engine:
        os.write(1, b"r")
        os.read(0, 1)
        engine.send(step_of(folder, run, Verb(verb)))


KINDS = ("sender", "supervisor", "spawner", "abort")


def torture(folder: Path, rounds: int, seed: str) -> Counter[tuple[str, str, str, int]]:
    """Carry out rounds of each kind. Returns how often a kind, a moment, a status and a number of executions met."""
    torment = Torture(folder, seed)
    found: Counter[tuple[str, str, str, int]] = Counter()
    with engine_at(folder, torment.slots) as engine:
        engine.identity()
    for number in range(rounds):
        for each in torment.one_round(KINDS[number % len(KINDS)], number):
            found[each.kind, each.moment, each.status, each.began] += 1
        if number % 100 == 99:
            print(f"{folder.name}: {number + 1} rounds", file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--send", nargs=3, metavar=("VERB", "ROOT", "RUN"))
    given = parser.parse_args()
    if given.send:
        verb, where, run = given.send
        return send(verb, Path(where).parent, run)
    began_s = time.monotonic()
    found: Counter[tuple[str, str, str, int]] = Counter()
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(given.jobs) as pool:
        folders = [Path(temporary, str(job)) for job in range(given.jobs)]
        for folder in folders:
            folder.mkdir()
        share = -(-given.rounds // given.jobs)
        for each in pool.map(lambda folder: torture(folder, share, f"{given.seed}-{folder.name}"), folders):
            found += each
    for (kind, moment, status, executed), count in sorted(found.items()):
        print(f"{kind:10} killed at {moment:8} {status:8} executed {executed} times: {count}")
    print(f"{given.rounds} rounds in {time.monotonic() - began_s:.0f} s; no run twice, none lost")
    return None


if __name__ == "__main__":
    main()
