"""From the files of a manifest to the manifest, or to the faults of all files."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from reconciler.manifest.build import build
from reconciler.manifest.configs import JobConfigs, config_faults
from reconciler.manifest.contents import ContentReader, Readers, take_contents
from reconciler.manifest.document import Document
from reconciler.manifest.engine_schemas import Choice, choice_of
from reconciler.manifest.faults import (
    advice_for,
    engine_faults,
    fault_of_kind,
    faults_across,
    faults_beside_yaml,
    is_of_another_tool,
    is_sound,
)
from reconciler.manifest.files import content_beside
from reconciler.manifest.folders import FolderReader, folder_beside
from reconciler.manifest.model import EngineLookup, Manifest
from reconciler.manifest.yaml import read as read_yaml
from reconciler.model.errors import ManifestError
from reconciler.model.places import Diagnostic


class Files(NamedTuple):
    """Files of a manifest: their documents, the engine that they choose, and the faults of each file by itself.

    `faults` are in no order. A block that another file may hold is not missed.
    """

    documents: Sequence[Document]
    choice: Choice
    configs: JobConfigs
    faults: Sequence[Diagnostic]


def parse(
    sources: Iterable[tuple[str, bytes]],
    engine_of: EngineLookup,
    *,
    may_be_empty: bool = False,
    read: ContentReader = content_beside,
    read_folder: FolderReader = folder_beside,
) -> Manifest:
    """Return the manifest that these files make. `sources` holds pairs of a name and a content.

    `read` reads the files that configs name, and `read_folder` the folders. A manifest needs a `jobs` block, which may
    be empty. With `may_be_empty`, the block may be missing.

    Raises `ManifestError` with every fault of every file, in the order of files and lines, and `EngineError` if the
    engine of the manifest can't be used.
    """
    files = read_files(sources, engine_of, read=read, read_folder=read_folder)
    documents, engine = files.documents, files.choice.schemas.engine
    _refuse([*files.faults, *faults_across(documents, may_be_empty=may_be_empty)], documents)
    assert engine is not None
    made = build(documents, engine, files.configs)
    _refuse([fault for one in documents for fault in engine_faults(one, made.jobs, engine)], documents)
    return made


def read_files(
    sources: Iterable[tuple[str, bytes]],
    engine_of: EngineLookup,
    *,
    is_part: bool = False,
    read: ContentReader = content_beside,
    read_folder: FolderReader = folder_beside,
) -> Files:
    """Return what these files of a manifest hold, and their faults. With `is_part`, the manifest may have other files.

    `read` and `read_folder` are as in `parse`.

    A file that is not a manifest at all has one fault, which names the kind of the file. The document of such a file is
    not `whole`. Raises `EngineError` if the engine of the manifest can't be used.
    """
    read_in = [_read(name, content) for name, content in sources]
    documents = [document for document, _ in read_in]
    choice = choice_of(documents, engine_of, is_part=is_part)
    # Before anything judges a config: all that follows sees the contents of the files in place of their names.
    readers = Readers(read, read_folder, choice.home.file if choice.home else "", {})
    unread = [one for document in documents for one in take_contents(document, choice.schemas.config, readers)]
    configs = JobConfigs(documents, choice.schemas)
    strict = [*(fault for document, kind in read_in for fault in (*document.faults, *kind)), *unread]
    refused = {fault.position for fault in strict}
    sound = {document.file for document in documents if is_sound(document, choice)}
    found = [*choice.faults, *config_faults(documents, configs, sound)]
    for document in documents:
        found += faults_beside_yaml(document, choice, sound=document.file in sound)
    # The strict reader puts a placeholder in the place of a refused value. The schema must not judge placeholders.
    return Files(documents, choice, configs, [*strict, *(one for one in found if one.position not in refused)])


def _read(name: str, content: bytes) -> tuple[Document, tuple[Diagnostic, ...]]:
    """Return the document of one file, and the fault of a file that is no manifest."""
    if fault := fault_of_kind(name, content):
        return Document.unread(name, {}), (fault,)
    document = read_yaml(content, name)
    if is_of_another_tool(document):
        message = (
            "this is a file of another tool, not a manifest: keep it out of the paths that are read; "
            "if it is meant as a manifest, begin it with apiVersion: reconciler/v1"
        )
        return Document.unread(name, {}), (Diagnostic(document.position(()), message),)
    return document, ()


def _refuse(faults: Sequence[Diagnostic], documents: Sequence[Document]) -> None:
    """Raise `ManifestError` if there are faults."""
    if faults:
        number = {document.file: at for at, document in enumerate(documents)}
        in_order = sorted(faults, key=lambda f: (number.get(f.position.file, 0), *f.position[1:]))
        raise ManifestError(tuple(in_order), advice_for(documents))
