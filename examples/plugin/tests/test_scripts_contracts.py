"""The contract suites of `reconciler.testing`, which every plugin has to pass."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import reconciler_scripts
from reconciler.engines.port import Config
from reconciler.state.port import Remote
from reconciler.testing.engines import EngineContract
from reconciler.testing.remotes import RemoteContract
from reconciler.testing.services import Service
from reconciler.testing.states import StateContract
from reconciler_scripts.directory import PLUGIN, DirectoryRemote

IMPORTABLE = {"PYTHONPATH": str(Path(reconciler_scripts.__file__).parent.parent)}
"""What makes the programs of the suites find the package, even if it is not installed."""

WITHIN_S = 30.0

SCRIPT = """\
#!/bin/sh
run=${RECONCILER_SCRIPTS_RUN##*/}
job=${run%-*}
echo "$run" >> "$PWD/$job.ran"
echo one
echo two
mkfifo "$PWD/$run.end"
test -e "$PWD/closed" || cat "$PWD/$run.end"
rm "$PWD/$run.end"
exit "$1"
"""
"""A script that says that it has begun, and goes on until somebody opens its pipe for writing."""

SLOW_SCRIPT = SCRIPT.replace(
    'echo "$run" >>', """trap 'trap "" TERM; sleep 1; touch "$PWD/$run.over"; exit 1' TERM\necho "$run" >>"""
)
"""A script that takes a second to end after SIGTERM.

An abort looks for new processes again and again, and sends SIGTERM to each of them. So the script ignores the signal
while it ends: otherwise `touch` is killed now and then, and the file is missing. The trap is set before the line that
says that the script has begun.
"""


class ScriptsService(Service):
    """A folder with one script, which all jobs share."""

    def __init__(self, folder: Path) -> None:
        self._scripts = folder / "scripts"
        for scripts in (self._scripts, folder / "other"):
            scripts.mkdir()
            (scripts / "work.sh").write_text(SCRIPT)
            (scripts / "work.sh").chmod(0o755)

    @property
    def block(self) -> Mapping[str, Any]:
        return {"engine": "scripts", "folder": str(self._scripts), "gracePeriod": 5}

    @property
    def other_block(self) -> Mapping[str, Any]:
        return {"engine": "scripts", "folder": str(self._scripts.with_name("other"))}

    @property
    def environment(self) -> Mapping[str, str]:
        return {**os.environ, **IMPORTABLE}

    def config(self, *, fails: bool = False) -> Config:
        return {"script": "work.sh", "args": ["1" if fails else "0"]}

    def config_with(self, text: str) -> Config | None:
        return {"script": "work.sh", "args": ["0", text], "env": {"TEXT": text}}

    def runs(self, job_id: str) -> int:
        """Return how often the script was executed. A script that has just been started has a moment for its line."""
        deadline_s = time.monotonic() + WITHIN_S
        taken = len(list((self._scripts / ".runs" / job_id).glob("*.json")))
        while (count := self._executed(job_id)) < taken and time.monotonic() < deadline_s:
            time.sleep(0.01)
        time.sleep(0.05)
        return max(count, self._executed(job_id))

    def end(self, job_id: str) -> None:
        """Open the pipe of each run for writing, which ends the script."""
        self.runs(job_id)
        for run_id in set(self._lines(job_id)) - self._ended(job_id):
            deadline_s = time.monotonic() + WITHIN_S
            while not self._opened(f"{run_id}.end"):
                assert time.monotonic() < deadline_s, f"{run_id} does not wait for its end"
                time.sleep(0.01)

    def lose(self, job_id: str) -> None:
        self.runs(job_id)  # so that its start is counted
        shutil.rmtree(self._scripts / ".runs" / job_id)

    @contextmanager
    def stopping_slowly(self) -> Iterator[Mapping[str, Any]]:
        """Yield the block while a script takes a second to end after SIGTERM."""
        (self._scripts / "work.sh").write_text(SLOW_SCRIPT)
        yield self.block

    def executes(self, job_id: str) -> bool:
        return len(list(self._scripts.glob(f"{job_id}-*.over"))) < self._executed(job_id)

    @contextmanager
    def refusing(self) -> Iterator[Mapping[str, Any]]:
        """Yield the block while nobody may execute the script. What was accepted before has begun."""
        for taken in (self._scripts / ".runs").glob("*/"):
            self.runs(taken.name)
        (self._scripts / "work.sh").chmod(0o644)
        yield self.block
        (self._scripts / "work.sh").chmod(0o755)

    def logged(self, job_id: str) -> bytes:
        return b"one\ntwo\n"

    def close(self) -> None:
        """Let all scripts end, also one that has yet to wait at its pipe."""
        (self._scripts / "closed").touch()
        deadline_s = time.monotonic() + 1.0
        while time.monotonic() < deadline_s and (left := self._waiting()):
            for name in left:
                self._opened(name)
            time.sleep(0.01)

    def _waiting(self) -> list[str]:
        """Return the pipes of the runs that have no end yet. A script that ends removes its pipe."""
        pipes = {path.stem: path.name for path in self._scripts.glob("*.end")}
        return [name for run_id, name in pipes.items() if run_id not in self._ended(run_id.rpartition("-")[0])]

    def _lines(self, job_id: str) -> list[str]:
        path = self._scripts / f"{job_id}.ran"
        return path.read_text().splitlines() if path.exists() else []

    def _executed(self, job_id: str) -> int:
        return len(self._lines(job_id))

    def _ended(self, job_id: str) -> set[str]:
        return {path.stem for path in (self._scripts / ".runs" / job_id).glob("*.code")}

    def _opened(self, name: str) -> bool:
        """Open a pipe that a script waits at. Returns False if no script waits there yet."""
        # Where no script waits, the pipe does not exist, or opening it fails with ENXIO.
        with suppress(OSError):
            os.close(os.open(self._scripts / name, os.O_WRONLY | os.O_NONBLOCK))
            return True
        return False


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="the engine needs /proc")
class TestScripts(EngineContract):
    """The engine."""

    # Where the package is installed, the suite finds a plugin without this.
    plugin = "reconciler_scripts.plugin:PLUGIN"

    @pytest.fixture
    def service(self, tmp_path: Path) -> Iterator[Service]:
        service = ScriptsService(tmp_path)
        yield service
        service.close()


class TestDirectory(StateContract):
    """The home of state, through its plugin."""

    plugin = "reconciler_scripts.directory:PLUGIN"

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"{PLUGIN.prefix}{tmp_path}/there"

    @pytest.fixture
    def environment(self) -> Mapping[str, str]:
        return IMPORTABLE

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
