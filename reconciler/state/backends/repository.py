"""One branch of a git remote, through a private bare repository of our own: fetch, read, commit, push.

The user's checkout is neither needed nor touched. Prompts and client-side hooks are off.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from reconciler.host import git
from reconciler.host.git import Ended
from reconciler.host.lock import locked
from reconciler.model.digests import sha256
from reconciler.model.errors import StateError
from reconciler.state.backends.git_url import without_userinfo

_TIP = "refs/reconciler/tip"
_NEXT = "refs/reconciler/next"
_REMOTE = "reconciler-state"
"""The remote's name within the private repository; its URL comes with the environment, and is in no command line."""

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
_CREDENTIALS = r"^(http|credential|url)\.|^core\.sshcommand$|^ssh\.variant$"
_SAID_BYTES = 4096
_EXHAUSTED_PAUSES_S = (0.1, 0.3, 1.0, 2.0)
"""So long git waits for a process to be had, or an open file: others may end meanwhile."""


class Unreachable(StateError):
    """Git could not do what was asked of it: the remote is not there, denies it, or took too long."""


class Denied(Unreachable):
    """The remote takes no such push, and would not take it a second time."""


class _OtherHash(Unreachable):
    """The remote names its objects by another hash, `remote`, than the private repository does."""

    def __init__(self, remote: str, fault: Unreachable) -> None:
        super().__init__(fault.message, fault.hint)
        self.remote = remote


class Exhausted(Unreachable):
    """This machine has no processes, or no open files, left to run git with."""


class Moved(Exception):
    """The branch is not where it was expected: someone else pushed."""


class Remade(Moved):
    """The branch is not there yet, and the copy of it was made anew: a commit in it has to be made again."""


class Author(NamedTuple):
    """Who commits."""

    name: str
    email: str


class NoOwnFolder(StateError):
    """There is no place for what this user's commands keep for themselves; the state has nothing to do with it."""


def make_own_folder(path: str, variable: str) -> None:
    """Make a folder of this user's alone, which a variable moves. Raises `NoOwnFolder`."""
    advice = f"set {variable} to a folder that can be written"
    if not path:
        raise NoOwnFolder("there is no home folder: HOME is not set, and this user has no account", advice)
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as fault:
        raise NoOwnFolder(f"{path} can't be made: {fault.strerror}", advice) from fault
    if not os.access(path, os.W_OK | os.X_OK):
        raise NoOwnFolder(f"{path} can't be written to", advice)


class Repository:
    """One branch of a remote. For one thread at a time; programs take turns.

    `cache` is the folder in which the private repository is kept; it may be removed at any time. `settings` are
    entries of git's configuration. `wait` pauses for seconds and returns True where a stop was asked for.
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
        """`trees_alone` fetches no file before it is read, where the remote can: such a branch holds much else."""
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
        """The place in words."""
        return self._where

    def fetch(self) -> str | None:
        """The branch's last commit, brought here with all that it holds; None where there is no such branch.

        Raises `Unreachable`.
        """
        with self._turn():
            is_new = self._prepare()
            try:
                return self._fetch_by_its_hash()
            except Unreachable:
                if is_new:
                    raise
            self._tip()  # raises where it is the remote that fails
            # Then it is the copy: a command that was killed leaves lock files and half an object behind.
            self._remove()
            self._prepare()
            return self._fetch_by_its_hash()

    def tip(self) -> str | None:
        """The branch's last commit as the remote says, None where there is no such branch. Raises `Unreachable`."""
        with self._turn():
            self._prepare()
            return self._tip()

    def holds(self, commit: str) -> bool:
        """Whether what was fetched last grew out of this commit. Raises `Unreachable`."""
        with self._turn():
            return self._is_ancestor(commit) or (self._fetch_rest() and self._is_ancestor(commit))

    def revision(self, name: str) -> str:
        """The id of one of the branch's commits, named by it or counted back: HEAD, or the branch's name, is the last.

        What follows at a `~` or `^` is as `git rev-parse` takes it. Fetches the branch, and all of its history
        where that is needed. Raises `Unreachable`, and `StateError` where there is no such commit.
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
                "or another branch does not tell",
            )
        sought = f"{tip if is_last else base}{name[len(base) :]}^{{commit}}"
        with self._turn():
            found = self._commit_of(sought) or (self._fetch_rest() and self._commit_of(sought))
        if not found:
            raise StateError(f"{self._where} has no commit {name}", f"git log {self._branch}, once fetched, shows them")
        return found

    def entries(self, commit: str, folder: str) -> Mapping[str, tuple[str, str]]:
        """Path to (mode, id) of what a folder of a commit holds; "" is the root."""
        with self._turn():
            where = ["--", f"{folder}/"] if folder else []
            listed = self._run("ls-tree", "-z", "--full-tree", commit, *where).out
        lines = (line.split(b"\t", 1) for line in listed.split(b"\0") if line)
        return {os.fsdecode(path): (told.split()[0].decode(), told.split()[2].decode()) for told, path in lines}

    def files(self, commit: str, paths: Sequence[str]) -> Mapping[str, str]:
        """Path to blob id of each file at these paths of a commit, or in the folders that they name; "" is the root."""
        with self._turn():
            return listed_files(self._run(*listing(commit, paths)).out)

    def blob_id(self, content: bytes) -> str:
        """The id that a file of this content has."""
        with self._turn():
            self._prepare()
            return self._run("hash-object", "--no-filters", "--stdin", stdin=content).out.decode().strip()

    def file_above(self, commit: str, path: str) -> str:
        """The file of a commit that stands where a folder of this path is to be, "" where there is none."""
        parts = path.split("/")
        folders = ["/".join(parts[:count]) for count in range(1, len(parts))]
        if not folders:
            return ""
        with self._turn():
            listed = self._run("ls-tree", "-z", "--full-tree", commit, "--", *folders).out
        found = [line.split(b"\t", 1) for line in listed.split(b"\0") if line]
        return next((os.fsdecode(name) for about, name in found if about.split()[1] != b"tree"), "")

    def content(self, blob: str) -> bytes:
        """The bytes of a file by its id."""
        with self._turn():
            return self._run("cat-file", "blob", blob).out

    def message(self, commit: str) -> str:
        """The first line that a commit says of itself."""
        with self._turn():
            text = self._run("log", "-1", "--no-show-signature", "--format=%an: %s", commit).out
        return text.decode("utf-8", "replace").strip()

    def commit(self, parent: str | None, files: Mapping[str, bytes | None], message: str, author: Author) -> str:
        """Make a commit with these files changed (None: removed) and all others as they were; returns its id."""
        lines = [f"commit {_NEXT}\nmark :1\ncommitter {_plain(author.name)} <{_plain(author.email)}> now\n".encode()]
        lines.append(_with_length(message.encode("utf-8", "replace")))
        if parent is not None:
            lines.append(f"from {parent}\n".encode())
        for path, content in sorted(files.items()):
            quoted = b'"%s"' % os.fsencode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
            lines.append(b"D %s\n" % quoted if content is None else b"M 100644 inline %s\n" % quoted)
            lines.append(b"" if content is None else _with_length(content))
        lines.append(b"get-mark :1\ndone\n")
        arguments = ("fast-import", "--quiet", "--done", "--force", "--date-format=now")
        with self._turn():
            return self._run(*arguments, stdin=b"".join(lines)).out.decode().strip()

    def push(self, commit: str, expected: str | None) -> None:
        """Put a commit at the end of the branch, which must still be at `expected` (None: not be there).

        Returns once it is known to be there, also where the answer was lost. Raises `Remade` where the commit
        has to be made again, `Moved` where the branch is elsewhere, `Unreachable` where it is known not to have
        moved or where nothing is known.
        """
        with self._turn():
            lease = f"--force-with-lease={self._ref}:{expected or ''}"
            options = ("--porcelain", "--no-verify", "--no-signed", lease)
            ended = self._attempt("push", *options, _REMOTE, f"{commit}:{self._ref}")
            if ended.code != 0:
                if expected is None and "does not support this repository's hash algorithm" in ended.err:
                    # A remote without a branch to fetch tells only now by which hash it names its objects.
                    ours = self._run("rev-parse", "--show-object-format").out.strip()
                    self._remove()
                    self._prepare("sha1" if ours == b"sha256" else "sha256")
                    raise Remade
                # Whatever git says, the branch itself is asked: an answer that was lost says nothing.
                try:
                    found = self._tip()
                except Unreachable as fault:
                    raise Unreachable(
                        f"it is not known whether a push to {self._where} arrived: {said(ended)}; {fault.message}",
                        fault.hint,
                    ) from fault
                if found == expected:
                    raise self._refusal(ended)
                if found != commit:
                    raise Moved
            self._note_pushed(commit)

    def _fetch_by_its_hash(self) -> str | None:
        """Fetch; where the remote names objects by another hash than the copy does, into a copy made anew."""
        try:
            return self._fetch()
        except _OtherHash as fault:
            self._remove()
            self._prepare(fault.remote)
            return self._fetch()

    def _fetch(self) -> str | None:
        depth = ("--depth=1",) if self._fetched() is None else ()
        arguments = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", *self._filter, *depth)
        ended = self._attempt(*arguments, _REMOTE, f"+{self._ref}:{_TIP}")
        if ended.code == 0:
            return self._fetched()
        if "couldn't find remote ref" in ended.err.lower():
            return None
        fault = self._fault("fetch", ended)
        other = re.search(r"mismatched algorithms: client \w+; server (\w+)", ended.err)
        raise _OtherHash(other[1], fault) if other else fault

    def _tip(self) -> str | None:
        listed = self._run("ls-remote", "--quiet", _REMOTE, self._ref).out.decode().split("\n")
        found = [line.split("\t")[0] for line in listed if line.endswith(f"\t{self._ref}")]
        return found[0] if found else None

    def _commit_of(self, sought: str) -> str:
        """The id of a commit that the branch grew out of, "" where it is not here or is none of those."""
        found = self._attempt("rev-parse", "--verify", "--quiet", sought).out.decode().strip()
        return found if found and self._is_ancestor(found) else ""

    def _fetch_rest(self) -> bool:
        """Fetch the whole history of the branch; False where it is here."""
        if self._run("rev-parse", "--is-shallow-repository").out.strip() != b"true":
            return False
        self._run("fetch", "--quiet", "--no-tags", "--unshallow", _REMOTE, f"+{self._ref}:{_TIP}")
        return True

    def _is_ancestor(self, commit: str) -> bool:
        return self._attempt("merge-base", "--is-ancestor", commit, _TIP).code == 0

    def _prepare(self, object_format: str = "sha1") -> bool:
        """Make the private repository where it is not there; True where that was so.

        `object_format` is the hash that the remote's objects are named by, which git does not translate.
        """
        if os.path.exists(os.path.join(self._folder, "HEAD")):
            return False
        # In two steps, so that one which was killed half-way is made anew.
        self._remove()
        made = f"{self._folder}.new"
        form = f"--object-format={object_format}"
        self._run("init", "--quiet", "--bare", "--template=", form, made, in_folder=False)
        os.rename(made, self._folder)
        return True

    def _fetched(self) -> str | None:
        """The commit that was fetched or pushed last, None where none was."""
        try:
            with open(os.path.join(self._folder, _TIP), encoding="ascii") as ref:
                return ref.read().strip()
        except FileNotFoundError:
            return None

    def _remove(self) -> None:
        import shutil

        for folder in (self._folder, f"{self._folder}.new"):
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        make_own_folder(self._cache, "XDG_CACHE_HOME")
        holder = {"who": "another command", "what": "git", "since": "a moment ago"}
        with locked(f"{self._folder}.lock", holder, 4 * git.COMMAND_WITHIN_S, _never(self._wait)):
            yield

    def _note_pushed(self, commit: str) -> None:
        """Have what is pushed stand where a fetch would put it, so that the next one brings no more than is new."""
        ref = os.path.join(self._folder, _TIP)
        with suppress(OSError):
            os.makedirs(os.path.dirname(ref), exist_ok=True)
            with open(f"{ref}.new", "w", encoding="ascii") as file:
                file.write(f"{commit}\n")
            os.replace(f"{ref}.new", ref)

    def _refusal(self, ended: Ended) -> Unreachable:
        told = re.search(r"^!\t[^\t]*\t\[(?:remote )?rejected\] \((.*)\)$", ended.out.decode("utf-8", "replace"), re.M)
        if told is None:
            return self._fault("push", ended)
        return Denied(
            f"{self._where} takes no push: {told[1]}: {said(ended)}",
            "let whoever runs this push to that branch (a rule or hook of the remote's forbids it), "
            "or name another branch with --state",
        )

    def _run(self, *arguments: str, stdin: bytes = b"", in_folder: bool = True) -> Ended:
        ended = self._attempt(*arguments, stdin=stdin, in_folder=in_folder)
        if ended.code != 0:
            raise self._fault(arguments[0], ended)
        return ended

    def _fault(self, command: str, ended: Ended) -> Unreachable:
        return Unreachable(
            f"{self._where}: git {command} failed: {said(ended)}",
            "see that the remote is right and reachable, and that git gets in without asking (a credential helper)",
        )

    def _attempt(self, *arguments: str, stdin: bytes = b"", in_folder: bool = True) -> Ended:
        # Named as such, since `safe.bareRepository=explicit` lets git find no bare repository by itself.
        where = ["-C", self._folder, "--git-dir=."] if in_folder else []
        pause = _never(self._wait)
        for pause_s in _EXHAUSTED_PAUSES_S:
            try:
                return run_git([*where, *arguments], self._env, stdin)
            except Exhausted:
                pause(pause_s)
        return run_git([*where, *arguments], self._env, stdin)


def listing(commit: str, paths: Sequence[str]) -> Sequence[str]:
    """The git command that lists all files at these paths of a commit; "" is the root."""
    return ("ls-tree", "-r", "-z", "--full-tree", commit, *(["--", *paths] if all(paths) else []))


def listed_files(output: bytes) -> Mapping[str, str]:
    """Path to blob id, from what `listing` prints."""
    lines = (line.split(b"\t", 1) for line in output.split(b"\0") if line)
    return {os.fsdecode(path): told.split()[2].decode() for told, path in lines}


def settings_of_checkout(folder: str, env: Mapping[str, str]) -> list[tuple[str, str]]:
    """What the checkout's own configuration says of reaching remotes: CI systems keep a token there."""
    found = run_git(
        ["-C", folder, "config", "--local", "--includes", "-z", "--get-regexp", _CREDENTIALS], remote_environment(env)
    )
    pairs = (entry.partition("\n") for entry in found.out.decode("utf-8", "replace").split("\0") if entry)
    return [(name, value) for name, _, value in pairs] if found.code == 0 else []


def top_of_checkout(folder: str, env: Mapping[str, str]) -> str:
    """The top folder of the checkout that a folder lies in. Raises `StateError` where git knows of none."""
    found = run_git(["-C", folder, "rev-parse", "--show-toplevel"], remote_environment(env))
    if found.code != 0:
        words = said(found)
        own = "dubious ownership" in words
        raise StateError(
            f"{folder} can't be used as a git checkout: {words}",
            "let git use it: git config --global --add safe.directory FOLDER; or check it out as this user"
            if own
            else "run this in a checkout of the repository, or keep state on a branch of its own: --state git+URL",
        )
    return found.out.decode("utf-8", "surrogateescape").rstrip("\n")


def url_of_remote(name: str, folder: str, env: Mapping[str, str]) -> str:
    """The URL of a remote of the checkout, by its name. Raises `StateError` where there is none."""
    found = run_git(["-C", folder, "remote", "get-url", "--", name], remote_environment(env))
    if found.code != 0:
        raise StateError(
            f"there is no git remote named {name} here: {said(found)}",
            "git remote -v shows the names; or give its URL, or a path such as ./repo.git",
        )
    return found.out.decode().strip()


def author_of(name: str, folder: str, env: Mapping[str, str]) -> Author:
    """Whoever is called so, with the address in the name, or else the one that git is configured with."""
    named = re.fullmatch(r"(.*?) <(.*)>", name)
    if named is not None:
        return Author(named[1], named[2])
    found = run_git(["-C", folder, "config", "--get", "user.email"], remote_environment(env))
    return Author(name, found.out.decode("utf-8", "replace").strip() or "reconciler@localhost")


def run_git(arguments: Sequence[str], env: Mapping[str, str], stdin: bytes = b"") -> Ended:
    """Run git as `host.git` does, for a state that git keeps.

    Raises `Exhausted` where no process or open file can be had, and `StateError` where git can't be started at all.
    """
    try:
        return git.run_git(arguments, env, stdin)
    except git.Exhausted as fault:
        raise Exhausted(fault.message, fault.hint) from fault
    except git.Unrunnable as fault:
        raise StateError(fault.message, f"{fault.hint}, or keep state in a file") from fault


def remote_environment(env: Mapping[str, str], settings: Sequence[tuple[str, str]] = ()) -> dict[str, str]:
    """The environment of git where it reaches remotes."""
    return git.git_environment(env, settings) | {
        "GIT_ALLOW_PROTOCOL": "https:ssh:file:http:git",
        "GIT_DEFAULT_REF_FORMAT": "files",
    }


def said(ended: Ended) -> str:
    """What git said, in one line, without credentials, and bounded."""
    lines = [line.strip() for line in without_userinfo(ended.err[-_SAID_BYTES:]).splitlines()]
    told = [line for line in lines if line and not line.startswith("hint:")]
    return "; ".join(told)[:600] or f"it ended with {ended.code}"


def _with_length(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)


def _plain(text: str) -> str:
    """A name or address as git can write it down."""
    return re.sub(r"[<>\n\r\0]+", " ", text).strip() or "reconciler"


def _never(wait: Callable[[float], bool]) -> Callable[[float], bool]:
    """Waits as long, and is not cut short by a stop: what is in flight is put on record then."""

    def waits(seconds: float) -> bool:
        import time

        if wait(seconds):
            time.sleep(seconds)
        return False

    return waits
