"""The config of a job that somebody else has submitted: its entrypoint and its runtime environment.

The Jobs API does not tell which resources the entrypoint was given, so that they have to be added by hand.
"""

from collections.abc import Mapping
from typing import Any

from reconciler.engines.port import Config
from reconciler.engines.ray.faults import config_fault


def config_of(document: Mapping[str, Any]) -> Config | None:
    """Return a config that submits the same job; None if there is none. `document` is a job of the Jobs API."""
    entrypoint = document.get("entrypoint")
    if not isinstance(entrypoint, str) or not entrypoint.strip():
        return None
    config: dict[str, Any] = {"script": entrypoint}
    told = document.get("runtime_env")
    environment = dict(told) if isinstance(told, Mapping) else {}
    env = environment.pop("env_vars", None)
    if isinstance(env, Mapping) and env:
        config["env"] = dict(env)
    if folder := environment.pop("working_dir", None):
        config["working_dir"] = folder
    if environment:
        config["runtime_env"] = environment
    metadata = document.get("metadata")
    if isinstance(metadata, Mapping) and metadata:
        config["native"] = {"metadata": dict(metadata)}
    return None if config_fault(config) else config
