"""Files that configs name: the content of such a file stands for another field of the config.

The schema of an engine marks a field that names a file with `fileFor`, the name of the field that the content stands
for. So `batch: run.sh` means the same as `script` with the text of run.sh. Everything else sees the text alone:
digests, plans, saved plans and the difference of two commits.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from reconciler.manifest.document import Document
from reconciler.manifest.schema_parts import Schema
from reconciler.model.errors import ReconcilerError
from reconciler.model.places import Diagnostic

ContentReader = Callable[[str, str], bytes]
"""Takes the name of a file of the manifest and a path that is relative to it, and returns the content of that path.

Raises `ReconcilerError` if there is no such file, if the file can't be read, or if it is outside of the repository.
"""


def take_contents(document: Document, config_schema: Schema, read: ContentReader) -> Iterator[Diagnostic]:
    """Put the contents of named files into the configs of a document. Yields a fault for each file that can't be taken.

    The keys keep their places, so that a fault of the content has the place of the name.
    """
    marked = _fields(config_schema)
    if not marked:
        return
    for place, config in _configs(document):
        for name, stands_for in marked.items():
            if type(config.get(name)) is not str:
                continue
            try:
                _take(document, config, name, stands_for, read)
            except ReconcilerError as fault:
                yield Diagnostic(document.position((*place, name)), f"{name}: {fault.message}")


def _take(document: Document, config: dict[str, Any], name: str, stands_for: str, read: ContentReader) -> None:
    if stands_for in config:
        raise ReconcilerError(
            f"the content of this file is the {stands_for}, which is given too: leave out one of them"
        )
    try:
        text = read(document.file, config[name]).decode()
    except UnicodeDecodeError as fault:
        raise ReconcilerError(f"{config[name]} is not text in UTF-8") from fault
    renamed = {stands_for if key == name else key: text if key == name else value for key, value in config.items()}
    config.clear()
    config.update(renamed)


def _fields(config_schema: Schema) -> Mapping[str, str]:
    """Return each field that names a file, with the field that the content stands for."""
    properties = config_schema.get("properties", {})
    return {
        name: part["fileFor"]
        for name, part in (properties.items() if isinstance(properties, Mapping) else ())
        if isinstance(part, Mapping) and isinstance(part.get("fileFor"), str)
    }


def _configs(document: Document) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield the configs of all jobs and of the defaults, each with its path."""
    blocks: dict[tuple[str, ...], Any] = {("jobs", name): job for name, job in document.jobs.items()}
    blocks[("defaults",)] = document.block("defaults")
    for place, block in blocks.items():
        config = block.get("config") if type(block) is dict else None
        if type(config) is dict:
            yield (*place, "config"), config
