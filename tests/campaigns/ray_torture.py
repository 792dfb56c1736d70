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

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from ray.between import Between, Loss
from ray.cluster import Cluster, missing

from ray_record import Record
from reconciler.engines.port import Config, Engine, Surroundings
from reconciler.engines.ray.plugin import PLUGIN
from torture import Folder, Found, Round, Torture, first, parser, paused, tally, verdict

KINDS = ("killed", "cut", "applies", "engines", "restarted")
_HELD = (4, 5)


class RayTorture(Torture):
    """The rounds on one head."""

    jobs = 3

    def __init__(self, cluster: Cluster, folder: Path, seed: str) -> None:
        super().__init__(folder, seed, apply_s=1.0)
        self._cluster = cluster
        self._record = Record(cluster, folder)
        self._may_be_lost: Sequence[str] = ()
        """The runs of the round that the head may have taken and not begun."""

    def rounds(self) -> Mapping[str, Callable[[str], Round]]:
        return {
            "killed": self.killed,
            "cut": self._cut,
            "applies": self.applies,
            "engines": self.engines,
            "restarted": self._restarted,
        }

    def one_round(self, kind: str, number: int) -> Found:
        self._may_be_lost = ()
        return super().one_round(kind, number)

    def project(self, name: str) -> Folder:
        # The address of the target is the same, whatever leads there.
        return Folder(self.folder / name, {"engine": "ray"}, {"RAY_ADDRESS": self._cluster.address})

    def config(self, job: str) -> Config:
        return {"script": self._record.script}

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        target = PLUGIN.target({"address": self._cluster.address}, "/")
        beside = str(self.folder / "beside")
        around = Surroundings(os.environ, paused, lambda text: None, time.monotonic, time.time, 1, None, beside)
        with PLUGIN.open(target, around) as engine:
            yield engine

    def there(self, jobs: Sequence[str]) -> Collection[str]:
        return {run for run in first(jobs) if self._cluster.job(run) is not None}

    def wait_for_idle(self) -> None:
        self._record.wait_for_idle()

    def judge(self, runs: Sequence[str]) -> None:
        self._record.judge(runs, may_be_lost=self._may_be_lost)

    def _cut(self, name: str) -> Round:
        project, jobs = self.begun(name)
        loss = self.random.choice((Loss.UNSENT, Loss.LOST, Loss.LATE))
        chance = self.random.choice((1.0, 0.4))
        with Between(*self._cluster.place, loss, chance, self.random.getrandbits(32)) as between:
            code = project.apply(RAY_ADDRESS=between.address).code
            assert code in (0, 1, 3, 4, 5), code
        moment = f"{loss}, {'some' if between.lost else 'no'} request lost"
        return first(jobs), moment, f"{code} {project.settle().codes}"

    def _restarted(self, name: str) -> Round:
        """Kill the head at a random moment of an apply. What it has begun before may have been executed or not."""
        project, jobs = self.begun(name)
        is_killed = self.random.random() < 0.3
        after_s = self.random.uniform(0, self.apply_s * 1.5)
        with ThreadPoolExecutor(1) as pool:
            began_s = time.monotonic()
            applying = pool.submit(project.killed_apply, after_s + 0.05 if is_killed else 300.0)
            time.sleep(after_s)
            self._cluster.kill()
            applying.result()
        before = self._record.executed(jobs)
        self._cluster.start()
        if not is_killed:
            self.apply_s = min(3.0, max(0.3, min(self.apply_s, time.monotonic() - began_s)))
        end, last = project.settle(*_HELD)
        self._may_be_lost = [run for run in first(jobs) if run not in before]
        self._record.wait_for_idle()
        for run in first(jobs):
            if run not in self._record.executed(jobs):
                assert last.code in _HELD, last
                assert run.rpartition("-")[0] in last.out + last.err, (run, last)
        how = "none" if not before else "all" if len(before) == len(jobs) else "some"
        return first(jobs), f"{how} executed before{', apply killed' if is_killed else ''}", end


def torture(cluster: Cluster, folder: Path, kind: str, rounds: int, seed: str) -> Counter[Found]:
    """Carry out so many rounds of a kind, and return how often each end was found."""
    own = folder / kind
    own.mkdir()
    return tally(RayTorture(cluster, own, f"{seed}-{kind}"), kind, rounds)


def main() -> int:
    given = parser(__doc__, KINDS, rounds=50).parse_args()
    if reason := missing():
        print(f"skipped: {reason}")
        return 1
    with Cluster() as cluster, tempfile.TemporaryDirectory() as folder:
        return verdict(given, lambda kind: torture(cluster, Path(folder), kind, given.rounds, str(given.seed)))


if __name__ == "__main__":
    sys.exit(main())
