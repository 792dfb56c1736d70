"""The files of a manifest become a manifest, or the faults of all of them."""

from collections.abc import Iterable

from reconciler.manifest.build import build
from reconciler.manifest.document import Document
from reconciler.manifest.faults import advice_for, fault_of_kind, faults_across, faults_in, is_of_another_tool
from reconciler.manifest.model import Manifest
from reconciler.manifest.yaml import read
from reconciler.model.errors import ManifestError
from reconciler.model.places import Diagnostic


def parse(sources: Iterable[tuple[str, bytes]], *, may_be_empty: bool = False) -> Manifest:
    """The manifest that these files make, given as (name, content).

    Raises `ManifestError` with every fault of every file, in the order of files and lines. A manifest needs a `jobs`
    block, which may be empty, unless the manifest itself `may_be_empty`.
    """
    documents = []
    faults: list[Diagnostic] = []
    for name, content in sources:
        document, found = read_file(name, content)
        documents.append(document)
        faults += found
    faults += faults_across(documents, may_be_empty=may_be_empty)
    if faults:
        number = {document.file: at for at, document in enumerate(documents)}
        in_order = sorted(faults, key=lambda f: (number.get(f.position.file, 0), *f.position[1:]))
        raise ManifestError(tuple(in_order), advice_for(documents))
    return build(documents)


def read_file(name: str, content: bytes) -> tuple[Document, list[Diagnostic]]:
    """One file, and its faults in no order; blocks that other files must bring are not missed.

    A file that is not a manifest at all has one fault, which says what the file is. The document of such a file is
    not `whole`.
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
    return document, list(faults_in(document))
