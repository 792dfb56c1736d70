"""Limits that refuse a whole plan before its first call."""

from collections.abc import Mapping

from reconciler.errors import Refused
from reconciler.plan import ActionKind, Plan

_KINDS: Mapping[str, ActionKind] = {
    "maxRun": ActionKind.RUN,
    "maxAbort": ActionKind.ABORT,
    "maxRestart": ActionKind.RESTART,
    "maxDelete": ActionKind.DELETE,
}


def check(plan: Plan, guards: Mapping[str, int | str], recorded: int) -> None:
    """Raise `Refused` where the plan does more of a kind than its guard allows.

    A guard is a number, or a percentage such as "10%" of the `recorded` jobs. All guards that are
    exceeded are named in one refusal.
    """
    exceeded = [
        f"{count} to {_KINDS[name]}, and guards.{name} is {limit}{_in_jobs(limit, recorded)}"
        for name, limit in sorted(guards.items())
        for count in [plan.count_of(_KINDS[name])]
        if 100 * count > _allowed_percent(limit, recorded)
    ]
    if exceeded:
        raise Refused(
            f"refused by a guard: {'; '.join(exceeded)}",
            "check the plan; narrow it with --target or --exclude, or raise the guard in the manifest",
        )


def _allowed_percent(limit: int | str, recorded: int) -> int:
    """A hundred times the number allowed, which is exact for percentages too."""
    return 100 * limit if isinstance(limit, int) else int(limit.removesuffix("%")) * recorded


def _in_jobs(limit: int | str, recorded: int) -> str:
    if isinstance(limit, int):
        return ""
    return f" of {recorded} recorded jobs, so {_allowed_percent(limit, recorded) // 100}"
