"""A model of months with the tool: edits, applies, crashes, faults, other people, lost and old states.

After every step two rules must hold. No job is executed more often than a person asked for. Every execution has a
result or an open intent on record. The service's ledger and the model's own account of the person's wishes judge both
rules. The real planner, applier, journal and state run on a disk, a clock and a service in memory.

    python tests/campaigns/model.py --sequences 100000 --jobs 2 [--seed N]
"""

import argparse
import json
import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from hashlib import sha256
from random import SystemRandom
from time import monotonic
from traceback import format_exc
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

import tally
from model_account import Account
from model_world import (
    HISTORY,
    HONEST,
    JOURNAL,
    LOCK,
    MARKS,
    SETTLE_S,
    STATE,
    TARGET,
    Done,
    Ended,
    How,
    ModelWorld,
    OddAnswer,
)
from reconciler.engines.bytenite.plugin import PLUGIN
from reconciler.engines.sandbox.life import Job as ServerJob
from reconciler.engines.sandbox.life import JobState
from reconciler.model.errors import ExitCode, ReconcilerError, Refused, StateError
from reconciler.model.jobs import EMPTY, Config, Desired, Freeze, Job, OnConfigChange, Record, State, Verb, title
from reconciler.model.outcomes import ActionOutcome, Outcome
from reconciler.model.plan import Action, ActionKind, Plan, Request
from reconciler.rules.circles import circles_in
from reconciler.rules.configs import agrees

STEPS = 10
INSTANT_S = 0.0001
"""Times that differ by less are equal, since a time is written with microseconds and read again."""

NAMES = ("a", "a", "a", "b", "c", "a@a1", "a@a2", "b@b1")
IDS_OF = {name: (f"{name}1", f"{name}2") for name in "abcd"} | {
    name: (f"q{number}", f"r{number}") for number, name in enumerate(("a@a1", "a@a2", "b@b1"))
}
"""The ids that a job of each name may have.

Some names look like a name with an id, as a person may choose such names.
"""
IDS = tuple(job_id for name in dict.fromkeys(NAMES) for job_id in IDS_OF[name])
CONFIGS: tuple[Config, ...] = ({"taskTimeout": 60}, {"taskTimeout": 90, "isTestJob": False}, {"jobTimeout": 20})

# Edits of one job's block: the field, and its new value.
Edit = tuple[str, Any]
EDITS: tuple[Edit, ...] = (
    ("state", Desired.RUNNING),
    ("state", Desired.RUNNING),
    ("state", Desired.ABORTED),
    ("state", Desired.ABSENT),
    *(("config", number) for number in range(len(CONFIGS))),
    *(("token", token) for token in ("monday", "tuesday", "monday", "tuesday", "monday", "tuesday", None)),
    *(("mode", mode) for mode in (*OnConfigChange, OnConfigChange.RERUN)),
    ("rerun_on", ("config.taskTimeout",)),
    ("rerun_on", ()),
    ("protect", True),
    ("protect", False),
    ("protect", None),
    ("freeze", Freeze("a freeze")),
    ("freeze", None),
    ("ignore", ("config.taskTimeout",)),
    ("after", "a"),
    ("after", "b"),
    ("after", ""),
    ("remove", None),
    ("rename", "a"),
    ("rename", "d"),
    ("rename", "a@a1"),
    ("id", 0),
    ("id", 1),
    ("swap-names", ""),
    ("swap-ids", ""),
    ("turn-names", 1),
    ("turn-names", 2),
    ("revert", 1),
    ("revert", 3),
)

NAMING: tuple[Edit, ...] = (
    *(("rename", name) for name in ("d", "a@a1", "a@a2", "b@b1")),
    ("id", 0),
    ("id", 1),
    ("swap-names", ""),
    ("swap-ids", ""),
    ("turn-names", 1),
    ("revert", 1),
)
"""Edits that give records other names, or names other records."""

SAY_NOTHING: tuple[bytes, ...] = (
    b"{}",
    b'{"code":16,"message":"unauthenticated"}',
    b'{"errors":[{"message":"no"}]}',
    b'{"success":false}',
    b'{"ok":null,"requestId":"1"}',
    b'{"requestId":"1","message":"queued"}',
    b'{"job":{"id":"another","state":"JOB_STATE_RUNNING"}}',
    b'{"ok":"true"}',
    b'{"ok":1}',
    b'{"ok":false,"ok":true}',
)
"""Bodies of a 200 that do not say that the call was carried out."""

UNDOING: tuple[Edit, ...] = (
    ("state", Desired.ABORTED),
    ("state", Desired.ABSENT),
    ("config", 1),
    ("token", "tuesday"),
    ("remove", None),
)
"""Edits that lead to an abort, a restart or a delete."""

TAKEN_AWAY: tuple[tuple[str, ...], ...] = (
    (LOCK,),
    (JOURNAL,),
    (LOCK, JOURNAL),
    (STATE,),
    (STATE, JOURNAL, LOCK),
)
"""The files that someone removes from the folder of a state."""

Doctoring = Callable[[Plan], Plan]
"""An edit of a plan file."""


def _with_calls(plan: Plan) -> Plan:
    """Give each action a call that runs its job."""
    return _each(
        plan,
        lambda action: action._replace(
            kind=ActionKind.RUN, calls=(Request(Verb.RUN, f"POST /jobs/{action.id}/run", {"config": {}}),), error=""
        ),
    )


def _with_other_jobs(plan: Plan) -> Plan:
    """Give each action the job of the next action."""
    of = plan.actions
    turned = {action.job: of[(at + 1) % len(of)] for at, action in enumerate(of)}
    return _each(plan, lambda action: action._replace(job=turned[action.job].job))


def _each(plan: Plan, edited: Callable[[Action], Action]) -> Plan:
    return plan._replace(actions=tuple(map(edited, plan.actions)))


DOCTORING: tuple[Doctoring, ...] = (
    lambda plan: plan._replace(allowed={"delete": 99, "abort": 99, "restart": 99}),
    lambda plan: plan._replace(allowed={"delete": 99, "abort": 99}, narrowed=None, undeclared=()),
    lambda plan: _each(plan, lambda action: action._replace(kind=ActionKind.RUN)),
    _with_calls,
    _with_other_jobs,
)

# What may go wrong at the service. The service never lies: it does not answer "done" for a call that was not done, or
# "not done" for a call that was.
_LOST = ("500", "502", "503", "504", "reset", "close", "truncated", "html", "empty", "garbage", "wrong-type", "302")
_REFUSED = ("401", "403", "429", "not-ok", "error-in-200")
FAULTS: tuple[str, ...] = (
    *(f"{verb}:{kind}{when}" for verb in Verb for kind in _LOST for when in ("", ":after")),
    *(f"{verb}:{kind}" for verb in Verb for kind in _REFUSED),
    "run:400",
    "run:404",
    *(
        f"run:503{when}:retry-after={advised}"
        for when in ("", ":after")
        for advised in ("0", "5", "1000000000", "soon")
    ),
    *(f"read:{kind}" for kind in ("503", "429", "401", "403", "reset", "truncated", "html", "empty", "wrong-type")),
    *(f"any:{kind}" for kind in ("503", "reset", "hang")),
    *(f"{verb}:slow:seconds=100" for verb in (*Verb, "read")),
    *["read:stale"] * 8,
    "run:fail",
)
TIMES = (1, 2, 3, 9)


class Months(RuleBasedStateMachine):
    """The state machine; one instance is one history."""

    def __init__(self) -> None:
        super().__init__()
        self.world = ModelWorld()
        self.account = Account()
        self.jobs: dict[str, Job] = {}
        self.drafts: list[dict[str, Job]] = []
        self.versions: list[bytes] = []
        self.saved: Plan | None = None
        self.judged_until = 0
        self.counted_until = 0
        """How many executions the account holds already. A pull makes the model check some of them once more."""
        self.doubts: dict[str, Record] = {}
        self.disturbed: set[str] = set()
        self.lagged: set[str] = set()
        """Jobs that may be held because a read or a record was old.

        The model does not demand a run that these jobs still lack.
        """

    # The steps

    @initialize(
        reads=st.sampled_from((True, True, True, False)),
        create_missing=st.booleans(),
        job_seconds=st.sampled_from((30.0, 5000.0)),
        lenient=st.booleans(),
        drain_s=st.sampled_from((0.0, 0.0, 20.0, 200.0)),
        notes_after_s=st.sampled_from((None, None, 0.5, 70.0)),
        wordings=st.booleans(),
        lists=st.booleans(),
        creates=st.booleans(),
    )
    def start(self, **service: Any) -> None:
        creates = service.get("creates", False)
        create_missing = service["create_missing"] and not creates
        self.world = ModelWorld(**{**service, "create_missing": create_missing})
        if not create_missing and not creates:
            for job_id in IDS[:-1]:
                self.world.add_job(ServerJob(job_id, created_at=self.world.clock()))
        self._edit("a", ("state", Desired.RUNNING))

    @rule(name=st.sampled_from(NAMES), edit=st.sampled_from(EDITS))
    def edit(self, name: str, edit: Edit) -> None:
        self._edit(name, edit)

    @rule(name=st.sampled_from(NAMES), edit=st.sampled_from(EDITS))
    def edit_and_apply(self, name: str, edit: Edit) -> None:
        self._edit(name, edit)
        self._apply()

    @rule(name=st.sampled_from(NAMES), edit=st.sampled_from(EDITS), crash_at=st.integers(0, 45))
    def edit_and_crash(self, name: str, edit: Edit, crash_at: int) -> None:
        self._edit(name, edit)
        self._apply(How(crash_at=crash_at))

    @rule(
        name=st.sampled_from(NAMES),
        edit=st.sampled_from(EDITS),
        fault=st.sampled_from(FAULTS),
        times=st.sampled_from(TIMES),
        skip=st.sampled_from((0, 0, 1, 2)),
    )
    def edit_and_meet_a_fault(self, name: str, edit: Edit, fault: str, times: int, skip: int) -> None:
        self._edit(name, edit)
        self._apply(How(faults=(f"{fault}:times={times}:skip={skip}",)))

    @rule(name=st.sampled_from(NAMES), edit=st.sampled_from(UNDOING), prune=st.booleans())
    def protect_then_say_no_more_of_it(self, name: str, edit: Edit, prune: bool) -> None:
        self._edit(name, ("protect", True))
        self._apply()
        self._edit(name, ("protect", None))
        self._edit(name, edit)
        self._apply(prune=prune)

    @rule(
        policy=st.sampled_from((*OnConfigChange, OnConfigChange.RERUN, OnConfigChange.RERUN)),
        rerun_on=st.sampled_from(((), ("config.taskTimeout",), ("config.jobTimeout", "config.taskTimeout"))),
        config=st.integers(0, len(CONFIGS) - 1),
        finish=st.booleans(),
    )
    def give_a_config_under_a_policy(
        self, policy: OnConfigChange, rerun_on: tuple[str, ...], config: int, finish: bool
    ) -> None:
        if finish:
            self.world.forward(self.world.options.job_seconds)
        for edit in (("mode", policy), ("rerun_on", rerun_on), ("config", config)):
            self._edit("a", edit)
        self._apply()

    @rule(token=st.sampled_from(("monday", "tuesday")), finish=st.booleans())
    def ask_again(self, token: str, finish: bool) -> None:
        if finish:
            self.world.forward(self.world.options.job_seconds)
        self._edit("a", ("token", token))
        self._apply()

    @rule(token=st.sampled_from(("monday", "tuesday")), crash_at=st.integers(0, 45))
    def ask_again_and_crash_and_take_it_back_and_ask_once_more(self, token: str, crash_at: int) -> None:
        self._edit("a", ("token", token))
        self._apply(How(crash_at=crash_at))
        for value in (None, token):
            self._edit("a", ("token", value))
            self._apply()

    @rule(token=st.sampled_from(("monday", "tuesday")), stop_at=st.integers(0, 8))
    def ask_again_and_stop_midway(self, token: str, stop_at: int) -> None:
        self._edit("a", ("token", token))
        self._apply(How(stop_at=stop_at))
        self._apply()

    @rule(name=st.sampled_from(NAMES), seconds=st.sampled_from((0.0, 0.0, 100.0)))
    def stop_a_job_and_run_it_soon_after(self, name: str, seconds: float) -> None:
        self._edit(name, ("state", Desired.ABORTED))
        self._apply()
        self.world.forward(seconds)
        self._edit(name, ("state", Desired.RUNNING))
        self._apply()

    @rule(
        name=st.sampled_from(NAMES),
        edit=st.sampled_from(EDITS),
        verb=st.sampled_from((Verb.RUN, Verb.RUN, Verb.ABORT, Verb.DELETE)),
        body=st.sampled_from(SAY_NOTHING),
        after=st.booleans(),
        skip=st.sampled_from((0, 0, 1)),
    )
    def edit_and_be_told_nothing(self, name: str, edit: Edit, verb: Verb, body: bytes, after: bool, skip: int) -> None:
        self._edit(name, edit)
        self._apply(How(odd=OddAnswer(verb, body, after, skip)))

    @rule(
        name=st.sampled_from(NAMES),
        first=st.sampled_from(NAMING),
        second=st.sampled_from(NAMING),
        crash_at=st.sampled_from((None, None, 3, 9, 15)),
    )
    def give_names_around(self, name: str, first: Edit, second: Edit, crash_at: int | None) -> None:
        for edit in (first, second):
            self._edit(name, edit)
            self._apply(How(crash_at=crash_at))

    @rule(
        name=st.sampled_from(NAMES),
        naming=st.sampled_from(NAMING),
        kind=st.sampled_from(_LOST),
        done=st.booleans(),
        crash_at=st.integers(3, 30),
        apply=st.booleans(),
    )
    def be_in_doubt_and_give_names_around_and_resolve(
        self, name: str, naming: Edit, kind: str, done: bool, crash_at: int, apply: bool
    ) -> None:
        for one in self.jobs:
            self._edit(one, ("token", "monday"))
        reads = self.world.options.reads
        lost = f"run:{kind}{':after' if done else ''}:times=2"
        self._apply(How(crash_at=crash_at) if reads else How(faults=(lost,)))
        self._edit(name, naming)
        if apply and not reads:
            self._apply()
        self.resolve_as_the_plan_says()

    @rule(prune=st.booleans())
    def apply(self, prune: bool) -> None:
        self._apply(prune=prune)

    @rule(crash_at=st.integers(0, 60), prune=st.booleans())
    def crash(self, crash_at: int, prune: bool) -> None:
        self._apply(How(crash_at=crash_at), prune=prune)

    @rule(stop_at=st.integers(0, 6))
    def interrupt(self, stop_at: int) -> None:
        self._apply(How(stop_at=stop_at))

    @rule(fault=st.sampled_from(FAULTS), other=st.sampled_from(FAULTS), times=st.sampled_from(TIMES))
    def meet_faults(self, fault: str, other: str, times: int) -> None:
        self._apply(How(faults=(f"{fault}:times={times}", f"{other}:times=1")))

    @rule(
        name=st.sampled_from(NAMES),
        edit=st.sampled_from(EDITS),
        kind=st.sampled_from(_LOST),
        lag=st.booleans(),
        crash_at=st.sampled_from((None, None, 20, 30)),
    )
    def edit_and_lose_answers_while_reads_lag(
        self, name: str, edit: Edit, kind: str, lag: bool, crash_at: int | None
    ) -> None:
        self._edit(name, edit)
        self._apply(How(crash_at=crash_at, faults=(f"any:{kind}:after:times=1:skip=1", "read:stale:skip=1")))
        self._apply(How(faults=("read:stale",) if lag else ()))

    @rule(fault=st.sampled_from(FAULTS), crash_at=st.integers(0, 60))
    def meet_a_fault_and_crash(self, fault: str, crash_at: int) -> None:
        self._apply(How(crash_at=crash_at, faults=(f"{fault}:times=1",)))

    @rule(refresh=st.booleans(), prune=st.booleans(), keep=st.booleans())
    def plan(self, refresh: bool, prune: bool, keep: bool) -> None:
        before = self.world.disk.changes, len(self.world.database.done), len(self.world.changing)
        plan = self.world.plan(refresh=refresh, prune=prune)
        if not refresh:
            assert self.world.plan(refresh=refresh, prune=prune) == plan
        after = self.world.disk.changes, len(self.world.database.done), len(self.world.changing)
        assert after == before, "a plan wrote something"
        if keep:
            self.saved = plan

    @precondition(lambda self: self.saved is not None)
    @rule(crash_at=st.sampled_from((None, None, 3, 9, 15)))
    def apply_the_saved_plan(self, crash_at: int | None) -> None:
        self._apply(How(crash_at=crash_at), saved=self.saved)

    @precondition(lambda self: JOURNAL not in self.world.disk.files)
    @rule(
        name=st.sampled_from(NAMES),
        edit=st.sampled_from(EDITS),
        gone=st.sampled_from(TAKEN_AWAY),
        at=st.integers(0, 40),
        other_begins=st.booleans(),
    )
    def lose_files_under_an_apply(
        self, name: str, edit: Edit, gone: tuple[str, ...], at: int, other_begins: bool
    ) -> None:
        """Someone removes files during an apply, then maybe starts another apply; the state is put back later."""
        disk = self.world.disk
        before = disk.read(STATE)
        self._edit(name, edit)
        reads = disk.reads[STATE]

        def clean() -> None:
            # A state that is removed before it is loaded, or after it was written anew, is a lost state, which
            # `lose_the_state` plays.
            if STATE not in gone or (disk.reads[STATE] > reads and disk.read(STATE) == before):
                for path in gone:
                    disk.put(path, None)
            # The other apply cannot know of calls that were sent already, nor of a state that is gone too.
            if other_begins and not self.world.changing and STATE not in gone:
                self.world.beside(self.world.apply)

        def put_back() -> None:
            if STATE not in disk.files and before is not None:
                disk.put(STATE, before)

        self._apply(How(meanwhile=clean, meanwhile_at=at), mended_by=put_back)

    @precondition(lambda self: JOURNAL not in self.world.disk.files)
    @rule(
        name=st.sampled_from(NAMES),
        edit=st.sampled_from(EDITS),
        other=st.sampled_from(NAMES),
        other_edit=st.sampled_from((("token", "friday"), ("token", "friday"), *NAMING)),
        at=st.integers(0, 40),
    )
    def pull_a_newer_state_under_an_apply(self, name: str, edit: Edit, other: str, other_edit: Edit, at: int) -> None:
        """Another clone applies and commits, and `git pull` replaces the state while an apply is at work here."""
        world = self.world
        self._apply()
        if name == other or any(action.kind is not ActionKind.NOOP for action in world.plan(refresh=False).actions):
            return
        ours, first, disk = self.jobs, len(world.database.done), world.disk
        versions, old = self.versions, disk.read(STATE)
        self._edit(other, other_edit)
        theirs = self.jobs
        if _wishes(theirs) | _wishes(ours) != _wishes(theirs):
            # Clones that ask opposite things of one job, each with its own state, are not part of this model.
            self._declare(ours)
            return
        with world.another_clone() as clone:
            theirs_ended = self._apply()
            pulled = {path: bytes(clone.files[path]) for path in (STATE, HISTORY) if path in clone.files}
        self.versions, taken = versions, []

        def pull() -> None:
            # Git replaces a file only if the file is as it was committed.
            if disk.read(STATE) == old:
                taken.append(True)
                self.judged_until = first  # from here on, the runs of the other clone must be on record here
                for path, content in pulled.items():
                    disk.put(path, content)

        if theirs_ended.exit_code is not ExitCode.DONE:
            pull()  # only the other clone's state can continue an apply that is not finished
            return
        self._declare(ours)
        self._edit(name, edit)
        self.doubts = {}
        self._apply(How(meanwhile=pull, meanwhile_at=at), pulls=taken)
        self._declare(theirs)
        self._edit(name, edit)
        if not taken:
            # The two states have diverged, and a person takes one of them.
            before = self._state()
            for path, content in pulled.items():
                disk.put(path, content)
            disk.put(JOURNAL, None)
            world.accept()
            self._believe(before)
        self.versions = []

    @rule(name=st.sampled_from(NAMES), edit=st.sampled_from(EDITS), at=st.integers(0, 40))
    def switch_the_folder_under_an_apply(self, name: str, edit: Edit, at: int) -> None:
        """A link is changed to another release, whose folder holds the same files; later the link is changed back."""
        disk = self.world.disk
        release = disk.files
        copies = {path: bytes(release[path]) for path in (STATE, HISTORY) if path in release}
        other = {path: bytearray(content) for path, content in copies.items()}
        self._edit(name, edit)
        reads = disk.reads[STATE]

        def switch() -> None:
            if disk.reads[STATE] > reads:
                disk.lead_to(other)

        self._apply(How(meanwhile=switch, meanwhile_at=at), mended_by=lambda: disk.lead_to(release))
        assert {path: bytes(content) for path, content in other.items()} == copies, "it wrote into another folder"

    @rule(name=st.sampled_from(NAMES), edit=st.sampled_from(UNDOING), how=st.sampled_from(DOCTORING))
    def apply_a_saved_plan_that_was_edited(self, name: str, edit: Edit, how: Doctoring) -> None:
        """Someone edits a saved plan. Its apply must do no more than the tool would plan."""
        self._edit(name, edit)
        self.world.set_guards({"maxDelete": 0, "maxAbort": 0})
        plan = self.world.plan(refresh=False, prune=True)
        shown = {tuple(call.text.split(" ")) for action in plan.actions for call in action.calls}
        at = len(self.world.database.done)
        ended = self._apply(saved=how(plan))
        assert shown.issuperset(ended.changing), f"the tool plans no {set(ended.changing) - shown}"
        guarded = [done for done in self.world.database.done[at:] if done.by_us and done.execution.verb is not Verb.RUN]
        alone = [
            done for done in guarded if done.execution.job_id not in {a.id for a in plan.actions if len(a.calls) > 1}
        ]
        assert not alone, f"a guard was passed on the word of a plan file: {alone}"
        self.world.set_guards({})

    @rule(job_id=st.sampled_from(IDS), verb=st.sampled_from((Verb.RUN, Verb.RUN, Verb.ABORT, Verb.DELETE)))
    def someone_else_acts(self, job_id: str, verb: Verb) -> None:
        self.world.act(verb, job_id)
        self.disturbed.add(job_id)

    @rule(job_id=st.sampled_from(IDS))
    def someone_elses_run_fails(self, job_id: str) -> None:
        self.world.act(Verb.RUN, job_id, fault="run:fail")
        self.disturbed.add(job_id)

    @rule(seconds=st.sampled_from((10.0, 100.0, 10000.0, 50000.0)))
    def time_passes(self, seconds: float) -> None:
        self.world.forward(seconds)

    @precondition(lambda self: self.world.promises.creates_on_run and not self.doubts)
    @rule(job_id=st.sampled_from(IDS))
    def someone_takes_a_job_away(self, job_id: str) -> None:
        self.world.database.forget(job_id)
        self.disturbed.add(job_id)
        self.lagged.add(job_id)

    @rule(job_id=st.sampled_from(IDS), is_foreign=st.booleans())
    def a_job_changes_its_owner(self, job_id: str, is_foreign: bool) -> None:
        (self.world.foreign.add if is_foreign else self.world.foreign.discard)(job_id)
        self.lagged.add(job_id)

    @precondition(lambda self: self.world.options.reads)
    @rule(edit=st.sampled_from(EDITS))
    def ask_something_of_a_job_of_another_owner(self, edit: Edit) -> None:
        name = min(self.jobs)
        self._edit(name, edit)
        ids = {job.id for job in self.jobs.values()} - self.world.foreign
        self.world.foreign |= ids
        self.lagged |= ids
        self._apply()
        self.world.foreign -= ids

    @rule(name=st.sampled_from(NAMES), first=st.sampled_from((0, 1, 2)), second=st.sampled_from((0, 1, 2)))
    def ask_for_reruns_and_go_back(self, name: str, first: int, second: int) -> None:
        for edit in (("mode", OnConfigChange.RERUN), ("config", first), ("config", second), ("config", first)):
            self._edit(name, edit)
            self.world.come_to_rest(self._apply)

    @rule(journal_too=st.booleans())
    def lose_the_state(self, journal_too: bool) -> None:
        before = self._state()
        disk = self.world.disk
        disk.put(STATE, None)
        if journal_too:
            disk.put(JOURNAL, None)
        elif JOURNAL in disk.files:
            self._accept_after_refusal()
        self._name_the_state_where_it_is_gone()
        # The next state has a new lineage. The old state is whole, and a return to it is no roll-back.
        self.versions = []
        self._believe(before)

    @precondition(lambda self: self.versions and JOURNAL not in self.world.disk.files)
    @rule(back=st.sampled_from((1, 1, 2, 3)), mark_lost=st.booleans(), give_in=st.booleans())
    def roll_the_state_back(self, back: int, mark_lost: bool, give_in: bool) -> None:
        disk = self.world.disk
        newest, before = disk.read(STATE), self._state()
        older = self.versions[-back:][0]
        if newest is None or newest == older:
            return
        disk.put(STATE, older)
        if mark_lost:
            for path in [path for path in disk.files if path.startswith(MARKS)]:
                disk.put(path, None)
            # Nothing on this machine knows of newer versions of this lineage any more, so each version is valid.
            self.versions = []
            self.world.accept()
        else:
            ended = self.world.apply()
            assert isinstance(ended.refusal, StateError), "an apply took a state that was rolled back"
            assert not ended.changing
            if not give_in:
                disk.put(STATE, newest)
                return
            self.world.accept()
        self._believe(before)
        if mark_lost and self.world.options.reads:
            self._apply_an_older_state()

    def _apply_an_older_state(self) -> None:
        """Check that a run after the state was written is visible at the service, and is not repeated.

        If the run of a job is in doubt, the service cannot tell two runs apart: the run that it shows counts as the one
        in doubt.
        """
        ran_since = set()
        for record in self._state().jobs.values():
            if record.doubt is not None and record.doubt.verb is Verb.RUN:
                continue
            there = self.world.server_job(record.id)
            if there is None or there.submitted_at is None or record.submitted_at is None:
                continue
            began_s = datetime.fromisoformat(record.submitted_at).timestamp() if record.submitted_at else 0
            if abs(there.submitted_at - began_s) > INSTANT_S:
                ran_since.add(record.id)
        at = len(self.world.database.done)
        self._apply()
        for done in self.world.database.done[at:]:
            assert not (done.by_us and done.execution.verb is Verb.RUN and done.execution.job_id in ran_since), done

    @precondition(lambda self: self.doubts)
    @rule()
    def resolve_as_the_plan_says(self) -> None:
        """A person pastes the command that the plan shows. The command must settle that call and no other."""
        for action in self.world.plan(refresh=False).actions:
            record = self.world.record_of(action.id)
            if record is None or record.doubt is None:
                continue
            advised = re.search(r"reconciler resolve (.+?) --applied", action.reason)
            assert advised is not None, f"{action.job} is in doubt, and no command settles it: {action.reason}"
            (name,) = [word for word in shlex.split(advised[1]) if not word.startswith("--")]
            others = {one.id: one for one in self._state().jobs.values() if one.id != action.id}
            words_shown = self.world.settle_doubt(name, applied=self._worked(record.doubt.op))
            after = self.world.record_of(action.id)
            assert after is None or after.doubt is None, (
                f"`resolve {name}` left the doubt of {action.id}: {words_shown}"
            )
            left = {one.id: one for one in self._state().jobs.values() if one.id != action.id}
            assert left == others, f"`resolve {name}` was to settle {action.id}, and touched others: {words_shown}"
            assert record.doubt.verb in words_shown, words_shown
            assert action.id in words_shown, f"it does not say of which job: {words_shown}"
        self._check()

    @precondition(lambda self: STATE in self.world.disk.files and JOURNAL not in self.world.disk.files)
    @rule(other=st.sampled_from(NAMES), back=st.sampled_from((1, 2)), whole=st.booleans())
    def merge_the_state_by_hand(self, other: str, back: int, whole: bool) -> None:
        """Git merges two branches, one of which renamed a job. No command may accept two records of one job."""
        content = bytes(self.world.disk.files[STATE])
        merged, names = with_two_records(content, (self.versions or [content])[-back:][0], other)
        if not names:
            return
        try:
            if whole:
                self.world.push(merged)
            else:
                self.world.disk.put(STATE, merged)
                self.world.accept()
        except ReconcilerError as refusal:
            words_shown = f"{refusal.message} {refusal.hint}"
            assert all(title(name) in words_shown for name in names) or whole, (
                f"it names not both of {names}: {words_shown}"
            )
        else:
            raise AssertionError(f"one id under two names was taken: {names}")
        finally:
            self.world.disk.put(STATE, content)

    @precondition(lambda self: self.doubts)
    @rule()
    def resolve_truthfully(self) -> None:
        for key, record in self._state().jobs.items():
            if record.doubt is not None:
                self.world.settle_doubt(self._named(key, record), applied=self._worked(record.doubt.op))
                after = self.world.record_of(record.id)
                assert after is None or after.doubt is None, f"the doubt of {record.id} was left"
        self._check()

    @rule(name=st.sampled_from(NAMES))
    def forget(self, name: str) -> None:
        """`state forget` takes a name of the manifest, or a name of the state if the manifest has no such job."""
        before = self._state()
        record = self.world.record_of(self.jobs[name].id) if name in self.jobs else before.jobs.get(name)
        if record is not None and record.doubt is None:
            self.world.forget(name)
            assert self.world.record_of(record.id) is None, f"`state forget {name}` dropped another record"
            self._believe(before)

    @rule()
    def settle(self) -> None:
        """Apply repeatedly with nothing going wrong, and check that everything comes to rest."""
        self._check_nothing_is_owed(self.world.come_to_rest(self._apply))

    def teardown(self) -> None:
        if sys.exc_info()[0] is None and self.jobs:
            self.settle()

    # The parts of the steps

    def _state(self) -> State:
        return self.world.state

    def _executed(self, until: Done | None = None) -> Counter[str]:
        """Return how many times we ran each engine job, by the lines of the ledger before `until` (default: all)."""
        runs: Counter[str] = Counter()
        for done in self.world.database.done:
            if done is until:
                break
            runs[done.execution.job_id] += done.by_us and done.execution.verb is Verb.RUN
        return runs

    def _excuse_what_others_did(self) -> None:
        """Drop what is owed for jobs that someone else touched since our last run, as it may be their run."""
        left: dict[str, bool] = {}
        for done in self.world.database.done:
            if not done.by_us:
                left[done.execution.job_id] = True
            elif done.execution.verb is Verb.RUN:
                left[done.execution.job_id] = False
        self.account.excuse([job_id for job_id, touched in left.items() if touched])

    def _worked(self, op: str) -> bool:
        return any(done.op == op for done in self.world.database.done)

    def _edit(self, name: str, edit: Edit) -> None:
        what, value = edit
        jobs = dict(self.jobs)
        job = jobs.get(name)
        if what == "revert":
            jobs = dict((self.drafts[-value:] or [jobs])[0])
        elif job is None:
            job_id = next((one for one in IDS_OF[name] if self._is_free(one)), None)
            if job_id is None:
                return
            jobs[name] = Job(name, job_id, Desired.RUNNING, CONFIGS[0])
        else:
            match what:
                case "state":
                    jobs[name] = job._replace(state=value)
                case "config":
                    jobs[name] = job._replace(config=CONFIGS[value])
                case "token":
                    jobs[name] = job._replace(run_token=value)
                case "mode":
                    jobs[name] = job._replace(on_config_change=value)
                case "protect" | "freeze" | "ignore" | "rerun_on":
                    jobs[name] = job._replace(**{what: value})
                case "after" if not value or value in jobs:
                    jobs[name] = job._replace(after=(value,) if value else ())
                case "remove" if len(jobs) > 1:
                    del jobs[name]
                    jobs = {other: one._replace(after=_without(one.after, name)) for other, one in jobs.items()}
                case "rename" if value not in jobs:
                    del jobs[name]
                    jobs[value] = job._replace(name=value)
                    jobs = {other: one._replace(after=_without(one.after, name, value)) for other, one in jobs.items()}
                case "id" if self._is_free(IDS_OF[name][value]):
                    jobs[name] = job._replace(id=IDS_OF[name][value])
                case "swap-names" | "swap-ids" | "turn-names":
                    jobs = _turned(jobs, name, what, value or 1)
        if jobs != self.jobs and not any(circles_in({one.name: one.after for one in jobs.values()})):
            self.drafts.append(self.jobs or jobs)
            self._declare(jobs)

    def _declare(self, jobs: dict[str, Job]) -> None:
        self.jobs = jobs
        self.world.declare(jobs)

    def _named(self, key: str, record: Record) -> str:
        """Return the name by which a person means a record.

        The name is the one in the manifest. If another job has taken the record's name, the id is added.
        """
        declared = [job.name for job in self.jobs.values() if job.id == record.id]
        return declared[0] if declared else f"{key} (id {record.id})" if key in self.jobs else key

    def _is_free(self, job_id: str) -> bool:
        return all(job.id != job_id for job in self.jobs.values())

    def _believe(self, before: State) -> None:
        """Accept a changed record as the truth, on a person's word.

        This takes longer than the maximum age of a read.
        """
        self.world.forward(SETTLE_S)
        records = {record.id: record for record in self._state().jobs.values()}
        wanted = {job.id: job.config for job in self.jobs.values()}
        earlier = {record.id: record for record in before.jobs.values()}
        for job_id in earlier.keys() | records.keys():
            if records.get(job_id) != earlier.get(job_id):
                # A job may be held because of a run that the record does not know any more.
                self.lagged.add(job_id)
                config = wanted.get(job_id, EMPTY)
                self.account.believe(job_id, records.get(job_id), config, reads=self.world.options.reads)
        self.doubts = {}
        self.judged_until = len(self.world.database.done)
        self._note_doubts()

    def _accept_after_refusal(self) -> None:
        """If the journal that is left belongs to the file that is gone, only a person's word lets applies continue."""
        try:
            self.world.store().read(TARGET)
        except StateError:
            ended = self.world.apply()
            assert isinstance(ended.refusal, StateError)
            assert not ended.changing
            self.world.accept()

    def _name_the_state_where_it_is_gone(self) -> None:
        """If the history shows a state that is gone, only a person's word starts another state."""
        disk = self.world.disk
        if self.world.names_state or STATE in disk.files or JOURNAL in disk.files or HISTORY not in disk.files:
            return
        for command in (self.world.apply, lambda: self.world.plan(refresh=False)):
            try:
                ended = command()
            except Refused as refusal:
                words_shown = refusal.message
            else:
                assert isinstance(ended, Ended)
                assert ended.refusal is not None, "a state that is gone was taken for one that never was"
                assert not ended.changing
                words_shown = ended.refusal.message
            assert "is gone" in words_shown, words_shown
        self.world.names_state = True

    def _hear_all(self, prune: bool) -> None:
        state = self._state()
        recorded = {record.id: record for record in state.jobs.values()}
        executed = self._executed()
        self.world.forget_ended()
        for job in self.jobs.values():
            if job.freeze is not None:
                continue
            if self.world.promises.creates_on_run and job.id not in recorded and self.world.life_of(job.id) is None:
                self.account.ask_anew(job, executed[job.id])
            is_active_otherwise = job.id not in recorded and self._is_active_otherwise(job)
            self.account.hear(job, is_active_otherwise, executed[job.id], self._taken(job, recorded.get(job.id)))
        if prune:
            declared = {job.id for job in self.jobs.values()}
            for record in state.jobs.values():
                if record.id not in declared:
                    self.account.hear(Job("", record.id, Desired.ABSENT, {}), False, executed[record.id])

    def _taken(self, job: Job, record: Record | None) -> list[Config]:
        """Return the configs of a job that ask for no run: that on record, and those with which others ran the job.

        A run of others is taken over for the config of the manifest if it agrees with that config.
        """
        done = [one for one in self.world.database.done if not one.by_us and one.execution.verb is Verb.RUN]
        others = [one.execution.config for one in done if one.execution.job_id == job.id]
        agreeing = any(agrees(job.config, config, PLUGIN.same_config) for config in others)
        return [*others, *([record.config] if record else ()), *([job.config] if agreeing else ())]

    def _is_active_otherwise(self, job: Job) -> bool:
        there = self.world.server_job(job.id)
        return (
            there is not None
            and there.deleted_at is None
            and self.world.life_of(job.id) is JobState.RUNNING
            and not agrees(job.config, json.loads(there.config), PLUGIN.same_config)
        )

    def _apply(
        self,
        how: How = HONEST,
        *,
        prune: bool = False,
        saved: Plan | None = None,
        mended_by: Callable[[], None] = lambda: None,
        pulls: Sequence[bool] = (),
    ) -> Ended:
        """Apply and judge.

        `mended_by` is a person's repair afterwards; `pulls` is not empty once another state was pulled.
        """
        before, state = self.account.copy(), self._state()
        self._hear_all(prune or (saved is not None and bool({a.job for a in saved.actions} - set(self.jobs))))
        if any("stale" in fault for fault in how.faults):
            self.disturbed.update(IDS)
            self.lagged.update(IDS)
        records, at = state.jobs.values(), len(self.world.database.done)
        ended = self.world.apply(how, prune=prune, saved=saved)
        self._check_protected({record.id for record in records if record.protect}, at)
        if ended.refusal is not None:
            # The saved plan no longer fits, or the service was never reached, or the service rejects the token.
            assert not ended.changing or not how.is_honest, ended.refusal
            assert not how.is_honest or isinstance(ended.refusal, Refused), ended.refusal
            if how.is_honest:
                self.account = before
        if how.meanwhile is None:
            self._check(ended)
        else:
            mended_by()
            is_taken = self._accept_where_files_do_not_fit(ended)
            self._check(ended)
            if is_taken or pulls:
                self.versions = []
                self._believe(state)
        return ended

    def _accept_where_files_do_not_fit(self, ended: Ended) -> bool:
        """Accept files that others changed, once an apply has refused them; return whether that was so."""
        try:
            self.world.store().read(TARGET)
        except StateError as fault:
            trouble = fault.message
        else:
            return False
        assert ended.crashed or ended.exit_code is not ExitCode.DONE, f"exit 0, and then: {trouble}"
        self.world.accept()
        return True

    # The rules

    def _check(self, ended: Ended | None = None) -> None:
        state = self._state()
        records = {record.id: record for record in state.jobs.values()}
        assert len(records) == len(state.jobs), f"one engine job has two records: {state.jobs}"
        assert not self.world.trespasses, f"a call for a job of another owner: {self.world.trespasses}"
        database = self.world.database.done
        for done in database:
            assert not done.by_us or done.op is not None, f"sent without an intent on disk: {done}"
        executed = self._executed()
        self._excuse_what_others_did()
        for job_id, times in executed.items():
            assert times <= self.account.asks[job_id], f"{job_id} was run {times} times: {self.account.asks[job_id]}"
        newest = {
            d.execution.job_id: d for d in database[self.judged_until :] if d.by_us and d.execution.verb is Verb.RUN
        }
        wanted = {job.id: job for job in self.jobs.values()}
        for done in database[max(self.judged_until, self.counted_until) :]:
            job = wanted.get(done.execution.job_id)
            is_restarted = done.execution.verb is Verb.ABORT and job is not None and job.state is Desired.RUNNING
            if done.by_us and (done.execution.verb is Verb.RUN or is_restarted):
                ran = done.execution.config if done.execution.verb is Verb.RUN else None
                self.account.spend(done.execution.job_id, job.run_token if job else None, ran)
            if done.by_us and is_restarted:
                self.account.aborted_to_run(done.execution.job_id, self._executed(until=done)[done.execution.job_id])
        for job_id, done in newest.items():
            record = records.get(job_id)
            assert record is not None, f"a run of {job_id} is not on record"
            assert (record.doubt is not None and record.doubt.op == done.op) or (
                record.state is Desired.RUNNING and PLUGIN.same_config(record.config, done.execution.config)
            ), f"a run of {job_id} is on record as {record}"
        for job_id, record in records.items():
            self.account.adopted(job_id, record)
        self.judged_until = self.counted_until = len(database)
        self._check_order(newest)
        self._check_settled(records)
        last = self._state().last
        assert all(record.run <= last.get(job_id, 0) for job_id, record in records.items() if record.run), last
        self._note_doubts()
        if ended is not None:
            self._check_outcomes(ended, records, executed)
        content = self.world.disk.files.get(STATE)
        if content is not None and (not self.versions or self.versions[-1] != content):
            self.versions.append(bytes(content))

    def _check_paid(self, outcome: ActionOutcome, executed: int) -> None:
        """Check that a job whose apply succeeded was run as often as demanded, unless a read was old."""
        job_id = outcome.action.id
        unpaid = self.account.unpaid(job_id, executed) if job_id not in self.lagged else []
        assert not unpaid, f"{job_id} was not run, though {unpaid}: {outcome}"

    def _check_nothing_is_owed(self, last: Ended) -> None:
        """Check at rest that each demanded run was made, or that there is a visible reason against the run."""
        executed = self._executed()
        for outcome in last.outcomes:
            job, job_id = self.jobs.get(outcome.action.job), outcome.action.id
            if job is None or job.state is not Desired.RUNNING or job.freeze is not None or job_id in self.lagged:
                continue
            record = self.world.record_of(job_id)
            in_doubt = record is not None and record.doubt is not None
            protected = job.protect if job.protect is not None else record is not None and record.protect
            excused = in_doubt or protected or bool(job.after) or self.world.is_out_of_reach(outcome)
            unpaid = [] if excused else self.account.unpaid(job_id, executed[job_id])
            assert not unpaid, f"{job_id} is not run, though {unpaid}: {outcome}"

    def _check_protected(self, protected: set[str], at: int) -> None:
        """Check that no protected job was aborted or deleted, unless the manifest lifted the protection."""
        says = {job.id: job.protect for job in self.jobs.values() if job.protect is not None}
        for done in self.world.database.done[at:]:
            if done.by_us and done.execution.verb is not Verb.RUN:
                job_id = done.execution.job_id
                assert not says.get(job_id, job_id in protected), f"{job_id} is protected: {done.execution}"

    def _check_order(self, newest: Iterable[str]) -> None:
        """Check that our runs kept the order of `after`, unless someone else acted or a read was old."""
        by_id = {job.id: job for job in self.jobs.values()}
        for job_id in newest:
            for other in by_id[job_id].after if job_id in by_id else ():
                first = self.world.server_job(self.jobs[other].id)
                if first is None or first.id in self.disturbed:
                    continue
                state = self.world.life_of(first.id)
                assert state is JobState.COMPLETE, f"{job_id} was run, and {other}, which comes first, is {state}"

    def _note_doubts(self) -> None:
        """Remember the doubts on record. Nobody else has acted yet on the job of a new doubt."""
        found = {record.doubt.op: record for record in self._state().jobs.values() if record.doubt is not None}
        for op, record in found.items():
            if op not in self.doubts:
                self.disturbed.discard(record.id)
        self.doubts = found

    def _check_settled(self, records: dict[str, Record]) -> None:
        """Check that each doubt that is gone was settled correctly, as far as anyone could know."""
        there = {record.doubt.op for record in records.values() if record.doubt is not None}
        for op, held in self.doubts.items():
            doubt, job_id = held.doubt, held.id
            assert doubt is not None
            if op in there or doubt.verb is not Verb.RUN or job_id in self.disturbed:
                continue
            record = records.get(job_id)
            later = [d for d in self.world.database.done if d.by_us and d.execution.job_id == job_id and d.op != op]
            if self._worked(op) and not (later and later[-1] is self._last_of(job_id)):
                assert record is not None
                assert doubt.run_token is None or doubt.run_token in record.run_tokens, "a consumed token was dropped"

    def _last_of(self, job_id: str) -> Any:
        return [d for d in self.world.database.done if d.by_us and d.execution.job_id == job_id][-1]

    def _take_recorded_config(self, name: str, record: Record | None) -> None:
        """Note the config of a job if it is on record."""
        job = self.jobs.get(name)
        if job and record and record.state is Desired.RUNNING and PLUGIN.same_config(record.config, job.config):
            self.account.take_config(job)

    def _check_outcomes(self, ended: Ended, records: dict[str, Record], executed: Counter[str]) -> None:
        in_doubt = False
        for outcome in ended.outcomes:
            job_id, record = outcome.action.id, records.get(outcome.action.id)
            doubtful = record is not None and record.doubt is not None
            in_doubt |= doubtful
            assert (outcome.outcome is Outcome.IN_DOUBT) <= doubtful, outcome
            if doubtful:
                words_shown = f"{outcome.error} {outcome.note} {outcome.action.reason}"
                words = (f"reconciler resolve {shlex.quote(outcome.action.job)}", "skipped", "not sent")
                assert any(word in words_shown for word in words), outcome
            if outcome.outcome is Outcome.RECORDED:
                self._take_recorded_config(outcome.action.job, record)
            if outcome.outcome is Outcome.SUCCEEDED and not doubtful:
                job = self.jobs.get(outcome.action.job)
                if job and job.freeze is not None:
                    continue
                if job and job.state is Desired.RUNNING:
                    self._check_paid(outcome, executed[job_id])
                    self.account.spend(job_id, job.run_token)
                is_running = job is not None and job.state is Desired.RUNNING
                self.account.close(job_id, executed[job_id], running=is_running)
                self._take_recorded_config(outcome.action.job, record)
        if ended.exit_code is not None:
            shown = {tuple(call.text.split(" ")) for outcome in ended.outcomes for call in outcome.action.calls}
            assert shown.issuperset(ended.changing), f"no plan showed {set(ended.changing) - shown}"
        if ended.exit_code is not None and in_doubt:
            assert ended.exit_code is ExitCode.IN_DOUBT, f"exit {ended.exit_code} with a call in doubt"


def _turned(jobs: dict[str, Job], name: str, what: str, by: int) -> dict[str, Job]:
    """Return the jobs with some names or ids exchanged, between two jobs or around a circle of all jobs."""
    names = sorted(jobs)
    if what != "turn-names":
        names = [name, names[(names.index(name) + 1) % len(names)]]
    if len(set(names)) < 2:
        return jobs
    turned = dict(jobs)
    for at, old in enumerate(names):
        giver = jobs[names[(at + by) % len(names)]]
        turned[old] = jobs[old]._replace(id=giver.id) if what == "swap-ids" else giver._replace(name=old)
    return {old: job._replace(after=()) for old, job in turned.items()}


def _wishes(jobs: dict[str, Job]) -> dict[str, Job]:
    """Return what is asked of each engine job, without its name and its run token."""
    return {job.id: job._replace(name="", run_token=None, after=()) for job in jobs.values()}


def with_two_records(content: bytes, older: bytes, other: str) -> tuple[bytes, tuple[str, ...]]:
    """Return a state file that records one job under a second name too, and both names.

    The second record is that of the older file. The file is empty if it cannot be made.
    """
    document, before = json.loads(content), json.loads(older)
    names = sorted(document.get("jobs", {}))
    if not names or other in names:
        return b"", ()
    first = names[0]
    job_id = document["jobs"][first]["id"]
    records = [record for record in before["jobs"].values() if record["id"] == job_id]
    document["jobs"][other] = (records or [document["jobs"][first]])[0]
    document["serial"] += 1
    del document["digest"]
    rest = (json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False).removeprefix("{\n") + "\n").encode()
    return b'{\n  "digest": "sha256:' + sha256(rest).hexdigest().encode() + b'",\n' + rest, (first, other)


def _without(names: tuple[str, ...], gone: str, new: str = "") -> tuple[str, ...]:
    return tuple(filter(None, (new if name == gone else name for name in names)))


def run(sequences: int, number: int) -> None:
    """Play `sequences` histories with this seed.

    Raises the error of the first broken rule, with its steps minimized.
    """
    wanted = settings(
        max_examples=sequences,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        derandomize=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    machine: Callable[[type[Months]], type[Months]] = seed(number)
    run_state_machine_as_test(machine(type("Months", (Months,), {})), settings=wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description="Play histories, and check both rules after every step.")
    parser.add_argument("--sequences", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(2**32))
    given = parser.parse_args()
    share = 2500
    parts = [min(share, given.sequences - done) for done in range(0, given.sequences, share)]
    print(f"{given.sequences} histories of up to {STEPS} steps, --seed {given.seed}", flush=True)
    started_s = monotonic()
    played = 0
    with ProcessPoolExecutor(given.jobs) as pool:
        numbers = range(given.seed, given.seed + len(parts))
        for size, number, broken in zip(parts, numbers, pool.map(_broken, parts, numbers), strict=True):
            if broken:
                sys.exit(
                    f"{broken}\nplay it again: "
                    f"{tally.PYTHON} tests/campaigns/model.py --sequences {size} --jobs 1 --seed {number}"
                )
            played += size
            print(f"{played} played, no rule broken, {monotonic() - started_s:.0f} s", flush=True)
    first, last = given.seed, given.seed + len(parts) - 1
    print(tally.last_line("model", f"--seed {first} to {last} (other histories from {last + 1} on)", played, 0))


def _broken(sequences: int, number: int) -> str:
    """Return how a rule was broken and the steps that led to the break, "" if no rule was broken."""
    try:
        run(sequences, number)
    except Exception:  # noqa: BLE001  the parent process gets the traceback as text
        return format_exc()
    return ""


if __name__ == "__main__":
    main()
