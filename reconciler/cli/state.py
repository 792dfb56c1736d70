"""`reconciler state`: look at what is recorded, and mend it."""

import click

from reconciler.cli.shell import Shell, lock_timeout, options
from reconciler.errors import ExitCode, ReconcilerError


@click.group()
def state() -> None:
    """Look at the state, and mend it."""


@state.command("list")
@options("json")
def state_list(shell: Shell) -> ExitCode:
    """List the recorded jobs."""
    from reconciler import app
    from reconciler.render import json, text
    from reconciler.state.codec import record_to_json

    found = app.recorded(shell.place, shell.world)
    if shell.form == "json":
        documents = {} if found is None else {name: record_to_json(record) for name, record in found.jobs.items()}
        shell.document(json.records(found, documents))
    else:
        shell.terminal.answer(text.records(found))
    return ExitCode.DONE


@state.command("show")
@click.argument("job")
@options("json")
def state_show(shell: Shell, job: str) -> ExitCode:
    """Show what is recorded of one job."""
    from reconciler import app
    from reconciler.render import text
    from reconciler.state.codec import record_to_json

    found = app.recorded(shell.place, shell.world)
    if found is None or job not in found.jobs:
        raise ReconcilerError(f"nothing is recorded of {job}", "reconciler state list shows the names")
    document = record_to_json(found.jobs[job])
    if shell.form == "json":
        shell.document({"job": job, **document})
    else:
        shell.terminal.answer(text.record(job, document))
    return ExitCode.DONE


@state.command("forget")
@click.argument("job")
@lock_timeout
@options()
def state_forget(shell: Shell, job: str, lock_timeout: float) -> ExitCode:
    """Drop a record. Calls nothing: the job stays as it is at the service."""
    from reconciler import app

    app.forget(shell.place, shell.world, job, lock_timeout)
    shell.terminal.answer(f"Forgotten: {job}. It stays as it is at the service.")
    return ExitCode.DONE


@state.command("accept")
@lock_timeout
@options()
def state_accept(shell: Shell, lock_timeout: float) -> ExitCode:
    """Take the state file as it stands as true.

    For one that was edited, merged or rolled back on purpose, or whose service moved.
    """
    from reconciler import app

    accepted, remarks = app.accept(shell.place, shell.world, lock_timeout)
    for remark in remarks:
        shell.terminal.remark(f"accepted: {remark}")
    jobs = "1 job" if len(accepted.jobs) == 1 else f"{len(accepted.jobs)} jobs"
    verb = "Accepted" if remarks else "Nothing to accept: the state is sound"
    shell.terminal.answer(f"{verb}: {jobs}, serial {accepted.serial}.")
    return ExitCode.DONE
