"""The place that a user names on the command line: a manifest, a state and a service."""

import os
from typing import TYPE_CHECKING, NamedTuple

from reconciler.model.errors import Usage
from reconciler.model.jobs import Target

if TYPE_CHECKING:
    from reconciler.manifest import DeclaredState
    from reconciler.manifest.model import TargetBlock
    from reconciler.state.homes import Home


class Place(NamedTuple):
    """The manifest, the state and the service that a user names. "" and () stand for the defaults.

    `state_from` and `endpoint_from` name the option or the environment variable that gave `state_url` and `endpoint`.
    Messages use these names.
    """

    paths: tuple[str, ...] = ()
    state_url: str = ""
    endpoint: str = ""
    state_from: str = "--state"
    endpoint_from: str = "--endpoint"

    @property
    def manifest_paths(self) -> tuple[str, ...]:
        """The paths of the manifest, as given or by default. Raises `ReconcilerError` if there is no default path."""
        if self.paths:
            return self.paths
        from reconciler.manifest.files import default_paths

        return tuple(default_paths("."))

    @property
    def manifest_folder(self) -> str:
        """The folder of the first path. Raises as `manifest_paths` does."""
        first = self.manifest_paths[0]
        return first if os.path.isdir(first) else os.path.dirname(first) or "."

    def target(self, declared: Target, block: "TargetBlock") -> Target:
        """The target: the declared one, at the endpoint that the user names, if any. `block` is the declared block.

        Raises `Usage` for an endpoint that can't be used, and if the targets of the engine have no endpoint.
        """
        if not self.endpoint:
            return declared
        from reconciler.usecases.engines import plugin_for

        engine = plugin_for(declared)
        if "endpoint" not in engine.target_schema.get("properties", ()):
            raise Usage(f"{self.endpoint_from}: a target of the engine {engine.name} has no endpoint")
        fields = {**block.fields, "endpoint": self.endpoint}
        for _, fault in engine.target_faults(fields):
            raise Usage(f"{self.endpoint_from} {fault}")
        return engine.target(fields, block.folder)

    def home(self, declared: "DeclaredState | None") -> "Home":
        """The home of the state: the one that the user names, else the declared one, else the default.

        Raises `Usage` or `ManifestError` for a home that can't be used. Raises `Refused` if several paths are given and
        nothing names the home, since then there is no default.
        """
        from reconciler.state.homes import declared_home, default_home, given_home

        if self.state_url:
            return given_home(self.state_url, self.state_from, self.manifest_folder)
        return declared_home(declared) if declared is not None else default_home(self.manifest_paths)
