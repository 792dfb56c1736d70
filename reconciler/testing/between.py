"""An engine that stands between the tool and the engine under test. It loses answers, and refuses calls and reads.

The real program loads this module as a plugin with the name `between`. The variable `SCRIPT` names a file of JSON that
says which engine is behind, and what becomes of the calls and of the reads of each job: see `Script`. The file is read
once for each program. Each call that leaves adds a line to the file `log` of the script.
"""

import json
import os
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from reconciler.engines.port import (
    AnswerClass,
    CredentialsError,
    Engine,
    EngineError,
    EnginePlugin,
    Observation,
    Reason,
    Result,
    Step,
    Surroundings,
    Target,
    always,
)
from reconciler.testing.caller import engine_plugin_at

NAME = "between"
"""The name of the plugin, as the target of a manifest has it."""

SCRIPT = "CONTRACT_ENGINE_BETWEEN"
"""The environment variable with the path of the script."""

PASSED = "passed"
"""A call reaches the engine, and its answer comes back."""

LOST = "lost"
"""A call reaches the engine, and its answer is lost."""


class Script(NamedTuple):
    """What becomes of the calls of one program.

    `engine` and `plugin` find the plugin behind, as `engine_plugin_at` does. `sends` has, for each job id, what becomes
    of its calls in order: `PASSED`, `LOST`, or the value of a `Reason` to refuse the call for. The last word stands for
    all later calls. A job whose reads are `refused` can't be read once a call for it was made in this program, or from
    the beginning on if `refused_from_start`. `log` is the path of a file.
    """

    engine: str
    plugin: str
    beside_state: str
    log: str
    sends: Mapping[str, list[str]]
    refused: bool
    refused_from_start: bool


class Sent(NamedTuple):
    """One call that left: what became of it, its verb, its job and its run id."""

    word: str
    verb: str
    job_id: str
    run_id: str


def sent_in(log: Path) -> list[Sent]:
    """Return the calls of a log, in order; [] without a file."""
    lines = log.read_text("utf-8").splitlines() if log.exists() else []
    return [Sent(*json.loads(line)) for line in lines]


def installed_in(folder: Path, path: str) -> str:
    """Make the plugin known to programs that have the folder on their path. Returns the value of PYTHONPATH.

    The programs find what is on `path`, and then what this program finds.
    """
    metadata = folder / "reconciler_contract_between-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: reconciler-contract-between\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[reconciler.engines]\n{NAME} = {__name__}:PLUGIN\n")
    return os.pathsep.join([str(folder), *filter(None, [path, *sys.path])])


class PluginBetween:
    """The plugin of an engine under another name. What is not defined here is that of the plugin behind."""

    name = NAME

    def __init__(self, script: Script, behind: EnginePlugin) -> None:
        self._script = script
        self._behind = behind

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._behind, name)
        if not callable(found):
            return found
        return lambda *arguments: found(*map(self._as_behind, arguments))

    def target(self, block: Mapping[str, Any], folder: str) -> Target:
        """Return the target of the engine behind, under the name of this plugin."""
        return self._behind.target({**block, "engine": self._behind.name}, folder)._replace(engine=NAME)

    def open(self, target: Target, surroundings: Surroundings) -> AbstractContextManager[Engine]:
        """Return the engine behind, with this one before it."""
        return self._opened(self._as_behind(target), surroundings._replace(beside_state=self._script.beside_state))

    @contextmanager
    def _opened(self, target: Target, surroundings: Surroundings) -> Iterator[Any]:
        with self._behind.open(target, surroundings) as engine:
            yield EngineBetween(self._script, engine)

    def _as_behind(self, argument: Any) -> Any:
        return argument._replace(engine=self._behind.name) if isinstance(argument, Target) else argument


class EngineBetween:
    """The engine that a script stands before. What is not defined here is that of the engine behind."""

    def __init__(self, script: Script, behind: Engine) -> None:
        self._script = script
        self._behind = behind
        self._turn = threading.Lock()
        self._words = {job_id: list(words) for job_id, words in script.sends.items()}
        self._called: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        """Read a job, unless its reads are refused."""
        self._read(job_id)
        return self._behind.observe(job_id, run_id)

    def observe_many(self, job_ids: Collection[str]) -> Mapping[str, Observation]:
        """Read jobs, unless the reads of one of them are refused."""
        for job_id in job_ids:
            self._read(job_id)
        return self._behind.observe_many(job_ids)

    def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
        """Send a call, and do with it what the script says."""
        with self._turn:
            words = self._words.get(step.job_id) or [PASSED]
            word = words.pop(0) if len(words) > 1 else words[0]
            self._called.add(step.job_id)

        def leaves() -> bool:
            if not may_be_sent():
                return False
            self._note(Sent(word, step.verb.value, step.job_id, step.run_id))
            return True

        if word not in (PASSED, LOST):
            return Result(AnswerClass.REJECTED, Reason(word), f"refused: {word}") if leaves() else _HELD_BACK
        result = self._behind.send(step, leaves)
        is_lost = word == LOST and result.kind is not AnswerClass.NOT_SENT
        return Result(AnswerClass.IN_DOUBT, message="the answer was lost") if is_lost else result

    def _read(self, job_id: str) -> None:
        words = self._words.get(job_id, ())
        if self._script.refused and (self._script.refused_from_start or job_id in self._called):
            if Reason.NOT_AUTHENTICATED in words:
                raise CredentialsError("the service does not accept the credentials")
            raise EngineError("the service refuses reads")

    def _note(self, sent: Sent) -> None:
        with self._turn, open(self._script.log, "a", encoding="utf-8") as log:
            log.write(json.dumps(sent) + "\n")


_HELD_BACK = Result(AnswerClass.NOT_SENT, message="held back")


def __getattr__(name: str) -> Any:
    """Return the plugin that the script names."""
    if name != "PLUGIN":
        raise AttributeError(name)
    script = Script(**json.loads(Path(os.environ[SCRIPT]).read_text("utf-8")))
    return PluginBetween(script, engine_plugin_at(script.plugin, script.engine))
