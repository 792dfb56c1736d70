"""The steps of the GitHub Action, each a subcommand: validate, plan, apply, drift.

Reads what GitHub sets for a step (https://docs.github.com/actions/reference/workflows-and-actions/variables)
and the action's inputs as RECONCILER_* variables. Everything that is not GitHub's is left to
`reconciler` and `git`, which stand on the PATH.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import requests

_PAGE = 100
_SUMMARY_LIMIT_BYTES = 1024 * 1024 - 1024
"""GitHub's bound on a step's summary is 1 MiB."""

_DRIFT_TITLE = "Jobs have drifted"


class Step(NamedTuple):
    """What a step was given: the action's inputs, and where it runs."""

    env: Mapping[str, str]
    paths: Sequence[str]
    options: Sequence[str]

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> "Step":
        options = []
        if state := env.get("RECONCILER_STATE"):
            options.append(f"--state={state}")
        return cls(env, env.get("RECONCILER_PATHS", "").split(), [*options, *env.get("RECONCILER_ARGS", "").split()])

    def reconciler(self, command: str, *options: str) -> "subprocess.CompletedProcess[str]":
        """Run reconciler; what it says on stderr goes on to the log, stdout is returned."""
        words = ["reconciler", command, *options, *self.options, "--", *self.paths]
        return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)

    def script(self, name: str, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a script that stands beside this one."""
        path = Path(__file__).with_name(name)
        return subprocess.run([sys.executable, str(path), *words], stdout=subprocess.PIPE, text=True, check=False)

    def tell(self, name: str, value: str) -> None:
        """Set an output of the step; its value is one line."""
        _append(self.env.get("GITHUB_OUTPUT"), f"{name}={value}\n")

    def summarize(self, markdown: str) -> None:
        """Show Markdown on the run's page."""
        size_bytes = len(markdown.encode())
        if size_bytes > _SUMMARY_LIMIT_BYTES:
            markdown = f"The summary of {size_bytes} bytes is too long to be shown here.\n"
        _append(self.env.get("GITHUB_STEP_SUMMARY"), markdown)


class Api:
    """GitHub's REST API for one repository (https://docs.github.com/rest). Raises `requests.RequestException`."""

    def __init__(self, env: Mapping[str, str], token: str) -> None:
        self._base = env.get("GITHUB_API_URL", "https://api.github.com")
        self._repository = env["GITHUB_REPOSITORY"]
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.update(
            {
                "Accept": "application/vnd.github+json",
                "Authorization": f"Bearer {token}",
                "X-GitHub-Api-Version": "2022-11-28",
            }
        )

    def login(self) -> str:
        """Whose token it is; that of a workflow may not ask, and is the Actions app's."""
        answer = self._session.get(f"{self._base}/user", timeout=30, allow_redirects=False)
        return str(answer.json()["login"]) if answer.status_code == 200 else "github-actions[bot]"

    def all(self, path: str, **query: str | int) -> list[dict[str, Any]]:
        """Every entry of a list."""
        found: list[dict[str, Any]] = []
        for page in range(1, 101):
            entries = self.send("GET", path, params={**query, "per_page": _PAGE, "page": page})
            found += entries
            if len(entries) < _PAGE:
                break
        return found

    def send(self, method: str, path: str, **options: Any) -> Any:
        """One call below the repository."""
        url = f"{self._base}/repos/{self._repository}/{path}"
        answer = self._session.request(method, url, timeout=30, allow_redirects=False, **options)
        answer.raise_for_status()
        return answer.json()


def validate(step: Step) -> int:
    """Check the manifest, with annotations where it is at fault."""
    done = step.reconciler("validate", "--format=github")
    _print(done.stdout)
    return done.returncode


def plan(step: Step) -> int:
    """Plan, save the plan, show it on the run's page, and keep one comment on the pull request up to date.

    From a fork there is no token that may comment; the plan is on the run's page then.
    """
    saved = Path(step.env.get("RUNNER_TEMP", ".")) / "reconciler-plan.json"
    done = step.reconciler("plan", "--format=markdown", "--detailed-exitcode", f"--out={saved}")
    _print(step.reconciler("plan", "--format=github").stdout)
    step.summarize(done.stdout)
    step.tell("changes", str(done.returncode == 2).lower())
    step.tell("plan", str(saved) if saved.exists() else "")
    number = _pull_request(step.env)
    token = step.env.get("RECONCILER_TOKEN", "")
    if number and token and done.stdout:
        try:
            _comment(Api(step.env, token), number, done.stdout)
        except requests.RequestException as fault:
            _note(f"the plan could not be put on the pull request ({_kind(fault)}): it is in the summary of this run")
    return 0 if done.returncode == 2 else done.returncode


def apply(step: Step) -> int:
    """Apply, and commit the state back whatever came of it."""
    done = step.reconciler("apply", "--yes", "--format=github")
    _print(done.stdout)
    committed = step.script(
        "commit_state.py",
        f"--state={step.env.get('RECONCILER_STATE', '')}",
        f"--branch={step.env.get('GITHUB_REF_NAME', '')}",
        *step.paths,
    )
    if committed.returncode:
        _note(committed.stdout.strip() or "the state could not be committed", "error")
    return done.returncode or committed.returncode


def drift(step: Step) -> int:
    """Look for drift; an issue says so while there is some, and is closed when there is none."""
    done = step.reconciler("drift", "--format=markdown")
    step.summarize(done.stdout)
    step.tell("changes", str(done.returncode == 2).lower())
    token = step.env.get("RECONCILER_TOKEN", "")
    if done.returncode in (0, 2) and token:
        _issue(Api(step.env, token), done.stdout, drifted=done.returncode == 2)
    return 0 if done.returncode == 2 else done.returncode


def _comment(api: Api, number: int, text: str) -> None:
    """Write the one comment, or renew it. Whoever else writes the marker does not get the plan into their comment."""
    marker, login = _marker(text), api.login()
    for comment in api.all(f"issues/{number}/comments"):
        if comment["user"]["login"] == login and _marker(comment["body"]) == marker:
            if comment["body"].split() != text.split():
                api.send("PATCH", f"issues/comments/{comment['id']}", json={"body": text})
            return
    api.send("POST", f"issues/{number}/comments", json={"body": text})


def _issue(api: Api, text: str, *, drifted: bool) -> None:
    marker, login = _marker(text), api.login()
    # Pull requests are listed among the issues.
    mine = [
        issue
        for issue in api.all("issues", state="open", creator=login)
        if "pull_request" not in issue and _marker(issue["body"] or "") == marker
    ]
    if not drifted:
        for issue in mine:
            api.send("POST", f"issues/{issue['number']}/comments", json={"body": "No drift any more."})
            api.send("PATCH", f"issues/{issue['number']}", json={"state": "closed"})
    elif mine:
        api.send("PATCH", f"issues/{mine[0]['number']}", json={"body": text})
    else:
        api.send("POST", "issues", json={"title": _DRIFT_TITLE, "body": text})


def _marker(text: str) -> str:
    """The hidden last line of what reconciler wrote, "" where there is none."""
    lines = text.strip().splitlines()
    return lines[-1] if lines and lines[-1].startswith("<!-- reconciler:") else ""


def _pull_request(env: Mapping[str, str]) -> int:
    """The number of the pull request that a run is for, 0 for none."""
    try:
        event = json.loads(Path(env["GITHUB_EVENT_PATH"]).read_bytes())
        return int(event["pull_request"]["number"])
    except (KeyError, OSError, ValueError, TypeError):
        return 0


def _kind(fault: requests.RequestException) -> str:
    """What went wrong, without the request, which holds the token."""
    return f"HTTP {fault.response.status_code}" if fault.response is not None else type(fault).__name__


def _note(text: str, level: str = "warning") -> None:
    _print(f"::{level} title=reconciler::{text}\n")


def _append(path: str | None, text: str) -> None:
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


STEPS = {"validate": validate, "plan": plan, "apply": apply, "drift": drift}


def main() -> int:
    name = sys.argv[1] if len(sys.argv) == 2 else ""
    if name not in STEPS:
        _note(f"command must be one of {', '.join(STEPS)}, and is {name!r}", "error")
        return 64
    try:
        return STEPS[name](Step.from_environment(os.environ))
    except requests.RequestException as fault:
        _note(f"GitHub's API can't be used: {_kind(fault)}", "error")
    except FileNotFoundError as fault:
        _note(f"{fault.filename} is not there", "error")
    return 1


if __name__ == "__main__":
    sys.exit(main())
