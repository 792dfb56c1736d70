"""The files of saved plans: writing one, and reading one."""

import os
from typing import Any

from reconciler.model.commands import command
from reconciler.model.errors import ReconcilerError, Refused
from reconciler.model.plan import Plan

_MAKE_A_PLAN = f"make one: {command('plan', options=['--out', 'FILE'])}"

_NO_PLANS = (".yaml", ".yml", ".state.json", ".journal", ".lock", ".history.jsonl", ".tmp")
"""The endings of the names of manifests, states, and the files beside a state. No plan is saved under such a name."""


def save_plan(plan: Plan, path: str) -> None:
    """Save a plan. Raises `Refused` if the plan would overwrite a file of another kind.

    Raises `ReconcilerError` if the file can't be written.
    """
    from reconciler.manifest.kinds import kind_at
    from reconciler.model.plan_json import plan_to_json
    from reconciler.views import json

    try:
        real = os.path.realpath(path)
        if _is_of_another_kind(real):
            kind = kind_at(real)
            there = f"{kind} is there" if kind else "a file of another kind is there, or has such a name"
            raise Refused(f"--out {path}: {there}", "name a file that is not there yet, such as plan.json")
        with open(path, "w", encoding="utf-8") as file:
            file.write(json.dumps(plan_to_json(plan)))
    except OSError as fault:
        raise ReconcilerError(f"--out {path}: {fault.strerror}", "name a file that can be written") from fault


def _is_of_another_kind(path: str) -> bool:
    """Whether a file is a state, a journal, a history or a manifest, or is named like one."""
    import json

    if path.endswith(_NO_PLANS):
        return True
    if not os.path.isfile(path):  # there is no file, or a device such as /dev/stdout
        return False
    with open(path, "rb") as file:
        content = file.read()
    try:
        found = json.loads(content) if content.strip() else {"actions": []}
    except ValueError:
        return True
    return not (isinstance(found, dict) and "actions" in found)


def load_plan(path: str) -> Plan:
    """The saved plan in a file. Raises `ReconcilerError` if the file can't be read, or is no saved plan.

    Raises `Refused` for a plan whose parts contradict each other.
    """
    from reconciler.manifest.files import content_of
    from reconciler.manifest.kinds import FileKind, kind_of

    try:
        content = content_of(path)
        if (kind := kind_of(content)) not in (None, FileKind.PLAN):
            raise ReconcilerError(f"--plan {path} is {kind}, not a saved plan", _MAKE_A_PLAN)
        text = content.decode()
        why = "" if text.strip() else "is no saved plan: it is empty"
    except FileNotFoundError:
        why = "can't be read: there is no such file"
    except UnicodeDecodeError:
        why = "is no saved plan: it is not UTF-8"
    except OSError as fault:
        why = f"can't be read: {fault.strerror}"
    if why:
        raise ReconcilerError(f"--plan {path} {why}", _MAKE_A_PLAN)
    return _parsed(text, path)


def _parsed(text: str, where: str) -> Plan:
    """The plan in a text from the file `where`. Raises `ReconcilerError` if the text is no saved plan."""
    import json

    from reconciler.manifest.schema import Validator, schema_text
    from reconciler.model.plan_json import plan_from_json, plan_to_json

    try:
        document = json.loads(text, object_pairs_hook=_each_key_once)
    except (ValueError, RecursionError) as fault:
        raise ReconcilerError(f"{where} is no saved plan: {fault}", _MAKE_A_PLAN) from fault
    for path, _, message in Validator(json.loads(schema_text("plan.schema.json"))).refusals(document):
        raise ReconcilerError(
            f"{where} is no saved plan: {'.'.join(map(str, path)) or 'the document'}: {message}",
            _MAKE_A_PLAN,
        )
    plan = plan_from_json(document)
    document.pop("refused", None)
    if json.dumps(plan_to_json(plan), sort_keys=True) != json.dumps(document, sort_keys=True):
        raise stale_plan(f"{where} was edited: its parts contradict each other")
    return plan


def stale_plan(why: str, hint: str = "") -> Refused:
    """The refusal of a saved plan."""
    return Refused(f"the saved plan is stale: {why}", hint or "make a new one, review it, and apply that")


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises `ValueError` for a repeated key, since readers differ in which value they take."""
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a field stands there twice")
    return document
