"""The last line of a harness: what it went through, what it found, and what that cost."""

import argparse
import resource
from typing import NamedTuple


class Part(NamedTuple):
    """One of several equal parts of a long run, counted from 1. The parts together are the whole, each point once."""

    number: int = 1
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has(self, point: int) -> bool:
        """Whether the point of this number belongs to the part, whatever other points there are."""
        return point % self.of == self.number - 1


def part(text: str) -> Part:
    """The part that an option `--part K/N` names. Raises `argparse.ArgumentTypeError` for any other text."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text} is no part K/N with 1 <= K <= N, such as 2/8")
    return Part(int(number), int(count))


def last_line(mode: str, which: str, points: int, broken: int) -> str:
    """One line for a whole run, once all of its processes have ended: the CPU time is theirs too, in seconds."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = sum(one.ru_utime + one.ru_stime for one in used)
    return f"{mode}, {which}: {points} points, {broken} broken, {cpu_s:.0f} CPU-s"
