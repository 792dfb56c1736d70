"""What an apply records of the service and of its runs, and what that means for the commands that follow."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from cluster_world import CREATED, ClusterWorld, cluster_world
from reconciler.engines.sandbox.cluster import Lost
from reconciler.manifest.schema import schema_text
from reconciler.model.errors import ExitCode, OtherIdentity, Refused, Usage
from reconciler.model.jobs import Desired, Job, Marks, Status
from reconciler.model.outcomes import Outcome
from reconciler.model.plan_json import plan_digest, plan_from_json, plan_to_json
from reconciler.state.history import StoredHistory
from reconciler.usecases.drift import drift
from reconciler.usecases.resolve import resolve
from reconciler.usecases.selection import Selection
from reconciler.usecases.state import accept_identity, forget
from reconciler.usecases.status import status

A = Job("a", "a", Desired.RUNNING, {"text": "x"})
ONE, OTHER = {"cluster": "one", "namespace": "n1"}, {"cluster": "other", "namespace": "n1"}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterWorld]:
    with cluster_world(tmp_path, monkeypatch, identity=ONE) as made:
        made.cluster.create("a", "b")
        made.declare(A)
        yield made


def history(world: ClusterWorld) -> list[tuple[str, int, str]]:
    """The verb, the number of the run and the end of each entry."""
    content = (world.folder / "jobs.history.jsonl").read_bytes()
    return [(entry.verb, entry.run, entry.end) for entry in StoredHistory("x", content).entries]


# --- identity ------------------------------------------------------------------------------------------------------


def test_the_identity_of_the_service_is_recorded_before_the_first_call(world: ClusterWorld) -> None:
    world.cluster.faults.append(Lost.NOT_SENT)
    world.apply()
    assert world.state.identity == ONE


def test_a_plan_or_an_apply_that_calls_nothing_records_no_identity(world: ClusterWorld) -> None:
    world.declare()
    world.plan(refresh=True)
    world.apply()
    assert not (world.folder / "jobs.state.json").exists()


def test_an_apply_that_only_adopts_records_the_identity_that_it_saw(world: ClusterWorld) -> None:
    world.cluster.start("a", "somebody-s", Marks(), A.config)
    world.apply()
    assert [run.run_id for run in world.cluster.runs()] == ["somebody-s"]
    assert (world.state.identity, world.state.jobs["a"].ref) == (ONE, "uid-1")
    assert [verb for verb, *_ in history(world)] == ["adopt"]
    world.block["identity"] = OTHER
    world.declare(A._replace(run_token="t"))
    with pytest.raises(OtherIdentity):
        world.apply()


@pytest.mark.parametrize("command", ["apply", "plan", "drift", "status"])
def test_another_service_at_the_same_address_ends_each_command_before_any_call(
    command: str, world: ClusterWorld
) -> None:
    world.apply()
    world.block["identity"] = OTHER
    world.declare(A._replace(run_token="t"), Job("b", "b", Desired.RUNNING, {}))
    commands: dict[str, Callable[[], object]] = {
        "apply": world.apply,
        "plan": lambda: world.plan(refresh=True),
        "drift": lambda: drift(world.workspace, Selection(), 1),
        "status": lambda: status(world.workspace),
    }
    with pytest.raises(OtherIdentity, match="it is cluster other, and the state is for cluster one") as raised:
        commands[command]()
    assert raised.value.exit_code is ExitCode.ERROR
    assert "`reconciler state accept --identity`" in raised.value.hint
    assert [run.run_id for run in world.cluster.runs()] == ["a-1"]


def test_a_part_that_only_one_side_knows_is_not_compared_and_is_recorded_later(world: ClusterWorld) -> None:
    world.block["identity"] = {"namespace": "n1"}
    world.apply()
    world.block["identity"] = OTHER
    world.declare(A._replace(run_token="t"))
    assert world.apply().exit_code is ExitCode.DONE
    assert world.state.identity == OTHER
    world.block["identity"] = {}
    world.declare(A._replace(run_token="u"))
    assert world.apply().exit_code is ExitCode.DONE
    assert world.state.identity == OTHER


def test_a_service_that_was_rebuilt_on_purpose_is_accepted_by_name(world: ClusterWorld) -> None:
    world.apply()
    world.block["identity"] = OTHER
    assert accept_identity(world.workspace, 0.0) == ("cluster one", "cluster other")
    assert world.state.identity == OTHER
    assert world.apply().exit_code is ExitCode.DONE
    content = (world.folder / "jobs.history.jsonl").read_bytes()
    [entry] = [one for one in StoredHistory("x", content).entries if one.verb == "accept"]
    assert entry.reason == ("the service is cluster other, namespace n1 from now on, and was cluster one, namespace n1")
    assert accept_identity(world.workspace, 0.0) == ("cluster other, namespace n1",) * 2


def test_there_is_no_identity_to_accept_without_a_state_or_from_a_service_that_has_none(world: ClusterWorld) -> None:
    with pytest.raises(Usage, match="nothing was ever applied"):
        accept_identity(world.workspace, 0.0)
    world.apply()
    world.block["identity"] = {}
    with pytest.raises(Usage, match="has no identity that can be read"):
        accept_identity(world.workspace, 0.0)


# --- ends ----------------------------------------------------------------------------------------------------------


def test_an_apply_records_how_the_runs_ended_that_it_read(world: ClusterWorld) -> None:
    world.apply()
    world.cluster.end("a", Status.FAILED)
    world.declare(A._replace(run_token="t"))
    world.apply()
    assert history(world) == [("run", 1, ""), ("ended", 1, "failed"), ("run", 2, "")]
    record = world.state.jobs["a"]
    assert (record.run, record.end, record.ref) == (2, None, "uid-2")


def test_commands_that_only_read_write_nothing(world: ClusterWorld) -> None:
    world.apply()
    before = (world.folder / "jobs.state.json").read_bytes()
    world.cluster.end("a")
    world.plan(refresh=True)
    drift(world.workspace, Selection(), 1)
    status(world.workspace)
    assert (world.folder / "jobs.state.json").read_bytes() == before


def test_an_engine_that_never_forgets_leaves_no_time_in_the_state(world: ClusterWorld) -> None:
    world.apply()
    world.declare(A._replace(state=Desired.ABORTED))
    world.apply()
    assert world.state.jobs["a"].last_active == ""


def test_an_engine_that_forgets_is_judged_by_when_a_run_was_last_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cluster_world(tmp_path, monkeypatch, CREATED._replace(keeps_ended_s=300.0)) as world:
        world.cluster.create("a")
        world.declare(A)
        world.apply()
        record = world.state.jobs["a"]
        assert record.last_active.startswith("20")
        world.cluster.end("a")
        world.declare(A, Job("b", "b", Desired.RUNNING, {}, after=("a",)))
        world.cluster.create("b")
        world.apply()
        assert world.state.jobs["a"] == record._replace(end=Status.COMPLETE)


def test_the_end_of_a_run_that_someone_else_started_is_not_that_of_the_recorded_run(world: ClusterWorld) -> None:
    world.apply()
    world.cluster.end("a")
    run = world.cluster.runs("a")[0]
    world.cluster.start("a", "a-9", run.marks, run.config)
    world.cluster.end("a", Status.FAILED)
    world.declare(A._replace(state=Desired.ABORTED))
    world.apply()
    assert ("ended", 1, "failed") not in history(world)


# --- saved plans ---------------------------------------------------------------------------------------------------


def test_a_saved_plan_is_bound_to_the_records_and_not_to_the_ends_of_their_runs(world: ClusterWorld) -> None:
    b = Job("b", "b", Desired.RUNNING, {}, after=("a",))
    world.apply()
    world.declare(A, b)
    saved = world.plan()
    assert plan_from_json(plan_to_json(saved)) == saved
    world.cluster.end("a")
    world.cluster.create("c")
    world.declare(A, b._replace(id="c", name="c"))
    world.block["lost"] = Lost.NOT_SENT.value
    assert world.apply().exit_code is ExitCode.FAILED  # it has noted that the run of a ended, and nothing else
    del world.block["lost"]
    world.declare(A, b)
    assert world.state.jobs["a"].end is Status.COMPLETE
    assert world.state.serial > saved.serial
    again = world.plan()
    assert (again.records_digest, plan_digest(again)) == (saved.records_digest, plan_digest(saved))
    assert world.apply(saved).exit_code is ExitCode.DONE
    assert [run.run_id for run in world.cluster.runs("b")] == ["b-1"]


def test_a_saved_plan_keeps_what_the_observed_run_bears(world: ClusterWorld) -> None:
    world.apply()
    world.declare(A._replace(run_token="t"))
    saved = world.plan(refresh=True)
    document = plan_to_json(saved)
    Draft202012Validator(json.loads(schema_text("plan.schema.json"))).validate(document)
    seen = saved.observed["a"]
    assert (seen.run_id, seen.ref, seen.marks.lineage) == ("a-1", "uid-1", world.state.lineage)
    assert plan_from_json(json.loads(json.dumps(document))) == saved
    assert world.apply(plan_from_json(document)).exit_code is ExitCode.DONE
    assert [run.run_id for run in world.cluster.runs()] == ["a-1", "a-2"]


def test_a_saved_plan_is_stale_once_a_record_or_a_run_count_has_changed(world: ClusterWorld) -> None:
    world.apply()
    world.declare(A._replace(run_token="t"))
    saved = world.plan()
    forget(world.workspace, "a", 0.0)
    with pytest.raises(Refused, match="the plan was made from serial 1 of the state, which is at 2 now"):
        world.apply(saved)


def test_a_plan_shows_the_run_id_before_any_apply_and_is_the_same_for_the_same_state(world: ClusterWorld) -> None:
    first = world.plan()
    assert [call.text for call in first.actions[0].calls] == ["run a-1"]
    assert plan_to_json(world.plan()) == plan_to_json(first)
    world.apply(first)
    world.declare(A._replace(config={"text": "y"}))
    assert [call.text for call in world.plan().actions[0].calls] == ["abort a-1", "run a-2"]


# --- a run in doubt, through the whole command -----------------------------------------------------------------------


def test_a_run_in_doubt_is_asked_for_again_by_the_next_apply_without_waiting(world: ClusterWorld) -> None:
    world.block["lost"] = Lost.BEFORE.value  # the plugin opens a cluster of its own, which loses its first call
    world.block["promises"] = [*CREATED._replace(keeps_ended_s=0.0)]  # so that this apply does not ask again
    assert world.apply().exit_code is ExitCode.IN_DOUBT
    assert world.state.jobs["a"].doubt is not None
    del world.block["lost"]
    world.block["promises"] = [*CREATED]
    again = world.apply(settle_s=3600.0)
    assert again.exit_code is ExitCode.DONE
    assert "is sent again as a-1" in again.plan.actions[0].reason
    assert [run.run_id for run in world.cluster.runs()] == ["a-1"]
    assert world.state.last == {"a": 1}
    assert history(world) == [("run", 1, ""), ("run", 1, "")]


def test_a_run_in_doubt_that_the_engine_may_have_dropped_stays_in_doubt(world: ClusterWorld) -> None:
    world.block["lost"] = Lost.BEFORE.value
    world.block["promises"] = [*CREATED._replace(keeps_ended_s=0.0)]
    assert world.apply().exit_code is ExitCode.IN_DOUBT
    del world.block["lost"]
    assert world.apply().exit_code is ExitCode.IN_DOUBT
    assert world.cluster.runs() == []
    assert resolve(world.workspace, "a", False, "looked there", 0.0).startswith("a: run sent at")
    world.block["promises"] = [*CREATED]
    assert world.apply().exit_code is ExitCode.DONE
    assert [run.run_id for run in world.cluster.runs()] == ["a-1"]


def test_a_run_in_doubt_that_is_not_asked_for_any_more_takes_two_looks(world: ClusterWorld) -> None:
    world.block["lost"] = Lost.BEFORE.value
    world.block["promises"] = [*CREATED._replace(keeps_ended_s=0.0)]
    world.apply()
    del world.block["lost"]
    world.block["promises"] = [*CREATED]
    changed = A._replace(config={"text": "y"})
    world.declare(changed)
    applied = world.apply(settle_s=0.0)
    assert [outcome.outcome for outcome in applied.outcomes] == [Outcome.SUCCEEDED]
    assert any("1 in doubt: checking again" in remark for remark in world.remarks)
    assert [(run.run_id, run.config) for run in world.cluster.runs()] == [("a-1", {"text": "y"})]


def test_a_run_in_doubt_whose_turn_has_yet_to_come_is_settled_by_two_looks_and_waits(world: ClusterWorld) -> None:
    world.block["lost"] = Lost.BEFORE.value
    world.block["promises"] = [*CREATED._replace(keeps_ended_s=0.0)]
    world.apply()
    del world.block["lost"]
    world.block["promises"] = [*CREATED]
    world.declare(A._replace(after=("b",)), Job("b", "b", Desired.RUNNING, {}))
    applied = world.apply()
    assert {one.action.job: one.outcome for one in applied.outcomes} == {
        "a": Outcome.WAITING,
        "b": Outcome.SUCCEEDED,
    }
    assert "a" not in world.state.jobs
    world.cluster.end("b")
    assert world.apply().exit_code is ExitCode.DONE
    assert [run.run_id for run in world.cluster.runs("a")] == ["a-1"]


@pytest.mark.parametrize("word", [True, False])
def test_the_word_of_a_person_decides_whether_a_number_is_used(word: bool, world: ClusterWorld) -> None:
    world.block["lost"] = Lost.BEFORE.value
    world.block["promises"] = [*CREATED._replace(keeps_ended_s=0.0)]
    world.apply()
    resolve(world.workspace, "a", word, "", 0.0)
    assert world.state.last == ({"a": 1} if word else {})


# --- a state that was lost -------------------------------------------------------------------------------------------


def test_a_state_that_was_lost_counts_on_from_its_history(world: ClusterWorld) -> None:
    world.apply()
    world.cluster.forget("a")
    world.cluster.create("a")
    (world.folder / "jobs.state.json").unlink()
    with pytest.raises(Refused, match="the state is gone"):
        world.plan()
    world.state_url = str(world.folder / "jobs.state.json")
    planned = world.plan()
    assert [call.text for call in planned.actions[0].calls] == ["run a-2"]
    assert world.apply().exit_code is ExitCode.DONE
    assert [run.run_id for run in world.cluster.runs()] == ["a-1", "a-2"]
