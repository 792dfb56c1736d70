"""The marks of a run in the metadata of its job, so that each job tells whose it is.

    {"reconciler/job": "nightly", "reconciler/run": "nightly-7", "reconciler/lineage": "…", "reconciler/op": "…", …}

Ray passes the metadata on to the drivers of the job, which take no text with half of a surrogate pair. So the values
are percent-encoded, as far as that is needed.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import quote

from reconciler.engines.port import Marks, Step
from reconciler.engines.texts import unquoted

PREFIX = "reconciler/"
_NAMES = {
    "lineage": "lineage",
    "op": "op",
    "config": "config_digest",
    "token": "token_digest",
    "commit": "commit",
}
_PLAIN = "!#$&'()*+,/:;=?@[]^`{|}<>\" "
"""What stays as it is beside letters, digits and `-._~`."""


class Mark(NamedTuple):
    """What the metadata of a job say of its run."""

    job_id: str
    run_id: str
    marks: Marks


def metadata_of(step: Step) -> dict[str, str]:
    """Return the metadata that mark the job of a run. A mark that is not known is left out."""
    return dict(_metadata(step))


def _metadata(step: Step) -> Iterator[tuple[str, str]]:
    yield f"{PREFIX}job", step.job_id
    yield f"{PREFIX}run", step.run_id
    for name, field in _NAMES.items():
        if value := getattr(step.marks, field):
            yield f"{PREFIX}{name}", quote(value, safe=_PLAIN, errors="surrogatepass")


def mark_in(metadata: object) -> Mark | None:
    """Return the marks in the metadata of a job; None if it is not a run of this tool."""
    if not isinstance(metadata, Mapping):
        return None

    def value(name: str) -> str:
        found = metadata.get(f"{PREFIX}{name}")
        return unquoted(found) if isinstance(found, str) else ""

    job_id, run_id = value("job"), value("run")
    if not job_id or not run_id:
        return None
    return Mark(job_id, run_id, Marks(**{field: value(name) for name, field in _NAMES.items()}))
