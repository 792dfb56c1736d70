"""Guards: limits that refuse a whole plan before its first call is sent."""

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
"""The kind of action that each guard counts."""

_SHARED_PERCENT = 30
"""The percentage of the present jobs that an apply may abort, restart or delete if these kinds have no guard.

A job is present if it is recorded, and not as absent.
"""

_SHARED_FROM = 10
"""The shared limit applies if there are at least so many present jobs. A percentage of fewer jobs says little."""

_FEW = 5
"""A manifest may lose this many jobs without a warning, whatever part of all jobs they are."""


def check(
    plan: Plan,
    guards: Mapping[str, int | str],
    recorded: int,
    done: Mapping[str, int] = EMPTY,
    *,
    present: int = 0,
    is_read: bool = True,
) -> None:
    """Raise `Refused` if the plan does more of a kind than both its guard and `plan.allowed` permit.

    An action that waits for its turn counts as the run or restart that it stands for.

    A guard is a number of jobs, or a percentage such as "10%" of the `recorded` jobs. Abort, restart and delete share a
    limit if they have no guard of their own: together they may be 30 % of the `present` jobs, if there are at least 10.
    `present` is the number of jobs that are recorded, and not as absent. `done` counts, by kind, what the same apply
    did before. `is_read` is set if the jobs were observed before the plan was made. One refusal names all guards that
    are exceeded.
    """
    exceeded, allow = _own_limits_exceeded(plan, guards, recorded, done)
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
        raise _refusal(exceeded, allow, shared, is_read=is_read)


def _own_limits_exceeded(
    plan: Plan, guards: Mapping[str, int | str], recorded: int, done: Mapping[str, int]
) -> tuple[list[str], list[str]]:
    """What exceeds the guards of the manifest, in words, and the options that allow it, sorted by guard."""
    exceeded = []
    allow = []
    for name, limit in sorted(guards.items()):
        kind = KINDS[name]
        planned, before = plan.count_due(kind), done.get(kind, 0)
        count = planned + before
        if planned and 100 * count > _allowed_percent(limit, recorded) and count > plan.allowed.get(kind, 0):
            so_far = f" and {before} done before" if before else ""
            exceeded.append(f"{planned} to {kind}{so_far}, and guards.{name} is {limit}{_in_jobs(limit, recorded)}")
            allow.append(f"--allow {kind}={count}")
    return exceeded, allow


def _refusal(exceeded: list[str], allow: list[str], shared: Mapping[ActionKind, int], *, is_read: bool) -> Refused:
    """The error that names all exceeded guards, and the options that allow the plan."""
    own = [f"{name}: 100%" for name, kind in KINDS.items() if kind in shared]
    lift = f" (guards: {{{', '.join(own)}}} takes these kinds out of the shared limit)" if own else ""
    read = "" if is_read else "read the jobs first (plan --refresh): one that has ended needs no abort or restart; "
    return Refused(
        f"refused by a guard: {'; '.join(exceeded)}",
        f"{read}check the plan; narrow it with --target or --exclude, raise the guard in the manifest{lift}, "
        f"or go past it this once: {' '.join(allow)}",
        allow=" ".join(allow),
    )


def _shared(plan: Plan, guards: Mapping[str, int | str], done: Mapping[str, int]) -> dict[ActionKind, int]:
    """The number of actions of each kind under the shared limit, with those done before; empty if none is planned.

    A kind is left out if `plan.allowed` permits its number.
    """
    found: dict[ActionKind, int] = {}
    is_any_planned = False
    for name, kind in KINDS.items():
        planned = plan.count_due(kind)
        count = planned + done.get(kind, 0)
        if name not in guards and kind is not ActionKind.RUN and count > plan.allowed.get(kind, 0):
            found[kind] = count
            is_any_planned |= planned > 0
    return found if is_any_planned else {}


def loss(undeclared: int, recorded: int) -> str:
    """The warning that a manifest lost most of its jobs; "" if it did not.

    `recorded` is the number of recorded jobs, and `undeclared` is how many of these the manifest does not declare.
    Jobs that are recorded as absent count in neither number.
    """
    if undeclared <= _FEW or 2 * undeclared <= recorded:
        return ""
    return f"{undeclared} of the {recorded} recorded jobs are no longer declared: is the manifest whole?"


def check_loss(plan: Plan, pruned: int, undeclared: int, recorded: int) -> None:
    """Raise `Refused` if a manifest lost most of its jobs and the plan deletes more than `plan.allowed` permits.

    `pruned` is the number of lost jobs that the plan deletes. `undeclared` and `recorded` are as in `loss`.
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
    """The number of jobs that a guard allows, times 100: a whole number for percentages too."""
    return 100 * limit if isinstance(limit, int) else int(limit.removesuffix("%")) * recorded


def _in_jobs(limit: int | str, recorded: int) -> str:
    """A percentage as a number of jobs, for a message; "" if the guard is a number."""
    if isinstance(limit, int):
        return ""
    return f" of {recorded} recorded jobs, so {_allowed_percent(limit, recorded) // 100}"
