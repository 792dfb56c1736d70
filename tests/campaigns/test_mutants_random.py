"""How bugs at random places are chosen, and how those are found that no test notices."""

import ast
from collections.abc import Sequence
from pathlib import Path

import pytest

from checkout import ROOT
from mutants_random import Outcome, left_of
from nearest_tests import Imports
from random_bugs import DROPPED, Bug, choose, with_bugs

_MODULE = '''\
"""Ünïcode before a place counts as one character."""

def most(values: list[int] | None, least: "int | None" = 0) -> int | None:
    found: int | None = least
    for value in values or []:
        if value > found and value != 7:
            found = value + 1
    print("ü", found)
    return found
'''


def chosen(folder: Path, seed: int, count: int = 1000) -> list[Bug]:
    (folder / "code").mkdir(exist_ok=True)
    (folder / "code/most.py").write_text(_MODULE)
    return choose(folder, ["code"], seed, count)


def test_a_seed_chooses_the_same_bugs_each_time_and_another_seed_others(tmp_path: Path) -> None:
    assert chosen(tmp_path, 1, 5) == chosen(tmp_path, 1, 5) != chosen(tmp_path, 2, 5)


def test_each_bug_is_another_program_and_changes_one_place(tmp_path: Path) -> None:
    bugs = chosen(tmp_path, 1)
    for bug in bugs:
        with_it = with_bugs(_MODULE, [bug])
        assert ast.dump(ast.parse(with_it)) != ast.dump(ast.parse(_MODULE))
        assert with_it.startswith(_MODULE[: bug.start])
        assert with_it.endswith(_MODULE[bug.end :])
    all_of_them = with_bugs(_MODULE, bugs)
    assert all(bug.text in all_of_them for bug in bugs)
    assert {bug.path for bug in bugs} == {"code/most.py"}


def test_bugs_are_of_all_kinds_and_not_in_annotations(tmp_path: Path) -> None:
    bugs = [bug for seed in range(30) for bug in chosen(tmp_path, seed)]
    ways = {bug.way.removeprefix("core/").partition("_")[0] for bug in bugs}
    assert ways == {
        DROPPED,
        "AddNot",
        "NumberReplacer",
        "ReplaceAndWithOr",
        "ReplaceBinaryOperator",
        "ReplaceComparisonOperator",
        "ReplaceOrWithAnd",
        "ZeroIterationForLoop",
    }
    dropped = {_MODULE[bug.start : bug.end] for bug in bugs if bug.way == DROPPED}
    assert 'print("ü", found)' in dropped
    assert not any("|" in _MODULE[bug.start : bug.end] for bug in bugs if bug.way != DROPPED)


@pytest.mark.parametrize(
    ("module", "test"),
    [("reconciler/rules/guards.py", "test_guards.py"), ("ci/github_api.py", "test_github_api.py")],
)
def test_the_nearest_tests_are_those_that_import_a_module(module: str, test: str) -> None:
    assert test in [path.name for path in Imports(ROOT).nearest(ROOT / module, 5)]


class Suite:
    """A suite of which each test fails with certain bugs, or with certain bugs together."""

    def __init__(self, fails_with: dict[str, list[set[str]]]) -> None:
        self._fails_with = fails_with
        self.runs = 0

    def failed(self, bugs: Sequence[Bug]) -> list[str]:
        there = {bug.text for bug in bugs}
        return [test for test, causes in self._fails_with.items() if any(cause <= there for cause in causes)]

    def whole(self, bugs: Sequence[Bug]) -> Outcome:
        self.runs += 1
        return Outcome(not self.failed(bugs), self.failed(bugs))

    def alone(self, bugs: Sequence[Bug], tests: Sequence[str]) -> Sequence[Bug]:
        return [bug for bug in bugs if not set(self.failed([bug])) & set(tests)]


def left(names: str, fails_with: dict[str, list[set[str]]]) -> tuple[str, int]:
    suite = Suite(fails_with)
    bugs = [Bug("m.py", number, DROPPED, number, number, name) for number, name in enumerate(names)]
    found = left_of(bugs, suite.whole, suite.alone)
    return "".join(bug.text for bug in found), suite.runs


def test_a_bug_is_left_if_the_suite_passes_with_it() -> None:
    assert left("", {}) == ("", 0)
    assert left("abc", {}) == ("abc", 1)
    assert left("abc", {"one": [{"a"}, {"b"}, {"c"}]}) == ("", 1)
    assert left("abcd", {"one": [{"a"}], "two": [{"c"}]}) == ("bd", 2)


def test_bugs_that_fail_only_together_are_left() -> None:
    assert left("abcd", {"one": [{"a", "d"}], "two": [{"b"}]}) == ("acd", 4)


def test_a_bug_that_hangs_the_suite_is_found_without_a_failed_test() -> None:
    def whole(bugs: Sequence[Bug]) -> Outcome:
        return Outcome(passed=not any(bug.text == "b" for bug in bugs))

    bugs = [Bug("m.py", number, DROPPED, number, number, name) for number, name in enumerate("abcd")]
    assert [bug.text for bug in left_of(bugs, whole, lambda bugs, tests: bugs)] == ["a", "c", "d"]
