"""An engine whose configs nest, as the manifest sees it. Its schemas refer to their parts, and offer alternatives."""

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.manifest import Manifest
from reconciler.manifest.model import EngineReader
from reconciler.manifest.parse import parse
from reconciler.model.errors import ManifestError
from reconciler.model.jobs import Job, Target
from reconciler.usecases.engines import plugin_named

TARGET_SCHEMA: Mapping[str, Any] = {
    "title": "A cluster",
    "type": "object",
    "additionalProperties": False,
    "required": ["cluster"],
    "properties": {"cluster": {"type": "string"}, "namespace": {"$ref": "#/$defs/name"}},
    "$defs": {"name": {"type": "string", "maxLength": 8}},
}
CONFIG_SCHEMA: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "urn:example:batch:config",
    "type": "object",
    "additionalProperties": False,
    "required": ["command"],
    "properties": {
        "command": {"type": "array", "minItems": 1, "items": {"type": "string"}},
        "env": {
            "type": "object",
            "propertyNames": {"pattern": "^[A-Z_]+$", "patternErrorMessage": "expected capital letters"},
            "additionalProperties": {"$ref": "#/$defs/value"},
        },
        "resources": {"$ref": "urn:example:batch:config#/$defs/resources"},
        "retry": {"oneOf": [{"type": "integer", "minimum": 0}, {"enum": ["never", "always"]}]},
        "note": {"type": ["string", "null"]},
        "ratio": {"type": "number"},
        "annotations": {
            "type": "object",
            "patternProperties": {"^x-": {"type": "string"}},
            "additionalProperties": False,
        },
        "volumes": {
            "type": "array",
            "items": {"type": "object", "required": ["path"], "properties": {"path": {"type": "string"}}},
        },
        "native": {"type": "object"},
    },
    "$defs": {
        "value": {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "required": ["secret"],
                    "properties": {"secret": {"type": "string", "minLength": 1}},
                    "additionalProperties": False,
                },
            ]
        },
        "resources": {
            "type": "object",
            "additionalProperties": False,
            "required": ["cpu"],
            "properties": {
                "cpu": {"type": "integer", "minimum": 1},
                "memory": {"type": "string", "pattern": "^[0-9]+GiB$", "patternErrorMessage": "expected such as 4GiB"},
            },
        },
    },
}


class NestedEngine:
    """What the engine `batch` says of a manifest."""

    name = "batch"

    def __init__(
        self, config_schema: Mapping[str, Any] = CONFIG_SCHEMA, target_schema: Mapping[str, Any] = TARGET_SCHEMA
    ) -> None:
        self.config_schema = config_schema
        self.target_schema = target_schema

    def target(self, block: Mapping[str, Any], folder: str) -> Target:
        return Target(self.name, block["cluster"])

    def target_faults(self, block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        if block["cluster"] == "down":
            yield "cluster", "is down"

    def job_fault(self, job: Job) -> str:
        limit = 12
        return f"the id has more than {limit} characters: shorten it" if len(job.id) > limit else ""


BATCH = NestedEngine()
HEAD = "apiVersion: reconciler/v1\ntarget: {engine: batch, cluster: east}\n"


def engine_of(name: str) -> EngineReader:
    return BATCH if name == "batch" else plugin_named(name)


def parsed(*texts: str) -> Manifest:
    return parse([(f"{number}.yaml", text.encode()) for number, text in enumerate(texts, 1)], engine_of)


def faults(*texts: str) -> list[str]:
    """The faults of a manifest in these files, in words with their places."""
    try:
        parsed(*texts)
    except ManifestError as error:
        return [str(fault) for fault in error.diagnostics]
    return []
