"""The home of state of `examples/plugin`, for the programs that tests start, and the same without revisions."""

import os
from pathlib import Path

from reconciler.state.leased_store import LeasedStore
from reconciler.state.port import NoRevisions, Snapshot, Store, Surroundings
from reconciler_scripts import directory
from reconciler_scripts.directory import PLUGIN, DirectoryPlugin, DirectoryRemote

__all__ = ["ENTRY_POINTS", "PLAIN", "PLUGIN", "DirectoryRemote", "PlainRemote", "install", "path_with"]

ENTRY_POINTS = "[reconciler.state]\ndir = reconciler_scripts.directory:PLUGIN\nplain = directory_home:PLAIN\n"
"""The entry points of a package that has these plugins."""


class PlainRemote(DirectoryRemote):
    """The same for a place that keeps no revisions."""

    def at(self, revision: str) -> Snapshot:
        raise NoRevisions(f"{self.where} keeps no revisions", "keep copies: `reconciler state pull --out FILE`")


class PlainPlugin(DirectoryPlugin):
    """The plugin of that place."""

    prefix = "plain://"

    def open(self, url: str, surroundings: Surroundings) -> Store:
        return LeasedStore(PlainRemote(Path(url.removeprefix(self.prefix))), surroundings)


PLAIN = PlainPlugin()


def install(site: str) -> None:
    """Make an installed package with these plugins in a folder."""
    package = os.path.join(site, "directory_home-1.dist-info")
    os.makedirs(package)
    for name, content in {
        "METADATA": "Metadata-Version: 2.1\nName: directory-home\nVersion: 1\n",
        "entry_points.txt": ENTRY_POINTS,
    }.items():
        with open(os.path.join(package, name), "w", encoding="ascii") as file:
            file.write(content)


def path_with(site: str) -> str:
    """The value of PYTHONPATH with which the package in a folder counts."""
    return os.pathsep.join([site, os.path.dirname(__file__), str(Path(directory.__file__).parent.parent)])
