"""The engine that speaks the jobs API over HTTP."""

import json
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from random import Random

from reconciler.engines.bytenite.answers import may_repeat, result_from
from reconciler.engines.bytenite.auth import (
    API_KEY_VARIABLE,
    TOKEN_VARIABLE,
    Credentials,
    Grant,
    Tokens,
    is_header_safe,
    life_s,
    token_url,
)
from reconciler.engines.bytenite.listing import PAGE_SIZE, Page, read_list
from reconciler.engines.bytenite.wire import PROMISES, api_request, job_path, observation_from, whole_number
from reconciler.engines.http.client import Client, with_credential
from reconciler.engines.http.endpoints import endpoint_fault, normalize_endpoint
from reconciler.engines.http.network import DIRECT, Network
from reconciler.engines.http.reply import BaseTransport, Reply
from reconciler.engines.http.retries import Wait
from reconciler.engines.many import observe_many
from reconciler.engines.port import AnswerClass, Reason, Result, Step, always
from reconciler.host.clocks import boot_s
from reconciler.model.errors import CredentialsError, EngineError, ListIncomplete
from reconciler.model.jobs import NOT_OBSERVED, Observation, Status


class ByteniteEngine:
    """The jobs API below one endpoint, as an `Engine`.

    `parallelism` is the number of requests at the same time, and of the connections that are kept. `max_rps` is in
    requests a second; None sets no limit. `timeout_s` bounds each attempt as a whole, and `connect_timeout_s` the part
    before its first byte. `wait` returns True at once if a stop is requested. `transport` takes the place of the
    network, and has timeouts of its own. `network` says how the endpoint is reached. `insecure` allows http to a host
    that is not loopback. `noted` is called with each access token that the API key buys.

    Raises `EngineError` for an endpoint, a proxy or certificates that can't be used.
    """

    promises = PROMISES

    def __init__(
        self,
        endpoint: str,
        credentials: Credentials,
        *,
        parallelism: int,
        max_rps: float | None,
        wait: Wait,
        random: Random,
        clock: Callable[[], float] = boot_s,
        wall_clock: Callable[[], float] = time.time,
        timeout_s: float = 30.0,
        connect_timeout_s: float = 10.0,
        transport: BaseTransport | None = None,
        network: Network = DIRECT,
        insecure: bool = False,
        noted: Callable[[str], None] = lambda _: None,
    ) -> None:
        if fault := endpoint_fault(endpoint, insecure=insecure):
            raise EngineError(f"the endpoint {fault}")
        self._endpoint = normalize_endpoint(endpoint)
        self._transport = transport or _transport_over(
            network, self._endpoint, parallelism, (timeout_s, connect_timeout_s), clock
        )
        self._tokens = Tokens(credentials, self._grant, clock, noted)
        for secret in network.proxy.secrets if network.proxy else ():
            self._tokens.withhold(secret)
        self._client = Client(
            parallelism=parallelism, max_rps=max_rps, clock=clock, wall_clock=wall_clock, wait=wait, random=random
        )
        self._parallelism = max(1, parallelism)
        self._reads: bool | None = None
        self._reads_lock = threading.Lock()

    def identity(self) -> Mapping[str, str]:
        """Return an empty mapping: the jobs API tells nothing that sets one service apart from another."""
        return {}

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        """Read one job; see `Engine.observe`.

        A 404 means a missing job only if the service offers reads. To find out, the engine asks once for the list of
        jobs. If the service has no list either, the engine observes no job from then on.
        """
        if self._reads is False:
            return NOT_OBSERVED
        reply = self._read(job_path(job_id))
        answer = result_from(reply, self._tokens.redact)
        if answer.kind is AnswerClass.APPLIED:
            return self._observation(job_id, reply)
        if reply.status == 404:
            return self._observation_of_unknown(answer)
        if reply.status in (405, 501) and not self._offers_reads(found=False):
            return NOT_OBSERVED
        return _unreadable(f"{answer.code or 'no answer'}: {answer.message}")

    def observe_many(self, job_ids: Collection[str]) -> Mapping[str, Observation]:
        """Read many jobs; see `Engine.observe_many`."""
        return observe_many(job_ids, self.observe, self.observe_all, self._parallelism)

    def observe_all(self) -> Iterator[tuple[str, Observation]]:
        """Yield each job that the service lists; see `Engine.observe_all`."""
        try:
            for job_id, job in read_list(self._page, self._parallelism):
                yield job_id, observation_from(self._without_secrets(job))
        except ListIncomplete as fault:
            raise ListIncomplete(f"{self._endpoint}: {fault.message}", fault.hint) from fault

    def stage(self, step: Step) -> str:
        """Return "": a call of the jobs API needs no work before its intent."""
        return ""

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        """Send one call; see `Engine.send`."""
        try:
            reply = self._ask(*api_request(step), may_be_sent)
        except (CredentialsError, EngineError) as error:
            # No token is available for the call. Any earlier attempt did nothing, or no other one would have followed.
            reason = Reason.NOT_AUTHENTICATED if isinstance(error, CredentialsError) else Reason.OTHER
            return Result(AnswerClass.NOT_SENT, reason, error.message)
        return result_from(reply, self._tokens.redact, step.verb)

    def log(
        self, job_id: str, run_id: str, *, tail: int | None, follow: bool, stop: threading.Event
    ) -> Iterator[bytes]:
        """Raise `EngineError`: the engine reads no logs."""
        raise EngineError(
            f"the engine reads no logs, and so not that of {job_id}", "read it where the service shows its jobs"
        )

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def _observation(self, job_id: str, reply: Reply) -> Observation:
        job = reply.document.get("job") if isinstance(reply.document, Mapping) else None
        if not isinstance(job, Mapping):
            message = result_from(reply, self._tokens.redact).message if reply.document else ""
            return _unreadable(f"the answer holds no job{': ' if message else ''}{message}")
        if job.get("id", job_id) != job_id:
            return _unreadable("the answer is about another job")
        self._offers_reads(found=True)
        return observation_from(self._without_secrets(job))

    def _observation_of_unknown(self, answer: Result) -> Observation:
        """Return the observation that a 404 stands for (see `observe`).

        One thread asks for the list, and the others wait.
        """
        with self._reads_lock:
            if self._reads is None:
                reply = self._read("/jobs?pagination.limit=1")
                probe = result_from(reply, self._tokens.redact)
                if reply.status in (404, 405, 501):
                    self._reads = False
                elif probe.kind is AnswerClass.APPLIED and _entries(reply.document) is not None:
                    self._reads = True
                else:
                    return _unreadable(
                        f"404: {answer.message}; whether the service offers reads is not known: its list answers "
                        f"{probe.code or 'no answer'}: {probe.message or 'the answer holds no list of jobs'}"
                    )
            return Observation(Status.MISSING, detail=answer.message) if self._reads else NOT_OBSERVED

    def _offers_reads(self, *, found: bool) -> bool:
        """Return whether the service offers reads.

        The first finding stands: `found` counts only if there was none before.
        """
        with self._reads_lock:
            if self._reads is None:
                self._reads = found
            return self._reads

    def _page(self, offset: int) -> Page:
        """Return one page of the list. Raises `EngineError` for an answer that is not a page."""
        reply = self._read(f"/jobs?pagination.limit={PAGE_SIZE}&pagination.offset={offset}")
        answer = result_from(reply, self._tokens.redact)
        where = f"{self._endpoint}/jobs"
        if reply.status in (404, 405, 501):
            raise EngineError(f"{where}: the service has no list of jobs ({answer.code})", "name the jobs one by one")
        if answer.kind is not AnswerClass.APPLIED or not isinstance(reply.document, Mapping):
            raise EngineError(
                f"{where}: the list of jobs can't be read: {answer.code or 'no answer'}: {answer.message}"
            )
        jobs: list[tuple[str, Mapping[str, object]]] = []
        entries = _entries(reply.document)
        if entries is None:
            message = f": {answer.message}" if answer.message else ""
            raise EngineError(f"{where}: the answer holds no list of jobs{message}")
        for job in entries:
            job_id = job.get("id") if isinstance(job, Mapping) else None
            is_job = isinstance(job_id, str) and job_id and self._tokens.redact(job_id) == job_id
            if not isinstance(job, Mapping) or not isinstance(job_id, str) or not is_job:
                raise EngineError(f"{where}: the list holds an entry that is no job with an id")
            jobs.append((job_id, job))
        self._offers_reads(found=True)
        found = reply.document.get("pagination")
        pagination = found if isinstance(found, Mapping) else {}
        has_next = pagination.get("hasNext")
        return Page(jobs, whole_number(pagination.get("total")), has_next if isinstance(has_next, bool) else None)

    def _read(self, path: str) -> Reply:
        """Return the reply to a GET. Raises `CredentialsError` for a 401, and `EngineError` if no request left."""
        reply = self._ask("GET", path, None)
        if reply.status == 401:
            raise CredentialsError(
                f"the service rejected the access token (401): {result_from(reply, self._tokens.redact).message}",
                f"set {TOKEN_VARIABLE} to a fresh token, or {API_KEY_VARIABLE} to a valid API key",
            )
        if not reply.sent:
            raise EngineError(reply.fault, reply.remedy or "check the endpoint and the network, then try again")
        return reply

    def _ask(
        self, method: str, path: str, body: Mapping[str, object] | None, may_be_sent: Callable[[], bool] = always
    ) -> Reply:
        """Send a request, and return the last reply.

        After a 401 the request is sent once more with a new token. The request is repeated if `may_repeat` allows a
        repetition. Raises `CredentialsError` or `EngineError` if there is no token for the request.
        """
        content = None if body is None else _compact(body)
        url = self._endpoint + path

        def attempt() -> Reply:
            token = self._tokens.token()
            return with_credential(send, token, lambda: self._tokens.renewed(token), _is_unauthenticated)

        def send(token: str) -> Reply:
            return self._exchange(method, url, token, content, may_be_sent)

        return self._client.repeated(attempt, partial(may_repeat, is_read=method == "GET"))

    def _grant(self, api_key: str) -> Grant:
        """Exchange the API key for an access token.

        Raises `CredentialsError` if the key is rejected, and else `EngineError`.
        """
        url = token_url(self._endpoint)
        content = _compact({"apiKey": api_key})
        # A lost token does no harm, so the request may be repeated like a read.
        may_be_repeated = partial(may_repeat, is_read=True)
        reply = self._client.repeated(lambda: self._exchange("POST", url, None, content), may_be_repeated)
        answer = result_from(reply, self._tokens.redact)
        if answer.kind is AnswerClass.APPLIED:
            # No text of this answer is ever shown, since any field of it may hold a token.
            fields = reply.document if isinstance(reply.document, Mapping) else {}
            token = fields.get("token")
            if not isinstance(token, str) or not is_header_safe(token):
                raise EngineError(f"{url}: the answer holds no access token that can be used")
            return Grant(token, life_s(fields.get("expiresIn")))
        if reply.status in (400, 401, 403):
            raise CredentialsError(
                f"the service rejected the API key ({answer.code}): {answer.message}",
                f"set {API_KEY_VARIABLE} to a valid API key",
            )
        words = answer.message if reply.status is None or reply.status >= 300 else "an unreadable answer"
        raise EngineError(f"{url}: no access token: {answer.code or 'no answer'}: {words}", "try again later")

    def _exchange(
        self,
        method: str,
        url: str,
        token: str | None,
        content: bytes | None,
        may_be_sent: Callable[[], bool] = always,
    ) -> Reply:
        headers = {"Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = token
        if content is not None:
            headers["Content-Type"] = "application/json"
        return self._client.in_turn(lambda: self._transport.exchange(method, url, headers, content), may_be_sent)

    def _without_secrets(self, job: Mapping[str, object]) -> Mapping[str, object]:
        """Return the job without the secrets that the service may have echoed into its texts.

        Plans and records show these texts.
        """
        return {name: self._redacted(value) for name, value in job.items()}

    def _redacted(self, value: object) -> object:
        redact = self._tokens.redact
        match value:
            case str():
                return redact(value)
            case dict():
                return {redact(name): redact(one) if isinstance(one, str) else one for name, one in value.items()}
            case _:
                return value


def _transport_over(
    network: Network, endpoint: str, parallelism: int, timeouts_s: tuple[float, float], clock: Callable[[], float]
) -> BaseTransport:
    """Return a transport over the network.

    `timeouts_s` are those of a whole attempt and of the part before its first byte.
    """
    from reconciler.engines.http.transport import Transport

    timeout_s, connect_timeout_s = timeouts_s
    return Transport(
        endpoint,
        pool_size=parallelism,
        timeout_s=timeout_s,
        connect_timeout_s=connect_timeout_s,
        clock=clock,
        network=network,
    )


def _is_unauthenticated(reply: Reply) -> bool:
    return reply.status == 401


def _compact(body: Mapping[str, object]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _entries(document: object) -> list[object] | None:
    """Return the entries of a page, or None if the document is not a page of the list.

    The API omits fields at their default. So a page without jobs may have no `data`, and may be an empty document.
    """
    if not isinstance(document, Mapping):
        return None
    entries = document.get("data")
    if entries is None:
        is_page = not document or isinstance(document.get("pagination"), Mapping)
        return [] if is_page else None
    return entries if isinstance(entries, list) else None


def _unreadable(detail: str) -> Observation:
    return Observation(Status.UNREADABLE, detail=detail)
