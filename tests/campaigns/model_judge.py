"""The rules that hold after every step, judged by the ledger of the service and the account of the wishes."""

import math
import shlex
from collections import Counter
from collections.abc import Iterable
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine

from model_account import ABORT, CONFIG, Account
from model_commands import STATE
from model_how import Ended
from model_service import Done
from model_world import ModelWorld
from reconciler.engines.bytenite.plugin import PLUGIN
from reconciler.engines.sandbox.life import JobState
from reconciler.model.errors import ExitCode
from reconciler.model.jobs import Desired, Job, Record, State, Verb
from reconciler.model.outcomes import ActionOutcome, Outcome
from reconciler.model.plan import ActionKind, Plan


def is_held_for_an_end(reason: str) -> bool:
    """Whether a job is held because nobody knows how its run ended, or whether it has ended.

    The service offers no reads, or has forgotten a run that was to be aborted.
    """
    return "not known whether the run before has ended" in reason or "may have ended by itself" in reason


class Judge(RuleBasedStateMachine):
    """One history: its world, its account, and the rules."""

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
        self.has_older_state = False
        """Whether counts of runs are lost: with an old state that nothing on this machine knows to be old, or with a
        journal whose lines the history lacks.

        Then only an engine with an atomic guard can refuse a run id that it knows.
        """
        self.last: dict[str, int] = {}
        """The count of the runs of each engine job, which never goes back."""
        self.disturbed: set[str] = set()
        self.lagged: set[str] = set()
        """Jobs that may be held because a read or a record was old.

        The model does not demand a run that these jobs still lack.
        """

    def _state(self) -> State:
        return self.world.state

    def _executed(self, until: Done | None = None) -> Counter[str]:
        """Return how many times we ran each engine job, by the lines of the ledger before `until` (default: all).

        A run that the service has withdrawn before it executed anything is none.
        """
        runs: Counter[str] = Counter()
        withdrawn = self.world.withdrawn()
        for done in self.world.database.done:
            if done is until:
                break
            is_run = done.by_us and done.execution.verb is Verb.RUN and done.ref not in withdrawn
            runs[done.execution.job_id] += is_run
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

    def _check(self, ended: Ended | None = None) -> None:
        state = self._state()
        records = {record.id: record for record in state.jobs.values()}
        assert len(records) == len(state.jobs), f"one engine job has two records: {state.jobs}"
        assert not self.world.faults_of_intents, self.world.faults_of_intents
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
            if done.by_us and done.execution.verb is Verb.RUN:
                self.account.spend(done.execution.job_id, job.run_token if job else None, done.execution.config)
            if done.by_us and is_restarted:
                self.account.aborted_to_run(done.execution.job_id, self._executed(until=done)[done.execution.job_id])
        last = {d.execution.job_id: d for d in database[self.judged_until :] if d.by_us}
        for job_id, done in newest.items():
            if done is not last[job_id]:
                continue  # we have aborted or deleted it since
            record = records.get(job_id)
            assert record is not None, f"a run of {job_id} is not on record"
            assert (record.doubt is not None and record.doubt.op == done.op) or (
                record.state is Desired.RUNNING and PLUGIN.same_config(record.config, done.execution.config)
            ), f"a run of {job_id} is on record as {record}"
        for job_id, record in records.items():
            self.account.adopted(job_id, record)
        for job_id in filter(self.world.ended_by_itself, records):
            self.account.ended_by_itself(job_id, executed[job_id])
        self.judged_until = self.counted_until = len(database)
        self._check_order(newest)
        self._check_settled(records)
        self._check_run_ids(state)
        self._note_doubts()
        if ended is not None:
            self._check_outcomes(ended, records, executed)
        content = self.world.disk.files.get(STATE)
        if content is not None and (not self.versions or self.versions[-1] != content):
            self.versions.append(bytes(content))

    def _lose_counts(self) -> None:
        """Note that somebody takes away what is known of the last runs."""
        self.has_older_state, self.last = True, {}

    def _check_run_ids(self, state: State) -> None:
        """Check that no run id names two runs, and that the count of the runs of a job never goes back.

        A service that refuses a run id that it knows forgets the id with a delete.
        """
        deletes: Counter[str] = Counter()
        runs: Counter[tuple[str, int]] = Counter()
        for done in self.world.database.done:
            job_id = done.execution.job_id
            if done.execution.verb is Verb.DELETE:
                deletes[job_id] += 1
            elif done.by_us and done.execution.verb is Verb.RUN and done.run_id:
                runs[done.run_id, deletes[job_id]] += 1
        ids = Counter(run_id for run_id, _ in runs.elements())
        twice = [run_id for run_id, times in ids.items() if times > 1]
        promises = self.world.promises
        is_refused = promises.atomic_run and promises.keeps_ended_s == math.inf
        assert not twice or self.has_older_state, f"a run id that names two runs: {twice}"
        assert not (is_refused and runs.total() > len(runs)), f"the cluster took a run id twice: {twice}"
        for record in state.jobs.values():
            assert record.run <= state.last.get(record.id, 0), (record, state.last)
        if not state.lineage:  # there is no state yet; the next one takes its counts from the history
            return
        gone_back = {job_id: run for job_id, run in self.last.items() if state.last.get(job_id, 0) < run}
        assert not gone_back, f"the count of runs went back from {gone_back} to {state.last}"
        self.last = dict(state.last)

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
            if outcome.done is ActionKind.HOLD and is_held_for_an_end(outcome.note or outcome.action.reason):
                unpaid = [why for why in unpaid if why not in (ABORT, CONFIG)]
            assert not unpaid, f"{job_id} is not run, though {unpaid}: {outcome}"

    def _check_protected(self, protected: set[str], at: int) -> None:
        """Check that no protected job was aborted or deleted, unless the manifest lifted the protection."""
        says = {job.id: job.protect for job in self.jobs.values() if job.protect is not None}
        for done in self.world.database.done[at:]:
            if done.by_us and done.execution.verb is not Verb.RUN:
                job_id = done.execution.job_id
                assert not says.get(job_id, job_id in protected), f"{job_id} is protected: {done.execution}"

    def _check_none_beside_another(self, state: State, ended: Ended) -> None:
        """Check that an apply ran no job whose run may be active, at a service without reads.

        Only a new run token, or a restart, may start such a run. `state` is the one before the apply.
        """
        records = {record.id: record for record in state.jobs.values()}
        tokens = {job.id: job.run_token for job in self.jobs.values()}
        for outcome in ended.outcomes:
            record = records.get(outcome.action.id)
            is_run = outcome.outcome is Outcome.SUCCEEDED and outcome.done is ActionKind.RUN
            if not is_run or record is None or record.state is not Desired.RUNNING:
                continue
            is_asked = tokens.get(record.id) not in (None, *record.run_tokens)
            is_over = record.end is not None or record.doubt is not None
            assert is_asked or is_over, f"{record.id} was run, and its run before may be active: {outcome}"

    def _check_order(self, newest: Iterable[str]) -> None:
        """Check that our runs kept the order of `after`, unless someone else acted or a read was old."""
        by_id = {job.id: job for job in self.jobs.values()}
        for job_id in newest:
            for other in by_id[job_id].after if job_id in by_id else ():
                first = self.world.server_job(self.jobs[other].id)
                if first is None or first.id in self.disturbed:
                    continue
                state = self.world.life_of(first.id)
                if self.world.promises.chains:
                    continue  # the service itself keeps the order
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
