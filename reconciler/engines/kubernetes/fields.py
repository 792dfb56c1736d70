"""The parts of objects and replies of an API server. A part that is missing, or of another type, is empty."""

from collections.abc import Mapping
from typing import Any

from reconciler.engines.http.reply import Reply


def at(value: object, *path: str) -> Any:
    """Return the value at a path of names, None if there is none."""
    for each in path:
        value = value.get(each) if isinstance(value, Mapping) else None
    return value


def mapping(value: object, *path: str) -> Mapping[str, Any]:
    """Return the mapping at a path of names."""
    found = at(value, *path)
    return found if isinstance(found, Mapping) else {}


def items(value: object, *path: str) -> list[Mapping[str, Any]]:
    """Return the mappings in the list at a path of names."""
    found = at(value, *path)
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


def text(value: object, *path: str) -> str:
    """Return the text at a path of names."""
    found = at(value, *path)
    return found if isinstance(found, str) else ""


def metadata(value: object) -> Mapping[str, Any]:
    """Return the metadata of an object."""
    return mapping(value, "metadata")


def labels(value: object) -> Mapping[str, Any]:
    """Return the labels of an object."""
    return mapping(value, "metadata", "labels")


def spec(value: object) -> Mapping[str, Any]:
    """Return the spec of an object."""
    return mapping(value, "spec")


def name(value: object) -> str:
    """Return the name of an object."""
    return text(value, "metadata", "name")


def uid(value: object) -> str:
    """Return the uid of an object."""
    return text(value, "metadata", "uid")


def document(reply: Reply) -> Mapping[str, Any]:
    """Return the document of a reply."""
    return mapping(reply.document)
