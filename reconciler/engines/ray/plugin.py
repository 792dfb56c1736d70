"""The plugin of the engine `ray`: what it says of targets and configs, and how a plan words a step.

Plans need all of this but `open`. So the module imports nothing slow, and nothing that sends.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from reconciler.engines.http.endpoints import endpoint_fault, is_in_clear, is_loopback
from reconciler.engines.http.targets import access_of, target_of
from reconciler.engines.port import (
    Config,
    Job,
    Promises,
    Request,
    Schema,
    Step,
    Surroundings,
    Target,
    Verb,
    same_json,
)
from reconciler.engines.ray.faults import config_fault
from reconciler.engines.ray.schemas import schema
from reconciler.engines.ray.settings import PROMISES, Settings
from reconciler.engines.ray.submission import submission
from reconciler.host.secrecy import RAY_VARIABLES
from reconciler.model.jobs import Desired

if TYPE_CHECKING:
    from reconciler.engines.ray.engine import RayEngine

_OF_THE_ENVIRONMENT = "the address of the environment"
"""The address of a target that names none."""

_IN_CLEAR = "jobs, and the token if there is one, go over the network in clear"


class RayPlugin:
    """Runs jobs as jobs of a Ray cluster. See `EnginePlugin`."""

    name = "ray"

    @cached_property
    def target_schema(self) -> Schema:
        """The schema of the fields of a target."""
        return schema("target")

    @cached_property
    def config_schema(self) -> Schema:
        """The schema of the config of a job."""
        return schema("config")

    def target(self, block: Mapping[str, Any], folder: str) -> Target:
        """Return the target that a block names. A block without an address means the one of the environment."""
        found = target_of(self.name, {**block, "endpoint": block.get("address", "")}, folder, "")
        settings = Settings(os.path.abspath(folder), found.address, access_of(found))
        return Target(self.name, settings.address or _OF_THE_ENVIRONMENT, settings)

    def target_faults(self, block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with the address."""
        address, insecure = block.get("address"), block.get("insecure", False) is not False
        if type(address) is str and (fault := endpoint_fault(address, insecure=insecure)):
            yield "address", fault

    def job_fault(self, job: Job) -> str:
        """Return why Ray can't have a job of this config. Any run id can be a submission id."""
        if job.state is Desired.RUNNING and not {"command", "script"} & job.config.keys():
            return 'a job of the engine ray needs a config with "command", "script" or "batch"'
        return config_fault(job.config)

    def same_config(self, a: Config, b: Config) -> bool:
        """Return whether two configs submit the same job. A folder of another name with the same files is the same."""
        return same_json(a, b) or same_json(_made(a), _made(b))

    def wording(self, target: Target, step: Step) -> tuple[Request, ...]:
        """Return the one request of a step."""
        match step.verb:
            case Verb.RUN:
                return (Request(step.verb, f"submit {step.run_id}", dict(step.config)),)
            case Verb.ABORT:
                return (Request(step.verb, f"stop {step.run_id or step.job_id}"),)
            case Verb.DELETE:
                return (Request(step.verb, f"delete all runs of {step.job_id}"),)

    def addressed(self, target: Target, request: Request) -> Request:
        """Return the request with the address of the head behind it."""
        return request._replace(text=f"{request.text} at {target.address}")

    def warnings(self, target: Target, jobs: Collection[Job]) -> Iterable[str]:
        """Return a warning for what is sent in clear, or may be.

        A plan does not depend on the environment. So where the environment says the address, the plan says what the
        manifest allows.
        """
        settings = settings_of(target)
        if is_in_clear(settings.address):
            yield f"{settings.address} is http: {_IN_CLEAR}"
        elif settings.access.insecure and not settings.address:
            yield f"target.insecure allows an address of the environment that is http: {_IN_CLEAR} then"

    def promises(self, target: Target) -> Promises:
        """Return what the engine guarantees."""
        return PROMISES

    def is_on_this_machine(self, target: Target) -> bool:
        """Return whether the manifest says that the head is on this machine."""
        address = settings_of(target).address
        return address != "" and is_loopback(address)

    def secrets(self, env: Mapping[str, str]) -> Iterable[str]:
        """Return the token and the headers of the environment."""
        if not env.keys() & set(RAY_VARIABLES):
            return ()
        from reconciler.engines.ray.connecting import secrets_in

        return secrets_in(env)

    @contextmanager
    def open(self, target: Target, surroundings: Surroundings) -> Iterator["RayEngine"]:
        """Return the engine of a target; see `EnginePlugin.open`."""
        from reconciler.engines.ray.engine import connected

        with connected(settings_of(target), surroundings) as engine:
            yield engine


def settings_of(target: Target) -> Settings:
    """Return the settings of a target; those of an empty block if there are none."""
    return target.settings if isinstance(target.settings, Settings) else Settings(os.getcwd())


def _made(config: Config) -> Any:
    """Return what the head is sent for a config, or the config itself if it is a part of one."""
    try:
        return submission(config)
    except (AttributeError, KeyError, TypeError, ValueError):
        return config


PLUGIN = RayPlugin()
