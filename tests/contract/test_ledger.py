"""The judge of the contract suites finds each kind of fault in a record that is sound but for that fault."""

from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.model.jobs import State
from reconciler.state.history import StoredHistory
from reconciler.testing.ledger import Kind, Ledger, Line, faults
from reconciler.testing.machines import Machine
from reconciler.testing.worker import TARGET, Errand, Worker, plugin_at

Lines = list[Line]


@pytest.fixture
def sound(tmp_path: Path) -> tuple[Lines, State, StoredHistory]:
    """What two programs leave that made the calls of three jobs, one after the other."""
    url, ledger = str(tmp_path / "jobs.state.json"), str(tmp_path / "ledger")
    for name, jobs in (("one", 2), ("two", 3)):
        machine = Machine(name, str(tmp_path / name))
        errand = Errand(url, ledger, machine, jobs=jobs, at_once=1)
        Worker(errand).work(plugin_at("", url).open(url, machine.surroundings({})))
    store = plugin_at("", url).open(url, Machine("reader", str(tmp_path / "reader")).surroundings({}))
    state = store.read(TARGET)
    assert state is not None
    return Ledger(ledger).lines(), state, store.read_history()


def test_a_sound_record_has_no_fault(sound: tuple[Lines, State, StoredHistory]) -> None:
    lines, state, stored = sound
    assert faults(lines, state, stored) == []
    assert [line.job for line in lines if line.kind is Kind.CALLED] == ["job-0", "job-1", "job-2"]


def twice(lines: Lines) -> Lines:
    return [*lines, next(line for line in lines if line.kind is Kind.CALLED)]


def by_another(lines: Lines) -> Lines:
    return [line._replace(session="late") if line.job == "job-2" else line for line in lines]


def without_intent(lines: Lines) -> Lines:
    return [line._replace(op="unknown") if line.job == "job-2" else line for line in lines]


def never_made(lines: Lines) -> Lines:
    return [line for line in lines if line.job != "job-1"]


def not_recorded(lines: Lines) -> Lines:
    return [line._replace(job="job-7") if line.job == "job-1" else line for line in lines]


def backwards(lines: Lines) -> Lines:
    return [line._replace(serial=100) if line.kind is Kind.HELD else line for line in lines]


def begun_anew(lines: Lines) -> Lines:
    return [line._replace(lineage="another") if line.kind is Kind.CLOSED else line for line in lines]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (twice, "job-0 was called 2 times"),
        (by_another, "called job-2 while two-"),
        (without_intent, "no intent unknown"),
        (never_made, "that call was never made"),
        (not_recorded, "job-7 was called, and is not recorded"),
        (backwards, "after serial 100"),
        (begun_anew, "2 lineages"),
    ],
)
def test_each_fault_of_the_ledger_is_found(
    sound: tuple[Lines, State, StoredHistory], change: Callable[[Lines], Lines], words: str
) -> None:
    lines, state, stored = sound
    assert any(words in fault for fault in faults(change(lines), state, stored))


def test_a_line_of_the_history_that_is_gone_is_found(sound: tuple[Lines, State, StoredHistory]) -> None:
    lines, state, stored = sound
    rest = b"".join(stored.content.splitlines(keepends=True)[1:])
    found = faults(lines, state, stored._replace(content=rest))
    assert any("history: " in fault for fault in found)
    assert any("job-0 was called, and the history has no intent" in fault for fault in found)
