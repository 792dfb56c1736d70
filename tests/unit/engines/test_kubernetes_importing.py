"""A Job that another program made, in the words of a manifest. The Jobs are as a server holds them."""

from collections.abc import Mapping
from typing import Any

import pytest

from reconciler.engines.kubernetes.differences import difference
from reconciler.engines.kubernetes.importing import config_from, owner_of
from reconciler.engines.kubernetes.objects import spec_of
from reconciler.engines.kubernetes.plugin import PLUGIN
from reconciler.manifest.faults import job_fault
from reconciler.model.jobs import Desired, Job

_UID = "5b9a1f3c-0000-4000-8000-000000000001"
_MARKS = {"controller-uid": _UID, "job-name": "report"}


def held(
    container: Mapping[str, Any],
    pod: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A Job as a server holds it, with the defaults that the server adds."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "report", "uid": _UID, "creationTimestamp": "2026-11-29T08:00:00Z", **(metadata or {})},
        "spec": {
            "parallelism": 1,
            "completions": 1,
            "completionMode": "NonIndexed",
            "backoffLimit": 6,
            "suspend": False,
            "selector": {"matchLabels": {"controller-uid": _UID}},
            **(spec or {}),
            "template": {
                "metadata": {"creationTimestamp": None, "labels": _MARKS},
                "spec": {
                    "restartPolicy": "Never",
                    "dnsPolicy": "ClusterFirst",
                    "schedulerName": "default-scheduler",
                    "securityContext": {},
                    "terminationGracePeriodSeconds": 30,
                    "containers": [_default(container)],
                    **(pod or {}),
                },
            },
        },
        "status": {"succeeded": 1},
    }


def _default(container: Mapping[str, Any]) -> dict[str, Any]:
    has_tag = ":" in container.get("image", "")
    return {
        "name": "main",
        "imagePullPolicy": "IfNotPresent" if has_tag else "Always",
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        **container,
    }


def retries(times: int = 6, name: str = "main", policy: str = "Never") -> dict[str, Any]:
    """The word of a config for attempts. The default of Kubernetes is six retries, and that of a config is none."""
    pod = {"restartPolicy": policy, "containers": [{"name": name}]}
    return {"apiVersion": "batch/v1", "kind": "Job", "spec": {"backoffLimit": times, "template": {"spec": pod}}}


CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("an image alone", held({"image": "org/report:v3"}), {"image": "org/report:v3", "job": retries()}),
    (
        "a command, an environment and amounts",
        held(
            {
                "image": "org/report@sha256:aa",
                "command": ["python", "report.py", "$$(literal) $5"],
                "workingDir": "/srv",
                "env": [
                    {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "report", "key": "token"}}},
                    {"name": "LEVEL", "value": "3"},
                    {"name": "EMPTY"},
                ],
                "resources": {
                    "requests": {"cpu": "500m", "memory": "1Gi"},
                    "limits": {"cpu": "0.5", "memory": "1024Mi", "nvidia.com/gpu": "2"},
                },
            },
            spec={"backoffLimit": 0},
        ),
        {
            "image": "org/report@sha256:aa",
            "command": ["python", "report.py", "$(literal) $5"],
            "workdir": "/srv",
            "env": {"TOKEN": {"secret": "report/token"}, "LEVEL": "3", "EMPTY": ""},
            "resources": {"cpu": 0.5, "memory": "1GiB", "gpu": 2},
        },
    ),
    (
        "a script, timeouts and where the pods run",
        held(
            {"image": "busybox:1", "command": ["/bin/sh", "-c", "echo hello"]},
            {
                "activeDeadlineSeconds": 60,
                "terminationGracePeriodSeconds": 5,
                "serviceAccountName": "reporter",
                "serviceAccount": "reporter",
                "priorityClassName": "low",
                "nodeSelector": {"pool": "batch"},
                "tolerations": [{"key": "batch", "operator": "Exists"}],
            },
            {"backoffLimit": 0, "activeDeadlineSeconds": 3600, "ttlSecondsAfterFinished": 100},
        ),
        {
            "image": "busybox:1",
            "script": "echo hello",
            "taskTimeout": 60,
            "jobTimeout": 3600,
            "abort": {"grace": 5},
            "keepFor": 100,
            "serviceAccount": "reporter",
            "priorityClass": "low",
            "nodeSelector": {"pool": "batch"},
            "tolerations": [{"key": "batch", "operator": "Exists"}],
        },
    ),
    (
        "volumes, of which the word says those that are mounted whole",
        held(
            {
                "image": "a:1",
                "volumeMounts": [
                    {"name": "data", "mountPath": "/data"},
                    {"name": "settings", "mountPath": "/etc/app", "readOnly": True},
                ],
            },
            {
                "volumes": [
                    {"name": "settings", "configMap": {"name": "app", "defaultMode": 420}},
                    {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
                ]
            },
            {"backoffLimit": 0},
        ),
        {
            "image": "a:1",
            "volumes": {"/data": {"persistentVolumeClaim": {"claimName": "data"}}},
            "native": {
                "spec": {
                    "template": {
                        "spec": {
                            "containers": [
                                {
                                    "name": "main",
                                    "volumeMounts": [{"name": "settings", "mountPath": "/etc/app", "readOnly": True}],
                                }
                            ],
                            "volumes": [{"name": "settings", "configMap": {"name": "app"}}],
                        }
                    }
                }
            },
        },
    ),
    (
        "a variable that refers to another one, whose order counts",
        held({"image": "a:1", "env": [{"name": "B", "value": "1"}, {"name": "A", "value": "$(B)"}]}),
        {
            "image": "a:1",
            "job": retries(),
            "native": {
                "spec": {
                    "template": {
                        "spec": {
                            "containers": [
                                {"name": "main", "env": [{"name": "B", "value": "1"}, {"name": "A", "value": "$(B)"}]}
                            ]
                        }
                    },
                }
            },
        },
    ),
    (
        "arguments, a second container, another name, labels, several pods",
        held(
            {"name": "job", "image": "a", "args": ["x"]},
            {"containers": [_default({"name": "job", "image": "a", "args": ["x"]}),
                            _default({"name": "proxy", "image": "p:1"})],
             "restartPolicy": "OnFailure"},
            {"parallelism": 2, "completions": 4, "backoffLimit": 0},
            {"labels": {"team": "media", "job-name": "report", "app.kubernetes.io/managed-by": "Helm"},
             "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}},
        ),
        {
            "image": "a",
            "job": retries(0, "job", "OnFailure"),
            "native": {
                "metadata": {"labels": {"team": "media"}},
                "spec": {
                    "parallelism": 2,
                    "completions": 4,
                    "template": {
                        "spec": {
                            "containers": [{"name": "job", "args": ["x"]}, {"name": "proxy", "image": "p:1"}],
                        }
                    },
                },
            },
        },
    ),
    (
        "a Job of Kueue",
        held(
            {"image": "a:1"},
            spec={"suspend": False, "backoffLimit": 0},
            metadata={"labels": {"kueue.x-k8s.io/queue-name": "batch"}},
        ),
        {"image": "a:1", "queue": "batch"},
    ),
    (
        "amounts that are not the same twice",
        held({"image": "a:1", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1G"}}}),
        {
            "image": "a:1",
            "resources": {"memory": 1_000_000_000},
            "job": retries(),
            "native": {
                "spec": {
                    "template": {
                        "spec": {
                            "containers": [
                                {"name": "main", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}}
                            ]
                        }
                    },
                }
            },
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize(("job", "config"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_job_is_told_in_the_words_of_a_config_and_the_rest_in_native(
    job: dict[str, Any], config: dict[str, Any]
) -> None:
    assert config_from(job) == config
    assert job_fault("report", {"id": "report", "state": "running", "config": config}, engine=PLUGIN) == ""
    assert PLUGIN.job_fault(Job("report", "report", Desired.RUNNING, config)) == ""


def _held_again(config: Mapping[str, Any]) -> dict[str, Any]:
    """The Job of a config as a server would hold it, as far as `held` adds its defaults."""
    made = spec_of(config)
    pod = made["spec"]["template"]["spec"]
    return {
        **held({}, pod | {"containers": list(map(_default, pod["containers"]))}, made["spec"]),
        "metadata": made["metadata"],
    }


@pytest.mark.parametrize("job", [case[1] for case in CASES], ids=[case[0] for case in CASES])
def test_a_job_that_is_made_of_the_config_is_told_in_the_same_words(job: dict[str, Any]) -> None:
    """The second look is at what the first one makes, so nothing of a Job is lost on the way."""
    config = config_from(job)
    again = config_from(_held_again(config))
    without_ttl = {word: value for word, value in config.items() if word != "keepFor"}  # It is patched in later.
    assert again == without_ttl
    assert PLUGIN.same_config(config, again)


def test_what_the_word_env_hides_is_not_lost() -> None:
    field = {"name": "POD", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}
    made = spec_of(config_from(held({"image": "a:1", "env": [field, {"name": "A", "value": "1"}]})))
    assert made["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "A", "value": "1"}, field]
    twice = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    made = spec_of(config_from(held({"image": "a:1", "env": twice})))
    assert made["spec"]["template"]["spec"]["containers"][0]["env"] == twice


def test_a_job_that_was_aborted_keeps_no_timeout_of_its_abort() -> None:
    aborted = held(
        {"image": "a:1"},
        spec={"activeDeadlineSeconds": 1, "backoffLimit": 0},
        metadata={"annotations": {"reconciler/abort-op": "x"}},
    )
    assert config_from(aborted) == {"image": "a:1"}


OWNED: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"labels": {"app.kubernetes.io/managed-by": "kustomize"}}, ""),
    ({"ownerReferences": [{"kind": "CronJob", "name": "nightly", "controller": True}]}, "CronJob nightly"),
    ({"ownerReferences": [{"kind": "Workflow", "name": "etl", "controller": True}]}, "Workflow etl"),
    ({"ownerReferences": [{"kind": "ConfigMap", "name": "parts"}]}, ""),
    ({"labels": {"app.kubernetes.io/managed-by": "Helm"}}, "Helm"),
    ({"annotations": {"meta.helm.sh/release-name": "web"}}, "Helm release web"),
    ({"annotations": {"helm.sh/hook": "pre-upgrade"}}, "Helm hook pre-upgrade"),
    ({"labels": {"argocd.argoproj.io/instance": "shop"}}, "Argo CD application shop"),
    ({"annotations": {"argocd.argoproj.io/tracking-id": "shop:batch/Job:prod/report"}}, "Argo CD application shop"),
    ({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}}, "Flux Kustomization apps"),
    (
        {"labels": {"helm.toolkit.fluxcd.io/name": "web", "app.kubernetes.io/managed-by": "Helm"}},
        "Flux HelmRelease web",
    ),
]


@pytest.mark.parametrize(("metadata", "owner"), OWNED)
def test_the_owner_of_a_job_is_named(metadata: dict[str, Any], owner: str) -> None:
    assert owner_of(held({"image": "a:1"}, metadata=metadata)) == owner
    assert "toolkit" not in str(config_from(held({"image": "a:1"}, metadata=metadata)))


def test_a_spec_is_given_back_but_for_what_the_server_adds() -> None:
    job = CASES[1][1]
    found: Any = difference(job["spec"], spec_of(config_from(job))["spec"])
    # The server holds a limit without a request, which is a request too.
    resources = {"requests": {"nvidia.com/gpu": None}}
    assert found == {"template": {"spec": {"containers": [{"name": "main", "resources": resources}]}}}
