"""Edits of manifest files, and a check that an edit changes no other job."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from reconciler.model.errors import ReconcilerError
from reconciler.model.jobs import Job

if TYPE_CHECKING:
    from reconciler.manifest import Manifest
    from reconciler.manifest.files import Sources


class Rewritten(NamedTuple):
    """One file of a manifest, before and after an edit."""

    file: str
    before: bytes
    after: bytes


def parsed_with(sources: "Sources", file: str, content: bytes) -> "Manifest":
    """The manifest in these files, with another content of one of them. Raises `ManifestError`."""
    from reconciler.manifest.parse import parse
    from reconciler.usecases.engines import plugin_named

    return parse([(each, content if each == file else before) for each, before in sources], plugin_named)


def refuse_other_changes(edited: "Manifest", before: "Manifest", jobs: Mapping[str, Job]) -> None:
    """Raise `ReconcilerError` if an edited manifest differs from the one before in anything but these jobs."""
    same = (edited.target, edited.guards, _state_url(edited)) == (before.target, before.guards, _state_url(before))
    if not same or dict(edited.jobs) != {**before.jobs, **jobs}:
        raise ReconcilerError("the edit would change more than these jobs: nothing is written")


def _state_url(manifest: "Manifest") -> str:
    return manifest.state.url if manifest.state else ""
