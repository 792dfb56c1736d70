"""Files as git stores them at a commit, and the facts about git that a history records. Nothing is written.

A checkout of the commit is not needed.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from reconciler.host.git import GitResult, git_environment, run_git
from reconciler.manifest.files import DEFAULTS, is_manifest_name
from reconciler.model.errors import ReconcilerError

_OUTSIDE = "not a git repository"
"""By these words in its message git says that a folder is in no repository."""


class Revision(NamedTuple):
    """A commit: the name that the user gave, the id, and the folder that paths are relative to."""

    name: str
    commit: str
    folder: str


class Entry(NamedTuple):
    """What a commit has at a path. A submodule is no blob, and has no content here."""

    mode: str
    blob: str
    size_bytes: int

    @property
    def is_blob(self) -> bool:
        return self.mode != "160000"

    @property
    def is_link(self) -> bool:
        return self.mode == "120000"

    @property
    def is_executable(self) -> bool:
        return self.mode == "100755"


def revision(folder: str, name: str) -> Revision:
    """Return the commit of a name: of a branch, a tag, an id or an expression such as HEAD~3.

    Raises `ReconcilerError` if the repository has no such commit, or if the folder is in no repository.
    """
    ended = (
        _git(folder, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}") if name[:1] not in ("-", "") else None
    )
    if ended is not None and ended.code == 0:
        return Revision(name, ended.out.decode().strip(), folder)
    where = "the working directory" if folder in (".", "") else folder
    if why := _why_unreadable(folder):
        raise ReconcilerError(f"git can't read the repository of {where}: {why}", "do as git says, and try again")
    if not _is_repository(folder):
        raise ReconcilerError(
            f"{where} is in no git repository, so it has no revision {name}",
            "run the command in a clone of the repository that holds the manifest",
        )
    shallow = _git(folder, "rev-parse", "--is-shallow-repository").out.strip() == b"true"
    raise ReconcilerError(
        f"git has no commit {name} here" + (": this clone is shallow" if shallow else ""),
        "git fetch --unshallow brings the rest (in CI: a checkout of full depth, fetch-depth: 0)"
        if shallow
        else "git log shows which there are; git fetch brings those of others",
    )


def file_at(at: Revision, path: str) -> bytes | None:
    """Return the content of a file at a commit, or None if there was none.

    Raises `ReconcilerError` if it was no file.
    """
    for mode, blob, _ in _listed(at, path):
        if not mode.startswith("100"):
            raise ReconcilerError(f"{path} was no regular file at {at.name}", "name another revision")
        return contents_of(at, [blob])[0]
    return None


def content_at(at: Revision, file: str, path: str) -> bytes:
    """Return the content of a file at a commit, by a path that is relative to a file `REV:path` of `sources_at`.

    Raises `ReconcilerError` if there was no such file, and if the path leads out of the folder of the revision.
    """
    named = os.path.normpath(os.path.join(os.path.dirname(file.removeprefix(f"{at.name}:")), path))
    content = None if os.path.isabs(named) or named.startswith("..") else file_at(at, named)
    if content is None:
        raise ReconcilerError(f"{named}: there was no such file at {at.name}")
    return content


def sources_at(at: Revision, paths: Sequence[str]) -> list[tuple[str, bytes]]:
    """Return the files of a manifest at a commit, as pairs of the name `REV:path` and the content.

    The rules are those of `files.read_sources`. Without `paths`, the first default path that existed counts. A path
    that did not exist stands for nothing. Raises `ReconcilerError` for a link, since git does not store the file that
    the link led to.
    """
    found: dict[str, str] = {}
    for path in paths or DEFAULTS:
        listed = _listed(at, path)
        inside = _inside(at, path)
        for mode, blob, name in sorted(listed, key=lambda one: one[2].split("/")):
            below = os.path.relpath(name, inside)  # "." is the file itself
            if below != "." and ("/." in f"/{below}" or not is_manifest_name(below)):
                continue
            if not mode.startswith("100"):
                raise ReconcilerError(f"{at.name}:{name} is a symbolic link", "name the file itself")
            found.setdefault(name, blob)
        if listed and not paths:
            break
    contents = contents_of(at, list(found.values()))
    return [(f"{at.name}:{name}", content) for name, content in zip(found, contents, strict=True)]


def prefix_of(at: Revision) -> str:
    """Return the folder of a revision, relative to the top of its repository; "" is the top itself."""
    return os.fsdecode(_run(at.folder, "rev-parse", "--show-prefix").out.rstrip(b"\n"))


def whole_tree(at: Revision) -> Iterator[tuple[bytes, Entry]]:
    """Yield each file, link and submodule of a commit, as (path from the top of the repository, entry)."""
    listed = _run(at.folder, "ls-tree", "-r", "-l", "-z", "--full-tree", at.commit).out
    for line in listed.split(b"\0"):
        if line:
            entry, _, path = line.partition(b"\t")
            mode, _, blob, size = entry.decode().split()
            yield path, Entry(mode, blob, int(size) if size.isdecimal() else 0)


def attribute(path: str, name: str) -> str | None:
    """Return a git attribute of a file, such as "union" or "unspecified", or None outside of a repository."""
    ended = _git(os.path.dirname(path), "check-attr", "-z", name, "--", os.path.basename(path))
    return ended.out.split(b"\0")[2].decode("utf-8", "replace") if ended.code == 0 and ended.out else None


def commit_at(folder: str) -> tuple[str | None, str]:
    """Return the commit that is checked out in a folder, or None, and the reason why git can't tell, or "".

    There is no commit outside of a repository, in a repository without a commit, and if git is not installed.
    """
    try:
        found = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
        if found.code == 0:
            return found.out.decode().strip(), ""
        return None, "" if _OUTSIDE in found.err else _why_unreadable(folder)
    except ReconcilerError:
        return None, ""


def git_user(folder: str, env: Mapping[str, str]) -> str:
    """Return the user of git, as "name <email>", or "".

    `GIT_AUTHOR_NAME` and `GIT_AUTHOR_EMAIL` come before git's configuration, as in git-commit(1).
    """
    try:
        ended = _git(folder, "config", "-z", "--get-regexp", r"^user\.(name|email)$")
        configured = ended.out.decode("utf-8", "replace")
    except ReconcilerError:  # git is not installed
        configured = ""
    pairs = (entry.partition("\n") for entry in configured.split("\0"))
    values = {key: value.strip() for key, _, value in pairs}
    name = env.get("GIT_AUTHOR_NAME", "").strip() or values.get("user.name", "")
    email = env.get("GIT_AUTHOR_EMAIL", "").strip() or values.get("user.email", "")
    return f"{name} <{email}>" if name and email else name or email


def _error_of(ended: GitResult) -> str:
    """Return the messages of git on one line."""
    return "; ".join(line.strip() for line in ended.err.split("\n") if line.strip())[:500]


def _is_repository(folder: str) -> bool:
    return _git(folder, "rev-parse", "--git-dir").code == 0


def _why_unreadable(folder: str) -> str:
    """Return the reason why git can't read the repository around a folder, or "". No repository is no reason."""
    ended = _git(folder, "rev-parse", "--git-dir")
    is_outside = _OUTSIDE in ended.err
    return "" if ended.code == 0 or is_outside else _error_of(ended) or f"it ended with {ended.code}"


def _listed(at: Revision, path: str) -> list[tuple[str, str, str]]:
    """Return (mode, id, path) of the file at a path, or of all files below the path; empty if there was none."""
    inside = _inside(at, path)
    arguments = [] if inside == "." else ["--", inside]
    ended = _run(at.folder, "ls-tree", "-r", "-z", at.commit, *arguments)
    lines = (line.partition(b"\t") for line in ended.out.split(b"\0") if line)
    return [(entry.split()[0].decode(), entry.split()[2].decode(), os.fsdecode(name)) for entry, _, name in lines]


def _inside(at: Revision, path: str) -> str:
    """Return the path relative to the folder of the revision, as git lists it."""
    if os.path.isabs(path):
        return os.path.relpath(os.path.realpath(path), os.path.realpath(at.folder))
    return os.path.normpath(path)


def contents_of(at: Revision, blobs: Sequence[str]) -> list[bytes]:
    """Return the contents of files by their ids, in this order."""
    ended = _run(at.folder, "cat-file", "--batch", stdin="".join(f"{blob}\n" for blob in blobs).encode())
    contents, offset = [], 0
    for blob in blobs:
        head = re.compile(rb"[0-9a-f]+ blob (\d+)\n").match(ended.out, offset)
        if head is None:
            raise ReconcilerError(f"git can't read {blob}, which is part of {at.name}", "git fsck tells more")
        begin = head.end()
        offset = begin + int(head[1]) + 1
        contents.append(ended.out[begin : offset - 1])
    return contents


def _run(folder: str, *arguments: str, stdin: bytes = b"") -> GitResult:
    ended = _git(folder, *arguments, stdin=stdin)
    if ended.code != 0:
        words = f"git {arguments[0]} failed: {_error_of(ended)}"
        raise ReconcilerError(words, "see that the repository is sound: git fsck")
    return ended


def _git(folder: str, *arguments: str, stdin: bytes = b"") -> GitResult:
    """Run git in a folder to its end. Raises `ReconcilerError` if git can't be run, or if git does not end in time."""
    ended = run_git(["--no-pager", "-C", folder or ".", *arguments], git_environment(os.environ), stdin)
    if ended.is_late:
        raise ReconcilerError(
            f"git {arguments[0]} failed: {_error_of(ended)}", "see why git does not end, and try again"
        )
    return ended
