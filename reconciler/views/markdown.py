"""A review as a comment on a pull request: the verdict, then the rows, gravest first. Long lists are folded or cut.

Text from manifests and from the service is written as code, or escaped for Markdown. Such text never begins a line,
since bots and GitLab's quick actions read commands at the start of a line.
"""

import re
from collections.abc import Iterable, Sequence

from reconciler.host.safe_text import log_field
from reconciler.rules.configs import shown
from reconciler.rules.review import Review, Row, Weight
from reconciler.views.answers import DiffAnswer, DriftAnswer, FailureAnswer, PlanAnswer, complete_review
from reconciler.views.formats import Channel, Format, ViewContext

FORMAT = Format(Channel.DOCUMENT)

LIMIT = 65_536
"""The limit of GitHub on the length of a comment, in characters.

Sizes are counted in the largest possible way: as UTF-8 bytes, with two bytes for each newline.
"""

_IN_SIGHT = 25
"""The number of rows of a section that are not folded."""
_CLIP = 300
"""The most characters of one text that are shown."""
_FRAME = 600
"""The most bytes of a section beside its rows and details, counted as for `LIMIT`."""

_TITLES = {
    Weight.FAULT: "Faults",
    Weight.ENDS: "Stops or removes",
    Weight.STARTS: "Runs",
    Weight.WAITS: "Waits for its turn",
    Weight.HELD: "Held until somebody acts",
    Weight.DRIFTED: "To be looked at",
    Weight.RECORDS: "Recorded without a call",
    Weight.LEFT: "Left alone",
}
# An underscore between letters or digits has no meaning in Markdown.
_SPECIAL = re.compile(r"[!#$&*<>@\[\\\]^`~]|(?<![^\W_])_|_(?![^\W_])")
# GitHub and GitLab find mentions, references, links and emoji in plain text.
_LIVE = re.compile(r"[@#!$%&~^]\w|://|www\.|\bgh-\d|:[a-z+-][\w+-]*:", re.IGNORECASE)
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def _view(answer: PlanAnswer | DiffAnswer | DriftAnswer | FailureAnswer, context: ViewContext) -> str:
    return review(complete_review(answer.review(), context.complete))


FORMAT.shows(PlanAnswer)(_view)
FORMAT.shows(DiffAnswer)(_view)
FORMAT.shows(DriftAnswer)(_view)
FORMAT.shows(FailureAnswer)(_view)


def review(review: Review) -> str:
    """Return the comment, within `LIMIT`. The last line is the marker by which a later review finds the comment."""
    caution = [f"**Warning:** {_sentence(warning)}" for warning in review.warnings]
    caution += [f"**Refused:** {_sentence(review.trouble)}."] if review.trouble else []
    caution += [f"**Next:** {_sentence(review.advice)}."] if review.advice else []
    caution += [] if review.trouble or review.advice else _ends(review.rows)
    head = [f"### {_sentence(review.verdict)}", ""]
    head += [f"**{_sentence(review.scope)}**", ""] if review.scope else []
    head += [_sources(review), ""] if review.facts else []
    head += ["> [!CAUTION]", f"> {' '.join(caution)}", ""] if caution else []
    foot = [_provenance(review), ""] if review.facts else []
    foot += [marker(review)]
    left = LIMIT - _size([*head, *foot])
    sections = [
        (title, rows)
        for weight, title in _TITLES.items()
        for rows in [[row for row in review.rows if row.weight is weight]]
        if rows
    ]
    left -= _FRAME * len(sections)
    listed = []
    for number, (_, rows) in enumerate(sections, 1):
        # The details come later, and no section may take the room of the others.
        lines, used = _fit(map(_item, rows), left // 2 if number < len(sections) else left * 2 // 3)
        left -= used
        listed.append(lines)
    body = []
    for (title, rows), lines in zip(sections, listed, strict=True):
        detailed = [row for row in rows if row.changes or row.calls]
        details, used = _fit(map(_details, detailed), left)
        left -= used
        body += _section(title, rows, lines, detailed, details)
    return "\n".join([*head, *body, *foot]) + "\n"


def marker(review: Review) -> str:
    """Return the hidden line that all reviews of one state share, and that no other comment has."""
    return f"<!-- reconciler:{review.title.lower()}:{review.key} -->"


def _section(
    title: str, rows: Sequence[Row], lines: Sequence[str], detailed: Sequence[Row], details: Sequence[str]
) -> list[str]:
    made = [f"#### {title} ({len(rows)})", "", *lines[:_IN_SIGHT]]
    if folded := lines[_IN_SIGHT:]:
        made += ["", f"<details><summary>{len(folded)} more</summary>", "", *folded, "", "</details>"]
    if missing := len(rows) - len(lines):
        made += ["", f"…and {missing} more that this comment has no room for."]
    if details:
        of = f"{len(details)} of {len(detailed)}" if len(details) < len(detailed) else str(len(details))
        jobs = "job" if len(detailed) == 1 else "jobs"
        made += ["", f"<details><summary>Changes and calls of {of} {jobs}</summary>", ""]
        made += ["```diff", *details, "```", "", "</details>"]
    return [*made, ""]


def _item(row: Row) -> str:
    out = f" → {_sentence(row.way_out)}" if row.way_out else ""
    return f"- **{row.word}** {_code(row.job)}: {_sentence(row.reason)}{out}"


def _details(row: Row) -> str:
    """Return the changes and the calls of a job as lines of a diff. No line can end the code block around the diff."""
    about = row.run_id or ("" if row.id == row.job else row.id)  # a run id begins with the id of the job
    name = f"{row.job} ({about})" if about else row.job
    lines = [f"@@ {row.word} {_plain(name)} @@"]
    for change in row.changes:
        lines += [f"- {_plain(change.path)}: {_plain(shown(change.before))}"] if change.before is not None else []
        lines += [f"+ {_plain(change.path)}: {_plain(shown(change.after))}"] if change.after is not None else []
    lines += [f"! {_plain(call.text)}" for call in row.calls]
    return "\n".join(lines)


def _ends(rows: Iterable[Row]) -> list[str]:
    """Return a sentence that counts the jobs to be stopped or removed, or nothing if there are none."""
    words = [row.word for row in rows if row.weight is Weight.ENDS]
    counts = ", ".join(f"{words.count(word)} to {word}" for word in dict.fromkeys(words))
    return [f"**This stops or removes jobs:** {counts}."] if counts else []


def _sources(review: Review) -> str:
    facts = dict(review.facts)
    return f"{_code(facts['Manifest'])} for {_code(facts['Target'])}, {_sentence(facts['Observed'])}."


def _provenance(review: Review) -> str:
    rest = [(label, text) for label, text in review.facts if label not in ("Manifest", "Target", "Observed")]
    # A bare commit becomes a link.
    parts = [f"{label.lower()} {text if _SHA.fullmatch(text) else _code(text)}" for label, text in rest]
    return f"<sub>{' · '.join(parts)}</sub>"


def _fit(lines: Iterable[str], room: int) -> tuple[list[str], int]:
    """Return the first lines that fit into `room`, and their size. Both sizes are counted as for `LIMIT`."""
    fitting: list[str] = []
    used = 0
    for line in lines:
        size = _size([line])
        if used + size > room:
            break
        used += size
        fitting.append(line)
    return fitting, used


def _size(lines: Iterable[str]) -> int:
    return sum(len(line.encode()) + line.count("\n") + 2 for line in lines)


def _plain(text: str) -> str:
    """Return the text on one line, clipped. The text can't open a hidden comment, so that nobody can forge a marker."""
    line = log_field(text[: _CLIP + 1]).replace("<!--", "\\x3c!--")
    return f"{line[:_CLIP]}…" if len(line) > _CLIP else line


def _code(text: str) -> str:
    """Return the text as code. No run of backticks in the text is as long as the fence."""
    line = _plain(text)
    runs = {len(run) for run in re.findall("`+", line)}
    fence = "`" * next(length for length in range(1, len(runs) + 2) if length not in runs)
    edge = " " if line[:1] in ("`", " ", "") or line[-1:] in ("`", " ") else ""
    return f"{fence}{edge}{line}{edge}{fence}"


def _sentence(text: str) -> str:
    """Return a sentence as Markdown.

    Text between backticks becomes code. Text that Markdown would turn into a mention or a link becomes code as well.
    """
    parts = _plain(text).split("`")
    if len(parts) % 2 == 0:  # one backtick has no partner
        return _words("`".join(parts))
    return "".join(_code(part) if at % 2 else _words(part) for at, part in enumerate(parts) if part)


def _words(text: str) -> str:
    if _LIVE.search(text):
        return _code(text)
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", text)
