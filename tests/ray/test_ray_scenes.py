"""What people want of Ray jobs under git, on a real head."""

import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from project import Project, Run
from ray.between import Between, Loss
from ray.cluster import CPUS, Cluster
from ray.service import await_end, remove
from waits import until

_PROGRAM_S = 120.0


class RayProject(Project):
    """A folder whose jobs are jobs of a head. Each run adds its name to a file."""

    def __init__(self, folder: Path, cluster: Cluster, prefix: str) -> None:
        super().__init__(folder)
        self.cluster = cluster
        self.prefix = prefix
        self.env = {name: value for name, value in self.env.items() if not name.startswith("RAY_")}

    @property
    def target(self) -> str:
        return f"{{engine: ray, address: '{self.cluster.address}'}}"

    def declare(self, *jobs: str, script: str = "true", more: str = "", config: str = "") -> None:
        """Declare jobs, by the ends of their names."""
        self.write("\n".join(self.line(job, script, more, config) for job in jobs))

    def line(self, job: str, script: str = "true", more: str = "", config: str = "") -> str:
        job = self.name(job)
        noted = f"echo {job} >> {self.folder}/ran; {script}"
        return f"{job}: {{state: running, {more} config: {{script: '{noted}', {config}}}}}"

    def name(self, job: str) -> str:
        """Return a name that no other test uses: a head takes no submission id a second time."""
        return f"{self.prefix}-{job}"

    @property
    def ran(self) -> list[str]:
        path = self.folder / "ran"
        return [each.removeprefix(f"{self.prefix}-") for each in path.read_text().split()] if path.exists() else []

    def applied(self, *words: str) -> str:
        run = self.run("apply", "--yes", *words)
        assert run.code == 0, run
        return run.out

    def jobs(self) -> dict[str, str]:
        """Return the status of each job of this test that the head has, by its submission id."""
        return {
            job["submission_id"].removeprefix(f"{self.prefix}-"): job["status"]
            for job in self.cluster.jobs()
            if job["submission_id"].startswith(f"{self.prefix}-")
        }


@pytest.fixture
def project(tmp_path: Path, cluster: Cluster) -> Iterator[RayProject]:
    project = RayProject(tmp_path, cluster, f"s{secrets.token_hex(4)}")
    yield project
    (tmp_path / "go").touch()
    remove(cluster, [f"{project.prefix}-{job}" for job in project.jobs()])


def waits(project: RayProject) -> str:
    return f"until [ -e {project.folder}/go ] || [ ! -e {project.folder} ]; do sleep 0.1; done"


def oneline(run: Run) -> str:
    return " ".join((run.out + run.err).split())


def test_a_job_runs_once_and_everything_about_it_can_be_read(project: RayProject) -> None:
    project.declare("a", script="sleep 1; echo one; echo two >&2; exit 3")
    project.run("apply", "--yes", "--wait", "60")
    assert project.run("wait", project.name("a")).code == 3
    status = project.run("status")
    assert "failed" in status.out
    log = project.run("logs", project.name("a"))
    assert log.out.endswith("one\ntwo\n"), log
    assert project.run("logs", project.name("a"), "--tail", "1").out == "two\n"
    runs = json.loads(project.run("runs", project.name("a"), "--format", "json").out)
    assert "exit" in json.dumps(runs)
    assert "3" in json.dumps(runs)
    for _ in range(2):
        project.run("apply", "--yes")
    assert project.ran == ["a"]


def test_a_log_is_followed_until_the_end_of_the_run(project: RayProject) -> None:
    project.declare("a", script=f"echo first; {waits(project)}; echo last")
    project.applied()
    until(lambda: project.ran == ["a"])
    with project.start("logs", project.name("a"), "-f") as following:
        assert following.stdout is not None
        seen = []
        while "first\n" not in seen:
            seen.append(following.stdout.readline())
            assert seen[-1], seen
        (project.folder / "go").touch()
        assert following.stdout.read().endswith("last\n")
        assert following.wait(_PROGRAM_S) == 0


def test_an_answer_that_is_lost_is_settled_by_the_submission_id(project: RayProject) -> None:
    project.declare("a")
    with Between(*project.cluster.place, Loss.LOST) as between:
        project.declare("a")
        manifest = (project.folder / "jobs.yaml").read_text()
        (project.folder / "jobs.yaml").write_text(manifest.replace(project.cluster.address, between.address))
        run = project.run("apply", "--yes")
        assert between.lost == 1
    assert (run.code, "the answer was lost" in run.out) == (0, True), run
    await_end(project.cluster, [f"{project.name('a')}-1"])
    assert project.ran == ["a"]


def test_a_job_that_waits_for_resources_is_stopped_and_watched_until_it_ends(project: RayProject) -> None:
    """Ray answers that it has stopped the job, which stays PENDING until its entrypoint could start."""
    first = project.line("first", waits(project), config=f"resources: {{cpu: {CPUS}}}")
    second = project.line("second", "sleep 60", config="resources: {cpu: 1}")
    project.write(first)
    project.applied()
    until(lambda: project.ran == ["first"])
    project.write(f"{first}\n{second}")
    project.applied()
    assert project.jobs()["second-1"] == "PENDING"
    project.write(f"{first}\n{second.replace('state: running', 'state: aborted')}")
    assert "aborted" in project.applied()
    assert project.jobs()["second-1"] == "PENDING"
    assert "active (PENDING)" in oneline(project.run("status"))
    (project.folder / "go").touch()
    await_end(project.cluster, [f"{project.name('second')}-1"])
    assert project.jobs()["second-1"] == "STOPPED"
    # Ray starts the entrypoint and ends it at once.
    assert project.ran.count("second") <= 1
    assert project.run("apply", "--yes").out.startswith("Nothing to do")


def test_a_deleted_job_does_not_come_back(project: RayProject) -> None:
    """Ray's loop takes a job that is gone for one that was lost, unless it has seen its end."""
    project.declare("a")
    project.applied()
    await_end(project.cluster, [f"{project.name('a')}-1"])
    project.write(f"{project.name('a')}: {{state: absent}}")
    assert "1 succeeded" in project.applied()
    until_s = time.monotonic() + 4
    while time.monotonic() < until_s:
        assert project.jobs() == {}
        time.sleep(0.2)


def test_the_run_of_another_state_is_left_alone(project: RayProject, tmp_path: Path) -> None:
    project.declare("a")
    project.applied()
    (tmp_path / "elsewhere").mkdir()
    other = RayProject(tmp_path / "elsewhere", project.cluster, project.prefix)
    other.declare("a")
    run = other.run("apply", "--yes")
    assert (run.code, "another owner's: it bears the lineage" in oneline(run)) == (4, True), run
    until(lambda: project.ran == ["a"])


def test_a_job_that_takes_too_long_is_ended(project: RayProject) -> None:
    project.declare("a", script="sleep 300", config="jobTimeout: 1")
    project.applied()
    await_end(project.cluster, [f"{project.name('a')}-1"])
    assert project.jobs() == {"a-1": "FAILED"}
    assert "jobTimeout" in project.run("runs", project.name("a")).out


def test_jobs_that_others_have_submitted_are_imported_and_the_next_plan_is_empty(project: RayProject) -> None:
    env = {"env_vars": {"LEVEL": "3"}}
    for number, body in enumerate(({}, {"runtime_env": env}), 1):
        whole = {"entrypoint": f"echo {number}; sleep 600", "submission_id": project.name(f"train-{number}"), **body}
        assert project.cluster.request("POST", "/api/jobs/", whole)[0] == 200
    project.write("other: {state: absent}")
    done = project.run("import", "--all")
    assert done.code == 0, done
    written = (project.folder / "jobs.yaml").read_text()
    assert 'LEVEL: "3"' in written or "LEVEL: '3'" in written
    assert "sleep 600" in written
    planned = project.run("plan", "--refresh")
    assert (planned.code, planned.out.startswith("Plan: 1 to adopt; 2 unchanged.\n")) == (0, True), planned


def test_a_folder_is_uploaded_once_and_its_files_are_where_the_job_is(project: RayProject) -> None:
    folder = project.folder / "train"
    folder.mkdir()
    (folder / "train.sh").write_text(f'echo "$1" >> {project.folder}/trained; cat data.txt\n')
    (folder / "data.txt").write_text("first\n")

    def line(job: str) -> str:
        command = f"[sh, train.sh, {job}]"
        return f"{project.name(job)}: {{state: running, config: {{command: {command}, working_dir: train}}}}"

    with Between(*project.cluster.place, None) as between:

        def declare(*jobs: str) -> None:
            project.write("\n".join(map(line, jobs)))
            manifest = project.folder / "jobs.yaml"
            manifest.write_text(manifest.read_text().replace(project.cluster.address, between.address))

        def uploads() -> int:
            return sum(asked.startswith("PUT ") for asked in between.asked)

        declare("a", "b")
        project.applied()
        await_end(project.cluster, [f"{project.name(job)}-1" for job in "ab"])
        assert (project.jobs(), uploads()) == ({"a-1": "SUCCEEDED", "b-1": "SUCCEEDED"}, 1)
        assert project.run("logs", project.name("b")).out.count("first\n") == 1
        assert sorted((project.folder / "trained").read_text().split()) == ["a", "b"]
        declare("a", "b", "c")
        project.applied()
        assert uploads() == 1
        # A file of the folder is a part of the config.
        (folder / "data.txt").write_text("second\n")
        assert "config.working_dir" in oneline(project.run("plan"))


# --- a head that is restarted --------------------------------------------------------------------------------------


def test_a_restarted_head_repeats_nothing_and_holds_what_has_no_end(project: RayProject) -> None:
    project.write(project.line("ended") + "\n" + project.line("going", waits(project)))
    project.applied()
    until(lambda: sorted(project.ran) == ["ended", "going"])
    await_end(project.cluster, [f"{project.name('ended')}-1"])
    assert project.run("apply", "--yes").code == 0  # notes the end
    project.cluster.restart()
    planned = project.run("plan", "--refresh")
    assert f"{project.name('going')}" in planned.out
    assert "not there, although no end of its run is recorded" in oneline(planned)
    assert "was restarted: its session was session_" in planned.err
    assert project.name("ended") not in planned.out
    held = project.run("apply", "--yes")
    assert (held.code, project.name("going") in held.out) == (4, True), held
    # Other jobs are run, by the head that is there now.
    project.write(project.line("ended") + "\n" + project.line("going", waits(project)) + "\n" + project.line("new"))
    assert project.run("apply", "--yes").code in (0, 4)
    until(lambda: "new" in project.ran)
    assert sorted(project.ran) == ["ended", "going", "new"]
    said = project.run("resolve", project.name("going"), "--ended", "failed")
    assert said.code == 0, said
    planned = project.run("plan", "--refresh")
    assert (planned.code, "was restarted" in planned.err) == (0, True), planned
    accepted = project.run("state", "accept", "--identity")
    assert (accepted.code, project.cluster.session in oneline(accepted)) == (0, True), accepted
    assert "was restarted" not in project.run("plan", "--refresh").err
    assert sorted(project.ran) == ["ended", "going", "new"]


def test_a_run_in_doubt_is_not_sent_to_another_head(project: RayProject) -> None:
    """The head before may have executed it, and nobody can ask that head any more."""
    project.declare("a")
    manifest = (project.folder / "jobs.yaml").read_text()
    with Between(*project.cluster.place, Loss.LOST) as between:
        (project.folder / "jobs.yaml").write_text(manifest.replace(project.cluster.address, between.address))
        killed = project.start("apply", "--yes")
        until(lambda: between.lost)
        killed.kill()
        killed.communicate()
        await_end(project.cluster, [f"{project.name('a')}-1"])
        assert project.ran == ["a"]
        project.cluster.restart()
        between.loss = None
        for _ in range(2):
            run = project.run("apply", "--yes")
            assert run.code == 5, run
            assert "was restarted" in oneline(run)
            assert project.ran == ["a"]
        assert project.jobs() == {}
        said = project.run("resolve", project.name("a"), "--applied")
        assert said.code == 0, said
        assert project.run("apply", "--yes").code in (0, 4)
    assert project.ran == ["a"]


def test_a_doubt_of_an_earlier_head_stays_one_though_other_jobs_have_run_since(project: RayProject) -> None:
    """The state has seen both heads by then, and the one that is there knows nothing of the other's runs."""
    project.declare("a")
    with Between(*project.cluster.place, Loss.LOST) as between:
        here = project.cluster.address
        manifest = (project.folder / "jobs.yaml").read_text().replace(here, between.address)
        (project.folder / "jobs.yaml").write_text(manifest)
        killed = project.start("apply", "--yes")
        until(lambda: between.lost)
        killed.kill()
        killed.communicate()
        await_end(project.cluster, [f"{project.name('a')}-1"])
        project.cluster.restart()
        between.loss = None
        (project.folder / "jobs.yaml").write_text(f"{manifest}  {project.line('b')}\n")
        for _ in range(3):
            assert project.run("apply", "--yes", "--settle", "0").code == 5
        until(lambda: "b" in project.ran)
    assert project.ran == ["a", "b"]


def test_a_head_that_wants_a_token_gets_it_and_shows_it_to_nobody(project: RayProject) -> None:
    token = "not-a-secret-0123456789abcdef"
    project.cluster.restart({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token})
    try:
        project.declare("a")
        refused = project.run("apply", "--yes")
        assert (refused.code, "does not accept the token (401)" in oneline(refused)) == (1, True), refused
        wrong = project.run("apply", "--yes", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="another-one-0123456789")
        assert (wrong.code, "does not accept the token (403)" in oneline(wrong)) == (1, True), wrong
        path = project.folder / "token"
        path.write_text(token)
        done = project.run("apply", "--yes", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(path))
        assert done.code == 0, done
        until(lambda: project.ran == ["a"])
        found = subprocess.run(["grep", "-rl", token, str(project.folder)], capture_output=True, text=True, check=False)
        assert found.stdout.split() == [str(path)]
        await_end(project.cluster, [f"{project.name('a')}-1"])
    finally:
        project.cluster.restart({})
