"""Checks what an engine answers: each value of the port has the types that the port gives it.

The state keeps parts of these values, and a plan shows others. A value of another type would make a state that can't be
read again, or a plan that is no JSON.

Each function returns the value, or raises `Malformed` with a clause that says what is wrong.
"""

import math
from collections.abc import Mapping
from typing import Any

from reconciler.engines.port import (
    AnswerClass,
    Execution,
    Marks,
    Observation,
    Promises,
    Reason,
    Request,
    Result,
    Status,
    Target,
    Verb,
)
from reconciler.model.json_values import canonical
from reconciler.rules.runs import MAX_RUN, has_sane_number

LONGEST_TEXT = 20_000
"""The most characters of a text for people. A longer text is cut."""
LONGEST_WORD = 1_000
"""The most characters of a text that is compared or kept: a handle, a code, a time, a name."""
LONGEST_RUN_ID = 200

REPORTED = frozenset(
    (
        Status.NOT_OBSERVED,
        Status.DRAFT,
        Status.ACTIVE,
        Status.COMPLETE,
        Status.FAILED,
        Status.ABORTED,
        Status.WITHDRAWN,
        Status.MISSING,
        Status.UNREADABLE,
    )
)
"""The statuses that an engine reports. The rules derive the others."""


class Malformed(Exception):
    """A value that the port does not permit. The message is a clause, such as "a result whose ref is no text"."""


def observation(value: object) -> Observation:
    """Return an observation. Its config is a copy, with the keys in order."""
    what = "an observation"
    if not isinstance(value, Observation):
        raise Malformed(f"{_kind(value)} where an observation is to be")
    status: Any = value.status
    if not isinstance(status, Status) or status not in REPORTED:
        raise Malformed(f"{what} whose status is {_kind(status)}, which is none that an engine reports")
    if value.submitted_at is not None:
        word(value.submitted_at, f"{what} whose submitted_at")
    word(value.run_id, f"{what} whose run_id", LONGEST_RUN_ID)
    if not has_sane_number(value.run_id):
        raise Malformed(f"{what} whose run_id has a number above {MAX_RUN}")
    marks = value.marks
    if not isinstance(marks, Marks):
        raise Malformed(f"{what} whose marks are {_kind(marks)}, and no Marks")
    for name, mark in zip(Marks._fields, marks, strict=True):
        word(mark, f"{what} whose mark {name}")
    return value._replace(
        is_answer=True,
        word=text(value.word, f"{what} whose word"),
        config=None if value.config is None else json_object(value.config, f"{what} whose config"),
        timestamps=texts(value.timestamps, f"{what} whose timestamps"),
        detail=text(value.detail, f"{what} whose detail"),
        name=text(value.name, f"{what} whose name"),
        ref=word(value.ref, f"{what} whose ref"),
        execution=_execution(value.execution),
        owned_by=text(value.owned_by, f"{what} whose owned_by"),
    )


def _execution(value: object) -> Execution:
    what = "an execution"
    if not isinstance(value, Execution):
        raise Malformed(f"{_kind(value)} where an execution is to be")
    for name in ("node", "started_at", "ended_at", "signal"):
        word(getattr(value, name), f"{what} whose {name}")
    for name in ("pid", "attempts", "exit_code", "max_memory_bytes", "took_s", "cpu_s"):
        number: Any = getattr(value, name)
        is_whole = name not in ("took_s", "cpu_s")
        if number is None and name not in ("pid", "attempts"):
            continue
        if isinstance(number, bool) or not isinstance(number, int if is_whole else int | float):
            raise Malformed(
                f"{what} whose {name} is {_kind(number)}, and no {'whole number' if is_whole else 'number'}"
            )
        if not math.isfinite(number) or abs(number) > 2**63:
            raise Malformed(f"{what} whose {name} is beyond all bounds")
    return value._replace(reason=text(value.reason, f"{what} whose reason"))


def result(value: object) -> Result:
    """Return the result of a call. A message that is too long is cut."""
    what = "a result"
    if not isinstance(value, Result):
        raise Malformed(f"{_kind(value)} where a result is to be")
    if not isinstance(value.kind, AnswerClass):
        raise Malformed(f"{what} whose kind is {_kind(value.kind)}, and no AnswerClass")
    if not isinstance(value.reason, Reason):
        raise Malformed(f"{what} whose reason is {_kind(value.reason)}, and no Reason")
    for name in ("code", "trace_id", "ref"):
        word(getattr(value, name), f"{what} whose {name}")
    return value._replace(message=text(value.message, f"{what} whose message"))


def promises(value: object) -> Promises:
    """Return the promises of an engine."""
    if not isinstance(value, Promises):
        raise Malformed(f"{_kind(value)} where promises are to be")
    for name, promise in zip(Promises._fields, value, strict=True):
        if name != "keeps_ended_s" and not isinstance(promise, bool):
            raise Malformed(f"promises whose {name} is {_kind(promise)}, and neither True nor False")
    kept_s: Any = value.keeps_ended_s
    if isinstance(kept_s, bool) or not isinstance(kept_s, int | float) or math.isnan(kept_s) or kept_s < 0:
        raise Malformed(f"promises whose keeps_ended_s is {_kind(kept_s)}, and no time in seconds")
    return value


def identity(value: object) -> Mapping[str, str]:
    """Return a copy of the named parts of an identity."""
    parts = texts(value, "an identity that")
    if "" in parts:
        raise Malformed("an identity with a part that has no name")
    return parts


def target(value: object, engine: str) -> Target:
    """Return a target of the engine."""
    if not isinstance(value, Target):
        raise Malformed(f"{_kind(value)} where a target is to be")
    if value.engine != engine:
        raise Malformed(f"a target whose engine is {_kind(value.engine)}, and not {engine}")
    word(value.address, "a target whose address", LONGEST_TEXT)
    return value


def request(value: object) -> Request:
    """Return a request of a plan."""
    if not isinstance(value, Request):
        raise Malformed(f"{_kind(value)} where a request is to be")
    if not isinstance(value.verb, Verb):
        raise Malformed(f"a request whose verb is {_kind(value.verb)}, and no Verb")
    body = None if value.body is None else json_object(value.body, "a request whose body")
    return value._replace(text=text(value.text, "a request whose text"), body=body)


def truth(value: object) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise Malformed(f"{_kind(value)} where True or False is to be")
    return value


def text(value: object, what: str = "a value that") -> str:
    """Return a text for people, which is cut if it is too long. `what` begins the clause about another value."""
    if not isinstance(value, str):
        raise Malformed(f"{what} is {_kind(value)}, and no text")
    return value if len(value) <= LONGEST_TEXT else f"{value[:LONGEST_TEXT]}…"


def word(value: object, what: str, longest: int = LONGEST_WORD) -> str:
    """Return a text that is compared or kept, and that can't be cut."""
    if not isinstance(value, str):
        raise Malformed(f"{what} is {_kind(value)}, and no text")
    if len(value) > longest:
        raise Malformed(f"{what} has {len(value)} characters, and {longest} at most are read")
    return value


def texts(value: object, what: str) -> dict[str, str]:
    """Return a copy of a mapping of texts to texts."""
    if not isinstance(value, Mapping):
        raise Malformed(f"{what} is {_kind(value)}, and no mapping")
    return {
        word(name, f"{what} has a key that"): word(each, f"{what} has a value that") for name, each in value.items()
    }


def json_object(value: object, what: str) -> dict[str, Any]:
    """Return a copy of a JSON object, with the keys in order."""
    if not isinstance(value, Mapping):
        raise Malformed(f"{what} is {_kind(value)}, and no mapping")
    try:
        made: dict[str, Any] = canonical(value)
    except (TypeError, ValueError, RecursionError) as fault:
        raise Malformed(f"{what} is no JSON: {fault}") from fault
    return made


def _kind(value: object) -> str:
    """Return a value in a few words. The text of an object of an unknown type is left out."""
    if value is None or isinstance(value, bool | int | float | str):
        shown = f"{value!r:.60}"
        return shown if len(shown) < 60 else f"{shown}…"
    return f"a {type(value).__name__}"
