"""What the port itself decides for all engines."""

import pytest

from reconciler.engines import port
from reconciler.engines.port import Marks, Reason, reason_of_duplicate

ASKED = Marks("state-1", "op-1", "config-1", "token-1", "commit-1")


@pytest.mark.parametrize(
    ("there", "reason"),
    [
        (ASKED, Reason.WAS_THERE),
        (ASKED._replace(commit="commit-2"), Reason.WAS_THERE),
        (ASKED._replace(op="op-2"), Reason.WAS_THERE),
        (ASKED._replace(config_digest="config-2", token_digest="token-2"), Reason.WAS_THERE),
        (ASKED._replace(op="op-2", config_digest="config-2"), Reason.OTHER_OP),
        (ASKED._replace(op="op-2", token_digest="token-2"), Reason.OTHER_OP),
        (ASKED._replace(lineage="state-2"), Reason.OTHER_OWNER),
        (Marks(), Reason.OTHER_OWNER),
    ],
)
def test_the_marks_of_a_run_say_why_another_run_of_its_id_is_refused(there: Marks, reason: Reason) -> None:
    assert reason_of_duplicate(there, ASKED) is reason


@pytest.mark.parametrize("asked", [Marks(), Marks("state-1")])
def test_a_mark_that_is_not_known_proves_no_run_to_be_the_same(asked: Marks) -> None:
    assert reason_of_duplicate(asked, asked) is Reason.OTHER_OP


def test_the_port_has_each_name_that_it_promises() -> None:
    assert [name for name in port.__all__ if not hasattr(port, name)] == []
