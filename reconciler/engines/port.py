"""The port to whatever runs jobs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from reconciler.model.jobs import Observation
from reconciler.model.plan import Call


class AnswerClass(StrEnum):
    """The four classes of answers; what may be done next depends on nothing else.

    NOT_SENT   no byte of the request left: any call may be tried again
    REJECTED   the service says that it did not do it
    APPLIED    the service says that it did it
    IN_DOUBT   a call was sent, and it is not known whether it was carried out
    """

    NOT_SENT = "not sent"
    REJECTED = "rejected"
    APPLIED = "applied"
    IN_DOUBT = "in doubt"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one call.

    `status` is the HTTP status, None where none was read. `message` is the service's word on a
    success, and what went wrong otherwise; it is untrusted text, and bounded.
    """

    kind: AnswerClass
    status: int | None = None
    message: str = ""
    request_id: str = ""


def always() -> bool:
    """Nothing keeps a call from being sent."""
    return True


class Engine(Protocol):
    """A service that runs jobs. Every method may be called from several threads at once."""

    def observe(self, job_id: str) -> Observation:
        """What the service says of one job now.

        `Status.NOT_OBSERVED` where the service offers no reads at all, `MISSING` where it says
        that there is no such job, `UNREADABLE` (with a detail) where this job can't be read.

        Raises `CredentialsError` where the service rejects the token, `EngineError` where it
        can't be reached: neither is about one job.
        """

    def observe_all(self) -> Iterator[tuple[str, Observation]]:
        """Every job that the service lists, as (engine job id, observation), each id once.

        A job that is not listed is not thereby missing. Raises as `observe` does, and
        `EngineError` where the service has no list; and, after the last job that was found,
        `ListIncomplete` where the service may have more jobs than it listed.
        """

    def send(self, call: Call, may_be_sent: Callable[[], bool] = always) -> Answer:
        """Send one call that changes a job, and class the answer.

        It is sent again only where the answer's class allows it: not sent, 429 as told, a 401
        once with a new token. `may_be_sent` is asked right before each time; what it raises, this
        raises. Never raises for what the service or the network does.
        """

    def close(self) -> None:
        """Drop the connections, and stop the server where the engine started one."""
