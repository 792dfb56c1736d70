"""Break the commands that mend a state (resolve, state mv, forget, accept, push) before each of their system calls.

    python tests/campaigns/mending.py                     every break of every case
    python tests/campaigns/mending.py --sample 10         so many of each case
    python tests/campaigns/mending.py --case NAME --point K [--number E] [--again]      one of them again

A command is broken by a kill, or by ENOSPC or EIO, at one call or at every call from there on. The state must then be
as it was before, or as the command was to leave it. The exit code is 1, or 0 if the failed call did not matter. The
output must name the next step, and must not be a traceback. The same command must succeed afterwards on a sound disk.
No call is sent to the service. The harness uses the tracer and the histories of `crash.py`.
"""

import argparse
import errno
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import crash
import fork_server
import ptrace
from crash import APPLY, CANNOT_READ, Break, Broken, History, Scenario
from reconciler.engines.sandbox.life import calls
from reconciler.host.disk import OsDisk
from reconciler.model.errors import StateError
from reconciler.model.jobs import Desired, Record, Target, Verb
from reconciler.state.codec import encode
from reconciler.state.loading import load


class Case(NamedTuple):
    """A state that needs mending, the command that mends it, and the records afterwards.

    The steps `applies` prepare the state. `killed` kills the last of these applies once the server has run its first
    job, before the result is on record. `then` is the manifest at the time of the command, if that differs; `spoil`
    damages the files.
    """

    command: tuple[str, ...]
    after: Mapping[str, Desired]
    applies: tuple[str, ...] = ("a: {state: running}\nb: {state: aborted}",)
    faults: tuple[str, ...] = ()
    killed: bool = False
    then: str = ""
    spoil: Callable[[Path], None] = lambda folder: None


def _edit(folder: Path) -> None:
    path = folder / "jobs.state.json"
    path.write_bytes(path.read_bytes().replace(b'"state": "aborted"', b'"state": "absent"'))


def _roll_back(folder: Path) -> None:
    """Lower the serial of the state, so that the marks show a roll-back."""
    path = folder / "jobs.state.json"
    path.write_bytes(path.read_bytes().replace(b'"serial": 2', b'"serial": 1'))


def _cut_journal(folder: Path) -> None:
    path = folder / "jobs.state.json.journal"
    path.write_bytes(path.read_bytes().rstrip(b"\0"))


def _make_newer(folder: Path) -> None:
    """Make a newer state to push, from the present state and its journal."""
    loaded = load(OsDisk(), str(folder / "jobs.state.json"), None)
    assert loaded is not None
    jobs = {**loaded.state.jobs, "b": loaded.state.jobs["b"]._replace(state=Desired.ABSENT)}
    newer = loaded.state._replace(serial=loaded.state.serial + 5, jobs=jobs)
    (folder.parent / "newer.json").write_bytes(encode(newer))


_STOPPED_FIRST = ("b: {state: running}", "a: {state: running}\nb: {state: aborted}")
"""An apply that aborts one job and then runs the other; if it is killed after the run, its journal holds both calls."""

_LOST = (*CANNOT_READ, "run:503:after:times=1")
_RUNNING, _ABORTED, _ABSENT = Desired.RUNNING, Desired.ABORTED, Desired.ABSENT

CASES: Mapping[str, Case] = {
    "resolve-applied": Case(("resolve", "a", "--applied"), {"a": _RUNNING, "b": _ABORTED}, faults=_LOST),
    "resolve-not-applied": Case(("resolve", "a", "--not-applied"), {"b": _ABORTED}, faults=_LOST),
    "resolve-after-a-kill": Case(
        ("resolve", "a", "--applied"), {"a": _RUNNING, "b": _ABORTED}, applies=_STOPPED_FIRST, killed=True
    ),
    "resolve-after-a-swap": Case(
        ("resolve", "a", "--applied"),
        {"b": _RUNNING},
        applies=("a: {state: running}\nb: {state: running}",),
        faults=(*CANNOT_READ, "run:503:after:times=2"),
        then="a: {id: b, state: running}\nb: {id: a, state: running}",
    ),
    "resolve-displaced": Case(
        ("resolve", "a (id a1)", "--applied"),
        {"a": _RUNNING, "b": _ABORTED},
        applies=("a: {id: a1, state: running}\nb: {state: aborted}",),
        faults=_LOST,
        then="a: {id: a2, state: running}\nb: {state: aborted}",
    ),
    "mv-displaced": Case(
        ("state", "mv", "a (id a1)", "c"),
        {"a": _RUNNING, "b": _ABORTED, "c": _RUNNING},
        applies=(
            "a: {id: a1, state: running}\nb: {state: aborted}",
            "a: {id: a2, state: running}\nb: {state: aborted}",
        ),
    ),
    "forget": Case(("state", "forget", "b"), {"a": _RUNNING}),
    "forget-after-a-kill": Case(("state", "forget", "b"), {}, applies=_STOPPED_FIRST, killed=True),
    "accept-an-edit": Case(("state", "accept"), {"a": _RUNNING, "b": _ABSENT}, spoil=_edit),
    "accept-an-older-one": Case(
        ("state", "accept"),
        {"a": _RUNNING, "b": _ABSENT},
        ("a: {state: running}\nb: {state: aborted}", "a: {state: running}\nb: {state: absent}"),
        spoil=_roll_back,
    ),
    "accept-a-cut-journal": Case(
        ("state", "accept"), {"b": _ABORTED}, applies=_STOPPED_FIRST, killed=True, spoil=_cut_journal
    ),
    "accept-a-cut-journal-that-swaps-names": Case(
        ("state", "accept"),
        {"a": _ABORTED},
        (
            "a: {state: running}\nb: {state: aborted}",
            'a: {id: b, state: aborted}\nb: {id: a, state: running, runToken: "2"}',
        ),
        killed=True,
        spoil=_cut_journal,
    ),
    "push-after-a-kill": Case(
        ("state", "push", "../newer.json"), {"b": _ABSENT}, applies=_STOPPED_FIRST, killed=True, spoil=_make_newer
    ),
}


class Patient:
    """One case, prepared once; each break starts from the same files."""

    def __init__(self, name: str, folder: Path) -> None:
        self._case = case = CASES[name]
        scenario = Scenario((), "", {}, {}, faults=case.faults)
        self._history = history = History(scenario, folder)
        self._project = folder / "project"
        self._db = folder / "server.db"
        for number, jobs in enumerate(case.applies, 1):
            history._write(jobs)
            if case.killed and number == len(case.applies):
                _, witness = history.trace((*APPLY, "--parallelism", "1"), History._kill_after(Verb.RUN))
                _require(witness.reached, "the preparation was not killed")
            else:
                ended = history.run(*APPLY)
                _require(ended.code == (5 if case.faults else 0), f"the preparation: {ended}")
        if case.then:
            history._write(case.then)
        case.spoil(self._project)
        self._files = {path: path.read_bytes() for path in self._project.rglob("*") if path.is_file()}
        self._sent = self._changes()
        self._before = self._recorded()

    def close(self) -> None:
        self._history.__exit__()

    def calls(self) -> list[ptrace.Call]:
        """Return the calls of the command that nothing breaks."""
        found: list[ptrace.Call] = []
        ended, _ = self._history.trace(self._case.command, lambda _, call: found.append(call))
        _require(ended.code == 0, f"unbroken, it ends in {ended}")
        _require(self._states() == self._case.after, f"unbroken, it leaves {self._states()}")
        return found

    def judge(self, broken: Break) -> str:
        """Break the command once; return the fault, "" for none."""
        self._restore()
        try:
            self._judge(broken)
        except Broken as fault:
            return str(fault)
        return ""

    def _judge(self, broken: Break) -> None:
        ended, witness = self._history.trace(
            self._case.command, crash._decider(broken, broken.points[0], self._history)
        )
        output = f"exit {ended.code}: {ended.out}{ended.err}"
        _require(witness.reached, "its point was not reached")
        _require("Traceback" not in output, output)
        if broken.number:
            _require(ended.code in (0, 1), output)
            _require(
                ended.code == 0 or ("error: " in ended.err and "\n  " in ended.err), f"no word on what to do: {output}"
            )
        now = self._recorded()
        is_done = now is not None and self._states() == self._case.after
        _require(is_done or now == self._before, f"the state is neither as before nor as after: {now}; {output}")
        _require(ended.code != 0 or is_done, f"it says that it is done: {output}")
        again = self._history.run(*self._case.command)
        _require(again.code == 0 or (is_done and again.code == 1), f"again, it ends in {again}")
        _require(self._states() == self._case.after, f"again, it leaves {self._states()}")
        _require(self._history.run("state", "list").code == 0, "the state can't be listed")
        left = {path.name for path in self._project.iterdir() if path.is_file()}
        _require(left == {"jobs.yaml", "jobs.state.json", "jobs.history.jsonl"}, f"left over: {sorted(left)}")
        _require(self._history.run("history", "--check").code == 0, "the history is not whole")
        _require(self._changes() == self._sent, "a call was sent")

    def _changes(self) -> list[str]:
        """Return the calls received that change a job."""
        return [call.path for call in calls(self._db) if call.method != "GET"]

    def _restore(self) -> None:
        for path in self._project.rglob("*"):
            if path.is_file() and path not in self._files:
                path.unlink()
        for path, content in self._files.items():
            path.write_bytes(content)

    def _recorded(self) -> Mapping[str, Record] | None:
        """Return the records in the files, None if the files are refused."""
        target = Target("bytenite", self._history._endpoint)
        try:
            loaded = load(OsDisk(), str(self._project / "jobs.state.json"), target)
        except StateError:
            return None
        return {} if loaded is None else loaded.state.jobs

    def _states(self) -> Mapping[str, Desired | None]:
        return {name: record.state for name, record in (self._recorded() or {}).items() if record.doubt is None}


_require = crash._require


def breaks(name: str, found: Sequence[ptrace.Call], sample: int, chance: random.Random) -> list[Break]:
    """Return the breaks of one case: `sample` of them, or all if `sample` is 0."""
    every = [Break(name, (at,)) for at in range(len(found))]
    every += [
        Break(name, (at,), number, again)
        for at, call in enumerate(found)
        for number in (errno.ENOSPC, errno.EIO)
        if call.name in crash._failing(number)
        for again in (False, True)
    ]
    return chance.sample(every, min(sample, len(every))) if sample else every


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--case", action="append", choices=CASES, help="this case only; may be repeated")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="how many breaks of each case")
    parser.add_argument("--seed", type=int, default=None, metavar="S", help="seed of the sample; a new seed is printed")
    parser.add_argument("--point", type=int, metavar="K", help="this break only")
    parser.add_argument("--number", type=int, default=0, help="with --point: the error's number, 0 for a kill")
    parser.add_argument("--again", action="store_true", help="with --point: every later call too")
    given = parser.parse_args()
    why_not = ptrace.unavailable()
    if why_not:
        print(f"skipped: {why_not}")
        return 0
    seed = random.randrange(10**6) if given.seed is None else given.seed
    fork_server.load_all()
    print(f"mending: {f'{given.sample} of each case, --seed {seed}' if given.sample else 'all'}", flush=True)
    tried, faults, started_s = 0, 0, time.monotonic()
    for name in given.case or CASES:
        with tempfile.TemporaryDirectory(prefix="mending-", dir=crash._ROOM) as folder:
            patient = Patient(name, Path(folder))
            try:
                found = patient.calls()
                todo = breaks(name, found, given.sample, random.Random(f"{seed}/{name}"))
                if given.point is not None:
                    todo = [Break(name, (given.point,), given.number, given.again)]
                verdicts = [(broken, patient.judge(broken)) for broken in todo]
            finally:
                patient.close()
        wrong = [(broken, fault) for broken, fault in verdicts if fault]
        print(f"{name:24} {len(found):4} calls {len(todo):5} tried {len(wrong):4} faults", flush=True)
        for broken, fault in wrong:
            call = found[broken.points[0]]
            number = f" --number {broken.number}" if broken.number else ""
            print(f"  FAULT --case {name} --point {broken.points[0]}{number}{' --again' if broken.again else ''}")
            print(f"    {call.name} {call.path}: {fault}", flush=True)
        tried, faults = tried + len(todo), faults + len(wrong)
    print(f"{'in all':24}            {tried:5} tried {faults:4} faults {time.monotonic() - started_s:7.1f} s")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
