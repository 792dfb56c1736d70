"""The plugin of the engine: what a manifest may say, how a plan words a step, and how the engine is opened."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.engines.port import (
    Config,
    EngineError,
    Job,
    Request,
    Schema,
    Step,
    Surroundings,
    Target,
    Verb,
)

if TYPE_CHECKING:
    from reconciler_scripts.engine import ScriptsEngine

DEFAULT_GRACE_S = 10
_DEFAULTS: Config = {"args": [], "env": {}}
_TEXT = {"type": "string", "pattern": "^[^\\u0000]*$", "patternErrorMessage": "expected text without a NUL character"}


TARGET_SCHEMA: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["folder"],
    "properties": {
        "folder": {
            "title": "The folder of the scripts",
            "description": "Relative to this file. The script of the job `nightly` is `nightly.sh`.",
            "type": "string",
            "minLength": 1,
        },
        "gracePeriod": {
            "title": "Seconds from SIGTERM to SIGKILL in an abort",
            "type": "integer",
            "minimum": 0,
            "maximum": 3600,
        },
    },
}
CONFIG_SCHEMA: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "args": {"title": "The arguments of the script", "type": "array", "items": _TEXT},
        "env": {
            "title": "Environment variables of the script",
            "type": "object",
            "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
            "additionalProperties": _TEXT,
        },
    },
}


class ScriptsPlugin:
    """The plugin of the engine `scripts`. See `EnginePlugin`."""

    name = "scripts"
    target_schema: Schema = TARGET_SCHEMA
    config_schema: Schema = CONFIG_SCHEMA

    def target(self, block: Mapping[str, Any], folder: str) -> Target:
        """Return the folder of the scripts as a target."""
        scripts = os.path.abspath(os.path.join(folder, block["folder"]))
        return Target(self.name, scripts, block.get("gracePeriod", DEFAULT_GRACE_S))

    def target_faults(self, block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield nothing: the schema says all."""
        yield from ()

    def job_fault(self, job: Job) -> str:
        """Return "": every id of a job can be the name of a file."""
        return ""

    def same_config(self, a: Config, b: Config) -> bool:
        """Return whether two configs start a script alike. No arguments are the same as an empty list."""
        return {**_DEFAULTS, **a} == {**_DEFAULTS, **b}

    def wording(self, target: Target, step: Step) -> tuple[Request, ...]:
        """Return the one request of a step."""
        match step.verb:
            case Verb.RUN:
                return (Request(step.verb, f"start {step.job_id}.sh as {step.run_id}", dict(step.config) or None),)
            case Verb.ABORT:
                return (Request(step.verb, f"end {step.run_id or step.job_id}"),)
            case Verb.DELETE:
                return (Request(step.verb, f"remove the runs of {step.job_id}"),)

    def addressed(self, target: Target, request: Request) -> Request:
        """Return the request with the folder behind it."""
        return request._replace(text=f"{request.text} in {target.address}")

    def warnings(self, target: Target) -> Iterable[str]:
        """Return nothing."""
        return ()

    def is_on_this_machine(self, target: Target) -> bool:
        """Return True: the scripts run here."""
        return True

    def secrets(self, env: Mapping[str, str]) -> Iterable[str]:
        """Return nothing: the engine needs no credentials."""
        return ()

    @contextmanager
    def open(self, target: Target, surroundings: Surroundings) -> Iterator["ScriptsEngine"]:
        """Return the engine of a folder. Raises `EngineError` where the folder can't be used."""
        # A plan needs the plugin, and no engine. So the engine is imported here.
        from reconciler_scripts.engine import ScriptsEngine

        if not hasattr(os, "pidfd_open") or not os.path.isdir("/proc/self"):
            raise EngineError("the engine scripts needs Linux, with /proc", "choose another engine")
        assert isinstance(target.settings, int)
        try:
            engine = ScriptsEngine(Path(target.address), target.settings, surroundings)
        except OSError as fault:
            raise EngineError(f"the folder of scripts can't be used: {fault}", f"mkdir -p {target.address}") from fault
        yield engine


PLUGIN = ScriptsPlugin()
