"""The home of state: of all that write after one version, one succeeds, and nothing that was written is lost."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from reconciler.state.port import Append, Content, Fold, Hold, Leave, Moved, Note, StateError, Unreachable
from reconciler_scripts.directory import PLUGIN, DirectoryRemote

NOTE = Note("ada@one", "apply", "2026-11-28T14:00:00Z")
STATE = Fold(b"nonce-1", b'{"state": 1}\n', b"intent \xc3", b"line 1\nline 2\n")


@pytest.fixture
def remote(tmp_path: Path) -> DirectoryRemote:
    return DirectoryRemote(tmp_path / "states")


def content_of(remote: DirectoryRemote) -> Content:
    snapshot = remote.fetch()
    assert snapshot is not None
    return snapshot.content


def test_an_empty_place_has_no_version(remote: DirectoryRemote) -> None:
    assert (remote.version(), remote.fetch()) == (None, None)


def test_the_content_is_that_of_all_writes_one_after_the_other(remote: DirectoryRemote) -> None:
    first = remote.publish(None, STATE, NOTE)
    # An append may begin within a character.
    second = remote.publish(first, Append(b"nonce-2", len(b"intent \xc3"), b"\xa4\n"), NOTE)
    assert content_of(remote) == Content(STATE.state, b"intent \xc3\xa4\n", b"nonce-2", 14)
    third = remote.publish(second, Fold(b"nonce-3", None, None, b"line 3\n"), NOTE)
    fourth = remote.publish(third, Hold(b"nonce-4"), NOTE)
    assert content_of(remote) == Content(STATE.state, None, b"nonce-4", 21)
    last = remote.publish(fourth, Leave(), NOTE)
    assert content_of(remote) == Content(STATE.state, None, None, 21)
    assert remote.version() == last
    assert remote.at("2").version == second
    assert remote.at("2").content.journal == b"intent \xc3\xa4\n"


def test_a_file_holds_what_a_write_adds_and_not_the_whole_state(remote: DirectoryRemote, tmp_path: Path) -> None:
    first = remote.publish(None, STATE._replace(state=b"x" * 100_000), NOTE)
    remote.publish(first, Append(b"nonce-2", 0, b"intent\n"), NOTE)
    assert (tmp_path / "states" / "00000002.json").stat().st_size < 1000


def test_the_history_comes_in_pages(remote: DirectoryRemote) -> None:
    version = remote.publish(None, STATE, NOTE)
    version = remote.publish(version, Fold(None, STATE.state, None, b"line 3\n"), NOTE)
    later = remote.publish(version, Fold(None, STATE.state, None, b"line 4\n"), NOTE)
    first = remote.past(version, None, 1)
    assert first.content == b"line 1\n"
    second = remote.past(version, first.after, 2)
    assert (second.content, second.after) == (b"line 2\nline 3\n", None)
    assert remote.past(later, None, 100).content == b"line 1\nline 2\nline 3\nline 4\n"


def test_of_eight_that_write_after_one_version_one_succeeds(remote: DirectoryRemote, tmp_path: Path) -> None:
    base = remote.publish(None, STATE, NOTE)
    won, lost = [], []

    def write(number: int) -> None:
        try:
            won.append(DirectoryRemote(tmp_path / "states").publish(base, Hold(b"%d" % number), NOTE))
        except Moved:
            lost.append(number)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert (won, len(lost)) == ([remote.version()], 7)


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), FileExistsError(17, "File exists")])
def test_a_write_whose_answer_is_lost_is_found_there(
    remote: DirectoryRemote, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    link = os.link

    def lost(source: Any, target: Any) -> None:
        link(source, target)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", lost)
        version = remote.publish(None, STATE, NOTE)
    assert remote.version() == version


def test_a_write_after_a_version_that_is_gone_is_refused(remote: DirectoryRemote, tmp_path: Path) -> None:
    first = remote.publish(None, STATE, NOTE)
    second = remote.publish(first, Leave(), NOTE)
    assert remote.follows(first)
    (tmp_path / "states" / "00000002.json").unlink()
    assert not remote.follows(second)
    with pytest.raises(Moved):
        remote.publish(second, Leave(), NOTE)
    again = remote.publish(first, Leave(), NOTE)
    assert again != second
    assert not remote.follows(second)


def test_a_place_that_is_no_directory_can_not_be_reached(tmp_path: Path) -> None:
    (tmp_path / "states").touch()
    with pytest.raises(Unreachable, match="Not a directory"):
        DirectoryRemote(tmp_path / "states").fetch()
    with pytest.raises(Unreachable):
        DirectoryRemote(tmp_path / "states").publish(None, STATE, NOTE)


@pytest.mark.parametrize("content", ["{", "[]", '{"kind": "Fold"}'])
def test_a_file_that_is_no_revision_is_no_state(remote: DirectoryRemote, tmp_path: Path, content: str) -> None:
    remote.publish(None, STATE, NOTE)
    (tmp_path / "states" / "00000001.json").write_text(content)
    with pytest.raises(StateError, match="no revision"):
        remote.fetch()


@pytest.mark.parametrize("revision", ["0", "2", "x", "../1", "1" * 99])
def test_a_revision_that_is_not_there_is_named(remote: DirectoryRemote, revision: str) -> None:
    remote.publish(None, STATE, NOTE)
    with pytest.raises(StateError, match="has no revision"):
        remote.at(revision)


def test_a_place_with_links_passes_the_probe_and_nothing_is_left_there(remote: DirectoryRemote, tmp_path: Path) -> None:
    remote.probe()
    assert list((tmp_path / "states").iterdir()) == []


def test_a_url_names_a_directory() -> None:
    assert PLUGIN.fault_of("dir://") == ("no directory is named", "give one, such as dir:///srv/states/prod")
    assert PLUGIN.fault_of("dir://states") is None
    assert PLUGIN.full_url("dir:///srv//states/") == "dir:///srv/states"
