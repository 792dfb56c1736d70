"""Whether a state may take the place of the recorded one."""

from reconciler.model.commands import command, settling
from reconciler.model.errors import Refused
from reconciler.model.jobs import Desired, State, title


def is_newer(state: State, recorded: State | None, where: str) -> bool:
    """Whether a state may take the place of the recorded one. False means that both are the same.

    Raises `Refused` if the state is not newer, is of another lineage, lacks a call in doubt, or lacks runs.
    """
    if recorded is None or state == recorded:
        return recorded is None
    look = f"look at both: {command('state pull', options=['--out', 'FILE'])} writes the one that is there to a file"
    if state.lineage != recorded.lineage:
        raise Refused(f"{where} is of lineage {recorded.lineage}, and the state to push of {state.lineage}", look)
    if state.serial <= recorded.serial:
        raise Refused(
            f"{where} is at serial {recorded.serial}, and the state to push at {state.serial}: not newer", look
        )
    for name, record in recorded.jobs.items():
        pushed = state.jobs.get(name)
        if record.doubt is not None and (pushed is None or pushed.doubt != record.doubt):
            raise Refused(
                f"{where} has a call in doubt of {name}, which the state to push lacks",
                f"settle it first: {command('apply')}, or {settling(name)}",
            )
    _refuse_lossy(state, recorded, where, look)
    return True


def _refuse_lossy(state: State, recorded: State, where: str, hint: str) -> None:
    """Raise `Refused` if a state counts fewer runs than the recorded one, or lacks what the recorded one consumed."""
    for job_id, run in recorded.last.items():
        if state.last.get(job_id, 0) < run:
            raise Refused(
                f"{where} has counted {run} runs of the engine job {job_id}, and the state to push counts "
                f"{state.last.get(job_id, 0)}, so that a run id would come twice",
                hint,
            )
    pushed = {record.id: record for record in state.jobs.values()}
    for name, record in recorded.jobs.items():
        other = pushed.get(record.id)
        if other is None:
            if record.state in (Desired.RUNNING, Desired.ABORTED):
                raise Refused(
                    f"{where} has a record of {title(name)}, which the state to push lacks",
                    f"forget it there first, if that is meant: {command('state forget', name)}",
                )
            continue
        if lost := sorted(record.run_tokens - other.run_tokens):
            raise Refused(
                f"{where} has run {title(name)} by the run token {lost[0]}, which the state to push lacks, so that "
                "this token would run the job again",
                hint,
            )
        if record.ran_configs - other.ran_configs:
            raise Refused(
                f"{where} has run {title(name)} with a config of which the state to push does not know, so that this "
                "config could run again",
                hint,
            )
