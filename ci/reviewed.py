"""Find the plan of the merged pull request through GitHub's API, and compare it with another plan.

A run for a pull request keeps its plan as an artifact. The author of the pull request may have forged that artifact, so
the artifact is compared and not used for anything else.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

from github_api import Api, ApiError

_LIMIT_BYTES = 64 * 1024 * 1024


class Reviewed(NamedTuple):
    """A plan as it was saved, and the number of its pull request."""

    number: int
    plan: Mapping[str, Any]


def reviewed_plan(api: Api, commit: str, name: str) -> Reviewed | str:
    """Return the plan with this name from the pull request that was merged as this commit.

    If there is no such plan, return the reason as text. Raises `ApiError`.
    """
    merged = [pull for pull in api.all(f"commits/{commit}/pulls") if pull.get("merged_at")]
    exact = [pull for pull in merged if pull.get("merge_commit_sha") == commit]
    pull = next(iter(exact or merged), None)
    if pull is None:
        return f"commit {commit[:12]} came with no pull request"
    number, head = int(pull["number"]), _text(pull.get("head"), "sha")
    artifacts = [
        artifact
        for artifact in api.all("actions/artifacts", "artifacts", name=name)
        if artifact.get("name") == name and _text(artifact.get("workflow_run"), "head_sha") == head
    ]
    if not artifacts:
        return f"the runs for #{number} at {head[:12]} kept no plan {name}"
    kept = [artifact for artifact in artifacts if not artifact.get("expired")]
    if not kept:
        return f"the plan of #{number} has expired"
    latest = max(kept, key=lambda artifact: str(artifact.get("created_at", "")))
    return Reviewed(number, _plan_in(api.download(f"actions/artifacts/{latest['id']}/zip", _LIMIT_BYTES)))


def differences(reviewed: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """List the differences between two plans, one line each; the commits of the plans are not compared."""
    names = ("target", "lineage", "serial", "manifestDigest", "state", "paths", "narrowed", "allowed", "undeclared")
    words = {"manifestDigest": "the manifest is another one", "serial": "the state has moved on"}
    found = []
    for name in names:
        before, after = reviewed.get(name), ours.get(name)
        if before != after:
            found.append(words.get(name, f"{name} is {_short(after)} and was {_short(before)}"))
    then, now = _by_job(reviewed), _by_job(ours)
    for job in sorted({*then, *now}):
        before, after = then.get(job), now.get(job)
        if before != after:
            found.append(f"{job}: {_words_of(after)}, reviewed was {_words_of(before)}")
    if not found and {**reviewed, "commit": None} != {**ours, "commit": None}:
        found.append("it is worded otherwise, as by another version of reconciler")
    return found


def _plan_in(archive: bytes) -> Mapping[str, Any]:
    """Return the one plan in the archive of an artifact. Raises `ApiError` if the archive holds no plan."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as files:
            [entry] = [entry for entry in files.infolist() if entry.filename.endswith(".json")]
            if entry.file_size > _LIMIT_BYTES:
                raise ApiError("the plan that was kept is too long")
            with files.open(entry) as file:
                plan = json.loads(file.read(_LIMIT_BYTES))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, RecursionError, OSError, EOFError):
        raise ApiError("what was kept is no plan") from None
    if not isinstance(plan, dict):
        raise ApiError("what was kept is no plan")
    return plan


def _by_job(plan: Mapping[str, Any]) -> dict[str, Any]:
    actions = plan.get("actions")
    listed = actions if isinstance(actions, list) else []
    return {str(action.get("job")): action for action in listed if isinstance(action, dict)}


def _words_of(action: Mapping[str, Any] | None) -> str:
    if action is None:
        return "not there"
    return _short(f"{action.get('action')} ({action.get('reason')})")


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _text(document: object, name: str) -> str:
    value = document.get(name) if isinstance(document, dict) else None
    return value if isinstance(value, str) else ""
