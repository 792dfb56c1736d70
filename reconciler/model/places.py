"""Places in files, and faults at these places."""

from typing import NamedTuple


class Position(NamedTuple):
    """A place in a file. Lines and columns count from 1; a column is a number of characters."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Diagnostic(NamedTuple):
    """One fault of a manifest: its place, and a message that says what is wrong and how to correct it."""

    position: Position
    message: str

    def __str__(self) -> str:
        return f"{self.position}: {self.message}"
