"""Opening the store of a state, wherever it lives, and the files of a state that `--push` pushes."""

import os
from collections.abc import Callable, Sequence
from shlex import quote
from typing import TYPE_CHECKING

from reconciler.model.errors import ReconcilerError
from reconciler.state.homes import CheckedStore
from reconciler.usecases.world import World, fresh_id, now

if TYPE_CHECKING:
    from reconciler.state.backends.checkout import Checkout
    from reconciler.state.homes import Home
    from reconciler.state.port import Surroundings
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
        from reconciler.state.registry import plugin_of

        home, remark = self._home, self._world.remark
        if home.path:
            _refuse_other_file(home)
        store = plugin_of(home.url).open(home.url, self._surroundings())
        return CheckedStore(store, home, self._manifest_paths, warn or (lambda text: remark(f"Warning: {text}")))

    def open_checkout(self, push: str) -> "Checkout | None":
        """The files of the state, to be pushed as `--push` says. None if the state is no file that could be committed.

        Raises `Usage` for a name that no branch can have.
        """
        from reconciler.state.backends import checkout

        to = checkout.parse_push(push)
        if not self._home.path:
            return None
        return checkout.open_checkout(self._home.path, self._manifest_paths, to, self._surroundings())

    def _surroundings(self) -> "Surroundings":
        from reconciler.state.port import Surroundings

        home, world = self._home, self._world
        return Surroundings(
            env=world.env,
            folder=home.folder,
            checkout=home.checkout,
            marks_folder=world.state_folder,
            cache_folder=world.cache_folder,
            user=f"{world.user} (process {os.getpid()})",
            person=lambda: self._origins.who,
            now=now,
            new_id=fresh_id,
            wait=world.pause,
            tell=world.remark,
            clocks=world.clocks,
            origin=self._origins.of,
        )


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
