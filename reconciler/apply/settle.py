"""Settles the calls in doubt: calls whose answer was lost, in this apply or in an earlier one.

Each job with such a call is observed twice, some time apart. One observation is not enough, because the service may
carry out a call some time after it took the call.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from reconciler.engines.port import Engine
from reconciler.model.history import APPLIED, NOT_APPLIED, OBSERVED, Details
from reconciler.model.jobs import Observation, Record, Status, Verb
from reconciler.rules.lost_calls import Trace, trace_of
from reconciler.rules.records import settled
from reconciler.state.session import Session


class Pending(NamedTuple):
    """A call in doubt that left no trace at the first look. `looked_at_s` is the time of that look on the boot clock.

    `op` identifies the call. The name of the job would not do: between the two looks the job may get another name, and
    another job may get this name.
    """

    op: str
    looked_at_s: float


def look(session: Session, engine: Engine, monotonic: Callable[[], float]) -> list[Pending]:
    """Observe each job with a call in doubt once, and settle the calls that took effect.

    Returns the calls that left no trace. A call about which the observation proves nothing stays in doubt, and is not
    returned. Raises as `Engine.observe` does, and `JournalBroken` if the journal can't be written.
    """
    pending: list[Pending] = []
    for op, name in _in_doubt(session).items():
        record = session.record_of(name)
        assert record is not None
        observed = engine.observe(record.id)
        match _trace(record, observed):
            case Trace.DONE:
                _conclude(session, name, record, observed, was_applied=True)
            case Trace.NOT_DONE:
                pending.append(Pending(op, monotonic()))
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
        observed = engine.observe(record.id)
        trace = _trace(record, observed)
        if trace is Trace.UNKNOWN:
            continue
        if trace is Trace.DONE or (record.doubt is not None and record.doubt.verb is Verb.RUN):
            _conclude(session, name, record, observed, was_applied=trace is Trace.DONE)
        yield name


def conclude_doubt(
    session: Session, name: str, record: Record, words: str, *, was_applied: bool, began: str | None = None
) -> None:
    """Settle the call in doubt of a record, and write the result to the journal.

    `words` says what the service shows, for the history. `began` is as in `settled`. Raises `JournalBroken` if the
    journal can't be written.
    """
    assert record.doubt is not None
    details = Details(APPLIED if was_applied else NOT_APPLIED, reason=OBSERVED + words)
    session.conclude(record.doubt.op, name, settled(record, was_applied, began), words, details)


def _in_doubt(session: Session) -> Mapping[str, str]:
    """The name of the job of each call in doubt, by the id of the call."""
    return {record.doubt.op: name for name, record in session.state.jobs.items() if record.doubt is not None}


def _trace(record: Record, observed: Observation) -> Trace:
    """What the observation proves about the call in doubt of a record."""
    doubt = record.doubt
    assert doubt is not None
    if observed.status is Status.UNREADABLE:
        return Trace.UNKNOWN
    return trace_of(doubt.verb, doubt.before, observed)


def _conclude(session: Session, name: str, record: Record, observed: Observation, *, was_applied: bool) -> None:
    """Settle a call in doubt by an observation."""
    found = "the service shows that it was carried out"
    words = found if was_applied else "two checks, some time apart, found no trace of it"
    conclude_doubt(session, name, record, words, was_applied=was_applied, began=observed.run_began)
