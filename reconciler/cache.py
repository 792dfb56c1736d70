"""What was read and found valid before, remembered between commands.

An entry is named for a file's content, this version of the reader and this Python, and holds the
value with a keyed checksum over both. The key stands outside the cache's folder, so that a cache
that was damaged, restored from elsewhere or written by someone else holds nothing that is taken.
Best effort: whatever goes wrong, the file is read.
"""

import marshal
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from reconciler import __version__
from reconciler.digests import checksum, sha256

_CHECKSUM_BYTES = 32
_KEY_BYTES = 32
_MAX_ENTRIES = 4096
_MAX_BYTES = 1 << 30
_DAY_S = 86400
_READERS = (
    *(os.path.join("manifest", name) for name in ("parse.py", "faults.py", "build.py", "yaml.py", "schema.py")),
    *("jobs.py", os.path.join("state", "codec.py")),
    *("app.py", "guards.py", "order.py", "plan.py", "planner.py", "planning.py", "unchanged.py"),
)


class FolderCache:
    """A `Memory` in a folder. Safe for use by many programs at once, and safe to delete."""

    def __init__(self, folder: str, key_path: str) -> None:
        self._folder = folder
        self._key_path = key_path
        self._version = _version()
        self._key: bytes | None = None

    def recall(self, kind: str, content: bytes) -> Any:
        key = self._secret(make=False)
        if not key:
            return None
        name = self._name(kind, content)
        entry = _read_own(os.path.join(self._folder, name))
        if entry is None or entry[:_CHECKSUM_BYTES] != _checksum(key, name, entry[_CHECKSUM_BYTES:]):
            return None
        # What bears our checksum was written by `remember`, and marshal reads back what this Python wrote.
        return marshal.loads(memoryview(entry)[_CHECKSUM_BYTES:])  # noqa: S302

    def remember(self, kind: str, content: bytes, value: Any) -> None:
        key = self._secret(make=True)
        if not key:
            return
        name = self._name(kind, content)
        payload = marshal.dumps(value)
        with suppress(OSError):
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            self._make_room()
            _write_own(os.path.join(self._folder, name), _checksum(key, name, payload) + payload)

    def _name(self, kind: str, content: bytes) -> str:
        return sha256(b"%s\n%s\n%s" % (self._version, kind.encode(), sha256(content).encode()))

    def _secret(self, *, make: bool) -> bytes:
        """The key of this user on this machine, b"" where there is none and none can be made."""
        if self._key is None:
            self._key = _read_own(self._key_path)
        if self._key is None and make:
            with suppress(OSError):
                os.makedirs(os.path.dirname(self._key_path), mode=0o700, exist_ok=True)
                _write_own(self._key_path, os.urandom(_KEY_BYTES))
            self._key = _read_own(self._key_path)
        return self._key if self._key is not None and len(self._key) == _KEY_BYTES else b""

    def _make_room(self) -> None:
        """Where there is too much, drop the oldest half."""
        entries = sorted(self._entries())
        if len(entries) >= _MAX_ENTRIES or sum(size for _, size, _ in entries) > _MAX_BYTES:
            for _, _, path in entries[: len(entries) // 2 + 1]:
                with suppress(OSError):
                    os.remove(path)

    def _entries(self) -> Iterator[tuple[float, int, str]]:
        """(time of writing, size in bytes, path) of each entry."""
        with os.scandir(self._folder) as found:
            for entry in found:
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    yield status.st_mtime, status.st_size, entry.path


def _version() -> bytes:
    """What else an entry depends on: this version of the reader, in a checkout its very files, and this Python."""
    folder = os.path.dirname(os.path.abspath(__file__))
    parts = [__version__, sys.implementation.cache_tag or "", str(marshal.version)]
    for name in (*_READERS, "schemas", os.path.join("..", "schemas")):
        with suppress(OSError):
            status = os.stat(os.path.join(folder, name))
            parts.append(f"{status.st_mtime_ns} {status.st_size}")
    return "\n".join(parts).encode()


def _checksum(key: bytes, name: str, payload: bytes) -> bytes:
    return checksum(b"%s\n%s" % (name.encode(), payload), size_bytes=_CHECKSUM_BYTES, key=key)


def _read_own(path: str) -> bytes | None:
    """The content of a plain file that is this user's alone, None where there is no such file."""
    try:
        with open(path, "rb", opener=_no_links) as file:
            status = os.fstat(file.fileno())
            return file.read() if status.st_uid == os.getuid() and not status.st_mode & 0o077 else None
    except OSError:
        return None


def _no_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _write_own(path: str, content: bytes) -> None:
    """Put a file of this user alone in place, whole. Raises `OSError`."""
    temporary = f"{path}.{os.getpid()}.tmp"
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(content)
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            os.remove(temporary)
        raise
