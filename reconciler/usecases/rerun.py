"""`reconciler rerun`: ask in the manifest for one more run of a job."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from reconciler.model.commands import command
from reconciler.model.errors import Refused, UnknownJob, Usage
from reconciler.model.jobs import EMPTY, NOT_ASKED, Desired, Job, Record, Status, Verb
from reconciler.usecases.engines import Pace
from reconciler.usecases.manifest_edits import parsed_with, refuse_other_changes
from reconciler.usecases.selection import ALL_NAMES

if TYPE_CHECKING:
    from reconciler.manifest import Manifest
    from reconciler.model.history import HistoryEntry
    from reconciler.model.places import Position
    from reconciler.rules.decisions import Decision
    from reconciler.rules.matching import Subject
    from reconciler.usecases.workspace import Workspace


TASKS = "tasks"
"""The field of a config that limits one run to some of its tasks. The schema of an engine without tasks lacks it."""


class Rerun(NamedTuple):
    """A run that the manifest asks for: the place of its token, the token before and after, and the next decision.

    `before` is None if the job had no `runToken`. `tasks` are the tasks that the run is limited to; "" for all.
    """

    position: "Position"
    before: str | None
    token: str
    decision: "Decision"
    tasks: str = ""


def rerun(workspace: "Workspace", name: str, token: str | None, today: str, *, failed_tasks: bool = False) -> Rerun:
    """Write a new `runToken` into the file that declares a job. Changes nothing at the service.

    With `failed_tasks`, the new run is one of those tasks alone that failed in the last run, which is read from the
    service. Raises `Refused` if no task failed, or if the run is not over, and the errors of `Engine.observe`.

    `today` is the date in UTC; a token is made from it if `token` is None. A token that the manifest has already stays
    as it is. Raises `Refused` for a job that is not declared running, and for a token that would run nothing.
    """
    from reconciler.rules.decide import decide

    manifest = workspace.files.parsed
    target = workspace.head.target
    job = _running_job(manifest, name)
    state = workspace.store.read(target)
    subject = _subject(workspace, manifest, name, state.jobs if state else {})
    consumed = _tokens_of(subject.record)
    in_history = _tokens_in(workspace.store.read_history().entries, job)
    if token is None:
        own = {job.run_token} if job.run_token else set()
        fresh = _fresh_token(today, consumed | in_history | own)
    else:
        fresh = _checked_token(name, token, consumed, in_history)
    asked, tasks = job._replace(run_token=fresh), ""
    if failed_tasks:
        tasks = _failed_tasks(workspace, name, subject.record, state.identity if state else EMPTY)
        # The text names its token: it counts for the run of this token, and for no later one.
        asked = asked._replace(config={**job.config, TASKS: f"{tasks} of {fresh}"})
    edited = manifest if asked == job else _written(workspace, manifest, asked)
    position = edited.documents[name].position(("jobs", name, "runToken"), of_key=True)
    return Rerun(position, job.run_token, fresh, decide(subject._replace(job=asked), NOT_ASKED), tasks)


def _failed_tasks(workspace: "Workspace", name: str, record: Record | None, identity: Mapping[str, str]) -> str:
    """Return the tasks that failed in the last run of a job."""
    from reconciler.rules.runs import run_id
    from reconciler.usecases.engines import plugin_for

    if TASKS not in plugin_for(workspace.head.target).config_schema.get("properties", {}):
        raise Usage(f"the engine {workspace.head.target.engine} has no tasks", "leave out --tasks")
    if record is None or not record.run:
        raise Refused(f"no run of {name} is recorded, so none of its tasks has failed", "leave out --tasks")
    wanted = run_id(record.id, record.run)
    with workspace.open_engine(Pace(), identity) as engine:
        observed = engine.observe(record.id, wanted)
    if observed.run_id != wanted:
        raise Refused(
            f"the service does not know {wanted} any more, nor which of its tasks failed", "leave out --tasks"
        )
    if observed.status is Status.ACTIVE:
        raise Refused(f"{wanted} is not over, and more of its tasks may fail", f"wait for it: {command('wait', name)}")
    if not observed.execution.failed_tasks:
        why = f": {observed.detail}" if observed.detail else ""
        raise Refused(f"no task of {wanted} is known to have failed ({observed.status}{why})", "leave out --tasks")
    return observed.execution.failed_tasks


def _running_job(manifest: "Manifest", name: str) -> Job:
    """The job of a name. Raises `UnknownJob` if there is none, and `Refused` if it is not declared running."""
    if name not in manifest.jobs:
        from reconciler.model.suggestions import Suggestions

        near = Suggestions().nearest(name, manifest.jobs)
        raise UnknownJob(
            f"no job {name} is declared",
            f"did you mean {near}?" if near else ALL_NAMES,
        )
    job = manifest.jobs[name]
    if job.state is not Desired.RUNNING:
        raise Refused(
            f"{manifest.position(name)}: {name} is declared {job.state}, and a runToken "
            "runs only a job that is declared running",
            "declare it `state: running`: that change runs it",
        )
    return job


def _subject(workspace: "Workspace", manifest: "Manifest", name: str, records: Mapping[str, Record]) -> "Subject":
    """The job with its record. Remarks if the state has the record under another name."""
    from reconciler.rules.matching import match_records
    from reconciler.rules.naming import NamedRecord
    from reconciler.usecases.engines import plugin_for

    subject = match_records(manifest.jobs, records, plugin_for(manifest.target).same_config).by_name[name]
    if subject.record is not None and subject.renamed_from:
        workspace.world.remark(NamedRecord(name, subject.renamed_from, subject.record).remark)
    return subject._replace(renamed_from="")


def _written(workspace: "Workspace", manifest: "Manifest", asked: Job) -> "Manifest":
    """Write the token of a job into its file. Returns the manifest as it is then."""
    from reconciler.manifest.edit import set_config_text, set_field
    from reconciler.manifest.faults import job_fields
    from reconciler.manifest.files import replace_source

    sources, file = workspace.files.sources, manifest.documents[asked.name].file
    after = set_field(dict(sources)[file], file, asked.name, "runToken", str(asked.run_token), job_fields())
    if asked.config != manifest.jobs[asked.name].config:
        after = set_config_text(after, file, asked.name, TASKS, str(asked.config[TASKS]), job_fields())
    edited = parsed_with(sources, file, after)
    refuse_other_changes(edited, manifest, {asked.name: asked})
    replace_source(file, after)
    return edited


def _tokens_of(record: Record | None) -> set[str]:
    """The tokens that a record has consumed, and the token of its run in doubt."""
    if record is None:
        return set()
    doubt = record.doubt
    in_doubt = doubt.run_token if doubt is not None and doubt.verb is Verb.RUN else None
    return {*record.run_tokens, *([] if in_doubt is None else [in_doubt])}


def _tokens_in(entries: "Iterable[HistoryEntry]", job: Job) -> set[str]:
    """The tokens of the runs of a job in a history. The state forgets them if a record is dropped.

    The abort of a restart has the reason of the restart, and consumes no token.
    """
    import re

    runs = (entry for entry in entries if entry.id == job.id and entry.verb != Verb.ABORT)
    found = (re.search(r'\brunToken [^"]*"([^"]+)"', entry.reason) for entry in runs)
    return {match[1] for match in found if match}


def _fresh_token(today: str, used: set[str]) -> str:
    """The token of a day: the date, or `DATE.N`, in which N is higher than in each used token of the same day."""
    numbers = []
    for token in used:
        date, dot, number = token.partition(".")
        if date == today and (not dot or (number.isascii() and number.isdecimal())):
            numbers.append(int(number) if dot else 1)
    return f"{today}.{max(numbers) + 1}" if numbers else today


def _checked_token(name: str, token: str, consumed: set[str], in_history: set[str]) -> str:
    """The token that the user gives. Raises `Usage` for an invalid token, and `Refused` for a token that was used."""
    from reconciler.manifest.faults import job_fault

    if fault := job_fault(name, {"state": "running", "runToken": token}):
        raise Usage(f"--token: {fault}")
    if token in consumed:
        raise Refused(
            f"{name} has used the runToken {token} already: it would run nothing", "give another one, or none"
        )
    if token in in_history:
        raise Refused(f"the history tells of a run of {name} by the runToken {token}", "give another one, or none")
    return token
