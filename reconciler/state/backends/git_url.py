"""The URL with which `--state` names a branch of a git remote.

    git+REMOTE[#[BRANCH][:PATH]]

REMOTE is anything that `git fetch` takes: https://…, ssh://…, user@host:path, file://…, a path, or the name of a remote
of the checkout. BRANCH is `reconciler-state` by default, and PATH is `jobs.state.json`. The defaults do not depend on
the working directory.
"""

import os
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from reconciler.manifest.files import repository_of
from reconciler.model.errors import Usage
from reconciler.state.paths import paths_of

SCHEME = "git+"
"""The beginning of such a URL."""
DEFAULT_BRANCH = "reconciler-state"
DEFAULT_PATH = "jobs.state.json"

_FORM = "write --state 'git+REMOTE#BRANCH:PATH', such as git+https://host/org/repo.git#reconciler-state:jobs.state.json"
_USE_A_HELPER = "leave them out: git asks its credential helpers, an ssh agent, or http.extraHeader of its config"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_USERINFO = re.compile(r"://[^/\s'\"@]*@|://[^/\s'\"]*:[^/\s'\"]*@")
_REMOTE_FORM = re.compile(r"(https?|ssh|git)://|[\w.-]+@[\w.-]+:|.+\.git$")
"""The forms of a remote that no path of a state file has."""
_BAD_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/.]|/\.|[/.]$|\.lock(/|$)|^@$|^HEAD$")
"""What git-check-ref-format(1) forbids in the name of a branch."""
_BAD_PATH = re.compile(r"[\x00-\x1f\x7f]|^[-/]|/$|//|(^|/)\.\.?(/|$)|(^|/)\.git(/|$)", re.IGNORECASE)


class BranchUrl(NamedTuple):
    """A state file on a branch of a remote. `path` is its path in the branch."""

    remote: str
    branch: str
    path: str

    @property
    def is_name(self) -> bool:
        """Whether `remote` is the name of a remote of the checkout, and not a URL or a path."""
        return not re.search(r"[:/\\]", self.remote) and self.remote not in (".", "..")

    def __str__(self) -> str:
        return f"{SCHEME}{without_userinfo(self.remote)}#{self.branch}:{self.path}"


def parse(url: str) -> BranchUrl:
    """The parts of a URL that begins with `git+`. Raises `Usage`, whose text shows no password."""
    if fault := fault_of(url):
        raise Usage(f"--state: {fault[0]}", fault[1])
    return _parts(url)


def fault_of(url: str) -> tuple[str, str] | None:
    """(fault, advice) for a URL that begins with `git+`, None where the URL is valid. The texts show no password."""
    return _fault(_parts(url))


def _parts(url: str) -> BranchUrl:
    remote, _, place = url.removeprefix(SCHEME).partition("#")
    branch, _, path = place.partition(":")
    return BranchUrl(remote, branch or DEFAULT_BRANCH, path or DEFAULT_PATH)


def is_branch_name(name: str) -> bool:
    """Whether git accepts the name for a branch."""
    return bool(name) and not _BAD_BRANCH.search(name)


def is_path(remote: str) -> bool:
    """Whether a remote is a path, and neither a URL nor HOST:PATH."""
    return "://" not in remote and ":" not in remote.partition("/")[0]


def url_meant(path: str, folder: str, checkout: str) -> str:
    """The URL of a branch that a path of a state looks like, which lacks `git+`; "" for any other path.

    A relative path is relative to `folder`. A path such as ./origin is always a file, and so is the path of a state of
    which the folder has any file.
    """
    remote, hash_sign, place = path.partition("#")
    whole = os.path.join(folder, path)
    files = (whole, paths_of(whole).journal, paths_of(whole).history)
    if path.startswith(("/", "./", "../", "file:")) or any(map(os.path.lexists, files)):
        return ""
    names_branch = bool(hash_sign) and (":" in place or not path.endswith(".json"))
    is_remote = names_branch or _REMOTE_FORM.match(remote) or remote in _remotes_of(checkout)
    return f"{SCHEME}{path}" if is_remote and fault_of(f"{SCHEME}{path}") is None else ""


def _remotes_of(checkout: str) -> list[str]:
    """The names of the remotes in the configuration of a git repository; none outside of a repository."""
    root = repository_of(checkout)
    if root is None:
        return []
    try:
        with open(os.path.join(root, ".git", "config"), encoding="utf-8", errors="replace") as file:
            return re.findall(r'^\s*\[remote "(.+)"\]', file.read(), re.MULTILINE)
    except OSError:  # in a worktree, where .git is a file
        return []


def without_userinfo(text: str) -> str:
    """A text of git's without the user and the password in its URLs."""
    return _USERINFO.sub("://", text)


def _fault(found: BranchUrl) -> tuple[str, str] | None:
    """(fault, advice) for the parts of a URL, None where they are valid."""
    remote = found.remote
    if not remote:
        return "no git remote is named", _FORM
    if remote.startswith("-") or "::" in remote or re.search(r"[\x00-\x1f\x7f]", remote):
        return "this is no git remote that is taken: an option, a helper (name::…) or a control character", _FORM
    if _BAD_BRANCH.search(found.branch):
        return f"{found.branch!r} is no name of a branch", _FORM
    if _BAD_PATH.search(found.path):
        return f"{found.path!r} is no path within a repository", f"give one such as prod/{DEFAULT_PATH}"
    return _url_fault(remote) if "://" in remote else None


def _url_fault(remote: str) -> tuple[str, str] | None:
    try:
        parts = urlsplit(remote)
        host, has_password = parts.hostname, parts.password is not None
    except ValueError:
        return "the remote's URL can't be read", _FORM
    if parts.scheme not in ("https", "http", "ssh", "git", "file"):
        return f"git remotes of the kind {parts.scheme}:// are not taken", "use https://, ssh://, file:// or a path"
    if has_password or parts.query or (parts.username is not None and parts.scheme != "ssh"):
        return "the remote's URL holds credentials", _USE_A_HELPER
    if parts.scheme in ("http", "git") and host not in _LOOPBACK:
        return (
            f"{parts.scheme}:// sends all in the clear, and is taken for this machine alone",
            "use https:// or ssh://",
        )
    return None
