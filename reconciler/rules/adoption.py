"""Adoption: the manifest entry and the record for a job that the service already has. `import` uses these rules.

    observed          declared and recorded as
    ----------------  --------------------------------------------------------
    active            running, with its config
    complete, failed  running, with its config: it ran, and is not run again
    aborted           aborted, with its config for when it is run again
    draft             aborted: as running it would be a run that was lost

The next plan must be empty for an adopted job, with and without an observation. `with_empty_plan` checks that.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, assert_never

from reconciler.model.commands import command, settling
from reconciler.model.jobs import NOT_ASKED, Config, Desired, Job, Observation, Record, Status, Verb
from reconciler.model.plan import ActionKind
from reconciler.rules.configs import SameConfig, config_changes, show_changes
from reconciler.rules.decide import decide
from reconciler.rules.matching import Subject
from reconciler.rules.records import adopted, is_ending
from reconciler.rules.runs import MAX_RUN, number_of


class Candidate(NamedTuple):
    """A job of the service that may be adopted, and the name that it gets in the manifest."""

    name: str
    id: str
    observed: Observation


class Adopted(NamedTuple):
    """An adopted job. `fields` are the fields of its manifest entry, and `record` is its record in the state.

    `recorded_as` is the key of the record that the state already has for the job; "" if the state has none.
    """

    name: str
    fields: Mapping[str, Any]
    record: Record
    observed: Observation
    recorded_as: str = ""


class LeftOut(NamedTuple):
    """A job that is not adopted, and why."""

    name: str
    id: str
    why: str


def candidates(
    jobs: Iterable[tuple[str, Observation]],
    declared: Collection[str],
    records: Mapping[str, Record],
    is_name: Callable[[str], bool],
) -> Iterator[Candidate]:
    """Name each job: by its record, else by the name that the service has, else by the engine job id.

    The name that the service has is used if it is a valid name (`is_name`), is printable, and names no other job.
    `jobs` are engine job ids with observations, and `declared` are the names in the manifest.
    """
    jobs = list(jobs)
    wishes = {job_id: " ".join(observed.name.split()) for job_id, observed in jobs}
    bearers = Counter(wishes.values())
    recorded = {record.id: name for name, record in records.items()}
    used = {*declared, *records, *wishes}
    for job_id, observed in jobs:
        wish = wishes[job_id]
        fits = is_name(wish) and wish.isprintable() and bearers[wish] == 1 and wish not in used
        yield Candidate(recorded.get(job_id, wish if fits else job_id), job_id, observed)


def adopt(
    found: Iterable[Candidate],
    declared: Mapping[str, Job],
    records: Mapping[str, Record],
    fault_of: Callable[[str, Mapping[str, Any]], str],
    same_config: SameConfig,
) -> tuple[list[Adopted], list[LeftOut]]:
    """The jobs that can be adopted, and the jobs that can't, each in the order of `found`.

    `fault_of` takes the name and the fields of a job, and returns why the manifest can't declare it; "" if it can.
    `same_config` is that of the engine.
    """
    declared_as = {job.id: name for name, job in declared.items()}
    recorded_as = {record.id: name for name, record in records.items()}
    adopted: list[Adopted] = []
    left: list[LeftOut] = []
    for candidate in found:
        name, job_id, observed = candidate
        key = recorded_as.get(job_id, "")
        record = records.get(key)
        # A run that is ending, because it was aborted, is not a run to adopt.
        asked = Desired.ABORTED if is_ending(record, observed) else _asked(observed)
        why = _obstacle(candidate, declared_as.get(job_id), declared, key, records)
        if not why and isinstance(asked, Desired):
            made = _adopted(candidate, asked, record, key, same_config)
            why = fault_of(name, {"id": job_id, **made.fields})
            if not why:
                adopted.append(made)
        if why or not isinstance(asked, Desired):
            left.append(LeftOut(name, job_id, why or str(asked)))
    return adopted, left


def _obstacle(
    found: Candidate, declared_as: str | None, declared: Mapping[str, Job], key: str, records: Mapping[str, Record]
) -> str:
    """Why the manifest or the state does not allow to adopt a job; "" if both do. `key` is the key of its record."""
    name = found.name
    record = records.get(key)
    if number_of(found.observed.run_id, found.id) >= MAX_RUN:
        return f"its run {found.observed.run_id} has the greatest number that a run can have, so no other can follow it"
    if declared_as is not None:
        look = command("plan", options=["--refresh"])
        return f"the manifest has it already, as {declared_as}: {look} looks at it"
    if name in declared:
        return f"another job of this name is declared, with the id {declared[name].id}: choose another name"
    if name in records and key != name:
        return (
            f"another job is recorded by this name, with the id {records[name].id}: choose another name, "
            f"or drop that record ({command('state forget', name)})"
        )
    if record is not None and record.target is not None:
        return f"it is recorded for {record.target}: drop that record first ({command('state forget', key)})"
    if record is not None and record.doubt is not None:
        return f"a call is in doubt: settle it first ({settling(key)})"
    return ""


def with_empty_plan(adopted: Adopted, job: Job, same_config: SameConfig) -> Adopted | LeftOut:
    """The adopted job for which the next plan is empty, in spite of the manifest's defaults; or why there is none.

    `job` is the entry with the defaults of the manifest applied. If the defaults set a flag, the entry sets the flag to
    false, if that is the same for the engine as no flag. An entry can't undo a time limit that the defaults set, so
    that such a job is left out.
    """
    added = {field: value for field, value in job.config.items() if field not in adopted.record.config}
    flags = {field: False for field, value in added.items() if value is True and same_config({field: False}, {})}
    if flags:
        adopted = adopted._replace(fields={**adopted.fields, "config": {**adopted.fields.get("config", {}), **flags}})
        job = job._replace(config={**job.config, **flags})
    if job.state is Desired.RUNNING and not same_config(job.config, adopted.record.config):
        changes = show_changes(config_changes(adopted.record.config, {**job.config}, same_config))
        why = f"the manifest's defaults ask for another config than it has ({changes}), and no run may follow from that"
        if adopted.observed.config is None:
            why = f"the service does not tell its config, and the manifest's defaults ask for one ({changes})"
        return LeftOut(adopted.name, job.id, f"{why}: take it over in a manifest without them")
    for observed in (NOT_ASKED, adopted.observed):
        decision = decide(Subject(job, adopted.record, same_config), observed)
        if decision.kind is not ActionKind.NOOP:
            return LeftOut(
                adopted.name, job.id, f"the next plan would not be empty: {decision.kind}: {decision.reason}"
            )
    return adopted


def _adopted(
    found: Candidate, asked: Desired, record: Record | None, recorded_as: str, same_config: SameConfig
) -> Adopted:
    """The manifest entry and the record of a job. `asked` is the state that the entry declares."""
    config = _config(found.observed.config, same_config)
    verb = Verb.RUN if asked is Desired.RUNNING else Verb.ABORT
    job = Job(found.name, found.id, asked, config)
    fields: dict[str, Any] = {"id": found.id} if found.id != found.name else {}
    fields |= {"state": asked.value} | ({"config": config} if config else {})
    ran = config if verb is Verb.RUN else None
    after = adopted(job, record, verb, found.observed, ran)._replace(config=config)
    return Adopted(found.name, fields, after, found.observed, recorded_as)


def _config(observed: Config | None, same_config: SameConfig) -> Config:
    """An observed config without the fields that are the same for the engine as a field that is left out."""
    return {field: value for field, value in (observed or {}).items() if not same_config({field: value}, {})}


def _asked(observed: Observation) -> Desired | str:
    """The state that the manifest declares for a job, or why the job can't be declared."""
    match observed.status:
        case Status.ACTIVE | Status.COMPLETE | Status.FAILED:
            return Desired.RUNNING
        case Status.ABORTED | Status.DRAFT | Status.WITHDRAWN:
            return Desired.ABORTED
        case Status.MISSING | Status.NOTHING | Status.TAKEN_AWAY:
            return "the service has no such job"
        case Status.FORGOTTEN | Status.FORGOTTEN_COMPLETE | Status.FORGOTTEN_FAILED | Status.FORGOTTEN_ABORTED:
            return "the engine knows its run no more"
        case Status.OTHER_OWNER:
            return "it belongs to the state of another lineage"
        case Status.UNREADABLE:
            return f"it can't be read: {observed.detail}"
        case Status.NOT_OBSERVED:
            return "the service offers no reads, so the state of the job is not known"
    assert_never(observed.status)
