"""Files that configs name: the content of such a file stands for another field of the config.

The schema of an engine marks a field that names a file, with the name of the field that the content stands for:

    fileFor      the text of the file: `batch: run.sh` means the same as `script` with the text of run.sh
    documentFor  one YAML document of the file: `manifest: {file: chart.yaml, name: train}` means the same as `job` with
                 the document of that name (`metadata.name`) whose fields are those of `documentWhere` in the schema

    folder       the files of a folder: `working_dir: train` becomes a mapping of `folder`, the path of the folder
                 relative to the file with the target, and `content`, a digest of its files (`folders.py`). The value of
                 `folder` in the schema says which files count. A text with "://" in it is no path, and stays

Everything else sees the content alone: digests, plans, saved plans and the difference of two commits.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from reconciler.manifest import yaml
from reconciler.manifest.document import Document
from reconciler.manifest.folders import FolderReader, Named, Rules, digest_of, rules_of
from reconciler.manifest.schema_parts import Schema
from reconciler.model.errors import ReconcilerError
from reconciler.model.places import Diagnostic

ContentReader = Callable[[str, str], bytes]
"""Takes the name of a file of the manifest and a path that is relative to it, and returns the content of that path.

Raises `ReconcilerError` if there is no such file, if the file can't be read, or if it is outside of the repository.
"""

_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)
"""What begins a YAML document. No text of a document can hold it at the start of a line (YAML 1.2, 9.1.2)."""


class _Mark(NamedTuple):
    """What the schema says of a field that names a file or a folder.

    `where` is None for a file that is taken as text. `rules` are those of a folder, else None.
    """

    stands_for: str
    where: Mapping[str, Any] | None = None
    rules: Rules | None = None


class Readers(NamedTuple):
    """What reads files and folders that configs name. `home` is the file with the target, "" if none has it.

    `known` are the folders that were read, by the folder of the file that names them and by the path in it.
    """

    file: ContentReader
    folder: FolderReader
    home: str
    known: dict[tuple[str, str], dict[str, str]]


def take_contents(document: Document, config_schema: Schema, read: Readers) -> Iterator[Diagnostic]:
    """Put the contents of named files into the configs of a document. Yields a fault for each file that can't be taken.

    The keys keep their places, so that a fault of the content has the place of the name.
    """
    marked = _marks(config_schema)
    if not marked:
        return
    for place, config in _configs(document):
        for name, mark in marked.items():
            named = config.get(name)
            if not _is_name(named, mark):
                continue
            try:
                if mark.stands_for in config and mark.stands_for != name:
                    raise ReconcilerError(
                        f"the content of this file is the {mark.stands_for}, which is given too: leave out one of them"
                    )
                document.replace(place, name, mark.stands_for, _content(document.file, named, mark, read))
            except ReconcilerError as fault:
                yield Diagnostic(document.position((*place, name)), f"{name}: {fault.message}")


def _is_name(named: Any, mark: _Mark) -> bool:
    """Return whether a value names a file. The schema tells what is wrong with any other value."""
    if mark.rules is not None:
        return type(named) is str and named.strip() != "" and "://" not in named
    if mark.where is None:
        return type(named) is str
    return type(named) is dict and type(named.get("file")) is str and type(named.get("name", "")) is str


def _content(file: str, named: Any, mark: _Mark, read: Readers) -> Any:
    if mark.rules is not None:
        key = os.path.dirname(file), named
        if key not in read.known:
            found = read.folder(Named(file, named, read.home or file), mark.rules)
            read.known[key] = {"folder": found.path, "content": digest_of(found.files)}
        return dict(read.known[key])
    path = named if mark.where is None else named["file"]
    content = read.file(file, path)
    try:
        text = content.decode()
    except UnicodeDecodeError as fault:
        raise ReconcilerError(f"{path} is not text in UTF-8") from fault
    return text if mark.where is None else _chosen(text, path, named.get("name", ""), mark.where)


def _chosen(text: str, path: str, name: str, where: Mapping[str, Any]) -> Any:
    """Return the one document of a file that has these fields, and this name if a name is given."""
    kind = ", ".join(str(value) for value in where.values())
    documents = list(_documents(text, path))
    alike = [document for document in documents if _has(document.value, where)]
    chosen = [document for document in alike if name in ("", _name_of(document.value))]
    names = [_name_of(document.value) for document in alike]
    if len(chosen) > 1:
        raise ReconcilerError(f"{path} has more than one {kind}: {', '.join(names)}: name one of them")
    if not chosen:
        # Most manifests name no file that lacks its job, and this import is not free.
        from reconciler.model.suggestions import Suggestions

        unread = next((document.faults[0] for document in documents if not document.whole), None)
        there = f": it has {', '.join(names)}" if names else ""
        why = f"; {unread.position}: {unread.message}" if unread else ""
        near = Suggestions()(name, names) if name else ""
        raise ReconcilerError(f"{path} has no {kind}{f' {name}' if name else ''}{there}{near}{why}")
    if faults := chosen[0].faults:
        raise ReconcilerError(f"{faults[0].position}: {faults[0].message}")
    return chosen[0].value


def _documents(text: str, path: str) -> Iterator[Document]:
    """Yield each YAML document of a file. The faults have the lines of the file."""
    starts = [0, *(found.start() for found in _SEPARATOR.finditer(text)), len(text)]
    for start, stop in pairwise(starts):
        lines_before = text.count("\n", 0, start)
        part = text[start:stop]
        if part.strip():
            yield yaml.read(("\n" * lines_before + part).encode(), path)


def _has(value: Any, where: Mapping[str, Any]) -> bool:
    return type(value) is dict and all(value.get(name) == wanted for name, wanted in where.items())


def _name_of(value: Mapping[str, Any]) -> str:
    metadata = value.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return name if isinstance(name, str) else ""


def _marks(config_schema: Schema) -> Mapping[str, _Mark]:
    """Return each field that names a file, and what its content stands for."""
    properties = config_schema.get("properties", {})
    found: dict[str, _Mark] = {}
    for name, part in properties.items() if isinstance(properties, Mapping) else ():
        if not isinstance(part, Mapping):
            continue
        if isinstance(stands_for := part.get("fileFor"), str):
            found[name] = _Mark(stands_for)
        if isinstance(rules := part.get("folder"), Mapping):
            found[name] = _Mark(name, rules=rules_of(rules))
        if isinstance(stands_for := part.get("documentFor"), str):
            where = part.get("documentWhere")
            found[name] = _Mark(stands_for, where if isinstance(where, Mapping) else {})
    return found


def _configs(document: Document) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield the configs of all jobs and of the defaults, each with its path."""
    blocks: dict[tuple[str, ...], Any] = {("jobs", name): job for name, job in document.jobs.items()}
    blocks[("defaults",)] = document.block("defaults")
    for place, block in blocks.items():
        config = block.get("config") if type(block) is dict else None
        if type(config) is dict:
            yield (*place, "config"), config
