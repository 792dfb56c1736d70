"""Plans and outcomes as values, and their JSON: out and in again, equal.

The forms are those of `schemas/plan.schema.json` and `schemas/outcome.schema.json`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from operator import attrgetter
from typing import Any, NamedTuple, overload

from reconciler.model.jobs import EMPTY, NOT_OBSERVED, Job, Observation, Status, Target, title

FORMAT_VERSION = 1


class ActionKind(StrEnum):
    """What is planned for one job, in the order in which a plan lists it."""

    ABORT = "abort"
    RUN = "run"
    RESTART = "restart"
    DELETE = "delete"
    ADOPT = "adopt"
    FORGET = "forget"
    HOLD = "hold"
    NOOP = "noop"


STEPS: Mapping[ActionKind, int] = {
    ActionKind.ABORT: 0,
    ActionKind.RUN: 1,
    ActionKind.RESTART: 1,
    ActionKind.DELETE: 2,
    ActionKind.ADOPT: 3,
    ActionKind.FORGET: 3,
    ActionKind.HOLD: 4,
    ActionKind.NOOP: 5,
}
"""The step of an apply in which a kind is carried out; a plan is sorted by step, then job."""


class Outcome(StrEnum):
    """What became of an action; one that needed no call is recorded."""

    SUCCEEDED = "succeeded"
    RECORDED = "recorded"
    FAILED = "failed"
    SKIPPED = "skipped"
    IN_DOUBT = "in-doubt"


class Call(NamedTuple):
    """One request as it goes on the wire; `path` is percent-encoded and below the endpoint."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None


class Change(NamedTuple):
    """One field that an action changes. None stands for "not there"."""

    path: str
    before: Any
    after: Any


class Action(NamedTuple):
    """What is planned for one job, why, and the calls it takes, in order.

    `error` says what is wrong with the job where it can't be acted on at all, else it is "".
    `suspended` is a noop that the manifest asks for, whatever else it says of the job. `drift` is what `drift` finds
    of a job that is not as recorded and for which there is nothing to do, else it is "".
    """

    job: str
    id: str
    kind: ActionKind
    reason: str
    changes: tuple[Change, ...] = ()
    calls: tuple[Call, ...] = ()
    error: str = ""
    suspended: bool = False
    drift: str = ""

    @property
    def touches(self) -> bool:
        """Whether it sends a call or changes a record."""
        return self.kind not in (ActionKind.HOLD, ActionKind.NOOP)


AS_RECORDED = "as recorded"
"""The reason of a noop where nothing differs."""

SAME_IN_BOTH = "the same in both"
"""What is said of it where two manifests are compared."""


class Actions(Sequence[Action]):
    """Actions in plan order. Those of jobs that are as recorded are made each time that they are asked for.

    So the plan of a million jobs of which few change holds few actions.
    """

    __slots__ = ("as_recorded", "told")

    def __init__(self, told: Iterable[Action], as_recorded: Sequence[Job]) -> None:
        """`told` are all others, in plan order; `as_recorded` is sorted by name."""
        self.told = tuple(told)
        self.as_recorded = as_recorded

    def __len__(self) -> int:
        return len(self.told) + len(self.as_recorded)

    def __iter__(self) -> Iterator[Action]:
        made = (Action(job.name, job.id, ActionKind.NOOP, AS_RECORDED) for job in self.as_recorded)
        if not self.told or self.told[-1].kind is not ActionKind.NOOP:
            yield from self.told
            yield from made
            return
        from heapq import merge

        yield from (action for action in self.told if action.kind is not ActionKind.NOOP)
        noops = (action for action in self.told if action.kind is ActionKind.NOOP)
        yield from merge(noops, made, key=attrgetter("job"))

    @overload
    def __getitem__(self, at: int) -> Action: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Action, ...]: ...
    def __getitem__(self, at: int | slice) -> Action | tuple[Action, ...]:
        return tuple(self)[at]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))


class Narrowed(NamedTuple):
    """That a plan is about `jobs` of the `of` jobs that there are, by globs over their names."""

    jobs: int
    of: int
    targets: tuple[str, ...]
    excludes: tuple[str, ...]

    def __str__(self) -> str:
        from shlex import quote

        picked = [f"--target {quote(glob)}" for glob in self.targets]
        picked += [f"--exclude {quote(glob)}" for glob in self.excludes]
        return f"Only {self.jobs} of {self.of} jobs: `{' '.join(picked)}`"


class Plan(NamedTuple):
    """Ordered actions, and what they were made from.

    `paths` are the manifest paths as given. `undeclared` names the recorded jobs that no manifest
    declares. `commit` is shown and not compared: a merge makes a new one of the same content.
    `warnings` are about the plan as a whole. `allowed` says how many of a kind (`run`, `abort`,
    `restart`, `delete`) may be done past the guards; in a saved plan it only tells what was allowed when it was made.
    `narrowed` is None where the plan is about all jobs. `prune` is whether undeclared jobs count as absent, `state` the
    address of the state, "" where that does not matter. `observed` maps engine job ids to what was read of the jobs.
    """

    target: Target
    lineage: str
    serial: int
    manifest_digest: str
    commit: str | None
    paths: tuple[str, ...]
    actions: Sequence[Action]
    undeclared: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    allowed: Mapping[str, int] = EMPTY
    narrowed: Narrowed | None = None
    prune: bool = False
    state: str = ""
    observed: Mapping[str, Observation] = EMPTY

    def count_of(self, kind: ActionKind) -> int:
        """How many actions are of this kind."""
        as_recorded = len(self.actions) - len(self.told) if kind is ActionKind.NOOP else 0
        return [action.kind for action in self.told].count(kind) + as_recorded

    @property
    def told(self) -> Sequence[Action]:
        """The actions of which there is more to say than that a job is as recorded."""
        return self.actions.told if isinstance(self.actions, Actions) else self.actions

    @property
    def suspended(self) -> tuple[Action, ...]:
        """The jobs that are left alone because the manifest suspends them."""
        return tuple([action for action in self.told if action.suspended])

    @property
    def touching(self) -> Sequence[Action]:
        """The actions that send a call or change a record."""
        return [action for action in self.told if action.touches]

    @property
    def touches_anything(self) -> bool:
        """Whether carrying it out sends a call or changes a record."""
        return any(action.touches for action in self.told)

    @property
    def drifted(self) -> Mapping[str, int]:
        """How many jobs that are not as recorded, and for which there is nothing to do, are what."""
        return Counter(action.drift for action in self.told if action.drift)

    @property
    def pending(self) -> bool:
        """Whether anything is left for an apply or for a person to do: a hold and a drift included."""
        return self.count_of(ActionKind.NOOP) < len(self.actions) or any(action.drift for action in self.told)

    @property
    def says_nothing(self) -> bool:
        """Whether it is about all jobs, and its verdict is all there is to say: nothing is to be done."""
        more = self.pending or self.suspended or self.undeclared or self.warnings or self.allowed or self.narrowed
        return not more


class ActionOutcome(NamedTuple):
    """What became of one planned action.

    `done` is what was done in its place, where the job just before it called for less.
    `note` says why, or what the server said of a success; `error` what went wrong. `waits` is whether
    it was held for a job that may yet complete.
    """

    action: Action
    outcome: Outcome
    done: ActionKind
    note: str = ""
    error: str = ""
    status: int | None = None
    request_id: str = ""
    waits: bool = False


def summary(actions: Iterable[Action]) -> dict[str, int]:
    """The number of actions of each kind, every kind named, in plan order."""
    counts = dict.fromkeys(ActionKind, 0)
    for action in actions:
        counts[action.kind] += 1
    return {kind.value: count for kind, count in counts.items()}


def verdict(
    plan: Plan, dress: Callable[[ActionKind, str], str] = lambda kind, words: words, same: str = AS_RECORDED
) -> str:
    """The plan in one sentence: how many jobs of each kind; `dress` may mark each count.

    `same` is what is said of a job that is left as it is.
    """
    suspended, drifted = len(plan.suspended), plan.drifted
    unchanged = plan.count_of(ActionKind.NOOP) - suspended - sum(drifted.values())
    if not plan.pending:
        return f"No changes: {as_recorded(unchanged, suspended, same)}."
    parts = [
        dress(kind, f"{count} held" if kind is ActionKind.HOLD else f"{count} to {kind}")
        for kind in ActionKind
        for count in [plan.count_of(kind)]
        if count and kind is not ActionKind.NOOP
    ]
    parts += [dress(ActionKind.HOLD, f"{count} {word}") for word, count in sorted(drifted.items())]
    left = [f"{unchanged} unchanged"] if unchanged else []
    left += [f"{suspended} suspended"] if suspended else []
    return f"Plan: {', '.join(parts)}{'; ' if left else ''}{', '.join(left)}."


def as_recorded(unchanged: int, suspended: int, same: str = AS_RECORDED) -> str:
    """How many jobs are left as they are: "3 jobs are as recorded, 1 is suspended"."""
    said = f"{'1 job is' if unchanged == 1 else f'{unchanged} jobs are'} {same}"
    return f"{said}, {suspended} {'is' if suspended == 1 else 'are'} suspended" if suspended else said


def said_of_allowed(plan: Plan) -> str:
    """What is allowed past the guards: "delete up to 12"; "" where nothing is."""
    return ", ".join(f"{kind} up to {count}" for kind, count in sorted(plan.allowed.items()))


def plan_digest(plan: Plan) -> str:
    """What two plans have in common where they do the same: "sha256:<hex>".

    Over the bytes of the plan's JSON: keys sorted, no white space, all but ASCII escaped. Without its `commit`, since a
    merge makes a new one of the same content, and without what was read of the jobs, which its actions tell.
    """
    import json

    from reconciler.model.digests import sha256

    document = plan_to_json(plan._replace(observed=EMPTY))
    del document["commit"]
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return f"sha256:{sha256(text.encode())}"


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """The plan as JSON values, keys in the order in which they are printed."""
    document = {
        **_header(plan),
        "actions": [_action_to_json(action) for action in plan.actions],
        **_footer(plan),
    }
    if plan.prune:
        document["prune"] = True
    if plan.state:
        document["state"] = plan.state
    if plan.observed:
        document["observed"] = {id_: _observation_to_json(seen) for id_, seen in sorted(plan.observed.items())}
    return document


def what_differs(plan: Plan, other: Plan) -> str:
    """The first field of a plan that is not the same in another, or the job whose action is not; "" where none is.

    Every byte of their JSON is compared, but for `commit`, `allowed` and `warnings`: those only tell.
    """
    import json

    left, right = (plan_to_json(one._replace(commit=None, allowed=EMPTY, warnings=())) for one in (plan, other))

    def said(value: Any) -> str:
        return json.dumps(value, sort_keys=True)

    if said(left) == said(right):
        return ""
    for name in dict.fromkeys([*left, *right]):
        if name not in ("actions", "summary") and said(left.get(name)) != said(right.get(name)):
            return f"`{name}`"
    actions = zip(left["actions"], right["actions"], strict=False)
    job = next((one["job"] for one, two in actions if said(one) != said(two)), "")
    return f"what is planned of {title(job)}" if job else "the number of its actions"


def outcomes_to_json(plan: Plan, outcomes: Iterable[ActionOutcome]) -> dict[str, Any]:
    """The outcome of an apply: the plan's form, each action with what became of it."""
    return {
        **_header(plan),
        "actions": [_outcome_to_json(outcome) for outcome in outcomes],
        **_footer(plan),
    }


def plan_from_json(document: Mapping[str, Any]) -> Plan:
    """The plan that `plan_to_json` wrote. The document is valid under the plan's schema."""
    return Plan(
        target=Target(document["target"]["engine"], document["target"].get("endpoint", "")),
        lineage=document["lineage"],
        serial=document["serial"],
        manifest_digest=document["manifestDigest"],
        commit=document["commit"],
        paths=tuple(document["paths"]),
        actions=tuple(_action_from_json(action) for action in document["actions"]),
        undeclared=tuple(document["undeclared"]),
        warnings=tuple(document.get("warnings", ())),
        allowed=document.get("allowed", EMPTY),
        narrowed=_narrowed_from_json(document.get("narrowed")),
        prune=document.get("prune", False),
        state=document.get("state", ""),
        observed={id_: _observation_from_json(seen) for id_, seen in document.get("observed", {}).items()},
    )


def target_to_json(target: Target) -> dict[str, str]:
    """The target; an embedded sandbox has no endpoint."""
    return {"engine": target.engine} | ({"endpoint": target.endpoint} if target.endpoint else {})


def _header(plan: Plan) -> dict[str, Any]:
    return {
        "formatVersion": FORMAT_VERSION,
        "target": target_to_json(plan.target),
        "lineage": plan.lineage,
        "serial": plan.serial,
        "manifestDigest": plan.manifest_digest,
        "commit": plan.commit,
        "paths": list(plan.paths),
        "summary": summary(plan.actions),
    }


def _footer(plan: Plan) -> dict[str, Any]:
    document: dict[str, Any] = {"undeclared": list(plan.undeclared)}
    if plan.warnings:
        document["warnings"] = list(plan.warnings)
    if plan.allowed:
        document["allowed"] = dict(sorted(plan.allowed.items()))
    if plan.narrowed is not None:
        narrowed = plan.narrowed
        lists = {"targets": list(narrowed.targets), "excludes": list(narrowed.excludes)}
        document["narrowed"] = {"jobs": narrowed.jobs, "of": narrowed.of, **lists}
    return document


def _narrowed_from_json(document: Mapping[str, Any] | None) -> Narrowed | None:
    if document is None:
        return None
    return Narrowed(document["jobs"], document["of"], tuple(document["targets"]), tuple(document["excludes"]))


def _action_to_json(action: Action) -> dict[str, Any]:
    document: dict[str, Any] = {
        "job": action.job,
        "id": action.id,
        "action": action.kind.value,
        "reason": action.reason,
        "changes": [{"path": c.path, "before": c.before, "after": c.after} for c in action.changes],
        "calls": [{"method": c.method, "path": c.path, "body": c.body} for c in action.calls],
    }
    if action.error:
        document["error"] = action.error
    if action.suspended:
        document["suspended"] = True
    if action.drift:
        document["drift"] = action.drift
    return document


def _action_from_json(document: Mapping[str, Any]) -> Action:
    return Action(
        job=document["job"],
        id=document["id"],
        kind=ActionKind(document["action"]),
        reason=document["reason"],
        changes=tuple(Change(c["path"], c["before"], c["after"]) for c in document["changes"]),
        calls=tuple(Call(c["method"], c["path"], c["body"]) for c in document["calls"]),
        error=document.get("error", ""),
        suspended=document.get("suspended", False),
        drift=document.get("drift", ""),
    )


def _observation_to_json(seen: Observation) -> dict[str, Any]:
    document: dict[str, Any] = {
        "status": seen.status.value,
        "word": seen.word,
        "config": None if seen.config is None else dict(seen.config),
        "submittedAt": seen.submitted_at,
        "timestamps": dict(seen.timestamps) or None,
        "detail": seen.detail,
    }
    return {key: value for key, value in document.items() if value not in ("", None)}


def _observation_from_json(document: Mapping[str, Any]) -> Observation:
    if document["status"] == Status.NOT_OBSERVED:
        return NOT_OBSERVED
    return Observation(
        Status(document["status"]),
        document.get("word", ""),
        document.get("config"),
        document.get("submittedAt"),
        document.get("timestamps", EMPTY),
        document.get("detail", ""),
    )


def _outcome_to_json(outcome: ActionOutcome) -> dict[str, Any]:
    document = _action_to_json(outcome.action) | {"outcome": outcome.outcome.value}
    if outcome.done is not outcome.action.kind:
        document["done"] = outcome.done.value
    extras = {"note": outcome.note, "error": outcome.error, "status": outcome.status, "requestId": outcome.request_id}
    return document | {key: value for key, value in extras.items() if value}
