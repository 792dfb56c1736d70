"""Opening the store of a state: a file, a branch of a git remote, or files that are pushed with a checkout."""

import os
from collections.abc import Callable, Sequence
from shlex import quote
from typing import TYPE_CHECKING

from reconciler.model.errors import ReconcilerError
from reconciler.state.homes import CheckedStore
from reconciler.usecases.world import World, fresh_id, now

if TYPE_CHECKING:
    from reconciler.state.backends.checkout import Checkout
    from reconciler.state.backends.file_lock import FileContext
    from reconciler.state.backends.git import BranchStore
    from reconciler.state.backends.repository import Repository
    from reconciler.state.homes import Home
    from reconciler.state.port import Store
    from reconciler.usecases.origins import Origins


class Stores:
    """Opens the store at a home, for the manifest at `manifest_paths`."""

    def __init__(self, home: "Home", manifest_paths: Sequence[str], world: World, origins: "Origins") -> None:
        self._home = home
        self._manifest_paths = manifest_paths
        self._world = world
        self._origins = origins

    def open(self, warn: Callable[[str], None] | None = None) -> CheckedStore:
        """The store. The store refuses to be empty if something shows that there were records.

        `warn` is called where an empty state is accepted nevertheless. By default the user gets a warning.
        """
        home, remark = self._home, self._world.remark
        store: Store
        if home.is_on_branch:
            store = self.open_branch()
        else:
            from reconciler.state.backends.file import FileStore

            _refuse_other_file(home)
            store = FileStore(home.url, self._file_context())
        return CheckedStore(store, home, self._manifest_paths, warn or (lambda text: remark(f"Warning: {text}")))

    def open_branch(self) -> "BranchStore":
        """The store on a branch. The home must be on a branch."""
        from reconciler.state.backends.git import BranchStore, Means
        from reconciler.state.backends.git_settings import author_of, url_of_remote
        from reconciler.state.backends.git_url import parse

        home, env, context = self._home, self._world.env, self._file_context()
        url = parse(home.url)
        remote = url_of_remote(url.remote, home.checkout, env) if url.is_name else url.remote
        if _is_path(remote):
            remote = os.path.abspath(os.path.join(home.folder, remote))
        means = Means(
            repository=self._repository(remote, url.branch, home.checkout),
            author=lambda: author_of(self._origins.who, home.checkout, env),
            tell=self._world.remark,
            folder=context.marks_folder,
            clocks=self._world.clocks,
        )
        return BranchStore(url._replace(remote=remote), means, context)

    def open_checkout(self, push: str) -> "Checkout | None":
        """The files of the state, to be pushed as `--push` says. None if the state itself is on a branch.

        Raises `Usage` for a name that no branch can have.
        """
        import time

        from reconciler.host.disk import OsDisk
        from reconciler.state.backends import checkout
        from reconciler.state.backends.git_settings import author_of, top_of_checkout, url_of_remote

        to, path, env = checkout.parse_push(push), self._home.url, self._world.env
        if self._home.is_on_branch:
            return None
        folder = os.path.dirname(path) or "."

        def open_repository(branch: str) -> "Repository":
            remote = url_of_remote(to.remote, folder, env)
            if _is_path(remote):
                remote = os.path.join(top_of_checkout(folder, env), remote)
            return self._repository(remote, branch, folder, trees_alone=True)

        return checkout.Checkout(
            path,
            self._manifest_paths,
            to,
            disk=OsDisk(),
            env=env,
            open_repository=open_repository,
            author=lambda: author_of(self._origins.who, folder, env),
            pause=time.sleep,
        )

    def _repository(self, remote: str, branch: str, checkout: str, *, trees_alone: bool = False) -> "Repository":
        from reconciler.state.backends.git_settings import settings_of_checkout
        from reconciler.state.backends.repository import Repository

        world = self._world
        return Repository(
            world.cache_folder,
            remote,
            branch,
            env=world.env,
            settings=settings_of_checkout(checkout, world.env),
            wait=world.pause,
            trees_alone=trees_alone,
        )

    def _file_context(self) -> "FileContext":
        from reconciler.host.disk import OsDisk
        from reconciler.state.backends.file_lock import FileContext

        return FileContext(
            disk=OsDisk(),
            marks_folder=self._world.state_folder,
            who=f"{self._world.user} (process {os.getpid()})",
            now=now,
            new_lineage=fresh_id,
            wait=self._world.pause,
            origin=self._origins.of,
        )


def _is_path(remote: str) -> bool:
    """Whether a remote is a path, and neither a URL nor HOST:PATH."""
    return "://" not in remote and ":" not in remote.partition("/")[0]


def _refuse_other_file(home: "Home") -> None:
    """Raise `ReconcilerError` if the file at a home is not a state, or if its folder is missing.

    A state file that is missing is no fault. The store itself judges a state file that is there.
    """
    from reconciler.manifest.kinds import FileKind, kind_at

    if not home.named_by:
        return
    folder = os.path.dirname(home.url)
    if folder and not os.path.isdir(folder):
        raise ReconcilerError(
            f"{home.named_by}: {home.url} can't be a state: there is no folder {folder}",
            f"check the path, or make the folder: mkdir -p {quote(folder)}",
        )
    kind = kind_at(home.url)
    if kind is not None and kind is not FileKind.STATE:
        raise ReconcilerError(
            f"{home.named_by}: {home.url} is {kind}, not a state",
            f"name the state, such as jobs.state.json; {kind.place}",
        )
