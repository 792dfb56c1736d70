"""The files of a manifest become a manifest, or the faults of all of them."""

from array import array
from collections.abc import Callable, Iterable
from functools import partial

from reconciler.diagnostics import Diagnostic
from reconciler.errors import ManifestError
from reconciler.manifest.build import build
from reconciler.manifest.document import Content, Document
from reconciler.manifest.faults import advice_for, fault_of_kind, faults_across, faults_in, is_of_another_tool
from reconciler.manifest.model import Manifest
from reconciler.manifest.yaml import read, read_content

_HELD_BYTES = 1 << 20
"""A longer file is read again for a place in it: its values take six times its size, and are not held."""


def parse(sources: Iterable[tuple[str, bytes]], *, may_be_empty: bool = False) -> Manifest:
    """The manifest that these files make, given as (name, content).

    Raises `ManifestError` with every fault of every file, in the order of files and lines. A manifest needs a `jobs`
    block, which may be empty, unless the manifest itself `may_be_empty`.
    """
    documents = []
    faults: list[Diagnostic] = []
    long: list[tuple[Document, Callable[[], Content]]] = []
    for name, content in sources:
        document, found = read_file(name, content)
        documents.append(document)
        faults += found
        if len(content) > _HELD_BYTES:
            long.append((document, partial(read_content, content, name)))
    faults += faults_across(documents, may_be_empty=may_be_empty)
    if faults:
        number = {document.file: at for at, document in enumerate(documents)}
        in_order = sorted(faults, key=lambda f: (number.get(f.position.file, 0), *f.position[1:]))
        raise ManifestError(tuple(in_order), advice_for(documents))
    manifest = build(documents)
    for document, again in long:
        document.let_go(again)
    return manifest


def read_file(name: str, content: bytes) -> tuple[Document, list[Diagnostic]]:
    """One file, and its faults in no order; blocks that other files must bring are not missed.

    A file that is not a manifest at all has one fault, which says what the file is. The document of such a file is
    not `whole`.
    """
    if fault := fault_of_kind(name, content):
        return _unread(name), [fault]
    document = read(content, name)
    if is_of_another_tool(document):
        message = (
            "this is a file of another tool, not a manifest: keep it out of the paths that are read; "
            "if it is meant as a manifest, begin it with apiVersion: reconciler/v1"
        )
        return _unread(name), [Diagnostic(document.position(()), message)]
    return document, list(faults_in(document))


def _unread(name: str) -> Document:
    """The document of a file whose content is not looked at."""
    return Document(name, None, {}, lambda: Content(None, array("Q")), whole=False)
