"""A model of months with the tool: edits, applies, crashes, faults, other people, lost and old states.

After every step two rules must hold. No job is executed more often than a person asked for. Every execution has a
result or an open intent on record. The service's ledger and the model's own account of the person's wishes judge both
rules. The real planner, applier, journal and state run on a disk, a clock and a service in memory.

    python tests/campaigns/model.py --sequences 100000 --jobs 2 [--seed N]
"""

import argparse
import math
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from random import SystemRandom
from time import monotonic
from traceback import format_exc
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

import tally
from model_cluster import ClusterWorld
from model_others import Files, Others
from model_service import KEEPS_ENDED_S
from model_steps import Steps
from model_words import IDS
from model_world import ModelWorld
from reconciler.engines.port import Promises
from reconciler.engines.sandbox.life import Job as ServerJob
from reconciler.model.jobs import Desired

STEPS = 10


class Months(Steps, Files, Others):
    """The state machine; one instance is one history."""

    @initialize(
        reads=st.sampled_from((True, True, True, False)),
        create_missing=st.booleans(),
        job_seconds=st.sampled_from((30.0, 5000.0)),
        lenient=st.booleans(),
        drain_s=st.sampled_from((0.0, 0.0, 20.0, 200.0)),
        notes_after_s=st.sampled_from((None, None, 0.5, 70.0)),
        wordings=st.booleans(),
        lists=st.booleans(),
        creates=st.booleans(),
        cluster=st.booleans(),
        atomic=st.booleans(),
        chains=st.booleans(),
        keeps_ended_s=st.sampled_from((math.inf, KEEPS_ENDED_S, 900.0)),
        stages=st.booleans(),
        identity=st.sampled_from(({}, {"cluster": "one"}, {"cluster": "one", "namespace": "two"})),
    )
    def start(self, **service: Any) -> None:
        creates = service.get("creates", False)
        create_missing = service["create_missing"] and not creates
        if service.get("cluster", False):
            self.world = _cluster_world(**service)
            create_missing = False
        else:
            more = ("cluster", "atomic", "chains", "keeps_ended_s", "stages", "identity")
            given = {word: value for word, value in service.items() if word not in more}
            self.world = ModelWorld(**{**given, "create_missing": create_missing})
        if not create_missing and not creates:
            for job_id in IDS[:-1]:
                self.world.add_job(ServerJob(job_id, created_at=self.world.clock()))
        self._edit("a", ("state", Desired.RUNNING))

    @rule()
    def settle(self) -> None:
        """Apply repeatedly with nothing going wrong, and check that everything comes to rest."""
        self._check_nothing_is_owed(self.world.come_to_rest(self._apply))

    def teardown(self) -> None:
        if sys.exc_info()[0] is None and self.jobs:
            self.settle()


def _cluster_world(**service: Any) -> ClusterWorld:
    """Return a world whose engine has these promises. Only an engine whose run creates the job forgets a run."""
    creates = service.get("creates", False)
    promises = Promises(
        creates_on_run=creates,
        atomic_run=service.get("atomic", True),
        reads=service["reads"],
        lists=service["lists"],
        keeps_ended_s=service.get("keeps_ended_s", math.inf) if creates else math.inf,
        has_logs=False,
        chains=service.get("chains", False),
    )
    options = {word: service[word] for word in ("job_seconds", "lenient", "drain_s")}
    return ClusterWorld(promises, stages=service.get("stages", False), identity=service.get("identity", {}), **options)


def run(sequences: int, number: int) -> None:
    """Play `sequences` histories with this seed.

    Raises the error of the first broken rule, with its steps minimized.
    """
    wanted = settings(
        max_examples=sequences,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        derandomize=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    machine: Callable[[type[Months]], type[Months]] = seed(number)
    run_state_machine_as_test(machine(type("Months", (Months,), {})), settings=wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description="Play histories, and check both rules after every step.")
    parser.add_argument("--sequences", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(2**32))
    given = parser.parse_args()
    share = 2500
    parts = [min(share, given.sequences - done) for done in range(0, given.sequences, share)]
    print(f"{given.sequences} histories of up to {STEPS} steps, --seed {given.seed}", flush=True)
    started_s = monotonic()
    played = 0
    with ProcessPoolExecutor(given.jobs) as pool:
        numbers = range(given.seed, given.seed + len(parts))
        for size, number, broken in zip(parts, numbers, pool.map(_broken, parts, numbers), strict=True):
            if broken:
                sys.exit(
                    f"{broken}\nplay it again: "
                    f"{tally.PYTHON} tests/campaigns/model.py --sequences {size} --jobs 1 --seed {number}"
                )
            played += size
            print(f"{played} played, no rule broken, {monotonic() - started_s:.0f} s", flush=True)
    first, last = given.seed, given.seed + len(parts) - 1
    print(tally.last_line("model", f"--seed {first} to {last} (other histories from {last + 1} on)", played, 0))


def _broken(sequences: int, number: int) -> str:
    """Return how a rule was broken and the steps that led to the break, "" if no rule was broken."""
    try:
        run(sequences, number)
    except Exception:  # noqa: BLE001  the parent process gets the traceback as text
        return format_exc()
    return ""


if __name__ == "__main__":
    main()
