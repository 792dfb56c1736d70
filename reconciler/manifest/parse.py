"""From the files of a manifest to the manifest, or to the faults of all files."""

from collections.abc import Iterable

from reconciler.manifest.build import build
from reconciler.manifest.document import Document
from reconciler.manifest.faults import advice_for, fault_of_kind, faults_across, faults_in, is_of_another_tool
from reconciler.manifest.model import EngineLookup, Manifest
from reconciler.manifest.yaml import read
from reconciler.model.errors import ManifestError
from reconciler.model.places import Diagnostic


def parse(sources: Iterable[tuple[str, bytes]], engine_of: EngineLookup, *, may_be_empty: bool = False) -> Manifest:
    """Return the manifest that these files make. `sources` holds pairs of a name and a content.

    A manifest needs a `jobs` block, which may be empty. With `may_be_empty`, the block may be missing. Raises
    `ManifestError` with every fault of every file, in the order of files and lines.
    """
    documents = []
    faults: list[Diagnostic] = []
    for name, content in sources:
        document, found = read_file(name, content, engine_of)
        documents.append(document)
        faults += found
    faults += faults_across(documents, may_be_empty=may_be_empty)
    if faults:
        number = {document.file: at for at, document in enumerate(documents)}
        in_order = sorted(faults, key=lambda f: (number.get(f.position.file, 0), *f.position[1:]))
        raise ManifestError(tuple(in_order), advice_for(documents))
    return build(documents, engine_of)


def read_file(name: str, content: bytes, engine_of: EngineLookup) -> tuple[Document, list[Diagnostic]]:
    """Return the document of one file, and the faults of the file in no order.

    A block that another file may hold is not missed here. A file that is not a manifest at all has one fault, which
    names the kind of the file. The document of such a file is not `whole`.
    """
    if fault := fault_of_kind(name, content):
        return Document.unread(name, {}), [fault]
    document = read(content, name)
    if is_of_another_tool(document):
        message = (
            "this is a file of another tool, not a manifest: keep it out of the paths that are read; "
            "if it is meant as a manifest, begin it with apiVersion: reconciler/v1"
        )
        return Document.unread(name, {}), [Diagnostic(document.position(()), message)]
    return document, list(faults_in(document, engine_of))
