"""A review as one HTML page, which loads nothing and runs no script but its own.

The style is in `html.css` and the script in `html.js`. The content security policy of the page allows these two by
their digests, and nothing else. The page is ASCII, so that no terminal, locale or mail program changes it. Without
scripts, the page shows every job.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from html import escape

from reconciler.host.safe_text import field
from reconciler.model.history import APPLIED, HistoryEntry
from reconciler.model.jobs import Status
from reconciler.model.outcomes import Outcome
from reconciler.rules.configs import shown
from reconciler.rules.review import Field, Review, Row, Weight, fields
from reconciler.views.answers import DriftAnswer, FailureAnswer, PlanAnswer, complete_review
from reconciler.views.formats import Channel, Format, ViewContext
from reconciler.views.phrases import commit, counted, doubt_state, end_of, last_run, request, run_of

FORMAT = Format(Channel.DOCUMENT)

_COLUMNS = ("Job", "Desired", "Recorded", "Observed", "Action", "Calls", "Reason", "What to do")
_NONE = "&#8211;"
_BAD = (Status.FAILED, Status.WITHDRAWN, Status.UNREADABLE, Status.MISSING)


@FORMAT.shows(PlanAnswer)
def _(answer: PlanAnswer, context: ViewContext) -> str:
    return review(complete_review(answer.review(with_history=True), context.complete))


def _without_history(answer: DriftAnswer | FailureAnswer, context: ViewContext) -> str:
    return review(complete_review(answer.review(), context.complete))


FORMAT.shows(DriftAnswer)(_without_history)
FORMAT.shows(FailureAnswer)(_without_history)


def review(review: Review) -> str:
    """Return the page. The anchor of a job is `#job-` and the percent-encoded name of the job."""
    style, script = _content("html.css"), _content("html.js")
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width">',
        '<meta name="color-scheme" content="light dark">',
        '<meta name="robots" content="noindex">',
        f"<title>{_text(review.verdict)}</title>",
        f"<style>{style}</style>",
        "<body>",
        "<header>",
        f"<h1>{_text(review.verdict)}</h1>",
        *([f'<p class="scope">{_sentence(review.scope)}</p>'] if review.scope else ()),
        *_facts(review),
        "</header>",
        "<main>",
        *_trouble(review),
        *_faults([row for row in review.rows if row.weight is Weight.FAULT]),
        *_jobs([row for row in review.rows if row.weight is not Weight.FAULT], script),
        "</main>",
        "</html>",
    ]
    return "\n".join(parts).encode("ascii", "xmlcharrefreplace").decode() + "\n"


def anchor(job: str) -> str:
    """Return the id of a job's row. The id is unique within a page."""
    from urllib.parse import quote

    return f"job-{quote(job, safe='', errors='surrogatepass')}"


@cache
def _content(name: str) -> str:
    """Return the content of a file beside this module, as it stands between a start tag and an end tag."""
    from importlib import resources

    return "\n" + resources.files("reconciler.views").joinpath(name).read_text("ascii")


def _facts(review: Review) -> Iterator[str]:
    if review.facts:
        listed = (f"<dt>{_text(label)}</dt><dd>{_text(text)}</dd>" for label, text in review.facts)
        yield f'<dl class="facts">{"".join(listed)}</dl>'


def _trouble(review: Review) -> Iterator[str]:
    paragraphs = "".join(f"<p>{_sentence(text)}" for text in (*review.warnings, review.trouble, review.advice) if text)
    if paragraphs:
        yield f'<div class="trouble">{paragraphs}</div>'


def _faults(rows: Sequence[Row]) -> Iterator[str]:
    if rows:
        listed = (f"<dt>{_text(row.job)}</dt><dd>{_sentence(row.reason)}</dd>" for row in rows)
        yield f'<h2>Faults</h2><dl class="facts">{"".join(listed)}</dl>'


def _jobs(rows: Sequence[Row], script: str) -> Iterator[str]:
    if not rows:
        return
    yield from _bar(rows)
    yield f'<table id="jobs"><thead><tr>{"".join(f"<th scope=col>{title}" for title in _COLUMNS)}</thead><tbody>'
    yield from map(_row, rows)
    yield f"</tbody></table><script>{script}</script>"


def _bar(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the buttons that filter the rows, each with the number of its rows."""
    noted, changes = sum(row.is_noted for row in rows), sum(row.is_change for row in rows)
    problems = sum(row.is_problem for row in rows)
    words = Counter((row.word, row.weight) for row in rows)
    yield '<div class="bar" role="search" hidden><fieldset><legend>Show</legend>'
    yield _chip("All", "all", len(rows), " checked")
    yield _chip("Noteworthy", "note", noted)
    if changes:
        yield _chip("Changes", "change", changes)
    yield _chip("Problems", "problem", problems)
    for (word, weight), count in words.items():
        yield _chip(word, _slug(word), count, tone=weight)
    yield '</fieldset><label>Find <input type="search" placeholder="a name or an id ( / )" autocomplete="off"></label>'
    yield "<output></output></div>"


def _chip(label: str, value: str, count: int, checked: str = "", *, tone: str = "") -> str:
    choice = f'<input type="radio" name="show" value="{value}"{checked}>'
    return f'<label class="chip {tone} {value}">{choice}<span>{_text(label)} <b>{count}</b></span></label>'


def _row(row: Row) -> str:
    """Return one job.

    No cell has an end tag, which HTML allows, so that the row of an unchanged job takes few bytes.
    """
    link = anchor(row.job)
    kinds = [row.weight.value, _slug(row.word)]
    kinds += ["note"] if row.is_noted else []
    kinds += ["change"] if row.is_change else []
    kinds += ["problem"] if row.is_problem else []
    name = f'<a href="#{link}">{_text(row.job)}</a>'
    if row.id != row.job:
        name += f'<small class="id">{_text(row.id)}</small>'
    if row.place is not None and row.is_noted:
        name += f"<small>{_text(f'{row.place.file}:{row.place.line}')}</small>"
    cells = (
        row.desired.state if row.desired else _NONE,
        _recorded(row),
        _observed(row),
        f'<span class="verb">{_text(row.word)}</span>' + (f"<small>{_text(row.run_id)}</small>" if row.run_id else ""),
        len(row.calls) or "",
        _sentence(row.reason),
        _sentence(row.way_out),
    )
    listed = "".join(f"<td>{cell}" for cell in cells)
    return f'<tr id="{link}" class="{" ".join(kinds)}"><th scope=row>{name}{listed}{_details(row)}'


def _recorded(row: Row) -> str:
    if row.record is None:
        return _NONE
    state: str = row.record.state or _NONE
    if row.is_noted and (run := last_run(row.record)):  # a page may have thousands of rows that need no remark
        state += f"<small>{_text(run)}</small>"
    doubt = row.record.doubt
    if doubt is None:
        return state
    marked = "" if doubt.holder else ' class="bad"'
    return f"{state}<small{marked}>{doubt_state(doubt)}</small>"


def _observed(row: Row) -> str:
    seen = row.observed
    if seen.status is Status.NOT_OBSERVED:
        return _NONE
    status = f'<span class="bad">{seen.status}</span>' if seen.status in _BAD else str(seen.status)
    return status + "".join(f"<small>{_text(text)}</small>" for text in (seen.word, seen.detail) if text)


def _details(row: Row) -> str:
    """Return the folded part of a row: fields, calls and history, or "" without any of them."""
    compared = fields(row)
    differing = sum(one.differs for one in compared)
    counts = ((differing, "difference"), (len(row.calls), "call"), (len(row.history), "earlier action"))
    summary = ", ".join(counted(count, word) for count, word in counts if count)
    if not summary:
        return ""
    parts = []
    if differing:
        parts.append(
            '<table class="fields"><thead><tr><th scope=col>Field<th scope=col>git<th scope=col>state<th scope=col>live'
            f"</thead><tbody>{''.join(map(_field, compared))}</tbody></table>"
        )
    if row.calls:
        listed = "".join(f"<li>{_text(call.text)}" for call in row.calls)
        parts.append(f'<h2>Calls</h2><ol class="calls">{listed}</ol>')
    if row.history:
        parts.append(f'<h2>History</h2><ol class="times">{"".join(map(_entry, row.history))}</ol>')
    return f'<td class="more"><details><summary>{summary}</summary><div class="in">{"".join(parts)}</div></details>'


def _field(one: Field) -> str:
    values = "".join(f"<td>{_text(shown(value))}" for value in (one.git, one.state, one.live))
    return f"<tr{' class=diff' if one.differs else ''}><th scope=row>{_text(shown(one.path))}{values}"


def _entry(entry: HistoryEntry) -> str:
    rest = [
        end_of(entry) or entry.outcome,
        f"code {entry.status}" if entry.status is not None else "",
        f"run id {run}" if (run := run_of(entry)) else "",
        f"by {entry.who}",
        f"commit {commit(entry)}" if entry.commit else "",
        request(entry.request_id),
    ]
    at = _text(entry.at)
    is_well = entry.outcome in (Outcome.SUCCEEDED, APPLIED) and entry.end in ("", Status.COMPLETE)
    wrong = "" if is_well else ' class="wrong"'
    return f"<li{wrong}><time>{at}</time> <b>{_text(entry.verb)}</b> {_text(', '.join(filter(None, rest)))}"


def _sentence(text: str) -> str:
    """Return a sentence as HTML. Text between backticks becomes code."""
    parts = _text(text).split("`")
    if len(parts) % 2 == 0:  # one backtick has no partner
        return "`".join(parts)
    return "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))


def _text(text: str) -> str:
    """Return any text, escaped for HTML and for CI logs that read "##[" as the start of a command."""
    return escape(field(text)).replace("##", "#&#35;")


def _slug(word: str) -> str:
    """Return the CSS class of a word. No other class of the page has this name."""
    return "w-" + re.sub("[^a-z]+", "-", word)


def _digest(text: str) -> str:
    """Return the digest of a text, as a content security policy names it."""
    import base64
    import hashlib

    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
