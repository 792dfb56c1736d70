"""Files whose configs nest: laying them out, editing them and taking their digest keep each value as it is."""

import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from json_configs import configs, reordered, text_of
from manifests import MARK, Written, manifests
from nested_engine import NestedEngine
from reconciler.manifest import Manifest
from reconciler.manifest.edit import add_jobs, set_field
from reconciler.manifest.engine_schemas import schemas_of
from reconciler.manifest.faults import job_fault, job_fields
from reconciler.manifest.layout import canonical, flow
from reconciler.manifest.parse import parse
from reconciler.manifest.schema import Validator, schema_text
from reconciler.model.jobs import Job, Observation, Status, Target, Verb
from reconciler.model.json_values import same_json
from reconciler.model.plan import Action, ActionKind, Plan, Request
from reconciler.model.plan_json import plan_digest, plan_from_json, plan_to_json
from reconciler.rules.adoption import Candidate, adopt, with_empty_plan
from reconciler.rules.configs import config_changes


class AnyEngine(NestedEngine):
    """An engine that takes each config and each id."""

    def job_fault(self, job: Job) -> str:
        return ""


ANY = AnyEngine({"type": "object"})
TARGET = {"engine": "batch", "cluster": "east"}
HEAD = "apiVersion: reconciler/v1\ntarget: {engine: batch, cluster: east}\n"
FILES = manifests(TARGET, configs)


def manifest(source: bytes) -> Manifest:
    return parse([("f", source)], lambda name: ANY)


def configs_of(made: Manifest) -> dict[str, str]:
    return {name: text_of(job.config) for name, job in made.jobs.items()}


def with_defaults(written: Written) -> dict[str, str]:
    """What each job's config is to be, by a merge of the test's own."""

    def over(under: Any, own: Any) -> Any:
        if not (isinstance(under, dict) and isinstance(own, dict)):
            return own
        return under | {key: over(under.get(key), value) for key, value in own.items()}

    defaults = written.value.get("defaults", {}).get("config", {})
    return {name: text_of(over(defaults, job.get("config", {}))) for name, job in written.value["jobs"].items()}


@given(FILES)
@settings(max_examples=80, deadline=None)
def test_a_file_means_what_is_written_and_its_layout_means_the_same(written: Written) -> None:
    before = manifest(written.source)
    assert configs_of(before) == with_defaults(written)
    made = canonical(written.source, "f", schemas_of(ANY).whole)
    after = manifest(made)
    assert (after.digest, configs_of(after)) == (before.digest, configs_of(before))
    assert canonical(made, "f", schemas_of(ANY).whole) == made
    assert sorted(MARK.findall(made.decode())) == sorted(MARK.findall(written.source.decode()))


@given(FILES, configs, st.data())
@settings(max_examples=80, deadline=None)
def test_an_edit_adds_any_config_and_leaves_the_others(written: Written, config: Any, data: st.DataObject) -> None:
    before = manifest(written.source)
    made = add_jobs(written.source, "f", {"new one": {"id": "new-1", "state": "running", "config": config}})
    alone = Written(b"", {**written.value, "jobs": {"new one": {"config": config}}})
    assert configs_of(manifest(made)) == {**configs_of(before), **with_defaults(alone)}
    job = data.draw(st.sampled_from(sorted(written.value["jobs"])))
    assert configs_of(manifest(set_field(made, "f", job, "runToken", "2", job_fields()))) == configs_of(manifest(made))


@given(configs)
@settings(deadline=None)
def test_the_digest_knows_no_order_of_keys(config: Any) -> None:
    one, other = (
        manifest(f"{HEAD}jobs:\n  a: {{state: running, config: {flow(value)}}}\n".encode())
        for value in (config, reordered(config))
    )
    assert one.digest == other.digest
    assert repr(one.jobs["a"].config) == repr(other.jobs["a"].config)


def test_one_true_and_one_point_zero_are_three_configs_with_three_digests() -> None:
    made = [
        manifest(f"{HEAD}jobs: {{a: {{state: running, config: {{count: {n}}}}}}}".encode()) for n in (1, "true", "1.0")
    ]
    assert len({one.digest for one in made}) == 3
    jobs = "".join(
        f"  j{at}: {{state: running, config: {{count: {n}}}}}\n" for at, n in enumerate(("1", "true", "1.0"))
    )
    together = manifest(f"{HEAD}jobs:\n{jobs}".encode())
    assert [repr(job.config["count"]) for job in together.jobs.values()] == ["1", "True", "1.0"]


@pytest.mark.parametrize("engine", ["batch", "sandbox"])
def test_a_reference_to_a_secret_is_a_mapping_and_nothing_more(engine: str) -> None:
    secret = {"env": {"TOKEN": {"secret": "${HOME}/$(id)"}}}
    made = manifest(f"{HEAD}jobs: {{a: {{state: running, config: {flow(secret)}}}}}".encode())
    assert made.jobs["a"].config == secret


def test_a_long_config_is_added_as_a_block_which_the_layout_leaves_as_it_is() -> None:
    long = {
        "command": ["python", "x" * 60, "y" * 60],
        "env": {"A": "z" * 90, "B": {"c": [1, True, None]}},
        "count": 1.0,
    }
    made = add_jobs((HEAD + "jobs: {}\n").encode(), "f", {"a": {"state": "running", "config": long}})
    assert made.decode() == (
        f"{HEAD}jobs:\n  a:\n    state: running\n    config:\n      command:\n        - python\n"
        f"        - {'x' * 60}\n        - {'y' * 60}\n"
        f"      env:\n        A: {'z' * 90}\n        B: {{c: [1, true, null]}}\n      count: 1.0\n"
    )
    assert canonical(made, "f", schemas_of(ANY).whole) == made
    assert json.loads(text_of(manifest(made).jobs["a"].config)) == long


@given(configs)
@settings(deadline=None)
def test_an_imported_job_is_declared_with_the_config_that_it_has(config: Any) -> None:
    observed = Observation(Status.ACTIVE, "RUNNING", config)
    found = [Candidate("nightly", "nightly-1", observed)]
    [adopted], left = adopt(found, {}, {}, partial(job_fault, engine=ANY), same_json)
    assert left == []
    made = manifest(add_jobs((HEAD + "jobs: {}\n").encode(), "f", {adopted.name: adopted.fields}))
    assert configs_of(made) == {"nightly": text_of(config)} == {"nightly": text_of(adopted.record.config)}
    assert with_empty_plan(adopted, made.jobs["nightly"], same_json) == adopted


def test_a_job_whose_config_the_engine_does_not_take_is_not_imported() -> None:
    found = [Candidate("a", "a", Observation(Status.ACTIVE, "RUNNING", {"command": ["x"], "env": {"A": 1}}))]
    adopted, [left] = adopt(found, {}, {}, partial(job_fault, engine=NestedEngine()), same_json)
    assert adopted == []
    assert left.why == "config.env.A: expected text or a mapping, found 1: put it in quotes"


@given(configs, configs)
@settings(deadline=None)
def test_a_plan_comes_back_from_its_json_as_it_was(before: Any, after: Any) -> None:
    changes = config_changes(before, after, same_json)
    action = Action("a", "a", ActionKind.RUN, "why", changes, (Request(Verb.RUN, "run a", after),))
    observed = {"a": Observation(Status.ACTIVE, "RUNNING", before)}
    plan = Plan(Target("batch", "east"), "lineage", 1, f"sha256:{'0' * 64}", None, ("f",), (action,), observed=observed)
    text = json.dumps(plan_to_json(plan))
    schema = Validator(json.loads(schema_text("plan.schema.json")))
    assert list(schema.refusals(json.loads(text))) == []
    again = plan_from_json(json.loads(text))
    assert json.dumps(plan_to_json(again)) == text
    assert repr(again.actions[0].changes) == repr(changes)
    other = plan._replace(actions=(action._replace(calls=(Request(Verb.RUN, "run a", reordered(after)),)),))
    assert plan_digest(other) == plan_digest(plan)
