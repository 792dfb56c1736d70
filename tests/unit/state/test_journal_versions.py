"""A journal of another version of the format is neither replayed nor folded."""

from pathlib import Path

import pytest

from reconciler.model.errors import StateError
from reconciler.state.replay import match_journal


@pytest.mark.parametrize("version", [1, 3])
def test_a_journal_of_another_version_is_refused(version: int, tmp_path: Path) -> None:
    header = {
        "format": version,
        "digest": "",
        "lineage": "a",
        "engine": "local",
        "endpoint": "",
        "serial": 0,
        "last": {},
    }
    with pytest.raises(StateError, match=f"has format version {version}, and this reconciler reads 2"):
        match_journal(None, "", [header], str(tmp_path / "jobs.state.json"))


def test_a_journal_of_this_version_is_taken(tmp_path: Path) -> None:
    header = {"format": 2, "digest": "", "lineage": "a", "engine": "local", "endpoint": "", "serial": 0, "last": {}}
    state, held, lacking = match_journal(None, "", [header], str(tmp_path / "jobs.state.json"))
    assert (state.lineage, held, lacking) == ("a", [], [])
