"""Settle the calls whose answer is lost, by looking at what they should have done."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from reconciler.engines.port import Engine
from reconciler.model.history import APPLIED, NOT_APPLIED, OBSERVED, Details
from reconciler.model.jobs import Doubt, Observation, Record, Status, Verb
from reconciler.rules.lost_calls import Trace, trace_of
from reconciler.rules.records import settled
from reconciler.state.session import Session


class Pending(NamedTuple):
    """A call in doubt, by its op, that left no trace at the first look, at `looked_at_s` on the boot clock.

    By the time of the second its job may have another name, and the name another job.
    """

    op: str
    looked_at_s: float


def look(session: Session, engine: Engine, monotonic: Callable[[], float]) -> list[Pending]:
    """Observe each job in doubt once. Settles those whose call shows; returns those that it does not show of.

    A doubt about which the engine can tell nothing stays as it is, and is not returned. Raises as
    `Engine.observe` does, and `JournalBroken`.
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
    """Observe a second time, `settle_s` after the first look; yields the jobs that may be acted on anew.

    A run that left no trace in either look was not done. An abort or a delete stays in doubt then, since it may take
    long to show. It may be sent again. Stops early where `pause` says so. Raises as `look` does.
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


def _in_doubt(session: Session) -> Mapping[str, str]:
    """The calls in doubt, by their op, and the name of the job of each."""
    return {record.doubt.op: name for name, record in session.state.jobs.items() if record.doubt is not None}


def _trace(record: Record, observed: Observation) -> Trace:
    doubt = record.doubt
    assert doubt is not None
    if observed.status is Status.UNREADABLE:
        return Trace.UNKNOWN
    return trace_of(doubt.verb, doubt.before, observed)


def _conclude(session: Session, name: str, record: Record, observed: Observation, *, was_applied: bool) -> None:
    doubt: Doubt | None = record.doubt
    assert doubt is not None
    words = (
        "the service shows that it was carried out"
        if was_applied
        else "two checks, some time apart, found no trace of it"
    )
    details = Details(APPLIED if was_applied else NOT_APPLIED, reason=OBSERVED + words)
    session.conclude(doubt.op, name, settled(record, was_applied, observed.run_began), words, details)
