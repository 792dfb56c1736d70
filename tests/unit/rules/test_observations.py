"""Observations in words."""

import pytest

from reconciler.model.jobs import NOT_OBSERVED, Observation, Status, Target
from reconciler.rules.observations import no_reads_words, observation_words

TARGET = Target("bytenite", "https://api.example/v1")


@pytest.mark.parametrize(
    ("observed", "words"),
    [
        (NOT_OBSERVED, ""),
        (Observation(Status.MISSING), "missing"),
        (Observation(Status.ACTIVE, "JOB_STATE_RUNNING", detail="not shown"), "active (JOB_STATE_RUNNING)"),
        (Observation(Status.FAILED, "JOB_STATE_FAILED", detail="disk full"), "failed (JOB_STATE_FAILED): disk full"),
    ],
)
def test_an_observation_is_worded_with_the_words_of_the_engine(observed: Observation, words: str) -> None:
    assert observation_words(observed) == words


def test_a_service_without_reads_is_named_with_what_follows_from_it() -> None:
    words = no_reads_words(TARGET, {"a": NOT_OBSERVED}, "no job was observed")
    assert words == "bytenite at https://api.example/v1 offers no reads, so no job was observed"


def test_a_service_that_offers_reads_gets_no_remark() -> None:
    assert no_reads_words(TARGET, {"a": Observation(Status.MISSING)}, "no job was observed") == ""
    assert no_reads_words(TARGET, {}, "no job was observed") == ""
