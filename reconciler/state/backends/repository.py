"""One branch of a git remote, reached through a private bare repository: fetch, read, commit, push.

The private repository is a cache. The user's checkout is neither read nor changed. Git asks no questions, and runs
none of the user's hooks.
"""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from reconciler.host import git
from reconciler.host.git import GitResult
from reconciler.host.lock import locked
from reconciler.host.user_folders import make_own_folder
from reconciler.model.digests import sha256
from reconciler.model.errors import StateError
from reconciler.state.backends.git_commands import Exhausted, error_text, remote_environment, run_git
from reconciler.state.backends.git_objects import (
    Author,
    TreeEntry,
    blob_ids,
    commit_stream,
    tree_arguments,
    tree_entries,
)
from reconciler.state.backends.git_url import without_userinfo
from reconciler.state.port import Denied, Moved, Unreachable

_TIP = "refs/reconciler/tip"
"""The reference, in the private repository, to the branch's last commit that was fetched or pushed."""

_NEXT = "refs/reconciler/next"
"""The reference, in the private repository, to the commit that was made last."""

_REMOTE = "reconciler-state"
"""The remote's name in the private repository. The environment holds its URL, so no command line shows the URL."""

_OPTIONS = {
    "core.hooksPath": os.devnull,
    "core.ignoreCase": "false",
    "core.quotePath": "false",
    "fetch.recurseSubmodules": "no",
    "push.recurseSubmodules": "no",
    "push.followTags": "false",
    "push.negotiate": "false",
    "push.pushOption": "",
    "gc.autoDetach": "false",
    "gc.packRefs": "false",
    "maintenance.autoDetach": "false",
    "protocol.version": "2",
    f"remote.{_REMOTE}.mirror": "false",
}
_EXHAUSTED_PAUSES_S = (0.1, 0.3, 1.0, 2.0)
"""The pauses between tries where the machine has no process or open file left. Other programs may end meanwhile."""


class _OtherHash(Unreachable):
    """The remote computes object ids with the hash function `remote`, and the private repository with another one."""

    def __init__(self, remote: str, fault: Unreachable) -> None:
        super().__init__(fault.message, fault.hint)
        self.remote = remote


class Remade(Moved):
    """The private repository was made anew, with another hash function, so the commit must be made again."""


class Repository:
    """One branch of a remote. An object serves one thread at a time; a lock file makes programs take turns.

    Every method raises `Unreachable` where a git command fails.
    """

    def __init__(
        self,
        cache: str,
        remote: str,
        branch: str,
        *,
        env: Mapping[str, str],
        settings: Sequence[tuple[str, str]],
        wait: Callable[[float], bool],
        trees_alone: bool = False,
    ) -> None:
        """Make no file and run no command yet.

        `cache` is the folder for the private repository; it may be removed at any time. `remote` is a URL or a path.
        `settings` are (name, value) entries of git's configuration. `wait` pauses for a number of seconds, and returns
        True where a stop was requested. With `trees_alone`, a fetch leaves out the content of files, and git fetches
        the content of a file when the file is read. This saves time on a branch with many other files.
        """
        self._filter = ("--filter=blob:none",) if trees_alone else ()
        self._cache = cache
        self._folder = os.path.join(cache, f"git-{sha256(f'{remote}#{branch}'.encode())[:32]}")
        self._branch = branch
        self._ref = f"refs/heads/{branch}"
        self._where = f"branch {branch} of {without_userinfo(remote)}"
        self._env = remote_environment(env, [*settings, *_OPTIONS.items(), (f"remote.{_REMOTE}.url", remote)])
        self._wait = wait

    @property
    def where(self) -> str:
        """The branch and its remote, in words and without credentials."""
        return self._where

    # --- reading the branch --------------------------------------------------------------------------------------

    def fetch(self) -> str | None:
        """Fetch the branch's last commit with its files. Returns its id, None where the remote has no such branch."""
        with self._turn():
            is_new = self._prepare()
            try:
                return self._fetch_by_its_hash()
            except Unreachable:
                if is_new:
                    raise
            self._tip()  # raises where the remote is at fault
            # The private repository is at fault. A git that was killed leaves lock files and partial objects behind.
            self._remove()
            self._prepare()
            return self._fetch_by_its_hash()

    def tip(self) -> str | None:
        """The id of the branch's last commit at the remote, None where the remote has no such branch."""
        with self._turn():
            self._prepare()
            return self._tip()

    def branches(self) -> list[str]:
        """The names of all branches of the remote, in the remote's order."""
        with self._turn():
            self._prepare()
            lines = self._run("ls-remote", "--quiet", "--heads", _REMOTE).out.decode(errors="replace").splitlines()
        return [line.partition("\trefs/heads/")[2] for line in lines]

    def holds(self, commit: str) -> bool:
        """Whether the last fetched commit is, or descends from, the commit of this id."""
        with self._turn():
            return self._is_ancestor(commit) or (self._fetch_rest() and self._is_ancestor(commit))

    def revision(self, name: str) -> str:
        """The id of the commit of the branch that `name` means.

        `name` is an id or the beginning of an id, "HEAD", or the branch's name. The last two mean the branch's last
        commit. A suffix such as `~2` or `^` means what it means to `git rev-parse`. This method fetches the branch, and
        fetches its whole history where needed. Raises `StateError` where the branch has no such commit.
        """
        tip = self.fetch()
        if tip is None:
            raise StateError(f"{self._where} is not there", "the first apply makes it")
        base = re.split("[~^]", name, maxsplit=1)[0]
        is_last = base in ("HEAD", self._branch)
        if not is_last and not re.fullmatch("[0-9a-f]{4,64}", base):
            raise StateError(
                f"{name!r} is not understood as a revision of {self._where}",
                "give the id of one of its commits, or count back from its last, as in HEAD~3; a date (@{...}), a tag "
                "or another branch is not accepted",
            )
        sought = f"{tip if is_last else base}{name[len(base) :]}^{{commit}}"
        with self._turn():
            found = self._commit_of(sought) or (self._fetch_rest() and self._commit_of(sought))
        if not found:
            raise StateError(f"{self._where} has no commit {name}", f"git log {self._branch}, once fetched, shows them")
        return found

    # --- reading a commit ----------------------------------------------------------------------------------------

    def entries(self, commit: str, folder: str) -> Mapping[str, TreeEntry]:
        """The files and folders directly in a folder of a commit, by path, with sizes; the folder "" is the root."""
        return self._entries(commit, [f"{folder}/"] if folder else [""])

    def files(self, commit: str, paths: Sequence[str]) -> Mapping[str, str]:
        """The blob ids of the files of a commit at these paths, and below them, by path; the path "" is the root."""
        with self._turn():
            return blob_ids(self._run(*tree_arguments(commit, paths, is_recursive=True)).out)

    def file_above(self, commit: str, path: str) -> str:
        """The file of a commit in the place of one of the folders of `path`, "" where no file is in the way."""
        parts = path.split("/")
        folders = ["/".join(parts[:count]) for count in range(1, len(parts))]
        found = self._entries(commit, folders) if folders else {}
        return next((name for name, entry in found.items() if entry.type != "tree"), "")

    def content(self, blob: str) -> bytes:
        """The content of the file with this blob id."""
        with self._turn():
            return self._run("cat-file", "blob", blob).out

    def message(self, commit: str) -> str:
        """The author of a commit and the first line of its message: "Ada: Add a job"."""
        with self._turn():
            text = self._run("log", "-1", "--no-show-signature", "--format=%an: %s", commit).out
        return text.decode("utf-8", "replace").strip()

    def _entries(self, commit: str, paths: Sequence[str]) -> Mapping[str, TreeEntry]:
        with self._turn():
            return tree_entries(self._run(*tree_arguments(commit, paths, is_recursive=False)).out)

    # --- writing -------------------------------------------------------------------------------------------------

    def blob_id(self, content: bytes) -> str:
        """The blob id of a file with this content. Nothing is stored."""
        with self._turn():
            self._prepare()
            return self._run("hash-object", "--no-filters", "--stdin", stdin=content).out.decode().strip()

    def commit(self, parent: str | None, files: Mapping[str, bytes | None], message: str, author: Author) -> str:
        """Make a commit in the private repository and return its id.

        `files` maps a path to its new content; None removes the file. All other files are as in `parent`.
        """
        arguments = ("fast-import", "--quiet", "--done", "--force", "--date-format=now")
        stream = commit_stream(_NEXT, parent, files, message, author)
        with self._turn():
            return self._run(*arguments, stdin=stream).out.decode().strip()

    def push(self, commit: str, expected: str | None) -> None:
        """Move the branch from the commit `expected` to `commit`; None means that the branch does not exist yet.

        The push is a compare-and-swap. This method returns once the branch is known to be at `commit`, even if the
        answer to the push was lost. Raises `Remade` where the commit must be made again, `Moved` where the branch is
        at another commit, and `Denied` where a rule of the remote forbids the push. After any other `Unreachable`, the
        branch may or may not have moved.
        """
        with self._turn():
            lease = f"--force-with-lease={self._ref}:{expected or ''}"
            options = ("--porcelain", "--no-verify", "--no-signed", lease)
            pushed = self._attempt("push", *options, _REMOTE, f"{commit}:{self._ref}")
            if pushed.code != 0:
                if expected is None and "does not support this repository's hash algorithm" in pushed.err:
                    self._change_hash()
                    raise Remade
                # The answer may have been lost after the branch moved. Only the branch itself shows whether it did.
                try:
                    found = self._tip()
                except Unreachable as fault:
                    raise Unreachable(
                        f"it is not known whether a push to {self._where} arrived: {error_text(pushed)}; "
                        f"{fault.message}",
                        fault.hint,
                    ) from fault
                if found == expected:
                    raise self._refusal(pushed)
                if found != commit:
                    raise Moved
            self._note_pushed(commit)

    # --- git commands, for a caller that has the turn ------------------------------------------------------------

    def _fetch_by_its_hash(self) -> str | None:
        """Fetch. Where the remote has another hash function, make the private repository anew and fetch again."""
        try:
            return self._fetch()
        except _OtherHash as fault:
            self._remove()
            self._prepare(fault.remote)
            return self._fetch()

    def _fetch(self) -> str | None:
        depth = ("--depth=1",) if self._fetched() is None else ()
        arguments = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", *self._filter, *depth)
        fetched = self._attempt(*arguments, _REMOTE, f"+{self._ref}:{_TIP}")
        if fetched.code == 0:
            return self._fetched()
        if "couldn't find remote ref" in fetched.err.lower():
            return None
        fault = self._fault("fetch", fetched)
        other = re.search(r"mismatched algorithms: client \w+; server (\w+)", fetched.err)
        raise _OtherHash(other[1], fault) if other else fault

    def _tip(self) -> str | None:
        lines = self._run("ls-remote", "--quiet", _REMOTE, self._ref).out.decode().split("\n")
        found = [line.split("\t")[0] for line in lines if line.endswith(f"\t{self._ref}")]
        return found[0] if found else None

    def _commit_of(self, sought: str) -> str:
        """The id of a commit in the fetched history of the branch, "" where that history has no such commit."""
        found = self._attempt("rev-parse", "--verify", "--quiet", sought).out.decode().strip()
        return found if found and self._is_ancestor(found) else ""

    def _fetch_rest(self) -> bool:
        """Fetch the whole history of the branch. Returns False where the whole history was there before."""
        if self._run("rev-parse", "--is-shallow-repository").out.strip() != b"true":
            return False
        self._run("fetch", "--quiet", "--no-tags", "--unshallow", _REMOTE, f"+{self._ref}:{_TIP}")
        return True

    def _is_ancestor(self, commit: str) -> bool:
        return self._attempt("merge-base", "--is-ancestor", commit, _TIP).code == 0

    def _change_hash(self) -> None:
        """Make the private repository anew, with the other hash function.

        A remote without a branch shows its hash function only in its answer to a push.
        """
        ours = self._run("rev-parse", "--show-object-format").out.strip()
        self._remove()
        self._prepare("sha1" if ours == b"sha256" else "sha256")

    def _prepare(self, object_format: str = "sha1") -> bool:
        """Make the private repository where there is none. Returns True where there was none.

        `object_format` is the hash function of the remote, "sha1" or "sha256". Git does not translate between them.
        """
        if os.path.exists(os.path.join(self._folder, "HEAD")):
            return False
        # The rename comes last, so a command that is killed half-way leaves nothing that looks complete.
        self._remove()
        made = f"{self._folder}.new"
        form = f"--object-format={object_format}"
        self._run("init", "--quiet", "--bare", "--template=", form, made, in_folder=False)
        os.rename(made, self._folder)
        return True

    def _fetched(self) -> str | None:
        """The id of the commit that was fetched or pushed last, None where there is none."""
        try:
            with open(os.path.join(self._folder, _TIP), encoding="ascii") as ref:
                return ref.read().strip()
        except FileNotFoundError:
            return None

    def _note_pushed(self, commit: str) -> None:
        """Record a pushed commit as if it had been fetched, so that the next fetch brings only newer commits."""
        ref = os.path.join(self._folder, _TIP)
        with suppress(OSError):
            os.makedirs(os.path.dirname(ref), exist_ok=True)
            with open(f"{ref}.new", "w", encoding="ascii") as file:
                file.write(f"{commit}\n")
            os.replace(f"{ref}.new", ref)

    def _remove(self) -> None:
        for folder in (self._folder, f"{self._folder}.new"):
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the lock file of the private repository. The lock is not reentrant."""
        make_own_folder(self._cache, "XDG_CACHE_HOME")
        holder = {"who": "another command", "what": "git", "since": "a moment ago"}
        with locked(f"{self._folder}.lock", holder, 4 * git.COMMAND_WITHIN_S, self._wait_out):
            yield

    def _wait_out(self, seconds: float) -> bool:
        """Wait for all of the time, even if a stop is requested: calls that were sent must still be recorded."""
        if self._wait(seconds):
            time.sleep(seconds)
        return False

    def _refusal(self, pushed: GitResult) -> Unreachable:
        """The error for a push that did not move the branch."""
        rejected = re.search(
            r"^!\t[^\t]*\t\[(?:remote )?rejected\] \((.*)\)$", pushed.out.decode("utf-8", "replace"), re.MULTILINE
        )
        if rejected is None:
            return self._fault("push", pushed)
        return Denied(
            f"{self._where} takes no push: {rejected[1]}: {error_text(pushed)}",
            "let whoever runs this push to that branch (a rule or hook of the remote's forbids it), "
            "or name another branch with --state",
        )

    def _fault(self, command: str, result: GitResult) -> Unreachable:
        return Unreachable(
            f"{self._where}: git {command} failed: {error_text(result)}",
            "see that the remote is right and reachable, and that git gets in without asking (a credential helper)",
        )

    def _run(self, *arguments: str, stdin: bytes = b"", in_folder: bool = True) -> GitResult:
        """Run a git command as `_attempt` does. Raises `Unreachable` where the command fails."""
        result = self._attempt(*arguments, stdin=stdin, in_folder=in_folder)
        if result.code != 0:
            raise self._fault(arguments[0], result)
        return result

    def _attempt(self, *arguments: str, stdin: bytes = b"", in_folder: bool = True) -> GitResult:
        """Run a git command and return its result. With `in_folder`, the command runs in the private repository."""
        # With `safe.bareRepository=explicit`, git uses a bare repository only where --git-dir names it.
        where = ["-C", self._folder, "--git-dir=."] if in_folder else []
        for pause_s in _EXHAUSTED_PAUSES_S:
            try:
                return run_git([*where, *arguments], self._env, stdin)
            except Exhausted:
                self._wait_out(pause_s)
        return run_git([*where, *arguments], self._env, stdin)
