"""The names of the files of a state: the state file, and the files that lie beside it."""

from typing import NamedTuple

STATE_SUFFIX = ".state.json"
"""The end of the name of a state file."""
HISTORY_SUFFIX = ".history.jsonl"
JOURNAL_SUFFIX = ".journal"

OWN_SUFFIXES = (JOURNAL_SUFFIX, f"{JOURNAL_SUFFIX}.kept", ".lock", ".tmp", HISTORY_SUFFIX)
"""The ends of the names of the files that lie beside a state file."""


class StatePaths(NamedTuple):
    """The paths of the files of one state. `kept` is that of a journal that could not be folded."""

    state: str
    journal: str
    history: str
    lock: str
    kept: str


def paths_of(state_path: str) -> StatePaths:
    """The paths of the files of a state: jobs.state.json has the history jobs.history.jsonl."""
    journal = f"{state_path}{JOURNAL_SUFFIX}"
    history = f"{state_path.removesuffix(STATE_SUFFIX)}{HISTORY_SUFFIX}"
    return StatePaths(state_path, journal, history, f"{state_path}.lock", f"{journal}.kept")


def states_with(history_path: str) -> tuple[str, ...]:
    """The paths of the states whose history is at this path; none if no history has such a name.

    `prod.state.json` and `prod` have one history. Such a pair is refused.
    """
    stem = history_path.removesuffix(HISTORY_SUFFIX)
    return () if stem == history_path else (f"{stem}{STATE_SUFFIX}", stem)
