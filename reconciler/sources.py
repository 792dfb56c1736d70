"""Finding and reading the files of a manifest."""

import os
import re
import shlex
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from errno import EBUSY, EFBIG
from typing import IO

from reconciler.errors import MissingPath, ReconcilerError
from reconciler.kinds import HEAD_BYTES, begins_as_manifest

DEFAULTS = ("jobs.yaml", "jobs")
"""The manifest where no path is given: the first of these that is there."""

LIMIT_BYTES = 1 << 28
"""A longer file is not read: some three million jobs fit."""

_ENDINGS = (".yaml", ".yml")
# What reconciler keeps beside a manifest; and a manifest by its name, with something after it.
_OWN_NAME = re.compile(r"\.(?:state\.json|history\.jsonl|sandbox\.db)")
_ALMOST_NAMED = re.compile(r"\.ya?ml[^a-z0-9]", re.IGNORECASE)

Sources = list[tuple[str, bytes]]
"""Files of a manifest: (name as given, content)."""


def is_manifest_name(name: str) -> bool:
    """Whether a file of this name is read as part of a folder: *.yaml and *.yml, in letters of either case."""
    return name.lower().endswith(_ENDINGS)


def read_sources(paths: Sequence[str]) -> Sources:
    """The files at these paths, each file once, in the order given.

    A folder stands for all *.yaml and *.yml below it, sorted by name; names that start with "." are
    passed over. What a person would take for a manifest and is none of these is refused, as its jobs would pass for
    undeclared. Raises `ReconcilerError` for a path that matches nothing, can't be read or leads out of its repository.
    """
    sources = []
    seen: set[str] = set()
    for path in paths:
        walk = _Walk()
        matched = False
        for file in walk.files(path):
            matched = True
            real = os.path.realpath(file)
            if real not in seen:
                seen.add(real)
                sources.append((file, _content(file, is_named=file == path)))
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
    refuse_read_only(path)
    try:
        _replace(real, content)
    except OSError as error:
        hint = "check its permissions"
        if error.errno == EBUSY:
            hint = "it is a mount of its own (a container's volume, as it seems): mount the folder that it lies in"
        raise ReconcilerError(f"{path} can't be written: {error.strerror}", hint) from error


def refuse_read_only(path: str) -> None:
    """Raise `ReconcilerError` where a file of a manifest is there and may not be written.

    A file without any right to write is left alone by root too, as an editor does: whoever took the rights away meant
    it. A new file in its place would need no right on the old one.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if not mode & 0o222 or not os.access(path, os.W_OK):
        raise ReconcilerError(
            f"{path} is read-only, and is left as it is", f"let it be written first: chmod u+w {shlex.quote(path)}"
        )


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
        if os.path.lexists(path):
            return [path]
    hint = "run `reconciler init` to start a manifest, or name its path"
    if there := _manifests_in(cwd):
        hint = f"{there[0]} looks like a manifest: name its path; or run `reconciler init` to start another one"
    raise ReconcilerError("found neither jobs.yaml nor jobs/ here", hint)


def passed_over(cwd: str) -> str:
    """The default manifest that is not read, since another one is there that comes first; "" where there is none.

    A folder counts where a file that begins as a manifest lies in it or below it.
    """
    first, second = (os.path.normpath(os.path.join(cwd, name)) for name in DEFAULTS)
    if not (os.path.isdir(second) and os.path.lexists(first)):
        return ""
    for folder, folders, names in os.walk(second):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if _manifests_in(folder, names):
            return second
    return ""


def _manifests_in(folder: str, names: Sequence[str] | None = None) -> list[str]:
    """The files of a folder that are read as manifests by their names, and begin as such; sorted."""
    try:
        names = os.listdir(folder) if names is None else names
    except OSError:
        return []
    paths = [os.path.normpath(os.path.join(folder, name)) for name in sorted(names) if not name.startswith(".")]
    return [path for path in paths if is_manifest_name(path) and begins_as_manifest(_head(path))]


def files_at(path: str) -> list[str]:
    """The files that a path stands for, as in `read_sources`; none for a folder without any."""
    return list(_Walk().files(path))


def repository_of(folder: str) -> str | None:
    """The top of the git repository that a folder lies in, links resolved; None where it lies in none."""
    folder = os.path.realpath(folder)
    while not _is_top(folder):
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above
    return folder


def _is_top(folder: str) -> bool:
    """Whether git keeps a repository here: in a folder of its own or, for a worktree and a submodule, elsewhere."""
    there = os.path.join(folder, ".git")
    return os.path.isfile(there) or os.path.lexists(os.path.join(there, "HEAD"))


def is_within(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies below it; both with their links resolved."""
    return path == folder or path.startswith(os.path.join(folder, ""))


class _Walk:
    """The files of a manifest at one path.

    What is found in a folder stays within its repository or, where it lies in none, within the folder that was
    named: a link that leads elsewhere is refused, as what it leads to would be shown in messages. A path that is named
    may be a link out of no repository, and may be a pipe (`<(…)` of a shell).
    """

    def __init__(self) -> None:
        self._visited: set[str] = set()
        self._root: str | None = None

    def files(self, path: str) -> Iterator[str]:
        """The path itself, or the files of a manifest below it."""
        real = os.path.realpath(path)
        root = repository_of(os.path.dirname(os.path.abspath(path)))
        if root is not None and not is_within(real, root):
            raise _leads_out(path)
        if not os.path.isdir(path):
            yield path
            return
        self._root = repository_of(real) or real
        yield from self._below(path)

    def _below(self, folder: str) -> Iterator[str]:
        real = os.path.realpath(folder)
        if real in self._visited:  # by a link; each folder is read once, so that links can't multiply it
            return
        self._visited.add(real)
        try:
            names = sorted(os.listdir(folder))
        except OSError as error:
            raise _unreadable(folder, error) from error
        there = set(names)
        for name in names:
            if name.startswith("."):
                continue
            path = os.path.join(folder, name)
            mode = self._mode(path, name)
            if stat.S_ISDIR(mode):
                yield from self._below(path)
            elif is_manifest_name(name):
                if not stat.S_ISREG(mode):
                    raise _irregular(path)
                yield path
            elif stat.S_ISREG(mode) and _passes_for_manifest(path, name, there):
                raise ReconcilerError(
                    f"{path} looks like a manifest, and only *.yaml and *.yml are read: its jobs would be left out",
                    'rename it; or, where it is none, move it out of the folder, or begin its name with "."',
                )

    def _mode(self, path: str, name: str) -> int:
        """What stands at a path within the folder, links followed as far as they may lead; 0 for what is no matter.

        No matter is a link that leads out, or to nothing, and that by its name is neither a file of a manifest nor
        a folder of them.
        """
        assert self._root is not None
        try:
            if not os.path.islink(path):
                return os.lstat(path).st_mode
            if is_within(os.path.realpath(path, strict=True), self._root):
                return os.stat(path).st_mode
            if is_manifest_name(name) or os.path.isdir(path):
                raise _leads_out(path)
        except OSError as error:
            if not os.path.islink(path) or is_manifest_name(name) or "." not in name:
                raise _unreadable(path, error) from error
        return 0


def _passes_for_manifest(path: str, name: str, there: set[str]) -> bool:
    """Whether a person would take a file that is not read for a manifest; a copy of one that is read is none."""
    if _OWN_NAME.search(name):
        return False
    almost = _ALMOST_NAMED.search(name)
    if almost and name[: almost.end() - 1].lstrip("#") in there:
        return False
    return almost is not None or begins_as_manifest(_head(path))


def _head(path: str) -> bytes:
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


def content_of(path: str, *, is_named: bool = True) -> bytes:
    """What a file holds: a pipe or a device too, where it `is_named` by a person and not found in a folder.

    Raises `OSError`, with EFBIG for what is longer than `LIMIT_BYTES`, `ReconcilerError` for what is no regular file.
    """
    with open(path, "rb", opener=None if is_named else _without_waiting) as file:
        status = os.fstat(file.fileno())
        is_regular = stat.S_ISREG(status.st_mode)
        if not is_regular and not is_named:
            raise _irregular(path)
        content = b"" if status.st_size > LIMIT_BYTES else file.read() if is_regular else _bounded(file)
    if max(status.st_size, len(content)) > LIMIT_BYTES:
        raise OSError(EFBIG, f"it is longer than {LIMIT_BYTES >> 20} MiB")
    return content


def _content(path: str, *, is_named: bool) -> bytes:
    try:
        return content_of(path, is_named=is_named)
    except FileNotFoundError:
        why = "it is a link to what is not there" if os.path.islink(path) else "no such file or folder"
        raise MissingPath(
            path, f"{path}: {why}", "check the path, or run `reconciler init` to start a manifest"
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from error


def _bounded(stream: IO[bytes]) -> bytes:
    """What a pipe or a device gives, up to just beyond the limit."""
    content = bytearray()
    while len(content) <= LIMIT_BYTES and (part := stream.read(1 << 20)):
        content += part
    return bytes(content)


def _without_waiting(path: str, flags: int) -> int:
    # To open a pipe would otherwise wait for whoever writes to it.
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _leads_out(path: str) -> ReconcilerError:
    return ReconcilerError(
        f"{path} is a link that leads out of its repository, and is not followed",
        "put the file itself there, or name it by its own path",
    )


def _irregular(path: str) -> ReconcilerError:
    return ReconcilerError(
        f"{path} is no regular file, and is not read", "move it out of the folder, or begin its name with a dot"
    )


def _unreadable(path: str, error: OSError) -> ReconcilerError:
    if isinstance(error, FileNotFoundError) and os.path.islink(path):
        return ReconcilerError(f"{path} is a link to what is not there", "mend the link, or remove it")
    hint = "divide it into several" if error.errno == EFBIG else "check its permissions, or name another path"
    return ReconcilerError(f"{path}: can't be read: {error.strerror}", hint)
