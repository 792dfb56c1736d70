"""Limits that refuse a whole plan before its first call."""

from collections.abc import Mapping

from reconciler.errors import Refused
from reconciler.jobs import EMPTY
from reconciler.plan import ActionKind, Plan

KINDS: Mapping[str, ActionKind] = {
    "maxRun": ActionKind.RUN,
    "maxAbort": ActionKind.ABORT,
    "maxRestart": ActionKind.RESTART,
    "maxDelete": ActionKind.DELETE,
}
"""What each guard counts."""

_FEW = 5
"""So many jobs may go from a manifest unnoticed, whatever part of all they are."""


def check(plan: Plan, guards: Mapping[str, int | str], recorded: int, done: Mapping[str, int] = EMPTY) -> None:
    """Raise `Refused` where the plan does more of a kind than its guard allows, and than `plan.allowed` does.

    A guard is a number, or a percentage such as "10%" of the `recorded` jobs. `done` is what the same
    apply did before. All guards that are exceeded are named in one refusal.
    """
    exceeded = []
    allow = []
    for name, limit in sorted(guards.items()):
        kind = KINDS[name]
        planned, before = plan.count_of(kind), done.get(kind, 0)
        count = planned + before
        if planned and 100 * count > _allowed_percent(limit, recorded) and count > plan.allowed.get(kind, 0):
            so_far = f" and {before} done before" if before else ""
            exceeded.append(f"{planned} to {kind}{so_far}, and guards.{name} is {limit}{_in_jobs(limit, recorded)}")
            allow.append(f"--allow {kind}={count}")
    if exceeded:
        raise Refused(
            f"refused by a guard: {'; '.join(exceeded)}",
            "check the plan; narrow it with --target or --exclude, raise the guard in the manifest, "
            f"or go past it this once: {' '.join(allow)}",
            allow=" ".join(allow),
        )


def loss(undeclared: int, recorded: int) -> str:
    """The warning where a manifest lost most of its jobs, else "".

    `undeclared` of the `recorded` jobs are not declared any more; neither counts those recorded absent.
    """
    if undeclared <= _FEW or 2 * undeclared <= recorded:
        return ""
    return f"{undeclared} of the {recorded} recorded jobs are no longer declared: is the manifest whole?"


def check_loss(plan: Plan, pruned: int, undeclared: int, recorded: int) -> None:
    """Raise `Refused` where a manifest lost most of its jobs and the plan deletes `pruned` of them.

    The other numbers are as in `loss`. `plan.allowed` lets so many deletes through.
    """
    lost = loss(undeclared, recorded)
    if lost and pruned > plan.allowed.get(ActionKind.DELETE, 0):
        raise Refused(
            f"refused: {lost}",
            "look for files that are missing, unnamed or badly merged; "
            f"if all of them are to go: --prune --allow delete={pruned}",
            allow=f"--allow delete={pruned}",
        )


def _allowed_percent(limit: int | str, recorded: int) -> int:
    """A hundred times the number allowed, which is exact for percentages too."""
    return 100 * limit if isinstance(limit, int) else int(limit.removesuffix("%")) * recorded


def _in_jobs(limit: int | str, recorded: int) -> str:
    if isinstance(limit, int):
        return ""
    return f" of {recorded} recorded jobs, so {_allowed_percent(limit, recorded) // 100}"
