"""Finding and reading the files of a manifest."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from errno import EBUSY

from reconciler.errors import ReconcilerError

ENDINGS = (".yaml", ".yml")
DEFAULTS = ("jobs.yaml", "jobs")
"""The manifest where no path is given: the first of these that is there."""


Sources = list[tuple[str, bytes]]
"""Files of a manifest: (name as given, content)."""


def read_sources(paths: Sequence[str]) -> Sources:
    """The files at these paths, each file once, in the order given.

    A folder stands for all *.yaml and *.yml below it, sorted by name; names that start with "." are
    passed over. Raises `ReconcilerError` for a path that matches nothing or can't be read.
    """
    sources = []
    seen: set[str] = set()
    for path in paths:
        matched = False
        for file in _files(path, frozenset()):
            matched = True
            real = os.path.realpath(file)
            if real not in seen:
                seen.add(real)
                sources.append((file, _content(file)))
        if not matched:
            raise ReconcilerError(
                f"{path}: no *.yaml or *.yml file in this folder", "name a file, or a folder that holds a manifest"
            )
    return sources


def replace_source(path: str, content: bytes) -> None:
    """Put new content in a file of a manifest, whole or not at all. Raises `ReconcilerError` where it can't be.

    A link stays one: what it points to is replaced. The file keeps its owner and its permissions.
    """
    real = os.path.realpath(path)
    try:
        _replace(real, content)
    except OSError as error:
        hint = "check its permissions"
        if error.errno == EBUSY:
            hint = "it is a mount of its own (a container's volume, as it seems): mount the folder that it lies in"
        raise ReconcilerError(f"{path} can't be written: {error.strerror}", hint) from error


def _replace(path: str, content: bytes) -> None:
    """Put a file in the place of another, by a name that no file of the user's has. Raises `OSError`."""
    import tempfile

    from reconciler.state.disk import OsDisk

    disk = OsDisk()
    folder, name = os.path.split(path)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, disk.mode(path) or 0o644)
            os.fsync(descriptor)
        disk.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    with suppress(OSError):  # the new content is in place; only a loss of power could take it back
        disk.sync_folder(path)


def default_paths(cwd: str) -> list[str]:
    """The manifest where no path is given: jobs.yaml, else jobs/.

    Raises `ReconcilerError` where there is neither.
    """
    for name in DEFAULTS:
        path = os.path.normpath(os.path.join(cwd, name))
        if os.path.exists(path):
            return [path]
    raise ReconcilerError(
        "found neither jobs.yaml nor jobs/ here", "run `reconciler init` to start a manifest, or name its path"
    )


def files_at(path: str) -> list[str]:
    """The files that a path stands for, as in `read_sources`; none for a folder without any."""
    return list(_files(path, frozenset()))


def _files(path: str, above: frozenset[str]) -> Iterator[str]:
    """The path itself, or the files of a manifest below it; `above` are the folders it stands in."""
    if not os.path.isdir(path):
        yield path
        return
    real = os.path.realpath(path)
    if real in above:  # a link back up
        return
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        raise _unreadable(path, error) from error
    for name in names:
        inner = os.path.join(path, name)
        if not name.startswith(".") and (name.endswith(ENDINGS) or os.path.isdir(inner)):
            yield from _files(inner, above | {real})


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise ReconcilerError(
            f"{path}: no such file or folder", "check the path, or run `reconciler init` to start a manifest"
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: OSError) -> ReconcilerError:
    return ReconcilerError(f"{path}: can't be read: {error.strerror}", "check its permissions, or name another path")
