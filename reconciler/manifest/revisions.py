"""Files as git has them at a commit, and what else a history asks of git. Reads only; a checkout is not needed."""

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from reconciler.host.git import GitResult, git_environment, run_git
from reconciler.manifest.files import DEFAULTS, is_manifest_name
from reconciler.model.errors import ReconcilerError

_OUTSIDE = "not a git repository"
"""By these words in its message git says that a folder is in no repository."""


class Revision(NamedTuple):
    """A commit, as it was named and by its id, seen from a folder: paths are relative to that."""

    name: str
    commit: str
    folder: str


def revision(folder: str, name: str) -> Revision:
    """The commit of a name: a branch, a tag, an id, HEAD~3. Raises `ReconcilerError` where there is none here."""
    ended = (
        _git(folder, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}") if name[:1] not in ("-", "") else None
    )
    if ended is not None and ended.code == 0:
        return Revision(name, ended.out.decode().strip(), folder)
    where = "the working directory" if folder in (".", "") else folder
    if why := _why_unreadable(folder):
        raise ReconcilerError(f"git can't read the repository of {where}: {why}", "do as git says, and try again")
    if not _is_repository(folder):
        raise ReconcilerError(f"{where} is in no git repository, so it has no {name}", "go to a clone of it")
    shallow = _git(folder, "rev-parse", "--is-shallow-repository").out.strip() == b"true"
    raise ReconcilerError(
        f"git has no commit {name} here" + (": this clone is shallow" if shallow else ""),
        "git fetch --unshallow brings the rest (in CI: a checkout of full depth, fetch-depth: 0)"
        if shallow
        else "git log shows which there are; git fetch brings those of others",
    )


def file_at(at: Revision, path: str) -> bytes | None:
    """A file's content at a commit, None where there was none. Raises `ReconcilerError` where it was no file."""
    for mode, blob, _ in _listed(at, path):
        if not mode.startswith("100"):
            raise ReconcilerError(f"{path} was no regular file at {at.name}", "name another revision")
        return _contents(at, [blob])[0]
    return None


def sources_at(at: Revision, paths: Sequence[str]) -> list[tuple[str, bytes]]:
    """The files of a manifest at a commit, as `sources.read_sources` reads them now; named REV:path.

    Without `paths` those of the default that there was. A path that was not there then stands for
    nothing. Raises `ReconcilerError` for a link: what it led to then is not known.
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
    contents = _contents(at, list(found.values()))
    return [(f"{at.name}:{name}", content) for name, content in zip(found, contents, strict=True)]


def attribute(path: str, name: str) -> str | None:
    """A file's git attribute, such as "union" or "unspecified"; None outside git."""
    ended = _git(os.path.dirname(path), "check-attr", "-z", name, "--", os.path.basename(path))
    return ended.out.split(b"\0")[2].decode("utf-8", "replace") if ended.code == 0 and ended.out else None


def commit_at(folder: str) -> tuple[str | None, str]:
    """The commit that is checked out in a folder, None for none; and why git does not tell, "" where it does.

    There is none outside of a repository, in one without a commit, and where git is not installed.
    """
    try:
        found = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
        if found.code == 0:
            return found.out.decode().strip(), ""
        return None, "" if _OUTSIDE in found.err else _why_unreadable(folder)
    except ReconcilerError:
        return None, ""


def git_user(folder: str) -> str:
    """The user that git is configured with, "name <email>"; "" where there is none."""
    try:
        ended = _git(folder, "config", "-z", "--get-regexp", r"^user\.(name|email)$")
    except ReconcilerError:  # no git
        return ""
    pairs = (entry.partition("\n") for entry in ended.out.decode("utf-8", "replace").split("\0"))
    values = {key: value.strip() for key, _, value in pairs}
    name, email = values.get("user.name", ""), values.get("user.email", "")
    return f"{name} <{email}>" if name and email else name or email


def _error_of(ended: GitResult) -> str:
    """What git said, on one line."""
    return "; ".join(line.strip() for line in ended.err.split("\n") if line.strip())[:500]


def _is_repository(folder: str) -> bool:
    return _git(folder, "rev-parse", "--git-dir").code == 0


def _why_unreadable(folder: str) -> str:
    """Why git does not read the repository that a folder is in, in git's words; "" where it reads it, or is in none."""
    ended = _git(folder, "rev-parse", "--git-dir")
    is_outside = _OUTSIDE in ended.err
    return "" if ended.code == 0 or is_outside else _error_of(ended) or f"it ended with {ended.code}"


def _listed(at: Revision, path: str) -> list[tuple[str, str, str]]:
    """(mode, id, path) of the file at a path, or of all files below it; none where there was none."""
    inside = _inside(at, path)
    arguments = [] if inside == "." else ["--", inside]
    ended = _run(at.folder, "ls-tree", "-r", "-z", at.commit, *arguments)
    lines = (line.partition(b"\t") for line in ended.out.split(b"\0") if line)
    return [(entry.split()[0].decode(), entry.split()[2].decode(), os.fsdecode(name)) for entry, _, name in lines]


def _inside(at: Revision, path: str) -> str:
    """The path as git lists it: relative to the folder."""
    if os.path.isabs(path):
        return os.path.relpath(os.path.realpath(path), os.path.realpath(at.folder))
    return os.path.normpath(path)


def _contents(at: Revision, blobs: Sequence[str]) -> list[bytes]:
    """The bytes of files by their ids."""
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
    """Run git to its end in a folder. Raises `ReconcilerError` where git can't be run, or does not end."""
    ended = run_git(["--no-pager", "-C", folder or ".", *arguments], git_environment(os.environ), stdin)
    if ended.is_late:
        raise ReconcilerError(
            f"git {arguments[0]} failed: {_error_of(ended)}", "see why git does not end, and try again"
        )
    return ended
