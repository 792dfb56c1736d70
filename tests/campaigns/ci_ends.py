"""End a CI step that applies, in each way and at many moments; then check that the remote knows every call.

    python tests/campaigns/ci_ends.py [--moments N] [--ways NAME...] [--in-turn] [--jobs N]

The moments are spread evenly, first over the time before the first call, then over the calls. After each end the
runner's disk is deleted. The harness then judges the remote, as the next runner reads the remote. For each call that
the server received, the state on the branch must hold the result, or the journal beside the state must hold the call as
in doubt. Then the next runner applies, and each job must have been run exactly as many times as the manifest asked for.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from pathlib import Path

from forge import Checkout, Forge, forge, git
from reconciler.host.disk import OsDisk
from reconciler.model.jobs import Desired, State
from reconciler.state.loading import load
from runner import Step, github_step, gitlab_step, thrown_away

STEADY = "abcdef"
"""These jobs are run again in each round. An active job is aborted first."""

LATENCY_S = 0.1
_BY_TIME = 0.25
"""The share of the moments that lie before the first call or shortly after."""

_CALLS = 16
"""The number of calls in a round."""

DEADLINE_S = 60.0
APPLY = ("apply", "--yes", "--push", "main", "--settle", "0.1")


def _github_cancels(step: Step) -> None:
    """Send the step's own process SIGINT, SIGTERM after 7.5 s, and SIGKILL after another 2.5 s."""
    for number, grace_s in ((signal.SIGINT, 7.5), (signal.SIGTERM, 2.5), (signal.SIGKILL, 0.0)):
        with suppress(ProcessLookupError):
            step.child.send_signal(number)
        if step.wait(grace_s):
            break


def _gitlab_cancels(step: Step) -> None:
    """Send SIGTERM to the process group, wait, and send SIGKILL to the group."""
    for number, grace_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 0.0)):
        with suppress(ProcessLookupError):
            os.killpg(step.child.pid, number)
        if step.wait(grace_s):
            break


def _interrupts_the_group(step: Step) -> None:
    """Send SIGINT to the process group, as Ctrl-C at a terminal does."""
    with suppress(ProcessLookupError):
        os.killpg(step.child.pid, signal.SIGINT)
    step.wait(DEADLINE_S)


def _kills_reconciler(step: Step) -> None:
    """Send SIGKILL to reconciler, as the kernel does when memory runs out."""
    if pid := step.program():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    step.wait(DEADLINE_S)


def _kills_the_step(step: Step) -> None:
    """Kill the step's own process; the kernel then signals reconciler, which gets a moment to end."""
    with suppress(ProcessLookupError):
        step.child.kill()
    step.wait(DEADLINE_S)
    time.sleep(0.5)


def _takes_the_machine_away(step: Step) -> None:
    """Kill all processes at once."""
    step.end_all()


WAYS: dict[str, tuple[Callable[..., Step], Callable[[Step], None]]] = {
    "github-cancels": (github_step, _github_cancels),
    "gitlab-cancels": (gitlab_step, _gitlab_cancels),
    "ctrl-c": (gitlab_step, _interrupts_the_group),
    "reconciler-killed": (github_step, _kills_reconciler),
    "step-killed": (github_step, _kills_the_step),
    "machine-gone": (gitlab_step, _takes_the_machine_away),
}


class Broken(Exception):
    """A rule does not hold."""


class Rounds:
    """A forge, and one step in each round, which the harness ends."""

    def __init__(self, place: Forge) -> None:
        self._place = place
        self._round = 0
        self._author = place.checkout()

    def ask(self) -> None:
        """Commit a manifest that asks for one more run of most jobs, one abort, one delete and one new job."""
        self._round += 1
        number = self._round
        jobs = [f'{name}: {{state: running, runToken: "{number}"}}' for name in STEADY]
        jobs += [f"g: {{state: {'running' if number % 2 else 'aborted'}}}"]
        jobs += [f"x{number}: {{state: running}}", f"x{number - 1}: {{state: absent}}"]
        git(self._author.folder, "fetch", "-q", "origin")
        git(self._author.folder, "reset", "-q", "--hard", "FETCH_HEAD")
        self._author.write("\n".join(jobs))
        self._author.commit(f"Round {number}")

    def undisturbed_s(self, way: str) -> float:
        """Return how long the step of a round takes if nobody ends the step."""
        self.ask()
        step = self._start(way, self._place.checkout())
        started_s = time.monotonic()
        _expect(step.wait(DEADLINE_S) and step.child.returncode == 0, step.output)
        return time.monotonic() - started_s

    def _await_moment(self, step: Step, share: float, took_s: float, before: int) -> bool:
        """Wait for a moment, given by time or by the number of calls carried out; return whether the step has ended."""
        if share < _BY_TIME:
            return step.wait(share * took_s)
        wanted = (share - _BY_TIME) / (1 - _BY_TIME) * (_CALLS + 1)
        deadline_s = time.monotonic() + DEADLINE_S
        while len(self._place.done) - before < min(int(wanted), _CALLS) and time.monotonic() < deadline_s:
            if step.wait(0.002):
                return True
        # The moment lies between two calls, or between the last call and the end of the step.
        return step.wait((wanted % 1) * (LATENCY_S if wanted < _CALLS else took_s / 4))

    def end_once(self, way: str, share: float, took_s: float) -> str:
        """End one step in this way at this moment; return a description of the end. Raises `Broken`."""
        place = self._place
        self.ask()
        before = len(place.done)
        checkout = place.checkout()
        step = self._start(way, checkout)
        by_itself = self._await_moment(step, share, took_s, before)
        WAYS[way][1](step)
        step.end_all()
        output, sent = step.output, place.done[before:]
        # A signal that comes before the first line of the script raises Python's own KeyboardInterrupt.
        started = bool(sent) or "Plan" in output
        _expect("Traceback" not in output or (output.endswith("KeyboardInterrupt\n") and not started), output)
        self._judge(sent, output)
        thrown_away(checkout)
        settled = self._go_on(before, output)
        runs = Counter(job for verb, job in place.done if verb == "run")
        asked = {**dict.fromkeys(STEADY, self._round), "g": (self._round + 1) // 2}
        asked |= {f"x{number}": 1 for number in range(1, self._round + 1)}
        _expect(dict(runs) == asked, f"runs are {dict(runs)} and were to be {asked}: {output}")
        if settled:
            return "midway, and a person settled what the service can't tell"
        if by_itself:
            return "had ended"
        return "before the first call" if not sent else f"after {len(sent)} calls"

    def _go_on(self, before: int, output: str) -> bool:
        """Apply from another machine, and settle calls in doubt by the ledger; return whether there were any."""
        checkout = self._place.checkout()
        run = checkout.run(*APPLY)
        if run.code == 5:
            jobs = checkout.run("state", "list", "--format", "json").json["jobs"]
            doubtful = {name: record["inDoubt"]["verb"] for name, record in jobs.items() if "inDoubt" in record}
            for job, verb in doubtful.items():
                _expect(f"resolve {job}" in run.out + run.err, f"{job} is not named: {run.out}{run.err}")
                word = "--applied" if (verb, job) in self._place.done[before:] else "--not-applied"
                _expect(checkout.run("resolve", job, word).code == 0, f"{job} can't be settled")
            again = checkout.run(*APPLY)
            _expect(bool(doubtful) and again.code == 0, f"{again.out}{again.err}\n{output}")
            return True
        _expect(run.code == 0, f"the next apply exits {run.code}: {run.out}{run.err}\n{output}")
        return False

    def _start(self, way: str, checkout: Checkout) -> Step:
        return WAYS[way][0](checkout, RECONCILER_ARGS="--settle 0.1 --parallelism 2")

    def _judge(self, sent: Sequence[tuple[str, str]], output: str) -> None:
        """Check that the remote knows each call that was carried out in this round."""
        known = [state for state in (self._place.state(), self._rescued()) if state is not None]
        for verb, job in sent:
            _expect(
                any(self._knows(state, verb, job) for state in known),
                f"{verb} of {job} is not known on the remote: {output}",
            )

    def _knows(self, state: State, verb: str, job: str) -> bool:
        record = state.jobs.get(job)
        if record is None:
            # a job that was deleted leaves no record once the manifest no longer declares it
            return verb in ("delete", "abort")
        if record.doubt is not None:
            return True
        ran = record.state is Desired.RUNNING and (job not in STEADY or str(self._round) in record.run_tokens)
        match verb:
            case "run":
                return ran
            case "abort":  # an abort may be the first half of a restart or a delete, so the second half counts too
                return ran or record.state in (Desired.ABORTED, Desired.ABSENT)
            case _:
                return record.state is Desired.ABSENT

    def _rescued(self) -> State | None:
        place = self._place
        if "reconciler-rescue" not in place.branches:
            return None
        folder = place.folder / f"rescued-{self._round}"
        git(place.folder, "clone", "-q", "--branch=reconciler-rescue", f"file://{place.remote}", str(folder))
        found = load(OsDisk(), str(folder / "jobs.state.json"), None)
        return found.state if found else None


def _expect(holds: bool, why: str) -> None:
    if not holds:
        raise Broken(why)


def _some(ends: Sequence[tuple[str, float]]) -> list[tuple[str, float, str, str]]:
    """End one step for each (way, share); return (way, share, description of the end, fault or "")."""
    found = []
    rounds: Rounds | None = None
    took_s: dict[str, float] = {}
    with ExitStack() as stack:
        for way, share in ends:
            try:
                if rounds is None:
                    folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
                    slow = [f"{verb}:slow:seconds={LATENCY_S}" for verb in ("run", "abort", "delete")]
                    rounds = Rounds(stack.enter_context(forge(Path(folder), *slow)))
                took_s[way] = took_s.get(way) or rounds.undisturbed_s(way)
                found.append((way, share, rounds.end_once(way, share, took_s[way]), ""))
            except Exception:  # noqa: BLE001  every fault is shown at the end
                found.append((way, share, "broken", traceback.format_exc()))
                rounds = None
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--moments", type=int, default=200, metavar="N")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--in-turn", action="store_true", help="each moment in one way, and not in all")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="steps at once")
    given = parser.parse_args(arguments)
    ways = given.ways
    moments = [number / given.moments for number in range(given.moments)]
    ends = [(way, share) for share in moments for way in ways]
    if given.in_turn:
        ends = [(ways[number % len(ways)], share) for number, share in enumerate(moments)]
    counts: dict[str, Counter[str]] = {way: Counter() for way in ways}
    faults = []
    with ProcessPoolExecutor(given.jobs) as pool:
        for some in as_completed([pool.submit(_some, ends[first :: given.jobs]) for first in range(given.jobs)]):
            for way, share, end, fault in some.result():
                kind = "midway" if end.startswith("after") else end
                counts[way][kind] += 1
                if fault:
                    faults.append(f"{way}, {share:.3f} of the way: {fault}")
    for way, kinds in counts.items():
        print(f"{way}: {', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))}")
    print("\n".join([*faults, f"{len(ends)} ends, {len(faults)} broken"]), flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
