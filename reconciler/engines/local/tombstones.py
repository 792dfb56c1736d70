"""Tombstones: what is left of a run once a delete, `keepFor` or `keepRuns` has taken it away.

The run id of a tombstone stays taken for ever. The spawner imports this module, so it imports little.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Any

from reconciler.engines.local.files import FOLDER, SCRIPT, Damaged, exists, get, put
from reconciler.engines.local.files import remove as remove_file
from reconciler.engines.local.log import LOG_FILES, remove_log

TOMBSTONE = "removed.json"

_REST = (SCRIPT, "spec.json", "started.json", "ended.json", "abort.json", "lock")
"""What a run has beside its log and its tombstone."""

_PREPARED_WITHIN_S = 3600.0
"""How old a prepared run may be that a living command still puts into its place."""


class RemovedBy(StrEnum):
    """What has taken a run away: a call, or a field of a config."""

    DELETE = "delete"
    KEEP_FOR = "keepFor"
    KEEP_RUNS = "keepRuns"


def bury(folder: int, by: RemovedBy) -> None:
    """Leave the tombstone of a run that is over, and remove all else of it. May be repeated after a crash.

    A run that was not deleted is observed as before, without its config and its log. `folder` is an open descriptor.
    Raises `OSError` and `Damaged`.
    """
    tombstone = _tombstone(folder, by)
    if tombstone is None:
        return
    # A delete counts, whichever of two programs comes first.
    put(folder, TOMBSTONE, tombstone, replaces=by is RemovedBy.DELETE)
    remove_log(folder)
    for name in _REST:
        remove_file(folder, name)


def sweep(root: int, now_s: float) -> Iterator[None]:
    """Bury the runs that their configs keep no longer. Yields after each job. `root` is an open descriptor.

    What a command that was killed had prepared is removed too, an hour later. A run that can't be read stays. Raises
    `OSError` if the list of jobs can't be read.
    """
    _remove_prepared(root, now_s)
    for job_id in _names(root, "jobs"):
        kept = _Kept(now_s)
        with suppress(OSError):
            for run_id in newest_first(_names(root, f"jobs/{job_id}")):
                with suppress(OSError, Damaged, KeyError, TypeError):
                    _sweep_run(root, f"jobs/{job_id}/{run_id}", kept)
        yield


def newest_first(run_ids: Iterable[str]) -> list[str]:
    """Return the run ids of one job in the order of their numbers, the greatest one first."""
    # All ids are those of the job with a number behind, so a longer one has a greater number.
    return sorted(run_ids, key=lambda run_id: (len(run_id), run_id), reverse=True)


class _Kept:
    """What is kept of the runs of one job, which are asked for from the newest one to the oldest one.

    `keepFor` belongs to a run. `keepRuns` belongs to the job, so the newest run that still has its config says it for
    all runs of the same state.
    """

    def __init__(self, now_s: float) -> None:
        self._now_s = now_s
        self._newest: Mapping[str, Any] | None = None
        self._counts = {"complete": 0, "failed": 0}

    def why_not(self, spec: Mapping[str, Any], ended: Mapping[str, Any] | None, recorded_s: float) -> RemovedBy | None:
        """Return what takes a run away; None if the run stays, as each one does whose end is not on record."""
        if self._newest is None:
            self._newest = spec
        if ended is None:
            return None
        keep_for_s = spec["config"].get("keepFor")
        if keep_for_s is not None and recorded_s + keep_for_s <= self._now_s:
            return RemovedBy.KEEP_FOR
        if spec["marks"]["lineage"] != self._newest["marks"]["lineage"]:
            return None
        kind = "complete" if ended["status"] == "complete" else "failed"
        self._counts[kind] += 1
        most = self._newest["config"].get("keepRuns", {}).get(kind)
        return RemovedBy.KEEP_RUNS if most is not None and self._counts[kind] > most else None


def _sweep_run(root: int, path: str, kept: _Kept) -> None:
    folder = os.open(path, FOLDER | os.O_NOFOLLOW, dir_fd=root)
    try:
        if exists(folder, TOMBSTONE):
            if not {*_REST, *LOG_FILES}.isdisjoint(os.listdir(folder)):
                bury(folder, RemovedBy.KEEP_FOR)  # Somebody was killed who did that. The tombstone stays as it is.
            return
        spec, ended = get(folder, "spec.json"), get(folder, "ended.json")
        if spec is None:
            return
        by = kept.why_not(spec, ended, _recorded_s(folder, ended) if ended else 0.0)
        if by is not None:
            bury(folder, by)
    finally:
        os.close(folder)


def _recorded_s(folder: int, ended: Mapping[str, Any]) -> float:
    """Return when the end of a run came on record. On a full disk, that is later than the end itself."""
    written_s = os.stat("ended.json", dir_fd=folder, follow_symlinks=False).st_mtime
    return max(written_s, float(ended["at_s"]))


def _remove_prepared(root: int, now_s: float) -> None:
    for name in _names(root, "tmp"):
        try:
            folder = os.open(f"tmp/{name}", FOLDER | os.O_NOFOLLOW, dir_fd=root)
        except OSError:
            continue
        try:
            if os.fstat(folder).st_mtime + _PREPARED_WITHIN_S < now_s:
                remove_file(folder, "spec.json")
                os.rmdir(f"tmp/{name}", dir_fd=root)
        except OSError:
            continue
        finally:
            os.close(folder)


def _tombstone(folder: int, by: RemovedBy) -> dict[str, Any] | None:
    """Return what the tombstone of a run says; None if nothing of the run is there."""
    found = {name: get(folder, f"{name}.json") for name in ("ended", "started", "spec")}
    if found["spec"] is None:
        # Another program has buried the run, or does so at this moment. The tombstone was there before it began.
        before = get(folder, TOMBSTONE)
        return None if before is None else {**before, "by": by}
    spec = {name: value for name, value in found["spec"].items() if name != "config"}
    return {**found, "spec": spec, "by": by}


def _names(root: int, path: str) -> list[str]:
    folder = os.open(path, FOLDER | os.O_NOFOLLOW, dir_fd=root)
    try:
        return sorted(os.listdir(folder))
    finally:
        os.close(folder)
