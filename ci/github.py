"""The steps of the GitHub Action, each a subcommand: validate, plan, apply, drift.

The steps read the variables that GitHub sets
(https://docs.github.com/actions/reference/workflows-and-actions/variables) and the inputs of the action, which arrive
as RECONCILER_* variables. The steps deal with GitHub only: `reconciler` and `git`, which must be on the PATH, do the
rest.
"""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # a step that is cancelled during the imports ends at once

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# Python does not add the script's folder itself where PYTHONSAFEPATH is set.
sys.path.insert(0, str(Path(__file__).parent))

from apply import run_apply
from at_work import why_not_to_judge
from commit_state import given_to_apply, workspace_of
from github_api import Api, ApiError, fitted
from reconciler.model.errors import ReconcilerError
from reconciler.views.github import Annotation, Level, commands
from reviewed import Reviewed, differences, reviewed_plan

_SUMMARY_LIMIT_BYTES = 1024 * 1024 - 1024
"""GitHub's bound on a step's summary is 1 MiB."""

_DRIFT_TITLE = "Jobs have drifted"
_MARKER = re.compile(r"<!-- reconciler:[a-z]+:([0-9A-Za-z_-]+) -->")
_SHOWN = 10
"""How many differences between two plans are printed."""

_REFUSED = 4
_PENDING = 2
_IN_DOUBT = 5
_USAGE = 64


class Step(NamedTuple):
    """The input of a step: the action's inputs and the environment."""

    env: Mapping[str, str]
    paths: Sequence[str]
    options: Sequence[str]

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> "Step":
        """Read a step from the environment. Raises `ValueError` if a quotation mark in the options is not closed."""
        # RECONCILER_STATE is not turned into an option: --state would allow reconciler to start a lost state anew.
        return cls(env, shlex.split(env.get("RECONCILER_PATHS", "")), _words(env))

    @property
    def token(self) -> str:
        return self.env.get("RECONCILER_TOKEN", "")

    @property
    def ref(self) -> str:
        """The full name of the ref that the run is for, such as refs/heads/main."""
        return self.env.get("GITHUB_REF") or self.env.get("GITHUB_REF_NAME", "")

    def reconciler(self, command: str, *options: str) -> "subprocess.CompletedProcess[str]":
        """Run reconciler and capture stdout; stderr goes to the log of the step."""
        words = ["reconciler", command, *options, *self.options, "--", *self.paths]
        return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)

    def tell(self, name: str, value: str) -> None:
        """Set an output of the step to a value of one line."""
        _append(self.env.get("GITHUB_OUTPUT"), f"{name}={value}\n")

    def summarize(self, markdown: str) -> None:
        """Show Markdown on the page of the run."""
        size_bytes = len(markdown.encode())
        if size_bytes > _SUMMARY_LIMIT_BYTES:
            markdown = f"The summary of {size_bytes} bytes is too long to be shown here.\n"
        _append(self.env.get("GITHUB_STEP_SUMMARY"), markdown)

    def fresh_file(self, name: str) -> Path:
        """Return a path that no other step of this job uses."""
        return Path(tempfile.mkdtemp(prefix="reconciler-", dir=self.env.get("RUNNER_TEMP"))) / name


def validate(step: Step) -> int:
    """Check the manifest, and print its faults as annotations."""
    done = step.reconciler("validate", "--format=github")
    _print(done.stdout)
    return done.returncode


def plan(step: Step) -> int:
    """Plan, save the plan, show it on the page of the run, and keep one comment on the pull request up to date.

    A pull request from a fork has no token that may comment. The plan is then on the page of the run only.
    """
    saved = step.fresh_file("plan.json")
    done = step.reconciler("plan", "--format=markdown", "--detailed-exitcode", f"--out={saved}")
    _print(step.reconciler("plan", "--format=github").stdout)
    step.summarize(done.stdout)
    step.tell("changes", str(done.returncode == _PENDING).lower())
    step.tell("plan", str(saved) if saved.exists() else "")
    step.tell("plan-name", _plan_name(done.stdout) if saved.exists() else "")
    number = _pull_request(step.env)
    if number and step.token and done.stdout:
        try:
            _comment(Api(step.env, step.token), number, done.stdout)
        except ApiError as fault:
            reply = f" (GitHub says: {fault.message})" if fault.message else ""
            _note(
                f"the plan could not be put on the pull request ({fault.kind}): it is in the summary of this run{reply}"
            )
    return 0 if done.returncode == _PENDING else done.returncode


def apply(step: Step) -> int:
    """Apply the manifest and push the state to the branch.

    The plan that was reviewed is applied if the plan is still the same. Otherwise a new plan is made and applied.
    """
    if step.ref.startswith("refs/pull/"):
        _note(f"{step.ref} is a pull request: apply runs on a branch, once it is merged", Level.ERROR)
        return 1
    if not step.ref:
        _note("GITHUB_REF is not set: nothing says which branch this is for", Level.ERROR)
        return 1
    reviewed = _plan_to_apply(step)
    words = ["--yes", "--format=github", f"--push={step.ref}"]
    words += (
        [*_without_selection(step.options), f"--plan={reviewed}"] if reviewed else [*step.options, "--", *step.paths]
    )
    return run_apply(words, branch=step.ref, tell=lambda text: _note(text, Level.ERROR))


def drift(step: Step) -> int:
    """Look for drift; keep an issue open while there is drift, and close the issue when there is none.

    Nothing is reported while an apply is at work, since a difference is then not drift.
    """
    done = step.reconciler("drift", "--format=markdown")
    found = done.returncode in (_PENDING, _IN_DOUBT)
    if found:
        try:
            why = why_not_to_judge(workspace_of([*step.options, "--", *step.paths]), step.ref)
        except (ReconcilerError, OSError) as fault:
            why = ""
            _note(f"it is not known whether an apply is at work: {fault}")
        if why:
            _note(f"drift is not judged now: {why}", Level.NOTICE)
            step.tell("changes", "false")
            return 0
    step.summarize(done.stdout)
    step.tell("changes", str(found).lower())
    if (found or done.returncode == 0) and step.token:
        _issue(Api(step.env, step.token), done.stdout, drifted=found)
    return 0 if done.returncode == _PENDING else done.returncode


# --- the plan that was reviewed --------------------------------------------------------------------------------------


def _plan_to_apply(step: Step) -> str:
    """Make a plan and return its file if the plan equals the reviewed one; "" if it does not.

    The plan that a pull request uploaded is compared but never applied: the author of the pull request may have forged
    it.
    """
    if not step.token or any(word.startswith("--plan") for word in step.options):
        return ""
    saved = step.fresh_file("plan.json")
    options = _options_of_plan(step)
    if options is None:
        _note("planned anew: args names paths. Give them as the input paths, to apply the plan that was reviewed")
        return ""
    words = ["reconciler", "plan", "--format=markdown", f"--out={saved}", *options, "--", *step.paths]
    made = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    if made.returncode not in (0, _REFUSED) or not saved.exists():
        return ""
    ours = json.loads(saved.read_text())
    if not any(action["action"] != "noop" for action in ours["actions"]):
        return ""
    try:
        found = reviewed_plan(Api(step.env, step.token), step.env.get("GITHUB_SHA", ""), _plan_name(made.stdout))
    except ApiError as fault:
        _note(f"planned anew: the plan that was reviewed could not be had ({fault})")
        return ""
    if isinstance(found, str):
        _note(f"planned anew: {found}", Level.NOTICE)
        return ""
    return str(saved) if _is_the_same(found, ours) else ""


def _is_the_same(found: Reviewed, ours: Mapping[str, Any]) -> bool:
    differing = differences(found.plan, ours)
    if not differing:
        _note(f"this is the plan that was reviewed in #{found.number}", Level.NOTICE)
        return True
    shown = [*differing[:_SHOWN], *([f"and {len(differing) - _SHOWN} more"] if len(differing) > _SHOWN else [])]
    _note(f"planned anew: the plan that was reviewed in #{found.number} no longer fits. {'; '.join(shown)}")
    return False


def _options_of_plan(step: Step) -> list[str] | None:
    """Return the options that `plan` takes too; None if they contain paths, which belong in the input `paths`."""
    # The arguments contain the paths of the input. Otherwise `apply` would read RECONCILER_PATHS instead, and these
    # paths would look like paths among the options.
    given = given_to_apply([*step.options, "--", *step.paths])
    words = [f"--state={given['state_url']}"] if given["state_url"] else []
    words += [f"--endpoint={given['endpoint']}"] if given["endpoint"] else []
    words += [f"--target={glob}" for glob in given["targets"] or ()]
    words += [f"--exclude={glob}" for glob in given["excludes"] or ()]
    words += [f"--allow={kind}={count}" for kind, count in (given["allowed"] or {}).items()]
    words += ["--prune"] if given["prune"] else []
    return words if tuple(given["paths"]) == tuple(step.paths) else None


def _without_selection(options: Sequence[str]) -> list[str]:
    """Return the options that are allowed beside a saved plan; a saved plan itself says which jobs it covers."""
    left, words = [], iter(options)
    for word in words:
        if word in ("--target", "--exclude"):
            next(words, None)
        elif word != "--prune" and not word.startswith(("--target=", "--exclude=")):
            left.append(word)
    return left


def _plan_name(markdown: str) -> str:
    """Return the name of the artifact that keeps a plan. The name depends on the state alone."""
    found = _MARKER.findall(markdown)
    return f"reconciler-plan-{found[-1]}" if found else "reconciler-plan"


# --- comments and issues on GitHub -----------------------------------------------------------------------------------


def _comment(api: Api, number: int, text: str) -> None:
    """Write the plan as the one comment, or update that comment.

    A comment of another author is never changed, even if the comment ends with the same marker.
    """
    marker, text = _marker(text), fitted(text)
    for comment in api.all(f"issues/{number}/comments"):
        if _marker(comment.get("body")) == marker and api.is_own(comment):
            if str(comment.get("body")).split() != text.split():
                api.send("PATCH", f"issues/comments/{comment['id']}", {"body": text})
            return
    api.send("POST", f"issues/{number}/comments", {"body": text})


def _issue(api: Api, text: str, *, drifted: bool) -> None:
    marker, text = _marker(text), fitted(text)
    # GitHub lists pull requests among the issues. The last run that found drift updated the issue.
    listed = api.all("issues", state="open", sort="updated", direction="desc")
    mine: Iterator[dict[str, Any]] = (
        issue
        for issue in listed
        if "pull_request" not in issue and _marker(issue.get("body")) == marker and api.is_own(issue)
    )
    if not drifted:
        for issue in mine:
            api.send("POST", f"issues/{issue['number']}/comments", {"body": "No drift any more."})
            api.send("PATCH", f"issues/{issue['number']}", {"state": "closed"})
    elif open_one := next(mine, None):
        api.send("PATCH", f"issues/{open_one['number']}", {"body": text})
    else:
        api.send("POST", "issues", {"title": _DRIFT_TITLE, "body": text})


def _marker(text: object) -> str:
    """Return the hidden last line of a text that reconciler wrote, "" for any other text."""
    lines = text.strip().splitlines() if isinstance(text, str) else []
    return lines[-1] if lines and lines[-1].startswith("<!-- reconciler:") else ""


def _pull_request(env: Mapping[str, str]) -> int:
    """Return the number of the pull request that a run is for, 0 if there is none."""
    try:
        event = json.loads(Path(env["GITHUB_EVENT_PATH"]).read_bytes())
        return int(event["pull_request"]["number"])
    except (KeyError, OSError, ValueError, TypeError):
        return 0


def _words(env: Mapping[str, str]) -> list[str]:
    return shlex.split(env.get("RECONCILER_ARGS", ""))


def _note(text: str, level: Level = Level.WARNING) -> None:
    _print("".join(f"{line}\n" for line in commands([Annotation(level, "reconciler", text)])))


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
        _note(f"command must be one of {', '.join(STEPS)}, and is {name!r}", Level.ERROR)
        return _USAGE
    try:
        return STEPS[name](Step.from_environment(os.environ))
    except ApiError as fault:
        _note(f"GitHub's API can't be used: {fault}", Level.ERROR)
    except ValueError as fault:
        _note(f"args and paths can't be read: {fault}", Level.ERROR)
    except FileNotFoundError as fault:
        _note(f"{fault.filename} is not there", Level.ERROR)
    return 1


if __name__ == "__main__":
    sys.exit(main())
