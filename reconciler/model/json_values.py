"""JSON values: their canonical form, whether two of them are the same, and the digest of a config.

Python takes 1, True and 1.0 for equal, and JSON does not. Code that compares configs therefore uses `same_json`, and
code that looks a config up in a cache uses `compact`.
"""

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any


def canonical(value: Any) -> Any:
    """Return a copy of a JSON value that is built of dict, list and scalars, with the keys of each mapping sorted.

    Raises `TypeError` for a value that JSON does not have, such as a date or a key that is not text, and `ValueError`
    for a number that JSON does not have: NaN and the infinities.
    """
    kind = type(value)
    if kind in (str, int, bool) or value is None:
        return value
    if kind is float:
        if not isfinite(value):
            raise ValueError(f"{value} is no number of JSON")
        return value
    if isinstance(value, Mapping):
        return {_text_key(key): canonical(value[key]) for key in sorted(value, key=_text_key)}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    raise TypeError(f"{str(value)[:80]} is no value of JSON")


def compact(value: Any) -> str:
    """Return a JSON value as text on one line: keys sorted, no white space. Two values have the same text exactly if
    `same_json` takes them for the same.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain)


def value_of(text: str) -> Any:
    """Return the value that a text of `compact` stands for."""
    return json.loads(text)


def same_json(a: Any, b: Any) -> bool:
    """Return whether two JSON values are the same. The order of keys does not count.

    1, 1.0 and true are three values, as they are three texts of JSON.
    """
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same_json(value, b[key]) for key, value in a.items())
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same_json(*pair) for pair in zip(a, b, strict=True))
    if type(a) is float and type(b) is float:
        return str(a) == str(b)  # 0.0 and -0.0 are two texts
    return type(a) is type(b) and bool(a == b)


def config_digest(config: Mapping[str, Any]) -> str:
    """Return the digest of a config as "sha256:" and 64 hex digits. Configs that are the same have the same digest."""
    from reconciler.model.digests import sha256

    return f"sha256:{sha256(compact(config).encode('utf-8', 'surrogatepass'))}"


def _text_key(key: object) -> str:
    if type(key) is not str:
        raise TypeError(f"the key {str(key)[:80]} is not text")
    return key


def _plain(value: object) -> object:
    """Return a mapping of another type as `json` writes it."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{str(value)[:80]} is no value of JSON")
