"""How much of a contract suite runs: a sample with each run of the tests, or the whole of it."""

import os
from collections.abc import Mapping
from typing import NamedTuple

VARIABLE = "RECONCILER_CONTRACT"
"""The environment variable that names the amount: `sample`, which is the default, or `whole`."""


class Amount(NamedTuple):
    """How often the tests of a suite repeat what they do.

    `jobs` is the number of jobs in a test with many jobs, and `calls` the number of calls that a program makes in a
    test with kills. `kills`, `stops`, `races` and `cuts` count rounds with programs. `writes` is the number of
    random writes to a remote. Of the hostile texts, each `nth_text` is tried.
    """

    jobs: int
    calls: int
    kills: int
    stops: int
    races: int
    cuts: int
    writes: int
    nth_text: int


SAMPLE = Amount(jobs=40, calls=24, kills=2, stops=1, races=1, cuts=1, writes=40, nth_text=8)
WHOLE = Amount(jobs=1000, calls=300, kills=40, stops=8, races=6, cuts=12, writes=600, nth_text=1)


def amount_in(env: Mapping[str, str] = os.environ) -> Amount:
    """Return the amount that the environment names. Raises `ValueError` for an unknown name."""
    named = env.get(VARIABLE, "") or "sample"
    amounts = {"sample": SAMPLE, "whole": WHOLE}
    if named not in amounts:
        raise ValueError(f"{VARIABLE}={named}: give sample or whole")
    return amounts[named]
