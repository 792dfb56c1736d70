"""Observations in words: of one job, and of a service that offers no reads."""

from collections.abc import Mapping

from reconciler.model.commands import command
from reconciler.model.jobs import Observation, Status, Target

NO_DETAIL = "no reason given"
"""The detail of a job that can't be read, if the engine gives none."""


_WORDS: Mapping[Status, str] = {
    Status.TAKEN_AWAY: "not there, although no end of its run is recorded",
    Status.FORGOTTEN_COMPLETE: "forgotten by the engine (it had completed)",
    Status.FORGOTTEN_FAILED: "forgotten by the engine (it had failed)",
    Status.FORGOTTEN_ABORTED: "forgotten by the engine (someone else had aborted it)",
    Status.FORGOTTEN: "forgotten by the engine, and no end of its run is recorded",
}
"""The words for statuses that need more than their name."""


def observation_words(observed: Observation) -> str:
    """An observation in words, with the engine's own word: `active (JOB_STATE_RUNNING)`; "" if not observed."""
    if observed.status is Status.NOT_OBSERVED:
        return ""
    if observed.status is Status.OTHER_OWNER:
        lineage = observed.marks.lineage
        return f"{observed.status}: it bears {f'the lineage {lineage}' if lineage else 'no marks of a state'}"
    if words := _WORDS.get(observed.status):
        is_told = observed.status is Status.TAKEN_AWAY and observed.detail != ""
        return f"{words} ({observed.detail})" if is_told else words
    words = f"{observed.status} ({observed.word})" if observed.word else str(observed.status)
    is_told = observed.status in (Status.FAILED, Status.WITHDRAWN)
    return f"{words}: {observed.detail}" if observed.detail and is_told else words


def elsewhere_words(target: Target, name: str) -> tuple[str, str]:
    """What a plan and the drift report say of a job that is recorded for another service: why, and the way out."""
    forget = command("state forget", name)
    return (
        f"recorded for {target}, which is not the service of the state",
        f"if the job is at the service of the state now, drop its record: {forget}",
    )


def no_reads_words(target: Target, observed: Mapping[str, Observation], consequence: str) -> str:
    """The sentence about a service that offers no reads, with its consequence for the user.

    `observed` maps the engine job ids that the command tried to read to their observations. Returns "" if the service
    offers reads.
    """
    if all(observation.status is not Status.NOT_OBSERVED for observation in observed.values()):
        return ""
    return f"{target} offers no reads, so {consequence}"
