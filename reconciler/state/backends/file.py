"""State in a file beside the manifest, committed to git."""

import os

from reconciler.host.disk import OsDisk
from reconciler.manifest.files import repository_of
from reconciler.model.errors import ReconcilerError, StateError
from reconciler.state.codec import decode
from reconciler.state.file_lock import FileContext
from reconciler.state.file_store import FileStore
from reconciler.state.history import StoredHistory
from reconciler.state.paths import paths_of
from reconciler.state.port import NoRevisions, Store, Surroundings


class FilePlugin:
    """The `StatePlugin` for the path of a file."""

    prefix = ""

    def fault_of(self, url: str) -> tuple[str, str] | None:
        """See `StatePlugin.fault_of`. A path has none: the place of the file is judged where it is named."""
        return None

    def full_url(self, url: str) -> str:
        """See `StatePlugin.full_url`."""
        return url

    def open(self, url: str, surroundings: Surroundings) -> Store:
        """See `StatePlugin.open`."""
        context = FileContext.of(surroundings, OsDisk())
        return FileStore(url, context, revisions=lambda revision: _committed(url, revision))


PLUGIN = FilePlugin()


def _committed(path: str, name: str) -> StoredHistory:
    """The state and the history at a commit of the repository that the file lies in. The journal is not read.

    Raises `NoRevisions` outside of a repository, and `ReconcilerError` if there is no such commit.
    """
    from reconciler.manifest.revisions import file_at, revision

    folder = os.path.dirname(path)
    try:
        at = revision(folder, name)
    except ReconcilerError as fault:
        if repository_of(folder) is None:
            raise NoRevisions(fault.message, "commit the state to git: each commit is a revision then") from fault
        raise
    where = paths_of(path).history
    lines, content = file_at(at, os.path.basename(where)) or b"", file_at(at, os.path.basename(path))
    try:
        state = None if content is None else decode(content, f"{name}:{path}")
    except StateError as fault:
        return StoredHistory(where, lines, trouble=fault.message)
    return StoredHistory(where, lines, state=state)
