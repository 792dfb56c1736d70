"""The Job of a config, and what is read back from a Job."""

import copy
from typing import Any

import pytest

from reconciler.engines.kubernetes.differences import SAME, difference, holds, quantity
from reconciler.engines.kubernetes.faults import config_fault, image_fault, too_old, warnings_of
from reconciler.engines.kubernetes.merging import merged
from reconciler.engines.kubernetes.objects import job_object, marks_of, spec_of
from reconciler.engines.kubernetes.plugin import PLUGIN
from reconciler.engines.kubernetes.sent import config_of
from reconciler.engines.kubernetes.settings import UNKNOWN
from reconciler.engines.port import Config, Marks, Step, Verb
from reconciler.manifest.schema import Validator

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
    assert retried["podFailurePolicy"]["rules"] == [
        {"action": "FailJob", "onPodConditions": disruption},
        {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "NotIn", "values": [3, 75]}},
    ]
    goes_on = spec_of({**CONFIG, "onDisruption": "continue"})["spec"]
    assert goes_on["podFailurePolicy"]["rules"] == [{"action": "Ignore", "onPodConditions": disruption}]
    assert (goes_on["backoffLimit"], goes_on["podReplacementPolicy"]) == (0, "Failed")
    assert "podFailurePolicy" not in spec_of({"job": CHART})["spec"]
    ended = spec_of({"job": CHART, "onDisruption": "fail"})["spec"]
    assert ended["podFailurePolicy"]["rules"] == [{"action": "FailJob", "onPodConditions": disruption}]


def test_native_is_merged_last_and_lists_by_their_keys() -> None:
    native: dict[str, Any] = {
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
    assert config_of(job) == {**config, "image": "mirror.example/x"}
    main["env"] = [{"name": "A", "value": "2"}]
    native = {"spec": {"template": {"spec": {"containers": [{"name": "main", "env": [{"name": "A", "value": "2"}]}]}}}}
    assert config_of(job) == {**config, "image": "mirror.example/x", "native": native}


def test_a_difference_is_told_in_the_word_that_the_manifest_has() -> None:
    config: Config = {"image": "x", "jobTimeout": 900, "queue": "q"}
    job = made(config)
    job["spec"]["activeDeadlineSeconds"] = 1200
    assert config_of(job) == {**config, "jobTimeout": 1200}
    del job["spec"]["activeDeadlineSeconds"]
    job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "p"
    assert config_of(job) == {"image": "x", "queue": "p"}
    # What `native` sets in the place of a word is as it was sent.
    native: Any = {"spec": {"parallelism": 2, "template": {"spec": {"serviceAccountName": "a"}}}}
    job = made({"image": "x", "serviceAccount": "b", "native": native})
    job["spec"]["parallelism"] = 0
    found: Any = config_of(job)
    assert (found["serviceAccount"], found["native"]["spec"]["parallelism"]) == ("b", 0)
    job = made({"job": {**CHART, "spec": {**CHART["spec"], "parallelism": 2}}})
    job["spec"]["parallelism"] = 0
    found = config_of(job)
    assert (list(found), found["job"]["spec"]["parallelism"]) == (["job"], 0)


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


# --- the manifest of a Job ---------------------------------------------------------------------------------------

CHART: dict[str, Any] = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "migrate", "labels": {"app": "shop"}, "creationTimestamp": None},
    "spec": {
        "ttlSecondsAfterFinished": 60,
        "template": {
            "spec": {
                "restartPolicy": "OnFailure",
                "containers": [{"name": "migrate", "image": "shop:1"}, {"name": "proxy", "image": "proxy:1"}],
            }
        },
    },
}


def test_the_job_of_a_manifest_is_taken_as_it_is_but_for_its_names_and_its_ttl() -> None:
    spec = dict(CHART["spec"])
    del spec["ttlSecondsAfterFinished"]
    assert spec_of({"job": CHART}) == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"labels": {"app": "shop"}},
        "spec": spec,
    }
    assert made({"job": CHART})["metadata"]["name"] == "nightly-3"


def test_a_rendered_chart_is_taken_and_its_manager_is_left_out() -> None:
    chart: Any = copy.deepcopy(CHART)
    chart["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "Helm"
    chart["spec"]["template"]["metadata"] = {"labels": {"app.kubernetes.io/managed-by": "Helm", "tier": "db"}}
    assert config_fault({"job": chart, "keepFor": 60}) == ""
    sent = made({"job": chart})
    for metadata in (sent["metadata"], sent["spec"]["template"]["metadata"]):
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "reconciler"
    assert (sent["metadata"]["labels"]["app"], sent["spec"]["template"]["metadata"]["labels"]["tier"]) == ("shop", "db")
    assert config_of(sent) == {"job": chart}
    del chart["metadata"]["labels"]["app.kubernetes.io/managed-by"]
    chart["metadata"]["labels"]["reconciler/job"] = "a"
    assert 'config.job.metadata.labels["reconciler/job"] is reconciler\'s own' in config_fault({"job": chart})


def test_the_other_words_change_the_first_container_of_a_manifest_or_the_one_that_is_named() -> None:
    containers = spec_of({"job": CHART, "image": "shop:2"})["spec"]["template"]["spec"]["containers"]
    assert containers == [{"name": "migrate", "image": "shop:2"}, {"name": "proxy", "image": "proxy:1"}]
    containers = spec_of({"job": CHART, "image": "p:2", "container": "proxy"})["spec"]["template"]["spec"]["containers"]
    assert containers == [{"name": "migrate", "image": "shop:1"}, {"name": "proxy", "image": "p:2"}]
    assert spec_of({"job": CHART, "retry": {"times": 0}})["spec"]["backoffLimit"] == 0


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"image": "x", "native": {"metadata": {"name": "mine"}}}, "config.native.metadata.name is reconciler's own"),
        ({"image": "x", "native": {"spec": {"backoffLimit": 3}}}, "write `retry: {times: N}`"),
        ({"image": "x", "native": {"spec": {"backoffLimit": 0}}}, "write `retry: {times: N}`"),
        ({"image": "x", "native": {"spec": {"suspend": False}}}, "spec.suspend is reconciler's own"),
        ({"image": "x", "native": {"spec": {"template": {"spec": {"restartPolicy": "Always"}}}}}, "write `retry`"),
        ({"image": "x", "native": {"kind": "Pod"}}, "kind is Job, and nothing else"),
        (
            {"image": "x", "native": {"metadata": {"labels": {"reconciler/job": "b"}}}},
            'labels["reconciler/job"] is reconciler',
        ),
        (
            {"image": "x", "native": {"spec": {"template": {"metadata": {"labels": {"reconciler/lineage": "b"}}}}}},
            'template.metadata.labels["reconciler/lineage"] is reconciler',
        ),
        ({"image": "x", "native": {"metadata": {"labels": {"kueue.x-k8s.io/queue-name": "q"}}}}, "write `queue`"),
        ({"job": {**CHART, "kind": "Pod"}}, "expected a Job of batch/v1, and found a Pod"),
        ({"job": {**CHART, "spec": {**CHART["spec"], "selector": {}}}}, "take the Job before it was in a cluster"),
        ({"job": {**CHART, "spec": {**CHART["spec"], "suspend": True}}}, "no queue starts it"),
        ({"job": {**CHART, "spec": {}}}, "the Job has no containers"),
        ({"job": CHART}, "the Job has spec.ttlSecondsAfterFinished: write `keepFor: 60`"),
        ({"job": CHART, "keepFor": 60, "container": "main"}, "the Job has no container main: it has migrate, proxy"),
    ],
)
def test_what_is_the_clusters_or_ours_is_refused(config: Config, fault: str) -> None:
    assert fault in config_fault(config)


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"image": "x", "env": {"A": "half\ud800"}}, "half of a surrogate pair"),
        ({"image": "x", "env": {"\udfff": "a"}}, "half of a surrogate pair"),
        ({"image": "x", "command": ["a", "b\0"]}, "a NUL"),
        ({"image": "x", "native": {"spec": {"template": {"spec": {"hostname": "\0"}}}}}, "a NUL"),
    ],
)
def test_a_text_that_no_container_gets_as_it_is_is_refused(config: Config, fault: str) -> None:
    assert fault in config_fault(config)


@pytest.mark.parametrize("field", ["job", "native"])
def test_a_job_that_would_never_start_a_pod_is_refused(field: str) -> None:
    job = {**CHART, "spec": {**CHART["spec"], "ttlSecondsAfterFinished": None, "parallelism": 0}}
    config: Config = {"job": job} if field == "job" else {"image": "x", "native": {"spec": {"parallelism": 0}}}
    assert "the Job has spec.parallelism 0, with which no pod is ever started" in config_fault(config)
    assert config_fault({**config, "native": {"spec": {"parallelism": 1}}}) == ""


def test_other_fields_of_native_are_taken() -> None:
    native: dict[str, Any] = {"metadata": {"labels": {"team": "a"}}, "spec": {"parallelism": 4, "completions": 8}}
    assert config_fault({"image": "x", "native": native}) == ""
    assert config_fault({"job": CHART, "keepFor": 60}) == config_fault({}) == ""


@pytest.mark.parametrize(
    ("config", "version", "needed"),
    [
        ({"image": "x", "queue": "q"}, (1, 21), "`queue` needs 1.22"),
        ({"image": "x", "retry": {"times": 2}}, (1, 25), "`retry` needs 1.26"),
        ({"image": "x", "onDisruption": "continue"}, (1, 28), "`onDisruption: continue` needs 1.29"),
        ({"image": "x", "onDisruption": "continue"}, (1, 20), "`onDisruption: continue` needs 1.29"),
        (
            {"image": "x", "retry": {"times": 2}, "onDisruption": "continue"},
            (1, 20),
            "`retry` needs 1.26 and `onDisruption: continue` needs 1.29",
        ),
        ({"job": CHART, "onDisruption": "fail"}, (1, 20), "`onDisruption: fail` needs 1.26"),
        ({"image": "x", "native": {"spec": {"podReplacementPolicy": "Failed"}}}, (1, 20), "`native` needs 1.29"),
    ],
)
def test_a_server_that_would_drop_a_field_is_too_old(config: Config, version: tuple[int, int], needed: str) -> None:
    assert too_old(config, spec_of(config), version).endswith(f"without a word: {needed}")
    assert too_old(config, spec_of(config), (1, 29)) == ""
    assert too_old({}, spec_of({"image": "x"}), (1, 20)) == ""
    assert too_old(config, spec_of(config), UNKNOWN).startswith(
        "the server does not tell its version, and may drop spec."
    )


def test_what_ends_or_repeats_a_run_without_anybody_asking_is_told() -> None:
    configs: dict[str, Config] = {
        "a": {"image": "x"},
        "b": {"image": "x", "onDisruption": "continue"},
        "c": {"job": CHART},
        "d": {"job": CHART, "retry": {"times": 0}, "namespace": "other"},
    }
    drain, again, elsewhere = warnings_of(configs, "batch")
    assert drain.endswith("(onDisruption: fail): a, d")
    assert again.endswith(": c (6)")
    assert elsewhere == "d is for the namespace other, and the target is batch: its run will be refused"
    assert len(list(warnings_of({"d": configs["d"]}, ""))) == 1


@pytest.mark.parametrize("chosen", ["fail", "continue"])
def test_whoever_has_written_what_a_drain_does_is_not_warned_of_it(chosen: str) -> None:
    assert list(warnings_of({"a": {"image": "x", "onDisruption": chosen}}, "")) == []


def test_a_container_without_an_image_is_named() -> None:
    misspelt: Any = {"spec": {"template": {"spec": {"containers": [{"name": "mian", "tty": True}]}}}}
    assert image_fault({"image": "x", "native": misspelt}) == (
        'the container mian has no image: "image" is that of the container main, and each further container has its own'
    )
    assert "needs a config with" in image_fault({"command": ["true"]})
    assert image_fault({"image": "x"}) == image_fault({"job": CHART}) == ""


def test_a_word_of_kubernetes_is_answered_with_the_word_to_write() -> None:
    schema = PLUGIN.config_schema
    words = dict(schema["otherWords"])
    assert not words.keys() & schema["properties"].keys()
    found = {path[-1]: message for path, _, message in Validator(schema).refusals(dict.fromkeys(words, 1))}
    assert found == {word: f'unknown field "{word}": {told}' for word, told in words.items()}
    assert "write `retry: {times: N}`" in found["backoffLimit"]


# --- what others add ---------------------------------------------------------------------------------------------


def test_what_webhooks_and_kueue_add_is_no_difference() -> None:
    sent = made({"image": "x", "tolerations": [{"key": "a"}], "queue": "q", "volumes": {"/d": {"emptyDir": {}}}})
    there = copy.deepcopy(sent)
    pod = there["spec"]["template"]["spec"]
    pod["containers"].insert(0, {"name": "istio-proxy", "image": "istio"})
    pod["containers"][1]["env"] = [{"name": "INJECTED", "value": "1"}]
    pod["tolerations"] = [{"key": "flavor", "operator": "Exists"}, {"key": "a", "operator": "Equal"}]
    pod["nodeSelector"] = {"flavor": "a100"}
    pod["volumes"].append({"name": "token"})
    there["spec"]["suspend"] = False
    assert config_of(there) == config_of(sent)
    pod["containers"][1]["image"] = "y"
    assert config_of(there) != config_of(sent)


def test_what_a_server_leaves_out_is_no_difference() -> None:
    sent = {"a": "", "b": {}, "c": [], "d": False, "e": {"env": [{"name": "A", "value": ""}]}}
    assert holds({"e": {"env": [{"name": "A"}]}}, sent)
    assert difference({}, {"a": 0}) == {"a": None}


def test_the_deadline_of_an_abort_is_no_difference() -> None:
    there = made({"image": "x", "jobTimeout": 60})
    there["spec"]["activeDeadlineSeconds"] = 1
    assert config_of(there) != {"image": "x", "jobTimeout": 60}
    there["metadata"]["annotations"]["reconciler/abort-op"] = "op"
    assert config_of(there) == {"image": "x", "jobTimeout": 60}


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({}, "kubernetes at the current context"),
        ({"context": "prod"}, "kubernetes at prod"),
        ({"context": "prod", "namespace": "batch"}, "kubernetes at prod/batch"),
    ],
)
def test_a_target_says_which_cluster_and_namespace_are_meant(block: dict[str, Any], words: str) -> None:
    assert str(PLUGIN.target({"engine": "kubernetes", **block}, ".")) == words


@pytest.mark.parametrize("text", ["half\ud800", "escaped:%41", "\ud83d\ude00 \u202e\n", "🙂 50%", ""])
def test_a_mark_of_any_text_is_an_annotation_that_every_server_can_hold(text: str) -> None:
    job = made(CONFIG, op=text, commit=text)
    assert all(value.encode() for value in job["metadata"]["annotations"].values())
    assert (marks_of(job).op, marks_of(job).commit) == (text, text)


@pytest.mark.parametrize("annotation", ["escaped:%ff", "escaped", "100%25"])
def test_an_annotation_that_holds_no_escaped_mark_is_the_mark_itself(annotation: str) -> None:
    job = made(CONFIG)
    job["metadata"]["annotations"]["reconciler/op"] = annotation
    assert marks_of(job).op == annotation
