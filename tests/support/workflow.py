"""Play a GitHub workflow as GitHub's runner does: conditions, matrices, outputs, the Action, and the scripts."""

import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from checkout import ROOT
from forge import Checkout, Forge, git
from github_server import API_TOKEN, GitHub

_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_TOKEN = re.compile(r"'[^']*'|&&|\|\||[!=]=|[!()]|[\w.*-]+")


class Event(NamedTuple):
    """The event that starts a workflow: its name, its ref and commit, and its other fields."""

    name: str
    ref: str
    sha: str
    payload: Mapping[str, Any] = {}


class Played(NamedTuple):
    """A job that ran: its name, whether it succeeded, and its output."""

    job: str
    succeeded: bool
    output: str


def play(file: Path, event: Event, place: Forge, hub: GitHub, env: Mapping[str, str]) -> list[Played]:
    """Run the jobs of a workflow that the event starts, once for each entry of their matrix."""
    workflow = yaml.safe_load(file.read_text())
    triggers = workflow[True]  # YAML 1.1 reads the key `on` as true.
    assert event.name in triggers
    played = []
    for name, job in workflow["jobs"].items():
        context = {"github": _github(event), "secrets": dict(env), "matrix": {}, "steps": {}}
        if _value(f"${{{{ {job.get('if', 'true')} }}}}", context) not in (True, "true"):
            continue
        axes = job.get("strategy", {}).get("matrix", {})
        for values in itertools.product(*axes.values()):
            leg = {**context, "matrix": dict(zip(axes, values, strict=True)), "steps": {}}
            played.append(_Job(name, leg, event, place, hub).run(job["steps"]))
    return played


class _Job:
    def __init__(self, name: str, context: dict[str, Any], event: Event, place: Forge, hub: GitHub) -> None:
        self._name, self._context, self._event, self._place, self._hub = name, context, event, place, hub
        self._output: list[str] = []
        self._ok = True
        self._checkout: Checkout | None = None

    def run(self, steps: list[dict[str, Any]]) -> Played:
        for step in steps:
            self._step(step, self._context, {})
        return Played(self._name, self._ok, "".join(self._output))

    def _step(self, step: dict[str, Any], context: dict[str, Any], env: Mapping[str, str]) -> None:
        if not self._ok or str(_value(f"${{{{ {step.get('if', 'true')} }}}}", context)).lower() in ("false", ""):
            return
        options = {name: str(_value(text, context)) for name, text in step.get("with", {}).items()}
        own = {name: str(_value(text, context)) for name, text in step.get("env", {}).items()}
        outputs: dict[str, str] = {}
        uses = step.get("uses", "").split("@")[0]
        match uses:
            case "actions/checkout":
                self._check_out(options)
            case "actions/setup-python":
                outputs = {"python-path": sys.executable}
            case "actions/cache":
                pass
            case "actions/upload-artifact":
                head = self._event.payload.get("pull_request", {}).get("head", {}).get("sha", self._event.sha)
                self._hub.keep(options["name"], head, Path(options["path"]).read_text())
            case "OWNER/reconciler":
                outputs = self._action(options, {**env, **own})
            case "":
                outputs = self._script(step, {**env, **own}, context)
            case _:
                raise AssertionError(f"nobody plays {uses}")
        if "id" in step:
            context["steps"][step["id"]] = {"outputs": outputs}

    def _check_out(self, options: Mapping[str, str]) -> None:
        """Check out the newest commit of the given ref, or else the commit of the event."""
        checkout = self._checkout = self._place.checkout()
        git(checkout.folder, "fetch", "-q", f"--depth={options.get('fetch-depth', '1')}", "origin",
            options.get("ref") or self._event.sha)  # fmt: skip
        git(checkout.folder, "checkout", "-q", "--detach", "FETCH_HEAD")
        # The package that the Action would install is already installed.
        binaries = checkout.home / "reconciler" / "bin"
        binaries.mkdir(parents=True)
        for name, words in (("python", '"$@"'), ("reconciler", '-m reconciler "$@"')):
            (binaries / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}\n')
            (binaries / name).chmod(0o755)

    def _action(self, options: Mapping[str, str], env: Mapping[str, str]) -> dict[str, str]:
        action = yaml.safe_load((ROOT / "action.yml").read_text())
        assert set(options) <= set(action["inputs"])
        inputs = {
            name: options.get(name, str(_value(declared.get("default", ""), self._context)))
            for name, declared in action["inputs"].items()
        }
        context = {**self._context, "inputs": inputs, "steps": {}}
        for step in action["runs"]["steps"]:
            self._step(step, context, env)
        return {name: str(_value(declared["value"], context)) for name, declared in action["outputs"].items()}

    def _script(self, step: Mapping[str, Any], env: Mapping[str, str], context: dict[str, Any]) -> dict[str, str]:
        checkout = self._checkout
        assert checkout is not None, "a script before the checkout"
        home = checkout.home
        output = Path(tempfile.mkdtemp(dir=home)) / "output"
        (home / "event.json").write_text(json.dumps(self._event.payload))
        folder = checkout.folder / str(_value(step.get("working-directory", "."), context))
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]],
            cwd=folder,
            env={
                **checkout.env,
                "PATH": os.environ["PATH"],
                "GITHUB_ACTIONS": "true",
                "GITHUB_ACTION_PATH": str(ROOT),
                "GITHUB_API_URL": self._hub.url,
                "GITHUB_EVENT_NAME": self._event.name,
                "GITHUB_EVENT_PATH": str(home / "event.json"),
                "GITHUB_OUTPUT": str(output),
                "GITHUB_REF": self._event.ref,
                "GITHUB_REPOSITORY": "team/jobs",
                "GITHUB_SHA": self._event.sha,
                "GITHUB_STEP_SUMMARY": str(home / "summary"),
                "GITHUB_WORKSPACE": str(checkout.folder),
                "RUNNER_ARCH": "X64",
                "RUNNER_OS": "Linux",
                "RUNNER_TEMP": str(home),
                **env,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self._output += [done.stdout, done.stderr]
        self._ok = done.returncode == 0
        lines = output.read_text().splitlines() if output.exists() else []
        return dict(line.split("=", 1) for line in lines)


def _github(event: Event) -> dict[str, Any]:
    return {
        "event_name": event.name,
        "ref": event.ref,
        "sha": event.sha,
        "token": API_TOKEN,
        "event": event.payload,
    }


def _value(text: object, context: Mapping[str, Any]) -> Any:
    """Replace the expressions in a text; if the text is a single expression, return its value unchanged."""
    if not isinstance(text, str):
        return str(text).lower() if isinstance(text, bool) else text
    whole = _EXPRESSION.fullmatch(text.strip())
    if whole:
        return _evaluate(whole[1], context)
    return _EXPRESSION.sub(lambda found: str(_evaluate(found[1], context)), text)


def _evaluate(text: str, context: Mapping[str, Any]) -> Any:
    words = {"&&": " and ", "||": " or ", "!": " not ", "==": "==", "!=": "!=", "(": "(", ")": ")"}
    values: list[Any] = []

    def translated() -> Iterator[str]:
        for token in _TOKEN.findall(text):
            if token in words:
                yield words[token]
            else:
                values.append(_looked_up(token, context))
                yield f"values[{len(values) - 1}]"

    return eval("".join(translated()), {"__builtins__": {}}, {"values": values})


def _looked_up(token: str, context: Mapping[str, Any]) -> Any:
    if token.startswith("'"):
        return token[1:-1]
    if token in ("true", "false"):
        return token == "true"
    found: Any = context
    for name in token.split("."):
        found = found.get(name, "") if isinstance(found, Mapping) else ""
    return found
