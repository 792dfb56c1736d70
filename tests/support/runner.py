"""A CI service's runner: start a step, send the signals of the service, and take the machine away."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from checkout import ROOT
from forge import BRANCH, Checkout
from github_server import API_TOKEN
from launcher import launcher_in

CI = ROOT / "ci"
MARK = "RUNNER_TRACKING_ID"
"""GitHub's runner finds the processes that a job left running by this variable."""

GITHUB_STEP = f'exec "{sys.executable}" "{CI}/github.py" apply\n'
GITLAB_STEP = f'exec "{sys.executable}" "{CI}/apply.py" --yes --push "$CI_COMMIT_BRANCH" $RECONCILER_ARGS\n'


class Step:
    """A running step, in a process group of its own, with the default action for SIGINT."""

    def __init__(self, checkout: Checkout, script: str, env: Mapping[str, str]) -> None:
        self.mark = uuid.uuid4().hex
        home = checkout.home
        binaries = launcher_in(home / "bin")
        file = home / f"step-{self.mark}.sh"
        file.write_text(script)
        self.log = home / f"step-{self.mark}.log"
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(
                ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(file)],
                cwd=checkout.folder,
                env={**checkout.env, "PATH": f"{binaries}:{os.environ['PATH']}", **env, MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
                preexec_fn=_with_sigint,  # noqa: PLW1509  there are no threads
            )

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self, within_s: float) -> bool:
        """Whether the step ends within this many seconds."""
        with suppress(subprocess.TimeoutExpired):
            self.child.wait(within_s)
        return self.child.returncode is not None

    def program(self) -> int:
        """The process id of reconciler, 0 if it does not run."""
        for pid in self._processes():
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if b"reconciler" in words and b"apply" in words:
                    return pid
        return 0

    def end_all(self) -> None:
        """Take the machine away: kill all processes of the step, including those in other sessions."""
        while pids := self._processes():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.child.poll()
            time.sleep(0.002)
        self.child.wait()

    def _processes(self) -> list[int]:
        mark = f"{MARK}={self.mark}".encode()
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with suppress(OSError):
                    if mark in (folder / "environ").read_bytes().split(b"\0"):
                        found.append(int(folder.name))
        return found


def script_step(command: str, folder: Path, env: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run a command of the Action's script to its end.

    The command may fail, but must not crash, and must not print the token of the API.
    """
    done = subprocess.run(
        [sys.executable, str(CI / "github.py"), command],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert API_TOKEN not in done.stdout + done.stderr
    return done


def _with_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def github_env(checkout: Checkout) -> dict[str, str]:
    """Return the variables of a GitHub step on the branch `main`. There is no token, so no step uses the API."""
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_REF": f"refs/heads/{BRANCH}",
        "GITHUB_REF_NAME": BRANCH,
        "GITHUB_REF_TYPE": "branch",
        "GITHUB_REPOSITORY": "team/jobs",
        "GITHUB_WORKSPACE": str(checkout.folder),
        "GITHUB_OUTPUT": str(checkout.home / "output"),
        "GITHUB_STEP_SUMMARY": str(checkout.home / "summary"),
        "RUNNER_TEMP": tempfile.mkdtemp(dir=checkout.home),
        "RECONCILER_ARGS": "--settle 0.1",
    }


def github_step(checkout: Checkout, **env: str) -> Step:
    """Return the step of the Action that applies."""
    return Step(checkout, GITHUB_STEP, github_env(checkout) | env)


def gitlab_step(checkout: Checkout, **env: str) -> Step:
    """Return the last line of the GitLab job that applies."""
    return Step(
        checkout,
        GITLAB_STEP,
        {"GITLAB_CI": "true", "CI_COMMIT_BRANCH": BRANCH, "RECONCILER_ARGS": "--settle 0.1"} | env,
    )


def thrown_away(checkout: Checkout) -> None:
    """Delete the runner's disk."""
    shutil.rmtree(checkout.folder)
    shutil.rmtree(checkout.home)
