"""A home of state in a directory, made with the public names of the port: a remote that is not git.

Each version is one file, `00000007.json`, which holds everything. A version is written under another name, and then
linked to the next number. `link` fails where that name is taken, so it is the compare-and-swap. All versions stay, and
each is a revision.
"""

import base64
import json
import os
import re
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from reconciler.model.errors import StateError
from reconciler.state.leased_store import LeasedStore
from reconciler.state.port import (
    Advice,
    Content,
    Fold,
    Moved,
    NoRevisions,
    Note,
    NotFenced,
    Pace,
    Page,
    Snapshot,
    Store,
    Surroundings,
    Unreachable,
    Write,
)

ENTRY_POINTS = "[reconciler.state]\ndir = directory_home:PLUGIN\nplain = directory_home:PLAIN\n"
"""The entry points of a package that has these plugins."""


class DirectoryRemote:
    """A `Remote` in a directory. `lost` is called after each write and may raise `OSError`: its answer is then lost."""

    advice = Advice(rolled_back="bring the files that are gone back")

    pace = Pace()

    def __init__(self, folder: str, lost: Callable[[], None] = lambda: None) -> None:
        self._folder = folder
        self._lost = lost
        self.where = f"directory {folder}"
        os.makedirs(folder, exist_ok=True)

    def version(self) -> str | None:
        latest = self._latest()
        return self._document(latest)["version"] if latest else None

    def fetch(self) -> Snapshot | None:
        latest = self._latest()
        return self._snapshot(latest) if latest else None

    def publish(self, base: str | None, write: Write, note: Note) -> str:
        number = self._number(base)
        before = self._snapshot(number) if number else None
        content = (before.content if before else Content()).after(write)
        lines = write.history if isinstance(write, Fold) else b""
        version = f"{number + 1}-{uuid.uuid4()}"
        document = {
            "version": version,
            "note": note._asdict(),
            "state": _text(content.state),
            "journal": _text(content.journal),
            "holder": _text(content.holder),
            "historyBytes": content.history_bytes,
            "lines": _text(lines),
        }
        try:
            self._link(number + 1, json.dumps(document).encode())
            self._lost()
        except FileExistsError:
            raise Moved from None
        except OSError as fault:
            try:
                arrived = self._document(number + 1)["version"] == version
            except OSError:
                raise Unreachable(f"{self.where} can't be reached: {fault.strerror}") from fault
            if not arrived:
                raise Moved from None
        return version

    def follows(self, version: str) -> bool:
        number = self._number(version)
        return os.path.exists(self._path(number)) and self._document(number)["version"] == version

    def author_of(self, version: str) -> str:
        note = self._document(self._number(version))["note"]
        return f"{note['who']}: {note['what']}"

    def past(self, version: str, after: str | None, limit: int) -> Page:
        numbers = range(1, self._number(version) + 1)
        lines = b"".join(_bytes(self._document(number)["lines"]) or b"" for number in numbers).splitlines(keepends=True)
        end = int(after or 0) + limit
        return Page(b"".join(lines[int(after or 0) : end]), str(end) if end < len(lines) else None)

    def at(self, revision: str) -> Snapshot:
        if not re.fullmatch("[0-9]+", revision) or not os.path.exists(self._path(int(revision))):
            raise StateError(f"{self.where} has no version {revision}", f"ls {self._folder} shows them")
        return self._snapshot(int(revision))

    def probe(self) -> None:
        name = os.path.join(self._folder, f"probe-{uuid.uuid4()}")
        with open(name, "x", encoding="ascii"):
            pass
        try:
            os.link(name, name)
        except FileExistsError:
            return
        finally:
            os.unlink(name)
        raise NotFenced(f"{self.where} lets one file take the place of another", "name another place with --state")

    def _latest(self) -> int:
        return max((int(name[:8]) for name in os.listdir(self._folder) if name.endswith(".json")), default=0)

    def _path(self, number: int) -> str:
        return os.path.join(self._folder, f"{number:08}.json")

    def _number(self, version: str | None) -> int:
        return int(version.partition("-")[0]) if version else 0

    def _document(self, number: int) -> dict[str, Any]:
        with open(self._path(number), "rb") as file:
            found: dict[str, Any] = json.load(file)
            return found

    def _snapshot(self, number: int) -> Snapshot:
        found = self._document(number)
        state, journal, holder = (_bytes(found[name]) for name in ("state", "journal", "holder"))
        return Snapshot(found["version"], Content(state, journal, holder, found["historyBytes"]))

    def _link(self, number: int, content: bytes) -> None:
        unfinished = os.path.join(self._folder, f"new-{uuid.uuid4()}")
        try:
            with open(unfinished, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(unfinished, self._path(number))
        finally:
            with suppress(OSError):
                os.unlink(unfinished)


class PlainRemote(DirectoryRemote):
    """The same for a place that keeps no revisions."""

    def at(self, revision: str) -> Snapshot:
        raise NoRevisions(f"{self.where} keeps no revisions", "keep copies: `reconciler state pull --out FILE`")


class DirectoryPlugin:
    """The `StatePlugin` for `dir://PATH`, or for another prefix with another kind of remote."""

    def __init__(self, prefix: str, kind: type[DirectoryRemote]) -> None:
        self.prefix = prefix
        self._kind = kind

    def fault_of(self, url: str) -> tuple[str, str] | None:
        named = url.removeprefix(self.prefix)
        return None if named else ("no directory is named", f"give one, such as {self.prefix}states/prod")

    def full_url(self, url: str) -> str:
        return url

    def open(self, url: str, surroundings: Surroundings) -> Store:
        folder = os.path.abspath(os.path.join(surroundings.folder, url.removeprefix(self.prefix)))
        return LeasedStore(self._kind(folder), surroundings)


PLUGIN = DirectoryPlugin("dir://", DirectoryRemote)
PLAIN = DirectoryPlugin("plain://", PlainRemote)


def install(site: str) -> str:
    """Make an installed package with these plugins in a folder; return the value of PYTHONPATH with which it counts."""
    package = os.path.join(site, "directory_home-1.dist-info")
    os.makedirs(package)
    for name, content in {
        "METADATA": "Metadata-Version: 2.1\nName: directory-home\nVersion: 1\n",
        "entry_points.txt": ENTRY_POINTS,
    }.items():
        with open(os.path.join(package, name), "w", encoding="ascii") as file:
            file.write(content)
    return os.pathsep.join([site, os.path.dirname(__file__)])


def _text(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
