"""Threads that submit at the same time share the commands that follow, and each command is found once."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from reconciler.engines.port import EngineError, Surroundings
from reconciler.engines.slurm.commands import Commands
from reconciler.engines.slurm.rendezvous import Rendezvous
from reconciler.engines.slurm.settings import Settings

WITHIN_S = 30
LONG_S, SHORT_S = 20.0, 0.05


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(5) as pool:
        yield pool


# --- threads that submit ---------------------------------------------------------------------------------------------


def test_those_who_have_submitted_wait_for_those_who_submit(pool: ThreadPoolExecutor) -> None:
    place = Rendezvous(LONG_S)
    for key in ("a", "b", "c"):
        place.expect(key)
    came = [pool.submit(place.arrive, key) for key in ("a", "b")]
    assert not wait(came, SHORT_S).done
    place.arrive("c")
    assert len(wait(came, WITHIN_S).done) == 2


def test_nobody_waits_for_one_that_has_failed_to_submit(pool: ThreadPoolExecutor) -> None:
    place = Rendezvous(LONG_S)
    place.expect("a")
    came = pool.submit(place.arrive, "b")
    assert not wait([came], SHORT_S).done
    place.leave("a")
    came.result(WITHIN_S)


def test_what_does_not_come_in_time_is_waited_for_once() -> None:
    place = Rendezvous(2.0)
    place.expect("lost")
    took_s = []
    for key in ("a", "b"):
        began_s = time.monotonic()
        place.arrive(key)
        took_s.append(time.monotonic() - began_s)
    assert took_s[0] >= 2.0 > took_s[1]


# --- commands --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of programs, in which each one tells what it is."""
    for name, place in (("scontrol", tmp_path / "bin"), ("squeue", tmp_path / "bin")):
        place.mkdir(exist_ok=True)
        (place / name).write_text(f"#!/bin/sh\necho {name} of PATH\n")
        (place / name).chmod(0o755)
    return tmp_path


def commands(folder: Path, path: str) -> Commands:
    state = str(folder / "state")
    around = Surroundings({"PATH": path}, lambda _: False, lambda _: None, time.monotonic, time.time, 4, None, state)
    return Commands(Settings(str(folder)), around)


def test_a_command_is_the_one_that_path_leads_to(folder: Path) -> None:
    assert commands(folder, f"/nowhere:{folder}/bin:/bin").read(["squeue"]) == "squeue of PATH\n"
    with pytest.raises(EngineError, match="the command squeue of Slurm is not on this machine"):
        commands(folder, "/nowhere").read(["squeue"])


def test_a_relative_entry_of_path_is_left_to_the_folder_of_the_manifest(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is executed in that folder, and the program may have been started in another one."""
    (folder / "elsewhere/bin").mkdir(parents=True)
    (folder / "elsewhere/bin/squeue").write_text("#!/bin/sh\necho another\n")
    (folder / "elsewhere/bin/squeue").chmod(0o755)
    monkeypatch.chdir(folder / "elsewhere")
    assert commands(folder, "bin:/bin").read(["squeue"]) == "squeue of PATH\n"
    (folder / "elsewhere/bin").rename(folder / "elsewhere/only-here")
    monkeypatch.chdir(folder / "elsewhere")
    assert commands(folder, f"only-here:{folder}/bin:/bin").read(["squeue"]) == "squeue of PATH\n"
    (folder / "elsewhere/only-here").rename(folder / "elsewhere/bin")
    monkeypatch.chdir(folder)
    assert commands(folder / "elsewhere", "bin:/bin").read(["squeue"]) == "another\n"
