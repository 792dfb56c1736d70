"""The parts of the steps: edits, applies, and what a person believes afterwards."""

import json
from collections.abc import Callable, Sequence

from model_commands import HISTORY, JOURNAL, STATE
from model_how import HONEST, Ended, How
from model_judge import Judge
from model_service import SETTLE_S
from model_words import CONFIGS, IDS, IDS_OF, Edit, turned, without
from reconciler.engines.bytenite.plugin import PLUGIN
from reconciler.engines.sandbox.life import JobState
from reconciler.model.errors import ExitCode, Refused, StateError
from reconciler.model.jobs import EMPTY, Config, Desired, Job, Record, State, Verb
from reconciler.model.plan import Plan
from reconciler.rules.circles import circles_in
from reconciler.rules.configs import agrees


class Hand(Judge):
    """What a person does in one step."""

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
                    jobs = {other: one._replace(after=without(one.after, name)) for other, one in jobs.items()}
                case "rename" if value not in jobs:
                    del jobs[name]
                    jobs[value] = job._replace(name=value)
                    jobs = {other: one._replace(after=without(one.after, name, value)) for other, one in jobs.items()}
                case "id" if self._is_free(IDS_OF[name][value]):
                    jobs[name] = job._replace(id=IDS_OF[name][value])
                case "swap-names" | "swap-ids" | "turn-names":
                    jobs = turned(jobs, name, what, value or 1)
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
            self.world.store().read(self.world.target)
        except StateError:
            ended = self.world.apply()
            assert isinstance(ended.refusal, StateError)
            assert not ended.changing
            self.world.accept()

    def _name_the_state_where_it_is_gone(self) -> None:
        """If the history shows a state that is gone, only a person's word starts another state.

        A first apply that sent nothing leaves a history, and no state: its lines bear the serial 0.
        """
        disk = self.world.disk
        if self.world.names_state or STATE in disk.files or JOURNAL in disk.files:
            return
        lines = bytes(disk.read(HISTORY) or b"").splitlines()
        if not any(json.loads(line)["serial"] for line in lines):
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

    def _is_as_before_its_first_run(self, job: Job) -> bool:
        there = self.world.life_of(job.id)
        if there is None and self.world.options.create_missing:
            return self.world.server_job(job.id) is None
        return there is JobState.NEW or (there is None and self.world.promises.creates_on_run)

    def _hear_all(self, prune: bool) -> None:
        state = self._state()
        recorded = {record.id: record for record in state.jobs.values()}
        executed = self._executed()
        self.world.forget_ended()
        for job in self.jobs.values():
            if job.freeze is not None:
                continue
            if job.id not in recorded and self._is_as_before_its_first_run(job):
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
        if how.is_honest and how.meanwhile is None and not self.world.options.reads:
            self._check_none_beside_another(state, ended)
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
            self.world.store().read(self.world.target)
        except StateError as fault:
            trouble = fault.message
        else:
            return False
        assert ended.crashed or ended.exit_code is not ExitCode.DONE, f"exit 0, and then: {trouble}"
        self.world.accept()
        return True
