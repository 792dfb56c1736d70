"""Faults: how the embedded server is told to misbehave, and on which calls.

    VERB:KIND[:after][:key=value...]

VERB   run | abort | delete | read | list | create | token | any
KIND   a status from 200 to 599, or a word of `Kind`
after  the work is done first, then it misbehaves; without it the work is not done
keys   times=N        the first N calls that match, then no more
       skip=N         let N calls that match pass first
       job=GLOB       calls on a job whose id matches, case and all
       p=PROBABILITY  each matching call with this chance, drawn from seed=N (default 0)
       seconds=S      how long: hang (default: for ever), slow (default 5), drip and drain (default 30)
       format=F       with time-format: seconds, millis, nanos, offset or lower (default seconds)
       jobs=N         with page-cap (default 50) and shift (default 5): so many jobs
       retry-after=T  with a status: the header, sent as it stands
       location=URL   with a 3xx: the header; by default a path here that runs the job if followed

Some kinds imitate what honest servers do, and the work is done as usual:
  abort:drain           the abort is accepted, and the job stays active for seconds
  read:time-format      times are written in another way; also list:time-format
  read:extra-time       stateTimestamps has one entry more, for the run that is over
  list:page-cap         a page holds jobs at the most, whatever limit was asked for
  list:no-pagination    the answer has no pagination
  list:same-page        the offset is ignored: every page is the first one
  list:shift            the page begins jobs later, as if so many earlier jobs had just been deleted
The 200s no-ok, two-oks, rpc-status and other-job never say that a call was done: ok is left out, is
there twice (false, then true), gives way to a code, or to the document of another job.

Of several faults the first that matches applies, and the ones after it do not count the call.
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
    """What a call asks for; all but the last two are verbs of the grammar."""

    RUN = "run"
    ABORT = "abort"
    DELETE = "delete"
    READ = "read"
    LIST = "list"
    CREATE = "create"
    TOKEN = "token"
    DOCUMENT = "document"  # the server's own description
    FOLLOW = "follow"  # the trap of a redirect: whoever follows it runs the job


class Kind(StrEnum):
    """The ways to misbehave."""

    STATUS = "status"  # written as the number itself
    RESET = "reset"  # a TCP reset
    CLOSE = "close"  # an orderly close, without an answer
    HANG = "hang"  # no answer; a close after `seconds`
    SLOW = "slow"  # the work and its answer, `seconds` late
    DRIP = "drip"  # the answer byte by byte over `seconds`; a 503 where the work is not done
    TRUNCATED = "truncated"  # half of the body that was announced, then a close
    HTML = "html"  # 200 with a page, as from a proxy
    EMPTY = "empty"  # 200 with no body
    GARBAGE = "garbage"  # 200 with random bytes that are no UTF-8
    HUGE = "huge"  # 200 with HUGE_BYTES of valid JSON
    WRONG_TYPE = "wrong-type"  # 200 with JSON of the wrong shape
    NOT_OK = "not-ok"  # 200 with `ok` false and an `error`
    ERROR_IN_200 = "error-in-200"  # 200 with `ok` true and yet an `error`
    NO_OK = "no-ok"  # 200 without `ok`, as of a server that leaves out defaults
    TWO_OKS = "two-oks"  # 200 with `ok` false and then `ok` true
    RPC_STATUS = "rpc-status"  # 200 with an error's code and message alone
    OTHER_JOB = "other-job"  # 200 with the document of another job
    STALE = "stale"  # a read shows the job before its last change
    FAIL = "fail"  # the run is accepted and ends failed
    DRAIN = "drain"  # the abort is accepted and shows `seconds` later
    TIME_FORMAT = "time-format"  # times are written in another way
    EXTRA_TIME = "extra-time"  # one entry more in `stateTimestamps`
    PAGE_CAP = "page-cap"  # a page of the list holds so many jobs at the most
    NO_PAGINATION = "no-pagination"  # a page of the list does not say how many there are
    SAME_PAGE = "same-page"  # the list begins anew on every page
    SHIFT = "shift"  # a page of the list begins so many jobs later


HUGE_BYTES = 16 * 1024 * 1024
"""More than a careful client reads of one answer."""

SILENT = (Kind.RESET, Kind.CLOSE, Kind.HANG)
"""The kinds that send no answer at all."""

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
"""The kinds that are part of how the work is done, and the operations that they go with."""

WORKING = (Kind.SLOW, *_HONEST)
"""The kinds under which the work is done in any case."""

TIME_FORMATS = ("seconds", "millis", "nanos", "offset", "lower")
"""The ways of `time-format` to write a time: cut to whole or thousandth seconds, with nine digits, an hour east, in
lower case."""

VERBS = tuple(verb for verb in Operation if verb not in (Operation.DOCUMENT, Operation.FOLLOW))
_SECONDS = {Kind.HANG: math.inf, Kind.SLOW: 5.0, Kind.DRIP: 30.0, Kind.DRAIN: 30.0}
_JOBS = {Kind.PAGE_CAP: 50, Kind.SHIFT: 5}
_KEYS = ("times", "skip", "job", "seconds", "retry-after", "location", "p", "seed", "format", "jobs")
_WITH_COLONS = ("retry-after", "location")
_WORDS = tuple(kind.value for kind in Kind if kind is not Kind.STATUS)
_BODYLESS = (204, 205, 304)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, as `parse_fault` reads it. `operation` is None for any; `times` None for always."""

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
        """Whether the call's work is done."""
        return self.after or self.kind in WORKING

    @property
    def redirects(self) -> bool:
        """Whether it answers with a 3xx that carries a location."""
        return _redirects(self.kind, self.status)

    def may_match(self, operation: Operation, job_id: str) -> bool:
        """Whether it is meant for such a call, its counts and its chance aside."""
        meant = VERBS if self.operation is None else (self.operation,)
        if operation not in meant or operation not in _HONEST.get(self.kind, meant):
            return False
        return self.job is None or (job_id != "" and fnmatchcase(job_id, self.job))


def parse_fault(text: str) -> Fault:
    """Read one fault; the grammar stands at the top of this file.

    Raises `ValueError` that says which part is wrong and what would be right.
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
    """The faults of one server, with their counts; the service asks one call at a time, inside its transaction."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._faults = tuple(faults)
        self._seen = [0] * len(self._faults)
        self._fired = [0] * len(self._faults)
        # The position is mixed in, or two faults of one seed would draw the same numbers.
        self._chances = [random.Random(f"{fault.seed}/{at}") for at, fault in enumerate(self._faults)]  # noqa: S311
        self.sets_trap = any(fault.redirects and fault.location is None for fault in self._faults)

    def match(self, operation: Operation, job_id: str) -> Fault | None:
        """The fault that this call meets, None where there is none. Asking counts the call."""
        for at, fault in enumerate(self._faults):
            if not fault.may_match(operation, job_id) or self._fired[at] == fault.times:
                continue
            self._seen[at] += 1
            if self._seen[at] > fault.skip and self._chances[at].random() < fault.p:
                self._fired[at] += 1
                return fault
        return None


def spoil(fault: Fault, honest: Response, request_id: str, trap: str, randbytes: Callable[[int], bytes]) -> Response:
    """The answer that is sent under a fault, given the honest one.

    `trap` is where a redirect leads by default. What happens on the wire (late, in drops, half, or
    not at all) is the server's part.
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
    """The answer of a fault that is written as a number."""
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
    """Kind."""
    if re.fullmatch(r"[2-5][0-9][0-9]", word):
        return Kind.STATUS, int(word)
    if word in _WORDS:
        return Kind(word), 200
    raise _wrong(text, f"{word!r} is no kind", f"a status from 200 to 599 or one of {', '.join(_WORDS)}")


def _redirects(kind: Kind, status: int) -> bool:
    """Redirects."""
    return kind is Kind.STATUS and 300 <= status < 400 and status != 304


def _check_keys(text: str, keys: dict[str, str], operation: Operation | None, kind: Kind, status: int) -> None:
    """Check."""
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
    """The key=value parts; a URL or a date keeps the colons that the split took."""
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
