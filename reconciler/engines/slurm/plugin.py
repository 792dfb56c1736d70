"""The plugin of the engine `slurm`: what it says of targets and configs, and how a plan words a step.

Plans need all of this but `open`. So the module imports nothing slow, and nothing that starts a process.
"""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

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
from reconciler.engines.slurm.faults import config_fault, secrets_fault, unheard_options
from reconciler.engines.slurm.settings import Settings, Ssh, promises_of
from reconciler.engines.slurm.submission import is_folder_ours, limit_of, words_of
from reconciler.engines.texts import argument_fault
from reconciler.model.jobs import Desired

if TYPE_CHECKING:
    from reconciler.engines.slurm.engine import SlurmEngine

_DEFAULTS: Config = {"env": {}, "onDisruption": "fail", "gpu": 0, "native": {}}


class SlurmPlugin:
    """Runs jobs as jobs of a Slurm cluster. See `EnginePlugin`."""

    name = "slurm"

    @cached_property
    def target_schema(self) -> Schema:
        """The schema of the fields of a target."""
        return _schema("target")

    @cached_property
    def config_schema(self) -> Schema:
        """The schema of the config of a job."""
        return _schema("config")

    def target(self, block: Mapping[str, Any], folder: str) -> Target:
        """Return the target that a block names. Its address is the machine behind ssh, and the name of the cluster.

        It is "localhost" if the block has neither: the cluster is the one that this machine knows.
        """
        ssh = _ssh(block.get("ssh"), folder)
        conf = block.get("conf", "")
        settings = Settings(
            folder=os.path.abspath(folder),
            ssh=ssh,
            conf=conf if ssh or not conf else _absolute(conf, folder),
            cluster=block.get("cluster", ""),
            user=block.get("user", ""),
            account=block.get("account", ""),
            secrets=block.get("secrets", "").rstrip("/"),
            forgets_s=block.get("forgets"),
        )
        host = "" if ssh is None else f"{ssh.destination}:{ssh.port}" if ssh.port else ssh.destination
        return Target(self.name, "/".join(filter(None, (host, settings.cluster))) or "localhost", settings)

    def target_faults(self, block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield nothing: the schema says all."""
        yield from ()

    def job_fault(self, job: Job) -> str:
        """Return why Slurm can't have a job of this config. Any job id can be a part of a job's name."""
        if job.state is Desired.RUNNING and not {"command", "script"} & job.config.keys():
            return 'a job of the engine slurm needs a config with "command", "script" or "batch"'
        fault = config_fault(job.config)
        if not fault and job.state is Desired.RUNNING and "command" in job.config:
            # A script sets its variables itself, and need not hand them to a program.
            return argument_fault(job.config)
        return fault

    def same_config(self, a: Config, b: Config) -> bool:
        """Return whether two configs submit the same job, with the defaults and in the units of the engine.

        `tasks` does not count: it is about the run of one token.
        """
        return same_json(a, b) or same_json(_explicit(a), _explicit(b))

    def wording(self, target: Target, step: Step) -> tuple[Request, ...]:
        """Return the one request of a step."""
        match step.verb:
            case Verb.RUN:
                return (Request(step.verb, f"submit {step.run_id}", dict(step.config)),)
            case Verb.ABORT:
                return (Request(step.verb, f"cancel {step.run_id or step.job_id}"),)
            case Verb.DELETE:
                return (Request(step.verb, f"cancel all runs of {step.job_id}"),)

    def addressed(self, target: Target, request: Request) -> Request:
        """Return the request with the cluster and the machine behind it."""
        settings = settings_of(target)
        cluster = f"to the cluster {settings.cluster}" if settings.cluster else "to the cluster of this machine"
        if settings.ssh:
            where = f"through {settings.ssh.destination}"
            cluster = f"{cluster} {where}" if settings.cluster else f"to the cluster {where}"
        return request._replace(text=f"{request.text} {cluster}")

    def warnings(self, target: Target, jobs: Collection[Job]) -> Iterable[str]:
        """Yield which runs are of some tasks alone, whose secrets are nowhere, and which lines never count."""
        for job in jobs:
            indexes, token = limit_of(job.config)
            if token and token == job.run_token:
                yield f"{job.name}: this run takes the tasks {indexes} of its array alone"
            if fault := secrets_fault(job.config, settings_of(target)):
                yield f"{job.name}: {fault}; its run will be refused"
            for line, name, advice in unheard_options(job.config):
                yield f"{job.name}: line {line} of the script does not count ({name}): {advice}"

    def promises(self, target: Target) -> Promises:
        """Return what the engine guarantees."""
        return promises_of(settings_of(target))

    def is_on_this_machine(self, target: Target) -> bool:
        """Return False: a cluster may be anywhere."""
        return False

    def secrets(self, env: Mapping[str, str]) -> Iterable[str]:
        """Return the token that the commands of Slurm take from the environment (slurm, "auth/jwt")."""
        return [env["SLURM_JWT"]] if env.get("SLURM_JWT") else []

    @contextmanager
    def open(self, target: Target, surroundings: Surroundings) -> Iterator["SlurmEngine"]:
        """Return the engine of a target; see `EnginePlugin.open`."""
        from reconciler.engines.slurm.engine import SlurmEngine

        engine = SlurmEngine(settings_of(target), surroundings)
        try:
            yield engine
        finally:
            engine.close()


def settings_of(target: Target) -> Settings:
    """Return the settings of a target; those of an empty block if there are none."""
    return target.settings if isinstance(target.settings, Settings) else Settings(os.getcwd())


def _ssh(block: str | Mapping[str, Any] | None, folder: str) -> Ssh | None:
    if block is None:
        return None
    if isinstance(block, str):
        user, _, host = block.rpartition("@")
        return Ssh(host, user)
    identity, config = (_absolute(path, folder) if (path := block.get(name)) else "" for name in ("identity", "config"))
    return Ssh(block["host"], block.get("user", ""), block.get("port", 0), identity, config)


def _absolute(path: str, folder: str) -> str:
    return os.path.abspath(os.path.join(folder, os.path.expanduser(path)))


def _explicit(config: Config) -> Any:
    """Return a config with the defaults and the units of the engine, or the config itself if it is a part of one."""
    try:
        words = {**_DEFAULTS, **words_of(config)}
        words.pop("tasks", None)
        if is_folder_ours(config):
            words.setdefault("workdir", ".")
        words["native"] = {name: value for name, value in words["native"].items() if value is not False}
    except (AttributeError, KeyError, TypeError, ValueError):
        return config
    for word in ("nodes", "array"):
        if word in words:
            words[word] = str(words[word])
    return words


def _schema(name: str) -> Schema:
    # Not with `pathlib`: its import takes 7 ms, and a plan would import it for nothing else.
    with open(os.path.join(os.path.dirname(__file__), f"{name}.schema.json"), encoding="utf-8") as file:
        schema: Schema = json.load(file)
    return schema


PLUGIN = SlurmPlugin()
