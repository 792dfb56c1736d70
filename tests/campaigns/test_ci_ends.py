"""A sample of `ci_ends.py`: a CI step is ended in each way, and the remote knows each call that was sent."""

from pathlib import Path

from project import no_fault_in


def test_a_step_that_is_ended_anywhere_leaves_each_call_known_on_the_remote() -> None:
    printed = no_fault_in(Path(__file__).with_name("ci_ends.py"), "--moments", "6", "--in-turn")
    assert "6 ends, 0 broken" in printed
