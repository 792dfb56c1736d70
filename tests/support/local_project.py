"""A user's folder whose jobs run on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local_runs import end_all
from local_service import kill_runs
from project import Project


class LocalProject(Project):
    """A folder whose jobs run on this machine, below the folder `runs`."""

    target = "{engine: local, root: runs, slots: 3}"


@contextmanager
def local_project(folder: Path) -> Iterator[LocalProject]:
    """Yield a project, and end what its commands have started when the block ends, also if it fails."""
    try:
        yield LocalProject(folder)
    finally:
        kill_runs((folder / "runs" / "jobs").glob("*/*"))
        end_all(folder)
