"""Run ids, what tells two runs of a job apart, and what an observation adds to a record."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.jobs import Desired, Doubt, Job, Marks, Observation, Record, Status, Verb
from reconciler.model.promises import NO_PROMISES, Promises
from reconciler.rules.doubts import may_follow
from reconciler.rules.matching import Subject, Terms, match_records
from reconciler.rules.records import about, adopted, applied, noted, run_of, settled
from reconciler.rules.runs import (
    MAX_RUN,
    asks_the_same,
    digests,
    is_earlier_run,
    is_other_run,
    is_same_run,
    number_of,
    run_id,
)

NOON, LATER = "2026-11-21T12:00:00Z", "2026-11-21T13:00:00Z"
RECORD = Record("a", Desired.RUNNING, {"size": 1}, submitted_at=NOON, run=3, ref="uid-3")
JOB = Job("a", "a", Desired.RUNNING, {"size": 1})
ACTIVE = Observation(Status.ACTIVE, submitted_at=NOON, run_id="a-3", ref="uid-3")


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True), st.integers(1, MAX_RUN))
def test_a_run_id_names_its_job_and_its_number(job_id: str, run: int) -> None:
    assert number_of(run_id(job_id, run), job_id) == run


def test_the_greatest_number_is_one_of_nine_digits_and_the_next_one_is_nobody_s() -> None:
    assert run_id("a", MAX_RUN) == "a-999999999"
    assert [number_of(run_id("a", run), "a") for run in (MAX_RUN, MAX_RUN + 1)] == [MAX_RUN, 0]


def test_a_run_without_a_number_has_no_run_id() -> None:
    assert run_id("a", 0) == ""


@pytest.mark.parametrize("other", ["", "a", "a-", "a-0", "a-03", "a-x", "a--3", "b-3", "a-3-3", "a-\u0663", "a-3 "])
def test_another_id_has_no_number(other: str) -> None:
    assert number_of(other, "a") == 0


def test_digests_tell_configs_and_tokens_apart_as_json_does() -> None:
    marks = [
        digests({}, None),
        digests({}, ""),
        digests({}, "t"),
        digests({"a": 1}, None),
        digests({"a": True}, None),
        digests({"a": "1"}, None),
        digests({"a": [1, 2]}, None),
    ]
    assert len(set(marks)) == len(marks)
    assert digests({"a": 1, "b": {"c": 1, "d": 2}}, "t") == digests({"b": {"d": 2, "c": 1}, "a": 1}, "t")


def test_a_run_without_marks_is_not_the_run_that_is_asked_for() -> None:
    assert not asks_the_same(Marks(), {}, None)
    assert asks_the_same(digests({}, None)._replace(op="any"), {}, None)


@pytest.mark.parametrize(
    ("observed", "other", "same"),
    [
        (ACTIVE, False, True),
        (ACTIVE._replace(run_id="a-4"), True, False),
        (ACTIVE._replace(run_id="", ref="uid-4"), True, False),
        (ACTIVE._replace(run_id="", ref=""), False, True),
        (ACTIVE._replace(run_id="", ref="", submitted_at=LATER), True, False),
        (ACTIVE._replace(run_id="", ref="", submitted_at=None), False, False),
        (ACTIVE._replace(submitted_at=LATER), False, True),
    ],
)
def test_the_number_comes_before_the_handle_and_the_handle_before_the_time(
    observed: Observation, other: bool, same: bool
) -> None:
    assert (is_other_run(RECORD, observed), is_same_run(RECORD, observed)) == (other, same)


def test_an_earlier_number_is_an_earlier_run() -> None:
    assert is_earlier_run(RECORD, ACTIVE._replace(run_id="a-2", submitted_at=LATER))
    assert not is_earlier_run(RECORD, ACTIVE._replace(run_id="a-4", submitted_at="2026-11-21T11:00:00Z"))
    assert is_earlier_run(RECORD._replace(run=0), ACTIVE._replace(submitted_at="2026-11-21T11:00:00Z"))


def test_a_new_run_leaves_nothing_of_the_run_before() -> None:
    ended = RECORD._replace(end=Status.FAILED, last_active=NOON)
    after = applied(JOB, ended, Verb.RUN, run=4)
    assert (after.run, after.end, after.last_active, after.ref, after.submitted_at) == (4, None, "", "", None)
    aborted = applied(JOB, ended, Verb.ABORT)
    assert (aborted.run, aborted.end, aborted.ref) == (3, Status.FAILED, "uid-3")
    assert applied(JOB, ended, Verb.DELETE) == Record("a", Desired.ABSENT, run=3)


def test_an_adopt_of_the_recorded_run_keeps_what_is_known_of_it_and_another_run_begins_anew() -> None:
    ended = RECORD._replace(end=Status.FAILED, last_active=NOON)
    assert adopted(JOB, ended, Verb.RUN, ACTIVE) == ended
    other = adopted(JOB, ended, Verb.RUN, ACTIVE._replace(run_id="a-5", ref="uid-5", submitted_at=LATER))
    assert (other.run, other.end, other.last_active, other.ref) == (5, None, "", "uid-5")
    assert about(ended, ACTIVE._replace(run_id="a-5", ref="uid-5", submitted_at=LATER)) == other


FORGETS = NO_PROMISES._replace(keeps_ended_s=300.0)
SEEN = RECORD._replace(last_active="2026-11-21T12:10:00Z")


@pytest.mark.parametrize(
    ("record", "observed", "after"),
    [
        (RECORD, ACTIVE._replace(status=Status.COMPLETE), RECORD._replace(end=Status.COMPLETE)),
        (RECORD, ACTIVE._replace(status=Status.ABORTED), RECORD._replace(end=Status.ABORTED)),
        (RECORD, ACTIVE, RECORD._replace(last_active=LATER)),
        (RECORD, Observation(Status.MISSING), None),
        (RECORD, ACTIVE._replace(status=Status.FAILED, run_id="a-4"), None),
        (RECORD._replace(state=Desired.ABORTED), ACTIVE._replace(status=Status.ABORTED), None),
    ],
)
def test_an_observation_of_the_recorded_run_says_how_it_goes(
    record: Record, observed: Observation, after: Record | None
) -> None:
    assert noted(record, observed, LATER, FORGETS) == (record if after is None else after)


def test_an_engine_that_never_forgets_leaves_no_time() -> None:
    assert noted(RECORD, ACTIVE, LATER, NO_PROMISES) == RECORD


@pytest.mark.parametrize(
    ("now", "keeps_s", "is_kept_anew"),
    [
        ("2026-11-21T12:10:29Z", 300.0, False),
        ("2026-11-21T12:10:30Z", 300.0, True),
        ("2026-11-21T12:10:59Z", 86_400.0, False),
        ("2026-11-21T12:11:00Z", 86_400.0, True),
        ("2026-11-21T12:09:59Z", 300.0, True),
    ],
)
def test_the_time_at_which_a_run_was_seen_is_kept_anew_once_it_is_well_behind(
    now: str, keeps_s: float, is_kept_anew: bool
) -> None:
    assert noted(SEEN, ACTIVE, now, NO_PROMISES._replace(keeps_ended_s=keeps_s)).last_active == (
        now if is_kept_anew else SEEN.last_active
    )


@pytest.mark.parametrize("promises", [NO_PROMISES, FORGETS])
def test_a_run_that_is_kept_for_a_time_of_its_own_is_noted_by_that_time(promises: Promises) -> None:
    seen = SEEN._replace(keep_for_s=20)
    assert noted(seen, ACTIVE, "2026-11-21T12:10:01Z", promises) == seen
    assert noted(seen, ACTIVE, "2026-11-21T12:10:02Z", promises).last_active == "2026-11-21T12:10:02Z"


def test_a_call_in_doubt_keeps_an_observation_from_saying_how_the_run_ended() -> None:
    doubtful = RECORD._replace(doubt=Doubt("op", Verb.RUN, {}, None, None, "then", ""))
    assert noted(doubtful, ACTIVE._replace(status=Status.COMPLETE), LATER, FORGETS) == doubtful


def subject(record: Record | None, last: int = 0, job: Job = JOB) -> Subject:
    return Subject(job, record, lambda a, b: a == b, last=last)


def test_a_run_has_the_next_number_and_other_calls_that_of_the_last_run() -> None:
    assert run_of(subject(None), Verb.RUN) == 1
    assert run_of(subject(None, last=7), Verb.RUN) == 8
    assert (run_of(subject(RECORD, 5), Verb.RUN), run_of(subject(RECORD, 5), Verb.ABORT)) == (6, 3)
    doubt = Doubt("op", Verb.RUN, {}, None, None, "then", "", run=4)
    assert run_of(subject(RECORD._replace(doubt=doubt), 5), Verb.RUN) == 4
    assert run_of(subject(RECORD._replace(doubt=doubt._replace(verb=Verb.ABORT)), 5), Verb.RUN) == 6


def test_a_settled_run_has_the_number_of_its_doubt() -> None:
    doubt = Doubt("op", Verb.RUN, {"size": 2}, "t", None, "then", "", run=4)
    after = settled(RECORD._replace(doubt=doubt), True, LATER, "uid-4")
    ran = frozenset({'{"size":2}'})
    expected = Record("a", Desired.RUNNING, {"size": 2}, frozenset({"t"}), LATER, run=4, ref="uid-4", ran_configs=ran)
    assert after == expected
    assert settled(RECORD._replace(doubt=doubt), False) == RECORD


def test_only_the_very_run_that_is_asked_for_may_be_sent_again() -> None:
    doubt = Doubt("op", Verb.RUN, {"size": 1}, None, None, "then", "", run=4)
    missing = Observation(Status.MISSING)
    asking = subject(RECORD._replace(doubt=doubt))._replace(may_ask_again=True)
    assert may_follow(asking, doubt, missing)
    assert not may_follow(asking._replace(may_ask_again=False), doubt, missing)
    for job in (JOB._replace(config={"size": 2}), JOB._replace(run_token="t"), JOB._replace(state=Desired.ABORTED)):
        assert not may_follow(asking._replace(job=job), doubt, missing)


def test_subjects_know_how_often_their_engine_job_ran_whatever_its_name_is() -> None:
    jobs = {name: Job(name, job_id, Desired.RUNNING, {}) for name, job_id in (("a", "x"), ("b", "y"), ("c", "z"))}
    records = {"a": Record("y", Desired.RUNNING), "c": Record("z", Desired.RUNNING)}
    terms = Terms(lineage="l", last={"x": 2, "y": 3, "z": 4})
    matching = match_records(jobs, records, lambda a, b: a == b, terms)
    assert {one.job.name: one.last for one in matching.subjects} == {"a": 2, "b": 3, "c": 4}
    assert {one.lineage for one in matching.subjects} == {"l"}
