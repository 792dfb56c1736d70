"""The workspace of a command: its manifest, its state and its engine, put together once."""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING

from reconciler.model.commands import command
from reconciler.model.errors import ManifestError, StateError
from reconciler.model.jobs import EMPTY, State
from reconciler.usecases.manifest_files import ManifestFiles
from reconciler.usecases.origins import Origins
from reconciler.usecases.place import Place
from reconciler.usecases.world import World

if TYPE_CHECKING:
    from reconciler.engines.port import Engine
    from reconciler.manifest import Head, Manifest
    from reconciler.state.homes import CheckedStore, Home
    from reconciler.usecases.engines import Pace
    from reconciler.usecases.stores import Stores


class Workspace:
    """What one command works on. The command line makes it once and hands it to the use case.

    `place` is what the user named, and `world` is what comes from outside. Everything else is found when it is first
    needed, and then kept: a command that needs no service opens no engine.
    """

    def __init__(
        self, place: Place, world: World, *, files: ManifestFiles | None = None, home: "Home | None" = None
    ) -> None:
        """`files` and `home` replace what the place leads to."""
        self.place = place
        self.world = world
        self.files = files or ManifestFiles(place)
        self._home = home

    def at(self, place: Place) -> "Workspace":
        """The workspace at another place; this one if the place is the same."""
        return self if place == self.place else Workspace(place, self.world)

    @property
    def manifest_paths(self) -> tuple[str, ...]:
        """The paths of the manifest. Raises `ReconcilerError` if none is given and there is no default path."""
        return self.files.paths

    @property
    def manifest(self) -> "Manifest":
        """The manifest. Raises `ManifestError`."""
        return self.files.manifest

    def check_manifest(self) -> None:
        """Raise `ManifestError` if the manifest has faults."""
        _ = self.files.manifest

    @property
    def head(self) -> "Head":
        """The target of the manifest and the place of its state, also if the jobs have faults.

        Raises `ManifestError` if a fault hides the head.
        """
        return self.files.head

    @cached_property
    def declared_ids(self) -> Mapping[str, str] | None:
        """The engine job id of each declared job, by the job's name. None, with a remark, if a fault hides an id."""
        try:
            return {name: job.id for name, job in self.manifest.jobs.items()}
        except ManifestError as fault:
            ids = self.files.ids_in_spite_of_faults
            if ids is None:
                checks = f"{command('validate')} shows what is wrong"
                self.world.remark(f"{fault.message}, so names are those of the state: {checks}")
            return ids

    @cached_property
    def home(self) -> "Home":
        """Where the state lives. The manifest is not read if the user names the state.

        Raises `ManifestError` if a fault hides `state:`, and as `Place.home` does.
        """
        if self._home is not None:
            return self._home
        return self.place.home(None if self.place.state_url else self.files.declared_state)

    @property
    def state_name(self) -> str:
        """The path of the state file, or the full URL of the state. It tells one state from another."""
        return self.home.full_url

    def anchored(self) -> "Workspace":
        """The same workspace, in which symbolic links in the folder of the state file are resolved.

        State and embedded sandbox then stay in one folder, even if another program switches a link.
        """
        home = self.home
        folder = os.path.dirname(home.path) or "."
        real = os.path.realpath(folder)
        if not home.path or real == os.path.abspath(folder):
            return self
        anchored = home._replace(url=os.path.join(real, os.path.basename(home.path)))
        return Workspace(self.place, self.world, files=self.files, home=anchored)

    @cached_property
    def origins(self) -> Origins:
        """Who runs the command, and at which commit."""
        return Origins(self.place.manifest_folder, self.world)

    @property
    def commit(self) -> str | None:
        """The commit that is checked out where the manifest is; None outside of a repository."""
        return self.origins.commit

    @cached_property
    def stores(self) -> "Stores":
        """Opens the store of the state in several ways."""
        from reconciler.usecases.stores import Stores

        return Stores(self.home, self.manifest_paths, self.world, self.origins)

    @cached_property
    def store(self) -> "CheckedStore":
        """The store of the state."""
        return self.stores.open()

    def read_state(self, warn: Callable[[str], None] | None = None) -> State:
        """The recorded state, with the journal; an empty state if nothing was ever applied.

        An empty state has the run counts of the history, if the state was lost and its history was not.

        `warn` is as in `Stores.open`. Raises `StateError` and `Refused` as `Store.read` does.
        """
        target = self.manifest.target
        store = self.stores.open(warn) if warn else self.store
        return store.read(target) or State("", 0, target, {}, self._counts_of_history(store))

    def _counts_of_history(self, store: "CheckedStore") -> Mapping[str, int]:
        from reconciler.state.history import run_counts

        try:
            return run_counts(store.read_history().entries)
        except StateError:  # no apply writes anything as long as the history can't be read
            return EMPTY

    def open_engine(
        self, pace: "Pace", identity: Mapping[str, str] = EMPTY, *, may_change: bool = False, is_replaced: bool = False
    ) -> "AbstractContextManager[Engine]":
        """The engine of the target, as a context manager. `identity` is what the state has of its service.

        Without `may_change` the engine is opened to read. With `is_replaced` the service may be another one.

        Raises as `engines.open_engine` does, and `OtherIdentity` if the service is another one.
        """
        from reconciler.usecases.engines import beside_state, checked, open_engine

        beside = beside_state(self.home, self.manifest_paths[0])
        target = self.head.target
        changes = {"may_change": may_change, "is_replaced": is_replaced}
        opening = open_engine(target, self.world, beside, pace, known_identity=identity, **changes)
        return checked(opening, EMPTY if is_replaced else identity, target)
