"""How a call gets to the method for its verb, and what a failure before the call means."""

from collections.abc import Callable, Mapping

from reconciler.engines.port import AnswerClass, CredentialsError, EngineError, Reason, Result, Step, Verb

Call = Callable[[Step, Callable[[], bool]], Result]
"""What carries out a step. It asks the function that it is given right before it sends the call (`Engine.send`)."""


def dispatch(
    step: Step, may_be_sent: Callable[[], bool], calls: Mapping[Verb, Call], before: Callable[[], object] = lambda: None
) -> Result:
    """Carry out a step with the call for its verb, after `before`.

    An `EngineError` that `before` or the call raises is about a read before the call, so that nothing was sent.
    """
    if not may_be_sent():
        return Result(AnswerClass.NOT_SENT)
    try:
        before()
        return calls[step.verb](step, may_be_sent)
    except CredentialsError as fault:
        return Result(AnswerClass.NOT_SENT, Reason.NOT_AUTHENTICATED, fault.message)
    except EngineError as fault:
        return Result(AnswerClass.NOT_SENT, message=fault.message)
