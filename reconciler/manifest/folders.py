"""The files of a folder that a config names: which ones count, and the digest that stands for them.

A folder has the same files, and the same digest, in each checkout of a commit and in the commit itself: the digest
covers the paths, the contents and whether a file may be executed, and neither times nor owners. These files are left
out:

- what an ignore file names (`ignoring.py`), in the folder, below it, or above it up to the top of the repository. The
  files above do not count if they name the folder itself: a person has then named a folder that was built, and not
  committed
- what the schema of the engine names with `ignored`
- `.git`, and what reconciler writes itself: manifests, states, histories, journals, locks, saved plans. Otherwise, each
  apply would change the content of a folder in which the manifest is

A link counts as what it leads to, which has to be in the same repository. What is left out under its own name does not
come in by a link either: a link that leads to it, or into it, is refused, since a person who made the link expects the
file. In a folder that a link leads to, it is left out as in any other folder.

Folders without files do not count, since git does not store them.
"""

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from hashlib import sha256
from typing import Any, NamedTuple, Protocol

from reconciler.manifest.files import is_manifest_name, is_of_git, is_within, repository_of
from reconciler.manifest.ignoring import Patterns, patterns_of
from reconciler.manifest.kinds import HEAD_BYTES, begins_as_manifest
from reconciler.model.errors import ReconcilerError

_OWN_NAME = re.compile(rb".*\.(state\.json(\.(journal|lock|tmp).*)?|history\.jsonl(\..*)?|sandbox\.db.*)")
_SAVED_PLAN = re.compile(rb'\s*\{\s*"formatVersion"\s*:\s*[0-9]+\s*,\s*"target"\s*:')
_UNPORTABLE = re.compile(rb"[\x00-\x1f\x7f\\]|^[A-Za-z]:")
_PIECE_BYTES = 1 << 20
_DIGITS = 40


class Rules(NamedTuple):
    """What the schema of an engine says of a folder: the names of the files with patterns, names that are always left
    out, and how many bytes the files may have together.
    """

    ignore_files: tuple[str, ...] = (".gitignore",)
    ignored: tuple[str, ...] = ()
    most_bytes: int = 1 << 29


class FolderFile(NamedTuple):
    """A file of a folder. `path` is relative to the folder, with "/" in it. `pieces` reads the content."""

    path: str
    is_executable: bool
    size_bytes: int
    pieces: Callable[[], Iterable[bytes]]


class Named(NamedTuple):
    """A folder as a config names it: the file of the manifest, a path that is relative to it, and the file to whose
    folder the answer is relative.
    """

    file: str
    path: str
    home: str


class Folder(NamedTuple):
    """A folder that was found: its path, relative to the folder of `Named.home`, and the files that count.

    The files are in the order of their paths.
    """

    path: str
    files: Sequence[FolderFile]


FolderReader = Callable[[Named, Rules], Folder]
"""Finds a folder that a config names.

Raises `ReconcilerError` if there is no such folder, if it is outside of the repository, and if a file can't be had.
"""


class Kind(StrEnum):
    """What stands at a path of a tree, once links are resolved."""

    FILE = "file"
    FOLDER = "folder"
    OTHER = "other"
    BROKEN = "broken"
    OUTSIDE = "outside"


class Node(NamedTuple):
    """What stands at a path. `place` is the path with links resolved, relative to the top of the tree.

    `place` means nothing for a link that leads nowhere or out of the tree.
    """

    kind: Kind
    place: bytes = b""
    is_executable: bool = False
    size_bytes: int = 0


class Tree(Protocol):
    """All files below the top of a repository. Paths are relative to the top, with "/" in them; "" is the top."""

    def names(self, place: bytes) -> Iterable[bytes]:
        """Return the names in a folder."""

    def node(self, path: bytes) -> Node:
        """Return what stands at a path."""

    def pieces(self, place: bytes) -> Iterable[bytes]:
        """Yield the content of a file."""


def rules_of(mark: Mapping[str, Any]) -> Rules:
    """Return the rules that the value of `folder` in a schema says."""
    found = Rules()
    return Rules(
        tuple(mark.get("ignoreFiles", found.ignore_files)),
        tuple(mark.get("ignored", found.ignored)),
        mark.get("mostBytes", found.most_bytes),
    )


def folder_beside(named: Named, rules: Rules) -> Folder:
    """Return a folder on this machine; see `FolderReader`."""
    beside, home = (os.path.dirname(os.path.abspath(file)) for file in (named.file, named.home))
    folder = os.path.join(beside, named.path)
    return Folder(os.path.relpath(folder, home), files_in(folder, beside, rules))


def files_in(folder: str, home: str, rules: Rules) -> Sequence[FolderFile]:
    """Return the files of a folder. It has to be in the repository around the folder `home`, or else in `home`."""
    root = os.path.realpath(repository_of(os.path.abspath(home)) or home)
    real = os.path.realpath(folder)
    shown = os.path.relpath(folder, home)
    if not is_within(real, root):
        raise ReconcilerError(f"{shown} is outside of {root}, where the manifest is: put the folder itself there")
    top = b"" if real == root else os.fsencode(os.path.relpath(real, root))
    return files_of(_Disk(root), top, shown, rules)


def files_of(tree: Tree, place: bytes, shown: str, rules: Rules) -> Sequence[FolderFile]:
    """Return the files of the folder at a place of a tree, in the order of their paths.

    `shown` is the name of the folder in messages. Raises `ReconcilerError` if the folder is a part of `.git`, and as in
    `FolderReader`.
    """
    node = tree.node(place)
    if node.kind is not Kind.FOLDER:
        why = "there is no such folder" if node.kind is Kind.BROKEN else "it is no folder"
        raise ReconcilerError(f"{shown}: {why}")
    if is_of_git(os.fsdecode(node.place)):
        raise ReconcilerError(f"{shown} is a part of .git, where git keeps tokens too: name another folder")
    walk = _Walk(tree, shown, rules)
    found = sorted(walk.below(node.place, b"", walk.above(node.place), (node.place,)), key=lambda one: one[0])
    size_bytes = sum(one.size_bytes for _, one in found)
    if size_bytes > rules.most_bytes:
        path, largest = max(found, key=lambda one: one[1].size_bytes)
        raise ReconcilerError(
            f"the files of {shown} have {size_bytes >> 20} MiB together, and {rules.most_bytes >> 20} MiB are taken: "
            f"the largest one is {os.fsdecode(path)}, with {largest.size_bytes >> 20} MiB; "
            f"name what the job does not need in {rules.ignore_files[-1]}"
        )
    if not found:
        raise ReconcilerError(f"{shown} has no file that counts: see what {' and '.join(rules.ignore_files)} name")
    return [one for _, one in found]


def digest_of(files: Iterable[FolderFile]) -> str:
    """Return the digest of the files of a folder: the first 40 hexadecimal digits of a SHA-256, since plans show it.

    Raises `ReconcilerError` if a file can't be read.
    """
    whole = sha256()
    for one in files:
        content = sha256()
        for piece in one.pieces():
            content.update(piece)
        path = os.fsencode(one.path)
        whole.update(b"%d %d %b %b\n" % (one.is_executable, len(path), path, content.digest()))
    return whole.hexdigest()[:_DIGITS]


class _Ignoring(NamedTuple):
    """The patterns of one ignore file, and the folder of the file as it is named from the top of the repository."""

    folder: bytes
    patterns: Patterns

    def verdict(self, path: bytes, *, is_folder: bool) -> bool | None:
        below = path[len(self.folder) + 1 :] if self.folder else path
        return self.patterns.verdict(below, is_folder=is_folder)


_Chains = Mapping[str, tuple[_Ignoring, ...]]
"""The patterns that count in a folder: for each name of an ignore file, from the top of the repository down."""


class _Walk:
    def __init__(self, tree: Tree, shown: str, rules: Rules) -> None:
        self._tree = tree
        self._shown = shown
        self._rules = rules
        self._ignored = set(map(os.fsencode, rules.ignored))
        self._top = b""
        self._above: _Chains = dict.fromkeys(rules.ignore_files, ())
        self._known: dict[bytes, _Chains] = {}

    def above(self, top: bytes) -> _Chains:
        """Return the patterns that count in the folder at `top`, those of its own ignore files left out."""
        self._top = top
        nothing = chains = self._above
        folder = b""
        for name in top.split(b"/") if top else ():
            chains = self._with_own(chains, folder, folder)
            folder = _joined(folder, name)
            if self._ignoring(chains, folder, Kind.FOLDER):
                return nothing
        self._above = chains
        return chains

    def below(
        self, place: bytes, path: bytes, chains: _Chains, entered: tuple[bytes, ...]
    ) -> Iterator[tuple[bytes, FolderFile]]:
        """Yield the files below a folder, each with its path from the top.

        `path` is the path of the folder from the top, by which it was reached; `place` has the links resolved.
        `entered` are the folders around it, so that a link to one of them ends.
        """
        chains = self._with_own(chains, place, _joined(self._top, path))
        for name in self._tree.names(place):
            below, own = _joined(path, name), _joined(place, name)
            if self._is_never_taken(name):
                continue
            node = self._tree.node(own)
            if self._ignoring(chains, _joined(self._top, below), node.kind):
                continue
            if own != _joined(self._top, below) and self._why_left_out(own, node.kind):
                continue
            self._refuse(below, node, entered)
            if node.kind is Kind.FILE and self._is_our_own(name, node):
                continue
            if node.place != own:
                self._refuse_link(below, node)
            if node.kind is Kind.FOLDER:
                yield from self.below(node.place, below, chains, (*entered, node.place))
            else:
                yield below, self._file(below, node)

    def _file(self, path: bytes, node: Node) -> FolderFile:
        try:
            name = path.decode()
        except UnicodeDecodeError:
            raise ReconcilerError(f"{self._name(path)}: its name is not in UTF-8: rename the file") from None
        return FolderFile(name, node.is_executable, node.size_bytes, lambda: self._tree.pieces(node.place))

    def _refuse(self, path: bytes, node: Node, entered: Sequence[bytes]) -> None:
        """Raise `ReconcilerError` for what can't be a part of the folder, or that no other system can have."""
        fault = ""
        if _UNPORTABLE.search(path):
            fault = "has a name that can't be a path on another machine: rename it"
        elif node.kind is Kind.OUTSIDE:
            fault = "is a link that leads out of the repository: put there what it leads to"
        elif node.kind is Kind.BROKEN:
            fault = "is a link to what is not there: mend it"
        elif node.kind is Kind.OTHER:
            fault = "is no regular file: move it away"
        elif node.kind is Kind.FOLDER and node.place in entered:
            fault = "is a link to a folder that it is in: remove it"
        if fault:
            raise ReconcilerError(f"{self._name(path)} {fault}, or name it in {self._rules.ignore_files[-1]}")

    def _refuse_link(self, path: bytes, node: Node) -> None:
        """Raise `ReconcilerError` for a link that leads to what is left out under its own name, or into it."""
        why = self._why_left_out(node.place, node.kind)
        if not why and node.kind is Kind.FILE and self._is_our_own(node.place.rpartition(b"/")[2], node):
            why = "a manifest or a saved plan is always left out"
        if why:
            raise ReconcilerError(
                f"{self._name(path)} is a link to {os.fsdecode(node.place)}, and {why}: put there what the job needs, "
                f"or name the link in {self._rules.ignore_files[-1]}"
            )

    def _why_left_out(self, place: bytes, kind: Kind) -> str:
        """Return why what stands at a place is left out under its own name, or because of a folder around it; or "".

        The folder that a person has named, and the folders around it, count as not left out; see `above`.
        """
        one = b""
        for name in place.split(b"/"):
            folder, one = one, _joined(one, name)
            if _is_within(self._top, one):
                continue
            if self._is_never_taken(name):
                return f"{os.fsdecode(name)} is always left out"
            named_in = self._ignoring(self._patterns_in(folder), one, kind if one == place else Kind.FOLDER)
            if named_in:
                return f"{named_in} names {os.fsdecode(one)}"
        return ""

    def _is_never_taken(self, name: bytes) -> bool:
        """Return whether a name is that of a file or a folder which is left out wherever it is."""
        return is_of_git(os.fsdecode(name)) or name in self._ignored or _OWN_NAME.fullmatch(name) is not None

    def _is_our_own(self, name: bytes, node: Node) -> bool:
        """Return whether a file is a manifest or a saved plan."""
        is_manifest = is_manifest_name(os.fsdecode(name))
        if not is_manifest and not name.endswith(b".json"):
            return False
        head = b""
        for piece in self._tree.pieces(node.place):
            head += piece
            if len(head) >= HEAD_BYTES:
                break
        return begins_as_manifest(head) if is_manifest else _SAVED_PLAN.match(head[:HEAD_BYTES]) is not None

    def _patterns_in(self, folder: bytes) -> _Chains:
        """Return the patterns that count in a folder, which is named from the top of the repository."""
        known = self._known.get(folder)
        if known is None:
            around = self._patterns_in(folder.rpartition(b"/")[0]) if folder else dict.fromkeys(self._above, ())
            known = self._with_own(self._above if folder == self._top else around, folder, folder)
            self._known[folder] = known
        return known

    def _with_own(self, chains: _Chains, place: bytes, path: bytes) -> _Chains:
        """Return the patterns that count in a folder, those of its own ignore files included."""
        made = dict(chains)
        for name in self._rules.ignore_files:
            node = self._tree.node(_joined(place, os.fsencode(name)))
            if node.kind is Kind.FILE:
                content = b"".join(self._tree.pieces(node.place))
                made[name] = (*made[name], _Ignoring(path, patterns_of(content)))
        return made

    def _ignoring(self, chains: _Chains, path: bytes, kind: Kind) -> str:
        """Return the name of the ignore files that name a path, or "". Of several, the innermost one counts."""
        # What a link would have been is not known where it leads nowhere.
        kinds = (True, False) if kind in (Kind.BROKEN, Kind.OUTSIDE) else (kind is Kind.FOLDER,)
        for ignore_file, chain in chains.items():
            for is_folder in kinds:
                verdicts = (each.verdict(path, is_folder=is_folder) for each in reversed(chain))
                if next((one for one in verdicts if one is not None), False):
                    return ignore_file
        return ""

    def _name(self, path: bytes) -> str:
        return os.path.normpath(os.path.join(self._shown, os.fsdecode(path)))


class _Disk:
    """The files below a folder of this machine. See `Tree`."""

    def __init__(self, root: str) -> None:
        """`root` has its links resolved."""
        self._root = os.fsencode(root)

    def names(self, place: bytes) -> Iterable[bytes]:
        try:
            return sorted(os.listdir(self._at(place)))
        except OSError as fault:
            raise _unreadable(place, fault) from fault

    def node(self, path: bytes) -> Node:
        try:
            real = os.path.realpath(self._at(path))
            if not _is_within(real, self._root):
                return Node(Kind.OUTSIDE)
            status = os.stat(real)
        except FileNotFoundError:
            return Node(Kind.BROKEN)
        except OSError as fault:
            if os.path.islink(self._at(path)):  # a link to itself
                return Node(Kind.BROKEN)
            raise _unreadable(path, fault) from fault
        place = b"" if real == self._root else os.path.relpath(real, self._root)
        if stat.S_ISDIR(status.st_mode):
            return Node(Kind.FOLDER, place)
        if not stat.S_ISREG(status.st_mode):
            return Node(Kind.OTHER, place)
        return Node(Kind.FILE, place, bool(status.st_mode & stat.S_IXUSR), status.st_size)

    def pieces(self, place: bytes) -> Iterator[bytes]:
        try:
            with open(self._at(place), "rb") as file:
                while piece := file.read(_PIECE_BYTES):
                    yield piece
        except OSError as fault:
            raise _unreadable(place, fault) from fault

    def _at(self, path: bytes) -> bytes:
        return os.path.join(self._root, path)


def _is_within(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(os.path.join(folder, b""))


def _joined(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder and name else folder or name


def _unreadable(path: bytes, fault: OSError) -> ReconcilerError:
    return ReconcilerError(f"{os.fsdecode(path)}: can't be read: {fault.strerror}")
