"""The kind of a file, by its content. People sometimes name a file of the wrong kind."""

import re
from enum import StrEnum

HEAD_BYTES = 4096
"""The number of bytes that show the kind of a file. For JSON whose fields were reordered, they may be too few."""

_BEGINS_AS_MANIFEST = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:[ \t]*(?:#[^\n]*)?\r?\n|---[^\n]*\n)*"
    rb"(?:apiVersion[ \t]*:[ \t]*[\"']?reconciler/"
    rb"|[ \t]*\{(?:[^}]*,)?\s*[\"']?apiVersion[\"']?\s*:\s*[\"']?reconciler/)"
)
_BEGINS_AS_STATE = rb'\s*\{\s*"digest"\s*:\s*"sha256:'
_JOURNAL_RECORD = rb"[0-9a-f]{16} [0-9]+ \{"
_DATABASE = b"SQLite format 3\x00"


class FileKind(StrEnum):
    """The kinds of file that this tool reads or writes, in the words of a message."""

    MANIFEST = "a manifest"
    STATE = "a state"
    JOURNAL = "the journal of a state"
    HISTORY = "a history"
    PLAN = "a saved plan"
    DATABASE = "a database"

    @property
    def place(self) -> str:
        """The way to name a file of this kind on the command line."""
        return _PLACES[self]


_PLACES = {
    FileKind.MANIFEST: "a manifest is named as PATH",
    FileKind.STATE: "a state is named with --state",
    FileKind.JOURNAL: "a journal is never named: it is found beside the state",
    FileKind.HISTORY: "a history is never named: the command `history` finds it beside the state",
    FileKind.PLAN: "a saved plan is named with `apply --plan`",
    FileKind.DATABASE: "the database of the sandbox is named with `sandbox --db`",
}


def begins_as_manifest(head: bytes) -> bool:
    """Return whether a file begins as a manifest does: with comments, and then `apiVersion`.

    `head` holds its first bytes.
    """
    return _BEGINS_AS_MANIFEST.match(head) is not None


def kind_of(content: bytes) -> FileKind | None:
    """Return the kind of a file, or None for any other file. `content` is the whole content or its beginning."""
    if begins_as_manifest(content):
        return FileKind.MANIFEST
    if content.startswith(_DATABASE):
        return FileKind.DATABASE
    # A journal is padded with line ends to whole sectors.
    start = content[:HEAD_BYTES].lstrip()
    if re.match(_JOURNAL_RECORD, start):
        return FileKind.JOURNAL
    if not start.startswith(b"{"):
        return None
    if re.match(_BEGINS_AS_STATE, start):
        return FileKind.STATE
    if b'"manifestDigest"' in content:
        return FileKind.PLAN
    line = start.partition(b"\n")[0]
    if b'"op":' in line or b'"lineage":' in line:
        return FileKind.HISTORY
    return FileKind.STATE if b'"lineage"' in content and b'"serial"' in content else None


def kind_at(path: str) -> FileKind | None:
    """Return the kind of the regular file at a path, or None if there is no such file or if it can't be read."""
    import os

    try:
        if not os.path.isfile(path):
            return None
        with open(path, "rb") as file:
            return kind_of(file.read(HEAD_BYTES))
    except OSError:
        return None
