"""The service of the embedded server: a request comes in, a response goes out. No function here touches a socket."""

import hmac
import json
import re
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, assert_never
from urllib.parse import parse_qs, quote, unquote

from reconciler.engines.sandbox.answers import JSON, Rejection, Response, done, failure, json_response
from reconciler.engines.sandbox.faults import SILENT, Fault, Faults, Kind, Operation, spoil
from reconciler.engines.sandbox.life import (
    Database,
    Execution,
    Job,
    NotAllowed,
    ReceivedCall,
    RunConfig,
    abort,
    delete,
    run,
    to_wire,
)
from reconciler.engines.sandbox.openapi import DEFAULT_PAGE, INT32_MAX, INT64_MAX, MAX_PAGE, openapi_document
from reconciler.model.jobs import Verb

_BASE = "/v1/customer/jobs"
_PART_1 = {
    Operation.RUN: ("POST", _BASE + "/{}/run"),
    Operation.ABORT: ("POST", _BASE + "/{}/abort"),
    Operation.DELETE: ("DELETE", _BASE + "/{}"),
    Operation.DOCUMENT: ("GET", "/openapi.json"),
}
_PART_2 = {
    Operation.READ: ("GET", _BASE + "/{}"),
    Operation.LIST: ("GET", _BASE),
    Operation.CREATE: ("POST", _BASE),
    Operation.TOKEN: ("POST", "/v1/auth/access_token"),
}
_TRAP = "/followed/{}"


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it was received. The value of a missing header is ""."""

    method: str
    target: str
    authorization: str = ""
    content_type: str = ""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the service. `SandboxServer` describes each of them."""

    access_token: str
    api_key: str
    token_seconds: float
    job_seconds: float
    create_missing: bool
    reads: bool


@dataclass(frozen=True, slots=True)
class _RoutedRequest:
    """One request with its operation, its job and the fault that applies. `job_id` is "" if the path names no job."""

    request: Request
    operation: Operation
    job_id: str
    fault: Fault | None
    request_id: str
    now: float


class Service:
    """The API over one database. Several threads may call the service, which carries out one request at a time."""

    def __init__(
        self,
        database: Database,
        faults: Faults,
        options: Options,
        clock: Callable[[], float],
        randbytes: Callable[[int], bytes],
    ) -> None:
        self._database = database
        self._faults = faults
        self._options = options
        self._clock = clock
        self._randbytes = randbytes
        self._issued: dict[str, float] = {}  # the expiry of each token, in seconds since 1970
        self._routes = [*_routes(options.reads)]
        if faults.sets_trap:
            self._routes.append((_pattern(_TRAP), dict.fromkeys(("GET", "POST", "DELETE"), Operation.FOLLOW)))

    def answer(self, request: Request) -> tuple[Response, Fault | None]:
        """Carry out a request. Return the response, and the fault under which the server sends the response.

        The work, its line in the ledger and the record of the call are stored in one transaction, before the response
        is sent. If the database fails, nothing is done, and the response is a 503.
        """
        return self._kept(request, lambda request_id, now: self._decide(request, request_id, now))

    def reject(self, request: Request, rejection: Rejection) -> Response:
        """Return the response to a request that is malformed HTTP, and record the request."""
        return self._kept(request, lambda request_id, _: (failure(request_id, rejection), None))[0]

    def _kept(
        self, request: Request, decide: Callable[[str, float], tuple[Response, Fault | None]]
    ) -> tuple[Response, Fault | None]:
        request_id, now = self._new_id(), self._clock()
        try:
            with self._database.transaction():
                reply, fault = decide(request_id, now)
                sent = None if fault is not None and fault.kind in SILENT else reply.status
                text = "" if fault is None else fault.text
                self._database.note(ReceivedCall(now, request.method, request.target, sent, text, request_id))
        except sqlite3.Error as error:
            broken = Rejection(503, "database failure", f"Nothing was done; the sandbox's database says: {error}.")
            return failure(request_id, broken), None
        return reply, fault

    def _new_id(self) -> str:
        return str(uuid.UUID(bytes=self._randbytes(16), version=4))

    def _decide(self, request: Request, request_id: str, now: float) -> tuple[Response, Fault | None]:
        try:
            operation, job_id = self._route(request)
        except Rejection as rejection:
            return failure(request_id, rejection), None
        fault = self._faults.match(operation, job_id)
        try:
            if fault is not None and not fault.works:
                raise Rejection(503, "not done", "A simulated fault kept this call from being carried out.")
            honest = self._work(_RoutedRequest(request, operation, job_id, fault, request_id, now))
        except Rejection as rejection:
            honest = failure(request_id, rejection)
        if fault is None:
            return honest, None
        trap = _TRAP.format(quote(job_id, safe="")) if job_id else _BASE
        return spoil(fault, honest, request_id, trap, self._randbytes), fault

    def _route(self, request: Request) -> tuple[Operation, str]:
        """Return the operation and the decoded job id, or "" for no id. Raises `Rejection`."""
        path, _ = _split(request.target)
        for pattern, operations in self._routes:
            if (found := pattern.fullmatch(path)) is None:
                continue
            if request.method not in operations:
                if request.method == "GET" and not self._options.reads:
                    break  # a 405 would reveal that the API has reads elsewhere
                allowed = ", ".join(sorted(operations))
                raise Rejection(405, "method not allowed", f"This path takes {allowed}.", {"Allow": allowed})
            try:
                return operations[request.method], unquote("".join(found.groups()), errors="strict")
            except UnicodeDecodeError:
                raise Rejection(400, "malformed path", "The job id is no UTF-8 once its %XX are decoded.") from None
        raise Rejection(404, "no such route", f"There is no {path} here; /openapi.json says what there is.")

    def _work(self, routed: _RoutedRequest) -> Response:
        """Do the work of a request, and return the honest response. Raises `Rejection`."""
        request, operation = routed.request, routed.operation
        if operation not in (Operation.DOCUMENT, Operation.TOKEN, Operation.FOLLOW):
            self._authenticate(routed)
        match operation:
            case Operation.RUN:
                return self._run(routed, _config(_json_object(request)))
            case Operation.FOLLOW:
                return self._run(routed, {})
            case Operation.ABORT | Operation.DELETE:
                return self._end(routed)
            case Operation.READ:
                return self._read(routed)
            case Operation.LIST:
                return self._list(routed)
            case Operation.CREATE:
                return self._create(routed)
            case Operation.TOKEN:
                return self._issue_token(routed)
            case Operation.DOCUMENT:
                return json_response(openapi_document(reads=self._options.reads))
            case _:
                assert_never(operation)

    def _authenticate(self, routed: _RoutedRequest) -> None:
        token = routed.request.authorization
        if _same(token, self._options.access_token) or self._issued.get(token, 0) > routed.now:
            return
        raise Rejection(401, "not authenticated", "Send a valid access token, bare, in the Authorization header.")

    def _issue_token(self, routed: _RoutedRequest) -> Response:
        key = _text(_json_object(routed.request), "apiKey")
        if not self._options.api_key or not _same(key, self._options.api_key):
            raise Rejection(401, "not authenticated", "The sandbox does not know this API key.")
        token = self._randbytes(32).hex()
        live = {known: until for known, until in self._issued.items() if until > routed.now}
        self._issued = live | {token: routed.now + self._options.token_seconds}
        return json_response({"token": token, "expiresIn": str(int(self._options.token_seconds))})

    def _find(self, job_id: str) -> tuple[Job, Job | None]:
        """Return the job, and the stored job, or None for a job that is created now. Raises `Rejection`."""
        stored, _ = self._database.find(job_id)
        return self._living(job_id, stored), stored

    def _living(self, job_id: str, stored: Job | None) -> Job:
        if stored is None and self._options.create_missing:
            return Job(job_id)
        if stored is None or stored.deleted_at is not None:
            raise Rejection(
                404, "no such job", f"There is no job {job_id!r} here{'' if stored is None else ' any more'}."
            )
        return stored

    def _run(self, routed: _RoutedRequest, config: RunConfig) -> Response:
        job, stored = self._find(routed.job_id)
        failing = routed.fault is not None and routed.fault.kind is Kind.FAIL
        failed = "a simulated fault failed this run" if failing else ""
        with _allowed():
            after = run(job, config, routed.now, self._options.job_seconds, failed)
        return self._changed(routed, stored, after, Verb.RUN, config)

    def _end(self, routed: _RoutedRequest) -> Response:
        job, stored = self._find(routed.job_id)
        fault = routed.fault
        drain_s = fault.seconds if fault is not None and fault.kind is Kind.DRAIN else 0.0
        with _allowed():
            is_abort = routed.operation is Operation.ABORT
            after = abort(job, routed.now, drain_s) if is_abort else delete(job, routed.now)
        return self._changed(routed, stored, after, Verb.ABORT if after.deleted_at is None else Verb.DELETE, {})

    def _changed(
        self, routed: _RoutedRequest, stored: Job | None, after: Job, verb: Verb, config: RunConfig
    ) -> Response:
        self._database.keep(after, stored)
        self._database.enter(Execution(routed.job_id, verb, routed.now, routed.request_id, config))
        made = "" if stored is not None else "the sandbox had never heard of this job and created it as a draft; "
        deleted_draft = verb is Verb.DELETE and routed.operation is Operation.ABORT
        what = {Verb.RUN: "run", Verb.ABORT: "aborted", Verb.DELETE: "deleted"}[verb]
        return done(routed.request_id, f"{made}{what}{', as it was never run' if deleted_draft else ''} (simulated)")

    def _read(self, routed: _RoutedRequest) -> Response:
        stored, before = self._database.find(routed.job_id)
        kind = None if routed.fault is None else routed.fault.kind
        job = self._living(routed.job_id, before if kind is Kind.STALE else stored)
        document = _to_wire(job, routed)
        if kind is Kind.EXTRA_TIME and document["endedAt"] is not None:
            document["stateTimestamps"]["JOB_STATE_ARCHIVED"] = document["endedAt"]
        return json_response({"job": document, "templateInfo": {}})

    def _list(self, routed: _RoutedRequest) -> Response:
        query = parse_qs(_split(routed.request.target)[1], keep_blank_values=True)
        limit = _query_number(query, "pagination.limit", DEFAULT_PAGE, 1, MAX_PAGE)
        offset = _query_number(query, "pagination.offset", 0, 0, INT32_MAX)
        kind, count = (None, 0) if routed.fault is None else (routed.fault.kind, routed.fault.jobs)
        gone = count if kind is Kind.SHIFT else 0
        if kind is Kind.SAME_PAGE:
            offset = 0
        total, jobs = self._database.page(min(limit, count) if kind is Kind.PAGE_CAP else limit, offset + gone)
        total = max(0, total - gone)
        more = offset + len(jobs) < total
        pagination = {"total": total, "offset": offset, "hasPrevious": offset > 0, "hasNext": more}
        data = [_to_wire(job, routed) for job in jobs]
        return json_response({"data": data} if kind is Kind.NO_PAGINATION else {"pagination": pagination, "data": data})

    def _create(self, routed: _RoutedRequest) -> Response:
        body = _json_object(routed.request)
        name, template_id, description = (_text(body, key) for key in ("name", "templateId", "description"))
        job = Job(self._new_id(), name, template_id, description, created_at=routed.now)
        self._database.keep(job, None)
        return json_response({"job": to_wire(job, routed.now)})


def _to_wire(job: Job, routed: _RoutedRequest) -> dict[str, Any]:
    """Return the job as the response to this request shows it."""
    return to_wire(job, routed.now, "" if routed.fault is None else routed.fault.time_format)


def _split(target: str) -> tuple[str, str]:
    """Return the path and the query of a request target.

    The absolute form of a proxy is accepted (RFC 9112, section 3.2.2).
    """
    path, _, query = re.sub("^https?://[^/?]*", "", target).partition("?")
    return path, query


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(path.replace("{}", "([^/]+)"))


@cache
def _routes(reads: bool) -> tuple[tuple[re.Pattern[str], dict[str, Operation]], ...]:
    """Return the pattern of each path, with the operation of each method."""
    paths: dict[str, dict[str, Operation]] = {}
    for operation, (method, path) in (_PART_1 | (_PART_2 if reads else {})).items():
        paths.setdefault(path, {})[method] = operation
    return tuple((_pattern(path), methods) for path, methods in paths.items())


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode(), right.encode())


@contextmanager
def _allowed() -> Iterator[None]:
    """Turn `NotAllowed` into a rejection with the status 400."""
    try:
        yield
    except NotAllowed as error:
        raise Rejection(400, error.message, error.advice) from None


def _json_object(request: Request) -> Mapping[str, Any]:
    """Return the body as a JSON object. Raises `Rejection`."""
    if request.content_type.partition(";")[0].strip().lower() not in ("", JSON):
        raise Rejection(415, "unsupported media type", f"Send {JSON}; the sandbox does not speak protobuf.")
    try:
        body = json.loads(request.body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Rejection(400, "malformed JSON", f"The body can't be read as JSON: {error}.") from None
    if not isinstance(body, dict):
        raise Rejection(400, "malformed request", "The body must be a JSON object.")
    return body


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def _text(body: Mapping[str, Any], key: str) -> str:
    """Return a string field, or "" if the field is missing. Raises `Rejection`."""
    value = body.get(key, "")
    if not isinstance(value, str) or any("\ud800" <= character <= "\udfff" for character in value):
        raise Rejection(400, "malformed request", f"{key} must be a string without lone surrogates.")
    return value


def _config(body: Mapping[str, Any]) -> dict[str, int | bool]:
    """Return the config of a run, without fields that the API does not know. Raises `Rejection`."""
    given = body.get("config")
    if not isinstance(given, dict):
        raise Rejection(400, "malformed request", "config is required and must be an object.")
    config: dict[str, int | bool] = {}
    for key in ("taskTimeout", "jobTimeout"):
        if key in given:
            config[key] = _seconds(key, given[key])
    if "isTestJob" in given:
        if not isinstance(given["isTestJob"], bool):
            raise Rejection(400, "malformed request", "config.isTestJob must be true or false.")
        config["isTestJob"] = given["isTestJob"]
    return config


def _seconds(key: str, value: Any) -> int:
    """Return an int64 of the JSON of Protocol Buffers: a whole number, or a string of decimal digits.

    Raises `Rejection`.
    """
    if isinstance(value, str) and re.fullmatch("[0-9]{1,19}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= INT64_MAX:  # bool is a subclass of int
        raise Rejection(400, "malformed request", f"config.{key} must be a whole number of seconds, 0 or more (int64).")
    return value


def _query_number(query: Mapping[str, list[str]], key: str, default: int, low: int, high: int) -> int:
    """Return a number of the query, which may stand there once. Raises `Rejection`."""
    values = query.get(key, [str(default)])
    if len(values) != 1 or not re.fullmatch("[0-9]{1,10}", values[0]) or not low <= int(values[0]) <= high:
        raise Rejection(400, "malformed request", f"{key} must be one whole number from {low} to {high}.")
    return int(values[0])
