"""Targets of engines whose service has an endpoint: the address, and the way to it."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from reconciler.engines.http.endpoints import normalize_endpoint
from reconciler.model.jobs import Target


class Access(NamedTuple):
    """The way in which a target reaches its endpoint. No state and no plan depends on it.

    `ca` is a file or folder of certificates that the tool trusts. `certificate` and `key` are the files that the tool
    presents to the service. All three are "" if the manifest does not name them. `insecure` allows an http endpoint
    that is not on loopback.
    """

    ca: str = ""
    certificate: str = ""
    key: str = ""
    insecure: bool = False


def target_of(engine: str, block: Mapping[str, Any], folder: str, default_endpoint: str) -> Target:
    """Return the target that a `target:` block names. Its address is the normal form of the endpoint.

    The block must have no fault. Relative paths in the block are relative to `folder`.
    """
    endpoint = block.get("endpoint", default_endpoint)
    return Target(engine, normalize_endpoint(endpoint) if endpoint else "", _access_in(block, folder))


def access_of(target: Target) -> Access:
    """Return the way to the endpoint of a target. A target that a state or a plan named has the default."""
    return target.settings if isinstance(target.settings, Access) else Access()


def _access_in(block: Mapping[str, Any], folder: str) -> Access:
    if not block.keys() & {"ca", "clientCertificate", "insecure"}:
        return Access()
    shown = block.get("clientCertificate", "")
    pair = (shown, "") if type(shown) is str else (shown["certificate"], shown["key"])
    ca, certificate, key = [
        path if path[:1] in ("", "~") else os.path.join(folder, path) for path in (block.get("ca", ""), *pair)
    ]
    return Access(ca, certificate, key, block.get("insecure", False))
