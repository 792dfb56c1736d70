"""What a cluster holds otherwise than it was sent: the drift of a Job.

Only what was sent is compared. What a server, a webhook or a controller adds is no drift: a default, a sidecar, a
toleration of Kueue.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from reconciler.engines.kubernetes.merging import MERGE_KEYS, is_same_item
from reconciler.engines.port import same_json

_SUFFIXES = {
    **{
        suffix: Decimal(1000) ** power
        for power, suffix in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), -3)
    },
    **{suffix: Decimal(1024) ** power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
}
_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)(?P<suffix>[KMGTPE]i|[numkMGTPE]|)"
)
_QUANTITIES = frozenset({"requests", "limits"})
_SETS = frozenset({"tolerations"})
"""The fields whose lists are sets: others may add items, and no item has a key."""

SAME: Final = object()
"""The difference between two values of which one holds all of the other."""


def holds(there: Any, sent: Any) -> bool:
    """Return whether the cluster holds all that was sent. What it holds beside that is a default, or another's."""
    return difference(there, sent) is SAME


def difference(there: Any, sent: Any, field: str = "") -> Any:
    """Return the parts of `there` that differ from what was sent, as a strategic merge patch; `SAME` for none.

    What is missing is None. The items of lists that merge by keys are compared by their keys, and other lists item by
    item; a list of another length differs as a whole. A server writes quantities in its own way, such as "2" for
    "2000m", and leaves out what is empty or false.
    """
    if there is None and (sent is False or sent in ({}, [], "")):
        return SAME
    if isinstance(sent, Mapping) and isinstance(there, Mapping):
        parts = {name: found for name in sent if (found := _of_field(there, sent, name, field)) is not SAME}
        return parts or SAME
    if isinstance(sent, list) and isinstance(there, list):
        if field in MERGE_KEYS:
            return _by_keys(there, sent, MERGE_KEYS[field])
        if field in _SETS:
            return SAME if all(any(holds(item, wanted) for item in there) for wanted in sent) else there
        return SAME if len(there) == len(sent) and all(map(holds, there, sent)) else there
    return SAME if same_json(there, sent) else there


def quantity(text: str) -> Decimal | str:
    """Return the number that a quantity of Kubernetes stands for, such as 0.5 for "500m"; the text if it is none."""
    found = _QUANTITY.fullmatch(text)
    if found is None:
        return text
    return Decimal(found["number"]) * _SUFFIXES[found["suffix"]]


def _of_field(there: Mapping[str, Any], sent: Mapping[str, Any], name: str, parent: str) -> Any:
    if parent in _QUANTITIES and quantity(str(there.get(name))) == quantity(str(sent[name])):
        return SAME
    return difference(there.get(name), sent[name], name)


def _by_keys(there: Sequence[Any], sent: Sequence[Any], keys: Sequence[str]) -> Any:
    patch: list[Any] = []
    for wanted in sent:
        key = next((key for key in keys if isinstance(wanted, Mapping) and key in wanted), None)
        if key is None:
            return there
        item = next((item for item in there if is_same_item(item, wanted, keys)), None)
        if item is None:
            return there
        if (found := difference(item, wanted)) is not SAME:
            patch.append({key: wanted[key], **found})
    return patch or SAME
