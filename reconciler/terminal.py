"""The one place that reaches the terminal: what is written there is made harmless first."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TextIO, cast

from reconciler.commands import Given, with_place
from reconciler.text import clip, log_field, printable


class Terminal:
    """The answer goes to stdout, the commentary to stderr. A closed pipe is no error.

    Commands that a text names get what the command line said of where this one is about (`given`).
    Where a stream can't be written, `trouble` says why from then on, and what goes there is lost: that
    must not end an apply in its midst.
    """

    def __init__(self, out: TextIO, err: TextIO, env: Mapping[str, str], *, no_color: bool) -> None:
        plain = no_color or bool(env.get("NO_COLOR")) or env.get("TERM") == "dumb"
        self._out = out
        self._err = err
        self._color_out = not plain and out.isatty()
        self._color_err = not plain and err.isatty()
        self._bar = err.isatty() and env.get("TERM") != "dumb"
        self.trouble = ""
        self.given = Given()

    @property
    def interactive(self) -> bool:
        """Whether a person can answer."""
        return sys.stdin is not None and sys.stdin.isatty() and self._err.isatty()

    def answer(self, text: str) -> None:
        """Write to stdout, with a line end."""
        self._write(self._out, printable(with_place(text, self.given), color=self._color_out))

    def document(self, text: str) -> None:
        """Write a document for a machine to stdout; its own form keeps it harmless."""
        self._write(self._out, text)

    def commands(self, lines: Iterable[str]) -> None:
        """Write workflow commands to stdout, one a line: the only way by which a line may begin with `::`."""
        if text := "\n".join(map(log_field, lines)):
            self._write(self._out, text)

    def remark(self, text: str) -> None:
        """Write to stderr, with a line end."""
        self._write(self._err, printable(with_place(text, self.given), color=self._color_err))

    def urgent(self, text: str) -> None:
        """Write to stderr past its buffer: a signal may come while that is being written."""
        try:
            os.write(self._err.fileno(), (printable(text, color=False) + "\n").encode())
        except OSError:
            pass

    def ask(self, question: str) -> str:
        """One line from the person at the terminal, "" where they end the input, or the terminal is gone."""
        try:
            self._err.write(printable(question, color=self._color_err))
            self._err.flush()
            return sys.stdin.readline().strip()
        except OSError:
            return ""

    def columns(self, *, to_answer: bool) -> int | None:
        """How many columns a line of stdout, or else of stderr, may take; None where that is no terminal."""
        stream = self._out if to_answer else self._err
        try:
            return os.get_terminal_size(stream.fileno()).columns or None if stream.isatty() else None
        except (OSError, ValueError):
            return None

    def fitting(self, line: str, *, to_answer: bool) -> tuple[str, bool]:
        """What may be written of a line so that it takes one line of the terminal, and whether that is all of it.

        The commands in it have their place then, and are not to get it once more.
        """
        placed = with_place(line, self.given)
        columns = self.columns(to_answer=to_answer)
        clipped = placed if columns is None else clip(placed, columns)
        return clipped, clipped == placed

    @contextmanager
    def progress(self, total: int) -> Iterator[Callable[[Sequence[str], int, bool], None]]:
        """Lines that come bit by bit, with a bar of `total` below them where a person looks on.

        Yields `tell(lines, steps, to_answer)`: lines as `fitting` gives them, for stdout or else stderr, after so
        many steps of the bar.
        """
        if not self._bar or total < 2:

            def say(lines: Sequence[str], steps: int, to_answer: bool) -> None:
                if lines and to_answer:
                    self._write(self._out, printable("\n".join(lines), color=self._color_out))
                elif lines:
                    self._write(self._err, printable("\n".join(lines), color=self._color_err))

            yield say
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.text import Text

        console = Console(file=cast("TextIO", _Lossy(self._err)), no_color=not self._color_err, highlight=False)
        columns = (TextColumn("applying"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        bar = Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
        with ExitStack() as stack:
            with suppress(RuntimeError):  # without a thread of its own the bar moves only when a line is told
                stack.enter_context(bar)
            task = bar.add_task("", total=total)

            def tell(lines: Sequence[str], steps: int, to_answer: bool) -> None:
                text = "\n".join(lines)
                if text and to_answer and not self._out.isatty():
                    self._write(self._out, printable(text, color=self._color_out))
                elif text:
                    console.print(Text.from_ansi(printable(text, color=self._color_err)), soft_wrap=True)
                bar.advance(task, steps)

            yield tell

    def _write(self, stream: TextIO, text: str) -> None:
        try:
            stream.write(text if text.endswith("\n") else text + "\n")
            stream.flush()
        except OSError as fault:
            # Whoever read a pipe that is closed has enough.
            if not isinstance(fault, BrokenPipeError):
                name = "stdout" if stream is self._out else "stderr"
                self.trouble = self.trouble or f"{name} can't be written: {fault.strerror}"
            # Point the stream elsewhere, so that what is left in its buffer makes no trouble at the exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except UnicodeEncodeError:
            stream.write(text.encode("ascii", "backslashreplace").decode() + "\n")


class _Lossy:
    """A stream that loses what can't be written, as when the terminal is gone: that must not end an apply."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
