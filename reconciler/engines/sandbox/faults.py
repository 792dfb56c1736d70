"""Faults: the grammar by which the embedded server is made to misbehave, and on which requests.

    VERB:KIND[:after][:key=value...]

VERB   run | abort | delete | read | list | create | token | any
KIND   a status from 200 to 599, or a word of `Kind`
after  the server does the work first, and then misbehaves; without `after` the work is not done
keys   times=N        only the first N matching requests
       skip=N         not the first N matching requests
       job=GLOB       only requests for a job whose id matches, in the same case
       p=PROBABILITY  each matching request with this probability, by the random numbers of seed=N (default 0)
       seconds=S      the time of hang (default: for ever), slow (default 5), drip and drain (default 30)
       format=F       for time-format: seconds, millis, nanos, offset or lower (default seconds)
       jobs=N         the number of jobs for page-cap (default 50) and shift (default 5)
       retry-after=T  for a status: the value of the header, sent unchanged
       location=URL   for a 3xx: the header; the default is a path of this server that runs the job if followed

Some kinds imitate honest servers. The server does the work as usual:
  abort:drain           the abort is accepted, and the job stays active for seconds
  read:time-format      times are in another notation; also list:time-format
  read:extra-time       stateTimestamps has one more entry, for a run that has ended
  list:page-cap         a page holds at most `jobs` jobs, whatever limit the request has
  list:no-pagination    the response has no pagination
  list:same-page        the offset is ignored: every page is the first page
  list:shift            the page begins `jobs` jobs later, as if so many earlier jobs had just been deleted

The responses of no-ok, two-oks, rpc-status and other-job have the status 200, and yet do not state that the call was
carried out. `ok` is missing, or stands there twice (false, then true). Or a code or another job's document takes the
place of `ok`.

If several faults match, the first one applies. The later ones do not count the request.
"""

import math
import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from reconciler.engines.sandbox.answers import Rejection, Response, done, failure, json_response, reason


class Operation(StrEnum):
    """What a request asks for. All but the last two are verbs of the grammar."""

    RUN = "run"
    ABORT = "abort"
    DELETE = "delete"
    READ = "read"
    LIST = "list"
    CREATE = "create"
    TOKEN = "token"
    DOCUMENT = "document"  # the server's own description
    FOLLOW = "follow"  # the target of a redirect; a client that follows it runs the job


class Kind(StrEnum):
    """The kinds of faults."""

    STATUS = "status"  # the grammar writes the number itself
    RESET = "reset"  # a TCP reset
    CLOSE = "close"  # an orderly close, without an answer
    HANG = "hang"  # no answer; a close after `seconds`
    SLOW = "slow"  # the work and its answer, `seconds` late
    DRIP = "drip"  # the answer byte by byte over `seconds`; without the work, a 503
    TRUNCATED = "truncated"  # half of the announced body, then a close
    HTML = "html"  # 200 with a page, as from a proxy
    EMPTY = "empty"  # 200 with no body
    GARBAGE = "garbage"  # 200 with random bytes that are not UTF-8
    HUGE = "huge"  # 200 with HUGE_BYTES of valid JSON
    WRONG_TYPE = "wrong-type"  # 200 with JSON of the wrong shape
    NOT_OK = "not-ok"  # 200 with `ok` false and an `error`
    ERROR_IN_200 = "error-in-200"  # 200 with `ok` true and an `error`
    NO_OK = "no-ok"  # 200 without `ok`, as from a server that omits fields at their default
    TWO_OKS = "two-oks"  # 200 with `ok` false and then `ok` true
    RPC_STATUS = "rpc-status"  # 200 with an error's code and message alone
    OTHER_JOB = "other-job"  # 200 with the document of another job
    STALE = "stale"  # a read shows the job before its last change
    FAIL = "fail"  # the run is accepted and ends failed
    DRAIN = "drain"  # the abort is accepted and shows `seconds` later
    TIME_FORMAT = "time-format"  # times in another notation
    EXTRA_TIME = "extra-time"  # one entry more in `stateTimestamps`
    PAGE_CAP = "page-cap"  # a page of the list holds at most `jobs` jobs
    NO_PAGINATION = "no-pagination"  # a page of the list without `pagination`
    SAME_PAGE = "same-page"  # each page of the list is the first page
    SHIFT = "shift"  # a page of the list begins `jobs` jobs later


HUGE_BYTES = 16 * 1024 * 1024
"""The size of a response that is longer than a careful client reads."""

SILENT = (Kind.RESET, Kind.CLOSE, Kind.HANG)
"""The kinds that send no response."""

_HONEST: Mapping[Kind, tuple[Operation, ...]] = {
    Kind.STALE: (Operation.READ,),
    Kind.FAIL: (Operation.RUN,),
    Kind.DRAIN: (Operation.ABORT,),
    Kind.TIME_FORMAT: (Operation.READ, Operation.LIST),
    Kind.EXTRA_TIME: (Operation.READ,),
    Kind.PAGE_CAP: (Operation.LIST,),
    Kind.NO_PAGINATION: (Operation.LIST,),
    Kind.SAME_PAGE: (Operation.LIST,),
    Kind.SHIFT: (Operation.LIST,),
}
"""The kinds that change how the work is done, and the operations that these kinds belong to."""

WORKING = (Kind.SLOW, *_HONEST)
"""The kinds under which the work is always done."""

TIME_FORMATS = ("seconds", "millis", "nanos", "offset", "lower")
"""The notations of `time-format`: whole seconds, milliseconds, nine digits, an offset of one hour, lower case."""

VERBS = tuple(verb for verb in Operation if verb not in (Operation.DOCUMENT, Operation.FOLLOW))
_SECONDS = {Kind.HANG: math.inf, Kind.SLOW: 5.0, Kind.DRIP: 30.0, Kind.DRAIN: 30.0}
_JOBS = {Kind.PAGE_CAP: 50, Kind.SHIFT: 5}
_KEYS = ("times", "skip", "job", "seconds", "retry-after", "location", "p", "seed", "format", "jobs")
_WITH_COLONS = ("retry-after", "location")
_WORDS = tuple(kind.value for kind in Kind if kind is not Kind.STATUS)
_BODYLESS = (204, 205, 304)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, as `parse_fault` reads it. `operation` is None for `any`, and `times` is None for no limit."""

    text: str
    operation: Operation | None
    kind: Kind
    status: int = 200
    after: bool = False
    times: int | None = None
    skip: int = 0
    job: str | None = None
    seconds: float = 0.0
    retry_after: str | None = None
    location: str | None = None
    p: float = 1.0
    seed: int = 0
    time_format: str = ""
    jobs: int = 0

    @property
    def works(self) -> bool:
        """Whether the work of the request is done."""
        return self.after or self.kind in WORKING

    @property
    def redirects(self) -> bool:
        """Whether the response is a 3xx with a location."""
        return _redirects(self.kind, self.status)

    def may_match(self, operation: Operation, job_id: str) -> bool:
        """Return whether the fault is meant for such a request. `times`, `skip` and `p` do not count here."""
        meant = VERBS if self.operation is None else (self.operation,)
        if operation not in meant or operation not in _HONEST.get(self.kind, meant):
            return False
        return self.job is None or (job_id != "" and fnmatchcase(job_id, self.job))


def parse_fault(text: str) -> Fault:
    """Return the fault that a text describes. The docstring of this module holds the grammar.

    Raises `ValueError`. The message names the part that is wrong, and what would be right.
    """
    verb, _, rest = text.partition(":")
    word, *parts = rest.split(":")
    if verb not in (*VERBS, "any"):
        raise _wrong(text, f"{verb!r} is no verb", f"one of {', '.join(VERBS)}, any")
    operation = None if verb == "any" else Operation(verb)
    kind, status = _kind(text, word)
    if operation is not None and operation not in _HONEST.get(kind, (operation,)):
        raise _wrong(text, f"{word} does not go with {verb}", " or ".join(f"{one}:{word}" for one in _HONEST[kind]))
    after = parts[:1] == ["after"]
    if after and kind in _HONEST:
        raise _wrong(text, f"{word} has no 'after'", f"{verb}:{word}")
    keys = _keys(text, parts[1:] if after else parts)
    _check_keys(text, keys, operation, kind, status)
    return Fault(
        text=text,
        operation=operation,
        kind=kind,
        status=status,
        after=after,
        times=_whole(text, keys, "times", 1) if "times" in keys else None,
        skip=_whole(text, keys, "skip", 0),
        job=keys.get("job"),
        seconds=_decimal(text, keys, "seconds", _SECONDS.get(kind, 0.0), math.inf),
        retry_after=keys.get("retry-after"),
        location=keys.get("location"),
        p=_decimal(text, keys, "p", 1.0, 1.0),
        seed=_whole(text, keys, "seed", 0),
        time_format=keys.get("format", TIME_FORMATS[0]) if kind is Kind.TIME_FORMAT else "",
        jobs=_whole(text, keys, "jobs", 1) if "jobs" in keys else _JOBS.get(kind, 0),
    )


class Faults:
    """The faults of one server, and how often each was met. The service calls `match` inside its transaction."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._faults = tuple(faults)
        self._seen = [0] * len(self._faults)
        self._fired = [0] * len(self._faults)
        # The position is a part of the seed. Without it, two faults with one seed would draw the same numbers.
        self._chances = [random.Random(f"{fault.seed}/{at}") for at, fault in enumerate(self._faults)]  # noqa: S311
        self.sets_trap = any(fault.redirects and fault.location is None for fault in self._faults)

    def match(self, operation: Operation, job_id: str) -> Fault | None:
        """Return the first fault that applies to a request, or None, and count the request."""
        for at, fault in enumerate(self._faults):
            if not fault.may_match(operation, job_id) or self._fired[at] == fault.times:
                continue
            self._seen[at] += 1
            if self._seen[at] > fault.skip and self._chances[at].random() < fault.p:
                self._fired[at] += 1
                return fault
        return None


def spoil(fault: Fault, honest: Response, request_id: str, trap: str, randbytes: Callable[[int], bytes]) -> Response:
    """Return the response under a fault, given the honest response.

    `trap` is the default target of a redirect. The server sends the response late, in parts or not at all where the
    fault says so.
    """
    error = {"code": 13, "message": "simulated fault", "description": f"The fault {fault.text!r} answers this call."}
    match fault.kind:
        case Kind.STATUS:
            return _status(fault, request_id, trap)
        case Kind.HTML:
            page = b"<!doctype html><title>Sign in</title><p>Sign in to use this network.</p>"
            return Response(200, page, "text/html; charset=utf-8")
        case Kind.EMPTY:
            return Response(200, b"")
        case Kind.GARBAGE:
            return Response(200, b"\xff" + randbytes(255))
        case Kind.HUGE:
            start, end = b'{"ok": true, "message": "', b'"}'
            return Response(200, start + b"x" * (HUGE_BYTES - len(start) - len(end)) + end)
        case Kind.WRONG_TYPE:
            return json_response(["ok", True, request_id])
        case Kind.NOT_OK:
            return json_response({"ok": False, "requestId": request_id, "error": error})
        case Kind.ERROR_IN_200:
            return json_response({"ok": True, "requestId": request_id, "message": "", "error": error})
        case Kind.NO_OK:
            return json_response({"requestId": request_id, "message": "simulated"})
        case Kind.TWO_OKS:
            return Response(200, b'{"ok": false, "requestId": "", "message": "simulated", "ok": true}')
        case Kind.RPC_STATUS:
            return json_response({"code": 16, "message": "unauthenticated", "details": []})
        case Kind.OTHER_JOB:
            return json_response({"job": {"id": "another-job", "state": "JOB_STATE_COMPLETE"}, "templateInfo": {}})
        case Kind.TRUNCATED if not fault.works:
            return done(request_id, "half of this answer is missing")
        case _:
            return honest


def _status(fault: Fault, request_id: str, trap: str) -> Response:
    """Return the response of a fault that is written as a number."""
    headers = {"Location": fault.location or trap} if fault.redirects else {}
    if fault.retry_after is not None:
        headers["Retry-After"] = fault.retry_after
    if fault.status in _BODYLESS:
        return Response(fault.status, b"", headers=headers)
    if fault.status < 300:
        return json_response({"ok": True, "requestId": request_id, "message": "simulated"}, fault.status, headers)
    rejection = Rejection(fault.status, reason(fault.status), f"The fault {fault.text!r} answers this call.", headers)
    return failure(request_id, rejection)


def _kind(text: str, word: str) -> tuple[Kind, int]:
    """Return the kind of a word of the grammar, and the HTTP status of its response.

    Raises `ValueError` for another word.
    """
    if re.fullmatch(r"[2-5][0-9][0-9]", word):
        return Kind.STATUS, int(word)
    if word in _WORDS:
        return Kind(word), 200
    raise _wrong(text, f"{word!r} is no kind", f"a status from 200 to 599 or one of {', '.join(_WORDS)}")


def _redirects(kind: Kind, status: int) -> bool:
    """Return whether a fault answers with a 3xx that carries a location.

    A 304 carries none (RFC 9110, section 15.4.5).
    """
    return kind is Kind.STATUS and 300 <= status < 400 and status != 304


def _check_keys(text: str, keys: dict[str, str], operation: Operation | None, kind: Kind, status: int) -> None:
    """Raise `ValueError` for an unknown format, and for a key that has no meaning here.

    The kind and the operation of a fault decide which keys have a meaning.
    """
    for key, fits, where in (
        ("seconds", kind in _SECONDS, "hang, slow and drip, and with abort:drain"),
        ("format", kind is Kind.TIME_FORMAT, "time-format"),
        ("jobs", kind in _JOBS, "page-cap and shift"),
        ("retry-after", kind is Kind.STATUS, "a status"),
        ("location", _redirects(kind, status), "a 3xx status"),
        ("seed", "p" in keys, "p="),
        ("job", operation not in (Operation.LIST, Operation.CREATE, Operation.TOKEN), "a verb that names a job"),
    ):
        if key in keys and not fits:
            raise _wrong(text, f"{key}= means nothing here", f"{key}= only with {where}")
    time_format = keys.get("format", TIME_FORMATS[0])
    if time_format not in TIME_FORMATS:
        raise _wrong(text, f"{time_format} is no format", f"one of {', '.join(TIME_FORMATS)}")


def _keys(text: str, parts: list[str]) -> dict[str, str]:
    """Return the key=value parts.

    Values of `location` and `retry-after` get back the colons that the text was split at.
    """
    keys: dict[str, str] = {}
    last = ""
    for part in parts:
        key, equals, value = part.partition("=")
        if equals and key in _KEYS:
            if key in keys:
                raise _wrong(text, f"{key}= is there twice", "one")
            keys[key] = value
            last = key
        elif last in _WITH_COLONS and not re.match(r"[a-z-]+(=|$)", part):
            keys[last] += f":{part}"
        else:
            raise _wrong(text, f"{part!r} is no part of a fault", f"'after' first, then {', '.join(_KEYS)} with '='")
    for key, value in keys.items():
        if not re.fullmatch(r"[ -~]+", value):
            raise _wrong(text, f"{key}= is empty or not plain text", "printable ASCII")
    return keys


def _whole(text: str, keys: dict[str, str], key: str, low: int) -> int:
    value = keys.get(key, "0")
    if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) < (low if key in keys else 0):
        raise _wrong(text, f"{key}={value} is out of range", f"a whole number from {low}")
    return int(value)


def _decimal(text: str, keys: dict[str, str], key: str, default: float, high: float) -> float:
    if key not in keys:
        return default
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", keys[key]) or float(keys[key]) > high:
        raise _wrong(
            text, f"{key}={keys[key]} is out of range", f"a number from 0{'' if high == math.inf else ' to 1'}"
        )
    return float(keys[key])


def _wrong(text: str, what: str, right: str) -> ValueError:
    return ValueError(f"fault {text!r}: {what}; right would be: {right}")
