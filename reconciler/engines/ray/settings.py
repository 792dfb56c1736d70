"""What a target of this engine says, and what the engine guarantees."""

from typing import NamedTuple

from reconciler.engines.http.targets import Access
from reconciler.engines.port import Promises
from reconciler.host.secrecy import RAY_VARIABLES

PROMISES = Promises(
    creates_on_run=True, atomic_run=True, reads=True, lists=True, keeps_ended_s=float("inf"), has_logs=True
)
"""What the engine guarantees. A head knows each run until it is restarted, which its identity tells."""

TOKEN, HEADERS = RAY_VARIABLES


class Settings(NamedTuple):
    """What a target says.

    `folder` is the folder of the file with the target; the folders of configs are relative to it. `address` is the
    normal form of the URL of the head, or "" if the environment says it (`connecting.py`).
    """

    folder: str = ""
    address: str = ""
    access: Access = Access()
