"""The JSON Schemas of this engine: that of a target, and that of the config of a job."""

import json
import os

from reconciler.engines.port import Schema


def schema(name: str) -> Schema:
    """Return a schema, of "target" or of "config"."""
    # Not with `pathlib`: its import takes 7 ms, and a plan would import it for nothing else.
    with open(os.path.join(os.path.dirname(__file__), f"{name}.schema.json"), encoding="utf-8") as file:
        found: Schema = json.load(file)
    return found
