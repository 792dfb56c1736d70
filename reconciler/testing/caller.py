"""A program that makes one call to an engine, with its intent and its result on record, for tests with kills.

    python -m reconciler.testing.caller ERRAND

The errand is JSON, see `Errand`. The program does what an apply does for one job: stage, intent, send, result. It
writes a line of JSON to its standard output at each point, and waits for a line on its standard input at the points
that the errand names.
"""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from reconciler.engines.port import AnswerClass, Engine, EnginePlugin, Marks, Step, Surroundings, Verb
from reconciler.engines.registry import plugin as plugin_named
from reconciler.host.clocks import boot_s
from reconciler.model.history import Details
from reconciler.model.jobs import Desired, Doubt, Record
from reconciler.state.registry import plugin_of
from reconciler.state.session import Session
from reconciler.testing.machines import Machine
from reconciler.testing.worker import TARGET, imported, say


class Point(StrEnum):
    """The points of one call.

    STAGED     the harmless work that comes first is done
    INTENDED   the intent of the call is on record
    SENDING    the engine asks whether the call may leave, and sends it next
    SENT       the engine has returned the answer
    CONCLUDED  the result is on record
    """

    STAGED = "staged"
    INTENDED = "intended"
    SENDING = "sending"
    SENT = "sent"
    CONCLUDED = "concluded"


class Errand(NamedTuple):
    """What a program is to do.

    `plugin` is `MODULE:NAME` of an `EnginePlugin`; "" finds the plugin by the name of the engine in `block`, the
    `target:` block. `step` are the fields of the `Step` to send. The record of the call is in the file `state`.
    """

    block: Mapping[str, Any]
    beside_state: str
    step: Sequence[Any]
    state: str
    folder: str
    plugin: str = ""
    pause_at: str = ""


def engine_plugin_at(reference: str, name: str) -> EnginePlugin:
    """Return the plugin that `MODULE:NAME` names, or else the one with the name of an engine."""
    found: EnginePlugin | None = imported(reference) if reference else plugin_named(name)
    if found is None:
        raise LookupError(f"no engine is installed by the name {name}: give MODULE:NAME of its plugin")
    return found


def step_from(fields: Sequence[Any]) -> Step:
    """Return the step that JSON holds."""
    step = Step(*fields)
    return step._replace(verb=Verb(step.verb), marks=Marks(*step.marks), after=tuple(step.after))


class Caller:
    """One program at work on its errand."""

    def __init__(self, errand: Errand) -> None:
        self._errand = errand
        self._step = step_from(errand.step)

    def call(self, engine: Engine) -> AnswerClass:
        """Make the call, and record it. Returns the class of the answer."""
        machine = Machine("caller", self._errand.folder)
        store = plugin_of(self._errand.state).open(self._errand.state, machine.surroundings({}))
        step = self._step
        with store.open(TARGET, "apply", 0.0) as session:
            step = step._replace(staged=engine.stage(step))
            self._reach(Point.STAGED)
            doubt = Doubt(step.marks.op, step.verb, step.config, None, None, "2026-01-02T03:04:05Z", "")
            session.intend(step.job_id, step.job_id, doubt)
            self._reach(Point.INTENDED)
            result = engine.send(step, lambda: self._may_be_sent(session))
            self._reach(Point.SENT)
            record = Record(step.job_id, Desired.RUNNING) if result.kind is AnswerClass.APPLIED else None
            session.conclude(step.marks.op, step.job_id, record, result.words, Details())
            self._reach(Point.CONCLUDED)
        return result.kind

    def _may_be_sent(self, session: Session) -> bool:
        self._reach(Point.SENDING)
        return session.assure()

    def _reach(self, point: Point) -> None:
        say({"at": point.value})
        if point == self._errand.pause_at:
            os.read(0, 1)


def main(argument: str) -> None:
    """Do the errand, and report the class of the answer."""
    errand = Errand(**json.loads(argument))
    plugin = engine_plugin_at(errand.plugin, errand.block["engine"])
    around = Surroundings(
        env=dict(os.environ),
        pause=lambda seconds: False,
        note_credential=lambda credential: None,
        boot_s=boot_s,
        wall_s=time.time,
        parallelism=1,
        max_rps=None,
        beside_state=errand.beside_state,
    )
    with plugin.open(plugin.target(errand.block, errand.folder), around) as engine:
        kind = Caller(errand).call(engine)
    say({"end": kind.value})


if __name__ == "__main__":
    main(sys.argv[1])
