"""The plugin of the ByteNite engine: what it says of targets, configs and requests, and how it is opened.

Plans need all of this but `open`. So the module imports nothing slow, and nothing that sends.
"""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from reconciler.engines.bytenite.wire import PROMISES, api_request
from reconciler.engines.http.endpoints import endpoint_fault, is_in_clear, is_loopback
from reconciler.engines.http.targets import access_of, target_of
from reconciler.engines.port import Engine, Promises, Request, Schema, Step, Surroundings
from reconciler.host.secrecy import BYTENITE_VARIABLES
from reconciler.model.jobs import Config, Job, Target

if TYPE_CHECKING:
    from reconciler.engines.bytenite.auth import Credentials

DEFAULT_ENDPOINT = "https://api.bytenite.com/v1/customer"


class BytenitePlugin:
    """The ByteNite engine: a server that speaks the ByteNite Customer API. See `EnginePlugin`."""

    name = "bytenite"
    default_endpoint = DEFAULT_ENDPOINT
    """The endpoint of a target that names none."""

    @cached_property
    def target_schema(self) -> Schema:
        """The schema of the fields of a target."""
        return _schema("target")

    @cached_property
    def config_schema(self) -> Schema:
        """The schema of the config of a job."""
        return _schema("config")

    def target(self, block: Mapping[str, Any], folder: str) -> Target:
        """Return the target that a block names; see `EnginePlugin.target`."""
        return target_of(self.name, block, folder, self.default_endpoint)

    def target_faults(self, block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with the endpoint."""
        endpoint, insecure = block.get("endpoint"), block.get("insecure", False) is not False
        if type(endpoint) is str and (fault := endpoint_fault(endpoint, insecure=insecure)):
            yield "endpoint", fault

    def job_fault(self, job: Job) -> str:
        """Return "": the engine takes each id that a manifest may have."""
        return ""

    def same_config(self, a: Config, b: Config) -> bool:
        """Return whether two configs ask for the same.

        A field that is left out has the default value of its type, as in the JSON mapping of Protocol Buffers: a config
        that comes back from the service may lack each field that is false or 0.
        """
        return a == b or _explicit(a) == _explicit(b)

    def wording(self, target: Target, step: Step) -> tuple[Request, ...]:
        """Return the one request of a step."""
        method, path, body = api_request(step)
        return (Request(step.verb, f"{method} {path}", body),)

    def addressed(self, target: Target, request: Request) -> Request:
        """Return the request with the endpoint before its path."""
        method, _, path = request.text.partition(" ")
        return request._replace(text=f"{method} {self._shown_endpoint(target)}{path}")

    def warnings(self, target: Target, jobs: Collection[Job]) -> Iterable[str]:
        """Return a warning for a token that is sent in clear."""
        if is_in_clear(target.address):
            yield f"{target.address} is http: the access token goes over the network in clear"

    def promises(self, target: Target) -> Promises:
        """Return the promises of the jobs API."""
        return PROMISES

    def is_on_this_machine(self, target: Target) -> bool:
        """Return whether the endpoint is loopback."""
        return is_loopback(target.address)

    def secrets(self, env: Mapping[str, str]) -> Iterable[str]:
        """Return the access token and the API key of the environment."""
        return [value for name in BYTENITE_VARIABLES if (value := env.get(name, "").strip())]

    def open(self, target: Target, surroundings: Surroundings) -> AbstractContextManager[Engine]:
        """Return the engine with the credentials of the environment; see `EnginePlugin.open`."""
        from reconciler.engines.bytenite.auth import Credentials

        return opened(target, target.address, Credentials.from_environment(surroundings.env), surroundings)

    def _shown_endpoint(self, target: Target) -> str:
        return target.address


@contextmanager
def opened(
    target: Target, endpoint: str, credentials: "Credentials", surroundings: Surroundings, *, files_each: int = 1
) -> Iterator[Engine]:
    """Open the engine at an endpoint. `files_each` is the number of open files that a connection needs here.

    Raises `EngineError` for a proxy or certificates that can't be used.
    """
    from random import Random

    from reconciler.engines.bytenite.engine import ByteniteEngine
    from reconciler.engines.http.network import network_for
    from reconciler.host.threads import affordable_connections

    access = access_of(target)
    network = network_for(endpoint, access, surroundings.env)
    for secret in network.proxy.secrets if network.proxy else ():
        surroundings.note_credential(secret)
    engine = ByteniteEngine(
        endpoint,
        credentials,
        parallelism=affordable_connections(surroundings.parallelism, files_each),
        max_rps=surroundings.max_rps,
        wait=surroundings.pause,
        random=Random(),  # noqa: S311  jitter needs no cryptography
        network=network,
        insecure=access.insecure,
        noted=surroundings.note_credential,
        clock=surroundings.boot_s,
        wall_clock=surroundings.wall_s,
    )
    try:
        yield engine
    finally:
        engine.close()


def _explicit(config: Config) -> Config:
    """Return the config without the fields that have their default value."""
    return {field: value for field, value in config.items() if value}


def _schema(name: str) -> Schema:
    # Not with `pathlib`: its import takes 7 ms, and a plan would import it for nothing else.
    with open(os.path.join(os.path.dirname(__file__), f"{name}.schema.json"), encoding="utf-8") as file:
        schema: Schema = json.load(file)
    return schema


PLUGIN = BytenitePlugin()
