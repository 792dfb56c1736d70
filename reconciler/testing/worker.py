"""A program that holds a state and makes the calls of its jobs, for the tests of a home of state.

    python -m reconciler.testing.worker ERRAND

The errand is JSON, see `Errand`. The program settles the calls that are in doubt, and then makes one call for each job
that has no record. To make a call is to append a line to the ledger. So each job is called once, whatever happens to
the programs, unless the home of state breaks its promise.

The program writes lines of JSON to its standard output: one at each point that it was asked to stop at, after which it
waits for a line on its standard input, and one at its end. While it waits, none of its threads is between the last
check and a call. A program that is stopped there for long calls late, which no home of state can prevent
(`reconciler.state.lease`).
"""

import importlib
import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, NamedTuple

from reconciler.model.errors import LockTaken, StateError
from reconciler.model.history import APPLIED, NOT_APPLIED, OBSERVED, Details
from reconciler.model.jobs import EMPTY, Desired, Doubt, Record, Target, Verb
from reconciler.state.journal import JournalBroken, Overtaken
from reconciler.state.port import StatePlugin, Store
from reconciler.state.registry import plugin_of
from reconciler.state.session import Session
from reconciler.testing.ledger import Kind, Ledger, Line
from reconciler.testing.machines import Machine

TARGET = Target("ledger", "https://ledger.example")
"""The target of the states of the suites."""


class Point(StrEnum):
    """Where a program can be made to wait.

    BEGUN      the program opens the state next
    OPENED     the session is open, and nothing was intended
    INTENDED   the intent of a call was acknowledged, and the call is not made
    CALLED     the call was made, and its result is not recorded
    CONCLUDED  the result was recorded, and the session goes on
    CLOSING    all results were recorded, and the session is still open
    CLOSED     the session was left
    """

    BEGUN = "begun"
    OPENED = "opened"
    INTENDED = "intended"
    CALLED = "called"
    CONCLUDED = "concluded"
    CLOSING = "closing"
    CLOSED = "closed"


class End(StrEnum):
    """How a program ended.

    CLOSED     the session was left without an error
    LOCKED     another session held the state
    OVERTAKEN  another session wrote the state, so this one gave up
    BROKEN     the state could not be written
    REFUSED    the state could not be opened
    """

    CLOSED = "closed"
    LOCKED = "locked"
    OVERTAKEN = "overtaken"
    BROKEN = "broken"
    REFUSED = "refused"


class Errand(NamedTuple):
    """What a program is to do.

    `plugin` is `MODULE:NAME` of a `StatePlugin`; "" finds the plugin by the URL. `machine` are the fields of the
    `Machine`. The program makes the calls of the jobs `job-0`, `job-1` and so on, `jobs` in number, as many at once as
    the store asks for, but not more than `at_once`. A call takes `call_s` seconds. The program waits `lock_s` seconds
    of its machine for the state, and pauses at the `turn`-th time that it comes to the point `pause_at`.
    """

    url: str
    ledger: str
    machine: Sequence[Any]
    plugin: str = ""
    jobs: int = 8
    at_once: int = 8
    call_s: float = 0.0
    lock_s: float = 600.0
    pause_at: str = ""
    turn: int = 1


def plugin_at(reference: str, url: str) -> StatePlugin:
    """Return the plugin that `MODULE:NAME` names, or else the one that takes the URL."""
    plugin: StatePlugin = imported(reference) if reference else plugin_of(url)
    return plugin


def imported(reference: str) -> Any:
    """Return the object that `MODULE:NAME` names."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


class Worker:
    """One program at work on its errand."""

    def __init__(self, errand: Errand) -> None:
        self._errand = errand
        self._machine = Machine(*errand.machine)
        self._ledger = Ledger(errand.ledger)
        self._session_id = f"{self._machine.name}-{os.getpid()}"
        self._turn = threading.Lock()
        self._times_at_point = 0
        self._sending = 0
        self._may_send = threading.Condition()
        """Notified when `_sending` or `_waits` changes."""
        self._waits = False
        self._holds = False
        self.calls = 0
        self.settled = 0

    def work(self, store: Store) -> None:
        """Open the state, do the errand, and leave the state. Raises the errors of `Store.open`."""
        self._reach(Point.BEGUN)
        with store.open(TARGET, "apply", self._errand.lock_s) as session:
            opened = session.state
            self._reach(Point.OPENED, is_local=session.is_local)
            self._settle(session)
            names = [name for number in range(self._errand.jobs) if _is_due(session, name := f"job-{number}")]
            self._call_all(session, names, (opened.serial, opened.lineage))
            self._reach(Point.CLOSING)
            # The last write of the session raises the serial once at most.
            closed = session.state
        self._ledger.write(Line(Kind.CLOSED, self._session_id, serial=closed.serial, lineage=closed.lineage))
        self._reach(Point.CLOSED)

    def _settle(self, session: Session) -> None:
        """Settle each call in doubt by a look into the ledger."""
        for name, record in session.state.jobs.items():
            if record.doubt is None:
                continue
            was_made = self._ledger.has_call(record.doubt.op)
            after = _running(record.id) if was_made else None
            details = Details(APPLIED if was_made else NOT_APPLIED, reason=OBSERVED + "the ledger was read")
            session.conclude(record.doubt.op, name, after, "the ledger was read", details)
            self.settled += 1

    def _call_all(self, session: Session, names: Sequence[str], opened: tuple[int, str]) -> None:
        threads = min(len(names), self._errand.at_once, session.threads(self._errand.at_once))
        if not names:
            return
        session.begin(len(names))
        with ThreadPoolExecutor(max(1, threads)) as pool:
            for done in [pool.submit(self._call, session, name, opened) for name in names]:
                done.result()

    def _call(self, session: Session, name: str, opened: tuple[int, str]) -> None:
        op = str(uuid.uuid4())
        doubt = Doubt(op, Verb.RUN, EMPTY, None, None, self._now(), "")
        try:
            session.intend(name, name, doubt, "the manifest asks for it")
            self._hold(opened)
            self._reach(Point.INTENDED, name)
            with self._checked_and_called():
                if not session.assure():
                    return
                self._ledger.write(Line(Kind.CALLED, self._session_id, name, op))
            with self._turn:
                self.calls += 1
            self._reach(Point.CALLED, name)
            time.sleep(self._errand.call_s)
            session.conclude(op, name, _running(name), "ok", Details())
            self._reach(Point.CONCLUDED, name)
        finally:
            session.end()

    def _hold(self, opened: tuple[int, str]) -> None:
        with self._turn:
            if not self._holds:
                self._holds = True
                self._ledger.write(Line(Kind.HELD, self._session_id, serial=opened[0], lineage=opened[1]))

    def _reach(self, point: Point, job: str = "", **more: object) -> None:
        """Report the point, and wait for a line from the program that started this one, if so asked."""
        with self._turn:
            if point == self._errand.pause_at:
                self._times_at_point += 1
            is_pause = point == self._errand.pause_at and self._times_at_point == self._errand.turn
        if is_pause:
            with self._may_send:
                self._waits = True
                self._may_send.wait_for(lambda: not self._sending)
        if point in (Point.BEGUN, Point.OPENED) or is_pause:
            say({"at": point.value, "job": job, **more})
        if is_pause:
            os.read(0, 1)
            with self._may_send:
                self._waits = False
                self._may_send.notify_all()

    @contextmanager
    def _checked_and_called(self) -> Iterator[None]:
        """Surround the last check and the call. Waits while another thread is at a point."""
        with self._may_send:
            self._may_send.wait_for(lambda: not self._waits)
            self._sending += 1
        try:
            yield
        finally:
            with self._may_send:
                self._sending -= 1
                self._may_send.notify_all()

    def _now(self) -> str:
        return self._machine.surroundings({}).now()


def say(line: dict[str, object]) -> None:
    """Write one line to the program that started this one."""
    os.write(1, json.dumps(line).encode() + b"\n")


def main(argument: str) -> None:
    """Do the errand, and report its end."""
    errand = Errand(**json.loads(argument))
    worker = Worker(errand)
    end, message = End.CLOSED, ""
    try:
        around = Machine(*errand.machine).surroundings(dict(os.environ))
        worker.work(plugin_at(errand.plugin, errand.url).open(errand.url, around))
    except LockTaken as fault:
        end, message = End.LOCKED, str(fault)
    except Overtaken as fault:
        end, message = End.OVERTAKEN, str(fault)
    except JournalBroken as fault:
        end, message = End.BROKEN, str(fault)
    except StateError as fault:
        end, message = End.REFUSED, str(fault)
    say({"end": end.value, "message": message, "calls": worker.calls, "settled": worker.settled})


def _is_due(session: Session, name: str) -> bool:
    return session.record_of(name) is None


def _running(job_id: str) -> Record:
    return Record(job_id, Desired.RUNNING)


if __name__ == "__main__":
    main(sys.argv[1])
