"""The plugin of the engine `local`: what it says of targets and configs, how a plan words a step, and how it is opened.

Plans need all of this but `open`. So the module imports nothing slow, and nothing that starts a process.
"""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from reconciler.engines.local.env import Secrets
from reconciler.engines.local.log import DEFAULT_BYTES
from reconciler.engines.local.settings import PROMISES, Settings, absolute, gpus_of, limits_of, unheld_resources
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
from reconciler.engines.texts import argument_fault, text_fault
from reconciler.model.jobs import Desired

if TYPE_CHECKING:
    from reconciler.engines.local.engine import LocalEngine

_MOST_NAMES = 5
"""The most jobs that a warning names."""

_DEFAULTS: Config = {"env": {}, "workdir": "."}
_DEFAULT_ABORT: Config = {"signal": "TERM", "grace": 10}


class LocalPlugin:
    """Runs jobs as processes on this machine. See `EnginePlugin`."""

    name = "local"

    @cached_property
    def target_schema(self) -> Schema:
        """The schema of the fields of a target."""
        return _schema("target")

    @cached_property
    def config_schema(self) -> Schema:
        """The schema of the config of a job."""
        return _schema("config")

    def target(self, block: Mapping[str, Any], folder: str) -> Target:
        """Return the target that a block names. Its address is the root as the block names it."""
        root, secrets = block.get("root", ""), block.get("secrets", "")
        settings = Settings(
            folder=os.path.abspath(folder),
            root=absolute(root, folder) if root else "",
            slots=block.get("slots") or _cores(),
            log_bytes=block.get("logBytes", DEFAULT_BYTES),
            secrets=Secrets(
                absolute(secrets, folder) if secrets else "",
                tuple(block.get("secretVariables", ())),
            ),
        )
        return Target(self.name, os.path.normpath(root) if root else "", settings)

    def target_faults(self, block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield nothing: the schema says all."""
        yield from ()

    def job_fault(self, job: Job) -> str:
        """Return why the engine can't run a job."""
        given = [name for name in ("command", "script") if name in job.config]
        if not given and job.state is Desired.RUNNING:
            return 'a job of the engine local needs a config with "command", "script" or "batch"'
        if len(given) > 1:
            return 'a config of the engine local has one of "command", "script" and "batch", and not two'
        command = job.config.get("command")
        if isinstance(command, list) and not command[0]:
            return "config.command has no program: its first text is empty"
        first, newline, _ = str(job.config.get("script", "")).partition("\n")
        if newline and first.startswith("#!") and first.endswith("\r"):
            # The kernel would look for a program whose name ends in that carriage return, and find none.
            return "config.script names its program in a line that ends in CR LF: end the lines with LF alone"
        return text_fault(job.config) or (argument_fault(job.config) if job.state is Desired.RUNNING else "")

    def same_config(self, a: Config, b: Config) -> bool:
        """Return whether two configs start a command alike, with the defaults of the engine applied.

        `keepRuns` does not count: it says which older runs stay, and nothing of the run itself.
        """
        from reconciler.model.json_values import same_json

        return same_json(_explicit(a), _explicit(b))

    def wording(self, target: Target, step: Step) -> tuple[Request, ...]:
        """Return the one request of a step."""
        run = step.run_id or f"{step.job_id}"
        match step.verb:
            case Verb.RUN:
                return (Request(step.verb, f"start {run}", dict(step.config)),)
            case Verb.ABORT:
                return (Request(step.verb, f"end {run}"),)
            case Verb.DELETE:
                return (Request(step.verb, f"remove the runs of {step.job_id}"),)

    def addressed(self, target: Target, request: Request) -> Request:
        """Return the request with the place behind it."""
        place = f"in {target.address}" if target.address else "on this machine"
        return request._replace(text=f"{request.text} {place}")

    def warnings(self, target: Target, jobs: Collection[Job]) -> Iterable[str]:
        """Yield which limits of the configs nothing on this machine holds, each with its jobs."""
        jobs_by_limit: dict[str, list[str]] = {}
        for job in jobs:
            for name in unheld_resources(job.config):
                jobs_by_limit.setdefault(name, []).append(job.name)
        for name, names in sorted(jobs_by_limit.items()):
            more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            yield f"resources.{name} is not held on this machine: {', '.join(names[:_MOST_NAMES])}{more}"

    def promises(self, target: Target) -> Promises:
        """Return what the engine guarantees on any machine."""
        return PROMISES

    def is_on_this_machine(self, target: Target) -> bool:
        """Return True."""
        return True

    def secrets(self, env: Mapping[str, str]) -> Iterable[str]:
        """Return nothing: the engine needs no credentials. Those of jobs are noted when they are read."""
        return ()

    @contextmanager
    def open(self, target: Target, surroundings: Surroundings) -> Iterator["LocalEngine"]:
        """Return the engine of a root. Raises `EngineError` where the root can't be used, or is not known."""
        from reconciler.engines.local.engine import LocalEngine

        settings = target.settings if isinstance(target.settings, Settings) else Settings(os.getcwd())
        if not settings.root and not surroundings.state_is_file:
            # A default beside the manifest would be another folder in each checkout, and a run could start twice.
            raise EngineError(
                "the state is not a file on this machine, so nothing says where the runs of this machine are",
                "name their folder in the manifest, outside of the checkout: target.root, such as root: ~/runs",
            )
        root = settings.root or os.path.abspath(f"{surroundings.beside_state}.local")
        engine = LocalEngine(settings._replace(root=root, umask=_umask()), surroundings)
        try:
            yield engine
        finally:
            engine.close()


def _explicit(config: Config) -> Config:
    """Return a config with the defaults and with the resources as numbers, without what belongs to no single run."""
    explicit: dict[str, Any] = {**_DEFAULTS, **config}
    explicit.pop("keepRuns", None)
    explicit["abort"] = {**_DEFAULT_ABORT, **explicit.get("abort", {})}
    explicit["retry"] = {"times": 0, **explicit.get("retry", {})}
    explicit["resources"] = [*limits_of(config), gpus_of(config)]
    return explicit


def _cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _umask() -> int:
    """Return the umask of this process. Without /proc, it can only be read by setting it."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return next(int(line.split()[1], 8) for line in file if line.startswith("Umask:"))
    except (OSError, StopIteration):
        current = os.umask(0o077)
        os.umask(current)
        return current


def _schema(name: str) -> Schema:
    # Not with `pathlib`: its import takes 7 ms, and a plan would import it for nothing else.
    with open(os.path.join(os.path.dirname(__file__), f"{name}.schema.json"), encoding="utf-8") as file:
        schema: Schema = json.load(file)
    return schema


PLUGIN = LocalPlugin()
