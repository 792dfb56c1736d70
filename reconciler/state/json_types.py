"""Values of JSON of one type each, as a state file and a journal have them.

Each function returns the value itself. It raises `TypeError` for a value of another type, and `ValueError` for a value
out of range. Users read the message, so that it is a clause in the words of JSON. Writing and reading use the same
functions, so that nothing is written that can't be read.
"""

import json
from collections.abc import Mapping
from enum import StrEnum
from json import JSONDecodeError
from typing import Any, TypeVar

from reconciler.model.jobs import Config
from reconciler.model.json_values import canonical
from reconciler.rules.runs import MAX_RUN

_MAX_SERIAL = 2**53
"""The greatest serial of a state. Readers of JSON in other languages have no greater whole numbers."""

_LONG = 10**40

_Word = TypeVar("_Word", bound=StrEnum)


def object_from_json(value: object) -> Mapping[str, Any]:
    """The value itself. Raises `TypeError` where the value is not an object."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{_shown(value)} stands where an object is to be")
    return value


def field_from_json(document: object, name: str) -> Any:
    """The value of a field. Raises `TypeError` where the document is no object, and `ValueError` without the field."""
    fields = object_from_json(document)
    if name not in fields:
        raise ValueError(f'the field "{name}" is missing')
    return fields[name]


def word_from_json(words: type[_Word], value: object) -> _Word:
    """The member of a closed set of words. Raises `TypeError` for no text, and `ValueError` for another word."""
    text = text_from_json(value)
    try:
        return words(text)
    except ValueError:
        raise ValueError(f"{_shown(value)} stands where one of {', '.join(words)} is to be") from None


def text_set_from_json(value: object) -> frozenset[str]:
    """The texts of a list. Raises `TypeError` where the value is not a list of texts."""
    if not isinstance(value, list | tuple):
        raise TypeError(f"{_shown(value)} stands where a list is to be")
    return frozenset(map(text_from_json, value))


def text_from_json(value: object) -> str:
    """The value itself. Raises `TypeError` where the value is not a string."""
    if not isinstance(value, str):
        raise TypeError(f"{_shown(value)} stands where a text is to be")
    return value


def integer_from_json(value: object) -> int:
    """The value itself. Raises `TypeError` where the value is not an integer."""
    if type(value) is not int:
        raise TypeError(f"{_shown(value)} stands where a whole number is to be")
    return value


def count_from_json(value: object) -> int:
    """The value itself. Raises `TypeError` where the value is not an integer, and `ValueError` below 0."""
    if (count := integer_from_json(value)) < 0:
        raise ValueError(f"{_shown(count)} stands where a count is to be")
    return count


def run_from_json(value: object) -> int:
    """The number of a run, or 0 for none. Raises `ValueError` for a number that no run can have."""
    if (run := count_from_json(value)) > MAX_RUN:
        raise ValueError(f"{_shown(run)} stands where the number of a run is to be, and {MAX_RUN} is the greatest")
    return run


def runs_from_json(document: object) -> dict[str, int]:
    """The values of an object, all of which are numbers of runs. Raises the errors of `run_from_json`.

    A number of 0 stands for no run, as no entry does, and is left out.
    """
    runs = {text_from_json(name): run_from_json(value) for name, value in object_from_json(document).items()}
    return {name: run for name, run in runs.items() if run}


def serial_from_json(value: object) -> int:
    """The serial of a state. Raises `ValueError` for one that no count of writes reaches."""
    if (serial := count_from_json(value)) > _MAX_SERIAL:
        raise ValueError(f"{_shown(serial)} stands where a serial is to be, and {_MAX_SERIAL} is the greatest")
    return serial


def has_sane_counts(document: Mapping[str, Any]) -> bool:
    """Whether the `run` and the `serial` of an object, if there are any, are such as a state may have."""
    try:
        run_from_json(document.get("run", 0))
        serial_from_json(document.get("serial", 0))
    except (TypeError, ValueError):
        return False
    return True


def texts_from_json(document: object) -> dict[str, str]:
    """The values of an object, all of which are texts. Raises `TypeError` where one is not."""
    return {text_from_json(name): text_from_json(value) for name, value in object_from_json(document).items()}


def boolean_from_json(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{_shown(value)} stands where true or false is to be")
    return value


def seconds_from_json(value: object) -> float:
    """The value itself. Raises `TypeError` where it is no number, and `ValueError` where it is not finite."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{_shown(value)} stands where a number of seconds is to be")
    if not abs(value) < float("inf"):
        raise ValueError(f"{value} stands where a number of seconds is to be")
    return value


def text_or_none_from_json(value: object) -> str | None:
    return None if value is None else text_from_json(value)


def config_from_json(document: object) -> Config:
    """The config in a JSON object, with sorted keys.

    Raises `TypeError` where it is no object, and `ValueError` for NaN and the infinities, which `json` reads.
    """
    if not isinstance(document, Mapping):
        raise TypeError(f"{_shown(document)} stands where a config is to be")
    config: Config = canonical(document)
    return config


def words_of(fault: BaseException) -> str:
    """What was wrong with the JSON that was read, as a clause. The words of Python are replaced."""
    match fault:
        case UnicodeError():
            return "it is not UTF-8"
        case RecursionError():
            return "it is nested too deeply"
        case JSONDecodeError():
            return f"it is no JSON: {fault.msg} (line {fault.lineno}, column {fault.colno})"
        case KeyError():
            return f'the field "{fault.args[0]}" is missing'
        case AttributeError():
            return "a value of another kind stands where an object is to be"
    text = str(fault)[:200]
    return "a number in it is too long" if text.startswith("Exceeds the limit") else text


def _shown(value: object) -> str:
    """A value in a message, shortened, as JSON writes it."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, int) and abs(value) >= _LONG:
        return "a number of more than 40 digits"  # Python refuses to print a number of thousands of digits
    return json.dumps(value, ensure_ascii=False, default=str)[:80]
