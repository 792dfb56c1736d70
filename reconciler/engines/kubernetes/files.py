"""Files of a kubeconfig, read within bounds: a name may lead to a device without end, or to a pipe that waits."""

import os
import stat

MOST_BYTES = 4 << 20
"""No kubeconfig, certificate or token comes near it."""


def content_of(path: str) -> bytes:
    """Return the content of a file. Raises `OSError` whose `strerror` says why it can't be read."""
    refuse_unfit(path)
    with open(path, "rb", opener=_at_once) as file:
        _refuse(os.fstat(file.fileno()))
        return file.read(MOST_BYTES)


def refuse_unfit(path: str) -> None:
    """Raise `OSError` for a file that is not there, or that nobody should read."""
    _refuse(os.stat(path))


def _refuse(there: os.stat_result) -> None:
    if not stat.S_ISREG(there.st_mode):
        raise OSError(0, "it is no regular file")
    if there.st_size > MOST_BYTES:
        raise OSError(0, f"it has more than {MOST_BYTES >> 20} MiB")


def _at_once(path: str, flags: int) -> int:
    # Another file may be there by now, and to open a pipe waits for whoever writes into it.
    return os.open(path, flags | os.O_NONBLOCK)
