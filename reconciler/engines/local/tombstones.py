"""Tombstones: what is left of a run once a person or `keepFor` has taken it away. Its run id stays taken for ever.

The spawner imports this module, so it imports little.
"""

import os
from collections.abc import Iterator
from typing import Any

from reconciler.engines.local.files import FOLDER, SCRIPT, Damaged, exists, get, put
from reconciler.engines.local.files import remove as remove_file
from reconciler.engines.local.log import remove_log

TOMBSTONE = "removed.json"

_PREPARED_WITHIN_S = 3600.0
"""How old a prepared run may be that a living command still puts into its place."""


def bury(folder: int, *, was_deleted: bool) -> None:
    """Leave the tombstone of a run that is over, and remove all else of it. May be repeated after a crash.

    A run that was not deleted is observed as before, without its config and its log. `folder` is an open descriptor.
    Raises `OSError` and `Damaged`.
    """
    tombstone = _tombstone(folder, was_deleted=was_deleted)
    if tombstone is None:
        return
    # A delete counts, whichever of two programs comes first.
    put(folder, TOMBSTONE, tombstone, replaces=was_deleted)
    remove_log(folder)
    for name in (SCRIPT, "spec.json", "started.json", "ended.json", "abort.json", "lock"):
        remove_file(folder, name)


def sweep(root: int, now_s: float) -> Iterator[None]:
    """Bury each run that ended longer ago than its `keepFor`. Yields after each job. `root` is an open descriptor.

    What a command that was killed had prepared is removed too, an hour later. A run that can't be read stays. Raises
    `OSError` if the list of jobs can't be read.
    """
    _remove_prepared(root, now_s)
    for job_id in _names(root, "jobs"):
        try:
            run_ids = _names(root, f"jobs/{job_id}")
        except OSError:
            continue
        for run_id in run_ids:
            try:
                folder = os.open(f"jobs/{job_id}/{run_id}", FOLDER | os.O_NOFOLLOW, dir_fd=root)
            except OSError:
                continue
            try:
                if _is_over_due(folder, now_s):
                    bury(folder, was_deleted=False)
            except (OSError, Damaged, KeyError):
                continue
            finally:
                os.close(folder)
        yield


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


def _is_over_due(folder: int, now_s: float) -> bool:
    if exists(folder, TOMBSTONE):
        return False
    spec, ended = get(folder, "spec.json"), get(folder, "ended.json")
    keep_for_s = spec["config"].get("keepFor") if spec else None
    return ended is not None and keep_for_s is not None and ended["at_s"] + keep_for_s <= now_s


def _tombstone(folder: int, *, was_deleted: bool) -> dict[str, Any] | None:
    """Return what the tombstone of a run says; None if nothing of the run is there."""
    found = {name: get(folder, f"{name}.json") for name in ("ended", "started", "spec")}
    if found["spec"] is None:
        # Another program has buried the run, or does so at this moment. The tombstone was there before it began.
        before = get(folder, TOMBSTONE)
        return None if before is None else {**before, "was_deleted": was_deleted}
    spec = {name: value for name, value in found["spec"].items() if name != "config"}
    return {**found, "spec": spec, "was_deleted": was_deleted}


def _names(root: int, path: str) -> list[str]:
    folder = os.open(path, FOLDER | os.O_NOFOLLOW, dir_fd=root)
    try:
        return sorted(os.listdir(folder))
    finally:
        os.close(folder)
