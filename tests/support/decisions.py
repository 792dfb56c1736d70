"""One job, its possible records, and the decision about the job: what the tests of the rules share."""

from datetime import UTC, datetime

from reconciler.engines.bytenite.plugin import PLUGIN
from reconciler.model.jobs import NOT_ASKED, Desired, Job, Marks, Observation, OnConfigChange, Record, Status
from reconciler.model.promises import NO_PROMISES
from reconciler.rules.decide import decide
from reconciler.rules.decisions import Decision
from reconciler.rules.matching import Subject, Terms
from reconciler.rules.table import Asked

CONFIG = {"taskTimeout": 600}
RUNNING = Record("a", Desired.RUNNING, CONFIG)
ABORTED = Record("a", Desired.ABORTED, CONFIG)
ABSENT = Record("a", Desired.ABSENT)


def job(state: str = "running", **more: object) -> Job:
    """Return the job `a` as a manifest declares it."""
    return Job("a", "a", Desired(state), **{"config": CONFIG, **more})  # type: ignore[arg-type]


def observation_of(status: Status) -> Observation:
    """Return an observation of this status, with the engine's name for the status."""
    words = {
        Status.DRAFT: "JOB_STATE_NEW",
        Status.ACTIVE: "JOB_STATE_RUNNING",
        Status.COMPLETE: "JOB_STATE_COMPLETE",
        Status.FAILED: "JOB_STATE_FAILED",
        Status.ABORTED: "JOB_STATE_ABORTED",
    }
    return Observation(status, words.get(status, ""), detail="HTTP 500" if status is Status.UNREADABLE else "")


def decided(desired: Job, record: Record | None, observed: Observation = NOT_ASKED) -> Decision:
    """Return the decision about a job with this record."""
    return decide(Subject(desired, record, PLUGIN.same_config), observed)


COLUMNS: dict[str, tuple[Asked, Job, Record | None]] = {
    "first run": (Asked.FIRST_RUN, job(), None),
    "same": (Asked.SAME, job(), RUNNING),
    "config changed": (Asked.NEW_CONFIG, job(config={"taskTimeout": 700}), RUNNING),
    "rerun": (
        Asked.RERUN,
        job(config={"taskTimeout": 700}, on_config_change=OnConfigChange.RERUN),
        RUNNING,
    ),
    "new token": (Asked.NEW_TOKEN, job(run_token="t2"), RUNNING),
    "recorded aborted": (Asked.NEW_TOKEN, job(), ABORTED),
    "recorded absent": (Asked.NEW_TOKEN, job(), ABSENT),
    "abort": (Asked.ABORTED, job("aborted"), RUNNING),
    "abort, no record": (Asked.ABORTED, job("aborted"), None),
    "aborted already": (Asked.ABORTED, job("aborted"), ABORTED),
    "abort of an absent one": (Asked.ABORTED, job("aborted"), ABSENT),
    "delete": (Asked.ABSENT, job("absent"), RUNNING),
    "delete, no record": (Asked.ABSENT, job("absent"), None),
    "delete of an aborted one": (Asked.ABSENT, job("absent"), ABORTED),
    "absent already": (Asked.ABSENT, job("absent"), ABSENT),
}
"""A job of the manifest and a record for each column of the table in `rules/table.py`. Some columns have several."""

NOW_S = 1_800_000_000.0
CREATES = Terms(NO_PROMISES._replace(creates_on_run=True, keeps_ended_s=3600.0), "ours", now_s=NOW_S)
"""The terms of a state whose engine creates a job with its run, and forgets a run an hour after its end."""

FORGOTTEN_ENDS = {
    Status.FORGOTTEN_COMPLETE: Status.COMPLETE,
    Status.FORGOTTEN_FAILED: Status.FAILED,
    Status.FORGOTTEN_ABORTED: Status.ABORTED,
}


def at(seconds: float) -> str:
    """A time so many seconds after `NOW_S`, as a record has it."""
    return datetime.fromtimestamp(NOW_S + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def subject_of(status: Status, desired: Job, record: Record | None) -> tuple[Subject, Observation]:
    """The job with the record and the observation that lead to the row of this status."""
    observed = observation_of(status)
    if status is Status.OTHER_OWNER:
        active = Observation(Status.ACTIVE, config=CONFIG, ref="uid-9", marks=Marks(lineage="theirs"))
        return Subject(desired, record, PLUGIN.same_config, lineage="ours", terms=CREATES), active
    if status not in _CREATED:
        return Subject(desired, record, PLUGIN.same_config), observed
    if record is not None and record.state is Desired.RUNNING:
        active_s = -7200 if status is Status.FORGOTTEN else -60
        record = record._replace(end=FORGOTTEN_ENDS.get(status), last_active=at(active_s))
    return Subject(desired, record, PLUGIN.same_config, terms=CREATES), Observation(Status.MISSING)


_CREATED = frozenset({Status.NOTHING, Status.TAKEN_AWAY, Status.FORGOTTEN, *FORGOTTEN_ENDS})
