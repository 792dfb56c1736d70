"""Run the program itself with shortened waits for a state that git keeps; the first argument gives them as JSON.

The key `suspends` makes the monotonic clock stand still while the program is stopped (SIGSTOP), as on a machine that is
suspended. The clocks that count the time of a suspension still count it.
"""

import json
import sys
import threading
import time

from reconciler import cli
from reconciler.host import git
from reconciler.state import lease, publisher
from reconciler.state.backends import git as branches

_TICK_S = 0.01
_STOPPED_S = 0.5
"""A pause of this length in the program's own pulse means that the program was stopped."""


class SuspendedClock:
    """A monotonic clock without the times at which this program was stopped, which its own pulse shows."""

    def __init__(self) -> None:
        self._real = time.monotonic
        self._turn = threading.Lock()
        self._last_beat_s = self._real()
        self._lost_s = 0.0
        threading.Thread(target=self._beat, daemon=True).start()

    def __call__(self) -> float:
        with self._turn:
            now_s = self._real()
            if now_s - self._last_beat_s > _STOPPED_S:
                self._lost_s += now_s - self._last_beat_s
            self._last_beat_s = now_s
            return now_s - self._lost_s

    def _beat(self) -> None:
        while True:
            time.sleep(_TICK_S)
            self()


if __name__ == "__main__":
    waits = json.loads(sys.argv.pop(1))
    if waits.pop("suspends", False):
        time.monotonic = SuspendedClock()
    for name, value in waits.items():
        setattr(next(module for module in (git, lease, publisher, branches) if hasattr(module, name)), name, value)
    cli.main()
