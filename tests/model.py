"""A model of months with the tool: edits, applies, crashes, faults, other hands, lost and old states.

After every step both rules hold, judged by the service's ledger and by an account of its own of what
a person asked for: no job is executed more often than that, and every execution has a result or an
open intent on record. The real planner, applier, journal and state work on a disk, a clock and a
service in memory.

    python tests/model.py --sequences 100000 --jobs 2 [--seed N]
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import SystemRandom
from time import monotonic
from traceback import format_exc
from typing import Any, NamedTuple

if __name__ == "__main__":  # beside this file, as pytest has it
    sys.path.insert(0, str(Path(__file__).parent))

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from model_world import HISTORY, HONEST, JOURNAL, MARKS, SETTLE_S, STATE, TARGET, Ended, How, ModelWorld
from reconciler.engines.sandbox.life import Job as ServerJob
from reconciler.engines.sandbox.life import JobState, to_wire
from reconciler.engines.sandbox.life import state as server_state
from reconciler.errors import ExitCode, Refused, StateError
from reconciler.jobs import EMPTY, Config, Desired, Job, OnConfigChange, Record, State, Suspension, Verb
from reconciler.order import circles_in
from reconciler.plan import Outcome, Plan
from reconciler.planner import agrees, same_config

STEPS = 10

NAMES = ("a", "a", "a", "b", "c")
IDS = tuple(f"{name}{number}" for name in NAMES for number in (1, 2))
CONFIGS: tuple[Config, ...] = ({"taskTimeout": 60}, {"taskTimeout": 90, "isTestJob": False}, {"jobTimeout": 20})

# Edits of one job's block: what, and to which value.
Edit = tuple[str, Any]
EDITS: tuple[Edit, ...] = (
    ("state", Desired.RUNNING),
    ("state", Desired.RUNNING),
    ("state", Desired.ABORTED),
    ("state", Desired.ABSENT),
    *(("config", number) for number in range(len(CONFIGS))),
    *(("token", token) for token in ("monday", "tuesday", "monday", "tuesday", "monday", "tuesday", None)),
    *(("mode", mode) for mode in OnConfigChange),
    ("protect", True),
    ("protect", False),
    ("protect", None),
    ("suspend", Suspension("a freeze")),
    ("suspend", None),
    ("ignore", ("config.taskTimeout",)),
    ("after", "a"),
    ("after", "b"),
    ("after", ""),
    ("remove", None),
    ("rename", "a"),
    ("rename", "d"),
    ("id", 1),
    ("id", 2),
    ("revert", 1),
    ("revert", 3),
)

UNDOING: tuple[Edit, ...] = (
    ("state", Desired.ABORTED),
    ("state", Desired.ABSENT),
    ("config", 1),
    ("token", "tuesday"),
    ("remove", None),
)
"""What an abort, a restart or a delete comes of."""

# What may go wrong at the service. None of it is a lie: no "done" that was not, no "not done" that was.
_LOST = ("500", "502", "503", "504", "reset", "close", "truncated", "html", "empty", "garbage", "wrong-type", "302")
_REFUSED = ("401", "403", "429", "not-ok", "error-in-200")
FAULTS: tuple[str, ...] = (
    *(f"{verb}:{kind}{when}" for verb in Verb for kind in _LOST for when in ("", ":after")),
    *(f"{verb}:{kind}" for verb in Verb for kind in _REFUSED),
    "run:400",
    "run:404",
    *(f"run:503{when}:retry-after={told}" for when in ("", ":after") for told in ("0", "5", "1000000000", "soon")),
    *(f"read:{kind}" for kind in ("503", "429", "401", "403", "reset", "truncated", "html", "empty", "wrong-type")),
    *(f"any:{kind}" for kind in ("503", "reset", "hang")),
    *(f"{verb}:slow:seconds=100" for verb in (*Verb, "read")),
    *["read:stale"] * 8,
    "run:fail",
)
TIMES = (1, 2, 3, 9)


class Word(NamedTuple):
    """The last that a person asked of an engine job, as far as an apply was told of it.

    `config` is the one that was last let through; `spent` the tokens that bought something, `given`
    those that have yet to. One that is taken back before it does is given anew where it comes after another execution.
    """

    state: Desired
    config: Config = EMPTY
    spent: frozenset[str] = frozenset()
    given: frozenset[str] = frozenset()
    forgotten: bool = False


class Account:
    """What a person asked for: how many executions of each engine job, and in which words."""

    def __init__(self) -> None:
        self.asks: Counter[str] = Counter()
        self.words: dict[str, Word] = {}

    def hear(self, job: Job, active_otherwise: bool) -> None:
        """An apply is told of a job. `active_otherwise`: no record, and it is active with a config not asked for."""
        word = self.words.get(job.id)
        if job.state is not Desired.RUNNING:
            self.words[job.id] = word._replace(state=job.state) if word else Word(job.state)
            return
        asked = word is None or word.state is not Desired.RUNNING
        word = word or Word(Desired.RUNNING, job.config)
        if job.run_token is not None and job.run_token not in word.spent | word.given:
            asked, word = True, word._replace(given=word.given | {job.run_token})
        if job.on_config_change is OnConfigChange.RESTART:
            asked |= active_otherwise or not same_config(word.config, job.config)
        self.asks[job.id] += asked
        self.words[job.id] = word._replace(state=Desired.RUNNING, config=job.config if asked else word.config)

    def spend(self, job_id: str, token: str | None) -> None:
        """The job was executed, or taken as executed, or aborted to be, while the manifest gave it this token."""
        word = self.words.get(job_id)
        if word is not None:
            spent = frozenset[str]() if token is None else frozenset({token})
            before = frozenset[str]() if word.forgotten else word.spent
            self.words[job_id] = word._replace(spent=before | spent, given=frozenset(), forgotten=False)

    def close(self, job_id: str, executed: int) -> None:
        """All that was asked of this job is done: the next execution takes a new word."""
        self.asks[job_id] = executed
        word = self.words.get(job_id)
        if word is not None:
            spent = frozenset[str]() if word.forgotten else word.spent
            self.words[job_id] = word._replace(spent=spent, given=frozenset(), forgotten=False)

    def adopted(self, job_id: str, record: Record) -> None:
        """A job whose record a person dropped has one again: what it says is spent is."""
        word = self.words.get(job_id)
        if word is not None and word.forgotten and record.state is not None:
            self.words[job_id] = word._replace(spent=record.run_tokens, forgotten=False)

    def take_config(self, job: Job) -> None:
        """The config is on record as taken, for the next run."""
        if job.id in self.words:
            self.words[job.id] = self.words[job.id]._replace(config=job.config)

    def believe(self, job_id: str, record: Record | None, wanted: Config, *, reads: bool) -> None:
        """A person accepts what is on record now as the truth.

        Of a run in doubt the person accepts that it was done or not: a config that is `wanted` and
        that either of the two lacks is asked for anew. With no record, a service that can be read
        tells that a job was run already; one that can't does not, so that a manifest that says
        `running` asks for a run.
        """
        if record is not None:
            config = record.config
            if (
                record.doubt is not None
                and record.doubt.verb is Verb.RUN
                and not same_config(record.doubt.config, wanted)
            ):
                config = record.doubt.config
            self.words[job_id] = Word(record.state or Desired.RUNNING, config, record.run_tokens)
        elif not reads:
            self.words.pop(job_id, None)
        elif job_id in self.words:
            self.words[job_id] = self.words[job_id]._replace(given=frozenset(), forgotten=True)


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
        self.seen_done = 0
        self.doubts: dict[str, Record] = {}
        self.disturbed: set[str] = set()

    # The steps

    @initialize(
        reads=st.sampled_from((True, True, True, False)),
        create_missing=st.booleans(),
        job_seconds=st.sampled_from((30.0, 5000.0)),
        lenient=st.booleans(),
    )
    def start(self, reads: bool, create_missing: bool, job_seconds: float, lenient: bool) -> None:
        self.world = ModelWorld(reads=reads, create_missing=create_missing, job_seconds=job_seconds, lenient=lenient)
        if not create_missing:
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
        before = self.world.disk.changes, len(self.world.book.done), len(self.world.changing)
        plan = self.world.plan(refresh=refresh, prune=prune)
        if not refresh:
            assert self.world.plan(refresh=refresh, prune=prune) == plan
        after = self.world.disk.changes, len(self.world.book.done), len(self.world.changing)
        assert after == before, "a plan wrote something"
        if keep:
            self.saved = plan

    @precondition(lambda self: self.saved is not None)
    @rule(crash_at=st.sampled_from((None, None, 3, 9, 15)))
    def apply_the_saved_plan(self, crash_at: int | None) -> None:
        self._apply(How(crash_at=crash_at), saved=self.saved)

    @rule(job_id=st.sampled_from(IDS), verb=st.sampled_from((Verb.RUN, Verb.RUN, Verb.ABORT, Verb.DELETE)))
    def someone_else_acts(self, job_id: str, verb: Verb) -> None:
        self.world.act(verb, job_id)
        self.disturbed.add(job_id)

    @rule(job_id=st.sampled_from(IDS))
    def someone_elses_run_fails(self, job_id: str) -> None:
        self.world.act(Verb.RUN, job_id, fault="run:fail")
        self.disturbed.add(job_id)

    @rule(seconds=st.sampled_from((10.0, 100.0, 10000.0)))
    def time_passes(self, seconds: float) -> None:
        self.world.forward(seconds)

    @rule(journal_too=st.booleans())
    def lose_the_state(self, journal_too: bool) -> None:
        before = self._state()
        disk = self.world.disk
        was_there = STATE in disk.files
        disk.put(STATE, None)
        if journal_too:
            disk.put(JOURNAL, None)
        elif JOURNAL in disk.files:
            self._accept_after_refusal()
        if was_there:
            self._name_the_state_where_it_is_gone()
        # What comes is a new lineage; the old one is whole, and putting it back is no roll-back.
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
            # Newer versions of this lineage are now as good as any: nothing here knows of them.
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
        """What was run after the state was written shows at the service, and is not run again.

        Of a job whose run is in doubt the service can't tell: the run that it shows counts as that one.
        """
        ran_since = set()
        for record in self._state().jobs.values():
            if record.doubt is not None and record.doubt.verb is Verb.RUN:
                continue
            there = self.world.server_job(record.id)
            if there is None or there.submitted_at is None or record.submitted_at is None:
                continue
            if to_wire(there, self.world.clock())["submittedAt"] != record.submitted_at:
                ran_since.add(record.id)
        at = len(self.world.book.done)
        self._apply()
        for done in self.world.book.done[at:]:
            assert not (done.by_us and done.deed.verb is Verb.RUN and done.deed.job_id in ran_since), done

    @precondition(lambda self: self.doubts)
    @rule()
    def resolve_truthfully(self) -> None:
        for name, record in self._state().jobs.items():
            if record.doubt is not None:
                self.world.settle_doubt(name, applied=self._worked(record.doubt.op))
        self._check()

    @rule(name=st.sampled_from(NAMES))
    def forget(self, name: str) -> None:
        before = self._state()
        if name in before.jobs and before.jobs[name].doubt is None:
            self.world.forget(name)
            self._believe(before)

    @rule()
    def settle(self) -> None:
        """Applied again and again with nothing going wrong, it comes to rest."""
        self.world.come_to_rest(self._apply)

    def teardown(self) -> None:
        if sys.exc_info()[0] is None and self.jobs:
            self.settle()

    # What the steps are made of

    def _state(self) -> State:
        return self.world.state

    def _worked(self, op: str) -> bool:
        return any(done.op == op for done in self.world.book.done)

    def _edit(self, name: str, edit: Edit) -> None:
        what, value = edit
        jobs = dict(self.jobs)
        job = jobs.get(name)
        if what == "revert":
            jobs = dict((self.drafts[-value:] or [jobs])[0])
        elif job is None:
            job_id = next((one for one in (f"{name}1", f"{name}2") if self._is_free(one)), None)
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
                case "protect" | "suspend" | "ignore":
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
                case "id" if self._is_free(f"{name}{value}"):
                    jobs[name] = job._replace(id=f"{name}{value}")
        if jobs != self.jobs and not any(circles_in({one.name: one.after for one in jobs.values()})):
            self.drafts.append(self.jobs or jobs)
            self.jobs = jobs
            self.world.declare(jobs)

    def _is_free(self, job_id: str) -> bool:
        return all(job.id != job_id for job in self.jobs.values())

    def _believe(self, before: State) -> None:
        """What is on record was replaced, on a person's word; that takes longer than a read may be old."""
        self.world.forward(SETTLE_S)
        records = {record.id: record for record in self._state().jobs.values()}
        wanted = {job.id: job.config for job in self.jobs.values()}
        earlier = {record.id: record for record in before.jobs.values()}
        for job_id in earlier.keys() | records.keys():
            if records.get(job_id) != earlier.get(job_id):
                config = wanted.get(job_id, EMPTY)
                self.account.believe(job_id, records.get(job_id), config, reads=self.world.options.reads)
        self.doubts = {}
        self.seen_done = len(self.world.book.done)
        self._note_doubts()

    def _accept_after_refusal(self) -> None:
        """Where the journal that is left started from the file that is gone, only a person's word goes on."""
        try:
            self.world.store().read(TARGET)
        except StateError:
            ended = self.world.apply()
            assert isinstance(ended.refusal, StateError)
            assert not ended.changing
            self.world.accept()

    def _name_the_state_where_it_is_gone(self) -> None:
        """Where the history tells of a state that is gone, only a person's word begins another one."""
        disk = self.world.disk
        if self.world.names_state or STATE in disk.files or JOURNAL in disk.files or HISTORY not in disk.files:
            return
        for command in (self.world.apply, lambda: self.world.plan(refresh=False)):
            try:
                ended = command()
            except Refused as refusal:
                said = refusal.message
            else:
                assert isinstance(ended, Ended)
                assert ended.refusal is not None, "a state that is gone was taken for one that never was"
                assert not ended.changing
                said = ended.refusal.message
            assert "is gone" in said, said
        self.world.names_state = True

    def _hear_all(self, prune: bool) -> None:
        state = self._state()
        recorded = {record.id: record for record in state.jobs.values()}
        for job in self.jobs.values():
            if job.suspend is not None:
                continue
            self.account.hear(job, job.id not in recorded and self._is_active_otherwise(job))
        if prune:
            declared = {job.id for job in self.jobs.values()}
            for record in state.jobs.values():
                if record.id not in declared:
                    self.account.hear(Job("", record.id, Desired.ABSENT, {}), False)

    def _is_active_otherwise(self, job: Job) -> bool:
        import json

        there = self.world.server_job(job.id)
        return (
            there is not None
            and there.deleted_at is None
            and server_state(there, self.world.clock()) is JobState.RUNNING
            and not agrees(job.config, json.loads(there.config))
        )

    def _apply(self, how: How = HONEST, *, prune: bool = False, saved: Plan | None = None) -> Ended:
        before = Account()
        before.asks, before.words = self.account.asks.copy(), dict(self.account.words)
        self._hear_all(prune or (saved is not None and bool({a.job for a in saved.actions} - set(self.jobs))))
        if any("stale" in fault for fault in how.faults):
            self.disturbed.update(IDS)
        records, at = self._state().jobs.values(), len(self.world.book.done)
        ended = self.world.apply(how, prune=prune, saved=saved)
        self._check_protected({record.id for record in records if record.protect}, at)
        if ended.refusal is not None:
            # A saved plan that no longer fits, or a service that was never reached or rejects the token.
            assert not ended.changing or how.faults, ended.refusal
            assert how.faults or isinstance(ended.refusal, Refused), ended.refusal
            if not how.faults:
                self.account = before
        self._check(ended)
        return ended

    # What must hold

    def _check(self, ended: Ended | None = None) -> None:
        state = self._state()
        records = {record.id: record for record in state.jobs.values()}
        assert len(records) == len(state.jobs), f"one engine job has two records: {state.jobs}"
        book = self.world.book.done
        ours = [done for done in book if done.by_us and done.deed.verb is Verb.RUN]
        for done in book:
            assert not done.by_us or done.op is not None, f"sent without an intent on disk: {done}"
        executed = Counter(done.deed.job_id for done in ours)
        for job_id, times in executed.items():
            assert times <= self.account.asks[job_id], f"{job_id} was run {times} times: {self.account.asks[job_id]}"
        newest = {d.deed.job_id: d for d in book[self.seen_done :] if d.by_us and d.deed.verb is Verb.RUN}
        wanted = {job.id: job for job in self.jobs.values()}
        for done in book[self.seen_done :]:
            job = wanted.get(done.deed.job_id)
            is_restarted = done.deed.verb is Verb.ABORT and job is not None and job.state is Desired.RUNNING
            if done.by_us and (done.deed.verb is Verb.RUN or is_restarted):
                self.account.spend(done.deed.job_id, job.run_token if job else None)
        for job_id, done in newest.items():
            record = records.get(job_id)
            assert record is not None, f"a run of {job_id} is not on record"
            assert (record.doubt is not None and record.doubt.op == done.op) or (
                record.state is Desired.RUNNING and same_config(record.config, done.deed.config)
            ), f"a run of {job_id} is on record as {record}"
        for job_id, record in records.items():
            self.account.adopted(job_id, record)
        self.seen_done = len(book)
        self._check_order(newest)
        self._check_settled(records)
        self._note_doubts()
        if ended is not None:
            self._check_outcomes(ended, records, executed)
        content = self.world.disk.files.get(STATE)
        if content is not None and (not self.versions or self.versions[-1] != content):
            self.versions.append(bytes(content))

    def _check_protected(self, protected: set[str], at: int) -> None:
        """What was recorded as protected was neither aborted nor deleted, unless the manifest lifted that."""
        says = {job.id: job.protect for job in self.jobs.values() if job.protect is not None}
        for done in self.world.book.done[at:]:
            if done.by_us and done.deed.verb is not Verb.RUN:
                job_id = done.deed.job_id
                assert not says.get(job_id, job_id in protected), f"{job_id} is protected: {done.deed}"

    def _check_order(self, newest: Iterable[str]) -> None:
        """What we ran came after what it is to come after, as far as nobody else acted and no read lagged."""
        by_id = {job.id: job for job in self.jobs.values()}
        for job_id in newest:
            for other in by_id[job_id].after if job_id in by_id else ():
                first = self.world.server_job(self.jobs[other].id)
                if first is None or first.id in self.disturbed:
                    continue
                state = server_state(first, self.world.clock())
                assert state is JobState.COMPLETE, f"{job_id} was run, and {other}, which comes first, is {state}"

    def _note_doubts(self) -> None:
        """Remember the doubts on record; one that is new starts with nobody else at work."""
        found = {record.doubt.op: record for record in self._state().jobs.values() if record.doubt is not None}
        for op, record in found.items():
            if op not in self.doubts:
                self.disturbed.discard(record.id)
        self.doubts = found

    def _check_settled(self, records: dict[str, Record]) -> None:
        """A doubt that is gone was settled as it was, as far as anyone could tell."""
        there = {record.doubt.op for record in records.values() if record.doubt is not None}
        for op, held in self.doubts.items():
            doubt, job_id = held.doubt, held.id
            assert doubt is not None
            if op in there or doubt.verb is not Verb.RUN or job_id in self.disturbed:
                continue
            record = records.get(job_id)
            later = [d for d in self.world.book.done if d.by_us and d.deed.job_id == job_id and d.op != op]
            if self._worked(op) and not (later and later[-1] is self._last_of(job_id)):
                assert record is not None
                assert doubt.run_token is None or doubt.run_token in record.run_tokens, "a consumed token was dropped"

    def _last_of(self, job_id: str) -> Any:
        return [d for d in self.world.book.done if d.by_us and d.deed.job_id == job_id][-1]

    def _check_outcomes(self, ended: Ended, records: dict[str, Record], executed: Counter[str]) -> None:
        in_doubt = False
        for outcome in ended.outcomes:
            job_id, record = outcome.action.id, records.get(outcome.action.id)
            doubtful = record is not None and record.doubt is not None
            in_doubt |= doubtful
            assert (outcome.outcome is Outcome.IN_DOUBT) <= doubtful, outcome
            if doubtful:
                said = f"{outcome.error} {outcome.note} {outcome.action.reason}"
                assert f"reconciler resolve {outcome.action.job}" in said or "skipped" in said, outcome
            if outcome.outcome is Outcome.SUCCEEDED and not doubtful:
                job = self.jobs.get(outcome.action.job)
                if job and job.suspend is not None:
                    continue
                if job and job.state is Desired.RUNNING:
                    self.account.spend(job_id, job.run_token)
                self.account.close(job_id, executed[job_id])
                if job and record and record.state is Desired.RUNNING and same_config(record.config, job.config):
                    self.account.take_config(job)
        if ended.exit_code is not None:
            shown = {(call.method, call.path) for outcome in ended.outcomes for call in outcome.action.calls}
            assert shown.issuperset(ended.changing), f"no plan showed {set(ended.changing) - shown}"
        if ended.exit_code is not None and in_doubt:
            assert ended.exit_code is ExitCode.IN_DOUBT, f"exit {ended.exit_code} with a call in doubt"


def _without(names: tuple[str, ...], gone: str, new: str = "") -> tuple[str, ...]:
    return tuple(filter(None, (new if name == gone else name for name in names)))


def run(sequences: int, number: int) -> None:
    """Run so many histories with this seed. Raises what the first that breaks a rule raises, made small."""
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
    parser.add_argument("--jobs", type=int, default=2, help="programs at once")
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
                sys.exit(f"{broken}\nplay it again: python tests/model.py --sequences {size} --jobs 1 --seed {number}")
            played += size
            print(f"{played} played, no rule broken, {monotonic() - started_s:.0f} s", flush=True)


def _broken(sequences: int, number: int) -> str:
    """How a rule was broken, with the steps that lead there, "" where none was."""
    try:
        run(sequences, number)
    except Exception:  # noqa: BLE001  it goes to the program that started this one, as text
        return format_exc()
    return ""


if __name__ == "__main__":
    main()
