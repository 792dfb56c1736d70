"""The JSON of a record, and of a call in doubt, which a state file and a journal share."""

from collections.abc import Mapping
from typing import Any

from reconciler.model.jobs import ENDS, Desired, Doubt, Evidence, Record, Status, Target, Verb
from reconciler.state.json_types import (
    boolean_from_json,
    config_from_json,
    field_from_json,
    object_from_json,
    run_from_json,
    seconds_from_json,
    text_from_json,
    text_or_none_from_json,
    text_set_from_json,
    texts_from_json,
    word_from_json,
)


def record_to_json(record: Record) -> dict[str, Any]:
    """The JSON object of a record. Empty fields are left out.

    Raises `TypeError` or `ValueError` for a record of which `record_from_json` would refuse the object.
    """
    text = text_from_json
    document: dict[str, Any] = {"id": text(record.id)}
    if record.state is not None:
        document["state"] = Desired(record.state).value
    if record.config:
        document["config"] = config_from_json(record.config)
    if record.run_tokens:
        document["runTokens"] = sorted(map(text, record.run_tokens))
    if record.submitted_at is not None:
        document["submittedAt"] = text(record.submitted_at)
    if record.doubt is not None:
        document["inDoubt"] = doubt_to_json(record.doubt)
    if record.resolved:
        document["resolved"] = text(record.resolved)
    if record.protect:
        document["protect"] = True
    if record.run:
        document["run"] = run_from_json(record.run)
    if record.end is not None:
        document["end"] = _end_from_json(record.end).value
    if record.last_active:
        document["lastActive"] = text(record.last_active)
    if record.ref:
        document["ref"] = text(record.ref)
    if record.target is not None:
        document["target"] = target_to_json(record.target)
    if record.ran_configs:
        document["ranConfigs"] = sorted(map(text, record.ran_configs))
    if record.keep_for_s is not None:
        document["keepFor"] = seconds_from_json(record.keep_for_s)
    if record.abort_unseen:
        document["abortUnseen"] = True
    return document


def record_from_json(document: Mapping[str, Any]) -> Record:
    """The record in a JSON object of `record_to_json`.

    Raises `TypeError` or `ValueError` for an object of another shape.
    """
    document = object_from_json(document)
    state = document.get("state")
    doubt = document.get("inDoubt")
    end = document.get("end")
    target = document.get("target")
    return Record(
        text_from_json(field_from_json(document, "id")),
        None if state is None else word_from_json(Desired, state),
        config_from_json(document.get("config", {})),
        text_set_from_json(document.get("runTokens", ())),
        text_or_none_from_json(document.get("submittedAt")),
        None if doubt is None else doubt_from_json(doubt),
        text_from_json(document["resolved"]) if "resolved" in document else "",
        "protect" in document and boolean_from_json(document["protect"]),
        run_from_json(document.get("run", 0)),
        None if end is None else _end_from_json(end),
        text_from_json(document.get("lastActive", "")),
        text_from_json(document.get("ref", "")),
        None if target is None else target_from_json(target),
        text_set_from_json(document.get("ranConfigs", ())),
        seconds_from_json(document["keepFor"]) if "keepFor" in document else None,
        "abortUnseen" in document and boolean_from_json(document["abortUnseen"]),
    )


def doubt_to_json(doubt: Doubt) -> dict[str, Any]:
    """The JSON object of a call in doubt. Fields that only some engines fill are left out if they are empty.

    Raises the errors of `record_to_json`.
    """
    text = text_from_json
    extras = {"run": run_from_json(doubt.run), "commit": text(doubt.commit), "staged": text(doubt.staged)}
    extras["firstSentAt"] = text(doubt.first_sent_at)
    return {name: value for name, value in extras.items() if value} | {
        "answer": text(doubt.answer),
        "before": None if doubt.before is None else _evidence_to_json(doubt.before),
        "config": config_from_json(doubt.config),
        "op": text(doubt.op),
        "runToken": text_or_none_from_json(doubt.run_token),
        "sentAt": text(doubt.sent_at),
        "verb": Verb(doubt.verb).value,
    }


def doubt_from_json(document: Mapping[str, Any]) -> Doubt:
    """The doubt in a JSON object of `doubt_to_json`. Raises the errors of `record_from_json`."""
    before = field_from_json(document, "before")
    return Doubt(
        op=text_from_json(field_from_json(document, "op")),
        verb=word_from_json(Verb, field_from_json(document, "verb")),
        config=config_from_json(field_from_json(document, "config")),
        run_token=text_or_none_from_json(field_from_json(document, "runToken")),
        before=None if before is None else _evidence_from_json(before),
        sent_at=text_from_json(field_from_json(document, "sentAt")),
        answer=text_from_json(field_from_json(document, "answer")),
        run=run_from_json(document.get("run", 0)),
        commit=text_from_json(document.get("commit", "")),
        staged=text_from_json(document.get("staged", "")),
        first_sent_at=text_from_json(document.get("firstSentAt", "")),
    )


def target_to_json(target: Target) -> dict[str, str]:
    return {"endpoint": text_from_json(target.address), "engine": text_from_json(target.engine)}


def target_from_json(document: Mapping[str, Any]) -> Target:
    return Target(*(text_from_json(field_from_json(document, name)) for name in ("engine", "endpoint")))


def _evidence_to_json(before: Evidence) -> dict[str, Any]:
    extras = {"runId": text_from_json(before.run_id), "ref": text_from_json(before.ref)}
    return {name: value for name, value in extras.items() if value} | {
        "status": Status(before.status).value,
        "submittedAt": text_or_none_from_json(before.submitted_at),
        "timestamps": texts_from_json(before.timestamps),
        "word": text_from_json(before.word),
    }


def _evidence_from_json(document: Mapping[str, Any]) -> Evidence:
    return Evidence(
        word_from_json(Status, field_from_json(document, "status")),
        text_from_json(field_from_json(document, "word")),
        text_or_none_from_json(field_from_json(document, "submittedAt")),
        texts_from_json(field_from_json(document, "timestamps")),
        text_from_json(document.get("runId", "")),
        text_from_json(document.get("ref", "")),
    )


def _end_from_json(value: object) -> Status:
    """How a run ended. Raises `ValueError` where the value is no such status."""
    status = word_from_json(Status, value)
    if status not in ENDS:
        raise ValueError(f"{status} stands where the end of a run is to be")
    return status


def basis_of(record: Record) -> tuple[object, ...]:
    """All fields of a record but `end` and `last_active`, as values of JSON."""
    return (
        record.id,
        record.state,
        record.config,
        sorted(record.run_tokens),
        record.submitted_at,
        record.doubt and doubt_to_json(record.doubt),
        record.resolved,
        record.protect,
        record.run,
        record.ref,
        record.target and target_to_json(record.target),
        sorted(record.ran_configs),
        record.keep_for_s,
        record.abort_unseen,
    )
