"""The port to the services that run jobs: the protocol of an engine, and the answers that an engine gives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from reconciler.model.jobs import Observation
from reconciler.model.plan import Call


class AnswerClass(StrEnum):
    """The four classes of answers to a call. The class alone decides which call may follow.

    NOT_SENT   no byte of the request left this machine; any call may follow
    REJECTED   the service answered that it did not carry out the call
    APPLIED    the service answered that it carried out the call
    IN_DOUBT   the request left, and no answer tells whether the service carried out the call
    """

    NOT_SENT = "not sent"
    REJECTED = "rejected"
    APPLIED = "applied"
    IN_DOUBT = "in doubt"


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one call.

    `status` is the HTTP status, or None if no status was read. `message` is the text of the service if the call was
    applied, and a description of the failure otherwise. The message is untrusted text of bounded length. `request_id`
    is the service's id of the call, or "".
    """

    kind: AnswerClass
    status: int | None = None
    message: str = ""
    request_id: str = ""


def always() -> bool:
    """Return True: the condition of a call that nothing holds back."""
    return True


class Engine(Protocol):
    """A service that runs jobs. Several threads may call any method at the same time."""

    def observe(self, job_id: str) -> Observation:
        """Read one job from the service, and return what the service reports.

        The status is `NOT_OBSERVED` if the service offers no reads, `MISSING` if the service reports that no such job
        exists, and `UNREADABLE`, with a detail, if this one job can't be read.

        Raises `CredentialsError` if the service rejects the token, and `EngineError` if the service can't be reached.
        Neither error is about one job.
        """

    def observe_all(self) -> Iterator[tuple[str, Observation]]:
        """Yield each job that the service lists, as (engine job id, observation).

        Each id comes once, in no promised order.

        A job that is not listed may exist nevertheless. Raises the errors of `observe`, `EngineError` if the service
        offers no list, and `ListIncomplete` if the service may have more jobs than it listed. `ListIncomplete` is
        raised after the last job was yielded.
        """

    def send(self, call: Call, may_be_sent: Callable[[], bool] = always) -> Answer:
        """Send one call that changes a job, and return the answer with its class.

        The engine sends the call again only if the class of the answer allows a repetition: after NOT_SENT, after a 429
        once the time in `Retry-After` is over, and once after a 401 with a new token. The engine calls `may_be_sent`
        right before each attempt, and sends nothing if the function returns False. Raises only what `may_be_sent`
        raises: a failure of the service or of the network is an answer.
        """

    def close(self) -> None:
        """Close the connections, and stop the embedded server if the engine started one."""
