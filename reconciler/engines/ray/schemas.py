"""The schemas of the fields of a target and of a config, which stand beside this module."""

import json
import os

from reconciler.engines.port import Schema


def schema(name: str) -> Schema:
    """Return the schema of a "target" or of a "config"."""
    # Not with `pathlib`: its import takes 7 ms, and a plan would import it for nothing else.
    with open(os.path.join(os.path.dirname(__file__), f"{name}.schema.json"), encoding="utf-8") as file:
        found: Schema = json.load(file)
    return found
