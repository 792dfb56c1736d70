"""Edits of a manifest file. An edit adds or replaces text, and leaves every other byte as it is.

The new text has the indentation, quotes, line ends and order of the file. After the edit, the file is read again. Its
meaning must differ from the old meaning by exactly the requested change.
"""

import re
from bisect import bisect
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

from reconciler.manifest.layout import INDENT, WIDTH, flow, meaning, quoted, scalar
from reconciler.manifest.syntax import Collection, Entry, Scalar, comments_of, tree_of
from reconciler.manifest.yaml import read
from reconciler.model.commands import command
from reconciler.model.errors import ReconcilerError

_ENCODING = "utf-8-sig"  # a byte order mark is not a part of the text, and is kept
_BREAK = re.compile(r"\r\n?|\n")


class _Splice(NamedTuple):
    """A text that replaces the characters from `start` up to `end`."""

    start: int
    end: int
    text: str


def set_field(source: bytes, file: str, job: str, field: str, value: str, order: Sequence[str]) -> bytes:
    """Return the file with one text field of a job set to a value.

    The file must be valid and declare the job. A new field is put after the fields that precede it in `order`. Raises
    `ReconcilerError` if the edited file would mean anything else.
    """
    text = source.decode(_ENCODING)
    fields = _collection(_entry(_top(text), "jobs", job))

    def change(document: Any) -> None:
        document["jobs"][job][field] = value

    present = fields.find(field)
    if present is not None:
        splice = _replaced(present.value, value)
    else:
        before = [e for e in fields.entries if e.key and e.key.value in order[: order.index(field)]]
        splice = _added_field(text, fields, before[-1] if before else None, f"{scalar(field)}: {scalar(value)}")
    return _edited(source, file, [splice], change)


def set_config_text(source: bytes, file: str, job: str, field: str, value: str, order: Sequence[str]) -> bytes:
    """Return the file with one text field of a job's config set to a value.

    A new field is the last one of the config. Works as `set_field` otherwise, also for a job without a config.
    """
    text = source.decode(_ENCODING)
    fields = _collection(_entry(_top(text), "jobs", job))
    there = fields.find("config")

    def change(document: Any) -> None:
        document["jobs"][job].setdefault("config", {})[field] = value

    if there is None:
        before = [e for e in fields.entries if e.key and e.key.value in order[: order.index("config")]]
        splice = _added_field(text, fields, before[-1] if before else None, f"config: {flow({field: value})}")
    elif not (config := _collection(there)).entries:
        splice = _Splice(config.end - 1, config.end - 1, f"{scalar(field)}: {scalar(value)}")
    elif (present := config.find(field)) is not None:
        splice = _replaced(present.value, value)
    else:
        splice = _added_field(text, config, config.entries[-1], f"{scalar(field)}: {scalar(value)}")
    return _edited(source, file, [splice], change)


def add_jobs(source: bytes, file: str, jobs: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return the file with these jobs added.

    `jobs` maps each name to its fields, in the order in which they are written.

    If the names in the file are sorted, each job is put at its sorted place; else the new jobs are the last ones. The
    file must be valid, apart from blocks that other files hold. Raises `ReconcilerError` as `set_field` does.
    """
    text = source.decode(_ENCODING)
    top = _top(text)
    there = top.find("jobs")

    def change(document: Any) -> None:
        document.setdefault("jobs", {}).update({name: dict(fields) for name, fields in jobs.items()})

    names = sorted(jobs)
    if there is not None and _collection(there).entries:
        splices = _among(text, there, names, jobs)
    else:
        splices = [_first_jobs(text, top, there, names, jobs)]
    return _edited(source, file, splices, change)


def _edited(source: bytes, file: str, splices: Sequence[_Splice], change: Callable[[Any], None]) -> bytes:
    """Return the file with these splices.

    They must change the meaning of the file exactly as `change` changes its value.
    """
    text = source.decode(_ENCODING)
    parts = []
    at = 0
    for splice in splices:
        parts += [text[at : splice.start], splice.text]
        at = splice.end
    mark = BOM_UTF8 if source.startswith(BOM_UTF8) else b""
    made = mark + "".join([*parts, text[at:]]).encode()
    wanted = deepcopy(read(source, file).value)
    change(wanted)
    found = read(made, file)
    if found.faults or meaning(found.value) != meaning(wanted):
        why = found.faults[0].message if found.faults else "it would say something else"
    elif Counter(comments_of(tree_of(text))) - Counter(comments_of(tree_of(made.decode(_ENCODING)))):
        why = "a comment would be lost"
    else:
        return made
    raise ReconcilerError(
        f"{file} can't be edited as it is laid out: {why}", f"lay it out anew ({command('fmt', file)}), and try again"
    )


def _replaced(old: Scalar | Collection, value: str) -> _Splice:
    """Return the splice that replaces a value by text. The text gets the old quotes if these can hold the text."""
    assert isinstance(old, Scalar)
    if old.style == "'" and value.isprintable():
        return _Splice(old.start, old.end, "'" + value.replace("'", "''") + "'")
    return _Splice(old.start, old.end, quoted(value) if old.style == '"' else scalar(value))


def _added_field(text: str, fields: Collection, after: Entry | None, written: str) -> _Splice:
    """Return the splice that adds a field to a job, after the field `after`, or as the first field if `after`
    is None.
    """
    if after is None:
        start = fields.entries[0].key
        assert start is not None
        between = ", " if fields.flow else _line_break(text, start.start) + " " * fields.column
        return _Splice(start.start, start.start, written + between)
    if fields.flow:
        end = after.value.end
        return _Splice(end, end, f", {written}")
    return _lines(text, _end(after), [" " * fields.column + written])


def _among(text: str, there: Entry, names: Sequence[str], jobs: Mapping[str, Mapping[str, Any]]) -> list[_Splice]:
    """Return the splices that add jobs to a `jobs` block which has some."""
    block = _collection(there)
    present = [entry.key.value for entry in block.entries if entry.key]
    if block.flow:
        end = block.entries[-1].value.end
        return [_Splice(end, end, "".join(f", {scalar(name)}: {flow(jobs[name])}" for name in names))]
    bodies = [_collection(entry) for entry in block.entries]
    blocks = [body for body in bodies if not body.flow]
    step = blocks[0].column - block.column if blocks else INDENT
    apart = len(bodies) > 1 and all(e.head[0].blank if e.head else e.blank for e in block.entries[1:])
    is_sorted = present == sorted(present)
    places: dict[int, list[str]] = {}
    for name in names:
        places.setdefault(bisect(present, name) if is_sorted else len(present), []).append(name)
    splices = []
    for place, added in sorted(places.items()):
        written = [_job(name, jobs[name], " " * block.column, step, one_line=not blocks) for name in added]
        spaced = [[*job, ""] if place == 0 else ["", *job] for job in written] if apart else written
        # A new first job is put right below `jobs:`, so that comments stay with the job below them.
        end = _end(block.entries[place - 1]) if place else _key(there).end
        splices.append(_lines(text, end, [line for job in spaced for line in job]))
    return splices


def _first_jobs(
    text: str, top: Collection, there: Entry | None, names: Sequence[str], jobs: Mapping[str, Mapping[str, Any]]
) -> _Splice:
    """Return the splice that adds the first jobs to a file. `there` is the empty `jobs` block of the file, or None."""
    if top.flow:
        inner = ", ".join(f"{scalar(name)}: {flow(jobs[name])}" for name in names)
        end = top.entries[-1].value.end if there is None else there.value.end - 1
        return _Splice(end, end, f", jobs: {{{inner}}}" if there is None else inner)
    margin = " " * (top.column + INDENT)
    lines = [line for name in names for line in _job(name, jobs[name], margin, INDENT, one_line=False)]
    if there is None:
        blank = [""] if any(entry.blank for entry in top.entries[1:]) else []
        return _lines(text, _end(top.entries[-1]), [*blank, f"{' ' * top.column}jobs:", *lines])
    empty = there.value
    if any(comments_of(empty)) or _BREAK.search(text, empty.start, empty.end):
        inner = ", ".join(f"{scalar(name)}: {flow(jobs[name])}" for name in names)
        return _Splice(empty.end - 1, empty.end - 1, inner)
    line_end = _BREAK.search(text, empty.end)
    end = line_end.start() if line_end else len(text)
    written = _line_break(text, empty.end).join([text[empty.end : end].rstrip(), *lines])
    return _Splice(len(text[: empty.start].rstrip(" \t")), end, written)


def _job(name: str, fields: Mapping[str, Any], margin: str, step: int, *, one_line: bool) -> list[str]:
    """Return the lines of one job."""
    line = f"{margin}{scalar(name)}: {flow(fields)}"
    if one_line and len(line) <= WIDTH:
        return [line]
    return [f"{margin}{scalar(name)}:", *_block(fields, margin + " " * step, step)]


def _block(fields: Mapping[str, Any], margin: str, step: int) -> list[str]:
    """Return the lines of a mapping. A value is in flow style if it fits on its line."""
    lines = []
    for field, value in fields.items():
        line = f"{margin}{scalar(field)}: {flow(value)}"
        deeper = margin + " " * step
        if len(line) <= WIDTH or not value or not isinstance(value, dict | list):
            lines.append(line)
        elif isinstance(value, dict):
            lines += [f"{margin}{scalar(field)}:", *_block(value, deeper, step)]
        else:
            lines += [f"{margin}{scalar(field)}:", *(f"{deeper}- {flow(item)}" for item in value)]
    return lines


def _lines(text: str, end: int, lines: Sequence[str]) -> _Splice:
    """Return the splice that adds lines below the line that holds the place `end`."""
    line_break = _line_break(text, end)
    at = end
    if text[end - 1] not in "\r\n":
        found = _BREAK.search(text, end)
        if found is None:  # a file without a line break at its end gets none
            return _Splice(len(text), len(text), "".join(line_break + line for line in lines))
        at = found.end()
    return _Splice(at, at, "".join(line + line_break for line in lines))


def _line_break(text: str, near: int) -> str:
    r"""Return the first line break after a place, else the first one of the file, else "\n"."""
    found = _BREAK.search(text, near) or _BREAK.search(text)
    return found[0] if found else "\n"


def _end(entry: Entry) -> int:
    """Return the place just after an entry, with the comments at the foot of its value."""
    value = entry.value
    if isinstance(value, Scalar) or value.flow:
        return value.end
    return max(_end(value.entries[-1]), *(comment.end for comment in value.foot), 0)


def _top(text: str) -> Collection:
    """Return the fields at the top of a file."""
    return _collection(tree_of(text).root)


def _entry(top: Collection, *path: str) -> Entry:
    """Return the entry at a path, which must exist."""
    found = None
    for step in path:
        found = (top if found is None else _collection(found)).find(step)
        assert found is not None
    assert found is not None
    return found


def _collection(entry: Entry) -> Collection:
    assert isinstance(entry.value, Collection)
    return entry.value


def _key(entry: Entry) -> Scalar:
    assert entry.key is not None
    return entry.key
