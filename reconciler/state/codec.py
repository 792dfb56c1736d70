"""The format of a state file.

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
from reconciler.model.jobs import Record, State, is_displaced, title
from reconciler.state.json_types import (
    field_from_json,
    object_from_json,
    runs_from_json,
    serial_from_json,
    text_from_json,
    texts_from_json,
    words_of,
)
from reconciler.state.record_json import basis_of, record_from_json, record_to_json, target_from_json, target_to_json

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
    last = runs_from_json(state.last)
    document = {
        "formatVersion": FORMAT_VERSION,
        "identity": texts_from_json(state.identity),
        "jobs": {text_from_json(name): record_to_json(record) for name, record in state.jobs.items()},
        "last": {job_id: run for job_id, run in last.items() if run > recorded.get(job_id, 0)},
        "lineage": text_from_json(state.lineage),
        "serial": serial_from_json(state.serial),
        "target": target_to_json(state.target),
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


def records_digest(state: State) -> str:
    """The digest of all that a plan rests on in a state, as "sha256:<hex>".

    How a run ended and when it was last seen active are left out: a command that only notes these two makes no plan
    stale. Lineage, serial and target are left out as well, since a plan names them itself.
    """
    # Tuples, and not the objects of `record_to_json`, which would take three times as long.
    records = [(name, basis_of(record)) for name, record in state.jobs.items()]
    records.sort(key=itemgetter(0))
    text = json.dumps([records, state.last], sort_keys=True, separators=(",", ":"), default=dict)
    return f"sha256:{sha256(text.encode())}"


def _parse(content: bytes, where: str, pairs: Callable[[list[tuple[str, Any]]], dict[str, Any]] | None = None) -> State:
    try:
        document = json.loads(content, object_pairs_hook=pairs)
        version = field_from_json(document, "formatVersion")
        if version != FORMAT_VERSION:
            raise StateError(
                f"{where} has format version {version}, and this reconciler reads {FORMAT_VERSION}",
                "use the version of reconciler that wrote it, or a later one",
            )
        state = _state_from_json(document)
    except (ValueError, TypeError, RecursionError) as fault:
        why = words_of(fault) if content else _damage(content, "")
        raise StateError(f"{where} is no state file: {why}", _restore_hint(where)) from fault
    refuse_ambiguous(state.jobs, where)
    return state


def _state_from_json(document: Mapping[str, Any]) -> State:
    records = object_from_json(field_from_json(document, "jobs"))
    jobs = {name: record_from_json(record) for name, record in records.items()}
    last = runs_from_json(field_from_json(document, "last"))
    last.update({record.id: record.run for record in jobs.values() if record.run > last.get(record.id, 0)})
    return State(
        lineage=text_from_json(field_from_json(document, "lineage")),
        serial=serial_from_json(field_from_json(document, "serial")),
        target=target_from_json(field_from_json(document, "target")),
        jobs=jobs,
        last=last,
        identity=texts_from_json(field_from_json(document, "identity")),
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
