"""The contract suites catch seeded bugs: each test that is named for a bug fails for it."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import seeded_engines
import seeded_homes
import seeded_plugins
import seeded_remotes
import seeded_senders
from checkout import ROOT
from reconciler.testing.amount import VARIABLE, WHOLE, amount_in
from reconciler.testing.engines import EngineContract
from reconciler.testing.remotes import RemoteContract
from reconciler.testing.states import StateContract

MODULES = (seeded_engines, seeded_homes, seeded_plugins, seeded_remotes, seeded_senders)

CASES = [
    (module.__name__, name, test)
    for module in MODULES
    for name, suite in vars(module).items()
    for test in getattr(suite, "CAUGHT_BY", ())
]
"""The module, the class and the test of each case."""

TRIED = CASES if amount_in() is WHOLE else CASES[::4]

_CASE_S, _CASES_S = (60, 150) if TRIED is not CASES else (180, 600)
"""How long one case, and all cases of a program, may take. What hangs is named before this test is ended itself."""

_OPTIONS = ("-p", "no:xdist", "-p", "no:cacheprovider", "-o", f"faulthandler_timeout={_CASE_S}")

_SETS = 2 if TRIED is not CASES else 8
"""The tests run in so many programs, so that several workers of pytest share them."""


@pytest.mark.parametrize("number", range(_SETS))
def test_each_seeded_bug_is_caught_by_the_tests_that_are_named_for_it(number: int, tmp_path: Path) -> None:
    cases = TRIED[number::_SETS]
    report = tmp_path / "report.xml"
    ids = [f"{ROOT}/tests/contract/{module}.py::{name}::{test}" for module, name, test in cases]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-v",
            *_OPTIONS,
            f"--basetemp={tmp_path / 'cases'}",
            f"--junitxml={report}",
            *ids,
        ],
        cwd=ROOT,
        # The bugs are such that a sample shows them. Where `CI` is set, pytest explains each failure in full, so that a
        # test which compares too much takes minutes to fail.
        env={**os.environ, VARIABLE: "sample", "CI": "true"},
        capture_output=True,
        text=True,
        timeout=_CASES_S,
        check=False,
    )
    assert report.exists(), done.stdout + done.stderr
    failed, other = set(), []
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = case.get("classname", "").rpartition(".")[2], case.get("name", "")
        failure = case.find("failure")
        if failure is not None:
            failed.add(name)
            # A program that can't even begin, or that hangs, would fail every test, whatever the bug.
            assert not re.search("the program ended|the program hangs|TimeoutExpired", failure.text or ""), failure.text
        else:
            other.append(name)
    assert other == []
    assert failed == {(name, test) for _, name, test in cases}


def test_every_seeded_bug_names_the_tests_that_catch_it() -> None:
    suites = [name for module in MODULES for name in vars(module) if name.startswith("Test")]
    assert sorted({name for _, name, _ in CASES}) == sorted(suites)


@pytest.mark.parametrize("suite", [EngineContract, StateContract, RemoteContract])
def test_every_test_of_a_suite_catches_a_seeded_bug(suite: type) -> None:
    tests = {name for name in dir(suite) if name.startswith("test_")}
    assert tests - {test.partition("[")[0] for _, _, test in CASES} == set()
