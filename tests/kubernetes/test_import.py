"""Jobs that a namespace of a real API server has already: an import takes them over, and leaves others alone."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kubernetes.cluster import Cluster, binaries, version_of
from kubernetes.test_scenes import KubernetesProject
from waits import until


class Space(KubernetesProject):
    """A folder, and a namespace in which other programs make Jobs."""

    @property
    def path(self) -> str:
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs"

    def make(
        self, name: str, container: Mapping[str, Any] | None = None, pod: Any = None, spec: Any = None, **metadata: Any
    ) -> None:
        """Create a Job as `kubectl apply` would. Its pods end at once, unless they are told otherwise."""
        main = {"name": "main", "image": "busybox:1", "command": ["/bin/sh", "-c", "true"], **(container or {})}
        template = {"spec": {"restartPolicy": "Never", "containers": [main], **(pod or {})}}
        body = {"metadata": {"name": name, **metadata}, "spec": {"template": template, **(spec or {})}}
        code, answer = self.cluster.request("POST", self.path, body)
        assert code == 201, answer

    def cron_job(self, name: str) -> dict[str, Any]:
        """Create a CronJob that is suspended, and return the reference that its Jobs have to it."""
        template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox:1"}]}}
        spec = {"schedule": "0 1 * * *", "suspend": True, "jobTemplate": {"spec": {"template": template}}}
        # A server has one of the two.
        version = "v1beta1" if version_of(binaries()) < (1, 21) else "v1"
        path = f"/apis/batch/{version}/namespaces/{self.namespace}/cronjobs"
        code, made = self.cluster.request("POST", path, {"metadata": {"name": name}, "spec": spec})
        assert code == 201, made
        uid = made["metadata"]["uid"]
        return {"apiVersion": f"batch/{version}", "kind": "CronJob", "name": name, "uid": uid, "controller": True}

    def there(self) -> dict[str, tuple[str, Any]]:
        """Return what no call may have changed: the uid and the spec of each Job."""
        _, document = self.cluster.request("GET", self.path)
        return {item["metadata"]["name"]: (item["metadata"]["uid"], item["spec"]) for item in document["items"]}

    def ended(self, *names: str) -> None:
        until(lambda: all(self._is_over(name) for name in names))

    def _is_over(self, name: str) -> bool:
        _, job = self.cluster.request("GET", f"{self.path}/{name}")
        # A newer server says before that what it will say.
        conditions = job["status"].get("conditions", ())
        return any(each["status"] == "True" and each["type"] in ("Complete", "Failed") for each in conditions)


@pytest.fixture
def space(tmp_path: Path, cluster: Cluster) -> Iterator[Space]:
    made = Space(tmp_path, cluster)
    made.write("{}")
    yield made
    (tmp_path / "go").touch()


def test_a_stranger_s_job_of_the_name_of_a_declared_job_is_left_alone(space: Space) -> None:
    space.make("plain", {"command": ["/bin/sh", "-c", f"until [ -e {space.folder}/go ]; do sleep 0.05; done"]})
    before = space.there()
    space.write("plain: {state: running, config: {image: other}}")
    run = space.run("apply", "--yes")
    assert (run.code, "another owner's: it bears no marks of a state" in " ".join(run.out.split())) == (4, True), run
    assert space.there() == before


def test_many_jobs_of_others_are_seen_as_few_are(space: Space) -> None:
    """From ten jobs on, one list shows all that bear the label. Those of others bear none."""
    waits = {"command": ["/bin/sh", "-c", f"until [ -e {space.folder}/go ]; do sleep 0.05; done"]}
    for number in range(12):
        space.make(f"theirs-{number}", waits)
    assert space.run("import", "--all").code == 0
    assert space.run("plan", "--refresh").out == "No changes: 12 jobs are as recorded.\n"
    assert space.run("drift").code == 0
    stranger = "other: {state: running, config: {image: x}}"
    space.make("other", waits)
    (space.folder / "jobs.yaml").write_text((space.folder / "jobs.yaml").read_text() + f"  {stranger}\n")
    planned = space.run("plan", "--refresh")
    assert "Plan: 1 held; 12 unchanged." in planned.out, planned
    assert "another owner's: it bears no marks of a state" in " ".join(planned.out.split())


def test_all_jobs_of_a_namespace_but_those_that_others_own_come_into_the_manifest(space: Space) -> None:
    waits = {"command": ["/bin/sh", "-c", f"until [ -e {space.folder}/go ]; do sleep 0.05; done"]}
    space.make("plain")
    space.make("fails", {"command": ["/bin/sh", "-c", "exit 3"]}, spec={"backoffLimit": 0})
    space.make("works", waits, {"restartPolicy": "OnFailure"}, {"activeDeadlineSeconds": 3000})
    space.make("of-helm", labels={"app.kubernetes.io/managed-by": "Helm"})
    space.make("of-argo", annotations={"argocd.argoproj.io/tracking-id": "shop:batch/Job:x/of-argo"})
    space.make("nightly-28123", waits, ownerReferences=[space.cron_job("nightly")])
    space.ended("plain", "fails", "of-helm", "of-argo")
    before = space.there()
    run = space.run("import", "--all")
    assert run.code == 0, run
    assert "Imported: 3 jobs into jobs.yaml." in run.out
    owned = [line for line in run.err.splitlines() if line.startswith("owned ")]
    assert owned == [
        "owned nightly-28123: CronJob nightly owns it",
        "owned of-argo: Argo CD application shop owns it",
        "owned of-helm: Helm owns it",
    ]
    assert set(space.state["jobs"]) == {"plain", "fails", "works"}
    assert space.run("plan").out == "No changes: 3 jobs are as recorded.\n"
    assert space.run("plan", "--refresh").out.startswith("Plan: 1 failed; 2 unchanged.\n")
    assert space.applied() == "Nothing to do: 3 jobs are as recorded.\n"
    also = space.run("import", "--all", "--include-owned")
    assert also.code == 0, also
    assert "Imported: 3 jobs into jobs.yaml." in also.out
    assert "warning: CronJob nightly owns nightly-28123, and may remove it or make it again" in also.err
    assert space.run("plan").out == "No changes: 6 jobs are as recorded.\n"
    assert space.run("plan", "--refresh").out.startswith("Plan: 1 failed; 5 unchanged.\n")
    assert "Helm" not in (space.folder / "jobs.yaml").read_text()
    assert space.there() == before


def test_a_job_of_many_fields_is_imported_and_runs_again_as_the_same(space: Space) -> None:
    token = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "train", "key": "token", "optional": True}}}
    field = {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    main = {
        "name": "train",
        "args": ["ignored"],
        "workingDir": str(space.folder),
        "env": [{"name": "LEVEL", "value": "3"}, token, field, {"name": "DOLLAR", "value": "$$(PATH) $5"}],
        "resources": {"requests": {"cpu": "0.1", "memory": "1Gi"}, "limits": {"cpu": "100m", "memory": "2Gi"}},
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}, {"name": "app", "mountPath": "/etc/app"}],
        "ports": [{"containerPort": 8080}],
    }
    pod = {
        "serviceAccountName": "default",
        "nodeSelector": {"kubernetes.io/os": "nowhere"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "terminationGracePeriodSeconds": 5,
        "volumes": [
            {"name": "app", "configMap": {"name": "app", "optional": True}},
            {"name": "scratch", "emptyDir": {}},
        ],
        "securityContext": {"runAsUser": 1000},
    }
    space.make("train", main, pod, {"ttlSecondsAfterFinished": 600, "backoffLimit": 2}, labels={"team": "media"})
    run = space.run("import", "train=train")
    assert run.code == 0, run
    config = space.state["jobs"]["train"]["config"]
    words = {"job", "script", "workdir", "env", "volumes", "serviceAccount", "nodeSelector", "tolerations"}
    assert words | {"image", "abort", "keepFor", "native", "resources"} == config.keys()
    assert config["env"] == {"LEVEL": "3", "DOLLAR": "$(PATH) $5"}
    assert (config["resources"], config["keepFor"], config["abort"]) == ({"cpu": 0.1}, 600, {"grace": 5})
    assert space.run("validate").code == 0
    assert space.run("drift").code == 0
    imported = space.there()["train"][1]
    manifest = space.folder / "jobs.yaml"
    manifest.write_text(manifest.read_text().replace("    state: running\n", '    state: running\n    runToken: "2"\n'))
    planned = space.run("plan", "--refresh")
    assert '± restart  train  new runToken "2"; the job is active' in planned.out, planned
    assert "their Jobs make further attempts by themselves" in planned.out
    made = space.run("apply", "--yes", "--settle", "0")
    assert made.code == 0, made
    again = space.there()["train-1"][1]
    assert _plain(again) == _plain(imported)


def _plain(spec: dict[str, Any]) -> Any:
    """Return the spec of a Job without what is of that Job alone, or has no meaning."""
    found = json.loads(json.dumps(spec))
    for name in ("selector", "ttlSecondsAfterFinished", "activeDeadlineSeconds"):
        found.pop(name, None)
    found["template"].pop("metadata", None)
    pod = found["template"]["spec"]
    names = {volume["name"]: _key(volume) for volume in pod["volumes"]}
    for volume in pod["volumes"]:
        volume["name"] = names[volume["name"]]
    pod["volumes"].sort(key=_key)
    for container in pod["containers"]:
        for mount in container["volumeMounts"]:
            mount["name"] = names[mount["name"]]
        container["volumeMounts"].sort(key=_key)
        container["env"].sort(key=_key)
    return found


def _key(item: Mapping[str, Any]) -> str:
    return json.dumps({name: value for name, value in item.items() if name != "name"}, sort_keys=True)


def test_a_job_whose_name_no_job_can_have_is_left_out_and_told(space: Space) -> None:
    space.make("a" * 60)
    space.make("with.dots")
    run = space.run("import", "--all")
    assert run.code == 4
    assert run.err.count("left out") == 2
    assert "can't be the name of a Job: it takes up to 52" in run.err
    assert "with.dots" in run.err


def test_a_delete_names_the_imported_job_that_it_leaves(space: Space) -> None:
    """The Job bears no mark, so that nothing tells it from one that somebody else has made since."""
    space.make("plain")
    space.ended("plain")
    assert space.run("import", "plain=plain").code == 0
    manifest = space.folder / "jobs.yaml"
    imported = manifest.read_text()
    manifest.write_text(imported.replace("    state: running\n", '    state: running\n    runToken: "1"\n'))
    space.applied("--wait", "60")
    assert space.jobs() == ["plain", "plain-1"]
    manifest.write_text(imported.replace("    state: running\n", "    state: absent\n"))
    out = " ".join(space.applied().split())
    assert "what bears no lineage stays: plain" in out, out
    assert space.jobs() == ["plain"]
    assert "another owner's plain" in " ".join(space.run("drift").out.split())
    # A Job may have been made in its place since. So no plan deletes what is there.
    assert "bears no marks of a state" in space.run("plan", "--refresh", "--out", "plan.json").out
    held = space.run("apply", "--plan", "plan.json")
    assert (held.code, space.jobs()) == (4, ["plain"]), held
