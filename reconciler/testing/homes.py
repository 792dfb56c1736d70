"""What the author of a home of state says about it, and how the suites reach it."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reconciler.model.jobs import State
from reconciler.state.port import Store
from reconciler.testing.amount import Amount, amount_in
from reconciler.testing.ledger import Ledger, faults
from reconciler.testing.machines import Machine
from reconciler.testing.programs import Program
from reconciler.testing.worker import TARGET, Errand, plugin_at

_TRIES = 8
"""How many programs may try to finish the work. A late write of a dead program may overtake one of them."""


class Home:
    """The home of one test, with the machines that share it."""

    def __init__(self, url: str, plugin: str, environment: Mapping[str, str], folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.ledger = Ledger(str(folder / "ledger"))
        self._plugin = plugin
        self._environment = environment
        self._machines = 0

    def machine(self, *, ahead_s: float = 0.0, leaps: bool = False) -> Machine:
        """Return a machine that shares nothing with those before but the home."""
        self._machines += 1
        folder = self.folder / f"machine-{self._machines}"
        folder.mkdir()
        return Machine(f"machine-{self._machines}", str(folder), ahead_s=ahead_s, leaps=leaps)

    def store(self, machine: Machine | None = None, url: str = "") -> Store:
        """Return the store as a machine opens it; without one, as a new machine does."""
        where = url or self.url
        around = (machine or self.machine()).surroundings({**os.environ, **self._environment})
        return plugin_at(self._plugin, where).open(where, around)

    def read(self) -> State | None:
        """Return what a new machine reads."""
        return self.store().read(TARGET)

    def errand(self, machine: Machine | None = None, url: str = "", **more: Any) -> Errand:
        """Return an errand for a worker on a machine; without one, on a new machine."""
        errand = Errand(url or self.url, str(self.folder / "ledger"), machine or self.machine(), self._plugin)
        return errand._replace(**more)

    def started(self, errand: Errand) -> Program:
        """Start a worker. Its state is that of the home, and its calls go to the ledger."""
        return Program("reconciler.testing.worker", errand._asdict(), self._environment, str(self.folder))

    def finish(self, jobs: int, url: str = "") -> None:
        """Let workers finish the work of dead ones, until one of them leaves the state without an error."""
        ends = []
        for _ in range(_TRIES):
            with self.started(self.errand(self.machine(leaps=True), url, jobs=jobs)) as program:
                ends.append(program.await_end())
            if ends[-1]["end"] == "closed":
                return
        raise AssertionError(f"nobody can finish the work: {ends}")

    def faults(self) -> list[str]:
        """Return the faults that the ledger and the record show, once the work is finished."""
        stored = self.store().read_history()
        return faults(self.ledger.lines(), self.read(), stored)

    def called(self) -> list[str]:
        """Return the jobs that were called, in the order of their calls."""
        return [line.job for line in self.ledger.lines() if line.job]


class HomeUnderTest:
    """The part of the suites for homes of state that an author fills in.

    An author has to provide the fixture `url`, and the method `keep_copy`. The rest has defaults.
    """

    plugin = ""
    """`MODULE:NAME` of the plugin. "" finds the plugin by the URL, as the tool does: it is built in or installed."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        """The URL of an empty place, which no other test uses."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `url` with the URL of an empty place")

    @pytest.fixture
    def environment(self) -> Mapping[str, str]:
        """Variables that programs need beside those of the tests, such as PYTHONPATH or a password."""
        return {}

    @pytest.fixture
    def amount(self) -> Amount:
        """How much of the suite runs; see `reconciler.testing.amount`."""
        return amount_in()

    @pytest.fixture
    def server(self) -> tuple[str, int] | None:
        """The host and the port of the server behind `url`; None for a home that is not reached over TCP."""
        return None

    @pytest.fixture
    def home(self, url: str, environment: Mapping[str, str], tmp_path: Path) -> Home:
        """The home of this test."""
        folder = tmp_path / "contract-suite"
        folder.mkdir()
        return Home(url, self.plugin, environment, folder)

    def url_through(self, url: str, host: str, port: int) -> str:
        """Return the URL of the same place, reached at another host and port. Needed for a home with a `server`."""
        raise NotImplementedError(f"{type(self).__name__} has a server, and needs a method `url_through`")

    def keep_copy(self, url: str) -> Callable[[], None]:
        """Keep a copy of all that the place holds. Return a function that puts the copy back, as from a backup."""
        raise NotImplementedError(
            f"{type(self).__name__} needs a method `keep_copy`, to try a state that was rolled back"
        )

    def revision(self, url: str) -> str:
        """Return the name of the latest revision of the state; "" if the place keeps no revisions."""
        return ""


@contextmanager
def raising(*kinds: type[Exception], what: str) -> Iterator[None]:
    """Fail the test unless the block raises one of these errors. `what` says what was allowed instead."""
    try:
        yield
    except kinds:
        return
    raise AssertionError(what)
