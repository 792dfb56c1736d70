"""Limits that refuse a whole plan before its first call."""

from collections.abc import Mapping

from reconciler.model.errors import Refused
from reconciler.model.jobs import EMPTY
from reconciler.model.plan import ActionKind, Plan

KINDS: Mapping[str, ActionKind] = {
    "maxRun": ActionKind.RUN,
    "maxAbort": ActionKind.ABORT,
    "maxRestart": ActionKind.RESTART,
    "maxDelete": ActionKind.DELETE,
}
"""What each guard counts."""

_SHARED_PERCENT = 30
"""What part of the recorded jobs an apply may abort, restart or delete where no guard says otherwise."""

_SHARED_FROM = 10
"""Of fewer jobs a part says little."""

_FEW = 5
"""So many jobs may go from a manifest unnoticed, whatever part of all they are."""


def check(
    plan: Plan,
    guards: Mapping[str, int | str],
    recorded: int,
    done: Mapping[str, int] = EMPTY,
    *,
    present: int = 0,
    is_read: bool = True,
) -> None:
    """Raise `Refused` where the plan does more of a kind than its guard allows, and than `plan.allowed` does.

    A guard is a number, or a percentage such as "10%" of the `recorded` jobs. Kinds without a guard of their own
    share one: together they may be no more than 30 % of the `present` jobs, those that are recorded and not absent,
    from 10 of these on. `done` is what the same apply did before. `is_read` is whether the plan was made after the
    jobs were read. All guards that are exceeded are named in one refusal.
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
    shared = _shared(plan, guards, done)
    if present >= _SHARED_FROM and 100 * sum(shared.values()) > _SHARED_PERCENT * present:
        counts = ", ".join(f"{count} to {kind}" for kind, count in shared.items())
        so_far = ", with what this apply did before" if any(done.get(kind) for kind in shared) else ""
        exceeded.append(
            f"{counts}{so_far}, of {present} recorded jobs: without a guard of their own, no more than "
            f"{_SHARED_PERCENT} % ({_SHARED_PERCENT * present // 100}) may be aborted, restarted or deleted at once"
        )
        allow += [f"--allow {kind}={count}" for kind, count in shared.items()]
    if exceeded:
        own = [f"{name}: 100%" for name, kind in KINDS.items() if kind in shared]
        lift = f" (guards: {{{', '.join(own)}}} lifts the one that they share)" if own else ""
        read = "" if is_read else "read the jobs first (plan --refresh): one that has ended needs no abort or restart; "
        raise Refused(
            f"refused by a guard: {'; '.join(exceeded)}",
            f"{read}check the plan; narrow it with --target or --exclude, raise the guard in the manifest{lift}, "
            f"or go past it this once: {' '.join(allow)}",
            allow=" ".join(allow),
        )


def _shared(plan: Plan, guards: Mapping[str, int | str], done: Mapping[str, int]) -> dict[ActionKind, int]:
    """How many there are of each kind that has no guard of its own, those done before included; empty for none to do.

    A kind of which no more are planned than are allowed does not count.
    """
    found: dict[ActionKind, int] = {}
    is_any_planned = False
    for name, kind in KINDS.items():
        planned = plan.count_of(kind)
        count = planned + done.get(kind, 0)
        if name not in guards and kind is not ActionKind.RUN and count > plan.allowed.get(kind, 0):
            found[kind] = count
            is_any_planned |= planned > 0
    return found if is_any_planned else {}


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
