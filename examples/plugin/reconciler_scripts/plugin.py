"""The plugin of the engine: what a manifest may say, how a plan words a step, and how the engine is opened."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from reconciler.engines.port import (
    Config,
    EngineError,
    Job,
    Promises,
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
PROMISES = Promises(creates_on_run=True, atomic_run=True, reads=True, lists=True, keeps_ended_s=inf, has_logs=True)
LONGEST_BYTES = 100_000
"""The length of the longest argument. Linux takes 128 KiB, with the name of the variable."""
_TEXT = {"type": "string"}


TARGET_SCHEMA: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["folder"],
    "properties": {
        "folder": {
            "title": "The folder of the scripts",
            "description": "Relative to this file.",
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
        "script": {
            "title": "The name of the script",
            "description": "Default: the id of the job with `.sh` behind it.",
            "type": "string",
            "pattern": r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,199}$(?!\n)",
            "patternErrorMessage": "expected the name of a file in the folder, such as nightly.sh",
        },
        "args": {"title": "The arguments of the script", "type": "array", "items": _TEXT},
        "env": {
            "title": "Environment variables of the script",
            "type": "object",
            "propertyNames": {
                "pattern": "^[A-Za-z_][A-Za-z0-9_]*$",
                "patternErrorMessage": "expected a name of letters, digits and _",
            },
            "additionalProperties": _TEXT,
        },
    },
}


class Call(NamedTuple):
    """What the config of a job says: the name of a script, its arguments and its environment variables."""

    script: str
    args: Sequence[str]
    env: Mapping[str, str]

    @classmethod
    def of(cls, job_id: str, config: Config) -> "Call":
        """Return what a config says, with the defaults. The schema has checked the types of the values."""
        given: Any = config
        return cls(given.get("script", f"{job_id}.sh"), given.get("args", []), given.get("env", {}))

    def fault(self) -> str:
        """Return why the system can't start a program with these texts; "" if it can."""
        return next(filter(None, map(_fault_of, [*self.args, *self.env.values()])), "")


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
        """Return why no program can be given the arguments or the variables of a job."""
        return Call.of(job.id, job.config).fault()

    def same_config(self, a: Config, b: Config) -> bool:
        """Return whether two configs start a script alike. No arguments are the same as an empty list."""
        return Call.of("", a) == Call.of("", b)

    def wording(self, target: Target, step: Step) -> tuple[Request, ...]:
        """Return the one request of a step."""
        match step.verb:
            case Verb.RUN:
                script = Call.of(step.job_id, step.config).script
                return (Request(step.verb, f"start {script} as {step.run_id}", dict(step.config) or None),)
            case Verb.ABORT:
                return (Request(step.verb, f"end {step.run_id or step.job_id}"),)
            case Verb.DELETE:
                return (Request(step.verb, f"remove the runs of {step.job_id}"),)

    def addressed(self, target: Target, request: Request) -> Request:
        """Return the request with the folder behind it."""
        return request._replace(text=f"{request.text} in {target.address}")

    def warnings(self, target: Target, jobs: Collection[Job]) -> Iterable[str]:
        """Return nothing."""
        return ()

    def promises(self, target: Target) -> Promises:
        """Return what the engine promises, whatever the folder."""
        return PROMISES

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
            engine = ScriptsEngine(target.address, target.settings, surroundings)
        except OSError as fault:
            raise EngineError(f"the folder of scripts can't be used: {fault}", f"mkdir -p {target.address}") from fault
        yield engine


def _fault_of(text: str) -> str:
    """Return why no program can get a text as an argument or in a variable; "" if it can."""
    try:
        content = os.fsencode(text)
    except UnicodeEncodeError:
        content = b"\0"
    if b"\0" in content:
        return f"no program can get the text {text[:100]!a}"
    if len(content) > LONGEST_BYTES:
        return f"the text {text[:20]!a}… is too long: it has {len(content)} bytes, and {LONGEST_BYTES} at most fit"
    return ""


PLUGIN = ScriptsPlugin()
