"""Paths to the values of a config: two values never have the same path, and each path can be read again."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from json_configs import keys
from reconciler.model.config_paths import covers, path_at_start, path_of, path_text

PATHS: st.SearchStrategy[Any] = st.lists(keys | st.integers(0, 20), max_size=4).map(lambda steps: ("config", *steps))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("config", "env", "LEVEL"), "config.env.LEVEL"),
        (("config", "command", 1), "config.command[1]"),
        (("config", "1"), "config.1"),
        (("config", "app.kubernetes.io/name"), 'config["app.kubernetes.io/name"]'),
        (("config", "a", "b.c", 0, "d"), 'config.a["b.c"][0].d'),
        (("config", 'say "hi"'), 'config["say \\"hi\\""]'),
        (("config", ""), 'config[""]'),
        (("config", "x\ny"), 'config["x\\ny"]'),
        (("config", "[0]"), 'config["[0]"]'),
    ],
)
def test_a_path_has_one_text(path: tuple[str | int, ...], text: str) -> None:
    assert path_text(path) == text
    assert path_of(text) == path


@given(PATHS, PATHS)
def test_two_paths_have_the_same_text_only_if_they_are_the_same(a: Any, b: Any) -> None:
    assert path_of(path_text(a)) == a
    assert (path_text(a) == path_text(b)) is (a == b)


def test_a_key_may_stand_without_quotes_where_no_other_path_is_meant() -> None:
    assert path_of("config.naïve.a/b") == ("config", "naïve", "a/b") == path_of('config["naïve"]["a/b"]')


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "config.", ".config", "config..a", "config[", "config[a]", "config[-1]", "config[01]"),
        *('config["a]', 'config["\\x"]', "config a", "config[0]a", "config.\xa0", 'config"a"', "config.a\n"),
        "config[1000000000]",
    ],
)
def test_a_text_of_another_form_is_no_path(text: str) -> None:
    with pytest.raises(ValueError):
        path_of(text)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("config.env.A: no", ("config", "env", "A")),
        ("config.command[1] holds", ("config", "command", 1)),
        ('config.labels["a/b"] is', ("config", "labels", "a/b")),
        ("config.native and `gpu`", ("config", "native")),
    ],
)
def test_a_message_begins_with_the_path_of_its_field(text: str, path: tuple[str | int, ...]) -> None:
    assert path_at_start(text) == path


@pytest.mark.parametrize("text", ["", "`x`", "config[01] x", "config[9999999999]", 'config["a\\q"] x', "ä"])
def test_a_message_that_begins_with_no_path_has_none(text: str) -> None:
    assert path_at_start(text) == ()


@given(st.text())
def test_any_message_can_be_asked_for_its_path(text: str) -> None:
    path_at_start(text)
    path_at_start(f"config{text}")


def test_a_path_covers_itself_and_what_is_inside_and_whole_segments_count() -> None:
    env = path_of("config.env")
    assert covers(env, env)
    assert covers(env, path_of("config.env.LEVEL"))
    assert not covers(env, path_of("config.environment"))
    assert not covers(path_of("config.env.LEVEL"), env)
    assert not covers(path_of("config.a[1]"), path_of("config.a[10]"))
    assert not covers(path_of('config["env.LEVEL"]'), path_of("config.env.LEVEL"))
