"""Run ids: the number of each run of a job, the id that the engine's object bears, and what tells two runs apart.

The runs of a job are counted from 1. `State.last` has the number of the last run of each engine job, and never
decreases. The number of a new run is fixed with the intent of its call:

    the call was applied, or was applied before                 the new run is the last run
    the call was rejected, not sent, or settled as not applied  the number is used for the next run
    the call is in doubt                                        it is sent again under its own number, or settled
    an abort, a delete                                          is about the last run, and counts none

Where an engine refuses a second run of one run id, the number that is used again can't start two runs.
"""

from reconciler.model.digests import sha256
from reconciler.model.jobs import Config, Marks, Observation, Record
from reconciler.model.json_values import compact
from reconciler.model.times import TimeOrder

_DIGEST_DIGITS = 32

MAX_RUN = 999_999_999
"""The greatest number of a run. No job comes near it, and an object with a greater number is not of this tool."""


def run_id(job_id: str, run: int) -> str:
    """The run id of a run of a job: `nightly-7`; "" for a run without a number."""
    return f"{job_id}-{run}" if run else ""


def number_of(run_id: str, job_id: str) -> int:
    """The number of the run with this run id; 0 if the id is not one that `run_id` makes for the job."""
    head, _, digits = run_id.rpartition("-")
    is_number = _is_number(digits) and not digits.startswith("0") and len(digits) <= len(str(MAX_RUN))
    return int(digits) if head == job_id and is_number else 0


def has_sane_number(run_id: str) -> bool:
    """Whether a run id ends with no number above `MAX_RUN`."""
    digits = run_id.rpartition("-")[2]
    return not _is_number(digits) or len(digits.lstrip("0")) <= len(str(MAX_RUN))


def digests(config: Config, run_token: str | None) -> Marks:
    """The marks that say what a run was asked to be: the digests of its config and of its run token."""
    token = "" if run_token is None else _digest(f"token {run_token}")
    return Marks(config_digest=_digest(compact(config)), token_digest=token)


def asks_the_same(marks: Marks, config: Config, run_token: str | None) -> bool:
    """Whether a run with these marks was asked for with this config and this run token; False without marks."""
    asked = digests(config, run_token)
    return (marks.config_digest, marks.token_digest) == (asked.config_digest, asked.token_digest)


def is_other_run(record: Record, observed: Observation) -> bool:
    """Whether the observed run is not the recorded run; False if nothing tells the two apart."""
    number = number_of(observed.run_id, record.id)
    if number and record.run:
        return number != record.run
    if observed.ref and record.ref:
        return observed.ref != record.ref
    return observed.is_of_other_run(record.submitted_at)


def is_same_run(record: Record, observed: Observation) -> bool:
    """Whether the observed run is certainly the recorded run."""
    number = number_of(observed.run_id, record.id)
    if number and record.run:
        return number == record.run
    if observed.ref and record.ref:
        return observed.ref == record.ref
    return bool(record.submitted_at) and observed.stands_to(record.submitted_at) in (TimeOrder.SAME, TimeOrder.CLOSE)


def is_earlier_run(record: Record, observed: Observation) -> bool:
    """Whether the observed run is older than the recorded run, as far as its number or its time tells."""
    number = number_of(observed.run_id, record.id)
    if number and record.run:
        return number < record.run
    return observed.stands_to(record.submitted_at) is TimeOrder.EARLIER


def _is_number(digits: str) -> bool:
    return digits.isascii() and digits.isdecimal()


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass"))[:_DIGEST_DIGITS]
