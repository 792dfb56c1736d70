"""The check of a manifest as SARIF 2.1.0, which code scanning services and editors read.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

import os
import re
from collections.abc import Callable, Iterable
from typing import Any

from reconciler.host.safe_text import field
from reconciler.model.errors import ReconcilerError
from reconciler.model.places import Diagnostic
from reconciler.views.answers import FailureAnswer, ValidationAnswer
from reconciler.views.formats import Channel, Format, ViewContext
from reconciler.views.json import completed, dumps
from reconciler.views.phrases import not_shown

FORMAT = Format(Channel.DOCUMENT)

_RULE = "manifest"


@FORMAT.shows(ValidationAnswer)
def _(answer: ValidationAnswer, context: ViewContext) -> str:
    return dumps(completed(report(answer.diagnostics, context.repository_path, more=answer.more), context))


@FORMAT.shows(FailureAnswer)
def _(answer: FailureAnswer, context: ViewContext) -> str:
    return dumps(completed(error(answer.fault), context))


def report(found: Iterable[Diagnostic], file_of: Callable[[str], str] = str, *, more: int = 0) -> dict[str, Any]:
    """Return the log of a check, with one result for each fault.

    `file_of` turns a file name of the command line into a path in the repository. `more` is the number of faults that
    `found` leaves out.
    """
    invocation: dict[str, Any] = {"executionSuccessful": True}
    if more:
        notification = {"level": "warning", "message": {"text": not_shown(more)}}
        invocation["toolExecutionNotifications"] = [notification]
    return _log([_result(one, file_of) for one in found], invocation)


def error(fault: ReconcilerError) -> dict[str, Any]:
    """Return the log of a check that could not be completed."""
    text = "\n".join(_message(part) for part in (fault.message, fault.hint) if part)
    notification = {"level": "error", "message": {"text": text}}
    return _log([], {"executionSuccessful": False, "toolExecutionNotifications": [notification]})


def _log(results: list[dict[str, Any]], invocation: dict[str, Any]) -> dict[str, Any]:
    rule = {
        "id": _RULE,
        "name": "ManifestFault",
        "shortDescription": {"text": "A fault in the manifest"},
        "fullDescription": {"text": "The manifest can't be used as it stands: nothing is planned and nothing applied."},
        "help": {"text": "The message says what would be right. `reconciler schema` prints the manifest's schema."},
        "defaultConfiguration": {"level": "error"},
    }
    run = {
        "tool": {"driver": {"name": "reconciler", "rules": [rule]}},
        "invocations": [invocation],
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    return {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}


def _result(one: Diagnostic, file_of: Callable[[str], str]) -> dict[str, Any]:
    where = one.position
    return {
        "ruleId": _RULE,
        "ruleIndex": 0,
        "level": "error",
        "message": {"text": _message(one.message)},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(file_of(where.file))},
                    "region": {"startLine": where.line, "startColumn": where.column},
                }
            }
        ],
    }


def _message(text: str) -> str:
    """Return a text in which a viewer finds no link (section 3.11.6) and no placeholder (section 3.11.5)."""
    return re.sub(r"\{(\d+)\}", r"{{\1}}", field(text).replace("](", "] ("))


def _uri(path: str) -> str:
    """Return a relative path as a relative URI, and an absolute path as a `file:` URI."""
    from urllib.parse import quote

    encoded = quote(os.path.normpath(path).replace(os.sep, "/"), safe="/", errors="surrogateescape")
    return f"file://{encoded}" if encoded.startswith("/") else encoded
