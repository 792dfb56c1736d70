"""A fault that an engine finds in a config stands at the line of its field."""

from pathlib import Path

import pytest

from project import Project

HEAD = "apiVersion: reconciler/v1\ntarget: {{engine: {engine}}}\n"


@pytest.mark.parametrize(
    ("engine", "config", "place"),
    [
        (
            "slurm",
            "command: [x]\n      env: {A: b, SLURM_JOB: c}",
            "jobs.yaml:9:19: config.env.SLURM_JOB: the variables",
        ),
        (
            "slurm",
            "command: [x]\n      native:\n        time: 10",
            "jobs.yaml:10:9: config.native.time is reconciler's own",
        ),
        ("slurm", "script: |\n        #!/bin/sh\n        #SBATCH -W", "jobs.yaml:8:7: config.script: line 2: --wait"),
        ("slurm", "batch: run.sh", "jobs.yaml:8:7: config.script: line 2: --wait"),
        (
            "kubernetes",
            "image: x\n      native: {spec: {suspend: true}}",
            "jobs.yaml:9:23: config.native.spec.suspend is",
        ),
        (
            "kubernetes",
            'image: x\n      native:\n        metadata:\n          labels: {"reconciler/job": a}',
            'jobs.yaml:11:20: config.native.metadata.labels["reconciler/job"] is reconciler\'s own',
        ),
        (
            "ray",
            "command: [x]\n      runtime_env: {py_modules: [a, b]}",
            "jobs.yaml:9:34: config.runtime_env.py_modules[0]",
        ),
        ("local", 'command: ["", x]', "jobs.yaml:8:7: config.command has no program"),
    ],
)
def test_a_fault_of_a_field_is_told_at_its_line(tmp_path: Path, engine: str, config: str, place: str) -> None:
    project = Project(tmp_path)
    (tmp_path / "run.sh").write_text("#!/bin/sh\n#SBATCH --wait\n")
    jobs = f"jobs:\n  a: {{state: absent}}\n  train:\n    state: running\n    config:\n      {config}\n"
    (tmp_path / "jobs.yaml").write_text(HEAD.format(engine=engine) + jobs)
    run = project.run("validate")
    assert run.code != 0
    assert place in run.out + run.err


def test_a_fault_of_a_field_that_a_default_holds_is_told_at_the_job(tmp_path: Path) -> None:
    project = Project(tmp_path)
    defaults = "defaults: {config: {native: {time: 10}}}\njobs:\n"
    jobs = "  a: {state: running, config: {command: [x]}}\n  b:\n    state: running\n    id: b2\n"
    (tmp_path / "jobs.yaml").write_text(HEAD.format(engine="slurm") + defaults + jobs)
    out = project.run("validate")
    told = out.out + out.err
    assert "jobs.yaml:5:23: config.native.time is reconciler's own" in told
    assert "jobs.yaml:8:9: " in told
