"""Settles the calls in doubt: calls whose answer was lost, in this apply or in an earlier one.

Each job with such a call is observed twice, some time apart. One observation is not enough, because the service may
carry out a call some time after it took the call.

An engine with an atomic guard is asked for the run id of the run in doubt. It starts no second run of one run id, so
that a run that is not there may be sent again at once.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from reconciler.apply.context import still_knows
from reconciler.engines.port import Engine, Reason, reason_of_duplicate
from reconciler.model.history import APPLIED, NOT_APPLIED, OBSERVED, Details
from reconciler.model.jobs import Doubt, Observation, Record, Status, Verb
from reconciler.rules.lost_calls import TELLS_NOTHING, Trace, trace_of
from reconciler.rules.records import settled
from reconciler.rules.runs import digests, run_id
from reconciler.rules.sight import as_owned
from reconciler.state.session import Session


class Pending(NamedTuple):
    """A call in doubt that left no trace at the first look. `looked_at_s` is the time of that look on the boot clock.

    `op` identifies the call. The name of the job would not do: between the two looks the job may get another name, and
    another job may get this name. `may_ask_again` is as in `Subject`.
    """

    op: str
    looked_at_s: float
    may_ask_again: bool = False


def look(session: Session, engine: Engine, monotonic: Callable[[], float], now: Callable[[], str]) -> list[Pending]:
    """Observe each job with a call in doubt once, and settle the calls that took effect, or can have none any more.

    Returns the calls that left no trace, and the runs that the engine may be asked for again though it offers no reads.
    Any other call about which the observation proves nothing stays in doubt, and is not returned. `now` returns the
    time as RFC 3339. Raises as `Engine.observe` does, and `JournalBroken` if the journal can't be written.
    """
    pending: list[Pending] = []
    for op, name in _in_doubt(session).items():
        record = session.record_of(name)
        assert record is not None
        observed, trace = _looked(session, engine, record, now())
        match trace:
            case Trace.DONE | Trace.TOO_LATE:
                _conclude(session, name, record, observed, trace)
            case Trace.NOT_DONE:
                pending.append(Pending(op, monotonic(), _is_guarded(engine, record)))
            case Trace.UNKNOWN if observed.status is Status.NOT_OBSERVED and _may_be_asked(engine, record, now()):
                # The engine offers no reads. What it answers to the same run id is as good.
                pending.append(Pending(op, monotonic(), may_ask_again=True))
            case Trace.UNKNOWN:
                pass
    return pending


def look_again(
    pending: list[Pending],
    session: Session,
    engine: Engine,
    settle_s: float,
    monotonic: Callable[[], float],
    pause: Callable[[float], bool],
    now: Callable[[], str],
) -> Iterator[str]:
    """Observe each job a second time, `settle_s` seconds after its first look.

    Yields the name of each job whose call is now settled or may be sent again.

    A run without a trace at both looks was not carried out. An abort or a delete without a trace stays in doubt,
    because it may take long to show; it may be sent again. `pause` waits for a number of seconds, and ends the looks if
    it returns True. Raises as `look` does.
    """
    names = _in_doubt(session)
    for one in sorted(pending, key=lambda p: p.looked_at_s):
        left_s = one.looked_at_s + settle_s - monotonic()
        if left_s > 0 and pause(left_s):
            break
        name = names.get(one.op, "")
        record = session.record_of(name)
        if record is None:
            continue
        observed, trace = _looked(session, engine, record, now())
        if trace is Trace.UNKNOWN:
            continue
        is_settled = trace is not Trace.NOT_DONE or (record.doubt is not None and record.doubt.verb is Verb.RUN)
        if is_settled:
            _conclude(session, name, record, observed, trace)
        yield name


def conclude_doubt(
    session: Session,
    name: str,
    record: Record,
    words: str,
    *,
    was_applied: bool,
    began: str | None = None,
    ref: str = "",
    is_unseen: bool = False,
) -> None:
    """Settle the call in doubt of a record, and write the result to the journal.

    `words` says what the service shows, for the history. `began`, `ref` and `is_unseen` are as in `settled`. Raises
    `JournalBroken` if the journal can't be written.
    """
    assert record.doubt is not None
    details = Details(APPLIED if was_applied else NOT_APPLIED, reason=OBSERVED + words)
    after = settled(record, was_applied, began, ref, is_unseen=is_unseen)
    session.conclude(record.doubt.op, name, after, words, details)


def _in_doubt(session: Session) -> Mapping[str, str]:
    """The name of the job of each call in doubt, by the id of the call.

    A job that is recorded for another service is left out: nothing here can observe it.
    """
    return {
        record.doubt.op: name
        for name, record in session.state.jobs.items()
        if record.doubt is not None and record.target is None
    }


def _is_guarded(engine: Engine, record: Record) -> bool:
    """Whether the call in doubt is a run whose run id the engine can't run twice."""
    doubt = record.doubt
    return engine.promises.atomic_run and doubt is not None and doubt.verb is Verb.RUN and doubt.run > 0


def _may_be_asked(engine: Engine, record: Record, now: str) -> bool:
    """Whether the engine can't start a second run for the run in doubt, and can't have forgotten the first one."""
    return _is_guarded(engine, record) and record.doubt is not None and still_knows(engine, record.doubt, now)


def _looked(session: Session, engine: Engine, record: Record, now: str) -> tuple[Observation, Trace]:
    """Observe the job of a call in doubt. Returns the observation, and what it proves about the call."""
    doubt = record.doubt
    assert doubt is not None
    if not _is_guarded(engine, record):
        observed = as_owned(record, engine.observe(record.id), session.lineage)
        return observed, trace_of(doubt.verb, doubt.before, observed)
    observed = engine.observe(record.id, run_id(record.id, doubt.run))
    return observed, _trace_of_guarded(doubt, observed, session.lineage, still_knows(engine, doubt, now))


def _trace_of_guarded(doubt: Doubt, observed: Observation, lineage: str, is_kept: bool) -> Trace:
    """What the observation of its run id proves about a run in doubt. The lineage is that of the state.

    A run that is not there was not carried out yet, as long as the engine would still know it (`is_kept`). A run id
    that another run has can't be used by this call any more. A run of another call of this state proves nothing: the
    state is older than what the engine has. Marks that lack the lineage or the op prove nothing either: somebody may
    have taken one of them off the object of this very call.
    """
    if observed.status in TELLS_NOTHING:
        return Trace.UNKNOWN
    if observed.status in (Status.MISSING, Status.DRAFT):
        return Trace.NOT_DONE if is_kept else Trace.UNKNOWN
    asked = digests(doubt.config, doubt.run_token)._replace(lineage=lineage, op=doubt.op, commit=doubt.commit)
    return _TRACE_OF[reason_of_duplicate(observed.marks, asked)] if observed.marks.name_a_call else Trace.UNKNOWN


_TRACE_OF: Mapping[Reason, Trace] = {
    Reason.WAS_THERE: Trace.DONE,
    Reason.OTHER_OP: Trace.UNKNOWN,
    Reason.OTHER_OWNER: Trace.NOT_DONE,
}


def _conclude(session: Session, name: str, record: Record, observed: Observation, trace: Trace) -> None:
    """Settle a call in doubt by what an observation proves about the call."""
    is_missing = observed.status is Status.MISSING
    match trace:
        case Trace.DONE if record.doubt is not None and record.doubt.verb is Verb.ABORT and is_missing:
            words = "the service does not know the run any more, so there is nothing to abort"
        case Trace.DONE:
            words = "the service shows that it was carried out"
        case Trace.TOO_LATE:
            words = f"the run has ended by itself ({observed.status}), so there was nothing to abort"
        case _:
            words = "two checks, some time apart, found no trace of it"
    was_applied = trace is Trace.DONE
    began, ref = (observed.run_began, observed.ref) if was_applied else (None, "")
    conclude_doubt(session, name, record, words, was_applied=was_applied, began=began, ref=ref, is_unseen=is_missing)
