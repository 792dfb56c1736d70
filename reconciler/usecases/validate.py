"""`reconciler validate`: all faults of a manifest."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reconciler.manifest import Manifest
    from reconciler.usecases.workspace import Workspace


def validate(workspace: "Workspace") -> "tuple[Manifest, int]":
    """The manifest, and the number of its files. Raises `ManifestError` with all faults. Reads nothing else."""
    return workspace.manifest, len(workspace.files.sources)
