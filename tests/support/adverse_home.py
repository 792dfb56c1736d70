"""The home of state of `examples/plugin`, whose methods raise, or return, what the variable ADVERSE_HOME says.

`publish=KeyError` names a method of the remote; `plugin.full_url=SystemExit` names one of the plugin. A method does so
once as many calls of it as ADVERSE_HOME_AFTER says have gone well.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconciler.state.leased_store import LeasedStore
from reconciler.state.port import Content, Snapshot, Store, Surroundings
from reconciler_scripts.directory import DirectoryPlugin, DirectoryRemote

VALUES: Mapping[str, Any] = {
    "nothing": None,
    "number": 5,
    "snapshot-of-texts": Snapshot("1", Content("{}", None, None)),  # type: ignore[arg-type]
}
RAISED: Mapping[str, type[BaseException]] = {"KeyError": KeyError, "SystemExit": SystemExit}


class Adverse:
    """The attributes of `inner`, some of which do as ADVERSE_HOME says."""

    def __init__(self, inner: Any, prefix: str = "") -> None:
        self._inner = inner
        self._prefix = prefix
        self._calls = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        method, _, behaviour = os.environ.get("ADVERSE_HOME", "").partition("=")
        if method != f"{self._prefix}{name}":
            return found

        def adverse(*arguments: Any) -> Any:
            self._calls += 1
            if self._calls <= int(os.environ.get("ADVERSE_HOME_AFTER", "0")):
                return found(*arguments)
            if behaviour in RAISED:
                raise RAISED[behaviour]("boom")
            return VALUES[behaviour]

        return adverse if callable(found) else adverse()


class _Plugin(DirectoryPlugin):
    prefix = "adverse://"

    def open(self, url: str, surroundings: Surroundings) -> Store:
        remote: Any = Adverse(DirectoryRemote(Path(url.removeprefix(self.prefix))))
        return LeasedStore(remote, surroundings)


PLUGIN = Adverse(_Plugin(), "plugin.")


def install(folder: Path) -> None:
    """Make the plugin known in this folder, as an installer would."""
    metadata = folder / "adverse_home-3.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: adverse-home\nVersion: 3.0\n")
    (metadata / "entry_points.txt").write_text("[reconciler.state]\nadverse = adverse_home:PLUGIN\n")
