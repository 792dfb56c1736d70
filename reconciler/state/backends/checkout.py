"""State in files of a checkout, pushed to the branch that the next run checks out.

A runner of a CI service starts with a fresh checkout, and the checkout is lost when the runner ends. So the state, the
journal and the history are committed and pushed twice. The first push comes before the first call, and its journal
announces every call to come. The second push comes after the apply. A run that follows a dead runner finds the
announcement in the journal, and takes each announced call for a call in doubt. The first push also shows whether the
branch accepts pushes.

A commit is made on top of the branch's last commit, in a private repository (`repository.py`). It needs no merge and
changes no file of the checkout. Hooks, signatures, sparse checkouts and filters have no effect on it. A push is a
compare-and-swap: the remote refuses the push where someone else pushed meanwhile. The push is then tried again on top
of the new commit, unless that commit changed the state or the manifest.
"""

import os
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import NamedTuple

from reconciler.host.disk import Disk, OsDisk
from reconciler.host.git import GitResult
from reconciler.model.errors import StateError, Usage
from reconciler.state.backends.git_commands import error_text, remote_environment, run_git
from reconciler.state.backends.git_objects import Author, blob_ids, tree_arguments
from reconciler.state.backends.git_settings import author_of, settings_of_checkout, top_of_checkout, url_of_remote
from reconciler.state.backends.git_url import is_branch_name, is_path
from reconciler.state.backends.repository import Repository
from reconciler.state.paths import paths_of
from reconciler.state.port import Denied, Moved, Surroundings, Unreachable

_PUSHES = 10
"""The number of tries for a push that other pushes overtake."""

_TRY_AGAIN_AFTER_S = (1.0, 3.0)
"""The pauses between tries for a push that failed for another reason."""

_RESCUE_BRANCH = "reconciler-rescue"
"""The branch that gets the state where the branch that was named has another state."""

_SKIP_CI = "[skip ci]"

_OWN_BRANCH = "or keep state on a branch of its own: --state git+origin"
"""The end of a hint: the alternative to pushing files of a checkout."""


class Elsewhere(StateError):
    """The branch holds another state, or another manifest, than this checkout."""


class PushTo(NamedTuple):
    """The branch of a remote that the state is pushed to. `remote` is a name of a remote, or a URL."""

    remote: str
    branch: str


def parse_push(text: str) -> PushTo:
    """The remote and the branch in `--push [REMOTE:]BRANCH`. Raises `Usage` for an invalid name of a branch."""
    remote, colon, name = text.rpartition(":")
    branch = name.removeprefix("refs/heads/")
    if (colon and not remote) or remote.startswith("-") or not is_branch_name(branch):
        raise Usage(f"--push: {text!r} names no branch", "write --push BRANCH, or --push REMOTE:BRANCH")
    return PushTo(remote or "origin", branch)


class Checkout:
    """The files of one state in a checkout, and the branch that they are pushed to.

    `manifest` are the paths of the manifest. `open_repository` returns the private repository for a branch of the
    remote. `author` returns the author of commits. `pause` waits for a number of seconds.
    """

    def __init__(
        self,
        state_path: str,
        manifest: Sequence[str],
        to: PushTo,
        *,
        disk: Disk,
        env: Mapping[str, str],
        open_repository: Callable[[str], Repository],
        author: Callable[[], Author],
        pause: Callable[[float], object],
    ) -> None:
        self._paths = (state_path, paths_of(state_path).journal, paths_of(state_path).history)
        self._manifest = manifest
        self._to = to
        self._disk = disk
        self._own_env = env
        self._env = remote_environment(env, [("core.hooksPath", os.devnull), ("core.fsmonitor", "false")])
        self._open_repository = open_repository
        self._author = author
        self._pause = pause
        self._top = ""
        self._names: Mapping[str, str] = {}
        """The files' paths on disk, by their paths in the repository."""
        self._known: Mapping[str, str] = {}
        """The files' blob ids on the branch, by path in the repository, as this command last saw them."""
        self._manifest_known: Mapping[str, str] | None = None

    @property
    def where(self) -> str:
        """The branch and its remote, in words."""
        return self._repository.where

    @cached_property
    def _repository(self) -> Repository:
        return self._open_repository(self._to.branch)

    def check(self) -> None:
        """Raise `StateError` where the state can't be committed and pushed, or where the branch holds another state.

        Writes nothing. Only a push can show whether the branch accepts pushes.
        """
        self.find()
        tip = self._tip()
        self._manifest_known = self._manifest_in_checkout()
        self._refuse_moved(tip)

    def find(self) -> None:
        """Find the files in the repository. This is the part of `check` that does not reach the remote."""
        if self._to.branch.startswith(("refs/", "gh-readonly-queue/")):
            raise StateError(
                f"{self._to.branch} is no branch that the state can be pushed to: nobody would find it there",
                "apply where a branch is checked out, after the merge; " + _OWN_BRANCH,
            )
        self._find_files()
        self._refuse_hidden()

    def announce(self, calls: int) -> None:
        """Push the journal, which names every call that may be sent. `calls` is the number of these calls.

        Raises `StateError` where the push did not arrive. No call may be sent then.
        """
        self._publish(f"An apply begins: {calls} {'call' if calls == 1 else 'calls'} announced {_SKIP_CI}")

    def conclude(self) -> str:
        """Push the files as the apply left them. Returns "", or why this failed and where the state is now."""
        self._manifest_known = None
        try:
            self._publish(f"State after an apply {_SKIP_CI}")
        except Elsewhere as fault:
            return f"{fault.message}; {self._rescue()}"
        except StateError as fault:
            return f"{fault.message}; {self._left_here()}"
        return ""

    # --- before anything is done ---------------------------------------------------------------------------------

    def _find_files(self) -> None:
        folder = os.path.dirname(self._paths[0]) or "."
        self._top = top_of_checkout(folder, self._own_env)
        outer = (
            self._git(folder, "rev-parse", "--show-superproject-working-tree").out.decode("utf-8", "replace").strip()
        )
        if outer:
            raise StateError(
                f"the state lies in the submodule {self._top}: whoever checks out {outer} gets the commit of the "
                "submodule that is named there, and never sees what is pushed to it",
                "keep the state outside of the submodule, " + _OWN_BRANCH,
            )
        prefix = self._git(folder, "rev-parse", "--show-prefix").out.decode("utf-8", "surrogateescape").rstrip("\n")
        self._names = {prefix + os.path.basename(path): path for path in self._paths}

    def _refuse_hidden(self) -> None:
        """Raise `StateError` where a file of the state is committed, and can't be read in this checkout."""
        listed = self._git(self._top, "ls-files", "-v", "-s", "-z", "--", *self._names)
        if listed.code != 0:
            raise StateError(f"the state can't be committed: {error_text(listed)}", "see that git status works here")
        known = {}
        for line in filter(None, listed.out.decode("utf-8", "surrogateescape").split("\0")):
            (tag, _, blob, stage), name = line.split("\t", 1)[0].split(), line.split("\t", 1)[1]
            if stage != "0":
                raise StateError(f"{name} has a merge conflict", "resolve the merge first")
            if tag in "Ss" or tag.islower():
                raise StateError(
                    f"{name} is committed, but left out of this checkout (sparse checkout, or skip-worktree)",
                    f"check it out: git sparse-checkout disable, or git update-index --no-skip-worktree {name}",
                )
            known[name] = blob
        self._known = known
        state, journal, _ = self._names
        missing = [name for name in known if self._disk.mode(self._names[name]) is None]
        # A journal is removed once it is folded into the state. The state file has then changed, too.
        folded = state not in missing and self._blob_id(state) != known.get(state)
        missing = [name for name in missing if not (name == journal and folded)]
        if missing:
            raise StateError(
                f"{missing[0]} is committed, but not in this checkout", f"bring it back: git checkout -- {missing[0]}"
            )

    def _manifest_at(self, tip: str) -> Mapping[str, str]:
        names = self._manifest_names()
        return _manifest_files(self._repository.files(tip, names)) if names else {}

    def _manifest_in_checkout(self) -> Mapping[str, str] | None:
        """The blob ids of the manifest's files in the commit that is checked out, by path; None without a commit."""
        names = self._manifest_names()
        if not names:
            return {}
        listed = self._git(self._top, *tree_arguments("HEAD", names, is_recursive=True))
        return _manifest_files(blob_ids(listed.out)) if listed.code == 0 else None

    def _manifest_names(self) -> list[str]:
        top = os.path.realpath(self._top)
        names = [os.path.relpath(os.path.realpath(path), top) for path in self._manifest]
        return ["" if name == "." else name for name in names if name.split(os.sep)[0] != os.pardir]

    def _tip(self) -> str:
        tip = self._repository.fetch()
        if tip is None:
            raise StateError(
                f"{self.where} is not there: the state can't be pushed to it",
                f"{self._suggestion()}--push takes a branch of {self._to.remote}, and no tag and no pull request; "
                f"make one with git push {self._to.remote} HEAD:refs/heads/BRANCH, " + _OWN_BRANCH,
            )
        return tip

    def _suggestion(self) -> str:
        """A question about the branch of the remote whose name is most similar to that of --push; "" without one."""
        from reconciler.model.suggestions import Suggestions

        near = Suggestions().nearest(self._to.branch, self._repository.branches())
        remote = "" if self._to.remote == "origin" else f"{self._to.remote}:"
        return f"did you mean --push {shlex.quote(f'{remote}{near}')}? " if near else ""

    # --- publishing ----------------------------------------------------------------------------------------------

    def _publish(self, message: str) -> None:
        """Push the files as they are now. Raises `StateError` where this is not possible."""
        pauses = iter(_TRY_AGAIN_AFTER_S)
        for _ in range(_PUSHES):
            try:
                self._push(message)
                return
            except Moved:
                continue
            except Denied:
                raise
            except Unreachable:
                pause_s = next(pauses, None)
                if pause_s is None:
                    raise
                self._pause(pause_s)
        raise StateError(f"{self.where} was pushed to by others {_PUSHES} times in a row", "apply again")

    def _push(self, message: str) -> None:
        tip = self._tip()
        on_branch = self._refuse_moved(tip)
        contents = {name: self._disk.read(path) for name, path in self._names.items()}
        ids = {name: self._blob_id(name) for name, content in contents.items() if content is not None}
        changed = {name: content for name, content in contents.items() if ids.get(name) != on_branch.get(name)}
        if changed:
            self._repository.push(self._repository.commit(tip, changed, message, self._author()), tip)
        self._known = ids
        self._stage(contents)

    def _refuse_moved(self, tip: str) -> Mapping[str, str]:
        """The blob ids of the state's files in the commit `tip`, by path in the repository.

        Raises `Elsewhere` where a file is neither what this command saw last nor what is on disk, or where the manifest
        is another one.
        """
        found = self._repository.files(tip, list(self._names))
        # A command that was killed right after its push left the index as it was. What it pushed is on disk here.
        changed = sorted(
            name
            for name in self._names
            if found.get(name) != self._known.get(name) and found.get(name, "") != self._blob_id(name)
        )
        if changed:
            raise Elsewhere(
                f"the state was changed elsewhere meanwhile: {', '.join(changed)} on {self.where} is not what this "
                "checkout has",
                f"check out the last commit of {self._to.branch}, plan again, and apply",
            )
        self._known = found
        if self._manifest_known is not None:
            there = self._manifest_at(tip)
            changed = sorted(
                name for name in {*there, *self._manifest_known} if there.get(name) != self._manifest_known.get(name)
            )
            if changed:
                raise Elsewhere(
                    f"{changed[0]} on {self.where} is not what this checkout has: an older commit, or another branch, "
                    "is checked out",
                    f"check out the last commit of {self._to.branch}, plan again, and apply",
                )
        return found

    def _blob_id(self, name: str) -> str:
        content = self._disk.read(self._names[name])
        return "" if content is None else self._repository.blob_id(content)

    def _stage(self, contents: Mapping[str, bytes | None]) -> None:
        """Add the pushed files to the index, so that the next `git pull` finds no difference. Failures are ignored."""
        for name, content in contents.items():
            if content is None:
                self._git(self._top, "update-index", "--force-remove", "--", name)
                continue
            stored = self._git(self._top, "hash-object", "-w", "--no-filters", "--stdin", stdin=content)
            if stored.code == 0:
                entry = f"100644,{stored.out.decode().strip()},{name}"
                self._git(self._top, "update-index", "--add", "--cacheinfo", entry)

    def _rescue(self) -> str:
        """Push the files to the rescue branch. Returns where the files are, in words."""
        contents = {name: self._disk.read(path) for name, path in self._names.items()}
        there = {name: content for name, content in contents.items() if content is not None}
        with suppress(StateError, Moved):
            rescue = self._open_repository(_RESCUE_BRANCH)
            for _ in range(_PUSHES):
                tip = rescue.fetch()
                commit = rescue.commit(
                    tip, there, f"State that {self._to.branch} does not hold {_SKIP_CI}", self._author()
                )
                with suppress(Moved):
                    rescue.push(commit, tip)
                    return (
                        f"the state of this apply is commit {commit} of branch {_RESCUE_BRANCH}: "
                        "bring the two together before anyone applies"
                    )
        return self._left_here()

    def _left_here(self) -> str:
        return (
            f"what this apply did is only here: keep {', '.join(path for path in self._paths if os.path.exists(path))}"
        )

    def _git(self, folder: str, *arguments: str, stdin: bytes = b"") -> GitResult:
        return run_git(["-C", folder, *arguments], self._env, stdin)


def open_checkout(path: str, manifest: Sequence[str], to: PushTo, surroundings: Surroundings) -> Checkout:
    """The files of the state at `path`, with git's settings of the checkout that they lie in."""
    env, folder = surroundings.env, os.path.dirname(path) or "."

    def open_repository(branch: str) -> Repository:
        remote = url_of_remote(to.remote, folder, env)
        if is_path(remote):
            remote = os.path.join(top_of_checkout(folder, env), remote)
        return Repository(
            surroundings.cache_folder,
            remote,
            branch,
            env=env,
            settings=settings_of_checkout(folder, env),
            wait=surroundings.wait,
            trees_alone=True,
        )

    return Checkout(
        path,
        manifest,
        to,
        disk=OsDisk(),
        env=env,
        open_repository=open_repository,
        author=lambda: author_of(surroundings.person(), folder, env),
        pause=time.sleep,
    )


def _manifest_files(files: Mapping[str, str]) -> Mapping[str, str]:
    return {name: blob for name, blob in files.items() if name.endswith((".yaml", ".yml"))}
