"""Servers of tests end with the thread that has started them, however that ends."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def dies_with_parent(death: signal.Signals, parent: int) -> None:
    """Let the kernel send this process a signal when the thread that forked it ends. For Linux alone."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, death, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
