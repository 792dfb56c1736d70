"""One job, its possible records, and the decision about the job: what the tests of the rules share."""

from reconciler.engines.bytenite.plugin import PLUGIN
from reconciler.model.jobs import NOT_OBSERVED, Desired, Job, Observation, Record, Status
from reconciler.rules.decide import Decision, decide
from reconciler.rules.matching import Subject

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


def decided(desired: Job, record: Record | None, observed: Observation = NOT_OBSERVED) -> Decision:
    """Return the decision about a job with this record."""
    return decide(Subject(desired, record, PLUGIN.same_config), observed)
