"""Times of day as the engine reports them: RFC 3339, UTC, with microseconds."""

from datetime import UTC, datetime, timedelta


def rfc3339(time_s: float) -> str:
    """Return a time in seconds since 1970."""
    return _text(datetime.fromtimestamp(time_s, UTC))


def later_than(before: str, time_s: float) -> str:
    """Return a time in seconds since 1970, or the first moment after `before` if the clock has gone back since."""
    at = datetime.fromtimestamp(time_s, UTC)
    return _text(max(at, datetime.fromisoformat(before) + timedelta(microseconds=1)))


def _text(at: datetime) -> str:
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
