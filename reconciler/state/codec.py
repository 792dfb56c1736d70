"""The format of a state file, and the JSON of records that the journal also holds.

A state file is indented JSON with sorted keys. Its first field is the SHA-256 digest of all bytes after that field's
line, so every edit, merge or truncation shows. The file holds no time of writing, no version of the tool and no secret.
All that is known of a job is in one place: `last` has the run counts that no record has. `schemas/state.schema.json`
describes the format.
"""

import json
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

from reconciler.model.commands import command
from reconciler.model.digests import sha256
from reconciler.model.errors import StateError
from reconciler.model.jobs import (
    ENDS,
    Config,
    Desired,
    Doubt,
    Evidence,
    Record,
    State,
    Status,
    Target,
    Verb,
    is_displaced,
    title,
)
from reconciler.model.json_values import canonical

FORMAT_VERSION = 2

_OPENING = b'{\n  "digest": "sha256:'
_CLOSING = b'",\n'
_DIGEST_LENGTH = 64


def encode(state: State) -> bytes:
    """The bytes of the state file. Equal states give equal bytes, and `decode` reads all of them.

    Raises `TypeError` or `ValueError` for a value that no state can have, and `StateError` where `refuse_ambiguous`
    does: what `decode` would refuse is never written.
    """
    refuse_ambiguous(state.jobs, "the state that is to be written")
    recorded = {record.id: record.run for record in state.jobs.values()}
    last = counts_from_json(state.last)
    document = {
        "formatVersion": FORMAT_VERSION,
        "identity": texts_from_json(state.identity),
        "jobs": {text_from_json(name): record_to_json(record) for name, record in state.jobs.items()},
        "last": {job_id: run for job_id, run in last.items() if run > recorded.get(job_id, 0)},
        "lineage": text_from_json(state.lineage),
        "serial": integer_from_json(state.serial),
        "target": _target_to_json(state.target),
    }
    text = json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True)
    rest = text.removeprefix("{\n").encode("utf-8", "backslashreplace") + b"\n"
    return _OPENING + digest_of(rest).encode() + _CLOSING + rest


def decode(content: bytes, where: str) -> State:
    """The state in a file's bytes. `where` names the file in messages.

    Raises `StateError` where the bytes are not those that `encode` made.
    """
    _refuse_conflict(content, where)
    digest = stated_digest(content)
    if not is_intact(content, digest):
        raise StateError(f"{where} is damaged: {_damage(content, digest)}", _recovery_hint(content, where))
    return _parse(content, where)


def decode_unchecked(content: bytes, where: str) -> State:
    """The state in a file's bytes, whatever the digest says. `where` names the file in messages.

    Raises `StateError` where the bytes are not a state, or where `refuse_ambiguous` refuses the state.
    """
    _refuse_conflict(content, where)
    return _parse(content, where, pairs=_each_key_once)


def refuse_ambiguous(jobs: Mapping[str, Record], where: str) -> None:
    """Raise `StateError` where two records have one engine job id, or where a key is not valid.

    A valid key is a name that a manifest may use, or the key of a displaced record (`model.jobs.displaced_key`).
    """
    if len({record.id for record in jobs.values()}) < len(jobs):
        key_of: dict[str, str] = {}
        for key, record in jobs.items():
            if record.id in key_of:
                raise StateError(
                    f"{where} has the engine job {record.id} under two names, {title(key_of[record.id])} and "
                    f"{title(key)}: it is not known which record is true",
                    "a merge by hand does that: take one side whole, or remove one of the two records; "
                    "then: `reconciler state accept`",
                )
            key_of[record.id] = key
    for key, record in jobs.items():
        if is_displaced(key) and not key.endswith(f"@{record.id}"):
            raise StateError(
                f'{where} has a record under "{key}", which is neither a name that a manifest permits nor the key '
                f"of the engine job {record.id}",
                "give it a name without a space at its beginning, then: `reconciler state accept`",
            )


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The JSON object with these members. Raises `ValueError` where a key occurs twice: one record would hide the
    other.
    """
    document = dict(pairs)
    if len(document) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f'"{next(key for key in document if keys.count(key) > 1)}" stands there twice')
    return document


def stated_digest(content: bytes) -> str:
    """The digest in the first field of a state file, in hexadecimal, "" where there is none."""
    end = len(_OPENING) + _DIGEST_LENGTH
    if content[: len(_OPENING)] != _OPENING or content[end : end + len(_CLOSING)] != _CLOSING:
        return ""
    return content[len(_OPENING) : end].decode("ascii", "replace")


def is_intact(content: bytes, digest: str) -> bool:
    """Whether these bytes are a state file that states this digest and matches it."""
    return bool(digest) and stated_digest(content) == digest == digest_of(_digested(content))


def _digested(content: bytes) -> memoryview:
    """The part of a state file that its digest covers."""
    return memoryview(content)[len(_OPENING) + _DIGEST_LENGTH + len(_CLOSING) :]


def digest_of(content: bytes | memoryview) -> str:
    """The SHA-256 digest, in hexadecimal."""
    return sha256(content)


def count_run(last: dict[str, int], record: Record) -> None:
    """Raise the run count of a record's job to that of the record. A count never decreases."""
    if record.run > last.get(record.id, 0):
        last[record.id] = record.run


def record_to_json(record: Record) -> dict[str, Any]:
    """The JSON object of a record. Empty fields are left out.

    Raises `TypeError` or `ValueError` for a record of which `record_from_json` would refuse the object.
    """
    text = text_from_json
    document: dict[str, Any] = {"id": text(record.id)}
    if record.state is not None:
        document["state"] = Desired(record.state).value
    if record.config:
        document["config"] = _config(record.config)
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
        document["run"] = count_from_json(record.run)
    if record.end is not None:
        document["end"] = _end(record.end).value
    if record.last_active:
        document["lastActive"] = text(record.last_active)
    if record.ref:
        document["ref"] = text(record.ref)
    if record.target is not None:
        document["target"] = _target_to_json(record.target)
    if record.ran_configs:
        document["ranConfigs"] = sorted(map(text, record.ran_configs))
    if record.keep_for_s is not None:
        document["keepFor"] = _seconds(record.keep_for_s)
    return document


def record_from_json(document: Mapping[str, Any]) -> Record:
    """The record in a JSON object of `record_to_json`.

    Raises `KeyError`, `TypeError` or `ValueError` for an object of another shape.
    """
    state = document.get("state")
    doubt = document.get("inDoubt")
    end = document.get("end")
    target = document.get("target")
    return Record(
        text_from_json(document["id"]),
        None if state is None else Desired(state),
        _config(document.get("config", {})),
        frozenset(map(text_from_json, document.get("runTokens", ()))),
        _text_or_none(document.get("submittedAt")),
        None if doubt is None else doubt_from_json(doubt),
        text_from_json(document["resolved"]) if "resolved" in document else "",
        "protect" in document and _boolean(document["protect"]),
        count_from_json(document.get("run", 0)),
        None if end is None else _end(end),
        text_from_json(document.get("lastActive", "")),
        text_from_json(document.get("ref", "")),
        None if target is None else _target_from_json(target),
        frozenset(map(text_from_json, document.get("ranConfigs", ()))),
        _seconds(document["keepFor"]) if "keepFor" in document else None,
    )


def records_digest(state: State) -> str:
    """The digest of all that a plan rests on in a state, as "sha256:<hex>".

    How a run ended and when it was last seen active are left out: a command that only notes these two makes no plan
    stale. Lineage, serial and target are left out as well, since a plan names them itself.
    """
    # Tuples, and not the objects of `record_to_json`, which would take three times as long.
    records = [(name, _basis(record)) for name, record in state.jobs.items()]
    records.sort(key=itemgetter(0))
    text = json.dumps([records, state.last], sort_keys=True, separators=(",", ":"), default=dict)
    return f"sha256:{sha256(text.encode())}"


def _basis(record: Record) -> tuple[object, ...]:
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
        record.target and _target_to_json(record.target),
        sorted(record.ran_configs),
        record.keep_for_s,
    )


def doubt_to_json(doubt: Doubt) -> dict[str, Any]:
    """The JSON object of a call in doubt. Fields that only some engines fill are left out if they are empty.

    Raises the errors of `record_to_json`.
    """
    text = text_from_json
    extras = {"run": count_from_json(doubt.run), "commit": text(doubt.commit), "staged": text(doubt.staged)}
    extras["firstSentAt"] = text(doubt.first_sent_at)
    return {name: value for name, value in extras.items() if value} | {
        "answer": text(doubt.answer),
        "before": None if doubt.before is None else _evidence_to_json(doubt.before),
        "config": _config(doubt.config),
        "op": text(doubt.op),
        "runToken": _text_or_none(doubt.run_token),
        "sentAt": text(doubt.sent_at),
        "verb": Verb(doubt.verb).value,
    }


def doubt_from_json(document: Mapping[str, Any]) -> Doubt:
    """The doubt in a JSON object of `doubt_to_json`. Raises the errors of `record_from_json`."""
    before = document["before"]
    return Doubt(
        op=text_from_json(document["op"]),
        verb=Verb(document["verb"]),
        config=_config(document["config"]),
        run_token=_text_or_none(document["runToken"]),
        before=None if before is None else _evidence(before),
        sent_at=text_from_json(document["sentAt"]),
        answer=text_from_json(document["answer"]),
        run=count_from_json(document.get("run", 0)),
        commit=text_from_json(document.get("commit", "")),
        staged=text_from_json(document.get("staged", "")),
        first_sent_at=text_from_json(document.get("firstSentAt", "")),
    )


def text_from_json(value: object) -> str:
    """The value itself. Raises `TypeError` where the value is not a string."""
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:80]} stands where a text is to be")
    return value


def integer_from_json(value: object) -> int:
    """The value itself. Raises `TypeError` where the value is not an integer."""
    if type(value) is not int:
        raise TypeError(f"{str(value)[:80]} stands where a whole number is to be")
    return value


def count_from_json(value: object) -> int:
    """The value itself. Raises `TypeError` where the value is not an integer, and `ValueError` below 0."""
    if (count := integer_from_json(value)) < 0:
        raise ValueError(f"{count} stands where a count is to be")
    return count


def counts_from_json(document: Mapping[str, Any]) -> dict[str, int]:
    """The values of an object, all of which are counts. Raises the errors of `count_from_json`."""
    return {text_from_json(name): count_from_json(value) for name, value in document.items()}


def texts_from_json(document: Mapping[str, Any]) -> dict[str, str]:
    """The values of an object, all of which are texts. Raises `TypeError` where one is not."""
    return {text_from_json(name): text_from_json(value) for name, value in document.items()}


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{str(value)[:80]} stands where true or false is to be")
    return value


def _seconds(value: object) -> float:
    """The value itself. Raises `TypeError` where it is no number, and `ValueError` where it is not finite."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{str(value)[:80]} stands where a number of seconds is to be")
    if not abs(value) < float("inf"):
        raise ValueError(f"{value} stands where a number of seconds is to be")
    return value


def _text_or_none(value: object) -> str | None:
    return None if value is None else text_from_json(value)


def _end(value: object) -> Status:
    """How a run ended. Raises `ValueError` where the value is no such status."""
    status = Status(text_from_json(value))
    if status not in ENDS:
        raise ValueError(f"{status} stands where the end of a run is to be")
    return status


def _target_to_json(target: Target) -> dict[str, str]:
    return {"endpoint": text_from_json(target.address), "engine": text_from_json(target.engine)}


def _target_from_json(document: Mapping[str, Any]) -> Target:
    return Target(text_from_json(document["engine"]), text_from_json(document["endpoint"]))


def _evidence_to_json(before: Evidence) -> dict[str, Any]:
    extras = {"runId": text_from_json(before.run_id), "ref": text_from_json(before.ref)}
    return {name: value for name, value in extras.items() if value} | {
        "status": Status(before.status).value,
        "submittedAt": _text_or_none(before.submitted_at),
        "timestamps": texts_from_json(before.timestamps),
        "word": text_from_json(before.word),
    }


def _evidence(document: Mapping[str, Any]) -> Evidence:
    return Evidence(
        Status(document["status"]),
        text_from_json(document["word"]),
        _text_or_none(document["submittedAt"]),
        texts_from_json(document["timestamps"]),
        text_from_json(document.get("runId", "")),
        text_from_json(document.get("ref", "")),
    )


def _config(document: Mapping[str, Any]) -> Config:
    """The config in a JSON object, with sorted keys.

    Raises `TypeError` where it is no object, and `ValueError` for NaN and the infinities, which `json` reads.
    """
    if not isinstance(document, Mapping):
        raise TypeError(f"{str(document)[:80]} stands where a config is to be")
    config: Config = canonical(document)
    return config


def _parse(content: bytes, where: str, pairs: Callable[[list[tuple[str, Any]]], dict[str, Any]] | None = None) -> State:
    try:
        document = json.loads(content, object_pairs_hook=pairs)
        version = document["formatVersion"]
        if version != FORMAT_VERSION:
            raise StateError(
                f"{where} has format version {version}, and this reconciler reads {FORMAT_VERSION}",
                "use the version of reconciler that wrote it, or a later one",
            )
        state = _state_from_json(document)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as fault:
        raise StateError(
            f"{where} is no state file: {_damage(content, '') if not content else str(fault)[:200]}",
            _restore_hint(where),
        ) from fault
    refuse_ambiguous(state.jobs, where)
    return state


def _state_from_json(document: Mapping[str, Any]) -> State:
    jobs = {name: record_from_json(record) for name, record in document["jobs"].items()}
    last = counts_from_json(document["last"])
    last.update({record.id: record.run for record in jobs.values() if record.run > last.get(record.id, 0)})
    return State(
        lineage=text_from_json(document["lineage"]),
        serial=integer_from_json(document["serial"]),
        target=_target_from_json(document["target"]),
        jobs=jobs,
        last=last,
        identity=texts_from_json(document["identity"]),
    )


def _refuse_conflict(content: bytes, where: str) -> None:
    if any(content.startswith(mark) or b"\n" + mark in content for mark in (b"<<<<<<< ", b">>>>>>> ", b"||||||| ")):
        raise StateError(
            f"{where} holds the marks of a git merge conflict",
            "take one side whole (git checkout --ours or --theirs), then: `reconciler state accept`",
        )


def _damage(content: bytes, digest: str) -> str:
    """What is wrong with a file's bytes, in words."""
    if not content:
        return "it is empty"
    if b"\r\n" in content:
        return "its line ends were changed to CR LF (in .gitattributes: *.state.json -text)"
    if not digest:
        return "it does not begin with its digest"
    if not content.endswith(b"}\n"):
        return "it is cut short"
    return "its content does not match its digest, so it was edited or merged by hand"


def _recovery_hint(content: bytes, where: str) -> str:
    """What to do about a file that does not match its digest. Only a file that can be read can be accepted."""
    try:
        _parse(content, where)
    except StateError as fault:
        return fault.hint
    return f"restore it (git checkout -- {where}), or look it through and accept it as it is: `reconciler state accept`"


def _restore_hint(where: str) -> str:
    return (
        f"restore the last one that was whole (git checkout -- {where}; git log -- {where} shows which there are), "
        "or move this file away, and see which jobs an apply without it would take over, and which it would run: "
        f"{command('plan', options=['--refresh', '--state', where])}"
    )
