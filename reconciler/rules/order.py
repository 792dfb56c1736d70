"""The order of runs: a run or restart waits until the jobs in `after` have completed.

A run that waits for the end of an active run of its own job (`decide`) waits for the jobs in `after` too.

Each job in `after` is judged by its own decision first, then by its observation:

    job in `after`                                the job that comes after it
    --------------------------------------------  ----------------------------------------
    to be run first, itself waiting, or active    waits
    active, as the recorded run, at an engine     is run, and the engine begins the run once those
    that promises `chains`                        have completed
    complete, and not in an earlier run           is run
    in doubt, held, failed, aborted, missing, ..  is held, because that job does not complete by itself
    not observed, as in a plan without reads      is run, and the reason names the order
"""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import assert_never

from reconciler.model.commands import settling
from reconciler.model.jobs import (
    NOT_ASKED,
    NOT_OBSERVED,
    Desired,
    Observation,
    Record,
    Status,
    Verb,
)
from reconciler.model.plan import ActionKind
from reconciler.model.times import TimeOrder
from reconciler.rules.decide import decide
from reconciler.rules.decisions import Decision, hold, wait
from reconciler.rules.matching import Subject
from reconciler.rules.observations import NO_DETAIL, observation_words
from reconciler.rules.records import asked, ran_since
from reconciler.rules.runs import number_of
from reconciler.rules.sight import as_seen
from reconciler.rules.table import WAITING, Asked
from reconciler.rules.words import ended


class Standing(StrEnum):
    """What a job means for the jobs that come after it."""

    COMPLETE = "has completed"
    UNDERWAY = "may yet complete"
    RUNNING = "has a run that the engine can wait for"
    FIRST = "is run first by the same apply"
    STUCK = "does not complete by itself"
    NOT_OBSERVED = "was not observed"


_UNDERWAY = frozenset({Standing.UNDERWAY, Standing.RUNNING, Standing.FIRST})
_IN_TURN = "the apply sends it right after that, and the engine begins it once that has completed"


class Order:
    """Lets a run wait until the jobs that it comes after have completed.

    `subjects` are all jobs. `observed` maps engine job ids to observations, and lacks the jobs that were not observed.
    `acts` takes a job's name, and returns whether this plan or apply includes the job. `is_stale` takes a job's name
    and its observation, and returns whether the observation is older than the last run that this apply started.
    """

    def __init__(
        self,
        subjects: Iterable[Subject],
        observed: Mapping[str, Observation],
        acts: Callable[[str], bool],
        is_stale: Callable[[str, Observation], bool] = lambda name, observed: False,
    ) -> None:
        self._subjects = subjects
        self._observed = observed
        self._acts = acts
        self._is_stale = is_stale
        self._by_name: Mapping[str, Subject] = {}
        self._judged: dict[str, tuple[Standing, str]] = {}

    def defer(self, decision: Decision, subject: Subject) -> Decision:
        """The same decision; a wait or a hold if it runs the job and a job in `after` has not completed.

        The decision waits as long as such a job may yet complete by itself. Otherwise the job is held. The engine waits
        where it promises to: the decision then names the jobs.
        """
        after, record = subject.job.after, subject.record
        if not after or Verb.RUN not in decision.verbs:
            return decision
        judged = {name: self._standing(name) for name in after}
        for name, (standing, words) in judged.items():
            if standing is Standing.STUCK:
                way_out = f"this goes on once {name} has completed, or is taken out of `after`"
                return hold(record, f"comes after {name}, which {words}: ", way_out, decision.changes)
        underway = {name: standing for name, (standing, _) in judged.items() if standing in _UNDERWAY}
        if underway:
            return self._deferred(decision, subject, underway)
        not_observed = [name for name, (standing, _) in judged.items() if standing is Standing.NOT_OBSERVED]
        return (
            decision._replace(reason=f"{decision.reason}; after {', '.join(not_observed)}")
            if not_observed
            else decision
        )

    def _deferred(self, decision: Decision, subject: Subject, underway: Mapping[str, Standing]) -> Decision:
        """The wait for jobs that may yet complete, or the run that the engine begins after theirs."""
        standings, is_own_wait = frozenset(underway.values()), decision.kind is ActionKind.WAIT
        if standings == {Standing.RUNNING} and not is_own_wait:
            why = f"{decision.reason}; it begins once {' and '.join(underway)} has completed"
            return decision._replace(reason=why, after=tuple(underway))
        waits = ", ".join(f"{name} ({self._judged[name][1]})" for name in underway)
        if is_own_wait:  # for the end of its own run, too
            own = decision.reason.removesuffix(decision.way_out)
            return wait(decision, f"waiting for {waits}; {own}", decision.way_out)
        chains = subject.terms.promises.chains and Standing.UNDERWAY not in standings
        way_out = _IN_TURN if chains else f"the next apply goes on once that has completed, {WAITING} waits for it"
        return wait(decision, f"waiting for {waits}: ", way_out)

    def _standing(self, name: str) -> tuple[Standing, str]:
        """The standing of a job, and its words. A stack takes the place of recursion, so that a chain may be long."""
        if not self._by_name:
            self._by_name = {subject.job.name: subject for subject in self._subjects}
        stack = [name]
        while stack:
            top = stack[-1]
            if top in self._judged:
                stack.pop()
                continue
            left = [other for other in self._by_name[top].job.after if other not in self._judged]
            if left:
                stack += left
            else:
                self._judged[top] = self._judge(self._by_name[top])
        return self._judged[name]

    def _judge(self, subject: Subject) -> tuple[Standing, str]:
        """The standing of a job, and its words. The jobs in `after` of this job have been judged."""
        job, record = subject.job, subject.record
        observation = self._observed.get(job.id)
        if observation is None and not subject.terms.promises.reads:
            observation = NOT_OBSERVED  # nobody has to ask to know the answer
        if observation is not None:
            observation = as_seen(subject, observation)
        if record is not None and record.doubt is not None:
            if record.doubt.holder:
                return Standing.UNDERWAY, f"a call is under way: {record.doubt.holder}"
            return Standing.STUCK, f"has a call in doubt ({settling(job.name)})"
        decision = self.defer(decide(subject, observation or NOT_ASKED), subject)
        if decision.kind is ActionKind.WAIT and self._acts(job.name):
            is_in_turn = decision.way_out == _IN_TURN
            return Standing.FIRST if is_in_turn else Standing.UNDERWAY, "which is itself waiting"
        if Verb.RUN in decision.verbs:
            if self._acts(job.name):
                return Standing.FIRST, "to be run first"
            return Standing.STUCK, "has to be run first, and this plan does not include it"
        if observation is None:
            return Standing.NOT_OBSERVED, ""
        if decision.kind is ActionKind.HOLD and asked(subject) in (Asked.NEW_TOKEN, Asked.RERUN, Asked.FIRST_RUN):
            return Standing.STUCK, f"is held: {decision.reason}"
        return self._of_status(subject, observation, decision)

    def _of_status(self, subject: Subject, observation: Observation, decision: Decision) -> tuple[Standing, str]:
        """The standing of a job that is not to be run, and its words."""
        job, record = subject.job, subject.record
        words = observation_words(observation)
        match observation.status:
            case Status.FORGOTTEN_COMPLETE:
                return Standing.COMPLETE, ""
            case Status.COMPLETE:
                is_stale = self._is_stale(job.name, observation) and not _is_of_recorded_number(record, observation)
                if is_stale or _is_of_earlier_run(record, observation):
                    return Standing.UNDERWAY, f"{words}, as read of an earlier run"
                return Standing.COMPLETE, ""
            case Status.ACTIVE:
                ends = decision.kind in (ActionKind.ABORT, ActionKind.DELETE)
                if ends:
                    return Standing.STUCK, f"is declared {job.state}"
                return Standing.RUNNING if _is_chained_to(subject, observation, decision) else Standing.UNDERWAY, words
            case Status.NOT_OBSERVED:
                return _of_recorded_end(job.name, record)
            case Status.DRAFT | Status.WITHDRAWN:
                return Standing.STUCK, f"was not run ({words})"
            case Status.UNREADABLE:
                return Standing.STUCK, f"can't be read: {observation.detail or NO_DETAIL}"
            case Status.FORGOTTEN:
                return Standing.STUCK, f"is {words} ({ended(job.name)} settles that)"
            case (
                Status.FAILED
                | Status.ABORTED
                | Status.MISSING
                | Status.NOTHING
                | Status.TAKEN_AWAY
                | Status.FORGOTTEN_FAILED
                | Status.FORGOTTEN_ABORTED
                | Status.OTHER_OWNER
            ):
                return Standing.STUCK, f"is {words}"
        assert_never(observation.status)


def _is_chained_to(subject: Subject, observed: Observation, decision: Decision) -> bool:
    """Whether the engine can wait for the active run of a job: it is the recorded run, and it is left alone."""
    record, promises = subject.record, subject.terms.promises
    is_left_alone = decision.kind in (ActionKind.NOOP, ActionKind.ADOPT)
    is_recorded = record is not None and record.doubt is None and record.ref != "" and record.ref == observed.ref
    return promises.chains and is_left_alone and is_recorded


def _of_recorded_end(name: str, record: Record | None) -> tuple[Standing, str]:
    """The standing of a job at an engine without reads, and its words. The record alone tells how the run ended."""
    end = record.end if record is not None and record.state is Desired.RUNNING else None
    if end is Status.COMPLETE:
        return Standing.COMPLETE, ""
    if end is not None:
        return Standing.STUCK, f"is recorded as {end}"
    unread = "can't be read, because the service offers no reads"
    is_run = record is not None and record.state is Desired.RUNNING
    return Standing.STUCK, f"{unread} ({ended(name)} settles that)" if is_run else unread


def _is_of_recorded_number(record: Record | None, observed: Observation) -> bool:
    """Whether the run id says that the observed run is the recorded run. No time is needed then to tell the two."""
    return record is not None and record.run > 0 and number_of(observed.run_id, record.id) == record.run


def _is_of_earlier_run(record: Record | None, observed: Observation) -> bool:
    """Whether the observed run began before the recorded run, or may have begun before it."""
    if record is None or not record.submitted_at or not ran_since(record, observed):
        return False
    return observed.stands_to(record.submitted_at) is not TimeOrder.LATER
