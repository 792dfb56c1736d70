"""The model's own account of what a person asked for, from the words alone: never from what the tool recorded.

It bounds the executions of each engine job from both sides. `asks` is how many there may be at most.
`owed` are the executions that have to follow: a person asked for one in a way that nothing but a run answers.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from reconciler.engines.bytenite.plugin import PLUGIN
from reconciler.model.jobs import EMPTY, Config, Desired, Job, OnConfigChange, Record, Verb

STATE = "its state became running"
ABORT = "it was aborted to be run anew"


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
    """What a person asked for: how many executions of each engine job, and in which words.

    `owed` maps a job to why one more execution of it has to follow, and to how often it had been executed when that
    was asked. A new config owes nothing: a run that is over by itself may take it for the next. `stopped` are the jobs
    that an apply was done with as aborted or absent; a wish for that which never came true owes nothing either.
    """

    def __init__(self) -> None:
        self.asks: Counter[str] = Counter()
        self.words: dict[str, Word] = {}
        self.owed: dict[str, dict[str, int]] = {}
        self.stopped: set[str] = set()
        self._first_given: dict[tuple[str, str], int] = {}

    def copy(self) -> "Account":
        """The same account, to come back to."""
        other = Account()
        other.asks, other.words = self.asks.copy(), dict(self.words)
        other.stopped, other._first_given = set(self.stopped), dict(self._first_given)
        other.owed = {job_id: dict(reasons) for job_id, reasons in self.owed.items()}
        return other

    def hear(self, job: Job, active_otherwise: bool, executed: int) -> None:
        """An apply is told of a job, which was executed so often until now.

        `active_otherwise`: no record, and it is active with a config not asked for.
        """
        word = self.words.get(job.id)
        owed = self.owed.setdefault(job.id, {})
        if job.state is not Desired.RUNNING:
            self.words[job.id] = word._replace(state=job.state) if word else Word(job.state)
            owed.clear()
            return
        for token in [why for why in owed if why not in (STATE, ABORT, job.run_token)]:
            del owed[token]  # it was taken back
        asked = word is None or word.state is not Desired.RUNNING
        if asked and (word is None or (job.id in self.stopped and not word.forgotten)):
            owed[STATE] = executed
            self.stopped.discard(job.id)
        word = word or Word(Desired.RUNNING, job.config)
        if job.run_token is not None and job.run_token not in word.spent | word.given:
            # What was run since a token was first given, also where it was taken back meanwhile, may be what it bought.
            first = self._first_given.setdefault((job.id, job.run_token), executed)
            if STATE not in owed and not word.forgotten:  # what has no record and is over already is not run again
                owed[job.run_token] = first
            asked, word = True, word._replace(given=word.given | {job.run_token})
        if job.on_config_change is OnConfigChange.RESTART:
            asked |= active_otherwise or not PLUGIN.same_config(word.config, job.config)
        self.asks[job.id] += asked
        self.words[job.id] = word._replace(state=Desired.RUNNING, config=job.config if asked else word.config)

    def aborted_to_run(self, job_id: str, executed: int) -> None:
        """We aborted a job that is declared running: what was taken from it is to be given back."""
        self.owed.setdefault(job_id, {})[ABORT] = executed

    def unpaid(self, job_id: str, executed: int) -> list[str]:
        """Why one more execution of the job has yet to follow; nothing where it is all done."""
        return [why for why, before in self.owed.get(job_id, {}).items() if executed <= before]

    def excuse(self, job_ids: Iterable[str]) -> None:
        """Nothing is owed of these: someone else had a hand in it, or a person took the record's word."""
        for job_id in job_ids:
            self.owed.pop(job_id, None)

    def spend(self, job_id: str, token: str | None) -> None:
        """The job was executed, or taken as executed, or aborted to be, while the manifest gave it this token."""
        word = self.words.get(job_id)
        if word is not None:
            spent = frozenset[str]() if token is None else frozenset({token})
            before = frozenset[str]() if word.forgotten else word.spent
            self.words[job_id] = word._replace(spent=before | spent, given=frozenset(), forgotten=False)

    def close(self, job_id: str, executed: int, *, running: bool) -> None:
        """All that was asked of this job, to be `running` or not, is done: the next execution takes a new word."""
        self.asks[job_id] = executed
        self.owed.pop(job_id, None)
        if not running:
            self.stopped.add(job_id)
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
        that either of the two lacks is asked for anew. So with an abort or delete: running may be
        asked for anew. With no record, a service that can be read
        tells that a job was run already; one that can't does not, so that a manifest that says
        `running` asks for a run.
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
            self.words[job_id] = Word(state, config, record.run_tokens)
        elif not reads:
            self.words.pop(job_id, None)
        elif job_id in self.words:
            self.words[job_id] = self.words[job_id]._replace(given=frozenset(), forgotten=True)
