"""Plans as values: the actions of a plan, the calls of each action, and the plan in one sentence.

`plan_json` has the JSON form of a plan, and `outcomes` has what becomes of its actions.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, StrEnum
from typing import Any, Final, NamedTuple

from reconciler.model.jobs import EMPTY, Observation, Target, Verb


class ActionKind(StrEnum):
    """The kinds of action, in the order in which messages list them."""

    ABORT = "abort"
    RUN = "run"
    RESTART = "restart"
    DELETE = "delete"
    ADOPT = "adopt"
    FORGET = "forget"
    WAIT = "wait"
    HOLD = "hold"
    NOOP = "noop"


STEPS: Mapping[ActionKind, int] = {
    ActionKind.ABORT: 0,
    ActionKind.RUN: 1,
    ActionKind.RESTART: 1,
    ActionKind.DELETE: 2,
    ActionKind.ADOPT: 3,
    ActionKind.FORGET: 3,
    ActionKind.WAIT: 4,
    ActionKind.HOLD: 5,
    ActionKind.NOOP: 6,
}
"""The step of an apply in which each kind of action is carried out. A plan is sorted by step, then by job name."""


class Request(NamedTuple):
    """One request to the service, as a plan shows it.

    `text` is the request in the words of the engine, without the address of the service. `body` is what the request
    carries, as JSON values; None if it carries nothing.
    """

    verb: Verb
    text: str
    body: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        """The request in one line, with its body as compact JSON."""
        import json

        if self.body is None:
            return self.text
        return f"{self.text} {json.dumps(self.body, sort_keys=True, separators=(',', ':'))}"


class Null(Enum):
    """The null of JSON as the value of a field, since None stands for a field that is not set."""

    NULL = "null"

    def __str__(self) -> str:
        return "null"


NULL: Final = Null.NULL


class Change(NamedTuple):
    """One value that an action changes. None means that the field is not set, and `NULL` that it is null."""

    path: str
    before: Any
    after: Any


class Action(NamedTuple):
    """What a plan does about one job. `calls` are the requests of the action, in order.

    The calls of a `wait` are those of the run or restart that it stands for. They are sent once its turn has come.
    `error` says why nothing can be done about the job; it is "" if something can be done. `frozen` is set for a noop
    of a job that the manifest freezes. `drift` is a kind of the drift report for a noop of a job that differs from its
    record; else it is "". `run_id` is the run id of the run that the calls start, or else of the run that they abort or
    delete; it is "" without calls, and if that run has no number.
    """

    job: str
    id: str
    kind: ActionKind
    reason: str
    changes: tuple[Change, ...] = ()
    calls: tuple[Request, ...] = ()
    error: str = ""
    frozen: bool = False
    drift: str = ""
    run_id: str = ""

    @property
    def touches(self) -> bool:
        """Whether the action sends a call or changes a record. A `wait` does neither until its turn has come."""
        return self.kind not in (ActionKind.WAIT, ActionKind.HOLD, ActionKind.NOOP)

    @property
    def due(self) -> ActionKind:
        """The kind of the action once its turn has come: run or restart for a `wait`, and its own kind for another."""
        if self.kind is not ActionKind.WAIT:
            return self.kind
        return ActionKind.RESTART if any(call.verb is Verb.ABORT for call in self.calls) else ActionKind.RUN


AS_RECORDED = "as recorded"
"""The reason of a noop of a job that does not differ from its record."""

SAME_IN_BOTH = "the same in both"
"""The words for an unchanged job in a comparison of two manifests. They replace `AS_RECORDED`."""


class Narrowed(NamedTuple):
    """The part of the jobs that a narrowed plan is about: `jobs` jobs of the `of` jobs in all.

    `targets` and `excludes` are the globs over job names that narrow the plan.
    """

    jobs: int
    of: int
    targets: tuple[str, ...]
    excludes: tuple[str, ...]

    def __str__(self) -> str:
        from shlex import quote

        options = [f"--target {quote(glob)}" for glob in self.targets]
        options += [f"--exclude {quote(glob)}" for glob in self.excludes]
        return f"Only {self.jobs} of {self.of} jobs: `{' '.join(options)}`"


class Plan(NamedTuple):
    """The actions for all jobs, and the sources of the plan.

    `actions` are sorted by step (`STEPS`), then by job name. `paths` are the manifest paths as the user gave them.
    `undeclared` names the recorded jobs that no manifest declares. `warnings` are about the plan as a whole.

    `allowed` maps a kind (`run`, `abort`, `restart`, `delete`) to the number of actions that may pass the guards. A
    saved plan keeps `allowed` for its reader, and no apply relies on that copy. `narrowed` is None if the plan is about
    all jobs. `prune` is set if undeclared jobs count as absent. `state` is the address of the state, or "" if no
    address is bound to the plan. `observed` maps engine job ids to the observations that the plan was made from.
    `records_digest` is the digest of all that the plan rests on in the state, or "" for a plan that is not bound to it.

    Comparisons of plans leave out `commit`, because a merge gives the same content a new commit.
    """

    target: Target
    lineage: str
    serial: int
    manifest_digest: str
    commit: str | None
    paths: tuple[str, ...]
    actions: tuple[Action, ...]
    undeclared: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    allowed: Mapping[str, int] = EMPTY
    narrowed: Narrowed | None = None
    prune: bool = False
    state: str = ""
    observed: Mapping[str, Observation] = EMPTY
    records_digest: str = ""

    def count_of(self, kind: ActionKind) -> int:
        """The number of actions of a kind."""
        return [action.kind for action in self.actions].count(kind)

    def count_due(self, kind: ActionKind) -> int:
        """The number of actions of a kind, with each `wait` counted as the run or restart that it stands for."""
        return [action.due for action in self.actions].count(kind)

    @property
    def waits(self) -> bool:
        """Whether any action waits for its turn."""
        return any(action.kind is ActionKind.WAIT for action in self.actions)

    @property
    def frozen(self) -> tuple[Action, ...]:
        """The noops of the jobs that the manifest freezes, in plan order."""
        return tuple([action for action in self.actions if action.frozen])

    @property
    def touching(self) -> Sequence[Action]:
        """The actions that send a call or change a record, in plan order."""
        return [action for action in self.actions if action.touches]

    @property
    def touches_anything(self) -> bool:
        """Whether an apply of the plan sends a call or changes a record."""
        return any(action.touches for action in self.actions)

    @property
    def drifted(self) -> Mapping[str, int]:
        """The number of noops of each kind of drift. Jobs without drift do not count."""
        return Counter([action.drift for action in self.actions if action.drift])

    @property
    def pending(self) -> bool:
        """Whether an apply or a person has anything left to do. A hold and a drift count too."""
        return any(action.kind is not ActionKind.NOOP or action.drift for action in self.actions)


def summary(kinds: Sequence[ActionKind]) -> dict[str, int]:
    """The number of actions of each kind, zeros included, in the order of `ActionKind`."""
    return {kind.value: kinds.count(kind) for kind in ActionKind}


_LEFT_WORDS = {ActionKind.HOLD: "held", ActionKind.WAIT: "waiting"}
"""The words for the kinds of action of which an apply carries out nothing."""


def verdict(
    plan: Plan, dress: Callable[[ActionKind, str], str] = lambda kind, words: words, same: str = AS_RECORDED
) -> str:
    """The plan in one sentence: the number of jobs for each kind of action.

    `dress` takes a kind and the words of its count, and returns the words as the view shows them. `same` is
    `AS_RECORDED` or `SAME_IN_BOTH`.
    """
    kinds = [action.kind for action in plan.actions]
    frozen, drifted = len(plan.frozen), plan.drifted
    unchanged = kinds.count(ActionKind.NOOP) - frozen - sum(drifted.values())
    if not plan.pending:
        return f"No changes: {unchanged_words(unchanged, frozen, same)}."
    parts = [
        dress(kind, f"{count} {_LEFT_WORDS.get(kind, f'to {kind}')}")
        for kind in ActionKind
        for count in [kinds.count(kind)]
        if count and kind is not ActionKind.NOOP
    ]
    parts += [dress(ActionKind.HOLD, f"{count} {word}") for word, count in sorted(drifted.items())]
    left = [f"{unchanged} unchanged"] if unchanged else []
    left += [f"{frozen} frozen"] if frozen else []
    return f"Plan: {', '.join(parts)}{'; ' if left else ''}{', '.join(left)}."


def unchanged_words(unchanged: int, frozen: int, same: str = AS_RECORDED) -> str:
    """The number of unchanged jobs in words: "3 jobs are as recorded, 1 is frozen"."""
    words = f"{'1 job is' if unchanged == 1 else f'{unchanged} jobs are'} {same}"
    return f"{words}, {frozen} {'is' if frozen == 1 else 'are'} frozen" if frozen else words


def allowed_words(plan: Plan) -> str:
    """What the plan may do past the guards: "delete up to 12"; "" if it may not pass a guard."""
    return ", ".join(f"{kind} up to {count}" for kind, count in sorted(plan.allowed.items()))
