"""Where a fault stands and what it is."""

from typing import NamedTuple


class Position(NamedTuple):
    """A place in a file: lines and columns count from 1, columns in characters."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Diagnostic(NamedTuple):
    """One fault: where, what is wrong, and what would be right."""

    position: Position
    message: str

    def __str__(self) -> str:
        return f"{self.position}: {self.message}"
