"""JSON values are told apart as JSON tells them apart, whatever Python takes for equal."""

import datetime
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given

from json_configs import configs, reordered, text_of, values
from reconciler.model.json_values import canonical, compact, config_digest, same_json

THREE = ({"n": 1}, {"n": True}, {"n": 1.0})


def test_one_true_and_one_point_zero_are_three_values() -> None:
    assert [[same_json(a, b) for b in THREE] for a in THREE] == [[a is b for b in THREE] for a in THREE]
    assert len({config_digest(config) for config in THREE}) == 3
    nested = [{"env": [config]} for config in THREE]
    assert [same_json(nested[0], other) for other in nested] == [True, False, False]
    assert not same_json({"n": 0.0}, {"n": -0.0})
    assert not same_json({"n": None}, {})


@given(values, values)
def test_two_values_are_the_same_exactly_if_their_json_is(a: Any, b: Any) -> None:
    assert same_json(a, b) is (text_of(a) == text_of(b)) is (compact(a) == compact(b))


@given(configs)
def test_the_order_of_keys_counts_nowhere(config: Any) -> None:
    other = reordered(config)
    assert same_json(config, other)
    assert config_digest(config) == config_digest(other)
    assert repr(canonical(config)) == repr(canonical(other))
    assert text_of(canonical(config)) == text_of(config)


def test_a_mapping_of_another_type_is_the_same_value() -> None:
    frozen = MappingProxyType({"b": (1, 2), "a": MappingProxyType({})})
    plain = {"a": {}, "b": [1, 2]}
    assert repr(canonical(frozen)) == repr(plain)
    assert same_json(frozen, plain)
    assert config_digest(frozen) == config_digest(plain)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (float("nan"), ValueError),
        (float("-inf"), ValueError),
        (datetime.date(2026, 1, 1), TypeError),
        ({1: "a"}, TypeError),
        ({None: "a"}, TypeError),
        (b"a", TypeError),
        ({"a"}, TypeError),
    ],
)
def test_what_json_does_not_have_is_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        canonical({"deep": [value]})
