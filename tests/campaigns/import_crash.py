"""Kill an import before each of its system calls on files, and check the files that it leaves.

    python tests/campaigns/import_crash.py [POINT]...     all of them, or some again
    python tests/campaigns/import_crash.py --every N      each N-th alone

After each kill, no entry stands in the manifest without its record, and an apply runs nothing. One more import
succeeds, and then the plan is empty, as if no import had been killed.
"""

import argparse
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import crash
import fork_server
import ptrace
from reconciler.manifest.parse import parse
from reconciler.usecases.engines import plugin_named

WORLD = crash.Scenario(
    before=(crash.Step("a: {state: running}\nb: {state: running}"),),
    jobs="z: {state: aborted}",
    runs={},
    final={},
    lose=("jobs.state.json",),
)
AFRESH = ("--state", "jobs.state.json")
IMPORT = ("import", "--all", *AFRESH)


def judge(point: int) -> tuple[int, str]:
    """Play one kill; return the number of calls before it, and the fault, "" for none."""
    numbers = count()

    def decide(_: int, call: ptrace.Call) -> ptrace.Verdict:
        return ptrace.Kill() if call.path != "socket" and next(numbers) == point else None

    with tempfile.TemporaryDirectory(prefix="import-") as folder, crash.History(WORLD, Path(folder)) as history:
        history.prepare()
        runs = history._ledger()
        try:
            ended, witness = history.trace(IMPORT, decide)
            reached = next(numbers)
            assert witness.reached or ended.code == 0, ended.err
            declared = parse([("jobs.yaml", (Path(folder) / "project" / "jobs.yaml").read_bytes())], plugin_named).jobs
            recorded = history._state().jobs
            assert set(declared) - {"z"} <= set(recorded), f"{sorted(declared)} declared, {sorted(recorded)} recorded"
            applied = history.run("apply", "--yes", *AFRESH)
            assert applied.code == 0, applied.err
            again = history.run(*IMPORT)
            assert again.code == 0, again.err
            plan = history.run("plan", "--refresh", *AFRESH)
            assert plan.out == "No changes: 3 jobs are as recorded.\n", plan.out
            assert history._ledger() == runs, "an import or the apply after it did something"
        except (AssertionError, crash.Broken) as fault:
            return point, f"killed before call {point}: {fault}"
        return reached, ""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("points", nargs="*", type=int, metavar="POINT", help="the numbers of calls")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each N-th call only")
    given = parser.parse_args()
    why_not = ptrace.unavailable()
    if why_not:
        print(f"skipped: {why_not}")
        return 0
    fork_server.load_all()
    points = given.points or range(0, judge(-1)[0], given.every)
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        faults = [fault for _, fault in pool.map(judge, points) if fault]
    print("\n".join([*faults, f"{len(points)} tried, {len(faults)} faults"]))
    return 1 if faults or not points else 0


if __name__ == "__main__":
    sys.exit(main())
