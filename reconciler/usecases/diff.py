"""`reconciler diff`: the plan that leads from the manifest of one commit to the manifest of another."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from reconciler.manifest.files import DEFAULTS
from reconciler.model.errors import ReconcilerError, Refused
from reconciler.model.jobs import Desired, Job, Record, State, Verb, title
from reconciler.model.plan import Plan
from reconciler.usecases.engines import plugin_for, plugin_named, wording_of

if TYPE_CHECKING:
    from reconciler.manifest import Manifest
    from reconciler.manifest.files import Sources
    from reconciler.manifest.revisions import Revision
    from reconciler.rules.matching import Matching
    from reconciler.rules.review import Review
    from reconciler.usecases.place import Place

_VERBS: Mapping[Desired, Verb] = {
    Desired.RUNNING: Verb.RUN,
    Desired.ABORTED: Verb.ABORT,
    Desired.ABSENT: Verb.DELETE,
}


class Compared(NamedTuple):
    """The plan of the manifest at `after`, as if the manifest at `before` had been applied.

    `records` are the records that an apply of the manifest at `before` leaves. They are empty if there was no manifest.
    """

    plan: Plan
    refusal: ReconcilerError | None
    before: "Revision"
    after: "Revision"
    manifest: "Manifest"
    matching: "Matching"
    records: Mapping[str, Record]


def diff(place: "Place", before: str, after: str) -> Compared:
    """Plan the manifest of one commit as if the manifest of another had been applied. Reads git alone.

    Raises `ReconcilerError` if there was no manifest at `after`, or if the two manifests are for different targets.
    """
    from reconciler.manifest.revisions import revision, sources_at
    from reconciler.rules.guards import loss
    from reconciler.rules.matching import match_records

    at, earlier = revision(".", after), revision(".", before)
    sources = sources_at(at, place.paths)
    if not sources:
        looked_for = " or ".join(place.paths or DEFAULTS)
        raise ReconcilerError(f"there was no manifest at {after}: no {looked_for}", "name the path that it had then")
    manifest = _manifest(sources, place, at)
    records = _records_of(earlier, place, manifest, after)
    matching = match_records(manifest.jobs, records, plugin_for(manifest.target).same_config)
    first_parts = {name.removeprefix(f"{after}:").split("/")[0]: None for name, _ in sources}
    made = _plan(manifest, matching, records, at.commit, place.paths or tuple(first_parts))
    present = sum(record.state is not Desired.ABSENT for record in records.values())
    lost = loss(len(made.undeclared), present)
    made = made._replace(warnings=(lost,) if lost else ())
    return Compared(made, _refusal(made, manifest, len(records), present), earlier, at, manifest, matching, records)


def _manifest(sources: "Sources", place: "Place", at: "Revision") -> "Manifest":
    """The manifest in these files of a commit, at the endpoint that the user names, without freezes that have ended."""
    import time

    from reconciler.manifest.committed import folder_at
    from reconciler.manifest.parse import parse
    from reconciler.manifest.revisions import content_at
    from reconciler.rules.actions import lapsed

    manifest = parse(sources, plugin_named, read=partial(content_at, at), read_folder=partial(folder_at, at))
    jobs = {**manifest.jobs, **lapsed(manifest.jobs, time.time())}
    return manifest._replace(target=place.target(manifest.target, manifest.block), jobs=jobs)


def _records_of(earlier: "Revision", place: "Place", manifest: "Manifest", after: str) -> dict[str, Record]:
    """The records that an apply of the manifest of a commit leaves. Raises `ReconcilerError` for another target."""
    from reconciler.manifest.committed import folder_at
    from reconciler.manifest.parse import parse
    from reconciler.manifest.revisions import content_at, sources_at

    sources, before = sources_at(earlier, place.paths), earlier.name
    if not sources:
        return {}
    old = parse(sources, plugin_named, read=partial(content_at, earlier), read_folder=partial(folder_at, earlier))
    if place.target(old.target, old.block) != manifest.target:
        raise ReconcilerError(
            f"the manifest is for {old.target} at {before}, and for {manifest.target} at {after}",
            "an apply refuses the state of another target; --endpoint takes both for one",
        )
    return {name: _as_applied(job) for name, job in old.jobs.items()}


def _as_applied(job: Job) -> Record:
    """The record of a job after the manifest was applied."""
    from reconciler.rules.records import applied, protection

    verb = _VERBS[job.state]
    record = applied(job, None, verb, ran=job.config if verb is Verb.RUN else None)
    return protection(job, record).get(job.name, record)


def _plan(
    manifest: "Manifest", matching: "Matching", records: Mapping[str, Record], commit: str, paths: tuple[str, ...]
) -> Plan:
    from reconciler.rules.actions import make_plan

    plan = make_plan(
        matching,
        {},
        wording_of(manifest.target),
        lambda name: True,
        state=State("", 0, manifest.target, records),
        manifest_digest=manifest.digest,
        commit=commit,
        paths=paths,
    )
    # No state is read, so nothing says how many runs a job has had.
    return plan._replace(actions=tuple([action._replace(run_id="") for action in plan.actions]))


def _refusal(plan: Plan, manifest: "Manifest", recorded: int, present: int) -> Refused | None:
    """The error of the guard that refuses a plan, or None."""
    from reconciler.rules.guards import check

    try:
        check(plan, manifest.guards, recorded, present=present)
    except Refused as refusal:
        return refusal
    return None


def review(compared: Compared) -> "Review":
    """The plan of a `diff` with everything known of its jobs."""
    from reconciler.model.plan import SAME_IN_BOTH, verdict
    from reconciler.model.plan_json import plan_digest
    from reconciler.rules.matching import prune
    from reconciler.rules.review import review_plan

    made, before, after = compared.plan, compared.before, compared.after
    review = review_plan(
        made,
        prune(compared.matching, compared.records).subjects,
        {},
        compared.manifest.position,
        {},
        state_at=f"{before.name}..{after.name} {' '.join(made.paths)}",
        refusal=compared.refusal,
    )
    facts = (
        ("Manifest", ", ".join(made.paths)),
        ("Target", str(made.target)),
        ("Observed", f"not read: {after.name} as if {before.name} had been applied"),
        ("Commit", made.commit or ""),
        ("Over commit", before.commit),
        ("Manifest digest", made.manifest_digest),
        ("Plan digest", plan_digest(made)),
    )
    summary = verdict(made, same=SAME_IN_BOTH)
    undeclared = set(map(title, made.undeclared))
    rows = tuple(
        row._replace(reason=f"no longer declared in {after.name}", way_out="") if row.job in undeclared else row
        for row in review.rows
    )
    summary = f"Refused. {summary}" if compared.refusal else summary
    return review._replace(title="Diff", verdict=summary, facts=facts, rows=rows)
