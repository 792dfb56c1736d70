"""Faults of a server: each row says whether the answer is lost and whether the work is done."""

from typing import NamedTuple


class Row(NamedTuple):
    """A fault, and its effect.

    If `lost` is set, the answer is lost; otherwise the call is rejected. `done` says whether the server did the work.
    `sends` is how many times a rejected call is sent.
    """

    fault: str
    lost: bool
    done: bool = False
    sends: int = 1


LOST = [
    *(f"{status}" for status in (500, 502, 503, 504)),
    *(f"{status}" for status in (301, 302, 303, 307, 308)),
    "503:retry-after=0",
    "503:retry-after=5",
    "503:retry-after=1000000000",
    "503:retry-after=Fri, 01 Jan 2100 00.00.00 GMT",
    "503:retry-after=rubbish",
    "405",
    "409",
    "reset",
    "close",
    "truncated",
    "html",
    "empty",
    "garbage",
    "wrong-type",
    "no-ok",
    "two-oks",
    "rpc-status",
    "other-job",
    "huge",
    "hang:seconds=3",
    "drip:seconds=3",
]
LOST_AFTER = ["500", "502", "503", "504", "302", "204", "reset", "close", "truncated", "html", "empty", "garbage"]
LOST_AFTER += ["no-ok", "two-oks", "rpc-status", "other-job"]
ROWS = [
    *(Row(fault, lost=True) for fault in LOST),
    *(Row(f"{kind}:after", lost=True, done=True) for kind in LOST_AFTER),
    Row("hang:after:seconds=3", lost=True, done=True),
    *(Row(f"{status}", lost=False) for status in (400, 401, 403, 404)),
    Row("not-ok", lost=False),
    Row("error-in-200", lost=False),
    Row("429:retry-after=0", lost=False, sends=4),
    Row("429:retry-after=5", lost=False, sends=4),
    Row("429:retry-after=rubbish", lost=False, sends=4),
    Row("429:retry-after=1000000000", lost=False),
]
