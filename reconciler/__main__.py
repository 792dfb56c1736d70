"""The program: `reconciler`, and `python -m reconciler`."""

import gc
import os
import sys
from types import TracebackType
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    # A command makes many objects, keeps most of them and ends: looking for garbage often only costs it time.
    gc.set_threshold(100_000, 50, 100)
    _open_closed_streams()
    # Ctrl-C before the command line is loaded: Python ends by that signal, which a shell shows as 130.
    sys.excepthook = _say_nothing_of_ctrl_c
    from reconciler.cli import main as run

    run()


def _say_nothing_of_ctrl_c(kind: type[BaseException], fault: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, fault, trace)


def _open_closed_streams() -> None:
    """Have each standard stream that was closed by whoever started this (`>&-`) lead nowhere.

    In order, since each takes the lowest number that is free: no file of ours may come to stand there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


if __name__ == "__main__":
    main()
