"""The program: `reconciler`, and `python -m reconciler`."""

import gc
import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    # A command makes many objects, keeps most of them and ends: looking for garbage often only costs it time.
    gc.set_threshold(100_000, 50, 100)
    _open_closed_streams()
    try:
        from reconciler.cli import main as run
    except KeyboardInterrupt:  # before there is anyone to deal with it
        sys.exit(130)
    run()


def _open_closed_streams() -> None:
    """Have each standard stream that was closed by whoever started this (`>&-`) lead nowhere.

    In order, since each takes the lowest number that is free: no file of ours may come to stand there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


if __name__ == "__main__":
    main()
