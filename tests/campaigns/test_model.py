"""A thousand histories of the model, the same each time; `python tests/campaigns/model.py` plays others.

The histories in which the model found a fault follow, with their steps minimized. Each broke a rule before its fault
was fixed.
"""

import math
from collections.abc import Callable

import pytest

import model
from model import Months
from model_commands import JOURNAL, LOCK
from model_words import DOCTORING, SAY_NOTHING, Doctoring, Edit
from reconciler.model.jobs import Desired, Freeze, Verb

HISTORIES = 125
PLAIN = {
    "reads": True,
    "create_missing": False,
    "job_seconds": 30.0,
    "lenient": False,
    "drain_s": 0.0,
    "notes_after_s": None,
    "wordings": False,
    "lists": False,
}
RUN: Edit = ("state", Desired.RUNNING)
ABORT: Edit = ("state", Desired.ABORTED)


@pytest.mark.parametrize("number", range(8))
def test_no_history_runs_a_job_twice_or_loses_a_run(number: int) -> None:
    model.run(HISTORIES, number)


def played(steps: Callable[[Months], None], **service: object) -> None:
    """Play one history to its end, at a service with the options of `PLAIN` and these changes."""
    months = Months()
    months.start(**{**PLAIN, **service})
    steps(months)
    months.teardown()


def test_a_displaced_record_takes_the_place_of_no_other() -> None:
    def steps(months: Months) -> None:
        months.give_names_around(crash_at=None, first=("rename", "d"), name="b", second=("rename", "a@a1"))
        months.give_names_around(crash_at=None, first=("id", 1), name="a", second=("rename", "d"))
        months.give_names_around(crash_at=None, first=("rename", "d"), name="a", second=("rename", "d"))

    played(steps, reads=False, lenient=True)


@pytest.mark.parametrize("naming", [("rename", "d"), ("swap-names", ""), ("swap-ids", ""), ("turn-names", 1)])
def test_resolve_settles_the_call_that_the_plan_shows_by_that_name(naming: Edit) -> None:
    def steps(months: Months) -> None:
        months.edit_and_apply(edit=RUN, name="b")
        months.be_in_doubt_and_give_names_around_and_resolve(
            apply=False, crash_at=3, done=False, kind="500", name="a", naming=naming
        )

    played(steps, reads=False)


def test_a_job_that_drains_is_run_anew_and_not_adopted() -> None:
    def steps(months: Months) -> None:
        months.ask_again(finish=False, token="monday")
        months.stop_a_job_and_run_it_soon_after(name="a", seconds=0.0)
        months.ask_again_and_stop_midway(stop_at=3, token="tuesday")

    played(steps, drain_s=20.0, job_seconds=5000.0)


@pytest.mark.parametrize("body", SAY_NOTHING, ids=repr)
def test_an_answer_that_says_nothing_is_not_taken_for_done(body: bytes) -> None:
    def steps(months: Months) -> None:
        for after in (False, True):
            months.edit_and_be_told_nothing(after=after, body=body, edit=RUN, name="a", skip=0, verb=Verb.RUN)
            months.edit_and_apply(edit=("token", str(after)), name="a")

    played(steps)


def test_a_word_that_the_service_adds_to_an_old_run_is_no_new_run() -> None:
    def steps(months: Months) -> None:
        months.apply(prune=False)
        months.edit_and_meet_a_fault(edit=("config", 1), fault="run:500", name="a", skip=0, times=1)
        months.apply(prune=False)

    played(steps, notes_after_s=0.5)


def test_other_words_for_one_instant_are_no_new_run() -> None:
    def steps(months: Months) -> None:
        months.apply(prune=False)
        months.edit_and_apply(edit=RUN, name="b")
        months.edit_and_meet_a_fault(edit=("config", 1), fault="run:500", name="a", skip=0, times=1)
        months.edit_and_meet_a_fault(edit=RUN, fault="run:500", name="a", skip=0, times=1)

    played(steps, wordings=True)


@pytest.mark.parametrize("doctored", DOCTORING)
def test_an_edited_plan_allows_itself_nothing(doctored: Doctoring) -> None:
    def steps(months: Months) -> None:
        months.apply_a_saved_plan_that_was_edited(edit=("state", Desired.ABSENT), how=doctored, name="a")

    played(steps)


@pytest.mark.parametrize("whole", [False, True])
def test_two_records_of_one_job_are_refused(whole: bool) -> None:
    def steps(months: Months) -> None:
        months.edit_and_apply(edit=RUN, name="a")
        months.merge_the_state_by_hand(back=1, other="b", whole=whole)

    played(steps)


@pytest.mark.parametrize("at", range(0, 24, 2))
def test_a_state_that_is_pulled_under_an_apply_loses_no_run(at: int) -> None:
    def steps(months: Months) -> None:
        months.pull_a_newer_state_under_an_apply(at=at, edit=RUN, name="a@a1", other="a", other_edit=("rename", "a@a1"))
        months.pull_a_newer_state_under_an_apply(at=at, edit=ABORT, name="a", other="b", other_edit=("token", "friday"))

    played(steps, reads=False)


@pytest.mark.parametrize("at", range(0, 24, 2))
def test_a_folder_that_is_switched_under_an_apply_is_not_written_to(at: int) -> None:
    played(lambda months: months.switch_the_folder_under_an_apply(at=at, edit=RUN, name="a"))


@pytest.mark.parametrize("gone", [(LOCK,), (JOURNAL,), (LOCK, JOURNAL)])
@pytest.mark.parametrize("at", range(0, 24, 2))
def test_files_that_are_taken_away_under_an_apply_let_nobody_run_a_job_twice(gone: tuple[str, ...], at: int) -> None:
    def steps(months: Months) -> None:
        months.lose_files_under_an_apply(at=at, edit=RUN, gone=gone, name="a", other_begins=True)

    played(steps)


def test_an_apply_that_loses_its_lock_tells_of_a_doubt_from_before_by_its_exit_code() -> None:
    def steps(months: Months) -> None:
        months.lose_files_under_an_apply(at=10, edit=RUN, gone=(JOURNAL,), name="b", other_begins=False)
        months.lose_files_under_an_apply(at=10, edit=RUN, gone=(LOCK,), name="a", other_begins=False)

    played(steps)


def test_an_abort_that_drains_while_its_answer_is_lost_stays_in_doubt_until_the_job_shows_it() -> None:
    def steps(months: Months) -> None:
        months.stop_a_job_and_run_it_soon_after(name="b", seconds=0.0)
        months.give_names_around(crash_at=None, first=("rename", "d"), name="a", second=("rename", "d"))
        months.edit(edit=("turn-names", 1), name="a")
        months.ask_again_and_crash_and_take_it_back_and_ask_once_more(crash_at=19, token="monday")

    played(steps, drain_s=200.0)


def test_a_record_that_is_dropped_takes_along_which_configs_have_run() -> None:
    def steps(months: Months) -> None:
        months.ask_for_reruns_and_go_back(first=1, name="a", second=0)
        months.forget(name="a")
        months.ask_for_reruns_and_go_back(first=0, name="a", second=0)

    played(steps)


def test_a_config_that_ran_before_its_record_was_dropped_may_ask_for_a_run() -> None:
    def steps(months: Months) -> None:
        months.apply(prune=False)
        months.ask_something_of_a_job_of_another_owner(edit=("config", 1))
        months.forget(name="a")
        months.ask_again(finish=False, token="monday")
        months.ask_for_reruns_and_go_back(first=0, name="a", second=0)

    played(steps, job_seconds=5000.0)


def test_a_run_that_ended_by_itself_though_its_abort_was_accepted_asks_for_no_other() -> None:
    def steps(months: Months) -> None:
        months.ask_again(finish=False, token="monday")
        months.edit_and_crash(crash_at=13, edit=("config", 1), name="a")
        months.ask_again_and_crash_and_take_it_back_and_ask_once_more(crash_at=0, token="monday")

    played(steps, cluster=True, atomic=False, creates=False, drain_s=200.0, stages=False, identity={})


PROMISES = [
    {"cluster": True, "atomic": atomic, "creates": creates, "reads": reads, "lists": lists, "stages": lists}
    for atomic in (False, True)
    for creates in (False, True)
    for reads in (False, True)
    for lists in (False, True)
]


@pytest.mark.parametrize("promises", PROMISES, ids=lambda one: " ".join(word for word in one if one[word]))
def test_a_cluster_runs_each_job_once_whatever_it_promises(promises: dict[str, bool]) -> None:
    def steps(months: Months) -> None:
        months.apply(prune=False)
        for fault in ("run:500", "run:500:after"):
            months.ask_again(finish=True, token=fault)
            months.edit_and_meet_a_fault(edit=("token", f"once more, {fault}"), fault=fault, name="a", skip=0, times=1)
            months.settle()
        months.ask_again_and_crash_and_take_it_back_and_ask_once_more(crash_at=9, token="monday")
        months.time_passes(seconds=50000.0)
        months.ask_for_reruns_and_go_back(first=1, name="a", second=2)
        months.roll_the_state_back(back=2, give_in=True, mark_lost=False)

    played(steps, keeps_ended_s=900.0, identity={"cluster": "one"}, **promises)


def test_the_end_of_a_run_of_another_owner_is_not_recorded() -> None:
    def steps(months: Months) -> None:
        months.ask_again(finish=False, token="monday")
        months.a_job_changes_its_owner(is_foreign=True, job_id="a1")

    played(steps, creates=True, cluster=True, identity={"cluster": "one"})


def test_a_job_of_a_cluster_that_was_never_run_is_deleted() -> None:
    played(lambda months: months.edit_and_apply(edit=("state", Desired.ABSENT), name="a"), cluster=True, atomic=False)


def test_a_run_id_is_free_again_once_the_job_is_deleted_and_all_that_knew_of_its_run_is_lost() -> None:
    def steps(months: Months) -> None:
        months.ask_for_reruns_and_go_back(first=0, name="a@a2", second=0)
        months.ask_again(finish=False, token="monday")
        months.settle()
        months.be_in_doubt_and_give_names_around_and_resolve(
            apply=False, crash_at=16, done=False, kind="500", name="a", naming=("rename", "d")
        )
        months.lose_the_state(journal_too=True)
        months.someone_else_acts(job_id="q1", verb=Verb.DELETE)

    played(steps, creates=True, cluster=True, atomic=True, keeps_ended_s=math.inf, stages=False, identity={})


def test_an_apply_that_records_something_is_followed_by_one_that_records_nothing() -> None:
    def steps(months: Months) -> None:
        months.apply(prune=False)
        months.ask_again(finish=False, token="monday")
        months.protect_then_say_no_more_of_it(edit=ABORT, name="a", prune=False)
        months.settle()

    played(steps, drain_s=200.0)


def test_a_call_in_doubt_is_not_settled_by_the_object_of_another_owner() -> None:
    def steps(months: Months) -> None:
        months.be_in_doubt_and_give_names_around_and_resolve(
            apply=False, crash_at=14, done=False, kind="500", name="a", naming=("id", 0)
        )
        months.ask_for_reruns_and_go_back(first=0, name="b", second=1)
        months.edit_and_crash(crash_at=19, edit=("swap-ids", ""), name="a")
        months.ask_something_of_a_job_of_another_owner(edit=ABORT)

    played(steps, creates=False, cluster=True, atomic=False, keeps_ended_s=math.inf, stages=False, identity={})


def test_a_run_in_doubt_whose_job_is_not_there_stays_in_doubt_until_a_person_settles_it() -> None:
    def steps(months: Months) -> None:
        months.give_names_around(crash_at=None, first=("rename", "d"), name="b@b1", second=("id", 1))
        months.edit_and_meet_a_fault(edit=RUN, fault="run:500", name="a", skip=0, times=1)

    cluster = {"creates": False, "cluster": True, "atomic": True, "keeps_ended_s": math.inf, "stages": False}
    played(steps, reads=False, **cluster, identity={})


def test_a_person_may_say_that_a_run_had_completed_whose_end_nobody_has_seen_after_an_abort() -> None:
    def steps(months: Months) -> None:
        months.ask_again(finish=False, token="tuesday")
        months.ask_again(finish=False, token="monday")
        months.ask_again(finish=True, token="tuesday")
        months.say_how_runs_ended_as_the_plan_says()

    cluster = {"creates": False, "cluster": True, "atomic": False, "keeps_ended_s": math.inf, "stages": False}
    played(steps, reads=False, drain_s=20.0, **cluster, identity={})


def test_a_run_in_doubt_whose_id_another_state_has_taken_leaves_a_state_that_can_be_read() -> None:
    def steps(months: Months) -> None:
        frozen = Freeze(reason="a freeze", until="", ends_at_s=math.inf, over=False)
        months.edit_and_meet_a_fault(edit=("freeze", frozen), fault="run:500", name="a", skip=0, times=1)
        months.give_names_around(crash_at=9, first=("rename", "d"), name="a", second=("rename", "d"))
        months.lose_the_state(journal_too=True)
        months.give_names_around(crash_at=9, first=("rename", "d"), name="a", second=("rename", "d"))

    cluster = {"creates": False, "cluster": True, "atomic": True, "keeps_ended_s": math.inf, "stages": False}
    played(steps, reads=False, job_seconds=30.0, **cluster, identity={})


def test_a_lost_state_is_accepted_with_what_its_history_tells_and_the_next_run_token_runs() -> None:
    def steps(months: Months) -> None:
        months.apply(prune=False)
        months.ask_again(finish=False, token="tuesday")
        for crash_at in (3, 7):
            months.be_in_doubt_and_give_names_around_and_resolve(
                apply=False, crash_at=crash_at, done=False, kind="500", name="a", naming=("rename", "d")
            )
        months.lose_the_state(journal_too=False)

    cluster = {"creates": False, "cluster": True, "atomic": True, "keeps_ended_s": math.inf, "stages": False}
    played(steps, reads=True, job_seconds=30.0, **cluster, identity={"cluster": "one"})


@pytest.mark.parametrize("create_missing", [False, True])
def test_a_job_that_never_ran_may_run_once_its_record_is_dropped_whatever_the_record_counted(
    create_missing: bool,
) -> None:
    def steps(months: Months) -> None:
        months.apply(prune=False)
        months.be_in_doubt_and_give_names_around_and_resolve(
            apply=False, crash_at=3, done=False, kind="500", name="a", naming=("rename", "d")
        )
        months.edit_and_be_told_nothing(
            after=False, body=b"{}", edit=("state", Desired.RUNNING), name="a", skip=0, verb=Verb.RUN
        )
        months.roll_the_state_back(back=2, give_in=False, mark_lost=True)
        months.apply(prune=False)
        months.forget(name="a")

    played(steps, reads=True, job_seconds=30.0, create_missing=create_missing)


def test_a_run_that_was_aborted_in_a_later_apply_need_not_be_the_recorded_one() -> None:
    def steps(months: Months) -> None:
        months.be_in_doubt_and_give_names_around_and_resolve(
            apply=False, crash_at=3, done=False, kind="500", name="a", naming=("id", 1)
        )
        months.pull_a_newer_state_under_an_apply(
            at=0, edit=("state", Desired.RUNNING), name="a", other="b", other_edit=("token", "friday")
        )
        months.be_in_doubt_and_give_names_around_and_resolve(
            apply=False, crash_at=3, done=False, kind="500", name="a", naming=("rename", "d")
        )

    cluster = {"creates": False, "cluster": True, "atomic": False, "keeps_ended_s": math.inf, "stages": False}
    played(steps, reads=False, job_seconds=30.0, **cluster, identity={"cluster": "one"})
