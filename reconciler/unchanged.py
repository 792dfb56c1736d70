"""A plan that came to nothing, remembered: files that are the same to the byte need not be planned again."""

from typing import TYPE_CHECKING, Any

from reconciler.diagnostics import Position
from reconciler.digests import sha256
from reconciler.wiring import Place, World, located, memory_of, open_store

if TYPE_CHECKING:
    from reconciler.manifest import DeclaredState
    from reconciler.sources import Sources
    from reconciler.state.store import Seen

_KIND = "plan"


def known_verdict(place: Place, world: World, sources: "Sources") -> str | None:
    """The verdict on these very files, where they were planned before and came to nothing; else None.

    Raises for a state that was rolled back.
    """
    entry = memory_of(place, world).recall(_KIND, _identity(place, sources))
    if entry is None:
        return None
    store = open_store(located(place, _declared(entry["state"], sources)), world)
    if not store.stands(entry["lineage"], entry["serial"], entry["digest"]):
        return None
    said: str = entry["said"]
    return said


def remember(
    place: Place, world: World, sources: "Sources", declared: "DeclaredState | None", seen: "Seen", verdict: str
) -> None:
    """Remember the verdict on these files and the state that was seen with them, where that is all in its file."""
    if seen.state is not None and seen.digest:
        entry = {"lineage": seen.state.lineage, "serial": seen.state.serial, "digest": seen.digest, "said": verdict}
        entry["state"] = _remembered(declared, sources)
        memory_of(place, world).remember(_KIND, _identity(place, sources), entry)


def _remembered(declared: "DeclaredState | None", sources: "Sources") -> list[str | int] | None:
    """What a manifest declares of its state, its file by its number: the same files may be read by other names."""
    if declared is None:
        return None
    position = declared.position
    file = next(number for number, (name, _) in enumerate(sources) if name == position.file)
    return [declared.url, file, position.line, position.column]


def _declared(remembered: "list[Any] | None", sources: "Sources") -> "DeclaredState | None":
    if remembered is None:
        return None
    from reconciler.manifest import DeclaredState

    url, file, line, column = remembered
    return DeclaredState(url, Position(sources[file][0], line, column))


def _identity(place: Place, sources: "Sources") -> bytes:
    """What tells a manifest from any other, before it is read: each file's content, and the endpoint that was given."""
    return "\n".join((place.endpoint, *(sha256(content) for _, content in sources))).encode()
