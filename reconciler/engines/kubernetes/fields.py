"""The parts of objects and replies of an API server that several modules read. What is missing is empty."""

from collections.abc import Mapping
from typing import Any

from reconciler.engines.http.reply import Reply


def metadata(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the metadata of an object."""
    found = value.get("metadata")
    return found if isinstance(found, Mapping) else {}


def labels(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the labels of an object."""
    found = metadata(value).get("labels")
    return found if isinstance(found, Mapping) else {}


def spec(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the spec of an object."""
    found = value.get("spec")
    return found if isinstance(found, Mapping) else {}


def name(value: Mapping[str, Any]) -> str:
    """Return the name of an object."""
    found = metadata(value).get("name")
    return found if isinstance(found, str) else ""


def uid(value: Mapping[str, Any]) -> str:
    """Return the uid of an object."""
    found = metadata(value).get("uid")
    return found if isinstance(found, str) else ""


def document(reply: Reply) -> Mapping[str, Any]:
    """Return the document of a reply."""
    return reply.document if isinstance(reply.document, Mapping) else {}
