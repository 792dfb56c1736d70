"""What engines over HTTP share: the pace of requests, repetitions, renewed credentials, and the class of an answer."""

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from random import Random
from typing import TypeVar

from reconciler.engines.http.rate import RateLimiter, Slots
from reconciler.engines.http.reply import Reply
from reconciler.engines.http.retries import Wait, send_with_retries
from reconciler.engines.port import AnswerClass, Reason, Result, Surroundings, always
from reconciler.model.errors import ReconcilerError

STOPPED = Reply(sent=False, fault="stopped before it was sent")
REASONS: Mapping[int, Reason] = {
    400: Reason.INVALID,
    401: Reason.NOT_AUTHENTICATED,
    403: Reason.NOT_PERMITTED,
    404: Reason.NO_SUCH_JOB,
    405: Reason.INVALID,
    413: Reason.INVALID,
    415: Reason.INVALID,
    429: Reason.BUSY,
}
"""The reason of a rejected call by its HTTP status. Each of them proves that the service did nothing."""

_LONGEST_MESSAGE = 600
_Credential = TypeVar("_Credential")


class Client:
    """The requests to one service. Several threads may call any method at the same time.

    `parallelism` is the number of requests at the same time. `max_rps` is in requests a second; None sets no limit.
    `clock` gives seconds since any moment, and `wall_clock` seconds since 1970. `wait` returns True at once if a stop
    is requested. `random` spreads the pauses before repetitions.
    """

    def __init__(
        self,
        *,
        parallelism: int,
        max_rps: float | None,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        wait: Wait,
        random: Random | None = None,
    ) -> None:
        self._slots = Slots(parallelism)
        self._limiter = RateLimiter(max_rps, clock=clock, wait=wait)
        self._retrying = partial(
            send_with_retries,
            wait=wait,
            random=random or Random(),  # noqa: S311  jitter needs no cryptography
            wall_clock=wall_clock,
        )
        self._secrets: set[str] = set()
        self._lock = threading.Lock()

    def repeated(self, attempt: Callable[[], Reply], may_repeat: Callable[[Reply], bool]) -> Reply:
        """Return the last reply to a request that is sent again as `send_with_retries` says."""
        return self._retrying(attempt, may_repeat)

    def in_turn(self, exchange: Callable[[], Reply], may_be_sent: Callable[[], bool] = always) -> Reply:
        """Send a request with `exchange` when its turn comes, and return the reply.

        The reply is `STOPPED` if a stop is requested before, or `may_be_sent` returns False. The request is sent again
        if this machine had no room for its connection, as long as other requests have connections.
        """
        while True:
            reply = STOPPED
            self._slots.take()
            try:
                started_s = self._limiter.started_s()
                if may_be_sent() and started_s is not None:
                    reply = exchange()
                    self._limiter.note(reply, started_s)
            finally:
                is_fewer = self._slots.give_back(is_exhausted=reply.is_exhausted)
            if not is_fewer:
                return reply

    def is_next(self) -> bool:
        """Wait for the turn of one more request within an exchange. Return False if a stop is requested."""
        return self._limiter.started_s() is not None

    def withhold(self, secret: str) -> None:
        """Leave a secret out of messages from now on."""
        with self._lock:
            self._secrets.add(secret)

    def message(self, reply: Reply, said: str) -> str:
        """Return what a reply says, without secrets, cut to a bounded length. `said` is what its body says."""
        words = "; ".join(filter(None, (reply.fault, reply.remedy, said))) or "no answer"
        with self._lock:
            for secret in self._secrets:
                words = words.replace(secret, "…")
        return words if len(words) <= _LONGEST_MESSAGE else f"{words[:_LONGEST_MESSAGE]}…"


def client_in(surroundings: Surroundings) -> Client:
    """Return a client at the pace, and with the clocks, of the surroundings of an engine."""
    return Client(
        parallelism=surroundings.parallelism,
        max_rps=surroundings.max_rps,
        clock=surroundings.boot_s,
        wall_clock=surroundings.wall_s,
        wait=surroundings.pause,
    )


def with_credential(
    exchange: Callable[[_Credential], Reply],
    credential: _Credential,
    renewed: Callable[[], _Credential | None],
    is_refused: Callable[[Reply], bool],
) -> Reply:
    """Send a request with a credential, and once more with a renewed one if the service refuses the first.

    `renewed` returns None if there is no other credential, and raises `ReconcilerError` if none can be had. The fault
    of the reply then says why.
    """
    reply = exchange(credential)
    if not is_refused(reply):
        return reply
    try:
        newer = renewed()
    except ReconcilerError as error:
        return replace(reply, fault=f"the credentials could not be renewed: {error.message}")
    return reply if newer is None else exchange(newer)


def is_worth_another_read(reply: Reply) -> bool:
    """Return whether a read may have another answer if it is sent again."""
    return not reply.sent or bool(reply.fault) or reply.status in (429, 500, 502, 503, 504)


def was_not_done(reply: Reply) -> bool:
    """Return whether a reply proves that the service did nothing and may do it later."""
    return not reply.sent or reply.status == 429


def result_of(reply: Reply, message: str, reasons: Mapping[int, Reason], applied: Collection[int]) -> Result:
    """Return what a reply to a call means.

    A status in `reasons` proves that the service did nothing. A status in `applied` with a JSON object says that the
    call was carried out. Any other reply leaves the call in doubt.
    """
    code = "" if reply.status is None else str(reply.status)
    if not reply.sent:
        return Result(AnswerClass.NOT_SENT, message=message, code=code)
    if (reason := reasons.get(reply.status or 0)) is not None:
        return Result(AnswerClass.REJECTED, reason, message, code)
    if reply.status in applied and not reply.fault and isinstance(reply.document, Mapping):
        return Result(AnswerClass.APPLIED, code=code)
    return Result(AnswerClass.IN_DOUBT, message=message, code=code)
