"""Break an apply before each of its system calls, apply again, and judge by the server's own ledger.

    python tests/campaigns/crash.py            a sample of every kind of break, over every scenario
    python tests/campaigns/crash.py --all      every crash point of every scenario
    python tests/campaigns/crash.py --twice    the apply that recovers is killed too, at sampled pairs of points
    python tests/campaigns/crash.py --faults   ENOSPC and EIO at each call on a file, once and for good
    python tests/campaigns/crash.py --signals  SIGINT, SIGTERM or SIGHUP before each call, once and twice
    python tests/campaigns/crash.py --cleaned  lock and journal are removed before each call
    python tests/campaigns/crash.py --part 2/8 --signals --all         the second eighth of a long run
    python tests/campaigns/crash.py --scenario NAME --point K[,K]      one break again

The crash points are the system calls on the user's folder, on the high-water marks, or on a socket. The program runs in
a forked child with its modules loaded, so that a history takes a tenth of a second. With --exec the program is started
afresh, as a user starts it. The server, its ledger and the judge run in other processes. Each worker prepares a
scenario once a minute. Every history begins from a copy of all files of that preparation, with a server of its own.

After each break these rules are checked:

- Each call that was sent had its intent on disk, and no call was sent after the journal had failed.
- Each execution has a result or an intent on record.
- Further applies, with a person who settles the calls in doubt, end with everything done as asked, each run once.
- The state agrees with the ledger, and the history lists each execution once.
- One more apply and a plan change nothing.
"""

import argparse
import atexit
import errno
import json
import os
import random
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import fork_server
import ptrace
import served_apart
import tally
from reconciler.engines.sandbox.life import Execution, calls, ledger
from reconciler.host.disk import OsDisk
from reconciler.model.errors import StateError
from reconciler.model.jobs import Desired, Record, State, Target, Verb
from reconciler.state.loading import load

DEADLINE_S = 120
ROUNDS = 6
"""Any history comes to rest within this many applies."""

CANNOT_READ = ("read:404", "list:404")
APPLY = ("apply", "--yes", "--settle", "0.1")


class Step(NamedTuple):
    """A manifest and a command on it that succeeds; there is no command if `arguments` is empty."""

    jobs: str
    arguments: tuple[str, ...] = APPLY


class Scenario(NamedTuple):
    """The steps before the apply, the apply, and the expected end.

    `runs` is the expected number of runs of each job, and `final` the expected records. `faults` are the server's
    faults. `lose` names files that are removed before the apply. `killed_after` kills the last step of the preparation,
    once the server has carried out its first call of this verb. A journal of `checkpoint_bytes` or more is folded into
    the state. A job is active for `job_seconds`, and only a job that has ended can be run again.
    """

    before: tuple[Step, ...]
    jobs: str
    runs: Mapping[str, int]
    final: Mapping[str, Desired]
    arguments: tuple[str, ...] = APPLY
    again: tuple[str, ...] = APPLY
    faults: tuple[str, ...] = ()
    lose: tuple[str, ...] = ()
    killed_after: Verb | None = None
    checkpoint_bytes: int = 0
    job_seconds: float = 1000


_AFRESH = (*APPLY, "--state", "jobs.state.json")
"""An apply that may start a lost state anew. Without --state it is refused, as the history shows the loss."""

RUNNING, ABORTED, ABSENT = Desired.RUNNING, Desired.ABORTED, Desired.ABSENT
_ONE = "a: {state: running}"
_THREE = "a: {state: running}\nb: {state: running}\nc: {state: running}"
_EIGHT = "\n".join(f"{name}: {{state: running}}" for name in "abcdefgh")
_MIXED = (
    "a: {state: absent}\nb: {state: aborted}\nc: {state: running, config: {jobTimeout: 900}}\n"
    "d: {state: running}\ne: {state: aborted}"
)
_MIXED_RUNS = {"a": 1, "b": 1, "c": 2, "d": 1, "e": 0}
_MIXED_FINAL = {"a": ABSENT, "b": ABORTED, "c": RUNNING, "d": RUNNING, "e": ABORTED}

_FOLDED = """\
a: {state: absent}
b: {state: aborted}
c: {state: running, config: {jobTimeout: 900}}
d: {state: running}
e: {state: running}
f: {state: running}
g: {state: running}
h: {state: running}"""

SCENARIOS: Mapping[str, Scenario] = {
    "first-run": Scenario((), _ONE, {"a": 1}, {"a": RUNNING}),
    "restart-by-config": Scenario(
        (Step(_ONE),), "a: {state: running, config: {jobTimeout: 900}}", {"a": 2}, {"a": RUNNING}
    ),
    "restart-by-token": Scenario(
        (Step('a: {state: running, runToken: "1"}'),),
        'a: {state: running, runToken: "2"}',
        {"a": 2},
        {"a": RUNNING},
    ),
    "restart-with-a-drain": Scenario(
        (Step('a: {state: running, runToken: "1"}'),),
        'a: {state: running, runToken: "2"}',
        {"a": 2},
        {"a": RUNNING},
        faults=("abort:drain:seconds=0.3",),
    ),
    "run-within-the-drain": Scenario(
        (Step(_ONE), Step("a: {state: aborted}")), _ONE, {"a": 2}, {"a": RUNNING}, faults=("abort:drain:seconds=0.5",)
    ),
    "abort": Scenario((Step(_ONE),), "a: {state: aborted}", {"a": 1}, {"a": ABORTED}),
    "delete-running": Scenario((Step(_ONE),), "a: {state: absent}", {"a": 1}, {"a": ABSENT}),
    "mixed": Scenario((Step(_THREE),), _MIXED, _MIXED_RUNS, _MIXED_FINAL, (*APPLY, "--parallelism", "1")),
    "parallel": Scenario(
        (), _EIGHT, dict.fromkeys("abcdefgh", 1), dict.fromkeys("abcdefgh", RUNNING), (*APPLY, "--parallelism", "4")
    ),
    "prune": Scenario(
        (Step(_THREE),), _ONE, {"a": 1, "b": 1, "c": 1}, {"a": RUNNING}, (*APPLY, "--prune"), (*APPLY, "--prune")
    ),
    "adopt-after-lost-state": Scenario(
        (Step(_THREE),),
        _THREE,
        {"a": 1, "b": 1, "c": 1},
        {"a": RUNNING, "b": RUNNING, "c": RUNNING},
        arguments=_AFRESH,
        again=_AFRESH,
        lose=("jobs.state.json",),
    ),
    "rename": Scenario(
        (Step("a: {state: running}\nb: {state: absent}"),),
        'z: {id: a, state: running, runToken: "2"}',
        {"a": 2},
        {"z": RUNNING},
    ),
    "new-id-on-a-name": Scenario(
        (Step('a: {id: a1, state: running}\na@a1: {id: q, state: running}'),),
        'a: {id: a2, state: running}\na@a1: {id: q, state: running, runToken: "2"}',
        {"a1": 1, "a2": 1, "q": 2},
        {"a": RUNNING, "a@a1": RUNNING, " a@a1": RUNNING},
    ),
    "swap-under-doubt": Scenario(
        (
            Step(_ONE + "\nb: {state: running}"),
            Step('a: {state: running, runToken: "2"}\nb: {state: aborted}', (*APPLY, "--parallelism", "1")),
        ),
        'b: {id: a, state: running, runToken: "2"}\na: {id: b, state: aborted}',
        {"a": 2, "b": 1},
        {"b": RUNNING, "a": ABORTED},
        killed_after=Verb.RUN,
    ),
    "fails-before": Scenario((), _THREE, dict.fromkeys("abc", 1), dict.fromkeys("abc", RUNNING),
                             faults=("run:503:times=2",)),
    "fails-after": Scenario((), _THREE, dict.fromkeys("abc", 1), dict.fromkeys("abc", RUNNING),
                            faults=("run:503:after:times=2",)),
    "resets-before": Scenario((), _THREE, dict.fromkeys("abc", 1), dict.fromkeys("abc", RUNNING),
                              faults=("run:reset:times=2",)),
    "resets-after": Scenario((), _THREE, dict.fromkeys("abc", 1), dict.fromkeys("abc", RUNNING),
                             faults=("run:reset:after:times=2",)),
    "ends-in-doubt": Scenario((Step(_THREE),), _MIXED, _MIXED_RUNS, _MIXED_FINAL, (*APPLY, "--parallelism", "1"),
                              faults=("abort:reset:after:times=1", "abort:503:times=1", "delete:503:after:times=1")),
    "cannot-read": Scenario((Step(_THREE),), _MIXED, _MIXED_RUNS, _MIXED_FINAL, (*APPLY, "--parallelism", "1"),
                            faults=CANNOT_READ),
    "cannot-read-and-fails": Scenario((Step(_ONE),), 'a: {state: running, runToken: "2"}\nb: {state: running}',
                                      {"a": 2, "b": 1}, {"a": RUNNING, "b": RUNNING},
                                      faults=(*CANNOT_READ, "run:503:after:times=1:skip=1", "run:503:times=1:skip=1")),
    "quick-jobs": Scenario((Step(_ONE),), _THREE.replace("running", 'running, runToken: "2"', 1),
                           {"a": 2, "b": 1, "c": 1}, {"a": RUNNING, "b": RUNNING, "c": RUNNING},
                           faults=("run:reset:after:times=1:skip=1", "run:503:times=1:skip=1"), job_seconds=0),
    "quick-jobs-read-late": Scenario((), _THREE, dict.fromkeys("abc", 1), dict.fromkeys("abc", RUNNING),
                                     (*APPLY, "--parallelism", "1"), job_seconds=0,
                                     faults=("run:503:after:times=1", "read:stale:times=1:skip=1")),
    "quick-jobs-cannot-read": Scenario((Step(_ONE),), 'a: {state: running, runToken: "2"}\nb: {state: running}',
                                       {"a": 2, "b": 1}, {"a": RUNNING, "b": RUNNING}, job_seconds=0,
                                       faults=(*CANNOT_READ, "run:503:after:times=1:skip=1", "run:503:times=1:skip=1")),
    "saved-plan": Scenario((Step(_THREE), Step(_MIXED, ("plan", "--out", "plan.json"))), _MIXED, _MIXED_RUNS,
                           _MIXED_FINAL, ("apply", "--plan", "plan.json", "--yes")),
    "recovery": Scenario((Step(_THREE), Step(_MIXED, (*APPLY, "--parallelism", "1"))), _MIXED, _MIXED_RUNS,
                         _MIXED_FINAL, killed_after=Verb.RUN),
    "recovery-of-an-abort": Scenario((Step(_THREE), Step(_MIXED, (*APPLY, "--parallelism", "1"))), _MIXED,
                                     _MIXED_RUNS, _MIXED_FINAL, faults=CANNOT_READ, killed_after=Verb.ABORT),
    "folding": Scenario((Step(_THREE),), _FOLDED, {"a": 1, "b": 1, "c": 2, **dict.fromkeys("defgh", 1)},
                        {"a": ABSENT, "b": ABORTED, **dict.fromkeys("cdefgh", RUNNING)},
                        (*APPLY, "--parallelism", "4"), checkpoint_bytes=1500),
}  # fmt: skip


class Broken(Exception):
    """A rule does not hold. The message names the rule and the evidence."""


class Ended(NamedTuple):
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


class Break(NamedTuple):
    """One way to break the apply: at which call, and what happens there.

    `points` are numbers of calls. The second point belongs to the apply that follows. `number` is the number of an
    error or a signal, 0 for a kill. `again` fails every later call too, or sends a second signal.
    """

    scenario: str
    points: tuple[int, ...]
    number: int = 0
    again: bool = False

    def __str__(self) -> str:
        what = "--signals" if self.number in _SIGNALS else "--faults" if self.number else ""
        what = "--cleaned" if self.number == _CLEAN else what
        if self.number:
            what += f" --number {self.number}" + (" --again" if self.again else "")
        return f"--scenario {self.scenario} --point {','.join(map(str, self.points))} {what}".strip()


class Verdict(NamedTuple):
    """The result of one break.

    `reached` says whether the apply reached the point, `settled` how many doubts a person settled. `fault` is "" if
    every rule holds.
    """

    broken: Break
    reached: bool
    settled: int
    fault: str


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TAKES_THE_LOCK = 4
"""The number of calls that take the lock."""

_CLEAN = -1
"""Stands for a break that removes the files that git does not track."""

_DISK_CALLS = ("write", "pwrite64", "fdatasync", "fsync", "rename", "fallocate", "ftruncate", "openat", "unlink",
               "mkdir", "flock", "fchmod")  # fmt: skip
_TAKES_SPACE = ("write", "pwrite64", "fallocate", "openat", "rename", "mkdir")
_REQUEST = re.compile(rb"(POST|DELETE) [^ ]*/jobs/([^ /]+)(?:/(run|abort))? ")


class Witness:
    """Follows the calls of one apply: counts the calls, and checks that each request had its intent on disk."""

    def __init__(self, decide: Callable[[int, ptrace.Call], ptrace.Verdict]) -> None:
        self._decide = decide
        self.count = 0
        self.reached = False
        self.requests = 0
        self.last_verb = ""
        self.faults: list[str] = []
        self._placed = False
        self._written: set[str] = set()
        self._durable: set[str] = set()
        self._flushing: dict[int, set[str]] = {}
        self._journal_failed = False
        self._late: set[str] = set()
        self._intents: dict[str, tuple[str, str]] = {}

    def before(self, call: ptrace.Call) -> ptrace.Verdict:
        number, self.count = self.count, self.count + 1
        if call.name == "fdatasync" and call.path.endswith(".journal"):
            self._flushing[id(call)] = set(self._written)
        verdict = self._decide(number, call)
        self.reached |= verdict is not None
        self._journal_failed |= isinstance(verdict, ptrace.Fail) and call.path.endswith((".journal", ".journal.tmp"))
        if verdict is None and call.name == "sendto" and (request := _REQUEST.match(call.content)):
            self._check(request)
        return verdict

    def after(self, call: ptrace.Call, result: int) -> None:
        if call.name == "sendto" and result > 0:
            self.requests += 1
        if result < 0:
            return
        if call.name == "pwrite64" and call.path.endswith(".journal") and self._placed:
            for entry in _entries(call.content):
                if entry["type"] == "intent":
                    doubt = entry["doubt"]
                    self._intents[doubt["op"]] = entry["id"], doubt["verb"]
                    self._written.add(doubt["op"])
                    if self._journal_failed:
                        self._late.add(doubt["op"])
                elif entry["type"] == "result":
                    self._written.discard(entry["op"])
                    self._durable.discard(entry["op"])
        elif call.name == "fdatasync" and id(call) in self._flushing:
            self._durable |= self._flushing.pop(id(call)) & self._written
        elif call.name == "rename" and call.path.endswith(".journal.tmp"):
            self._placed = False
        elif call.name == "fsync":
            self._placed = True

    def _check(self, request: re.Match[bytes]) -> None:
        verb = (request[3] or b"delete").decode()
        self.last_verb = verb
        wanted = request[2].decode(), verb
        if wanted not in {self._intents[op] for op in self._durable}:
            self.faults.append(f"{verb} of {wanted[0]} was sent without its intent on disk")
        elif wanted not in {self._intents[op] for op in self._durable - self._late}:
            self.faults.append(f"{verb} of {wanted[0]} was sent though the journal had failed before")


def _entries(content: bytes) -> Iterator[Any]:
    """Yield the records in a piece of a journal, without the product's own reader."""
    for line in content.split(b"\n"):
        if line.count(b" ") >= 2:
            yield json.loads(line.split(b" ", 2)[2])


class History:
    """One server and one user's folder, from the preparation to the check of the end."""

    def __init__(
        self,
        scenario: Scenario,
        folder: Path,
        *,
        fresh_program: bool = False,
        port: int = 0,
        prepared: "Prepared | None" = None,
    ) -> None:
        self._scenario = scenario
        self._folder = folder / "project"
        self._db = folder / "server.db"
        self._output = folder / "output"
        self._fresh_program = fresh_program
        self._folder.mkdir(exist_ok=prepared is not None)
        self._server = served_apart.serve(
            self._db, scenario.job_seconds, scenario.faults, port, prepared.counts if prepared else b""
        )
        self._endpoint = self._server.endpoint
        self._executions_before: Sequence[Execution] = prepared.executions_before if prepared else ()
        self.settled = prepared.settled if prepared else 0

    def __enter__(self) -> "History":
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.kill()

    def prepared(self, copy: Path) -> "Prepared":
        """Describe this history, once it is prepared, for histories that begin from a copy of its files."""
        return Prepared(copy, self._server.counts(), self._executions_before, self.settled, time.monotonic())

    def prepare(self) -> None:
        """Play all steps before the apply that is broken."""
        *steps, last = (*self._scenario.before, Step(self._scenario.jobs, ()))
        for step in steps:
            self._write(step.jobs)
            if self._scenario.killed_after and step is steps[-1]:
                self._executions_before = self._ledger()
                witness = self.trace(step.arguments, self._kill_after(self._scenario.killed_after))[1]
                _require(witness.reached, "the preparation was not killed")
            elif step.arguments:
                ended = self.run(*step.arguments)
                _require(ended.code in (0, 5), f"the preparation exits {ended.code}: {ended.err}{ended.out}")
                self._resolve_all()
        self._write(last.jobs)
        for name in self._scenario.lose:
            (self._folder / name).unlink()
        if not self._scenario.killed_after:
            self._executions_before = self._ledger()

    def run(self, *arguments: str) -> Ended:
        """Run a command to its end."""
        child = ptrace.start(lambda: self._program(arguments))
        _, status = os.waitpid(child, 0)
        return self._ended(os.waitstatus_to_exitcode(status))

    def trace(
        self, arguments: Sequence[str], decide: Callable[[int, ptrace.Call], ptrace.Verdict]
    ) -> tuple[Ended, Witness]:
        """Run a command, decide each of its calls, and wait until the server has received all requests."""
        received_before = len(calls(self._db))
        witness = Witness(decide)
        code = ptrace.trace(lambda: self._program(arguments), str(self._folder), witness.before, witness.after)
        until_s = time.monotonic() + DEADLINE_S
        while len(calls(self._db)) < received_before + witness.requests:
            _require(time.monotonic() < until_s, "the server has not seen all requests")
            time.sleep(0.001)
        _require(not witness.faults, "; ".join(witness.faults))
        return self._ended(code), witness

    def clean(self) -> None:
        """Remove the files that git does not track."""
        for name in ("jobs.state.json.lock", "jobs.state.json.journal"):
            (self._folder / name).unlink(missing_ok=True)

    @property
    def has_kept(self) -> bool:
        """Whether a journal was kept for a person to accept."""
        return any(self._folder.glob("*.kept*"))

    def check_record(self) -> None:
        """Check that each execution since the preparation has a result or an intent on record."""
        jobs = self._state().jobs
        by_id = {record.id: record for record in jobs.values()}
        for execution in self._ledger()[len(self._executions_before) :]:
            record = by_id.get(execution.job_id)
            if record is not None and record.doubt is not None:
                continue
            last = next(d for d in reversed(self._ledger()) if d.job_id == execution.job_id)
            _require(_tells(record, last), f"{last.verb} of {last.job_id} was done, and the record is {record}")

    def converge(self) -> None:
        """Apply until nothing is left to do, settle doubts as a person would, and check all rules of the end."""
        for _ in range(ROUNDS):
            ended = self.run(*self._scenario.again)
            output = ended.out + ended.err
            _require("Traceback" not in output, f"a traceback: {output}")
            if ended.code == 0:
                break
            _require(ended.code in (3, 5), f"applied again, it exits {ended.code}: {output}")
            doubtful = {name: record for name, record in self._state().jobs.items() if record.doubt is not None}
            _require(bool(doubtful) == (ended.code == 5), f"exit {ended.code} with {len(doubtful)} in doubt: {output}")
            for name, record in doubtful.items():
                assert record.doubt is not None
                for word in (f"resolve {name} ", str(record.doubt.verb)):
                    _require(word in output, f"exit 5 does not say {word!r}: {output}")
            # The next apply settles a call by itself if the engine can observe it. A person settles only what stays in
            # doubt.
            if doubtful and all(name in self._unsettled for name in doubtful):
                self._resolve_all()
            self._unsettled = frozenset(doubtful)
        else:
            raise Broken(f"{ROUNDS} applies did not bring it to rest: {output}")
        self._check_end()

    _unsettled: frozenset[str] = frozenset()

    def _check_end(self) -> None:
        executions = self._ledger()
        for job_id, count in self._scenario.runs.items():
            ran = [execution for execution in executions if execution.job_id == job_id and execution.verb is Verb.RUN]
            _require(len(ran) == count, f"{job_id} was run {len(ran)} times, and {count} were asked for")
        records = self._state().jobs
        # The next write of the state drops a spent record. No write is made for that alone.
        spent = {name for name, record in records.items() if record.state is ABSENT} - self._scenario.final.keys()
        found = {name: record.state for name, record in records.items() if name not in spent}
        _require(found == self._scenario.final, f"the state says {found}")
        for name, record in records.items():
            last = next((execution for execution in reversed(executions) if execution.job_id == record.id), None)
            _require(_tells(record, last), f"the state says {record} of {name}, and the ledger {last}")
        self._check_counts(executions)
        self._check_history(executions)
        files = self._files()
        kept = {"jobs.yaml", "jobs.state.json", "jobs.history.jsonl", "plan.json"}
        _require(set(files) <= kept, f"left over: {sorted(files)}")
        _require(self.run(*self._scenario.again).code == 0, "one more apply fails")
        _require(self._files() == files, "one more apply changes a file")
        _require(self._ledger() == executions, "one more apply does something")
        plan = self.run("plan", "--format", "json")
        kinds = {action["action"] for action in json.loads(plan.out)["actions"]}
        _require(plan.code == 0 and kinds <= {"noop"}, f"the plan is not empty: {plan.out}")

    def _check_counts(self, executions: Sequence[Execution]) -> None:
        """Check that the state has counted each run, and nothing else. A state that was lost may have counted fewer."""
        counted = Counter(self._state().last)
        ran = Counter(execution.job_id for execution in executions if execution.verb is Verb.RUN)
        is_right = counted <= ran if self._scenario.lose else counted == ran
        _require(is_right, f"{ran} were executed, and the state counts {counted}")

    def _check_history(self, executions: Sequence[Execution]) -> None:
        """Check that the history lists each execution once, as done or as settled so, and no other execution."""
        text = (self._folder / "jobs.history.jsonl").read_text()
        lines = [line for line in map(json.loads, text.splitlines()) if line["verb"] in {verb.value for verb in Verb}]
        settled = {line["op"]: line["outcome"] for line in lines if line["outcome"] in ("applied", "not-applied")}
        call_lines = [line for line in lines if line["outcome"] not in ("applied", "not-applied")]
        twice = [op for op, times in Counter(line["op"] for line in call_lines).items() if times > 1]
        _require(not twice and len(lines) == len(call_lines) + len(settled), f"told twice: {twice} in {text}")
        counted = Counter(
            (line["id"], line["verb"] == Verb.RUN)
            for line in call_lines
            if settled.get(line["op"], line["outcome"]) in ("succeeded", "applied")
        )
        done = Counter(
            (execution.job_id, execution.verb is Verb.RUN) for execution in executions
        )  # to abort a draft deletes it
        if any("drain" in fault for fault in self._scenario.faults):
            # If two observations during a drain show no trace of an abort, the history lists the abort as not done, and
            # the abort is sent again.
            _require(counted <= done, f"the history tells {counted}, and the ledger {done}: {text}")
            counted, done = (Counter({key: n for key, n in each.items() if key[1]}) for each in (counted, done))
        _require(counted == done, f"the history tells {counted}, and the ledger {done}: {text}")
        checked = self.run("history", "--check")
        _require(checked.code == 0, f"the history is not whole: {checked.out}")

    def _resolve_all(self) -> None:
        """Settle each doubt by the ledger, as a person would who looks the job up."""
        for name, record in self._state().jobs.items():
            if record.doubt is None:
                continue
            done = [execution for execution in self._ledger() if execution.job_id == record.id]
            if record.doubt.verb is Verb.RUN:
                before = [
                    execution
                    for execution in self._executions_before
                    if execution.job_id == record.id and execution.verb is Verb.RUN
                ]
                was_applied = len([execution for execution in done if execution.verb is Verb.RUN]) > len(before)
            else:
                was_applied = bool(done) and done[-1].verb in (record.doubt.verb, Verb.DELETE)
            ended = self.run("resolve", name, "--applied" if was_applied else "--not-applied")
            _require(ended.code == 0, f"resolve exits {ended.code}: {ended.err}")
            self.settled += 1

    def _state(self) -> State:
        target = Target("bytenite", self._endpoint)
        try:
            loaded = load(OsDisk(), str(self._folder / "jobs.state.json"), target)
        except StateError as fault:
            raise Broken(f"the state can't be read: {fault.message}") from fault
        return State("", 0, target, {}) if loaded is None else loaded.state

    def _ledger(self) -> list[Execution]:
        return ledger(self._db)

    def _files(self) -> dict[str, bytes]:
        """Return the user's files; the marks lie elsewhere."""
        return {path.name: path.read_bytes() for path in self._folder.iterdir() if path.is_file()}

    def _write(self, jobs: str) -> None:
        lines = "\n".join(f"  {line}" for line in jobs.splitlines())
        text = (
            f"apiVersion: reconciler/v1\ntarget: {{engine: bytenite, endpoint: '{self._endpoint}'}}\njobs:\n{lines}\n"
        )
        (self._folder / "jobs.yaml").write_text(text)

    @staticmethod
    def _kill_after(verb: Verb) -> Callable[[int, ptrace.Call], ptrace.Verdict]:
        """Kill the program before it writes the first result of this verb: the call is done but not recorded."""
        sent: list[str] = []

        def decide(_: int, call: ptrace.Call) -> ptrace.Verdict:
            if call.name == "sendto" and (request := _REQUEST.match(call.content)):
                sent.append((request[3] or b"delete").decode())
            is_result = call.name == "pwrite64" and b'"type":"result"' in call.content
            return ptrace.Kill() if is_result and sent[-1] == verb else None

        return decide

    def _program(self, arguments: Sequence[str]) -> None:
        """Turn this process into the program; never return."""
        signal.alarm(DEADLINE_S)
        for number in _SIGNALS:  # a shell's background job ignores SIGINT, and the program would inherit that
            signal.signal(number, signal.SIG_DFL)
        if not self._fresh_program:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # as an interpreter does at its start
        os.chdir(self._folder)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        for descriptor, name in ((1, "out"), (2, "err")):
            file = os.open(f"{self._output}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, descriptor)
        own = {"XDG_STATE_HOME": str(self._folder / ".marks"), "XDG_CACHE_HOME": str(self._folder / ".cache")}
        os.environ.update(own, USER="ada", BYTENITE_ACCESS_TOKEN=served_apart.TOKEN)
        if self._fresh_program:
            os.execv(sys.executable, [sys.executable, "-m", "reconciler", *arguments])
        from reconciler import cli
        from reconciler.state import writer

        if self._scenario.checkpoint_bytes:
            writer.CHECKPOINT_BYTES = self._scenario.checkpoint_bytes
        sys.argv = ["reconciler", *arguments]
        code = 70
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        except BaseException:  # noqa: BLE001  as the interpreter does
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(code)

    def _ended(self, code: int) -> Ended:
        out, err = (Path(f"{self._output}.{name}") for name in ("out", "err"))
        return Ended(code, out.read_text() if out.exists() else "", err.read_text() if err.exists() else "")


def _tells(record: Record | None, last: Execution | None) -> bool:
    """Whether a record agrees with the last execution of its job."""
    match last.verb if last else None:
        case None:
            return record is None or record.state in (ABORTED, ABSENT)
        case Verb.RUN:
            assert last is not None
            return record is not None and record.state is RUNNING and dict(record.config) == dict(last.config)
        case Verb.ABORT:
            return record is not None and record.state is ABORTED
        case Verb.DELETE:  # to abort a draft deletes it; after a prune a job has no record
            return record is None or record.state in (ABSENT, ABORTED)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)


class Prepared(NamedTuple):
    """A scenario after its preparation: a copy of all files, and the values that no file holds."""

    copy: Path
    counts: bytes
    executions_before: Sequence[Execution]
    settled: int
    at_s: float


class Ground:
    """The place where the histories of one scenario run in turn: one folder and one port.

    The scenario is prepared once, and again when the preparation is `_STALE_S` old, since jobs are active for a limited
    time. If a scenario depends on the time between the preparation and the apply, each history has a preparation of its
    own.
    """

    def __init__(self, name: str, room: Path, *, fresh_program: bool) -> None:
        self.name = name
        self.fresh_program = fresh_program
        self._scenario = scenario = SCENARIOS[name]
        self._is_urgent = bool(scenario.killed_after) or any("drain" in fault for fault in scenario.faults)
        self._room = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=room))
        self._folder = self._room / "now"
        self._prepared: Prepared | None = None
        self._port = socket.socket()
        # A bound socket reserves the port while no server runs. The socket does not listen, so that a server may.
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._port.bind(("127.0.0.1", 0))

    def close(self) -> None:
        self._port.close()
        shutil.rmtree(self._room)

    def history(self) -> History:
        """Return a prepared history. Raises `Broken` if the preparation fails."""
        if self._is_urgent:
            history = self._begun()
        else:
            prepared = self._prepared
            if prepared is None or time.monotonic() - prepared.at_s > _STALE_S:
                prepared = self._prepared = self._prepare()
            self._clear()
            shutil.copytree(prepared.copy, self._folder, dirs_exist_ok=True)
            history = self._new(prepared)
        return history

    def _prepare(self) -> Prepared:
        copy = self._room / "prepared"
        shutil.rmtree(copy, ignore_errors=True)
        with self._begun() as history:
            prepared = history.prepared(copy)
        # The server has been killed. Everything that it committed is in its files, as after any kill.
        shutil.copytree(self._folder, copy)
        return prepared

    def _begun(self) -> History:
        """Return a history with a preparation of its own."""
        self._clear()
        history = self._new(None)
        try:
            history.prepare()
        except BaseException:
            history.__exit__()
            raise
        return history

    def _new(self, prepared: Prepared | None) -> History:
        port = self._port.getsockname()[1]
        return History(self._scenario, self._folder, fresh_program=self.fresh_program, port=port, prepared=prepared)

    def _clear(self) -> None:
        if self._folder.exists():
            shutil.rmtree(self._folder)
        self._folder.mkdir()


_STALE_S = 60.0

_grounds: list[Ground] = []
"""The ground that this worker uses, if any."""


def _ground(name: str, *, fresh_program: bool = False) -> Ground:
    if not _grounds or (_grounds[0].name, _grounds[0].fresh_program) != (name, fresh_program):
        while _grounds:
            _grounds.pop().close()
        _grounds.append(Ground(name, _room(), fresh_program=fresh_program))
    return _grounds[0]


@cache
def _room() -> Path:
    """Return the folder of all workers; it is removed when the process that made it ends."""
    folder = Path(tempfile.mkdtemp(prefix="crash-", dir=_ROOM))
    # A worker forgets this, and leaves the folder. A `TemporaryDirectory` would remove itself once it is forgotten.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def judge(broken: Break, *, fresh_program: bool = False) -> Verdict:
    """Play one history with this break, from the preparation to the check of the end."""
    try:
        begun = _ground(broken.scenario, fresh_program=fresh_program).history()
    except Broken as fault:
        return Verdict(broken, False, 0, str(fault))
    with begun as history:
        reached = False
        try:
            reached = _break(history, broken)
            history.converge()
        except Broken as fault:
            return Verdict(broken, reached, history.settled, str(fault))
        return Verdict(broken, reached, history.settled, "")


def _break(history: History, broken: Break) -> bool:
    scenario = SCENARIOS[broken.scenario]
    first, *others = broken.points
    ended, witness = history.trace(scenario.arguments, _decider(broken, first, history))
    reached = witness.reached
    output = f"exit {ended.code}: {ended.out}{ended.err}"
    _require("Traceback" not in ended.err, f"a traceback: {output}")
    if reached and broken.number in _SIGNALS:
        codes = {signal.SIGINT: {130}, signal.SIGTERM: {143, -signal.SIGTERM}, signal.SIGHUP: {143, -signal.SIGHUP}}
        allowed = {*codes[signal.SIGINT], *codes[signal.SIGTERM]} if broken.again else set[int]()
        allowed |= codes[signal.Signals(broken.number)]
        _require(ended.code in allowed, f"a signal's exit code is another: {output}")
    elif reached and broken.number == _CLEAN:
        _require(ended.code in (0, 1, 3, 4, 5), f"without lock and journal it ends in {output}")
        if history.has_kept:
            accepted = history.run("state", "accept")
            _require(accepted.code == 0, f"what was kept is not taken: {accepted.err}")
    elif reached and broken.number:
        _require(ended.code in (0, 1, 3, 5), f"a fault of the disk ends in {output}")
        _require(ended.code == 0 or ended.out + ended.err != "", "it fails without a word")
    elif reached:
        _require(ended.code == -signal.SIGKILL, f"it was to be killed: {output}")
    history.check_record()
    for point in others:
        _, witness = history.trace(scenario.again, _decider(broken, point, history))
        reached = witness.reached
        history.check_record()
    return reached


def _decider(broken: Break, point: int, history: History) -> Callable[[int, ptrace.Call], ptrace.Verdict]:
    def decide(number: int, call: ptrace.Call) -> ptrace.Verdict:
        if broken.number == _CLEAN:
            if number != point:
                return None
            history.clean()
            return ptrace.Signal(0)  # signal 0 has no effect on the program
        if number < point or (number > point and not broken.again):
            return None
        if number > point + 1 and broken.number in _SIGNALS:
            return None
        if not broken.number:
            return ptrace.Kill()
        if broken.number in _SIGNALS:
            other = signal.SIGTERM if broken.number == signal.SIGINT else signal.SIGINT
            return ptrace.Signal(broken.number if number == point else other)
        return ptrace.Fail(broken.number) if call.name in _failing(broken.number) and call.path != "socket" else None

    return decide


def _failing(number: int) -> Sequence[str]:
    return _TAKES_SPACE if number == errno.ENOSPC else _DISK_CALLS


def calls_of(name: str) -> list[ptrace.Call]:
    """Return the calls of a scenario's apply that nothing breaks."""
    found: list[ptrace.Call] = []
    with (
        suppress(Broken),  # the histories that follow report the fault
        _ground(name).history() as history,
    ):
        history.trace(SCENARIOS[name].arguments, lambda _, call: found.append(call))
    return found


def breaks(kind: str, name: str, found: Sequence[ptrace.Call], sample: int, chance: random.Random) -> list[Break]:
    """Return the breaks of one kind for one scenario: `sample` of them, or all if `sample` is 0."""
    points = range(len(found))
    match kind:
        case "kill":
            every = [Break(name, (at,)) for at in (*points, _NEVER)]
        case "twice":
            every = [Break(name, (at, second)) for at in points for second in points]
        case "signals":
            # One handler serves all three signals, so that each call meets one of them. The seed says which.
            every = [
                Break(name, (at,), number, again)
                for at, number in zip(points, chance.choices(_SIGNALS, k=len(points)), strict=True)
                for again in (False, True)
            ]
        case "cleaned":
            # Before the lock is taken, nobody has read the journal of a killed apply, and no copy of it exists. So the
            # breaks begin after that.
            first = _TAKES_THE_LOCK if SCENARIOS[name].killed_after else 0
            every = [Break(name, (at,), _CLEAN) for at in points[first:]]
        case _:
            every = [
                Break(name, (at,), number, again)
                for at in points
                for number in (errno.ENOSPC, errno.EIO)
                if found[at].path != "socket" and found[at].name in _failing(number)
                for again in (False, True)
            ]
    every = every or [Break(name, (_NEVER,))]
    return chance.sample(every, min(sample, len(every))) if sample else every


_NEVER = 10**9
"""No apply makes this many calls, so a break at this point leaves the apply unbroken."""

_ROOM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""A file system in memory: a kill loses nothing that was written."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="this scenario only; may be repeated")
    parser.add_argument("--sample", type=int, default=5, metavar="N", help="how many breaks of each scenario [5]")
    parser.add_argument("--all", action="store_true", help="every break")
    parser.add_argument("--seed", type=int, default=None, metavar="S", help="seed of the sample; a new seed is printed")
    parser.add_argument(
        "--part", type=tally.part, default=tally.Part(), metavar="K/N", help="part K of N equal parts [1/1]"
    )
    kind = parser.add_mutually_exclusive_group()
    for word in ("twice", "faults", "signals", "cleaned"):
        kind.add_argument(f"--{word}", dest="kind", action="store_const", const=word, default="kill")
    parser.add_argument("--point", metavar="K[,K]", help="this break only")
    parser.add_argument("--number", type=int, default=0, help="with --point: the error's or signal's number")
    parser.add_argument("--again", action="store_true", help="with --point: every later call too, or a second signal")
    parser.add_argument("--exec", dest="fresh", action="store_true", help="start the program afresh each time")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N")
    given = parser.parse_args()
    why_not = ptrace.unavailable()
    if why_not:
        print(f"skipped: {why_not}")
        return 0
    seed = random.randrange(10**6) if given.seed is None else given.seed
    names = given.scenario or list(SCENARIOS)
    fork_server.load_all()
    _room()  # before the workers are forked, so that all of them share the folder
    if given.point:
        assert len(names) == 1, "--point goes with one --scenario"
        points = tuple(map(int, given.point.split(",")))
        verdict = judge(Break(names[0], points, given.number, given.again), fresh_program=given.fresh)
        print(verdict)
        return 1 if verdict.fault else 0
    print(f"{given.kind}: {'all' if given.all else f'{given.sample} of each scenario'}, --seed {seed}", flush=True)
    totals = [0, 0, 0, 0]
    started_s = time.monotonic()
    with ProcessPoolExecutor(given.workers, mp_context=get_context("fork")) as pool:
        # All scenarios run at once, since a history spends much of its time waiting.
        begun = []
        for name, found in zip(names, pool.map(calls_of, names), strict=True):
            todo = breaks(given.kind, name, found, 0 if given.all else given.sample, random.Random(f"{seed}/{name}"))
            todo = [broken for broken in todo if given.part.has(sum(broken.points))]
            begun.append((name, len(found), pool.map(_judge_fresh if given.fresh else judge, todo)))
        for name, count, judged in begun:
            verdicts = list(judged)
            faults = [verdict for verdict in verdicts if verdict.fault]
            row = [len(verdicts), sum(v.reached for v in verdicts), sum(v.settled for v in verdicts), len(faults)]
            totals = [sum(pair) for pair in zip(totals, row, strict=True)]
            print(f"{name:24} {count:4} calls {_row(row)} {time.monotonic() - started_s:7.1f} s", flush=True)
            for verdict in faults:
                print(f"  FAULT {verdict.broken}\n    {verdict.fault}", flush=True)
    print(f"{'in all':24}            {_row(totals)} {time.monotonic() - started_s:7.1f} s")
    print(tally.last_line(given.kind, f"part {given.part}", totals[0], totals[-1]))
    return 1 if totals[-1] else 0


def _row(numbers: Sequence[int]) -> str:
    tried, reached, settled, faults = numbers
    return f"{tried:6} tried {reached:6} reached {settled:5} settled by a person {faults:4} faults"


def _judge_fresh(broken: Break) -> Verdict:
    return judge(broken, fresh_program=True)


if __name__ == "__main__":
    sys.exit(main())
