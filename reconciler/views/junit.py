"""The check of a manifest as a JUnit report: one test case for each fault, or one test case that passed.

XML 1.0 has characters that it can't hold, not even as references. `field` replaces each such character by a visible
escape.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reconciler.host.safe_text import field
from reconciler.model.errors import ReconcilerError
from reconciler.model.places import Diagnostic
from reconciler.views.answers import FailureAnswer, ValidationAnswer
from reconciler.views.formats import Channel, Format, ViewContext
from reconciler.views.phrases import counted, not_shown

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

FORMAT = Format(Channel.DOCUMENT)


@FORMAT.shows(ValidationAnswer)
def _(answer: ValidationAnswer, context: ViewContext) -> str:
    return report(answer.diagnostics, jobs=answer.jobs, more=answer.more)


@FORMAT.shows(FailureAnswer)
def _(answer: FailureAnswer, context: ViewContext) -> str:
    return error(answer.fault)


def report(found: Sequence[Diagnostic], *, jobs: int = 0, more: int = 0) -> str:
    """Return the report of a check.

    `jobs` is the number of jobs in a valid manifest. `more` is the number of faults that `found` leaves out.
    """
    cases = []
    for one in found:
        where = one.position
        place = {"file": where.file, "line": str(where.line)}
        cases.append(_case(where.file, f"{where}: {one.message}", place))
        _add(cases[-1], "failure", {"type": "fault", "message": one.message}, str(one))
    if more:
        cases.append(_case("manifest", not_shown(more)))
        _add(cases[-1], "failure", {"type": "fault", "message": not_shown(more)})
    if not cases:
        return _document([_case("manifest", f"{counted(jobs, 'job')} valid")])
    return _document(cases, failures=len(cases))


def error(fault: ReconcilerError) -> str:
    """Return the report of a check that could not be completed."""
    case = _case("manifest", "can be read")
    attributes = {"type": type(fault).__name__, "message": fault.message}
    _add(case, "error", attributes, *filter(None, (fault.message, fault.hint)))
    return _document([case], errors=1)


def _case(class_name: str, name: str, attributes: dict[str, str] | None = None) -> "Element":
    from xml.etree.ElementTree import Element

    named = {"classname": class_name, "name": name, **(attributes or {})}
    return Element("testcase", {key: field(text) for key, text in named.items()})


def _add(case: "Element", tag: str, attributes: dict[str, str], *lines: str) -> None:
    """Add an element to a test case, with these lines as its text."""
    from xml.etree.ElementTree import SubElement

    element = SubElement(case, tag, {key: field(value) for key, value in attributes.items()})
    element.text = "\n".join(map(field, lines)) or None


def _document(cases: Sequence["Element"], *, failures: int = 0, errors: int = 0) -> str:
    from xml.etree import ElementTree

    counts = {"tests": str(len(cases)), "failures": str(failures), "errors": str(errors)}
    root = ElementTree.Element("testsuites", {"name": "reconciler", **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": "reconciler validate", **counts, "skipped": "0"})
    suite.extend(cases)
    ElementTree.indent(root)
    # No terminal and no locale changes ASCII. Some CI logs read "##[" as the start of a command.
    xml = ElementTree.tostring(root, encoding="us-ascii").decode("ascii").replace("##", "#&#35;")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{xml}\n'
