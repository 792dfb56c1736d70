"""The JSON form of plans and outcomes.

`schemas/plan.schema.json` and `schemas/outcome.schema.json` define the two forms. A plan that is written and read again
equals the first plan.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.model.jobs import EMPTY, NOT_OBSERVED, Marks, Observation, Status, Target, Verb, title
from reconciler.model.outcomes import ActionOutcome
from reconciler.model.plan import NULL, Action, ActionKind, Change, Narrowed, Plan, Request, summary

FORMAT_VERSION = 2


def plan_digest(plan: Plan) -> str:
    """The digest of a plan, as "sha256:<hex>". Two plans that do the same have the same digest.

    The digest covers the JSON form of the plan: keys sorted, no white space, all but ASCII escaped. It leaves out
    `commit`, because a merge gives the same content a new commit. It leaves out `observed` too, because the actions
    tell what follows from the observations. It leaves out `serial` if the digest of the records says more: a command
    that only notes how runs ended makes no plan another one.
    """
    import json

    from reconciler.model.digests import sha256

    document = plan_to_json(plan._replace(observed=EMPTY))
    del document["commit"]
    if plan.records_digest:
        del document["serial"]
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return f"sha256:{sha256(text.encode())}"


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """The plan as JSON values. The keys are in the order in which they are printed."""
    document = {
        **_header(plan),
        "actions": [_action_to_json(action) for action in plan.actions],
        **_footer(plan),
    }
    if plan.prune:
        document["prune"] = True
    if plan.state:
        document["state"] = plan.state
    if plan.records_digest:
        document["recordsDigest"] = plan.records_digest
    if plan.observed:
        document["observed"] = {id_: _observation_to_json(found) for id_, found in sorted(plan.observed.items())}
    return document


def first_difference(plan: Plan, other: Plan) -> str:
    """The first field that differs between two plans, or the first job whose action differs; "" if the plans are equal.

    The JSON forms are compared, without `commit`, `serial`, `allowed` and `warnings`: these do not change what an apply
    does.
    """
    import json

    left, right = (
        plan_to_json(one._replace(commit=None, serial=0, allowed=EMPTY, warnings=())) for one in (plan, other)
    )

    def text(value: Any) -> str:
        return json.dumps(value, sort_keys=True)

    if text(left) == text(right):
        return ""
    for name in dict.fromkeys([*left, *right]):
        if name not in ("actions", "summary") and text(left.get(name)) != text(right.get(name)):
            return f"`{name}`"
    actions = zip(left["actions"], right["actions"], strict=False)
    job = next((one["job"] for one, two in actions if text(one) != text(two)), "")
    return f"what is planned of {title(job)}" if job else "the number of its actions"


def outcomes_to_json(plan: Plan, outcomes: Iterable[ActionOutcome]) -> dict[str, Any]:
    """The outcome of an apply as JSON values. The form is that of a plan, with an outcome in each action."""
    return {
        **_header(plan),
        "actions": [_outcome_to_json(outcome) for outcome in outcomes],
        **_footer(plan),
    }


def plan_from_json(document: Mapping[str, Any]) -> Plan:
    """The plan that `plan_to_json` wrote. The document must be valid under the schema of plans."""
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
        records_digest=document.get("recordsDigest", ""),
        observed={id_: _observation_from_json(found) for id_, found in document.get("observed", {}).items()},
    )


def target_to_json(target: Target) -> dict[str, str]:
    """The target as JSON values. An embedded sandbox has no endpoint."""
    return {"engine": target.engine} | ({"endpoint": target.address} if target.address else {})


def _header(plan: Plan) -> dict[str, Any]:
    """The fields before the actions."""
    return {
        "formatVersion": FORMAT_VERSION,
        "target": target_to_json(plan.target),
        "lineage": plan.lineage,
        "serial": plan.serial,
        "manifestDigest": plan.manifest_digest,
        "commit": plan.commit,
        "paths": list(plan.paths),
        "summary": summary([action.kind for action in plan.actions]),
    }


def _footer(plan: Plan) -> dict[str, Any]:
    """The fields after the actions. A field that is empty is left out, except `undeclared`."""
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
        "changes": [change_to_json(change) for change in action.changes],
        "calls": [{"verb": c.verb.value, "request": c.text, "body": c.body} for c in action.calls],
    }
    if action.run_id:
        document["runId"] = action.run_id
    if action.error:
        document["error"] = action.error
    if action.frozen:
        document["frozen"] = True
    if action.drift:
        document["drift"] = action.drift
    return document


def _action_from_json(document: Mapping[str, Any]) -> Action:
    return Action(
        job=document["job"],
        id=document["id"],
        kind=ActionKind(document["action"]),
        reason=document["reason"],
        changes=tuple(map(_change_from_json, document["changes"])),
        calls=tuple(Request(Verb(c["verb"]), c["request"], c["body"]) for c in document["calls"]),
        error=document.get("error", ""),
        frozen=document.get("frozen", False),
        drift=document.get("drift", ""),
        run_id=document.get("runId", ""),
    )


def change_to_json(change: Change) -> dict[str, Any]:
    """The change as JSON values. `nulls` names the sides whose value is the null of JSON, rather than not set."""
    nulls = [side for side, value in (("before", change.before), ("after", change.after)) if value is NULL]
    before, after = (None if value is NULL else value for value in change[1:])
    return {"path": change.path, "before": before, "after": after} | ({"nulls": nulls} if nulls else {})


def _change_from_json(document: Mapping[str, Any]) -> Change:
    nulls = dict.fromkeys(document.get("nulls", ()), NULL)
    return Change(**{"path": document["path"], "before": document["before"], "after": document["after"]} | nulls)


def _observation_to_json(observed: Observation) -> dict[str, Any]:
    document: dict[str, Any] = {
        "status": observed.status.value,
        "word": observed.word,
        "config": None if observed.config is None else dict(observed.config),
        "submittedAt": observed.submitted_at,
        "timestamps": dict(observed.timestamps) or None,
        "detail": observed.detail,
        "runId": observed.run_id,
        "ref": observed.ref,
        "marks": {name: value for name, value in _marks_to_json(observed.marks).items() if value} or None,
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
        run_id=document.get("runId", ""),
        ref=document.get("ref", ""),
        marks=Marks(*(document.get("marks", EMPTY).get(name, "") for name in _marks_to_json(Marks()))),
    )


def _marks_to_json(marks: Marks) -> dict[str, str]:
    """The marks by their names, in the order of `Marks`."""
    return {
        "lineage": marks.lineage,
        "op": marks.op,
        "configDigest": marks.config_digest,
        "tokenDigest": marks.token_digest,
        "commit": marks.commit,
    }


def _outcome_to_json(outcome: ActionOutcome) -> dict[str, Any]:
    document = _action_to_json(outcome.action) | {"outcome": outcome.outcome.value}
    if outcome.done is not outcome.action.kind:
        document["done"] = outcome.done.value
    extras = {"note": outcome.note, "error": outcome.error, "status": outcome.status, "requestId": outcome.request_id}
    return document | {key: value for key, value in extras.items() if value}
