"""Breaks what starts jobs on a real Slurm controller, in eight ways, and counts what was released and executed.

    python tests/campaigns/slurm_torture.py --rounds 150 --seed 1

The controller keeps each job of the campaign, and each job notes its start in a file. So neither count comes from the
engine or from the state. Whatever is broken, one job of each run was released, and it was executed once. A run that was
asked for and not executed is one that the last command has named, with exit code 4.

    killed     an apply is killed with SIGKILL at a random moment; then applies follow until nothing is left to do
    commands   the commands that submit, release and cancel are killed in the middle of it; then as above
    lost       requests to the controller or its answers are lost; then as above
    late       a submission arrives after its sender has given up; then as above
    applies    eight applies of one manifest with copies of one state, at the same moment
    engines    eight engines send one run at the same moment: one call, calls for the same, or for different configs
    older      the state is an older copy, on a machine that has neither its marks nor its history
    gone       the state is lost, after an apply that has ended or was killed; an apply holds what is there, or
               `state rebuild` comes first
"""

import os
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from slurm.cluster import Accounting, Cluster, missing
from slurm.wrappers import wrapped

from reconciler.engines.port import Config, Engine, Surroundings
from reconciler.engines.slurm.plugin import PLUGIN
from slurm_record import Record
from torture import Folder, Found, Round, Torture, first, parser, paused, tally, verdict

KINDS = ("killed", "commands", "lost", "late", "applies", "engines", "older", "gone")
ROUNDS_OF_A_CLUSTER = 60
"""Each command reads all jobs of the controller. So the rounds move on to an empty one."""


class SlurmTorture(Torture):
    """The rounds of one kind, each on a cluster of its own."""

    answers_once = False

    def __init__(self, folder: Path, seed: str, accounting: Accounting | None) -> None:
        super().__init__(folder, seed, apply_s=0.5)
        self._accounting = accounting
        self._rounds = 0
        self._cluster: Cluster | None = None
        self._record: Record | None = None

    def rounds(self) -> Mapping[str, Callable[[str], Round]]:
        return {
            "killed": self.killed,
            "commands": lambda name: self._wrapped(name, "killed"),
            "lost": lambda name: self._wrapped(name, self.random.choice(("unsent", "lost"))),
            "late": lambda name: self._wrapped(name, "late"),
            "applies": self.applies,
            "engines": self.engines,
            "older": self.older,
            "gone": self.stateless,
        }

    def one_round(self, kind: str, number: int) -> Found:
        if self._rounds % ROUNDS_OF_A_CLUSTER == 0:
            self.stack.close()
            name = f"torture{secrets.token_hex(4)}"
            self._cluster = self.stack.enter_context(Cluster(name, accounting=self._accounting, min_job_age_s=36_000))
            self._record = Record(self._cluster, self.folder)
        self._rounds += 1
        return super().one_round(kind, number)

    @property
    def cluster(self) -> Cluster:
        assert self._cluster is not None
        return self._cluster

    @property
    def record(self) -> Record:
        assert self._record is not None
        return self._record

    def project(self, name: str) -> Folder:
        return Folder(self.folder / name, {"engine": "slurm", "conf": str(self.cluster.conf)}, self.cluster.env)

    def config(self, job: str) -> Config:
        return {"script": self.record.script}

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        target, env = PLUGIN.target({"conf": str(self.cluster.conf)}, str(self.folder)), self.cluster.env
        around = Surroundings(env, paused, lambda text: None, time.monotonic, time.time, 1, None, os.devnull)
        with PLUGIN.open(target, around) as engine:
            yield engine

    def there(self, jobs: Sequence[str]) -> Collection[str]:
        # A command of an apply that was killed may still be at work.
        self.record.wait_for_commands()
        return {run for run in self.record.released() if run.rpartition("-")[0] in jobs}

    def wait_for_idle(self) -> None:
        self.record.wait_for_idle()

    def judge(self, runs: Sequence[str]) -> None:
        self.record.judge(runs)

    def kill(self, project: Folder, jobs: Sequence[str]) -> str:
        moment = super().kill(project, jobs)
        return "some held" if moment == "none there" and self.record.left() else moment

    def _wrapped(self, name: str, word: str) -> Round:
        """Apply with commands that fail, and then with those that do not. What is late arrives in between, or after."""
        project, jobs = self.begun(name)
        path = wrapped(project.folder / "wrapped", word, self.random.choice((0.2, 0.5, 1.0)))
        code = project.apply(PATH=path).code
        assert code in (0, 1, 3, 4, 5), code
        if self.random.random() < 0.5:
            self.record.wait_for_commands()
        end = project.settle().codes
        self.record.wait_for_commands()
        return first(jobs), word, f"{code} {end}"


def torture(folder: Path, kind: str, rounds: int, seed: str, accounting: Accounting | None = None) -> Counter[Found]:
    """Carry out so many rounds of a kind, and return how often each end was found."""
    own = folder / kind
    own.mkdir()
    return tally(SlurmTorture(own, f"{seed}-{kind}", accounting), kind, rounds)


def main() -> int:
    options = parser(__doc__, KINDS, rounds=150)
    options.add_argument("--accounting", action="store_true", help="with accounting")
    given = options.parse_args()
    if reason := missing():
        print(f"skipped: {reason}")
        return 1
    with ExitStack() as stack:
        accounting = stack.enter_context(Accounting()) if given.accounting else None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        return verdict(given, lambda kind: torture(folder, kind, given.rounds, str(given.seed), accounting))


if __name__ == "__main__":
    sys.exit(main())
