"""What a target of this engine says beside its address, and what the engine guarantees."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from reconciler.engines.port import Promises

PROMISES = Promises(
    creates_on_run=True, atomic_run=True, reads=True, lists=True, keeps_ended_s=float("inf"), has_logs=True
)
"""What the engine guarantees. A cluster keeps a Job until somebody deletes it, or until its TTL, which is `keepFor`."""

OLDEST = (1, 24)
"""The oldest server that is used without `target.allowOldServer`. Older ones run a Job that was sent suspended."""

UNKNOWN = (0, 0)
"""The version of a server that does not tell it, as a build that says v0.0.0. It counts as older than any other."""

DEFAULT_NAMESPACE = "default"


class Settings(NamedTuple):
    """What a target says. Everything is "" or empty if the manifest does not say it.

    `kubeconfig` is an absolute path, or begins with "~". `user`, `groups`, `uid` and `extra` are those to act as.
    `is_insecure` allows a kubeconfig that has the server's certificate unchecked, and http beyond loopback.
    """

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""
    user: str = ""
    groups: tuple[str, ...] = ()
    allows_old_server: bool = False
    uid: str = ""
    extra: Mapping[str, Sequence[str]] = {}
    is_insecure: bool = False
