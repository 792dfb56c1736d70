"""Which runs the engine `local` keeps, and what stays of those that `keepFor` and `keepRuns` take away."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from local_runs import OURS, end_all, engine_at, kill_supervisor, look_at, over, run_folder, step_of
from local_service import opened
from reconciler.engines.local.engine import LocalEngine
from reconciler.engines.local.tombstones import sweep
from reconciler.engines.port import AnswerClass, Reason, Status, Verb
from waits import until

COMPLETES: Mapping[str, Any] = {"script": "echo printed"}
FAILS: Mapping[str, Any] = {"script": "echo printed; exit 3"}
ONE_EACH: Mapping[str, Any] = {"keepRuns": {"complete": 1, "failed": 1}}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    end_all(tmp_path)


def run(engine: LocalEngine, run_id: str, config: Mapping[str, Any], lineage: str = OURS.lineage) -> None:
    """Run a command to its end."""
    step = step_of(run_id, config)
    assert engine.send(step._replace(marks=OURS._replace(lineage=lineage))).kind is AnswerClass.APPLIED
    over(engine, run_id)


def swept(folder: Path, job_id: str = "a") -> list[str]:
    """Bury what is kept no longer, and return the runs of a job that are left."""
    with opened(folder / "runs") as root:
        assert len(list(sweep(root, time.time()))) >= 1
    return sorted(each.name for each in (folder / "runs/jobs" / job_id).iterdir() if (each / "spec.json").exists())


def test_keep_runs_takes_the_oldest_runs_away_and_their_tombstones_know_the_ends(folder: Path) -> None:
    ids = [f"a-{number}" for number in range(8, 13)]
    with engine_at(folder) as engine:
        for run_id in ids:
            base = COMPLETES if run_id in ("a-8", "a-10", "a-12") else FAILS
            run(engine, run_id, {"script": f"echo {run_id} >> {folder}/ran; {base['script']}", **ONE_EACH})
        before = {run_id: look_at(engine, run_id) for run_id in ids}
    taken = ["a-8", "a-9", "a-10"]
    until(lambda: all(os.listdir(run_folder(folder, run_id)) == ["removed.json"] for run_id in taken))
    with engine_at(folder) as engine:
        for run_id in taken:
            after, known = look_at(engine, run_id), before[run_id]
            removed = "; ".join(filter(None, (known.detail, "its log was removed, as keepRuns says")))
            assert after == known._replace(config=None, detail=removed)
            assert engine.send(step_of(run_id, COMPLETES)).reason is Reason.WAS_THERE
            other = step_of(run_id, COMPLETES)._replace(marks=OURS._replace(lineage="other"))
            assert engine.send(other).reason is Reason.OTHER_OWNER
        for run_id in ("a-11", "a-12"):
            assert look_at(engine, run_id) == before[run_id]
        assert engine.observe("a") == before["a-12"]
        assert engine.send(step_of("a-12", verb=Verb.DELETE)).kind is AnswerClass.APPLIED
        assert look_at(engine, "a-8").status is Status.MISSING
    assert (folder / "ran").read_text().split() == ids


def test_keep_runs_takes_no_run_away_whose_end_is_not_on_record(folder: Path) -> None:
    with engine_at(folder) as engine:
        engine.send(step_of("a-1", {"command": ["sleep", "1000"], **ONE_EACH}))
        engine.send(step_of("a-2", {"script": "exec sleep 1000", **ONE_EACH}))
        until(lambda: [look_at(engine, run_id).word for run_id in ("a-1", "a-2")] == ["running", "running"])
        kill_supervisor(folder, "a-2")
        assert over(engine, "a-2").status is Status.FAILED
        for number in (3, 4):
            run(engine, f"a-{number}", {**FAILS, **ONE_EACH})
            run(engine, f"a-{number + 2}", {**COMPLETES, **ONE_EACH})
        assert swept(folder) == ["a-1", "a-2", "a-4", "a-6"]
        assert look_at(engine, "a-1").word == "running"


def test_the_newest_run_says_how_many_runs_of_its_job_are_kept(folder: Path) -> None:
    with engine_at(folder) as engine:
        run(engine, "a-1", {**COMPLETES, **ONE_EACH})
        run(engine, "a-2", {**COMPLETES, "keepRuns": {"failed": 1}})
        assert swept(folder) == ["a-1", "a-2"]
        run(engine, "a-3", {**FAILS, "keepRuns": {"complete": 1}})
        run(engine, "b-1", COMPLETES)
        assert (swept(folder), swept(folder, "b")) == (["a-2", "a-3"], ["b-1"])


def test_keep_runs_leaves_the_runs_of_another_state_alone(folder: Path) -> None:
    with engine_at(folder) as engine:
        run(engine, "a-1", COMPLETES)
        run(engine, "a-2", COMPLETES, "other")
        run(engine, "a-3", COMPLETES, "other")
        run(engine, "a-4", {**COMPLETES, **ONE_EACH})
        assert swept(folder) == ["a-2", "a-3", "a-4"]


def test_keep_for_begins_once_the_end_is_on_record(folder: Path) -> None:
    with engine_at(folder) as engine:
        run(engine, "a-1", {**COMPLETES, "keepFor": 600})
        # The disk was full for an hour, so the end is recorded only now.
        ended = run_folder(folder, "a-1") / "ended.json"
        recorded = json.loads(ended.read_text())
        ended.write_text(json.dumps({**recorded, "at_s": recorded["at_s"] - 3600}))
        assert swept(folder) == ["a-1"]
        an_hour_ago_s = time.time() - 3600
        os.utime(ended, (an_hour_ago_s, an_hour_ago_s))
        assert swept(folder) == []
        assert look_at(engine, "a-1").status is Status.COMPLETE


def test_a_removal_that_was_cut_short_is_finished(folder: Path) -> None:
    with engine_at(folder) as engine:
        run(engine, "a-1", {**FAILS, "keepFor": 0})
        log = (run_folder(folder, "a-1") / "log").read_bytes()
        assert swept(folder) == []
        (run_folder(folder, "a-1") / "log").write_bytes(log)
        before = look_at(engine, "a-1")
        assert swept(folder) == []
        assert os.listdir(run_folder(folder, "a-1")) == ["removed.json"]
        assert look_at(engine, "a-1") == before
