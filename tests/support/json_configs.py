"""Configs of all shapes that JSON allows, as Hypothesis draws them."""

import json
from typing import Any

from hypothesis import strategies as st

from reconciler.model.jobs import Config

ODD_KEYS = ["a", "b", "env", "LEVEL", "a.b", 'say "hi"', "[0]", "", " ", "é", "0", "x\ny", "\u202e", "null"]

keys = st.sampled_from(ODD_KEYS) | st.text(max_size=4)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**40), max_value=10**40)
    | st.sampled_from([0, 1, True, False, 1.0, 0.0, -0.0, 1.5, 1e300, 5e-324, "", "1", "true", "null"])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8
)
configs: st.SearchStrategy[Config] = st.dictionaries(keys, values, max_size=4)


def text_of(value: Any) -> str:
    """The JSON text of a value with its keys in order: the measure of sameness that no code of ours has a part in."""
    return json.dumps(value, sort_keys=True)


def reordered(value: Any) -> Any:
    """The same value with the keys of each mapping in the opposite order."""
    if isinstance(value, dict):
        return {key: reordered(inner) for key, inner in reversed(value.items())}
    return [reordered(item) for item in value] if isinstance(value, list) else value
