"""The Job of a config, and what is read back from a Job."""

from typing import Any

import pytest

from reconciler.engines.kubernetes.merging import merged
from reconciler.engines.kubernetes.objects import (
    SAME,
    config_of,
    difference,
    holds,
    job_object,
    marks_of,
    quantity,
    spec_of,
)
from reconciler.engines.port import Config, Marks, Step, Verb

CONFIG: Config = {"image": "busybox:1", "command": ["echo", "$(HOME)"]}


def made(config: Config, **marks: str) -> dict[str, Any]:
    step = Step(
        Verb.RUN, "nightly", "nightly-3", config, marks=Marks("lineage-1", "op-1", "c", "t", "commit")._replace(**marks)
    )
    return job_object(step, "batch")


def container(config: Config) -> dict[str, Any]:
    found: dict[str, Any] = spec_of(config)["spec"]["template"]["spec"]["containers"][0]
    return found


def test_a_run_is_one_job_of_its_name_that_bears_its_marks() -> None:
    job = made(CONFIG)
    assert (job["metadata"]["name"], job["metadata"]["namespace"]) == ("nightly-3", "batch")
    assert job["metadata"]["labels"] == job["spec"]["template"]["metadata"]["labels"]
    assert marks_of(job) == Marks("lineage-1", "op-1", "c", "t", "commit")
    assert config_of(job) == CONFIG
    assert (job["spec"]["backoffLimit"], job["spec"]["template"]["spec"]["restartPolicy"]) == (0, "Never")


@pytest.mark.parametrize(
    ("text", "literal"),
    [("$(A)", "$$(A)"), ("$$(A)", "$$$$(A)"), ("$A $1 $", "$A $1 $"), ("a$$", "a$$$"), ("$((1+1))", "$$((1+1))")],
)
def test_what_the_kubelet_would_expand_is_escaped(text: str, literal: str) -> None:
    assert container({"image": "x", "command": [text]})["command"] == [literal]
    assert container({"image": "x", "script": text})["command"] == ["/bin/sh", "-c", literal]
    assert container({"image": "x", "env": {"A": text}})["env"] == [{"name": "A", "value": literal}]


def test_secrets_are_named_and_not_read() -> None:
    env = container({"image": "x", "env": {"TOKEN": {"secret": "train/token"}}})["env"]
    assert env == [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "train", "key": "token"}}}]


def test_each_word_has_its_place_in_a_job() -> None:
    config: Config = {
        "image": "x",
        "workdir": "/w",
        "resources": {"cpu": 0.5, "memory": "4GiB", "gpu": 1},
        "jobTimeout": 60,
        "taskTimeout": 20,
        "abort": {"grace": 5},
        "serviceAccount": "trainer",
        "priorityClass": "low",
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "volumes": {"/data": {"persistentVolumeClaim": {"claimName": "data"}}, "/a": {"emptyDir": {}}},
    }
    spec = spec_of(config)["spec"]
    pod = spec["template"]["spec"]
    amounts = {"cpu": "500m", "memory": "4Gi", "nvidia.com/gpu": "1"}
    assert spec["activeDeadlineSeconds"] == 60
    assert pod == {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": 20,
        "terminationGracePeriodSeconds": 5,
        "serviceAccountName": "trainer",
        "priorityClassName": "low",
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "volumes": [
            {"name": "volume-1", "emptyDir": {}},
            {"name": "volume-2", "persistentVolumeClaim": {"claimName": "data"}},
        ],
        "containers": [
            {
                "name": "main",
                "image": "x",
                "workingDir": "/w",
                "resources": {"requests": amounts, "limits": amounts},
                "volumeMounts": [{"name": "volume-1", "mountPath": "/a"}, {"name": "volume-2", "mountPath": "/data"}],
            }
        ],
    }


def test_attempts_follow_failures_alone_and_a_drain_ends_a_run_unless_it_may_go_on() -> None:
    disruption = [{"type": "DisruptionTarget", "status": "True"}]
    assert "podFailurePolicy" not in spec_of(CONFIG)["spec"]
    retried = spec_of({**CONFIG, "retry": {"times": 2, "exitCodes": [75, 3]}})["spec"]
    assert retried["backoffLimit"] == 2
    assert retried["podReplacementPolicy"] == "Failed"
    assert retried["podFailurePolicy"]["rules"] == [
        {"action": "FailJob", "onPodConditions": disruption},
        {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "NotIn", "values": [3, 75]}},
    ]
    goes_on = spec_of({**CONFIG, "onDisruption": "continue"})["spec"]
    assert goes_on["podFailurePolicy"]["rules"] == [{"action": "Ignore", "onPodConditions": disruption}]
    assert goes_on["backoffLimit"] == 0


def test_native_is_merged_last_and_lists_by_their_keys() -> None:
    native = {
        "metadata": {"annotations": {"team": "media"}},
        "spec": {
            "template": {
                "spec": {
                    "containers": [
                        {"name": "main", "env": [{"name": "B", "value": "2"}], "imagePullPolicy": "Always"},
                        {"name": "sidecar", "image": "y"},
                    ]
                }
            }
        },
    }
    job = made({"image": "x", "env": {"A": "1"}, "native": native})
    assert job["metadata"]["annotations"]["team"] == "media"
    assert marks_of(job).op == "op-1"
    main, sidecar = job["spec"]["template"]["spec"]["containers"]
    assert main["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    assert (main["image"], main["imagePullPolicy"], sidecar["image"]) == ("x", "Always", "y")


def test_a_strategic_merge_deletes_and_replaces_where_the_patch_says_so() -> None:
    base = {"env": [{"name": "A"}, {"name": "B"}], "args": ["a", "b"], "keep": {"x": 1, "y": 2}}
    assert merged(base, {"env": [{"name": "A", "$patch": "delete"}]})["env"] == [{"name": "B"}]
    assert merged(base, {"env": [{"$patch": "replace"}, {"name": "C"}]})["env"] == [{"name": "C"}]
    assert merged(base, {"args": ["c"]})["args"] == ["c"]
    assert merged(base, {"keep": {"x": None}})["keep"] == {"y": 2}
    assert merged(base, {"keep": {"$patch": "replace", "z": 3}})["keep"] == {"z": 3}


def test_what_a_server_adds_is_no_drift_and_what_it_changes_is() -> None:
    config: Config = {"image": "x", "resources": {"cpu": 2, "memory": "1024MiB"}, "env": {"A": "1"}}
    job = made(config)
    main = job["spec"]["template"]["spec"]["containers"][0]
    main["resources"]["limits"] = {"cpu": "2", "memory": "1Gi"}
    main["terminationMessagePath"] = "/dev/termination-log"
    job["spec"]["completions"] = 1
    assert config_of(job) == config
    main["image"] = "mirror.example/x"
    changed = config_of(job)
    assert changed is not None
    assert changed != config
    assert "mirror.example/x" in str(changed["native"])


def test_a_job_of_a_list_which_has_no_kind_has_the_config_that_was_sent() -> None:
    job = made(CONFIG)
    del job["apiVersion"], job["kind"]
    assert config_of(job) == CONFIG


@pytest.mark.parametrize(
    ("there", "sent", "found"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, SAME),
        ({"a": 1}, {"a": 2}, {"a": 1}),
        ({}, {"a": 2}, {"a": None}),
        ({}, {"a": {}}, SAME),
        ({"a": True}, {"a": 1}, {"a": True}),
        ({"a": [1, {"x": 1, "y": 2}]}, {"a": [1, {"x": 1}]}, SAME),
        ({"a": [1]}, {"a": [1, 2]}, {"a": [1]}),
    ],
)
def test_a_difference_is_told_in_the_form_of_what_was_sent(there: Any, sent: Any, found: Any) -> None:
    assert difference(there, sent) == found
    assert holds(there, sent) == (found is SAME)


@pytest.mark.parametrize(
    ("a", "b"), [("2000m", "2"), ("1024Mi", "1Gi"), ("1e3", "1k"), ("0.5", "500m"), ("1048576", "1Mi")]
)
def test_quantities_are_compared_as_numbers(a: str, b: str) -> None:
    assert quantity(a) == quantity(b)
    assert quantity(a) != quantity("7")


def test_a_job_of_somebody_else_has_no_marks_and_no_config() -> None:
    job = {"metadata": {"name": "theirs"}, "spec": {}}
    assert marks_of(job) == Marks()
    assert config_of(job) is None
