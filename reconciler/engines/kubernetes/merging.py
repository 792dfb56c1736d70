"""The strategic merge of a part of a Job into a Job, as `kubectl patch` does it.

https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/
"""

from collections.abc import Mapping, Sequence
from typing import Any

MERGE_KEYS: Mapping[str, Sequence[str]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "resourceClaims": ("name",),
    "schedulingGates": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "ports": ("containerPort", "protocol"),
    "hostAliases": ("ip", "hostnames"),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "ownerReferences": ("uid",),
}
"""The fields whose lists merge by keys, with the fields that may be the key of an item (OpenAPI of Kubernetes,
`x-kubernetes-patch-merge-key`). The first one that an item has counts. All other lists are replaced."""


def merged(base: Any, patch: Any, field: str = "") -> Any:
    """Return a value with a patch merged into it.

    A mapping merges by its keys, and null takes a key out. A list of items with keys merges by them; an item with
    `$patch: delete` takes its item out, and `$patch: replace` replaces the whole mapping or list. Any other value
    takes the place of the one before.
    """
    if isinstance(patch, Mapping):
        return _merged_mapping(base if isinstance(base, Mapping) else {}, patch)
    if isinstance(patch, list) and field in MERGE_KEYS:
        return _merged_list(base if isinstance(base, list) else [], patch, MERGE_KEYS[field])
    return patch


def _merged_mapping(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    if patch.get("$patch") == "replace":
        return {name: merged(None, value, name) for name, value in patch.items() if name != "$patch"}
    made = dict(base)
    for name, value in patch.items():
        if value is None:
            made.pop(name, None)
        else:
            made[name] = merged(made.get(name), value, name)
    return made


def _merged_list(base: list[Any], patch: list[Any], keys: Sequence[str]) -> list[Any]:
    if {"$patch": "replace"} in patch:
        return [item for item in patch if item != {"$patch": "replace"}]
    made = list(base)
    for item in patch:
        at = next((at for at, each in enumerate(made) if _is_same_item(each, item, keys)), None)
        if isinstance(item, Mapping) and item.get("$patch") == "delete":
            if at is not None:
                del made[at]
        elif at is None:
            made.append(merged(None, item))
        else:
            made[at] = merged(made[at], item)
    return made


def _is_same_item(a: Any, b: Any, keys: Sequence[str]) -> bool:
    if not isinstance(a, Mapping) or not isinstance(b, Mapping):
        return False
    key = next((key for key in keys if key in b), None)
    return key is not None and a.get(key) == b[key]
