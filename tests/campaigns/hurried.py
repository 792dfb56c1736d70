"""The program itself, with the waits of a state that git keeps set to what the first argument (JSON) says.

`suspends` among them has the monotonic clock stand still while the program is stopped (SIGSTOP), as it does while
a machine is suspended. The clocks that count such a time count it.
"""

import json
import sys
import threading
import time

from reconciler import cli
from reconciler.host import git
from reconciler.state import lease
from reconciler.state.backends import publisher

_TICK_S = 0.01
_STOPPED_S = 0.5
"""A program that did nothing for so long was stopped."""


class SuspendedClock:
    """A monotonic clock without the times at which this program was stopped; it looks at its own pulse."""

    def __init__(self) -> None:
        self._real = time.monotonic
        self._turn = threading.Lock()
        self._seen_s = self._real()
        self._lost_s = 0.0
        threading.Thread(target=self._beat, daemon=True).start()

    def __call__(self) -> float:
        with self._turn:
            now_s = self._real()
            if now_s - self._seen_s > _STOPPED_S:
                self._lost_s += now_s - self._seen_s
            self._seen_s = now_s
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
        setattr(next(module for module in (git, lease, publisher) if hasattr(module, name)), name, value)
    cli.main()
