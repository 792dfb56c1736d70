"""The program: `reconciler`, and `python -m reconciler`."""

import gc
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    # A command makes many objects, keeps most of them and ends: looking for garbage often only costs it time.
    gc.set_threshold(100_000, 50, 100)
    from reconciler.cli import main as run

    run()


if __name__ == "__main__":
    main()
