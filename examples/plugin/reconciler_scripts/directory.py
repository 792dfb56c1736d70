"""A home of state in a directory of this machine, or in one that several machines share.

Each version of the state is a file, such as `00000007.json`, which holds one write: what an append adds, and not the
whole journal. `link` gives the file its name in one step, and fails if the name is taken. So `link` is the
compare-and-swap. A reader goes back to the last write of a whole state, and carries out all writes since then. Every
file stays, and is a revision for `reconciler history --since` and `reconciler state show --at`.
"""

import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from reconciler.state.leased_store import LeasedStore
from reconciler.state.port import (
    Advice,
    Append,
    Content,
    Denied,
    Fold,
    Hold,
    Leave,
    Moved,
    Note,
    NotFenced,
    Pace,
    Page,
    Snapshot,
    StateError,
    Store,
    Surroundings,
    Unreachable,
    Write,
)

_KINDS: dict[str, type[Write]] = {kind.__name__: kind for kind in (Append, Fold, Hold, Leave)}


class Revision(NamedTuple):
    """One file: its version, the write, the content's `history_bytes` after it, and the note of its author."""

    version: str
    write: Write
    history_bytes: int
    note: Note


class DirectoryRemote:
    """A `Remote` in a directory."""

    advice = Advice(version="revision", rolled_back="bring the files back that are gone")
    # Each write stays for ever, so a command that has nothing to do writes nothing.
    pace = Pace(beats_while_idle=False)

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.where = f"directory {folder}"

    def version(self) -> str | None:
        """Return the version of the file with the highest number."""
        with self._reaching():
            latest = self._latest()
            return self._revision(latest).version if latest else None

    def fetch(self) -> Snapshot | None:
        """Return the content after the last write."""
        with self._reaching():
            latest = self._latest()
            return self._snapshot(latest) if latest else None

    def publish(self, base: str | None, write: Write, note: Note) -> str:
        """Write the file that comes after `base`, unless it is there."""
        number = _number(base) + 1
        version = f"{number}-{uuid.uuid4()}"
        with self._reaching():
            if base and not self.follows(base):
                raise Moved
            length_bytes = self._revision(number - 1).history_bytes if base else 0
            length_bytes += len(write.history) if isinstance(write, Fold) else 0
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._link(number, Revision(version, write, length_bytes, note))
            except PermissionError as fault:
                raise Denied(f"{self.where} can't be written: {fault}") from fault
            except OSError:
                # The answer of a file server may be lost, and a repeated request finds the file of the first one.
                if not self._has(number):
                    raise
                if self._revision(number).version != version:
                    raise Moved from None
            _flush_folder(self._folder)
        return version

    def follows(self, version: str) -> bool:
        """Return whether the file of a version is still there."""
        number = _number(version)
        return self._has(number) and self._revision(number).version == version

    def author_of(self, version: str) -> str:
        """Return who wrote a version, and with which command."""
        note = self._revision(_number(version)).note
        return f"{note.who}: {note.what}"

    def past(self, version: str, after: str | None, limit: int) -> Page:
        """Return lines of the history. `after` is the number of a file, and how many of its lines came before."""
        number, seen = map(int, (after or "1:0").split(":"))
        lines: list[bytes] = []
        with self._reaching():
            while number <= _number(version):
                write = self._revision(number).write
                more = write.history.splitlines(keepends=True)[seen:] if isinstance(write, Fold) else []
                room = limit - len(lines)
                lines += more[:room]
                if len(more) > room:
                    return Page(b"".join(lines), f"{number}:{seen + room}")
                number, seen = number + 1, 0
        return Page(b"".join(lines), None)

    def at(self, revision: str) -> Snapshot:
        """Return the content after the write of a number."""
        with self._reaching():
            if not re.fullmatch("[1-9][0-9]{0,7}", revision) or not self._has(int(revision)):
                raise StateError(f"{self.where} has no revision {revision}", f"ls {self._folder} shows the revisions")
            return self._snapshot(int(revision))

    def probe(self) -> None:
        """Make sure that a link does not take the place of another file."""
        with self._reaching():
            self._folder.mkdir(parents=True, exist_ok=True)
            name = self._folder / f"probe-{uuid.uuid4()}"
            name.touch(exist_ok=False)
            try:
                os.link(name, name)
            except FileExistsError:
                return
            finally:
                name.unlink()
        raise NotFenced(f"{self.where} lets one file take the place of another", "name another place with --state")

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Raise `Unreachable` for what the file system refuses, and `StateError` for files that are no revisions."""
        try:
            yield
        except OSError as fault:
            raise Unreachable(f"{self.where} can't be reached: {fault}") from fault
        except (ValueError, KeyError, TypeError) as fault:
            raise StateError(f"{self.where} has a file that is no revision: {fault}") from fault

    def _latest(self) -> int:
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return 0
        return max((int(name[:8]) for name in names if re.fullmatch(r"[0-9]{8}\.json", name)), default=0)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08}.json"

    def _has(self, number: int) -> bool:
        return self._path(number).exists()

    def _revision(self, number: int) -> Revision:
        found = json.loads(self._path(number).read_bytes())
        write = _KINDS[found["kind"]](**{name: _from_json(value) for name, value in found["write"].items()})
        return Revision(found["version"], write, found["historyBytes"], Note(**found["note"]))

    def _snapshot(self, number: int) -> Snapshot:
        """Return the content after a write: all writes from the last whole state on, one after the other."""
        last = self._revision(number)
        revisions = [last]
        while number > 1 and not (isinstance(revisions[-1].write, Fold) and revisions[-1].write.state is not None):
            number -= 1
            revisions.append(self._revision(number))
        content = Content()
        for revision in reversed(revisions):
            content = content.after(revision.write)
        return Snapshot(last.version, content._replace(history_bytes=last.history_bytes))

    def _link(self, number: int, revision: Revision) -> None:
        """Write a file, flush it to the disk, and give it its name."""
        unfinished = self._folder / f"new-{uuid.uuid4()}"
        document = {
            "version": revision.version,
            "kind": type(revision.write).__name__,
            "write": {name: _to_json(value) for name, value in revision.write._asdict().items()},
            "historyBytes": revision.history_bytes,
            "note": revision.note._asdict(),
        }
        try:
            with unfinished.open("x") as file:
                json.dump(document, file)
                file.flush()
                os.fsync(file.fileno())
            os.link(unfinished, self._path(number))
        finally:
            with suppress(OSError):
                unfinished.unlink()


class DirectoryPlugin:
    """The `StatePlugin` for `dir://PATH`."""

    prefix = "dir://"

    def fault_of(self, url: str) -> tuple[str, str] | None:
        """Return what is wrong with a URL."""
        named = url.removeprefix(self.prefix)
        return None if named else ("no directory is named", f"give one, such as {self.prefix}/srv/states/prod")

    def full_url(self, url: str) -> str:
        """Return the URL with its path in one form."""
        return f"{self.prefix}{os.path.normpath(url.removeprefix(self.prefix))}"

    def open(self, url: str, surroundings: Surroundings) -> Store:
        """Return the store in a directory, which the first write makes."""
        folder = os.path.abspath(os.path.join(surroundings.folder, url.removeprefix(self.prefix)))
        return LeasedStore(DirectoryRemote(Path(folder)), surroundings)


def _number(version: str | None) -> int:
    return int(version.partition("-")[0]) if version else 0


def _to_json(value: bytes | int | None) -> str | int | None:
    """Return bytes as text, so that people can read the files. An append may begin or end within a character."""
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else value


def _from_json(value: Any) -> Any:
    return value.encode(errors="surrogateescape") if isinstance(value, str) else value


def _flush_folder(folder: Path) -> None:
    """Write the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


PLUGIN = DirectoryPlugin()
