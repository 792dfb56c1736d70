"""The check of a manifest as a JUnit report: one test case for each fault, or one that passed.

XML 1.0 has no way to write some characters, not even as a reference: `field` makes visible escapes of them.
"""

from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from reconciler.diagnostics import Diagnostic
from reconciler.errors import ReconcilerError
from reconciler.text import field


def report(found: Sequence[Diagnostic], *, jobs: int = 0, more: int = 0) -> str:
    """The report of a check; `jobs` are those of a manifest without a fault, `more` the faults that are left out."""
    if not found:
        word = "job" if jobs == 1 else "jobs"
        return _document([f'    <testcase classname="manifest" name={_attribute(f"{jobs} {word} valid")}/>'], 0, 0)
    cases = []
    for one in found:
        where = one.position
        named = f"classname={_attribute(where.file)} name={_attribute(f'{where}: {one.message}')}"
        cases += [
            f'    <testcase {named} file={_attribute(where.file)} line="{where.line}">',
            f'      <failure type="fault" message={_attribute(one.message)}>{_text(str(one))}</failure>',
            "    </testcase>",
        ]
    if more:
        said = _attribute(f"{more} more faults are not shown")
        cases += [
            f'    <testcase classname="manifest" name={said}>',
            f'      <failure type="fault" message={said}/>',
            "    </testcase>",
        ]
    return _document(cases, len(found) + bool(more), 0)


def error(fault: ReconcilerError) -> str:
    """The report of a check that did not come to an end."""
    said = "\n".join(_text(text) for text in (fault.message, fault.hint) if text)
    return _document(
        [
            '    <testcase classname="manifest" name="can be read">',
            f'      <error type="{type(fault).__name__}" message={_attribute(fault.message)}>{said}</error>',
            "    </testcase>",
        ],
        0,
        1,
    )


def _document(cases: Sequence[str], failures: int, errors: int) -> str:
    counts = f'tests="{max(1, failures)}" failures="{failures}" errors="{errors}"'
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites name="reconciler" {counts}>',
        f'  <testsuite name="reconciler validate" {counts} skipped="0">',
        *cases,
        "  </testsuite>",
        "</testsuites>",
    ]
    # ASCII, so that no terminal and no locale changes it; "##[" begins a command in some CI logs.
    return "\n".join(lines).encode("ascii", "xmlcharrefreplace").decode().replace("##", "#&#35;") + "\n"


def _attribute(text: str) -> str:
    return quoteattr(field(text))


def _text(text: str) -> str:
    return escape(field(text))
