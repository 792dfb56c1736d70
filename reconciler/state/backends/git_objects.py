"""Git's objects as bytes: what `git ls-tree` prints of a tree, and what `git fast-import` reads to make a commit."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Author(NamedTuple):
    """The author and committer of a commit."""

    name: str
    email: str


class TreeEntry(NamedTuple):
    """One entry of a tree: its mode in octal digits, its type ("blob", "tree" or "commit"), its object id and its size.

    The size is in bytes, "-" for what is no file, and "" in a recursive listing.
    """

    mode: str
    type: str
    id: str
    size_bytes: str = ""


def tree_arguments(commit: str, paths: Sequence[str], *, is_recursive: bool) -> Sequence[str]:
    """The arguments of the git command that lists these paths of a commit; the path "" is the root.

    A recursive listing holds the files below a folder. A flat one holds the folder itself, and the sizes of files; so
    git must have their content.
    """
    form = "-r" if is_recursive else "-l"
    return ("ls-tree", form, "-z", "--full-tree", commit, *(["--", *paths] if all(paths) else []))


def tree_entries(output: bytes) -> Mapping[str, TreeEntry]:
    """The entries in the output of `tree_arguments`, by path and in git's order."""
    lines = (line.split(b"\t", 1) for line in output.split(b"\0") if line)
    return {os.fsdecode(path): TreeEntry(*fields.decode().split()) for fields, path in lines}


def blob_ids(output: bytes) -> Mapping[str, str]:
    """The object ids in the output of `tree_arguments`, by path."""
    return {path: entry.id for path, entry in tree_entries(output).items()}


def commit_stream(
    ref: str, parent: str | None, files: Mapping[str, bytes | None], message: str, author: Author
) -> bytes:
    """The input with which `git fast-import` makes a commit, sets `ref` to the commit and prints its id.

    `files` maps a path to its new content; None removes the file. All other files are as in `parent`.
    """
    lines = [f"commit {ref}\nmark :1\ncommitter {_plain(author.name)} <{_plain(author.email)}> now\n".encode()]
    lines.append(_counted(message.encode("utf-8", "replace")))
    if parent is not None:
        lines.append(f"from {parent}\n".encode())
    for path, content in sorted(files.items()):
        quoted = b'"%s"' % os.fsencode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        lines.append(b"D %s\n" % quoted if content is None else b"M 100644 inline %s\n" % quoted)
        lines.append(b"" if content is None else _counted(content))
    lines.append(b"get-mark :1\ndone\n")
    return b"".join(lines)


def _counted(content: bytes) -> bytes:
    """The `data` command of fast-import, which states the length of the content in bytes."""
    return b"data %d\n%s\n" % (len(content), content)


def _plain(text: str) -> str:
    """A name or an address without the characters that end a name or an address in a commit."""
    return re.sub(r"[<>\n\r\0]+", " ", text).strip() or "reconciler"
