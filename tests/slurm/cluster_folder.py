"""A folder with a manifest whose jobs are those of a Slurm cluster."""

import json
import textwrap
from pathlib import Path

from project import NOBODY, Project, Run
from slurm.cluster import Cluster


class SlurmProject(Project):
    """One user's folder. The commands find the cluster as those of Slurm do, through SLURM_CONF."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        super().__init__(folder)
        self.cluster = cluster
        self.env = {
            **cluster.env,
            **{name: value for name, value in self.env.items() if name not in cluster.env},
            **NOBODY,
        }
        self.fields = ""
        """What the target says beside the engine."""

    @property
    def target(self) -> str:
        return f"{{engine: slurm, {self.fields}}}"

    def declare(self, *lines: str, job: str = "a", config: object = None) -> None:
        """Write a manifest of one job: the lines of its fields, and its config."""
        fields = "\n".join(["state: running", f"config: {json.dumps(config)}", *lines])
        text = f"apiVersion: reconciler/v1\ntarget: {self.target}\njobs:\n  {job}:\n{textwrap.indent(fields, '    ')}\n"
        (self.folder / "jobs.yaml").write_text(text)

    def applied(self, *words: str) -> Run:
        run = self.run("apply", "--yes", *words)
        assert run.code == 0, run
        return run

    def lines(self, name: str) -> list[str]:
        """Return the lines of a file that the jobs have written, sorted."""
        path = self.folder / name
        return sorted(path.read_text().splitlines()) if path.exists() else []
