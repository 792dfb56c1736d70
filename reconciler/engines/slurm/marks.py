"""The marks of a run in the comment of its job, so that each job tells whose it is.

    reconciler:job=nightly,run=nightly-7,lineage=…,op=…,config=…,token=…,commit=…,at=2026-01-02T03:04:05.678901Z

The values are percent-encoded, so that the comment is one word. `sent` behind it says that the run was released. A
comment may have 1,024 bytes (slurmctld). Marks that are longer are compressed.

A job that has ended can't be changed, and the controller shows it for some more time (MinJobAge). If it is deleted, a
job that never ran and was cancelled stands for that: its comment has the ids of those that are gone, and the controller
drops it after them. Accounting has a comment that may be changed.

Accounting keeps the comment of a job only where AccountingStoreFlags has job_comment. The command line of `sbatch` is
kept everywhere (sacct, SubmitLine), and holds the comment as it was when the job was submitted.
"""

import re
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from reconciler.engines.port import Marks
from reconciler.engines.texts import unquoted

PREFIX = "reconciler:"
_LONGEST_COMMENT = 1024
_COUNT = r"[0-9]{1,9}"
_LONGEST = 960
"""The longest comment of a run that is submitted. The flags need the rest of the 1,024 bytes."""
MOST_KEPT = 10_000
"""How many jobs stay parsed. Every call of an apply reads all jobs of the cluster, and few of them have changed."""
_MOST_BYTES = 1 << 14
"""The longest text that is decompressed, so that no comment of somebody else takes all memory."""
_NAMES = {
    "job": "job_id",
    "run": "run_id",
    "lineage": "lineage",
    "op": "op",
    "config": "config_digest",
    "token": "token_digest",
    "commit": "commit",
    "at": "at",
    "tasks": "tasks",
}
_SENT = "sent"
_IN_SUBMIT_LINE = re.compile(rf"--comment={PREFIX}(\S+)")


class Mark(NamedTuple):
    """What the comment of a job says. `at` is when the run was submitted, by the clock of the program that did it.

    A requeue changes the time of submission that Slurm has, and leaves `at`. `tasks` is how many tasks the array of the
    run has; 0 without an array.
    """

    job_id: str
    run_id: str
    marks: Marks
    at: str
    tasks: int = 0
    was_sent: bool = False
    was_deleted: bool = False

    @property
    def comment(self) -> str:
        """The comment of a job with these marks."""
        values = {**self._asdict(), **self.marks._asdict()}
        text = ",".join(f"{name}={_quoted(str(values[field]))}" for name, field in _NAMES.items() if values[field])
        if len(PREFIX) + len(text) > _LONGEST:
            text = "z=" + urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")
        return PREFIX + text + (f",{_SENT}" if self.was_sent else "")

    @property
    def fits(self) -> bool:
        """Whether Slurm takes a comment of this length."""
        return len(self._replace(was_sent=False).comment) <= _LONGEST


def mark_in(comment: str, submit_line: str = "") -> Mark | None:
    """Return the marks in the comment of a job, or in the command line that submitted it; None if it has none."""
    mark = _mark(comment.removeprefix(PREFIX)) if comment.startswith(PREFIX) else None
    if mark is None and (found := _IN_SUBMIT_LINE.search(submit_line)):
        mark = _mark(found[1])
    return mark._replace(was_deleted=comment == DELETED) if mark else None


DELETED = f"{PREFIX}deleted"
"""The comment that accounting gets for a job that was deleted."""

_GONE = "reconciler-gone:"
_GONE_IN_ONE = 80


def gone(ids: Collection[int]) -> Iterator[str]:
    """Yield the comments of the jobs that stand for the deletion of others."""
    texts = list(map(str, sorted(ids)))
    for at in range(0, len(texts), _GONE_IN_ONE):
        yield _GONE + ".".join(texts[at : at + _GONE_IN_ONE])


def gone_in(comment: str) -> Collection[int] | None:
    """Return the ids of the jobs whose deletion a job stands for; None for any other job."""
    if not comment.startswith(_GONE):
        return None
    return {int(text) for text in comment.removeprefix(_GONE).split(".") if text.isdecimal()}


@lru_cache(maxsize=MOST_KEPT)
def _mark(text: str) -> Mark | None:
    """Return the marks of a text; None if it has none. Anybody on the cluster may have written it."""
    if len(text) > _LONGEST_COMMENT:
        return None
    parts = text.split(",")
    if parts[0].startswith("z="):
        parts[:1] = _decompressed(parts[0].removeprefix("z=")).split(",")
    values = dict.fromkeys(_NAMES.values(), "")
    for part in parts:
        name, equals, value = part.partition("=")
        if equals and name in _NAMES:
            values[_NAMES[name]] = unquoted(value)
    if not values["job_id"] or not values["run_id"]:
        return None
    marks = Marks(*(values[name] for name in Marks._fields))
    tasks = int(values["tasks"]) if re.fullmatch(_COUNT, values["tasks"]) else 0
    return Mark(values["job_id"], values["run_id"], marks, values["at"], tasks, _SENT in parts)


def _quoted(value: str) -> str:
    return quote(value, safe="", errors="surrogatepass")


def _decompressed(text: str) -> str:
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return zlib.decompressobj().decompress(data, _MOST_BYTES).decode()
    except (ValueError, zlib.error):
        return ""
