"""Steps as tests send them to an engine."""

from reconciler.model.jobs import EMPTY, Config, Verb
from reconciler.model.steps import Step


def step_for(verb: Verb, job_id: str, config: Config = EMPTY) -> Step:
    """A step about one job, without a run id and without marks."""
    return Step(verb, job_id, config=config)
