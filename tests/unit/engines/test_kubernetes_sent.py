"""The annotation with the config of a Job, in which anybody may have written anything."""

import json
from typing import Any

import pytest

from reconciler.engines.kubernetes.faults import config_fault
from reconciler.engines.kubernetes.objects import job_object
from reconciler.engines.kubernetes.observations import observation
from reconciler.engines.kubernetes.sent import config_of
from reconciler.engines.port import Config, Marks, Status, Step, Verb

BAD = [
    "",
    "{",
    "3",
    "null",
    '{"image":3}',
    '{"env":3}',
    '{"env":{"A":{"x":1}}}',
    '{"abort":"x"}',
    '{"command":7}',
    '{"resources":{"cpu":"x"}}',
    '{"volumes":{"/a":null}}',
    '{"native":3,"job":5}',
    '{"native":{"spec":3}}',
    '{"native":{"spec":null}}',
    '{"native":{"$patch":"replace"}}',
    '{"native":{"metadata":{"labels":3}}}',
    '{"native":{"spec":{"template":{"spec":{"activeDeadlineSeconds":1e400}}}}}',
    '{"keepFor":1e400}',
    '{"keepFor":NaN}',
    '{"keepRuns":{"failed":-1}}',
    '{"retry":{"times":' + "9" * 5000 + "}}",
    '{"image":"\\ud800"}',
    '{"script":"\\u0000"}',
    '{"manifest":{"file":"../other.yaml"}}',
    '{"batch":"../other.sh"}',
    '{"native":' * 65 + "{}" + "}" * 65,
    '{"native":{"metadata":{"annotations":' * 300 + "{}" + "}}}" * 300,
    '{"native":' * 20_000 + "{}" + "}" * 20_000,
    '{"native":{"spec":' + "[" * 100_000,
]


def job(annotation: str) -> dict[str, Any]:
    marks = Marks("lineage-1", "op-1")
    made = job_object(Step(Verb.RUN, "a", "a-1", {"image": "x"}, marks=marks), "batch")
    made["metadata"] |= {"uid": "u", "annotations": {"reconciler/config": annotation}}
    return made


@pytest.mark.parametrize("annotation", BAD, ids=lambda text: text[:40])
def test_what_is_no_valid_config_is_none_and_the_job_tells_its_own(annotation: str) -> None:
    assert config_of(job(annotation)) is None
    found = observation(job(annotation), [])
    assert (found.status, found.config) == (Status.ACTIVE, {"image": "x"})


def test_a_quantity_beyond_all_bounds_is_a_text() -> None:
    amounts = {"requests": {"cpu": "1e999999999"}}
    native = {"spec": {"template": {"spec": {"containers": [{"name": "main", "resources": amounts}]}}}}
    found = config_of(job(json.dumps({"image": "x", "native": native})))
    assert found is not None
    assert found["image"] == "x"


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"native": {"spec": 3}}, "config.native.spec: expected a mapping"),
        (
            {"native": {"spec": {"template": None}}},
            "config.native.spec.template: each Job has one, and null takes it out",
        ),
        ({"native": {"spec": {"$patch": "replace"}}}, 'config.native.spec["$patch"] would take out what each Job has'),
        ({"native": {"metadata": {"labels": 3}}}, "config.native.metadata.labels: expected a mapping"),
        ({"job": {"spec": {"template": {"metadata": 3}}}}, "config.job.spec.template.metadata: expected a mapping"),
    ],
)
def test_a_part_that_no_job_can_have_is_refused(config: Config, fault: str) -> None:
    assert config_fault({"image": "x", **config}) == fault
