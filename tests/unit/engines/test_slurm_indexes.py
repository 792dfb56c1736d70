"""The indexes of arrays, as Slurm writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.engines.slurm.rows import count_of, indexes_of, joined


@pytest.mark.parametrize(
    ("text", "indexes"),
    [
        ("5", [5]),
        ("1-3", [1, 2, 3]),
        ("0-8:3,20%2", [0, 3, 6, 20]),
        ("10-20:2", [10, 12, 14, 16, 18, 20]),
        ("1-5,7,1...", [1, 2, 3, 4, 5, 7]),
        ("", []),
    ],
)
def test_a_list_of_indexes_is_read(text: str, indexes: list[int]) -> None:
    assert list(indexes_of(text)) == indexes
    assert count_of(text) == len(indexes)


@given(st.sets(st.integers(0, 60)))
def test_a_list_that_is_written_is_read_as_the_same_indexes(indexes: set[int]) -> None:
    assert list(indexes_of(joined(indexes))) == sorted(indexes)


def test_an_index_that_stands_there_twice_is_one_task() -> None:
    assert count_of("1-3,2") == 3


def test_a_list_is_short() -> None:
    assert joined([9, 3, 7, 8, 3, 4]) == "3-4,7-9"
