"""For how long an engine knows a run: the shorter of its promise and of what the config of that very run says."""

from collections.abc import Mapping

import pytest

from reconciler.model.jobs import EMPTY, Config, Desired, Doubt, Job, Observation, OnConfigChange, Record, Status, Verb
from reconciler.model.promises import NO_PROMISES
from reconciler.rules.decide import decide
from reconciler.rules.matching import Subject, Terms
from reconciler.rules.records import about, adopted, applied, settled
from reconciler.rules.retention import FOR_EVER, keep_for_of, kept_s, still_knows
from reconciler.rules.sight import as_seen

NOON = "2026-11-21T12:00:00Z"
NOON_S = 1_795_262_400.0
PROMISES = NO_PROMISES._replace(creates_on_run=True, keeps_ended_s=300.0)
RECORD = Record("a", Desired.RUNNING, {"keepFor": 20}, run=3, ref="uid-3", last_active=NOON, keep_for_s=20)


def job(config: Config = EMPTY, policy: OnConfigChange = OnConfigChange.RESTART) -> Job:
    return Job("a", "a", Desired.RUNNING, config, on_config_change=policy)


@pytest.mark.parametrize(
    ("promised_s", "config", "known_s"),
    [
        (300.0, {}, 300.0),
        (300.0, {"keepFor": 20}, 20),
        (300.0, {"keepFor": 0}, 0),
        (300.0, {"keepFor": 0.5}, 0.5),
        (300.0, {"keepFor": 900}, 300.0),
        (FOR_EVER, {"keepFor": 900}, 900),
        (FOR_EVER, {}, FOR_EVER),
        (300.0, {"keepFor": "20"}, 300.0),
        (300.0, {"keepFor": True}, 300.0),
        (300.0, {"keepFor": None}, 300.0),
    ],
)
def test_the_shorter_time_counts(promised_s: float, config: Mapping[str, float], known_s: float) -> None:
    assert kept_s(NO_PROMISES._replace(keeps_ended_s=promised_s), keep_for_of(config)) == known_s


@pytest.mark.parametrize(
    ("config", "now", "is_known"),
    [
        ({"keepFor": 20}, "2026-11-21T12:00:19Z", True),
        ({"keepFor": 20}, "2026-11-21T12:00:20Z", False),
        ({"keepFor": 900}, "2026-11-21T12:04:59Z", True),
        ({"keepFor": 900}, "2026-11-21T12:05:00Z", False),
        ({}, "2026-11-21T11:59:59Z", False),
        ({}, "whenever", False),
    ],
)
def test_a_run_is_certainly_known_only_for_so_long_after_it_was_sent(
    config: Mapping[str, float], now: str, is_known: bool
) -> None:
    assert still_knows(PROMISES, config, NOON, now) is is_known


@pytest.mark.parametrize(
    ("keep_for_s", "after_s", "status"),
    [
        (20, 21.0, Status.FORGOTTEN),
        (20, 20.0, Status.TAKEN_AWAY),
        (900, 301.0, Status.FORGOTTEN),
        (None, 301.0, Status.FORGOTTEN),
        (None, 300.0, Status.TAKEN_AWAY),
    ],
)
def test_a_run_that_is_gone_is_forgotten_once_the_shorter_time_is_over(
    keep_for_s: float | None, after_s: float, status: Status
) -> None:
    terms = Terms(PROMISES, now_s=NOON_S + after_s)
    record = RECORD._replace(keep_for_s=keep_for_s, config={})
    subject = Subject(job(), record, lambda a, b: a == b, terms=terms)
    assert as_seen(subject, Observation(Status.MISSING)).status is status


def test_a_run_brings_the_time_of_its_own_config() -> None:
    ran = applied(job({"keepFor": 900}), RECORD, Verb.RUN, run=4)
    assert ran.keep_for_s == 900
    assert applied(job({"keepFor": 5}), ran, Verb.ABORT).keep_for_s == 900
    assert applied(job(), ran, Verb.RUN, run=5).keep_for_s is None
    assert applied(job(), ran, Verb.DELETE).keep_for_s is None
    doubt = Doubt("op", Verb.RUN, {"keepFor": 7}, None, None, NOON, "", run=4)
    for was_applied, keep_for_s in ((True, 7), (False, 20)):
        after = settled(RECORD._replace(doubt=doubt), was_applied)
        assert after is not None
        assert after.keep_for_s == keep_for_s


@pytest.mark.parametrize("policy", [OnConfigChange.NEXT_RUN, OnConfigChange.RERUN])
@pytest.mark.parametrize("observed", [Observation(Status.NOT_OBSERVED), Observation(Status.COMPLETE, run_id="a-3")])
def test_a_config_that_is_only_adopted_leaves_the_time_of_the_run_as_it_is(
    policy: OnConfigChange, observed: Observation
) -> None:
    after = adopted(job({"keepFor": 900}, policy), RECORD, Verb.RUN, observed)
    assert (after.config, after.keep_for_s, after.run) == ({"keepFor": 900}, 20, 3)


def test_a_decision_to_adopt_a_config_keeps_the_time_of_the_run() -> None:
    subject = Subject(job({"keepFor": 900}, OnConfigChange.NEXT_RUN), RECORD, lambda a, b: a == b)
    record = decide(subject, Observation(Status.ACTIVE, run_id="a-3")).record
    assert record is not None
    assert (record.config, record.keep_for_s) == ({"keepFor": 900}, 20)


def test_another_run_that_is_found_brings_its_own_time_if_the_engine_tells_it() -> None:
    told = Observation(Status.ACTIVE, config={"keepFor": 7}, run_id="a-4")
    untold = told._replace(config=None)
    assert adopted(job({"keepFor": 900}), RECORD, Verb.RUN, told).keep_for_s == 7
    assert adopted(job({"keepFor": 900}), RECORD, Verb.RUN, untold).keep_for_s == 900
    assert adopted(job({"keepFor": 900}), None, Verb.RUN, told).keep_for_s == 7
    assert about(RECORD, told).keep_for_s == 7
    assert about(RECORD, untold).keep_for_s == 20
