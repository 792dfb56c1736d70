"""What the controller of a cluster says of itself (`scontrol show config`)."""

import re
from typing import NamedTuple

from reconciler.engines.port import EngineError, Promises
from reconciler.engines.slurm.commands import Commands
from reconciler.engines.slurm.rows import time_of
from reconciler.engines.slurm.settings import Settings, promises_of

_LINE = re.compile(r"^([A-Za-z_]+)\s*= (.*)$", re.MULTILINE)
_FOR_EVER = float("inf")


class Controller(NamedTuple):
    """A controller. `keeps_ended_s` is for how long it knows a job after its end (MinJobAge).

    `runs_since` is when it was started, as a time of RFC 3339; "" if it does not say.
    """

    cluster: str
    keeps_ended_s: float
    has_accounting: bool
    runs_since: str = ""

    def promises(self, settings: Settings) -> Promises:
        """Return what the engine guarantees with this controller. What the target says of accounting counts."""
        told_s = settings.forgets_s
        if self.has_accounting:
            kept_s = _FOR_EVER if told_s is None else told_s
        else:
            kept_s = self.keeps_ended_s if told_s is None else min(told_s, self.keeps_ended_s)
        return promises_of(settings)._replace(keeps_ended_s=kept_s)


def controller_of(commands: Commands) -> Controller:
    """Return what the controller says of itself. Raises the errors of `Engine.observe`."""
    told = dict(_LINE.findall(commands.read(["scontrol", "show", "config"])))
    if not (name := told.get("ClusterName", "").strip()):
        raise EngineError("scontrol show config names no cluster")
    return Controller(
        name,
        # A MinJobAge of 0 means that no job is ever dropped (slurm.conf).
        _number(told.get("MinJobAge", "")) or _FOR_EVER,
        told.get("AccountingStorageType", "").strip() == "accounting_storage/slurmdbd",
        time_of(told.get("BOOT_TIME", "").strip()),
    )


def _number(text: str) -> float:
    found = re.match(r"\d+", text)
    return float(found[0]) if found else 0.0
