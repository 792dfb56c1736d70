"""Each seeded bug of `mutants.py` fits the present code."""

from pathlib import Path

import pytest

import reconciler
from checkout import TESTS
from mutants import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_a_mutant_replaces_stands_once_in_the_code(mutant: Mutant) -> None:
    text = (Path(reconciler.__file__).parent / mutant.file).read_text()
    assert text.count(mutant.old) == 1
    assert mutant.old != mutant.new
    assert len(list(TESTS.rglob(mutant.test))) == 1


def test_no_two_mutants_go_by_one_name() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert sorted(set(names)) == sorted(names)


def test_the_page_tells_how_many_there_are() -> None:
    assert f"{len(MUTANTS)} seeded bugs" in (TESTS.parent / "docs" / "reliability.md").read_text()
