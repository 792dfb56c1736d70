"""The contract suites of `reconciler.testing`, which every plugin has to pass."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import reconciler_scripts
from reconciler.state.port import Remote
from reconciler.testing.remotes import RemoteContract
from reconciler.testing.states import StateContract
from reconciler_scripts.directory import PLUGIN, DirectoryRemote


class TestDirectory(StateContract):
    """The home of state, through its plugin."""

    # Where the package is installed, the suite finds the plugin by the URL.
    plugin = "reconciler_scripts.directory:PLUGIN"

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"{PLUGIN.prefix}{tmp_path}/there"

    @pytest.fixture
    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(Path(reconciler_scripts.__file__).parent.parent)}

    def keep_copy(self, url: str) -> Callable[[], None]:
        folder = Path(url.removeprefix(PLUGIN.prefix))
        shutil.copytree(folder, folder.with_name("copy"))

        def put_back() -> None:
            shutil.rmtree(folder)
            shutil.copytree(folder.with_name("copy"), folder)

        return put_back

    def revision(self, url: str) -> str:
        return str(len(list(Path(url.removeprefix(PLUGIN.prefix)).glob("*.json"))))


class TestDirectoryRemote(RemoteContract):
    """The remote of which the home is made."""

    @pytest.fixture
    def connect(self, tmp_path: Path) -> Callable[[], Remote]:
        return lambda: DirectoryRemote(tmp_path / "there")

    def revision(self, remote: Remote) -> str:
        return str(remote.version()).partition("-")[0]
