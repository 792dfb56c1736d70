"""Names of jobs for completion and for hints. A manifest that can't be read has no names."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reconciler.model.errors import ManifestError, ReconcilerError

if TYPE_CHECKING:
    from reconciler.usecases.workspace import Workspace


def declared_names(workspace: "Workspace") -> Sequence[str]:
    """The names of the declared jobs, also if the manifest has faults."""
    try:
        return tuple(workspace.files.parsed.jobs)
    except ManifestError:
        return tuple(workspace.files.ids_in_spite_of_faults or ())
    except ReconcilerError:
        return ()


def recorded_names(workspace: "Workspace") -> set[str]:
    """The names of the records in a state file; none for a state elsewhere, since that would take a fetch."""
    from reconciler.host.disk import OsDisk
    from reconciler.model.jobs import title
    from reconciler.state.loading import load

    path = workspace.home.path
    loaded = load(OsDisk(), path, None) if path else None
    return set(map(title, loaded.state.jobs)) if loaded else set()


def endpoint_of_state(workspace: "Workspace") -> str:
    """The endpoint that a state file is for; "" without one, and for another engine than that of the manifest."""
    from reconciler.host.disk import OsDisk
    from reconciler.state.loading import load

    target = workspace.manifest.target
    if not workspace.home.path:
        return ""
    loaded = load(OsDisk(), workspace.home.path, None)
    recorded = loaded.state.target if loaded else target
    return recorded.address if recorded.engine == target.engine else ""
