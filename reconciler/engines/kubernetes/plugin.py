"""The plugin of the engine `kubernetes`: what it says of targets and configs, and how a plan words a step.

Plans need all of this but `open`. So the module imports nothing slow, and nothing that sends.
"""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from reconciler.engines.kubernetes.faults import config_fault, image_fault, warnings_of
from reconciler.engines.kubernetes.objects import LONGEST_JOB_ID, spec_of
from reconciler.engines.kubernetes.schemas import schema
from reconciler.engines.kubernetes.settings import PROMISES, Settings
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
from reconciler.model.jobs import Desired

if TYPE_CHECKING:
    from reconciler.engines.kubernetes.engine import KubernetesEngine

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_NOT_IN_A_LABEL = re.compile(r"[^a-z0-9]+")


class KubernetesPlugin:
    """Runs jobs as Jobs of a Kubernetes cluster. See `EnginePlugin`."""

    name = "kubernetes"

    @cached_property
    def target_schema(self) -> Schema:
        """The schema of the fields of a target."""
        return schema("target")

    @cached_property
    def config_schema(self) -> Schema:
        """The schema of the config of a job."""
        return schema("config")

    def target(self, block: Mapping[str, Any], folder: str) -> Target:
        """Return the target that a block names.

        Its address is the context and the namespace, as the block has them. A block that names neither means what
        `kubectl` would use.
        """
        path, acts_as = block.get("kubeconfig", ""), block.get("as", "")
        impersonated: Mapping[str, Any] = {"user": acts_as} if isinstance(acts_as, str) else acts_as
        settings = Settings(
            kubeconfig=path if path[:1] in ("", "~") else os.path.join(os.path.abspath(folder), path),
            context=block.get("context", ""),
            namespace=block.get("namespace", ""),
            user=impersonated["user"],
            groups=tuple(impersonated.get("groups", ())),
            allows_old_server=block.get("allowOldServer", False),
            uid=impersonated.get("uid", ""),
            extra=impersonated.get("extra", {}),
            is_insecure=block.get("insecure", False),
        )
        address = "/".join(filter(None, (settings.context, settings.namespace))) or "the current context"
        return Target(self.name, address, settings)

    def target_faults(self, block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield nothing: the schema says all."""
        yield from ()

    def job_fault(self, job: Job) -> str:
        """Return why a cluster can't have a job of this id or config."""
        if len(job.id) > LONGEST_JOB_ID or not _LABEL.fullmatch(job.id):
            proposed = _NOT_IN_A_LABEL.sub("-", job.id.lower())[:LONGEST_JOB_ID].strip("-")
            return (
                f'the id {job.id} can\'t be the name of a Job: it takes up to {LONGEST_JOB_ID} of "a" to "z", digits '
                f"and hyphens, not at an end; add an id such as {proposed or 'job'}"
            )
        if fault := config_fault(job.config):
            return fault
        return image_fault(job.config) if job.state is Desired.RUNNING else ""

    def same_config(self, a: Config, b: Config) -> bool:
        """Return whether two configs make the same Job. `keepFor` and `keepRuns` say nothing of a run."""
        # Most configs that are compared are the same, and to make two Jobs takes longer than to compare two configs.
        return same_json(a, b) or same_json(_made(a), _made(b))

    def wording(self, target: Target, step: Step) -> tuple[Request, ...]:
        """Return the one request of a step."""
        match step.verb:
            case Verb.RUN:
                return (Request(step.verb, f"create Job {step.run_id}", dict(step.config)),)
            case Verb.ABORT:
                return (Request(step.verb, f"end Job {step.run_id or step.job_id}"),)
            case Verb.DELETE:
                return (Request(step.verb, f"delete the Jobs of {step.job_id}"),)

    def addressed(self, target: Target, request: Request) -> Request:
        """Return the request with the context and the namespace behind it."""
        settings = _settings_of(target)
        place = " ".join(
            filter(
                None,
                (
                    f"in the namespace {settings.namespace}" if settings.namespace else "",
                    f"of the context {settings.context}" if settings.context else "",
                ),
            )
        )
        return request._replace(text=f"{request.text} {place or 'in the current context'}")

    def warnings(self, target: Target, jobs: Collection[Job]) -> Iterable[str]:
        """Return what ends a run, or repeats it, without anybody asking, and a warning for an unverified server."""
        settings = _settings_of(target)
        found = list(warnings_of({job.name: job.config for job in jobs}, settings.namespace))
        if settings.is_insecure:
            found.append("target.insecure allows an API server whose certificate is not checked: anyone may act as it")
        return found

    def promises(self, target: Target) -> Promises:
        """Return what the engine guarantees."""
        return PROMISES

    def is_on_this_machine(self, target: Target) -> bool:
        """Return False: a cluster may be anywhere."""
        return False

    def secrets(self, env: Mapping[str, str]) -> Iterable[str]:
        """Return nothing: no variable holds a credential. Those of kubeconfigs are noted when they are read."""
        return ()

    @contextmanager
    def open(self, target: Target, surroundings: Surroundings) -> Iterator["KubernetesEngine"]:
        """Return the engine of a target; see `EnginePlugin.open`."""
        from reconciler.engines.kubernetes.connecting import connected

        settings = _settings_of(target)
        with connected(settings, surroundings) as engine:
            yield engine


def _settings_of(target: Target) -> Settings:
    return target.settings if isinstance(target.settings, Settings) else Settings()


def _made(config: Config) -> Any:
    """Return the Job of a config, or the config itself if it is a part of one that makes no Job."""
    try:
        return spec_of(config)
    except (AttributeError, KeyError, TypeError, ValueError):
        return config


PLUGIN = KubernetesPlugin()
