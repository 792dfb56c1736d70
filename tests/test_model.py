"""A thousand histories of the model, the same each time; `python tests/model.py` plays as many others as you like."""

import pytest

import model

HISTORIES = 125


@pytest.mark.parametrize("number", range(8))
def test_no_history_runs_a_job_twice_or_loses_a_run(number: int) -> None:
    model.run(HISTORIES, number)
