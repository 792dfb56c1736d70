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

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from kubernetes.cluster import Cluster, missing

from kubernetes_record import Record
from reconciler.engines.kubernetes.plugin import PLUGIN
from reconciler.engines.port import Config, Engine, Surroundings
from reconciler.testing.proxy import Fault, FaultProxy
from torture import Folder, Found, Round, Torture, first, parser, paused, tally, verdict

KINDS = ("killed", "cut", "applies", "engines", "older", "lost")
ROUNDS_OF_A_NAMESPACE = 60
"""A server goes through all objects of a namespace for each list. So the rounds move on to an empty one."""
_HANDSHAKE_PIECES = 2
"""What a client of TLS 1.3 sends before its first request; see tests/kubernetes/service.py."""


class KubernetesTorture(Torture):
    """The rounds on one cluster."""

    def __init__(self, cluster: Cluster, folder: Path, seed: str) -> None:
        super().__init__(folder, seed, apply_s=0.3)
        self._cluster = cluster
        self._rounds = 0
        self._record: Record | None = None

    def rounds(self) -> Mapping[str, Callable[[str], Round]]:
        return {
            "killed": self.killed,
            "cut": self._cut,
            "applies": self.applies,
            "engines": self.engines,
            "older": self.older,
            "lost": self.stateless,
        }

    def one_round(self, kind: str, number: int) -> Found:
        if self._rounds % ROUNDS_OF_A_NAMESPACE == 0:
            self.stack.close()
            self._record = self.stack.enter_context(Record(self._cluster, self.folder))
        self._rounds += 1
        return super().one_round(kind, number)

    @property
    def record(self) -> Record:
        assert self._record is not None
        return self._record

    def project(self, name: str) -> Folder:
        target = {"engine": "kubernetes", "namespace": self.record.namespace, "allowOldServer": True}
        return Folder(self.folder / name, target, {"KUBECONFIG": str(self._cluster.kubeconfig)})

    def config(self, job: str) -> Config:
        return {"image": "i", "script": self.record.script(job)}

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        block = {"kubeconfig": str(self._cluster.kubeconfig), "namespace": self.record.namespace}
        target = PLUGIN.target({**block, "allowOldServer": True}, "/")
        beside = str(self.folder / "beside")
        around = Surroundings(os.environ, paused, lambda text: None, time.monotonic, time.time, 1, None, beside)
        with PLUGIN.open(target, around) as engine:
            yield engine

    def there(self, jobs: Sequence[str]) -> Collection[str]:
        return {run for run in self.record.created() if run.rpartition("-")[0] in jobs}

    def wait_for_idle(self) -> None:
        self.record.wait_for_idle()

    def judge(self, runs: Sequence[str]) -> None:
        self.record.judge(runs)

    def _cut(self, name: str) -> Round:
        project, jobs = self.begun(name)
        fault = self.random.choice((Fault.UNSENT, Fault.LOST))
        # Either the n-th request of each connection is cut, or any of them with a chance.
        spared, chance = self.random.choice(((self.random.randint(0, 9), 1.0), (0, 0.4)))
        with FaultProxy(
            *self._cluster.place,
            fault=fault,
            chance=chance,
            spared=_HANDSHAKE_PIECES + spared,
            seed=self.random.getrandbits(32),
            work_s=0.1,
        ) as proxy:
            through = self._cluster.kubeconfig_for(f"https://127.0.0.1:{proxy.port}")
            code = project.apply(KUBECONFIG=str(through)).code
            assert code in (0, 1, 3, 4, 5), code
            moment = f"{fault}, {'some' if proxy.broken else 'no'} request cut"
        return first(jobs), moment, f"{code} {project.settle().codes}"


def torture(cluster: Cluster, folder: Path, kind: str, rounds: int, seed: str) -> Counter[Found]:
    """Carry out so many rounds of a kind, and return how often each end was found."""
    own = folder / kind
    own.mkdir()
    return tally(KubernetesTorture(cluster, own, f"{seed}-{kind}"), kind, rounds)


def main() -> int:
    options = parser(__doc__, KINDS, rounds=150)
    options.add_argument("--jobs", type=int, default=3, help="the kinds at a time")
    given = options.parse_args()
    if reason := missing():
        print(f"skipped: {reason}")
        return 1
    with Cluster() as cluster, tempfile.TemporaryDirectory() as folder:

        def carried_out(kind: str) -> Counter[Found]:
            return torture(cluster, Path(folder), kind, given.rounds, str(given.seed))

        return verdict(given, carried_out, at_a_time=given.jobs)


if __name__ == "__main__":
    sys.exit(main())
