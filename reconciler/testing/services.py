"""What the author of an engine says about the service behind it, and how the suite reaches it."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

from reconciler.engines.port import Config, Engine, EnginePlugin, Marks, Step, Surroundings, Target, Verb
from reconciler.host.clocks import boot_s
from reconciler.model.jobs import EMPTY, Desired, Job
from reconciler.testing.proxy import Fault, FaultProxy


class Service:
    """An empty service of one test, and what a person does to it behind the back of the engine.

    An author subclasses this. What a promise of the engine needs has to be there: a test for which a method is missing
    fails, and is not skipped.
    """

    reads = True
    """Whether this service lets the engine observe jobs. An engine may promise reads that a service lacks."""

    knows_every_id = False
    """Whether a job of any id is there before anybody creates it, as in a sandbox."""

    server: tuple[str, int] | None = None
    """The host and the port of the service, None if the engine reaches it without TCP."""

    @property
    def block(self) -> Mapping[str, Any]:
        """The `target:` block of a manifest that names this service, with `engine`. It holds JSON values alone."""
        raise NotImplementedError(f"{type(self).__name__} needs a property `block`")

    @property
    def other_block(self) -> Mapping[str, Any]:
        """The block of another service of this kind. Needed if `Engine.identity` returns any part."""
        raise NotImplementedError(f"{type(self).__name__} needs `other_block`: the engine tells services apart")

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of the tool, with the credentials that the service takes."""
        return dict(os.environ)

    @property
    def beside_state(self) -> str:
        """See `Surroundings.beside_state`. Needed for an engine that keeps files beside the state."""
        return os.devnull

    def config(self, *, fails: bool = False) -> Config:
        """Return the config of a run that goes on until `end` ends it: without a failure, or with one if it `fails`."""
        raise NotImplementedError(f"{type(self).__name__} needs a method `config`")

    def config_with(self, text: str) -> Config | None:
        """Return a config that holds a text, such as in a variable; None if no config of this engine holds any text."""
        return None

    def runs(self, job_id: str) -> int:
        """Return how many runs of a job the service has started, also those that it has forgotten since.

        The service itself has to count them. A count that comes from the engine under test proves nothing.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method `runs`")

    def create(self, job_id: str) -> None:
        """Create a job that has not run yet. Needed unless the engine creates a job with its first run."""
        raise NotImplementedError(f"{type(self).__name__} needs `create`: the engine does not promise creates_on_run")

    def end(self, job_id: str) -> None:
        """Let the active run of a job end by itself, as its config says."""
        raise NotImplementedError(f"{type(self).__name__} needs a method `end`")

    def lose(self, job_id: str) -> None:
        """Take away all that the service has of a job, active or not, as a person does by hand."""
        raise NotImplementedError(f"{type(self).__name__} needs a method `lose`")

    def forget(self, job_id: str) -> None:
        """Let so much time pass that the service forgets the runs of a job that have ended.

        Needed if the engine keeps runs that have ended for a limited time.
        """
        raise NotImplementedError(f"{type(self).__name__} needs `forget`: the engine does not keep ended runs for ever")

    def logged(self, job_id: str) -> bytes:
        """Return what the newest run of a job has written to its log, two lines or more. Needed for `has_logs`."""
        raise NotImplementedError(f"{type(self).__name__} needs `logged`: the engine promises has_logs")

    def block_through(self, host: str, port: int) -> Mapping[str, Any]:
        """Return the block of this service, reached at another host and port. Needed for a service with a `server`."""
        raise NotImplementedError(f"{type(self).__name__} has a server, and needs a method `block_through`")

    @contextmanager
    def disturbed(self, fault: Fault) -> Iterator[Mapping[str, Any] | None]:
        """Yield the block of this service under a fault of the network; None if there is no network between.

        An engine that loses answers in another way than over TCP overrides this.
        """
        if self.server is None:
            yield None
            return
        with FaultProxy(*self.server, fault=fault) as proxy:
            yield self.block_through("127.0.0.1", proxy.port)

    @contextmanager
    def stopping_slowly(self) -> Iterator[Mapping[str, Any] | None]:
        """Yield the block of this service while an aborted run executes for a second or more; None if there is none."""
        yield None

    def executes(self, job_id: str) -> bool:
        """Return whether anything of any run of a job executes. Needed for a service with `stopping_slowly`."""
        raise NotImplementedError(f"{type(self).__name__} stops slowly, and needs a method `executes`")

    @contextmanager
    def refusing(self) -> Iterator[Mapping[str, Any] | None]:
        """Yield the block of this service while the service refuses every call; None if the author knows no such way.

        The reason is one of the call, such as a right that is missing, and not what the service knows about the job.
        """
        yield None


def surroundings(service: Service, *, may_change: bool = True) -> Surroundings:
    """Return what an engine of this service takes from outside."""

    def pause(seconds: float) -> bool:
        time.sleep(min(seconds, 0.2))
        return False

    return Surroundings(
        env=service.environment,
        pause=pause,
        note_credential=lambda credential: None,
        boot_s=boot_s,
        wall_s=time.time,
        parallelism=16,
        max_rps=None,
        beside_state=service.beside_state,
        may_change=may_change,
    )


def target_of(plugin: EnginePlugin, block: Mapping[str, Any]) -> Target:
    """Return the target of a block, as the tool makes it of a manifest in the working folder."""
    return plugin.target(block, os.getcwd())


def opened(
    plugin: EnginePlugin, service: Service, block: Mapping[str, Any] | None = None, *, may_change: bool = True
) -> AbstractContextManager[Engine]:
    """Return the engine of a service, reached as the block says."""
    target = target_of(plugin, service.block if block is None else block)
    return plugin.open(target, surroundings(service, may_change=may_change))


def step(verb: Verb, job_id: str, number: int = 1, config: Config = EMPTY, **marks: str) -> Step:
    """Return a call for the run of this number of a job. `marks` replace those of a first state and a first call."""
    ours = Marks("lineage-1", f"op-{job_id}-{number}", f"config-{number}", "", "0" * 40)
    return Step(verb, job_id, f"{job_id}-{number}", config, marks=ours._replace(**cast(Any, marks)))


def job(job_id: str, config: Config) -> Job:
    """Return a job as a manifest declares it."""
    return Job(job_id, job_id, Desired.RUNNING, config)
