"""Words: the reasons and the ways out that the entries of the table carry, filled in for one job."""

from typing import assert_never

from reconciler.model.commands import command, settling
from reconciler.model.jobs import Config, Desired, Job, Observation
from reconciler.rules.configs import config_changes, quoted, show_changes
from reconciler.rules.matching import Subject
from reconciler.rules.observations import NO_DETAIL, observation_words
from reconciler.rules.records import is_new_token
from reconciler.rules.table import Asked, Cell, DriftCell


def reason_of(cell: Cell, observed: Observation) -> str:
    """The reason of an entry for a plan. It ends where the way out begins, if the entry has one."""
    words = observation_words(observed)
    return cell.reason.format(observed=words, now=reason_with("", words), detail=observed.detail or NO_DETAIL)


def reason_with(why: str, observed: str) -> str:
    """A reason with the observation in words. `observed` is "" if the job was not observed."""
    return f"{why}; the job is {observed}" if observed else why


def way_out_of(cell: Cell | DriftCell, job: Job) -> str:
    """The way out of an entry: what a user can do about the job; "" if nobody has to do anything."""
    if not cell.way_out:
        return ""
    return cell.way_out.format(
        forget=command("state forget", job.name),
        resolve=command("resolve", job.name, options=["--not-applied"]),
        settle=settling(job.name),
        ended=ended(job.name),
        take_over=command("import", f"{job.name}={job.id}"),
    )


def ended(name: str) -> str:
    """The command that says of the recorded run of a job that it had completed."""
    return command("resolve", name, options=["--ended", "complete"])


def why_asked(subject: Subject, column: Asked, replaced: Config | None = None) -> str:
    """Why the manifest asks for a run, in words.

    `replaced` holds the wanted fields as an active run has them that no record knows; None if there is no such run.
    """
    job, record = subject.job, subject.record
    match column:
        case Asked.FIRST_RUN:
            changes = () if replaced is None else config_changes(replaced, job.config, subject.same_config)
            return show_changes(changes) or "first run"
        case Asked.NEW_CONFIG | Asked.RERUN:
            return show_changes(config_changes(record.config if record else {}, job.config, subject.same_config))
        case Asked.NEW_TOKEN:
            if record is not None and record.abort_unseen:
                token = f", new runToken {quoted(job.run_token)}" if is_new_token(job, record) else ""
                return f"the run before was aborted{token}"
            if record is not None and record.state is not Desired.RUNNING:
                return f"state {record.state} → running"
            return f"new runToken {quoted(job.run_token)}"
        case Asked.SAME | Asked.ABORTED | Asked.ABSENT:
            return f"declared {job.state}"
    assert_never(column)
