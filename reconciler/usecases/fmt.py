"""`reconciler fmt`: manifest files in their canonical layout."""

from typing import TYPE_CHECKING, NamedTuple

from reconciler.model.errors import ManifestError
from reconciler.usecases.manifest_edits import Rewritten

if TYPE_CHECKING:
    from reconciler.model.places import Diagnostic
    from reconciler.usecases.workspace import Workspace


class LaidOut(NamedTuple):
    """The result of a layout: the files that change, and the names of the files whose lines end in CRLF.

    `faults` is the error about files with faults, which stay as they are, or None.
    """

    changed: tuple[Rewritten, ...]
    with_crlf: tuple[str, ...]
    faults: ManifestError | None


def lay_out(workspace: "Workspace", *, write: bool) -> LaidOut:
    """Lay out each file of a manifest by itself. With `write`, the files that change are written."""
    from reconciler.manifest.files import refuse_read_only, replace_source
    from reconciler.manifest.layout import canonical, has_crlf
    from reconciler.manifest.parse import read_files
    from reconciler.usecases.engines import plugin_named

    files = read_files(workspace.files.sources, plugin_named, is_part=True)
    schema = files.choice.schemas.whole
    faults: list[Diagnostic] = []
    changed: list[Rewritten] = []
    with_crlf: list[str] = []
    for file, content in workspace.files.sources:
        found = [fault for fault in files.faults if fault.position.file == file]
        faults += sorted(found)
        if not found and (after := canonical(content, file, schema)) != content:
            changed.append(Rewritten(file, content, after))
        if not found and has_crlf(content):
            with_crlf.append(file)
    if write:
        for rewritten in changed:
            refuse_read_only(rewritten.file)
        for rewritten in changed:
            replace_source(rewritten.file, rewritten.after)
    return LaidOut(tuple(changed), tuple(with_crlf), ManifestError(tuple(faults)) if faults else None)
