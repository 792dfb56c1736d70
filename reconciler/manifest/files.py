"""The files of a manifest: the files that a path stands for, their contents, and new content for one of them."""

import os
import re
import shlex
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from errno import EBUSY, EFBIG
from typing import IO

from reconciler.manifest.kinds import HEAD_BYTES, begins_as_manifest
from reconciler.model.errors import MissingPath, ReconcilerError

DEFAULTS = ("jobs.yaml", "jobs")
"""The default paths of a manifest. The first one that exists counts."""

LIMIT_BYTES = 1 << 28
"""A longer file is not read. A file of this length holds about three million jobs."""

_ENDINGS = (".yaml", ".yml")
# The names of files that reconciler keeps beside a manifest, and of copies of a manifest, such as `jobs.yaml.bak`.
_OWN_NAME = re.compile(r"\.(?:state\.json|history\.jsonl|sandbox\.db)")
_ALMOST_NAMED = re.compile(r"\.ya?ml[^a-z0-9]", re.IGNORECASE)

Sources = list[tuple[str, bytes]]
"""The files of a manifest, as pairs of a path and a content. Each path begins with a path that the user gave."""


def is_manifest_name(name: str) -> bool:
    """Return whether a file of this name in a folder is read: *.yaml and *.yml, in upper or lower case."""
    return name.lower().endswith(_ENDINGS)


def read_sources(paths: Sequence[str]) -> Sources:
    """Return the files at these paths, each file once, in the order of the paths.

    A folder stands for all *.yaml and *.yml files below it, sorted by name. Names that start with "." are left out. A
    file that looks like a manifest and would not be read is refused, since its jobs would count as undeclared. Raises
    `ReconcilerError` for a path that matches nothing, that can't be read, or that leads out of its repository or into
    `.git`.
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
    """Put new content in a file of a manifest, as a whole or not at all. Raises `ReconcilerError` if that fails.

    If the path is a link, the file that the link points to is replaced. The file keeps its owner and its permissions.
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
    """Raise `ReconcilerError` if a file of a manifest exists and may not be written.

    Root may write any file. But a file that nobody may write was protected on purpose, and editors respect that for
    root too. Without this check, the file would be replaced, since a new file needs no permission of the old one.
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
    """Replace a file by way of a temporary file with a unique name. Raises `OSError`."""
    import tempfile

    from reconciler.host.disk import OsDisk

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
    with suppress(OSError):  # the new content is in place, and only a power loss could undo that
        disk.sync_folder(path)


def default_paths(cwd: str) -> list[str]:
    """Return the default path of the manifest: jobs.yaml, else jobs/. Raises `ReconcilerError` if neither exists."""
    for name in DEFAULTS:
        path = os.path.normpath(os.path.join(cwd, name))
        if os.path.lexists(path):
            return [path]
    hint = "run `reconciler init` to start a manifest, or name its path"
    if there := _manifests_in(cwd):
        hint = f"{there[0]} looks like a manifest: name its path; or run `reconciler init` to start another one"
    raise ReconcilerError("found neither jobs.yaml nor jobs/ here", hint)


def passed_over(cwd: str) -> str:
    """Return the default path that is not read, because another one precedes it, or "".

    A folder counts if a file that begins as a manifest is in the folder or below it.
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
    """Return the files of a folder that have the name of a manifest and begin as a manifest, sorted."""
    try:
        names = os.listdir(folder) if names is None else names
    except OSError:
        return []
    paths = [os.path.normpath(os.path.join(folder, name)) for name in sorted(names) if not name.startswith(".")]
    return [path for path in paths if is_manifest_name(path) and begins_as_manifest(_head(path))]


def files_at(path: str) -> list[str]:
    """Return the files that a path stands for, as in `read_sources`. A folder without a manifest stands for none."""
    return list(_Walk().files(path))


def repository_of(folder: str) -> str | None:
    """Return the top folder of the git repository around a folder, with links resolved, or None."""
    folder = os.path.realpath(folder)
    while not _is_top(folder):
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above
    return folder


def _is_top(folder: str) -> bool:
    """Return whether a folder is the top of a git repository, of a worktree or of a submodule."""
    there = os.path.join(folder, ".git")
    return os.path.isfile(there) or os.path.lexists(os.path.join(there, "HEAD"))


def is_within(path: str, folder: str) -> bool:
    """Return whether a path is a folder or lies below the folder. The links in both must be resolved."""
    return path == folder or path.startswith(os.path.join(folder, ""))


def is_of_git(path: str) -> bool:
    """Return whether a path leads to `.git`, or into it, where git keeps tokens too (`.git/config`).

    The links in the path must be resolved, and the path must be relative to a folder that is no part of `.git`. Upper
    and lower case are the same: on some file systems `.GIT` is `.git`, and git itself refuses both.
    """
    return ".git" in path.lower().split("/")


class _Walk:
    """Finds the files of a manifest at one path.

    Every file below a folder must lie within the git repository around the folder, or within the folder itself without
    a repository, and not in `.git`. A link that leads elsewhere is refused, since messages would show the content of
    the file behind the link. A path that a person names may be a pipe (`<(…)` of a shell). It may also be a link that
    leads out of a folder which is in no repository.
    """

    def __init__(self) -> None:
        self._visited: set[str] = set()
        self._root: str | None = None

    def files(self, path: str) -> Iterator[str]:
        """Yield the path itself, or the files of a manifest below it."""
        real = os.path.realpath(path)
        root = repository_of(os.path.dirname(os.path.abspath(path)))
        if root is not None and (fault := _fault_of_place(path, real, root)):
            raise fault
        if not os.path.isdir(path):
            yield path
            return
        self._root = repository_of(real) or real
        yield from self._below(path)

    def _below(self, folder: str) -> Iterator[str]:
        real = os.path.realpath(folder)
        if real in self._visited:  # a link leads here again; each folder is read once
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
        """Return the mode of a file below the folder, with links followed, or 0 for a link that is to be ignored.

        A link is ignored if it leads out of the repository, into `.git` or to nothing, and if it has neither the name
        of a manifest nor leads to a folder.
        """
        assert self._root is not None
        try:
            if not os.path.islink(path):
                return os.lstat(path).st_mode
            fault = _fault_of_place(path, os.path.realpath(path, strict=True), self._root)
            if fault is None:
                return os.stat(path).st_mode
            if is_manifest_name(name) or os.path.isdir(path):
                raise fault
        except OSError as error:
            if not os.path.islink(path) or is_manifest_name(name) or "." not in name:
                raise _unreadable(path, error) from error
        return 0


def _passes_for_manifest(path: str, name: str, there: set[str]) -> bool:
    """Return whether a person would take an unread file for a manifest.

    A copy of a file that is read does not count.
    """
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
    """Return the content of a file. A pipe or a device is read only if a person named it (`is_named`).

    Raises `OSError`, with EFBIG for a file that is longer than `LIMIT_BYTES`, and `ReconcilerError` for a file in a
    folder that is not a regular file.
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


def content_beside(file: str, path: str) -> bytes:
    """Return the content of a file that a file of a manifest names, by a path that is relative to that file.

    Raises `ReconcilerError` if there is no such file, if it can't be read, if it is outside of the repository of the
    manifest, or of the folder of the manifest where there is no repository, and if it is in `.git`. Links count as what
    they lead to.
    """
    folder = os.path.dirname(os.path.abspath(file))
    named = os.path.join(os.path.dirname(file), path)
    root = os.path.realpath(repository_of(folder) or folder)
    real = os.path.realpath(named)
    if not is_within(real, root):
        raise ReconcilerError(f"{named} is outside of {root}, where the manifest is", "put the file itself there")
    if is_of_git(os.path.relpath(real, root)):
        raise _leads_into_git(named)
    try:
        return content_of(named, is_named=False)
    except OSError as error:
        raise ReconcilerError(f"{named}: can't be read: {error.strerror}") from error


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
    """Return the content of a pipe or a device, up to just beyond the limit."""
    content = bytearray()
    while len(content) <= LIMIT_BYTES and (part := stream.read(1 << 20)):
        content += part
    return bytes(content)


def _without_waiting(path: str, flags: int) -> int:
    # Without O_NONBLOCK, `open` would wait for a writer of a pipe.
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _fault_of_place(path: str, real: str, root: str) -> ReconcilerError | None:
    """Return the error for a path of a manifest that leads out of its repository, or into `.git`; else None.

    `real` is the path with links resolved.
    """
    if not is_within(real, root):
        return _leads_out(path)
    return _leads_into_git(path) if is_of_git(os.path.relpath(real, root)) else None


def _leads_into_git(path: str) -> ReconcilerError:
    return ReconcilerError(
        f"{path} leads into .git, where git keeps tokens too, and is not read", "name a file of the repository"
    )


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
