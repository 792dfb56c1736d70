"""Test the tests: seed bugs at random places, and look for those that no test notices.

    python tests/campaigns/mutants_random.py --seed S --count N [--jobs J]

Each bug meets the test files that are nearest to its module. The bugs that pass them meet the whole suite, all at once.
Each of these then meets the tests that failed, alone. That is repeated with the bugs that are left, until the suite
passes. A person reads those: with some of them, the program may do the same as before.

The tests run in copies of the last commit, and in a PID namespace, since a bug may kill what it should not. That needs
Linux and `unshare` of util-linux. The exit code is 1 if a bug is left.
"""

import argparse
import difflib
import json
import os
import queue
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from checkout import ROOT
from nearest_tests import Imports
from random_bugs import Bug, choose, with_bugs

FOLDERS = [f"reconciler/{floor}" for floor in ("rules", "apply", "state", "engines", "manifest")] + ["ci"]
_READS_SOURCES = "tests/campaigns/test_mutants.py"
"""This file looks for words in the sources, so that it would notice any bug."""

_SUITE = ("-n", "auto", "--maxprocesses", "8", "--dist", "worksteal")
_OF_CLUSTERS = {f"reconciler/engines/{name}/": f"tests/{name}" for name in ("kubernetes", "slurm", "ray")}
"""The tests of an engine that need a cluster. They are no part of the suite."""

_NEAREST = 8
_MOST_FAILURES = 40
_FEW_WITHIN_S, _SUITE_WITHIN_S = 900.0, 5400.0
_PASSED, _NO_TESTS = 0, 5


class Outcome(NamedTuple):
    """How tests ended. `failed` has the ids of those that failed, unless pytest was killed for taking too long."""

    passed: bool
    failed: Sequence[str] = ()


class Copy:
    """A copy of the last commit with an environment of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cache = folder.with_name(f"{folder.name}.cache")
        subprocess.run(["git", "clone", "-q", ROOT, folder], check=True)
        python = f"PYTHON={sys.base_exec_prefix}/bin/python3"
        subprocess.run(
            ["make", "-s", "-C", folder, python, ".venv/.dev", ".venv/.wheel"], check=True, stdout=sys.stderr
        )
        where = [str(folder / ".venv/bin/python"), "-P", "-c", "import reconciler; print(reconciler.__path__[0])"]
        found = subprocess.run(where, check=True, capture_output=True, text=True)
        self._installed = Path(found.stdout.strip()).parent

    @contextmanager
    def holding(self, bugs: Collection[Bug]) -> Iterator[None]:
        """Have bugs in the sources and in the installed package."""
        before = {path: (self._folder / path).read_text() for path in {bug.path for bug in bugs}}
        for path, source in before.items():
            self._write(path, with_bugs(source, [bug for bug in bugs if bug.path == path]))
        try:
            yield
        finally:
            for path, source in before.items():
                self._write(path, source)

    def test(self, *arguments: str, within_s: float = _FEW_WITHIN_S) -> Outcome:
        """Run pytest with some arguments. Tests that do not end in time count as failed."""
        # The shell is the first process of the namespace, which has to wait for those that nobody else waits for.
        namespace = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", '"$@"; exit $?', "sh"]
        pytest = [".venv/bin/pytest", "-q", "-o", f"cache_dir={self._cache}", f"--ignore={_READS_SOURCES}"]
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        env |= {"PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        kept = self._cache / "v/cache/lastfailed"
        kept.unlink(missing_ok=True)
        try:
            done = subprocess.run(
                [*namespace, *pytest, *arguments],
                cwd=self._folder,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=within_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Outcome(passed=False)
        if done.returncode in (_PASSED, _NO_TESTS):
            return Outcome(passed=True)
        return Outcome(False, list(json.loads(kept.read_text())) if kept.exists() else [])

    def _write(self, path: str, source: str) -> None:
        (self._folder / path).write_text(source)
        if path.startswith("reconciler/"):
            installed = self._installed / path
            installed.write_text(source)
            # Python tells compiled sources by their length and their second, which a bug need not change.
            for compiled in (installed.parent / "__pycache__").glob(f"{installed.stem}.*"):
                compiled.unlink()


class Copies:
    """Copies that several threads take turns at."""

    def __init__(self, folder: Path, count: int) -> None:
        self.count = count
        self._free: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        for number in range(count):
            self._free.put(Copy(folder / str(number)))

    @contextmanager
    def one(self) -> Iterator[Copy]:
        """Take a copy that nobody else uses."""
        copy = self._free.get()
        try:
            yield copy
        finally:
            self._free.put(copy)

    def each(self, bugs: Sequence[Bug], notices: Callable[[Copy, Bug], bool]) -> list[Bug]:
        """Return the bugs that are not noticed, each of which meets tests alone."""

        def survives(bug: Bug) -> bool:
            with self.one() as copy:
                return not notices(copy, bug)

        with ThreadPoolExecutor(self.count) as pool:
            return [bug for bug, left in zip(bugs, pool.map(survives, bugs), strict=True) if left]


def left_of(
    bugs: Sequence[Bug],
    suite: Callable[[Sequence[Bug]], Outcome],
    alone: Callable[[Sequence[Bug], Sequence[str]], Sequence[Bug]],
) -> list[Bug]:
    """Return the bugs that the whole suite does not notice.

    `suite` runs it with some bugs at once. `alone` runs some tests with each of some bugs, and returns the bugs with
    which they pass.
    """
    if not bugs:
        return []
    outcome = suite(bugs)
    if outcome.passed:
        return list(bugs)
    if len(bugs) == 1:
        return []
    left = alone(bugs, outcome.failed) if outcome.failed else bugs
    if len(left) < len(bugs):
        return left_of(left, suite, alone)
    # The tests fail with several bugs together, or one of them hangs.
    middle = len(bugs) // 2
    return left_of(bugs[:middle], suite, alone) + left_of(bugs[middle:], suite, alone)


class Campaign:
    """Bugs, and the tests that they meet."""

    def __init__(self, copies: Copies) -> None:
        self.copies = copies
        self._imports = Imports(ROOT)

    def meet_nearest(self, copy: Copy, bug: Bug) -> bool:
        """Return whether the tests that are nearest to a bug notice it."""
        began_s = time.monotonic()
        nearest = [str(path.relative_to(ROOT)) for path in self._imports.nearest(ROOT / bug.path, _NEAREST)]
        with copy.holding([bug]):
            outcome = copy.test("-x", *nearest) if nearest else Outcome(passed=True)
        _check_without_bugs(copy, outcome.failed)
        word = "passed" if outcome.passed else "caught"
        print(f"{word}  {bug}  ({time.monotonic() - began_s:.0f} s, {', '.join(outcome.failed)})", flush=True)
        return not outcome.passed

    def meet_suite(self, bugs: Sequence[Bug]) -> Outcome:
        """Run the whole suite with some bugs at once, and what needs a cluster for the bugs of its engine."""
        print(f"{len(bugs)} bugs meet the whole suite", flush=True)
        with self.copies.one() as copy, copy.holding(bugs):
            outcome = copy.test(*_SUITE, f"--maxfail={_MOST_FAILURES}", within_s=_SUITE_WITHIN_S)
            for folder, tests in _OF_CLUSTERS.items():
                if outcome.passed and any(bug.path.startswith(folder) for bug in bugs):
                    subprocess.run(["bash", ROOT / tests / "install.sh"], check=True, stdout=subprocess.DEVNULL)
                    outcome = copy.test(f"--maxfail={_MOST_FAILURES}", tests, within_s=_SUITE_WITHIN_S)
        return outcome

    def meet_alone(self, bugs: Sequence[Bug], tests: Sequence[str]) -> Sequence[Bug]:
        """Return those bugs that some tests do not notice, each of them alone."""
        with self.copies.one() as copy:
            _check_without_bugs(copy, tests)

        def notices(copy: Copy, bug: Bug) -> bool:
            with copy.holding([bug]):
                outcome = copy.test("-x", *tests)
            if not outcome.passed:
                print(f"caught  {bug}  ({', '.join(outcome.failed)})", flush=True)
            return not outcome.passed

        return self.copies.each(bugs, notices)


def _check_without_bugs(copy: Copy, tests: Sequence[str]) -> None:
    """End the campaign if tests fail without a bug too."""
    if tests and not copy.test("-x", *tests).passed:
        sys.exit(f"these tests fail without a bug: {', '.join(tests)}")


def _difference(bug: Bug) -> str:
    source = (ROOT / bug.path).read_text()
    lines = difflib.unified_diff(
        source.splitlines(), with_bugs(source, [bug]).splitlines(), bug.path, bug.path, "", "", 2, ""
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2, metavar="J", help="how many bugs meet tests at a time")
    given = parser.parse_args()
    bugs = choose(ROOT, FOLDERS, given.seed, given.count)
    with tempfile.TemporaryDirectory(prefix="reconciler-mutants-") as folder:
        campaign = Campaign(Copies(Path(folder), given.jobs))
        passed = campaign.copies.each(bugs, campaign.meet_nearest)
        left = left_of(passed, campaign.meet_suite, campaign.meet_alone)
    for bug in left:
        print(f"LEFT    {bug}\n{_difference(bug)}")
    print(f"seed {given.seed}: {len(bugs) - len(left)} of {len(bugs)} random bugs caught")
    sys.exit(bool(left))


if __name__ == "__main__":
    main()
