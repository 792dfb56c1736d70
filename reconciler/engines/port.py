"""The port to the services that run jobs: what an engine does, and what its plugin says about it without a connection.

An engine is one folder that exports one plugin. The values of the port live on the floor below, since rules and plans
use them too, and this module passes them on: an author of a plugin needs no other module.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from threading import Event
from typing import Protocol

from reconciler.model.jobs import Observation
from reconciler.model.promises import Promises
from reconciler.model.results import AnswerClass, Reason, Result
from reconciler.model.steps import Marks, Step

__all__ = ["AnswerClass", "Engine", "Marks", "Promises", "Reason", "Result", "Step", "always"]


def always() -> bool:
    """Return True: the condition of a call that nothing holds back."""
    return True


class Engine(Protocol):
    """A service that runs jobs. Several threads may call any method at the same time."""

    @property
    def promises(self) -> Promises:
        """What the engine guarantees. The value stays the same as long as the engine is open."""

    def identity(self) -> Mapping[str, str]:
        """Return the named parts that tell this service from another one of its kind.

        The mapping is empty if the engine knows no such part. Raises the errors of `observe`.
        """

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        """Read one job from the service, and return what the service reports.

        `run_id` names a run of the job; "" stands for the newest run. An engine without ids of runs ignores it.

        The status is `NOT_OBSERVED` if the service offers no reads, `MISSING` if the service reports that no such job
        exists, and `UNREADABLE`, with a detail, if this one job can't be read.

        Raises `CredentialsError` if the service rejects the token, and `EngineError` if the service can't be reached.
        Neither error is about one job.
        """

    def observe_many(self, job_ids: Collection[str]) -> Mapping[str, Observation]:
        """Read many jobs in the way that takes the fewest requests. Returns an observation of each job, by its id.

        The observations are those of `observe`, and so are the errors.
        """

    def observe_all(self) -> Iterator[tuple[str, Observation]]:
        """Yield each job that the service lists, as (engine job id, observation).

        Each id comes once, in no promised order.

        A job that is not listed may exist nevertheless. Raises the errors of `observe`, `EngineError` if the service
        offers no list, and `ListIncomplete` if the service may have more jobs than it listed. `ListIncomplete` is
        raised after the last job was yielded.
        """

    def stage(self, step: Step) -> str:
        """Do the harmless work that comes before the intent of a call, and return the handle of that work.

        The work may be done twice, and may be left behind, without any effect on a job. The handle is "" if the engine
        needs no such work. Raises the errors of `observe`.
        """

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        """Send one call that changes a job, and return the answer with its class and its reason.

        The engine sends the call again only if the class of the answer allows a repetition: after NOT_SENT, after BUSY
        once the time that the service asked for is over, and once after NOT_AUTHENTICATED with a new token. The engine
        calls `may_be_sent` right before each attempt, and sends nothing if the function returns False. Raises only what
        `may_be_sent` raises: a failure of the service or of the network is an answer.
        """

    def log(self, job_id: str, run_id: str, *, tail: int | None, follow: bool, stop: Event) -> Iterator[bytes]:
        """Yield the log of a run in pieces, from its beginning or from its last `tail` lines on.

        With `follow` the pieces go on until the run is over or `stop` is set. Raises the errors of `observe`, and
        `EngineError` if the engine does not promise logs.
        """

    def close(self) -> None:
        """Close the connections, and stop the embedded server if the engine started one."""
