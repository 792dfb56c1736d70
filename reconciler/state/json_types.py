"""Values of JSON of one type each, as a state file and a journal have them.

Each function returns the value itself. It raises `TypeError` for a value of another type, and `ValueError` for a value
out of range. Writing and reading use the same functions, so that nothing is written that can't be read.
"""

from collections.abc import Mapping
from typing import Any

from reconciler.model.jobs import Config
from reconciler.model.json_values import canonical


def text_from_json(value: object) -> str:
    """The value itself. Raises `TypeError` where the value is not a string."""
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:80]} stands where a text is to be")
    return value


def integer_from_json(value: object) -> int:
    """The value itself. Raises `TypeError` where the value is not an integer."""
    if type(value) is not int:
        raise TypeError(f"{str(value)[:80]} stands where a whole number is to be")
    return value


def count_from_json(value: object) -> int:
    """The value itself. Raises `TypeError` where the value is not an integer, and `ValueError` below 0."""
    if (count := integer_from_json(value)) < 0:
        raise ValueError(f"{count} stands where a count is to be")
    return count


def counts_from_json(document: Mapping[str, Any]) -> dict[str, int]:
    """The values of an object, all of which are counts. Raises the errors of `count_from_json`."""
    return {text_from_json(name): count_from_json(value) for name, value in document.items()}


def texts_from_json(document: Mapping[str, Any]) -> dict[str, str]:
    """The values of an object, all of which are texts. Raises `TypeError` where one is not."""
    return {text_from_json(name): text_from_json(value) for name, value in document.items()}


def boolean_from_json(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{str(value)[:80]} stands where true or false is to be")
    return value


def seconds_from_json(value: object) -> float:
    """The value itself. Raises `TypeError` where it is no number, and `ValueError` where it is not finite."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{str(value)[:80]} stands where a number of seconds is to be")
    if not abs(value) < float("inf"):
        raise ValueError(f"{value} stands where a number of seconds is to be")
    return value


def text_or_none_from_json(value: object) -> str | None:
    return None if value is None else text_from_json(value)


def config_from_json(document: Mapping[str, Any]) -> Config:
    """The config in a JSON object, with sorted keys.

    Raises `TypeError` where it is no object, and `ValueError` for NaN and the infinities, which `json` reads.
    """
    if not isinstance(document, Mapping):
        raise TypeError(f"{str(document)[:80]} stands where a config is to be")
    config: Config = canonical(document)
    return config
