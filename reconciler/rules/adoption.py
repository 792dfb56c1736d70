"""Which manifest entry and which record take over a job that the service has already. Pure: values in, values out.

    observed          declared and recorded as
    ----------------  --------------------------------------------------------
    active            running, with its config
    complete, failed  running, with its config: it ran, and is not run again
    aborted           aborted, with its config for when it is run again
    draft             aborted: as running it would be a run that was lost

The next plan must have nothing to do for it, whether it looks at the job or not (`settled`).
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, assert_never

from reconciler.model.commands import command, settling
from reconciler.model.jobs import NOT_OBSERVED, Config, Desired, Job, Observation, Record, Status, Verb
from reconciler.model.plan import ActionKind
from reconciler.rules.configs import config_changes, same_config, show_changes
from reconciler.rules.decide import decide
from reconciler.rules.matching import Subject
from reconciler.rules.records import applied, is_ending


class Found(NamedTuple):
    """A job of the service's that may be taken over, and the name that it is to have here."""

    name: str
    id: str
    observed: Observation


class Taken(NamedTuple):
    """A job that is taken over: `fields` stand in its manifest entry, `record` in the state.

    `recorded_as` is the name that the state has for it already, "" where it has none.
    """

    name: str
    fields: Mapping[str, Any]
    record: Record
    observed: Observation
    recorded_as: str = ""


class LeftOut(NamedTuple):
    """A job that is not taken over, and why."""

    name: str
    id: str
    why: str


def named(
    jobs: Iterable[tuple[str, Observation]],
    declared: Collection[str],
    records: Mapping[str, Record],
    is_name: Callable[[str], bool],
) -> Iterator[Found]:
    """The jobs with names: that of the record, else that of the service, else the id.

    The service's is taken where it is a name (`is_name`) that shows as it is, and that of no other
    job: one that several jobs bear does not tell them apart.
    """
    jobs = list(jobs)
    wishes = {job_id: " ".join(observed.name.split()) for job_id, observed in jobs}
    bearers = Counter(wishes.values())
    recorded = {record.id: name for name, record in records.items()}
    used = {*declared, *records, *wishes}
    for job_id, observed in jobs:
        wish = wishes[job_id]
        fits = is_name(wish) and wish.isprintable() and bearers[wish] == 1 and wish not in used
        yield Found(recorded.get(job_id, wish if fits else job_id), job_id, observed)


def take(
    found: Iterable[Found],
    declared: Mapping[str, Job],
    records: Mapping[str, Record],
    fault_of: Callable[[str, Mapping[str, Any]], str],
) -> tuple[list[Taken], list[LeftOut]]:
    """The jobs that can be taken over, and those that can't, each in the order given.

    `fault_of` says why a job of a name and fields can't be declared, "" where it can.
    """
    declared_as = {job.id: name for name, job in declared.items()}
    recorded_as = {record.id: name for name, record in records.items()}
    taken: list[Taken] = []
    left: list[LeftOut] = []
    for name, job_id, observed in found:
        key = recorded_as.get(job_id, "")
        record = records.get(key)
        # The run of an abort that has yet to show is not the run that the job is taken over for.
        asked = Desired.ABORTED if is_ending(record, observed) else _asked(observed)
        if job_id in declared_as:
            look = command("plan", options=["--refresh"])
            why = f"the manifest has it already, as {declared_as[job_id]}: {look} looks at it"
        elif name in declared:
            why = f"another job of this name is declared, with the id {declared[name].id}: choose another name"
        elif name in records and key != name:
            why = (
                f"another job is recorded by this name, with the id {records[name].id}: choose another name, "
                f"or drop that record ({command('state forget', name)})"
            )
        elif record is not None and record.doubt is not None:
            why = f"a call is in doubt: settle it first ({settling(key)})"
        elif not isinstance(asked, Desired):
            why = asked
        else:
            made = _taken(Found(name, job_id, observed), asked, record, key)
            why = fault_of(name, {"id": job_id, **made.fields})
            if not why:
                taken.append(made)
        if why:
            left.append(LeftOut(name, job_id, why))
    return taken, left


def settled(taken: Taken, job: Job) -> Taken | LeftOut:
    """The same job with nothing left to do for it, once the manifest's defaults are counted in.

    `job` is what its entry comes to in the manifest. A flag that the defaults set is unset in the entry;
    a time limit can't be.
    """
    added = {field: value for field, value in job.config.items() if field not in taken.record.config}
    flags = {field: False for field, value in added.items() if value is True}
    if flags:
        taken = taken._replace(fields={**taken.fields, "config": {**taken.fields.get("config", {}), **flags}})
        job = job._replace(config={**job.config, **flags})
    if job.state is Desired.RUNNING and not same_config(job.config, taken.record.config):
        changes = show_changes(config_changes(taken.record.config, {**job.config}))
        why = f"the manifest's defaults ask for another config than it has ({changes}), and no run may follow from that"
        if taken.observed.config is None:
            why = f"the service does not tell its config, and the manifest's defaults ask for one ({changes})"
        return LeftOut(taken.name, job.id, f"{why}: take it over in a manifest without them")
    for observed in (NOT_OBSERVED, taken.observed):
        decision = decide(Subject(job, taken.record), observed)
        if decision.kind is not ActionKind.NOOP:
            return LeftOut(taken.name, job.id, f"the next plan would not be empty: {decision.kind}: {decision.reason}")
    return taken


def _taken(found: Found, asked: Desired, record: Record | None, recorded_as: str) -> Taken:
    config = _config(found.observed.config)
    verb = Verb.RUN if asked is Desired.RUNNING else Verb.ABORT
    job = Job(found.name, found.id, asked, config)
    fields: dict[str, Any] = {"id": found.id} if found.id != found.name else {}
    fields |= {"state": asked.value} | ({"config": config} if config else {})
    after = applied(job, record, verb, found.observed.run_began)._replace(config=config)
    return Taken(found.name, fields, after, found.observed, recorded_as)


def _config(told: Config | None) -> dict[str, int | bool]:
    """A config without the fields at their default, which mean what a missing field means."""
    return {field: value for field, value in (told or {}).items() if value}


def _asked(observed: Observation) -> Desired | str:
    """What a job is declared as, or why it can't be."""
    match observed.status:
        case Status.ACTIVE | Status.COMPLETE | Status.FAILED:
            return Desired.RUNNING
        case Status.ABORTED | Status.DRAFT:
            return Desired.ABORTED
        case Status.MISSING:
            return "the service has no such job"
        case Status.UNREADABLE:
            return f"it can't be read: {observed.detail}"
        case Status.NOT_OBSERVED:
            return "the service offers no reads, so the state of the job is not known"
    assert_never(observed.status)
