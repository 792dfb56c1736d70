"""Threads that submit at the same time share the commands that follow, and comments that no call waits for."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from reconciler.engines.port import Surroundings
from reconciler.engines.slurm.commands import Commands
from reconciler.engines.slurm.notes import Notes
from reconciler.engines.slurm.rendezvous import Rendezvous
from reconciler.engines.slurm.settings import Settings
from waits import until

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


# --- comments --------------------------------------------------------------------------------------------------------

_SCONTROL = """#!/bin/sh
touch {folder}/began
sleep "$(cat {folder}/slow)"
cat >> {folder}/given
echo >> {folder}/commands
"""


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """The commands of a folder with a stand-in for `scontrol`, which keeps what it is given."""
    program = tmp_path / "scontrol"
    program.write_text(_SCONTROL.format(folder=tmp_path))
    program.chmod(0o755)
    (tmp_path / "slow").write_text("0")
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    around = Surroundings(
        env, lambda _: False, lambda _: None, time.monotonic, time.time, 4, None, str(tmp_path / "state")
    )
    return Commands(Settings(), around)


def test_comments_are_gathered_and_all_are_written_by_the_end(commands: Commands, tmp_path: Path) -> None:
    notes = Notes(commands)
    for number in range(1, 121):
        notes.add(str(number), f"c{number}")
    notes.close()
    lines = (tmp_path / "given").read_text().splitlines()
    assert lines == [f"update JobId={number} Comment=c{number}" for number in range(1, 121)]
    assert len((tmp_path / "commands").read_text()) == 3


def test_no_call_waits_for_a_comment_and_the_end_waits_for_all(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "slow").write_text("0.3")
    notes = Notes(commands)
    began_s = time.monotonic()
    notes.add("1", "a")
    assert time.monotonic() - began_s < 0.3
    until((tmp_path / "began").exists)
    notes.add("2", "b")  # while the first command is at work
    notes.close()
    assert (tmp_path / "given").read_text().splitlines() == ["update JobId=1 Comment=a", "update JobId=2 Comment=b"]


def test_without_the_command_the_end_comes_all_the_same(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "scontrol").unlink()
    notes = Notes(commands)
    notes.add("1", "a")
    notes.close()
    notes.add("2", "b")
    notes.close()
