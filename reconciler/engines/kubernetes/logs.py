"""The log of a run: what each container of each of its pods has printed, in the order in which the pods were made.

A log is read in pieces of a bounded size. A piece begins at the second of the last line of the piece before, because a
server knows no smaller part of a time there, and the lines that were read already are left out.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from threading import Event
from typing import Any, NamedTuple
from urllib.parse import urlencode

from reconciler.engines.kubernetes.api import Api, segment
from reconciler.engines.kubernetes.fields import items, name, text
from reconciler.engines.kubernetes.observations import is_terminal
from reconciler.engines.port import EngineError

JOB_NAME_LABEL = "job-name"
"""The label of a pod with the name of its Job. Newer servers set `batch.kubernetes.io/job-name` beside it."""

_PIECE_BYTES = 512 * 1024
_FOLLOW_EVERY_S = 0.5
_TIMED_LINE = re.compile(rb"([0-9T:.Z+-]{20,40}) (.*\n?)", re.DOTALL)


class _Place(NamedTuple):
    """Where a log stands: the time of the last line that was read, and how many lines of that time were read.

    `order` is the time in a form that can be compared.
    """

    time: bytes = b""
    lines: int = 0
    order: bytes = b""


class _ContainerLog:
    """The log of one container, as far as it was read."""

    def __init__(self, api: Api, path: str, container: str) -> None:
        self._api = api
        self._path = path
        self._container = container
        self._place = _Place()

    def more(self, tail: int | None) -> Iterator[bytes]:
        """Yield what has come since the last time. The first time, that is the log or its last `tail` lines."""
        while True:
            query = {"container": self._container, "timestamps": "true", "limitBytes": str(_PIECE_BYTES)}
            if self._place.time:
                query["sinceTime"] = self._place.time.decode()
            elif tail is not None:
                query["tailLines"] = str(tail)
            reply = self._api.read(f"{self._path}?{urlencode(query)}")
            # The pod has no node yet, the container has not started, or the pod is gone.
            if reply.status in (204, 400, 404):
                return
            if reply.status != 200:
                raise EngineError(f"the log can't be read: {reply.status}: {self._api.message(reply)}")
            is_whole = len(reply.content) < _PIECE_BYTES
            self._place, piece = _after(self._place, reply.content, is_whole=is_whole)
            if piece:
                yield piece
            if is_whole or not piece:
                return


def log_of(
    api: Api,
    pods_path: str,
    run_id: str,
    is_over: Callable[[], bool],
    *,
    tail: int | None,
    follow: bool,
    stop: Event,
) -> Iterator[bytes]:
    """Yield the log of the run in pieces. With `follow`, go on until the run is over or `stop` is set.

    `is_over` tells whether the Job has ended. As long as it has not, another attempt may follow a pod that has ended.
    Raises `EngineError` and `CredentialsError`.
    """
    logs: dict[tuple[str, str], _ContainerLog] = {}
    ended: set[str] = set()
    has_ended = False
    while True:
        pods = sorted(api.listed(pods_path, f"{JOB_NAME_LABEL}={run_id}"), key=_age)
        for pod in pods:
            pod_name = name(pod)
            for container in _containers(pod) if pod_name not in ended else ():
                new = _ContainerLog(api, f"{pods_path}/{segment(pod_name)}/log", container)
                yield from logs.setdefault((pod_name, container), new).more(tail)
            if is_terminal(pod):
                ended.add(pod_name)
        is_quiet = all(name(pod) in ended for pod in pods)
        if not follow or stop.is_set() or (is_quiet and has_ended):
            return
        has_ended = has_ended or (is_quiet and is_over())
        if not (is_quiet and has_ended):  # otherwise the last pods are looked at once more
            stop.wait(_FOLLOW_EVERY_S)


def _after(place: _Place, content: bytes, *, is_whole: bool) -> tuple[_Place, bytes]:
    """Return the place behind a piece, and what is new in it. A line that was cut at the end is read again."""
    lines = content.splitlines(keepends=True)
    if not is_whole and lines and len(lines) > 1:
        lines.pop()
    printed: list[bytes] = []
    known, last = place.lines, place
    for line in lines:
        found = _TIMED_LINE.fullmatch(line)
        if found is None:
            printed.append(line)
            continue
        time, text = found[1], found[2]
        order = _comparable(time)
        if order < place.order:
            continue
        if order == place.order and known > 0:
            known -= 1
            continue
        last = _Place(time, last.lines + 1 if order == last.order else 1, order)
        printed.append(text)
    return last, b"".join(printed)


def _comparable(time: bytes) -> bytes:
    """Return a time of RFC 3339 in UTC with all nine digits of its nanoseconds, as a server leaves zeros out."""
    seconds, _, part = time.rstrip(b"Z").partition(b".")
    return seconds + b"." + part.ljust(9, b"0")


def _containers(pod: Mapping[str, Any]) -> Iterator[str]:
    for group in ("initContainers", "containers"):
        for container in items(pod, "spec", group):
            yield text(container, "name")


def _age(pod: Mapping[str, Any]) -> tuple[str, str]:
    return text(pod, "metadata", "creationTimestamp"), name(pod)
