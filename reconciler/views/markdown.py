"""A review as a comment on a pull request: the verdict first, then what is graver, the rest folded or counted.

What others wrote stands in code, or as text in which no character means anything to Markdown, and never
at the start of a line: bots and GitLab's quick actions read commands there.
"""

import re
from collections.abc import Iterable, Sequence

from reconciler.review import Review, Row, Weight, shown
from reconciler.text import log_field

LIMIT = 65_536
"""GitHub's bound on a comment, in characters; kept in the dearest way to count: UTF-8 bytes, line ends twice."""

_IN_SIGHT = 25
"""How many rows of a section are not folded."""
_CLIP = 300
"""How many characters of one text are shown."""
_FRAME = 600
"""What a section takes beside its rows and details, at most."""

_TITLES = {
    Weight.FAULT: "Faults",
    Weight.ENDS: "Stops or removes",
    Weight.STARTS: "Runs",
    Weight.HELD: "Held until somebody acts",
    Weight.DRIFTED: "To be looked at",
    Weight.RECORDS: "Recorded without a call",
    Weight.LEFT: "Left alone",
}
# An underscore between letters or digits says nothing.
_SPECIAL = re.compile(r"[!#$&*<>@\[\\\]^`~]|(?<![^\W_])_|_(?![^\W_])")
# What GitHub and GitLab find in plain text: mentions, references, links and emoji.
_LIVE = re.compile(r"[@#!$%&~^]\w|://|www\.|\bgh-\d|:[a-z+-][\w+-]*:", re.IGNORECASE)
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def review(review: Review) -> str:
    """The comment, at most `LIMIT` long whatever the review; its last line is a marker to find it again by."""
    caution = [f"**Warning:** {_said(warning)}" for warning in review.warnings]
    caution += [f"**Refused:** {_said(review.trouble)}."] if review.trouble else []
    caution += [f"**Next:** {_said(review.advice)}."] if review.advice else []
    caution += [] if review.trouble or review.advice else _ends(review.rows)
    head = [f"### {_said(review.verdict)}", ""]
    head += [f"**{_said(review.scope)}**", ""] if review.scope else []
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
        # Details come after, and no section may use up what others need.
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
    """The hidden line that tells this review's comment from all others, the same for the next one of it."""
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
    out = f" → {_said(row.way_out)}" if row.way_out else ""
    return f"- **{row.word}** {_code(row.job)}: {_said(row.reason)}{out}"


def _details(row: Row) -> str:
    """What changes and what is called, as the lines of a diff: none can end the block that it stands in."""
    name = row.id if row.id == row.job else f"{row.job} ({row.id})"
    lines = [f"@@ {row.word} {_plain(name)} @@"]
    for change in row.changes:
        lines += [f"- {_plain(change.path)}: {_plain(shown(change.before))}"] if change.before is not None else []
        lines += [f"+ {_plain(change.path)}: {_plain(shown(change.after))}"] if change.after is not None else []
    lines += [f"! {_plain(f'{call.method} {call.path}')}" for call in row.calls]
    return "\n".join(lines)


def _ends(rows: Iterable[Row]) -> list[str]:
    """What is stopped or removed, in a sentence; none where nothing is."""
    words = [row.word for row in rows if row.weight is Weight.ENDS]
    counts = ", ".join(f"{words.count(word)} to {word}" for word in dict.fromkeys(words))
    return [f"**This stops or removes jobs:** {counts}."] if counts else []


def _sources(review: Review) -> str:
    facts = dict(review.facts)
    return f"{_code(facts['Manifest'])} for {_code(facts['Target'])}, {_said(facts['Observed'])}."


def _provenance(review: Review) -> str:
    rest = [(label, text) for label, text in review.facts if label not in ("Manifest", "Target", "Observed")]
    # A bare commit becomes a link.
    parts = [f"{label.lower()} {text if _SHA.fullmatch(text) else _code(text)}" for label, text in rest]
    return f"<sub>{' · '.join(parts)}</sub>"


def _fit(lines: Iterable[str], room: int) -> tuple[list[str], int]:
    """As many lines as there is room for, from the first on, and what they take."""
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
    """The text on one line, clipped, without what opens a hidden comment: no other marker can be forged."""
    line = log_field(text[: _CLIP + 1]).replace("<!--", "\\x3c!--")
    return f"{line[:_CLIP]}…" if len(line) > _CLIP else line


def _code(text: str) -> str:
    """The text as code: the fence is longer than any run of backticks in it."""
    line = _plain(text)
    runs = {len(run) for run in re.findall("`+", line)}
    fence = "`" * next(length for length in range(1, len(runs) + 2) if length not in runs)
    edge = " " if line[:1] in ("`", " ", "") or line[-1:] in ("`", " ") else ""
    return f"{fence}{edge}{line}{edge}{fence}"


def _said(text: str) -> str:
    """A sentence: `words in backticks` as code, the rest as text, or as code where it would come alive."""
    parts = _plain(text).split("`")
    if len(parts) % 2 == 0:  # one without its pair
        return _words("`".join(parts))
    return "".join(_code(part) if at % 2 else _words(part) for at, part in enumerate(parts) if part)


def _words(text: str) -> str:
    if _LIVE.search(text):
        return _code(text)
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", text)
