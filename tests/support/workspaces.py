"""A workspace over a test's own manifest, store and engine, in place of files and a service."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from reconciler.engines.port import Engine
from reconciler.manifest import Manifest
from reconciler.model.jobs import EMPTY
from reconciler.usecases.engines import Pace, checked
from reconciler.usecases.manifest_files import ManifestFiles
from reconciler.usecases.place import Place
from reconciler.usecases.stores import Stores
from reconciler.usecases.workspace import Workspace
from reconciler.usecases.world import World


class GivenWorkspace(Workspace):
    """A workspace outside of any repository, with given parts."""

    def __init__(
        self,
        world: World,
        manifest: Manifest,
        open_store: Callable[[], Any],
        open_engine: Callable[[], AbstractContextManager[Engine]],
    ) -> None:
        place = Place(("jobs.yaml",))
        files = ManifestFiles(place)
        files.parsed = manifest
        super().__init__(place, world, files=files)
        self.stores = _GivenStores(self, open_store)
        self._open_engine = open_engine

    def at(self, place: Place) -> Workspace:
        return self

    @property
    def commit(self) -> None:
        return None

    def open_engine(
        self, pace: Pace, identity: Mapping[str, str] = EMPTY, *, may_change: bool = False, is_replaced: bool = False
    ) -> AbstractContextManager[Engine]:
        return checked(self._open_engine(), EMPTY if is_replaced else identity, self.head.target)


class _GivenStores(Stores):
    def __init__(self, workspace: Workspace, open_store: Callable[[], Any]) -> None:
        super().__init__(workspace.home, workspace.manifest_paths, workspace.world, workspace.origins)
        self._open_store = open_store

    def open(self, warn: Callable[[str], None] | None = None) -> Any:
        return self._open_store()
