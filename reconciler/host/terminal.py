"""The only module that writes to the terminal. Every text is made harmless before it is written."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TextIO, cast

import click

from reconciler.host.safe_text import clip, log_field, printable, untrusted, wrapped
from reconciler.model.commands import Given, with_place

_BAR_COLUMNS = 36
_BESIDE_BAR_COLUMNS = 44
"""The most columns that the label, the count and the remaining time take beside a progress bar."""
_FEWEST_COLUMNS = 40
"""Lines are never broken to fewer columns than this."""
_LONGEST_LINE_BYTES = 1 << 16
"""A line of a log that is longer is not waited for."""
_ERASE_LINE = "\r\x1b[K"


class Terminal:
    """Writes answers to stdout and remarks to stderr.

    Each command in a text gets the paths and the options in `given`. A stream that can't be written to must not end an
    apply that has begun: the text is lost, and `trouble` holds the reason. A closed pipe is no trouble.
    """

    def __init__(self, out: TextIO, err: TextIO, env: Mapping[str, str], *, no_color: bool) -> None:
        plain = no_color or bool(env.get("NO_COLOR")) or env.get("TERM") == "dumb"
        self._env = env
        self._out = out
        self._err = err
        self._color_out = not plain and out.isatty()
        self._color_err = not plain and err.isatty()
        self._can_have_bar = err.isatty() and env.get("TERM") != "dumb"
        self._has_bar = False
        self.trouble = ""
        self.given = Given()

    @property
    def interactive(self) -> bool:
        """Whether a person can answer a question."""
        return sys.stdin is not None and sys.stdin.isatty() and self._err.isatty()

    def answer(self, text: str, *, is_prose: bool = False) -> None:
        """Write text and a newline to stdout. Prose is broken between words to the width of the terminal."""
        self._write(self._out, self._shown(text, to_answer=True, is_prose=is_prose))

    def page(self, text: str) -> None:
        """Write a long text to stdout. At a terminal, a pager shows the text, as git does with its log.

        The pager is the command in PAGER, and `less` by default, which ends at once where the text fits on one screen.
        There is no pager with PAGER=cat, on a dumb terminal, or in a CI run.
        """
        pager = self._env.get("PAGER", "less")
        is_wanted = pager.strip() not in ("", "cat") and not self._env.get("CI") and self._env.get("TERM") != "dumb"
        shown = self._shown(text, to_answer=True, is_prose=True)
        if not (is_wanted and self._out.isatty() and self._was_paged(pager, shown)):
            self._write(self._out, shown)

    def document(self, text: str) -> None:
        """Write a document to stdout, unchanged. The document's format must have made it harmless."""
        self._write(self._out, text)

    @property
    def is_terminal(self) -> bool:
        """Whether stdout is a terminal."""
        return self._out.isatty()

    def lines(self, pieces: Iterable[bytes]) -> None:
        """Write a log to stdout as it comes, made harmless line by line. Ends early if nobody reads it any more.

        A line that is longer than 64 KiB is written in parts.
        """
        rest = b""
        for piece in pieces:
            *whole, rest = (rest + piece).split(b"\n")
            if len(rest) > _LONGEST_LINE_BYTES:
                whole, rest = [*whole, rest], b""
            if whole and not self._write_log(whole):
                return
        if rest:
            self._write_log([rest])

    def raw(self, pieces: Iterable[bytes]) -> None:
        """Write a log to stdout as it comes, byte by byte. Never do so at a terminal, which could obey the bytes."""
        for piece in pieces:
            try:
                self._out.buffer.write(piece)
                self._out.buffer.flush()
            except OSError as fault:
                self._note_trouble(self._out, fault)
                return

    def _write_log(self, lines: Sequence[bytes]) -> bool:
        """Write lines of a log. Returns False if stdout can't be written to any more."""
        text = b"\n".join(lines).decode("utf-8", "backslashreplace").replace("\r\n", "\n")
        return self._write(self._out, untrusted(text))

    def commands(self, lines: Iterable[str]) -> None:
        """Write workflow commands to stdout, one a line. No other method writes a line that begins with `::`."""
        if text := "\n".join(map(log_field, lines)):
            self._write(self._out, text)

    def remark(self, text: str) -> None:
        """Write prose and a newline to stderr."""
        self._write(self._err, self._shown(text, to_answer=False, is_prose=True))

    def _shown(self, text: str, *, to_answer: bool, is_prose: bool) -> str:
        """The text as it is written: commands are complete, lines fit the terminal, and the text is harmless."""
        placed = with_place(text, self.given)
        columns = self.columns(to_answer=to_answer) if is_prose else None
        broken = placed if columns is None else wrapped(placed, max(columns, _FEWEST_COLUMNS))
        return printable(broken, color=self._color_out if to_answer else self._color_err)

    def _was_paged(self, pager: str, text: str) -> bool:
        """Show a text in a pager. Returns False where there is no such program."""
        import signal
        import subprocess

        env = {"LESS": "FRX", "LV": "-c", **self._env}
        # Ctrl-C goes to the pager, where it may end a search.
        before = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            shown = subprocess.run(["sh", "-c", pager], input=f"{text}\n".encode(), env=env, check=False)
        except OSError:
            return False
        finally:
            signal.signal(signal.SIGINT, before)
        return shown.returncode not in (126, 127)

    def urgent(self, text: str) -> None:
        """Write to stderr without its buffer, which a signal may have interrupted in the middle of a write."""
        start = _ERASE_LINE if self._has_bar else ""
        with suppress(OSError):
            os.write(self._err.fileno(), f"{start}{printable(text, color=False)}\n".encode())

    def ask(self, question: str) -> str:
        """Write a question to stderr and read a line from stdin. Returns "" at the end of input."""
        try:
            self._err.write(printable(question, color=self._color_err))
            self._err.flush()
            return sys.stdin.readline().strip()
        except OSError:
            return ""

    def columns(self, *, to_answer: bool) -> int | None:
        """The width of the terminal at stdout (`to_answer`) or at stderr, None where the stream is no terminal."""
        stream = self._out if to_answer else self._err
        try:
            return os.get_terminal_size(stream.fileno()).columns or None if stream.isatty() else None
        except (OSError, ValueError):
            return None

    def fitting(self, line: str, *, to_answer: bool) -> tuple[str, bool]:
        """The line, cut to the width of the terminal, and whether the line is complete.

        Its commands have the paths and the options in `given`, so the line is for `progress` and not for `answer`.
        """
        completed = with_place(line, self.given)
        columns = self.columns(to_answer=to_answer)
        clipped = completed if columns is None else clip(completed, columns)
        return clipped, clipped == completed

    @contextmanager
    def progress(self, total: int) -> Iterator[Callable[[Sequence[str], int, bool], None]]:
        """Show lines as they come. At a terminal, a bar of `total` steps stands below the lines.

        Yields `show(lines, steps, to_answer)`, which writes lines to stdout (`to_answer`) or to stderr, and advances
        the bar. The lines must come from `fitting`.
        """

        def write(lines: Sequence[str], to_answer: bool) -> None:
            stream, color = (self._out, self._color_out) if to_answer else (self._err, self._color_err)
            if lines:
                self._write(stream, printable("\n".join(lines), color=color))

        room = (self.columns(to_answer=False) or 0) - _BESIDE_BAR_COLUMNS
        if not self._can_have_bar or total < 2 or room < 1:
            yield lambda lines, steps, to_answer: write(lines, to_answer)
            return
        file = cast("TextIO", _Lossy(self._err))
        # With `color`, click would hide the cursor, and a command that is killed could not show the cursor again.
        bar = click.progressbar(
            length=total, label="applying", show_pos=True, file=file, color=False, width=min(room, _BAR_COLUMNS)
        )
        with bar:
            self._has_bar = True

            def show(lines: Sequence[str], steps: int, to_answer: bool) -> None:
                if lines:
                    file.write(_ERASE_LINE)
                    file.flush()
                    write(lines, to_answer)
                bar.update(steps)

            yield show
        self._has_bar = False

    def _write(self, stream: TextIO, text: str) -> bool:
        """Write a text, with a newline at its end. Returns False if the stream can't be written to."""
        try:
            stream.write(text if text.endswith("\n") else text + "\n")
            stream.flush()
        except OSError as fault:
            self._note_trouble(stream, fault)
            return False
        except UnicodeEncodeError:
            stream.write(text.encode("ascii", "backslashreplace").decode() + "\n")
        return True

    def _note_trouble(self, stream: TextIO, fault: OSError) -> None:
        # A program that closed the pipe, such as `head`, has read enough.
        if not isinstance(fault, BrokenPipeError):
            name = "stdout" if stream is self._out else "stderr"
            self.trouble = self.trouble or f"{name} can't be written: {fault.strerror}"
        drop_rest(stream)


def drop_rest(stream: TextIO) -> None:
    """Let a stream that can't be written to lead nowhere.

    Python writes the rest of the buffer at exit. If that write failed, the exit code would be 120.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Lossy:
    """A stream that drops text that can't be written. A terminal that went away must not end an apply."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()
