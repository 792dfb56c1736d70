"""The last line of a harness: its points, its findings and its cost."""

import argparse
import resource
from typing import NamedTuple

PYTHON = "PYTHONPATH=tests/support:tests/campaigns python"
"""How a shell in the top folder of the checkout starts a harness."""


class Part(NamedTuple):
    """One of several equal parts of a long run, counted from 1; together they cover each point exactly once."""

    number: int = 1
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has(self, point: int) -> bool:
        """Whether this part contains the point with this number. The other points of the run do not matter."""
        return point % self.of == self.number - 1


def part(text: str) -> Part:
    """Parse an option `--part K/N`. Raises `argparse.ArgumentTypeError` for any other text."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text} is no part K/N with 1 <= K <= N, such as 2/8")
    return Part(int(number), int(count))


def last_line(mode: str, which: str, points: int, broken: int) -> str:
    """Return the line for a whole run, whose child processes have all ended: their CPU seconds count too."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = sum(one.ru_utime + one.ru_stime for one in used)
    return f"{mode}, {which}: {points} points, {broken} broken, {cpu_s:.0f} CPU-s"
