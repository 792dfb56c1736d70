"""Results: the answer of an engine to one call, as far as the next decision depends on the answer."""

from enum import StrEnum
from typing import NamedTuple


class AnswerClass(StrEnum):
    """The four classes of answers to a call. The class decides which call may follow.

    NOT_SENT   no byte of the request left this machine; any call may follow
    REJECTED   the engine answered that it did not carry out the call
    APPLIED    the engine answered that it carried out the call
    IN_DOUBT   the request left, and no answer tells whether the engine carried out the call
    """

    NOT_SENT = "not sent"
    REJECTED = "rejected"
    APPLIED = "applied"
    IN_DOUBT = "in doubt"


class Reason(StrEnum):
    """Why a call ended as it did, in words that are the same for all engines. The set is closed.

    WAS_THERE, OTHER_OP and OTHER_OWNER say what became of the run id of a run. All other reasons are about one call.

    NOT_RUNNING        the job has no active run that the call could end
    NO_SUCH_JOB        the engine has no such job
    WAS_THERE          the run was there already, with the marks of this call
    OTHER_OP           the run was there already, with the marks of another call of this state
    OTHER_OWNER        the job belongs to another state
    NOT_AUTHENTICATED  the engine does not accept the credentials, so that no call can succeed
    NOT_PERMITTED      the credentials do not allow the call
    INVALID            the engine does not accept the request
    BUSY               the engine refuses calls for a while
    OTHER              any other reason, and the reason of an applied call
    """

    NOT_RUNNING = "not running"
    NO_SUCH_JOB = "no such job"
    WAS_THERE = "was there"
    OTHER_OP = "other op"
    OTHER_OWNER = "other owner"
    NOT_AUTHENTICATED = "not authenticated"
    NOT_PERMITTED = "not permitted"
    INVALID = "invalid"
    BUSY = "busy"
    OTHER = "other"


class Result(NamedTuple):
    """The result of one call.

    `message` is the text of the engine if the call was applied, and a description of the failure otherwise. The message
    is untrusted text of bounded length. `code` is the engine's own code of the answer, as text. `trace_id` is the
    engine's id of the call, for its support. `ref` is the engine's handle of the object that the call made. The last
    three are "" if the engine gives none.
    """

    kind: AnswerClass
    reason: Reason = Reason.OTHER
    message: str = ""
    code: str = ""
    trace_id: str = ""
    ref: str = ""

    @property
    def words(self) -> str:
        """The result in words: its message, else its code, else what its class says."""
        if self.message or self.code:
            return self.message or f"code {self.code}"
        return "carried out" if self.kind is AnswerClass.APPLIED else "no answer"
