"""Hostile text on its way to a terminal or a CI log."""

import io

import pytest

from reconciler.host.safe_text import Style, field, pad, printable, styled, width
from reconciler.host.terminal import Terminal
from reconciler.views import json as render_json
from reconciler.views import text

HOSTILE = {
    "a\x1b[31mred": "a\\x1b[31mred",
    "two\nlines": "two\\nlines",
    "back\rover": "back\\rover",
    "bell\x07": "bell\\x07",
    "erase\x08\x08": "erase\\x08\\x08",
    "c1\x9b31m": "c1\\x9b31m",
    "nul\x00": "nul\\x00",
    "right\u202eleft": "right\\u202eleft",
    "isolate\u2066x\u2069": "isolate\\u2066x\\u2069",
    "line\u2028sep": "line\\u2028sep",
    "zero\u200bwidth": "zero\\u200bwidth",
    "bom\ufeff": "bom\\ufeff",
    "tag\U000e0041": "tag\\U000e0041",
    "half\ud800": "half\\ud800",
    "mark\x01r": "mark\\x01r",
    "mark\x02": "mark\\x02",
}


@pytest.mark.parametrize(("given", "shown"), HOSTILE.items())
def test_harmful_characters_become_visible_escapes(given: str, shown: str) -> None:
    assert field(given) == shown
    assert printable(field(given), color=True) == shown


@pytest.mark.parametrize("given", HOSTILE)
def test_what_a_view_forgot_to_escape_is_still_harmless_on_a_terminal(given: str) -> None:
    shown = printable(given, color=False)
    assert all(c in "\n\t" or c.isprintable() or c in "\u200d" for c in shown), ascii(shown)


@pytest.mark.parametrize("command", ["::set-output name=x::y", "  ::add-mask::x", "::stop-commands::t"])
def test_a_line_that_github_takes_for_a_command_is_broken_up(command: str) -> None:
    assert not any(line.lstrip().startswith("::") for line in printable(f"ok\n{command}\n", color=False).splitlines())


@pytest.mark.parametrize("command", ["##[error]x", "##vso[task.setvariable]x", "##teamcity[x]"])
def test_a_marker_that_a_ci_log_takes_for_a_command_is_broken_up(command: str) -> None:
    assert command not in printable(f"text {command}", color=False)


def test_json_documents_hold_no_command_and_mean_the_same() -> None:
    import json

    document = {"job": "##[error]x", "reason": "\u202e\x1b[0m\n::x"}
    dumped = render_json.dumps(document)
    assert json.loads(dumped) == document
    assert dumped.isascii()
    assert "##[" not in dumped


def test_colours_are_the_terminals_alone() -> None:
    marked = styled(Style.RED, "x")
    assert printable(marked, color=True) == "\x1b[31mx\x1b[0m"
    assert printable(marked, color=False) == "x"


@pytest.mark.parametrize(("value", "columns"), [("abc", 3), ("日本", 4), ("e\u0301", 1), (styled(Style.RED, "ab"), 2)])
def test_width_counts_columns(value: str, columns: int) -> None:
    assert width(value) == columns
    assert width(pad(value, 10)) == 10


def test_a_closed_pipe_is_no_error() -> None:
    import subprocess
    import sys

    program = f"{sys.executable} -m reconciler --help; {sys.executable} -m reconciler completion bash"
    done = subprocess.run(["sh", "-c", f"({program}) | head -n 1"], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_no_color_is_obeyed_even_at_a_terminal() -> None:
    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    for env, no_color, coloured in [({}, False, True), ({"NO_COLOR": "1"}, False, False), ({}, True, False)]:
        out = Tty()
        Terminal(out, io.StringIO(), env, no_color=no_color).answer(styled(Style.GREEN, "x"))
        assert ("\x1b" in out.getvalue()) == coloured


def test_an_error_says_what_and_what_to_do_next() -> None:
    from reconciler.model.errors import Refused

    shown = printable(text.error(Refused("refused\x1b[2J", "try\nthis")), color=False)
    assert shown == "error: refused\\x1b[2J\n  try\\nthis"
