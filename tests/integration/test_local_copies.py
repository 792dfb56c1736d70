"""Folders of runs that were copied, cloned or lost: no command runs a job twice, or ends a run of the original."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from local_runs import run_folder
from local_service import kill_runs, supervisor_of
from project import Project
from reconciler.engines.local.processes import mark_of, survivors
from waits import until


class LocalProject(Project):
    """A folder whose jobs run on this machine, below the folder `runs`, one at a time."""

    target = "{engine: local, root: runs, slots: 1}"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[LocalProject]:
    for name in ("original", "copy"):
        (tmp_path / name).mkdir()
    project = LocalProject(tmp_path / "original")
    yield project
    (project.folder / "go").touch()  # for runs whose folder is gone
    kill_runs([*tmp_path.glob("*/runs/jobs/*/*"), *tmp_path.glob("lost/jobs/*/*")])


def with_one_running_and_one_queued(project: LocalProject) -> str:
    """Apply two jobs on one slot, and return which of them executes."""
    waits = f"until [ -e {project.folder}/go ]; do sleep 0.02; done"
    scripts = {job: f"echo {job} >> {project.folder}/ran; {waits}" for job in "ab"}
    project.write(
        "\n".join(f'{job}: {{state: running, config: {{script: "{text}"}}}}' for job, text in scripts.items())
    )
    assert project.run("apply", "--yes").code == 0
    until((project.folder / "ran").exists)
    until(lambda: ran(project))
    return ran(project)[0]


def ran(project: LocalProject) -> list[str]:
    return (project.folder / "ran").read_text().split()


def copied(project: LocalProject) -> LocalProject:
    copy = LocalProject(project.folder.parent / "copy")
    subprocess.run(["cp", "-a", f"{project.folder}/.", copy.folder], check=True)
    return copy


def test_a_copy_runs_and_ends_nothing(project: LocalProject) -> None:
    first = with_one_running_and_one_queued(project)
    copy = copied(project)
    made_at = project.folder / "runs"
    for words in ("status", "wait --timeout 0", "apply --yes", "plan --refresh", "logs a", "runs a", "drift"):
        refused = copy.run(*words.split())
        assert refused.code == 1, refused
        assert f"{copy.folder}/runs is a copy of the folder of runs that was made as {made_at}: nothing" in refused.err
        assert re.search(rf"its runs still execute: {first}-1 \(process(es)? \d", refused.err), refused
    aborting = (copy.folder / "jobs.yaml").read_text().replace("state: running", "state: aborted")
    (copy.folder / "jobs.yaml").write_text(aborting)
    assert copy.run("apply", "--yes").code == 1
    (project.folder / "go").touch()
    done = project.run("wait")
    assert (done.code, sorted(ran(project))) == (0, ["a", "b"]), done
    assert not list((copy.folder / "runs" / "jobs").glob("*/*/ended.json"))


def test_a_copy_that_takes_the_place_of_its_original_starts_nothing_that_has_waited(project: LocalProject) -> None:
    """As after a restore from a backup."""
    first = with_one_running_and_one_queued(project)
    copied(project)
    (project.folder / "runs").rename(project.folder.parent / "lost")
    (project.folder.parent / "copy" / "runs").rename(project.folder / "runs")
    refused = project.run("status")
    assert (refused.code, "was in its place before" in refused.err) == (1, True), refused
    (project.folder / "runs" / "root.json").unlink()
    held = project.run("state", "accept", "--identity")
    assert (held.code, f"runs of it still execute: {first}-1" in held.err) == (1, True), held
    assert not (project.folder / "runs" / "root.json").exists()
    kill_runs((project.folder.parent / "lost").glob("jobs/*/*"))
    assert project.run("state", "accept", "--identity").code == 0
    project.run("status")
    project.run("apply", "--yes")
    (project.folder / "go").touch()
    project.run("wait")
    assert ran(project) == [first]


def test_a_folder_whose_device_has_another_number_after_a_restart_is_no_copy(project: LocalProject) -> None:
    with_one_running_and_one_queued(project)
    path = project.folder / "runs" / "root.json"
    text = path.read_text()
    assert f'"device": {os.stat(path).st_dev}' in text
    with path.open("r+") as file:  # in its place, since a new file would have another number
        file.write(text.replace(f'"device": {os.stat(path).st_dev}', f'"device": {os.stat(path).st_dev + 1}'))
    assert project.run("status").code == 0
    (project.folder / "go").touch()
    assert project.run("wait").code == 0


def test_a_root_is_not_given_up_while_its_runs_execute(project: LocalProject) -> None:
    first = with_one_running_and_one_queued(project)
    mark = mark_of(json.loads((project.folder / "runs" / "root.json").read_text())["id"], first, f"{first}-1")
    supervisor = supervisor_of(run_folder(project.folder, f"{first}-1"))
    shutil.rmtree(project.folder / "runs")
    for words in ("status", "state accept --identity"):
        refused = project.run(*words.split())
        assert (refused.code, f"runs of it still execute: {first}-1 (process" in refused.err) == (1, True), refused
        assert ("state accept" in refused.err, "target.root" in refused.err) == (False, True)
        assert not (project.folder / "runs").exists()
    (project.folder / "go").touch()
    until(lambda: mark not in survivors())
    assert "state accept --identity" in project.run("status").err
    assert project.run("state", "accept", "--identity").code == 0
    until(lambda: not Path(f"/proc/{supervisor}").exists())


def test_one_folder_of_runs_serves_all_checkouts_once_it_was_moved_as_the_page_says(project: LocalProject) -> None:
    clone = LocalProject(project.folder.parent / "copy")
    for each in (project, clone):
        each.env["HOME"] = str(project.folder.parent)
    project.write(f"a: {{state: running, config: {{script: echo a >> {project.folder}/ran}}}}")
    assert project.run("apply", "--yes", "--wait", "60").code == 0
    for name in ("jobs.yaml", "jobs.state.json", "jobs.history.jsonl"):
        shutil.copy(project.folder / name, clone.folder)
    refused = clone.run("status")
    advice = "move it there, name it with target.root, such as root: ~/runs, and: `reconciler state accept --moved-to"
    assert (refused.code, advice in refused.err) == (1, True), refused
    (project.folder / "runs").rename(project.folder.parent / "runs")
    project.target = clone.target = "{engine: local, root: ~/runs, slots: 1}"
    project.write(f"a: {{state: running, config: {{script: echo a >> {project.folder}/ran}}}}")
    assert project.run("state", "accept", "--moved-to", "local").code == 4
    assert project.run("state", "accept", "--moved-to", "~/runs").code == 0
    for name in ("jobs.yaml", "jobs.state.json", "jobs.history.jsonl"):
        shutil.copy(project.folder / name, clone.folder)
    for each in (project, clone):
        assert each.run("apply", "--yes").out == "Nothing to do: 1 job is as recorded.\n"
        assert "complete" in each.run("status").out
    assert ran(project) == ["a"]


def test_a_job_whose_folder_was_removed_is_held_while_it_executes(project: LocalProject) -> None:
    first = with_one_running_and_one_queued(project)
    mark = mark_of(json.loads((project.folder / "runs" / "root.json").read_text())["id"], first, f"{first}-1")
    shutil.rmtree(project.folder / "runs" / "jobs" / first)
    text = (project.folder / "jobs.yaml").read_text()
    (project.folder / "jobs.yaml").write_text(text.replace("{state: running", "{runToken: again, state: running"))
    words = f"its folder was removed, and it still executes: {first}-1 (process"
    status = project.run("status")
    assert words in status.out, status
    applied = project.run("apply", "--yes", "--target", first)
    assert (applied.code, words in applied.out) == (3, True), applied
    assert ran(project) == [first]
    (project.folder / "go").touch()
    until(lambda: mark not in survivors())
    assert "still executes" not in project.run("status").out


def test_a_command_in_a_job_does_not_warn_of_the_mark_of_the_run(project: LocalProject) -> None:
    project.write("a: {state: running, config: {script: 'true'}}")
    run = project.run("plan", RECONCILER_RUN="root/a/a-1")
    assert (run.code, "RECONCILER_RUN" in run.err) == (0, False), run


SCRIPT = """\
exec > /dev/null 2>&1
i=0
while [ $((i += 1)) -le 40 ]; do sleep 1000 & done
i=9
while [ $i = 9 ]; do
  sh -c 'case $(($$ % 128)) in 127) sleep 1001; echo on >> FOLDER/went-on;; *) exit 9;; esac'
  i=$?
done
"""
"""The ids of processes are such that a set of them, which has 128 places, has the child first and its shell last."""


def test_an_abort_lets_no_script_go_on_that_a_killed_supervisor_left(project: LocalProject) -> None:
    """Where the child of a shell came first, that shell went on to its next command before its own signal."""
    for number in range(1, 5):
        text = SCRIPT.replace("FOLDER", str(project.folder))
        job = {"runToken": str(number), "state": "running", "config": {"script": text}}
        write(project, job)
        assert project.run("apply", "--yes").code == 0
        lose_supervisor(run_folder(project.folder, f"a-{number}"))
        write(project, {**job, "state": "aborted"})
        aborted = project.run("apply", "--yes")
        assert (aborted.code, f"aborted a-{number}" in aborted.out) == (0, True), aborted
        assert not (project.folder / "went-on").exists()


def lose_supervisor(run: Path) -> None:
    """Kill the supervisor of a run once the script of the run has come to its `sleep`."""
    until(lambda: supervisor_of(run) and sleeps(f"/a/{run.name}"))
    os.kill(supervisor_of(run), signal.SIGKILL)
    until(lambda: not supervisor_of(run))


def write(project: LocalProject, job: Mapping[str, object]) -> None:
    project.write(f"a: {json.dumps(job)}")


def sleeps(mark_end: str) -> bool:
    """Whether one of the processes of a run is the last `sleep` of its script."""
    pids = [pid for mark, pids in survivors().items() if mark.endswith(mark_end) for pid in pids]
    for pid in pids:
        with suppress(OSError):  # it has ended meanwhile
            if b"\x001001\x00" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return True
    return False
