"""What may happen in a history: edits of the manifest, faults of the service, and what people do to files."""

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from model_commands import JOURNAL, LOCK, STATE
from reconciler.model.jobs import Config, Desired, Freeze, Job, OnConfigChange, Verb
from reconciler.model.plan import Action, ActionKind, Plan, Request

INSTANT_S = 0.0001
"""Times that differ by less are equal, since a time is written with microseconds and read again."""

NAMES = ("a", "a", "a", "b", "c", "a@a1", "a@a2", "b@b1")
IDS_OF = {name: (f"{name}1", f"{name}2") for name in "abcd"} | {
    name: (f"q{number}", f"r{number}") for number, name in enumerate(("a@a1", "a@a2", "b@b1"))
}
"""The ids that a job of each name may have.

Some names look like a name with an id, as a person may choose such names.
"""
IDS = tuple(job_id for name in dict.fromkeys(NAMES) for job_id in IDS_OF[name])
CONFIGS: tuple[Config, ...] = ({"taskTimeout": 60}, {"taskTimeout": 90, "isTestJob": False}, {"jobTimeout": 20})

# Edits of one job's block: the field, and its new value.
Edit = tuple[str, Any]
EDITS: tuple[Edit, ...] = (
    ("state", Desired.RUNNING),
    ("state", Desired.RUNNING),
    ("state", Desired.ABORTED),
    ("state", Desired.ABSENT),
    *(("config", number) for number in range(len(CONFIGS))),
    *(("token", token) for token in ("monday", "tuesday", "monday", "tuesday", "monday", "tuesday", None)),
    *(("mode", mode) for mode in (*OnConfigChange, OnConfigChange.RERUN)),
    ("rerun_on", ("config.taskTimeout",)),
    ("rerun_on", ()),
    ("protect", True),
    ("protect", False),
    ("protect", None),
    ("freeze", Freeze("a freeze")),
    ("freeze", None),
    ("ignore", ("config.taskTimeout",)),
    ("after", "a"),
    ("after", "b"),
    ("after", ""),
    ("remove", None),
    ("rename", "a"),
    ("rename", "d"),
    ("rename", "a@a1"),
    ("id", 0),
    ("id", 1),
    ("swap-names", ""),
    ("swap-ids", ""),
    ("turn-names", 1),
    ("turn-names", 2),
    ("revert", 1),
    ("revert", 3),
)

NAMING: tuple[Edit, ...] = (
    *(("rename", name) for name in ("d", "a@a1", "a@a2", "b@b1")),
    ("id", 0),
    ("id", 1),
    ("swap-names", ""),
    ("swap-ids", ""),
    ("turn-names", 1),
    ("revert", 1),
)
"""Edits that give records other names, or names other records."""

SAY_NOTHING: tuple[bytes, ...] = (
    b"{}",
    b'{"code":16,"message":"unauthenticated"}',
    b'{"errors":[{"message":"no"}]}',
    b'{"success":false}',
    b'{"ok":null,"requestId":"1"}',
    b'{"requestId":"1","message":"queued"}',
    b'{"job":{"id":"another","state":"JOB_STATE_RUNNING"}}',
    b'{"ok":"true"}',
    b'{"ok":1}',
    b'{"ok":false,"ok":true}',
)
"""Bodies of a 200 that do not say that the call was carried out."""

UNDOING: tuple[Edit, ...] = (
    ("state", Desired.ABORTED),
    ("state", Desired.ABSENT),
    ("config", 1),
    ("token", "tuesday"),
    ("remove", None),
)
"""Edits that lead to an abort, a restart or a delete."""

TAKEN_AWAY: tuple[tuple[str, ...], ...] = (
    (LOCK,),
    (JOURNAL,),
    (LOCK, JOURNAL),
    (STATE,),
    (STATE, JOURNAL, LOCK),
)
"""The files that someone removes from the folder of a state."""

Doctoring = Callable[[Plan], Plan]
"""An edit of a plan file."""


def _with_calls(plan: Plan) -> Plan:
    """Give each action a call that runs its job."""
    return _each(
        plan,
        lambda action: action._replace(
            kind=ActionKind.RUN, calls=(Request(Verb.RUN, f"POST /jobs/{action.id}/run", {"config": {}}),), error=""
        ),
    )


def _with_other_jobs(plan: Plan) -> Plan:
    """Give each action the job of the next action."""
    of = plan.actions
    turned = {action.job: of[(at + 1) % len(of)] for at, action in enumerate(of)}
    return _each(plan, lambda action: action._replace(job=turned[action.job].job))


def _each(plan: Plan, edited: Callable[[Action], Action]) -> Plan:
    return plan._replace(actions=tuple(map(edited, plan.actions)))


DOCTORING: tuple[Doctoring, ...] = (
    lambda plan: plan._replace(allowed={"delete": 99, "abort": 99, "restart": 99}),
    lambda plan: plan._replace(allowed={"delete": 99, "abort": 99}, narrowed=None, undeclared=()),
    lambda plan: _each(plan, lambda action: action._replace(kind=ActionKind.RUN)),
    _with_calls,
    _with_other_jobs,
)

# What may go wrong at the service. The service never lies: it does not answer "done" for a call that was not done, or
# "not done" for a call that was.
LOST = ("500", "502", "503", "504", "reset", "close", "truncated", "html", "empty", "garbage", "wrong-type", "302")
_REFUSED = ("401", "403", "429", "not-ok", "error-in-200")
FAULTS: tuple[str, ...] = (
    *(f"{verb}:{kind}{when}" for verb in Verb for kind in LOST for when in ("", ":after")),
    *(f"{verb}:{kind}" for verb in Verb for kind in _REFUSED),
    "run:400",
    "run:404",
    *(
        f"run:503{when}:retry-after={advised}"
        for when in ("", ":after")
        for advised in ("0", "5", "1000000000", "soon")
    ),
    *(f"read:{kind}" for kind in ("503", "429", "401", "403", "reset", "truncated", "html", "empty", "wrong-type")),
    *(f"any:{kind}" for kind in ("503", "reset", "hang")),
    *(f"{verb}:slow:seconds=100" for verb in (*Verb, "read")),
    *["read:stale"] * 8,
    "run:fail",
)
TIMES = (1, 2, 3, 9)


def turned(jobs: dict[str, Job], name: str, what: str, by: int) -> dict[str, Job]:
    """Return the jobs with some names or ids exchanged, between two jobs or around a circle of all jobs."""
    names = sorted(jobs)
    if what != "turn-names":
        names = [name, names[(names.index(name) + 1) % len(names)]]
    if len(set(names)) < 2:
        return jobs
    turned = dict(jobs)
    for at, old in enumerate(names):
        giver = jobs[names[(at + by) % len(names)]]
        turned[old] = jobs[old]._replace(id=giver.id) if what == "swap-ids" else giver._replace(name=old)
    return {old: job._replace(after=()) for old, job in turned.items()}


def wishes(jobs: dict[str, Job]) -> dict[str, Job]:
    """Return what is asked of each engine job, without its name and its run token."""
    return {job.id: job._replace(name="", run_token=None, after=()) for job in jobs.values()}


def with_two_records(content: bytes, older: bytes, other: str) -> tuple[bytes, tuple[str, ...]]:
    """Return a state file that records one job under a second name too, and both names.

    The second record is that of the older file. The file is empty if it cannot be made.
    """
    document, before = json.loads(content), json.loads(older)
    names = sorted(document.get("jobs", {}))
    if not names or other in names:
        return b"", ()
    first = names[0]
    job_id = document["jobs"][first]["id"]
    records = [record for record in before["jobs"].values() if record["id"] == job_id]
    document["jobs"][other] = (records or [document["jobs"][first]])[0]
    document["serial"] += 1
    del document["digest"]
    rest = (json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False).removeprefix("{\n") + "\n").encode()
    return b'{\n  "digest": "sha256:' + sha256(rest).hexdigest().encode() + b'",\n' + rest, (first, other)


def without(names: tuple[str, ...], gone: str, new: str = "") -> tuple[str, ...]:
    return tuple(filter(None, (new if name == gone else name for name in names)))
