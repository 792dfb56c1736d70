"""The model's own account of a person's wishes. It follows from the manifests alone, never from the tool's records.

The account bounds the executions of each engine job from both sides. `asks` is the highest number of executions. `owed`
lists the executions that must follow, since a person asked for something that only a run can fulfil.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from reconciler.engines.bytenite.plugin import PLUGIN
from reconciler.model.jobs import EMPTY, Config, Desired, Job, OnConfigChange, Record, Verb
from reconciler.model.json_values import value_of

STATE = "its state became running"
ABORT = "it was aborted to be run anew"
CONFIG = "its config is new, and asks for a run"


class Word(NamedTuple):
    """The last wish for an engine job that an apply received.

    `config` is the last config that was accepted. `spent` are the tokens that led to an execution, and `given` the
    tokens that have not yet. A token that was withdrawn before its execution counts as new if it returns after another
    execution. `ran` are the configs under which we executed the job, whatever `onConfigChange` was, and `ran_before`
    those of the time before a person dropped the record. A config of the latter may ask for a run, and need not: it is
    known only if the record that came then took over its run.
    """

    state: Desired
    config: Config = EMPTY
    ran: tuple[Config, ...] = ()
    ran_before: tuple[Config, ...] = ()
    spent: frozenset[str] = frozenset()
    given: frozenset[str] = frozenset()
    forgotten: bool = False


class Account:
    """The wishes of a person: how many executions of each engine job, and the last words for each.

    `owed` maps a job to the reasons for one more execution, each with the number of executions at the time of the wish.
    A new config owes nothing, since a run that ended by itself may keep the config for the next run. `stopped` are the
    jobs that an apply left as aborted or absent. A wish to stop a job owes nothing if it was withdrawn before it came
    true.
    """

    def __init__(self) -> None:
        self.asks: Counter[str] = Counter()
        self.words: dict[str, Word] = {}
        self.owed: dict[str, dict[str, int]] = {}
        self.stopped: set[str] = set()
        self._first_given: dict[tuple[str, str], int] = {}
        self._new_config: dict[str, Config] = {}

    def copy(self) -> "Account":
        """Return a copy of the account, to return to later."""
        other = Account()
        other.asks, other.words = self.asks.copy(), dict(self.words)
        other.stopped, other._first_given = set(self.stopped), dict(self._first_given)
        other._new_config = dict(self._new_config)
        other.owed = {job_id: dict(reasons) for job_id, reasons in self.owed.items()}
        return other

    def hear(self, job: Job, active_otherwise: bool, executed: int, taken: Iterable[Config] = ()) -> None:
        """Note that an apply receives a job, which was executed `executed` times so far.

        `active_otherwise` says that the job has no record and is active with another config. `taken` are configs that
        ask for no run: the one on record, and those under which someone else ran the job, since we may have taken over
        such a run. They lower what is owed, and not the highest number of executions.
        """
        word = self.words.get(job.id)
        owed = self.owed.setdefault(job.id, {})
        if job.state is not Desired.RUNNING:
            self.words[job.id] = word._replace(state=job.state) if word else Word(job.state)
            owed.clear()
            return
        for token in [why for why in owed if why not in (STATE, ABORT, CONFIG, job.run_token)]:
            del owed[token]  # the token was withdrawn
        if job.on_config_change is not OnConfigChange.RERUN or not _is_same(job, self._new_config.get(job.id, EMPTY)):
            owed.pop(CONFIG, None)  # the config was withdrawn
        asked = word is None or word.state is not Desired.RUNNING
        if asked and (word is None or (job.id in self.stopped and not word.forgotten)):
            owed[STATE] = executed
            self.stopped.discard(job.id)
        word = word or Word(Desired.RUNNING, job.config)
        if job.run_token is not None and job.run_token not in word.spent | word.given:
            # A run since the token was first given may be the run for the token, even if the token was withdrawn in
            # between.
            first = self._first_given.setdefault((job.id, job.run_token), executed)
            # a job without a record that has ended already is not run again
            if STATE not in owed and not word.forgotten:
                owed[job.run_token] = first
            asked, word = True, word._replace(given=word.given | {job.run_token})
        if job.on_config_change is OnConfigChange.RESTART:
            asked |= active_otherwise or not PLUGIN.same_config(word.config, job.config)
        if job.on_config_change is OnConfigChange.RERUN:
            is_new = not any(_is_same(job, one) for one in (word.config, *word.ran))
            asked |= active_otherwise or is_new
            known = (*taken, *word.ran_before)
            if is_new and not word.forgotten and not any(_is_same(job, one) for one in known):
                owed[CONFIG], self._new_config[job.id] = executed, job.config
        self.asks[job.id] += asked
        self.words[job.id] = word._replace(state=Desired.RUNNING, config=job.config if asked else word.config)

    def ask_anew(self, job: Job, executed: int) -> None:
        """Note that the service shows no run of a job whose record a person dropped: `running` asks for a first run."""
        word = self.words.get(job.id)
        if job.state is Desired.RUNNING and word is not None and word.forgotten:
            self.asks[job.id] = max(self.asks[job.id], executed + 1)

    def aborted_to_run(self, job_id: str, executed: int) -> None:
        """Note that we aborted a job that is declared running, so that a run must follow."""
        self.owed.setdefault(job_id, {})[ABORT] = executed

    def ended_by_itself(self, job_id: str, executed: int) -> None:
        """Note that the last run ended by itself, so that no abort of that run asks for another one."""
        owed = self.owed.get(job_id, {})
        if executed <= owed.get(ABORT, -1):
            del owed[ABORT]

    def unpaid(self, job_id: str, executed: int) -> list[str]:
        """Return the reasons for one more execution of the job that are still open."""
        return [why for why, before in self.owed.get(job_id, {}).items() if executed <= before]

    def excuse(self, job_ids: Iterable[str]) -> None:
        """Drop what is owed for these jobs, since someone else acted on them or a person accepted their records."""
        for job_id in job_ids:
            self.owed.pop(job_id, None)

    def spend(self, job_id: str, token: str | None, ran: Config | None = None) -> None:
        """Note that the job was executed (or counts as executed) under this token.

        `ran` is the config of an execution.
        """
        word = self.words.get(job_id)
        if word is not None:
            if word.forgotten:
                word = word._replace(ran=(), ran_before=(*word.ran_before, *word.ran))
            word = word._replace(ran=(*word.ran, ran)) if ran is not None else word
            spent = frozenset[str]() if token is None else frozenset({token})
            before = frozenset[str]() if word.forgotten else word.spent
            self.words[job_id] = word._replace(spent=before | spent, given=frozenset(), forgotten=False)

    def close(self, job_id: str, executed: int, *, running: bool) -> None:
        """Note that every wish for this job is fulfilled, so that the next execution needs a new wish."""
        self.asks[job_id] = executed
        self.owed.pop(job_id, None)
        if not running:
            self.stopped.add(job_id)
        word = self.words.get(job_id)
        if word is not None:
            spent = frozenset[str]() if word.forgotten else word.spent
            self.words[job_id] = word._replace(spent=spent, given=frozenset(), forgotten=False)

    def adopted(self, job_id: str, record: Record) -> None:
        """Note that a job whose record a person dropped has a record again, with what it says was consumed."""
        word = self.words.get(job_id)
        if word is not None and word.forgotten and record.state is not None:
            self.words[job_id] = word._replace(spent=record.run_tokens, ran=_configs(record), forgotten=False)

    def take_config(self, job: Job) -> None:
        """Note that the config is on record for the next run."""
        if job.id in self.words:
            self.words[job.id] = self.words[job.id]._replace(config=job.config)

    def believe(self, job_id: str, record: Record | None, wanted: Config, *, reads: bool) -> None:
        """Note that a person accepts the present record as the truth.

        If a run is in doubt, the person accepts either outcome: a `wanted` config that one of the two outcomes lacks is
        a new wish. If an abort or a delete is in doubt, `running` is a new wish. If there is no record, a service with
        reads shows that the job was run already. Without reads, a manifest that says `running` asks for a run.
        """
        self.owed.pop(job_id, None)
        if record is not None:
            config = record.config
            if (
                record.doubt is not None
                and record.doubt.verb is Verb.RUN
                and not PLUGIN.same_config(record.doubt.config, wanted)
            ):
                config = record.doubt.config
            ends = record.doubt is not None and record.doubt.verb is not Verb.RUN
            state = Desired.ABORTED if ends else record.state or Desired.RUNNING
            self.words[job_id] = Word(state, config, spent=record.run_tokens, ran=_configs(record))
        elif not reads:
            self.words.pop(job_id, None)
        elif job_id in self.words:
            self.words[job_id] = self.words[job_id]._replace(given=frozenset(), forgotten=True)


def _configs(record: Record) -> tuple[Config, ...]:
    """Return the configs that have run by a record that a person accepted."""
    return tuple(map(value_of, sorted(record.ran_configs)))


def _is_same(job: Job, config: Config) -> bool:
    """Whether a config has the values of the job that ask for a run."""
    names = [path.removeprefix("config.") for path in job.rerun_on]
    wanted, other = ({name: one[name] for name in one if not names or name in names} for one in (job.config, config))
    return PLUGIN.same_config(wanted, other)
