"""Write manifests of a given number of jobs, six lines a job, and states that record all of these jobs."""

import multiprocessing
from pathlib import Path

_ENDPOINT = "http://127.0.0.1:9/v1/customer"


def write_manifest(folder: Path, count: int, engine: str, endpoint: str) -> None:
    """Write a jobs.yaml."""
    with (folder / "jobs.yaml").open("w") as file:
        file.write(f"apiVersion: reconciler/v1\ntarget:\n  engine: {engine}\n  endpoint: {endpoint}\njobs:\n")
        for number in range(count):
            file.write(
                f"  transcode-{number:07}:\n    id: job-{number:07}\n    state: running\n"
                "    config:\n      taskTimeout: 600\n      jobTimeout: 7200\n"
            )


def recorded(root: Path, count: int) -> Path:
    """Make a folder with a manifest and its state, such that a plan is empty.

    Another process makes the folder, since the peak memory of a child starts at the memory of its parent.
    """
    folder = root / f"recorded-{count}"
    if not folder.exists():
        child = multiprocessing.get_context("spawn").Process(target=_write_recorded, args=(folder, count))
        child.start()
        child.join()
        assert child.exitcode == 0
    return folder


def _write_recorded(folder: Path, count: int) -> None:
    from reconciler.model.jobs import Desired, Record, State, Target
    from reconciler.state.codec import encode

    target = Target("bytenite", _ENDPOINT)
    config = {"taskTimeout": 600, "jobTimeout": 7200}
    jobs = {f"transcode-{n:07}": Record(f"job-{n:07}", Desired.RUNNING, config) for n in range(count)}
    folder.mkdir()
    write_manifest(folder, count, target.engine, target.address)
    content = encode(State("3f1c2f6e-8a55-4c0e-9f0a-6b1f0d9f4b11", 1, target, jobs))
    (folder / "jobs.state.json").write_bytes(content)
