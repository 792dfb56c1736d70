"""A plan that came to nothing, remembered: files that are the same to the byte need not be planned again."""

from typing import TYPE_CHECKING

from reconciler.digests import sha256
from reconciler.wiring import Place, World, memory_of, open_store

if TYPE_CHECKING:
    from reconciler.sources import Sources
    from reconciler.state.store import Seen

_KIND = "plan"


def known_verdict(place: Place, world: World, sources: "Sources") -> str | None:
    """The verdict on these very files, where they were planned before and came to nothing; else None.

    Raises for a state that was rolled back.
    """
    entry = memory_of(place, world).recall(_KIND, _identity(place, sources))
    if entry is None or not open_store(place, world).stands(entry["lineage"], entry["serial"], entry["digest"]):
        return None
    said: str = entry["said"]
    return said


def remember(place: Place, world: World, sources: "Sources", seen: "Seen", verdict: str) -> None:
    """Remember the verdict on these files and the state that was seen with them, where that is all in its file."""
    if seen.state is not None and seen.digest:
        entry = {"lineage": seen.state.lineage, "serial": seen.state.serial, "digest": seen.digest, "said": verdict}
        memory_of(place, world).remember(_KIND, _identity(place, sources), entry)


def _identity(place: Place, sources: "Sources") -> bytes:
    """What tells a manifest from any other, before it is read: each file's content, and the endpoint that was given."""
    return "\n".join((place.endpoint, *(sha256(content) for _, content in sources))).encode()
