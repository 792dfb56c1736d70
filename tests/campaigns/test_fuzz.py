"""The targets of `fuzz.py` over their seeds and over inputs of hypothesis, and atheris if it is installed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import NAMES
from fuzz_targets import CANARY, TARGETS, shows
from reconciler.manifest.yaml import read
from reconciler.state.journal import JournalDamaged, decode

FUZZ = Path(__file__).with_name("fuzz.py")


@st.composite
def an_input(draw: st.DrawFn, name: str) -> bytes:
    """Any bytes, or a seed in which pieces of other seeds, words and random bytes replace some parts."""
    target = TARGETS[name]
    if draw(st.integers(0, 3)) == 0:
        return draw(st.binary(max_size=200))
    content = draw(st.sampled_from(target.seeds))
    pieces = st.sampled_from([*(word.encode() for word in target.words), *target.seeds]) | st.binary(max_size=8)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(content)))
        until = draw(st.integers(at, min(len(content), at + 40)))
        content = content[:at] + draw(pieces)[:300] + content[until:]
    return content[: target.max_bytes]


def test_each_target_is_run_by_the_fuzzer() -> None:
    assert tuple(TARGETS) == NAMES


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_holds_over_its_seeds_and_what_is_made_of_them(name: str) -> None:
    target = TARGETS[name]
    for seed in target.seeds:
        target.run(seed)

    @settings(max_examples=300, deadline=None)
    @given(an_input(name))
    def holds(content: bytes) -> None:
        target.run(content)

    holds()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text", b"#\x01r#[error]x"),
        ("text", "a\u00adb\u206a\U000e0100".encode()),
        ("manifest", b"d:\n    s:\n    c"),
        ("journal", b'{"n": 3, "flushed": 0}'),
        ("journal", b'{"n": 0, "flushed": "x"}'),
        ("journal", b"no JSON"),
        ("session", b'{"type": "result"}'),
        ("session", b'{"type": "result", "flushed": "a"}'),
        ("session", b'{"type": "record", "job": 5, "record": {"id": "x"}}'),
        ("session", b'{"type": "header", "digest": ""}'),
        ("state", TARGETS["state"].seeds[2].replace(b'"serial": 0', b'"serial": 1e999')),
        ("state", TARGETS["state"].seeds[0].replace(b'"id": "id-a"', b'"id": 5')),
        ("state", TARGETS["state"].seeds[0].replace(b'"jobTimeout": 7', b'"jobTimeout": "7"')),
        ("answer", bytes((0, 7)) + b'\n\n\n{"message": "not with canary%2ftoken%2B1"}'),
        ("answer", bytes((0, 0)) + b'\n\n\n{"data": [{"id": "canary/token+1", "state": "JOB_STATE_NEW"}]}'),
        ("answer", bytes((0, 7)) + b"\n\n\nnot with canary&#x2f;token&#43;1"),
        ("answer", bytes((0, 7)) + b'\n\n\n{"message": "\\u0063anary\\u002ftoken+1"'),
    ],
)
def test_what_was_found_once_is_not_found_again(name: str, content: bytes) -> None:
    TARGETS[name].run(content)


def test_a_token_shows_in_any_of_its_encodings() -> None:
    for echo in (
        "canary/token+1",
        "canary%2ftoken%2B1",
        r"canary\/token+1",
        "canary&#47;token+1",
        r"\u0063anary/token+1",
    ):
        assert shows(CANARY, f"<{echo}>")
    assert not shows(CANARY, "[redacted]")


def test_a_fault_at_the_end_of_a_text_stands_within_it() -> None:
    """libyaml counts one line too many if the last line has no line end."""
    for libyaml in (True, False):
        [fault] = read(b"d:\n    s:\n    c", "f", libyaml).faults
        assert fault.position.line == 3


def test_a_journal_whose_first_record_is_gone_is_refused_though_none_was_promised() -> None:
    from fuzz_targets import framed

    with pytest.raises(JournalDamaged, match="records are missing"):
        decode(framed([b'{"n": 3, "flushed": 0}']), "x")


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris comes for Linux on x86-64")
def test_the_fuzzer_runs_and_tells_its_figures(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, FUZZ, "--seconds", "1", "--seed", "1", "--target", "observation", "--room", tmp_path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    inputs = int(run.stdout.splitlines()[2].split()[1])
    assert inputs > 100
