"""The check of a manifest as SARIF 2.1.0, which code scanning and editors read.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

import os
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from reconciler.diagnostics import Diagnostic
from reconciler.errors import ReconcilerError
from reconciler.text import field

_RULE = "manifest"


def report(found: Iterable[Diagnostic], file_of: Callable[[str], str] = str, *, more: int = 0) -> dict[str, Any]:
    """The log of a check: a result for each fault.

    `file_of` turns a file as the command names it into its path in the repository. `more` faults are left out.
    """
    invocation: dict[str, Any] = {"executionSuccessful": True}
    if more:
        notification = {"level": "warning", "message": {"text": f"{more} more faults are not shown"}}
        invocation["toolExecutionNotifications"] = [notification]
    return _log([_result(one, file_of) for one in found], invocation)


def error(fault: ReconcilerError) -> dict[str, Any]:
    """The log of a check that did not come to an end."""
    text = _message(fault.message) + (f"\n{_message(fault.hint)}" if fault.hint else "")
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
    """Text in which a viewer finds neither a link nor a place for an argument (sections 3.11.5 and 3.11.6)."""
    return re.sub(r"\{(\d+)\}", r"{{\1}}", field(text).replace("](", "] ("))


def _uri(path: str) -> str:
    """A path as a URI: relative where it is, a `file:` one where it is absolute."""
    encoded = quote(os.path.normpath(path).replace(os.sep, "/"), safe="/", errors="surrogateescape")
    return f"file://{encoded}" if encoded.startswith("/") else encoded
