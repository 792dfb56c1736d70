"""What an answer of the jobs API means: two tables for the four classes, and the messages for people.

A call that changes a job and a read get different documents, so each has a table. A call counts as applied only if the
document holds `ok: true` and no error. The JSON of the API omits fields at their default, so a missing `ok` proves
nothing.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple

from reconciler.engines.bytenite.wire import DETAIL_LIMIT
from reconciler.engines.http.reply import Reply
from reconciler.engines.port import AnswerClass, Reason, Result
from reconciler.model.jobs import Verb


class _Row(NamedTuple):
    """One kind of answer: the test for a reply, the class, and whether the same request may be sent again."""

    matches: Callable[[Reply], bool]
    kind: AnswerClass
    repeat: bool = False


def _is_2xx(reply: Reply) -> bool:
    return reply.status is not None and 200 <= reply.status < 300


# The first row that matches applies. The rows with REJECTED test the status alone, so that a broken body changes
# nothing. Any status that these rows do not name is in doubt, other 4xx too: only the named ones prove that the
# service did nothing.
_UNDONE_ROWS = (
    _Row(lambda reply: not reply.sent, AnswerClass.NOT_SENT, repeat=True),
    # A 407 comes from a proxy that did not forward the request (RFC 9110, section 15.5.8).
    _Row(lambda reply: reply.status in (400, 401, 403, 404, 407), AnswerClass.REJECTED),
    _Row(lambda reply: reply.status == 429, AnswerClass.REJECTED, repeat=True),
)

_CALL_ROWS = (
    *_UNDONE_ROWS,
    _Row(lambda reply: reply.status in (500, 502, 503, 504), AnswerClass.IN_DOUBT),
    _Row(lambda reply: bool(reply.fault), AnswerClass.IN_DOUBT),
    _Row(lambda reply: _is_2xx(reply) and _reports_failure(reply), AnswerClass.REJECTED),
    _Row(lambda reply: _is_2xx(reply) and _fields(reply).get("ok") is True, AnswerClass.APPLIED),
    _Row(lambda _: True, AnswerClass.IN_DOUBT),
)

# A read changes nothing, so a read may be repeated if a later answer may differ. The caller checks the fields of the
# document.
_READ_ROWS = (
    *_UNDONE_ROWS,
    _Row(lambda reply: reply.status in (500, 502, 503, 504), AnswerClass.IN_DOUBT, repeat=True),
    _Row(lambda reply: bool(reply.fault), AnswerClass.IN_DOUBT, repeat=True),
    _Row(lambda reply: _is_2xx(reply) and _reports_failure(reply), AnswerClass.REJECTED),
    _Row(lambda reply: _is_2xx(reply) and isinstance(reply.document, dict), AnswerClass.APPLIED),
    _Row(_is_2xx, AnswerClass.IN_DOUBT, repeat=True),
    _Row(lambda _: True, AnswerClass.IN_DOUBT),
)


_REASONS: Mapping[int, Reason] = {
    400: Reason.INVALID,
    401: Reason.NOT_AUTHENTICATED,
    403: Reason.NOT_PERMITTED,
    404: Reason.NO_SUCH_JOB,
    429: Reason.BUSY,
}
"""The reasons of rejected calls by their status. Other statuses have the reason `OTHER`."""


def result_from(reply: Reply, redact: Callable[[str], str], verb: Verb | None = None) -> Result:
    """Return the result that a reply to a call stands for. `verb` is None for a read.

    The texts of the result hold no secrets, and are cut to `DETAIL_LIMIT` characters. A read counts as applied if a
    whole document without an error arrived.
    """
    kind = _row(reply, is_read=verb is None).kind
    message = _message(reply) if kind is AnswerClass.APPLIED else _failure_message(reply)
    request_id = _fields(reply).get("requestId")
    return Result(
        kind,
        _reason(reply, verb) if kind is AnswerClass.REJECTED else Reason.OTHER,
        _bounded(redact(message)),
        "" if reply.status is None else str(reply.status),
        _bounded(redact(request_id)) if isinstance(request_id, str) else "",
    )


def _reason(reply: Reply, verb: Verb | None) -> Reason:
    """Return the reason of a rejected call. An abort of a job that does not run is answered with a 400."""
    if verb is Verb.ABORT and reply.status == 400:
        return Reason.NOT_RUNNING
    return _REASONS.get(reply.status or 0, Reason.OTHER)


def may_repeat(reply: Reply, *, is_read: bool) -> bool:
    """Return whether the same request may be sent again after this reply, without an observation first."""
    return _row(reply, is_read).repeat


def _row(reply: Reply, is_read: bool) -> _Row:
    for row in _READ_ROWS if is_read else _CALL_ROWS:
        if row.matches(reply):
            return row
    raise AssertionError("the last row matches any reply")


def _reports_failure(reply: Reply) -> bool:
    fields = _fields(reply)
    return fields.get("ok") is False or _is_error(fields.get("error"))


def _is_error(error: object) -> bool:
    """Return whether an `error` holds any value.

    An error with all fields at their default may stand beside `ok: true`.
    """
    if isinstance(error, dict):
        return any(value not in (None, "", 0, "0", [], {}) for value in error.values())
    return bool(error)


def _fields(reply: Reply) -> Mapping[str, object]:
    return reply.document if isinstance(reply.document, dict) else {}


def _failure_message(reply: Reply) -> str:
    parts = [reply.fault, reply.remedy, _message(reply), _retry_advice(reply)]
    if reply.status is not None and 300 <= reply.status < 400:
        parts.insert(0, f"redirected to {reply.headers.get('location', 'nowhere')}, which is not followed")
    if _is_2xx(reply) and not reply.fault and not _reports_failure(reply):
        parts.insert(0, _unreadable_message(reply))
    return "; ".join(part for part in parts if part) or _phrase(reply.status)


def _retry_advice(reply: Reply) -> str:
    retry_after = reply.headers.get("retry-after")
    return f"it asks to wait before the next try (Retry-After: {retry_after})" if retry_after else ""


def _unreadable_message(reply: Reply) -> str:
    if isinstance(reply.document, dict):
        return "the answer does not say that it was done (`ok: true`)"
    return "the answer is no JSON object" if reply.text.strip() else "the answer is empty"


def _message(reply: Reply) -> str:
    """Return the message of the service.

    The message is that of the error, that of the answer, or the body itself if the body is not a JSON object.
    """
    fields = _fields(reply)
    if not fields:
        return " ".join(reply.text.split())
    error = fields.get("error")
    if isinstance(error, str) and error:
        return error
    source = error if isinstance(error, dict) and _is_error(error) else fields
    words = [value for name in ("message", "description") if isinstance(value := source.get(name), str) and value]
    code = source.get("code")
    if isinstance(code, (int, str)) and code not in (0, "0", ""):
        words.append(f"code {code}")
    return ": ".join(words)


def _phrase(status: int | None) -> str:
    try:
        return HTTPStatus(status or 0).phrase
    except ValueError:
        return ""


def _bounded(text: str) -> str:
    return text if len(text) <= DETAIL_LIMIT else text[: DETAIL_LIMIT - 1] + "…"
