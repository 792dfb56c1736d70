"""Manifests of so many jobs, six lines a job, and states in which all of them are recorded."""

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
    """A folder with a manifest and its state, so that there is nothing to plan.

    Made by a process of its own: a child's peak memory starts at that of the process that starts it.
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
    write_manifest(folder, count, target.engine, target.endpoint)
    content = encode(State("3f1c2f6e-8a55-4c0e-9f0a-6b1f0d9f4b11", 1, target, jobs))
    (folder / "jobs.state.json").write_bytes(content)
