"""The folders that a config names, as git stores them at a commit."""

import os
import posixpath
from collections.abc import Iterable
from functools import cache

from reconciler.manifest.folders import Folder, Kind, Named, Node, Rules, files_of
from reconciler.manifest.revisions import Entry, Revision, contents_of, prefix_of, whole_tree
from reconciler.model.errors import ReconcilerError

_MOST_LINKS = 40
"""How many links one path may lead through, as in Linux (ELOOP)."""


def folder_at(at: Revision, named: Named, rules: Rules) -> Folder:
    """Return a folder at a commit. The files are named `REV:path`, as `sources_at` names them.

    See `folders.FolderReader`. Raises `ReconcilerError` also for a folder that held a submodule.
    """
    beside, home = (posixpath.dirname(file.removeprefix(f"{at.name}:")) for file in (named.file, named.home))
    shown = posixpath.normpath(posixpath.join(beside, named.path))
    place = posixpath.normpath(posixpath.join(prefix_of(at), shown))
    if posixpath.isabs(shown) or place == ".." or place.startswith("../"):
        raise ReconcilerError(f"{shown} is outside of the repository")
    tree = _tree_of(at)
    top = b"" if place == "." else os.fsencode(place)
    tree.fetch(top, rules.most_bytes)
    return Folder(posixpath.relpath(shown, home or "."), files_of(tree, top, f"{at.name}:{shown}", rules))


@cache
def _tree_of(at: Revision) -> "_Commit":
    return _Commit(at)


class _Commit:
    """The files of a commit. See `folders.Tree`."""

    def __init__(self, at: Revision) -> None:
        self._at = at
        self._entries: dict[bytes, Entry] = {}
        self._names: dict[bytes, set[bytes]] = {b"": set()}
        self._contents: dict[str, bytes] = {}
        for path, entry in whole_tree(at):
            self._entries[path] = entry
            folder, name = path, b""
            while folder:
                folder, _, name = folder.rpartition(b"/")
                self._names.setdefault(folder, set()).add(name)

    def fetch(self, top: bytes, most_bytes: int) -> None:
        """Read the contents below a folder with one command, unless they are more than so many bytes."""
        below = top + b"/" if top else b""
        entries = [entry for path, entry in self._entries.items() if path.startswith(below) and entry.is_blob]
        if sum(entry.size_bytes for entry in entries) <= most_bytes:
            self._read({entry.blob for entry in entries})

    def names(self, place: bytes) -> Iterable[bytes]:
        return sorted(self._names[place])

    def node(self, path: bytes) -> Node:
        place, links = b"", 0
        ahead = path.split(b"/")[::-1] if path else []
        while ahead:
            name = ahead.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                if not place:
                    return Node(Kind.OUTSIDE)
                place = place.rpartition(b"/")[0]
                continue
            if place in self._entries:  # a file has nothing below it
                return Node(Kind.BROKEN)
            place = place + b"/" + name if place else name
            entry = self._entries.get(place)
            if entry is None:
                if place not in self._names:
                    return Node(Kind.BROKEN)
            elif entry.is_link:
                target = self._content(entry)
                links += 1
                if target.startswith(b"/"):
                    return Node(Kind.OUTSIDE)
                if links > _MOST_LINKS:
                    return Node(Kind.BROKEN)
                place = place.rpartition(b"/")[0]
                ahead += target.split(b"/")[::-1]
        return self._plain(place)

    def pieces(self, place: bytes) -> Iterable[bytes]:
        return (self._content(self._entries[place]),)

    def _plain(self, place: bytes) -> Node:
        entry = self._entries.get(place)
        if entry is None:
            return Node(Kind.FOLDER, place)
        if not entry.is_blob:
            return Node(Kind.OTHER, place)
        return Node(Kind.FILE, place, entry.is_executable, entry.size_bytes)

    def _content(self, entry: Entry) -> bytes:
        self._read({entry.blob})
        return self._contents[entry.blob]

    def _read(self, blobs: set[str]) -> None:
        missing = sorted(blobs - self._contents.keys())
        if missing:
            self._contents.update(zip(missing, contents_of(self._at, missing), strict=True))
