"""What was done to a job before, as values."""

from typing import NamedTuple


class HistoryEntry(NamedTuple):
    """One action that was carried out.

    `at` is RFC 3339 in UTC. `who` is a CI identity or a git user. `commit` is None where there was
    none. `status` is the HTTP status of the last answer, None where nothing was sent or answered.
    """

    at: str
    who: str
    commit: str | None
    verb: str
    outcome: str
    status: int | None = None
    request_id: str = ""
