"""`reconciler state`: look at what is recorded, and repair it."""

from typing import TYPE_CHECKING

import click

from reconciler.cli import completing
from reconciler.cli.groups import Suggesting
from reconciler.cli.options import lock_timeout, options
from reconciler.cli.shell import Shell
from reconciler.model.commands import command
from reconciler.model.errors import ExitCode, ReconcilerError, Refused, Usage
from reconciler.views.answers import RecordAnswer, RecordsAnswer

if TYPE_CHECKING:
    from reconciler.model.jobs import State


@click.group(cls=Suggesting)
def state() -> None:
    """Look at the state, and repair it."""


@state.command("list")
@options(RecordsAnswer)
def state_list(shell: Shell) -> ExitCode:
    """List the recorded jobs."""
    from reconciler.usecases.state import records

    shell.show(RecordsAnswer(records(shell.workspace)))
    return ExitCode.DONE


@state.command("show")
@click.argument("job", shell_complete=completing.known_jobs)
@click.option(
    "--at", "revision", metavar="REV", default="", help="The state as it was at this revision, such as a commit."
)
@options(RecordAnswer)
def state_show(shell: Shell, job: str, revision: str) -> ExitCode:
    """Show what is recorded of one job."""
    from reconciler.usecases.state import show

    found = show(shell.workspace, job, revision)
    shell.show(RecordAnswer(found.name, found.record))
    doubt = found.record.doubt
    if doubt is not None and doubt.holder:
        shell.terminal.remark(f"The {doubt.verb} is under way, and may still be answered: {doubt.holder}")
    return ExitCode.DONE


@state.command("forget")
@click.argument("job", shell_complete=completing.known_jobs)
@lock_timeout
@options()
def state_forget(shell: Shell, job: str, lock_timeout: float) -> ExitCode:
    """Drop a record. Calls nothing: the job stays as it is at the service."""
    from reconciler.model.jobs import title
    from reconciler.usecases.state import forget

    gone, planned = forget(shell.workspace, job, lock_timeout)
    by_id = "" if gone.name == gone.record.id else f" (engine job {gone.record.id})"
    shell.terminal.answer(f"Forgotten: {title(gone.name)}{by_id}. The job itself is left as it is at the service.")
    if planned:
        shell.terminal.remark(f"{planned}; {command('plan', options=['--refresh'])} shows what the service says of it")
    return ExitCode.DONE


@state.command("mv")
@click.argument("old", shell_complete=completing.known_jobs)
@click.argument("new")
@lock_timeout
@options()
def state_mv(shell: Shell, old: str, new: str, lock_timeout: float) -> ExitCode:
    """Give a record another name.

    If a job is renamed in the manifest and keeps its id, the next apply renames its record. This command is not
    needed then.
    """
    from reconciler.model.jobs import title
    from reconciler.usecases.state import move

    moved, planned = move(shell.workspace, old, new, lock_timeout)
    shell.terminal.answer(f"Moved: {title(moved.name)} (engine job {moved.record.id}) is recorded as {new} now.")
    if planned:
        shell.terminal.remark(planned)
    return ExitCode.DONE


@state.command("accept")
@click.option("--moved-to", metavar="ADDRESS", help="The service that the state is for from now on, by its address.")
@click.option("--identity", is_flag=True, help="Take the service at the same address, which was rebuilt on purpose.")
@lock_timeout
@options()
def state_accept(shell: Shell, moved_to: str | None, identity: bool, lock_timeout: float) -> ExitCode:
    """Accept the state file as it is.

    Use this command after a state file was edited, merged or rolled back on purpose.

    A state is for one service. If that service has moved to another address for good, with its jobs and their ids,
    give the new address with --moved-to. It must be the address in the manifest or in --endpoint. For a rehearsal
    or another environment, name another state with --state instead.

    If the service at the address was rebuilt on purpose, such as a cluster, and the state is to go on with it, give
    --identity. The command reads the identity of the service, and names both.
    """
    from reconciler.usecases.state import accept, accept_identity

    if identity:
        if moved_to is not None:
            raise Usage("--moved-to and --identity can't be given together", "give --moved-to first, then --identity")
        before, now = accept_identity(shell.workspace, lock_timeout)
        if before == now:
            shell.terminal.answer("Nothing to accept: the state is for this service already.")
        else:
            shell.terminal.answer(f"Accepted: the state is for {now} from now on, and was for {before}.")
        return ExitCode.DONE
    accepted, remarks = accept(shell.workspace, lock_timeout, moved_to)
    for remark in remarks:
        shell.terminal.remark(f"accepted: {remark}")
    verb = "Accepted" if remarks else "Nothing to accept: the state is sound"
    shell.terminal.answer(f"{verb}: {_size(accepted)}.")
    return ExitCode.DONE


@state.command("rebuild")
@click.option("--yes", is_flag=True, help="Do not ask.")
@lock_timeout
@options(RecordsAnswer)
def state_rebuild(shell: Shell, yes: bool, lock_timeout: float) -> ExitCode:
    """Make the records of a lost state anew, from what the service has. Calls nothing.

    The objects of the jobs bear the lineage of the state that was lost, and the state goes on under it. What nothing
    tells counts as done, so that no job runs because of this command: a new runToken runs a job again.

    If a copy of the state is left, `state push` is better: it knows more.
    """
    from reconciler.usecases.rebuild import find, record
    from reconciler.views.edits import rebuilt

    found = find(shell.workspace)
    text = rebuilt(found.state, found.observed, shell.workspace.state_name)
    if shell.is_text:
        shell.terminal.answer(text, is_prose=True)
    else:
        shell.terminal.remark(text)
    for remark in found.remarks:
        shell.terminal.remark(f"warning: {remark}")
    for name, why in found.unread.items():
        shell.terminal.remark(f"warning: {name} can't be read, and gets no record: {why}")
    if not yes:
        _refuse_unless_confirmed(shell)
    recorded = record(shell.workspace, found, lock_timeout)
    if shell.is_text:
        shell.terminal.answer(f"Rebuilt: {_size(recorded)}. Nothing was sent.")
    else:
        shell.show(RecordsAnswer(recorded))
    return ExitCode.REFUSED if found.unread else ExitCode.DONE


def _refuse_unless_confirmed(shell: Shell) -> None:
    """Ask the user whether to record this. Raises `Refused` for any answer but yes, and where nobody can be asked."""
    if not shell.terminal.interactive:
        raise Refused("nobody can be asked, and --yes was not given", "give --yes, or run the command at a terminal")
    if shell.terminal.ask("Record this? Only `yes` does: ") != "yes":
        raise Refused("nothing was recorded: the answer was not `yes`")


@state.command("pull")
@click.option(
    "--out",
    "path",
    metavar="FILE",
    default="-",
    shell_complete=completing.paths,
    help="Write the state to this file [to stdout].",
)
@options()
def state_pull(shell: Shell, path: str) -> ExitCode:
    """Fetch the state.

    The output includes what an unfinished apply left in the journal of the state.
    """
    from reconciler.state.codec import encode
    from reconciler.usecases.state import pull

    found = pull(shell.workspace)
    if found is None:
        raise ReconcilerError("nothing was ever applied, so there is no state", f"{command('apply')} makes one")
    text = encode(found)
    if path == "-":
        shell.terminal.answer(text.decode().removesuffix("\n"))
    else:
        _write_new(path, text)
        shell.terminal.remark(f"Wrote {path}: serial {found.serial}.")
    return ExitCode.DONE


@state.command("push")
@click.argument("file", shell_complete=completing.paths)
@lock_timeout
@options()
def state_push(shell: Shell, file: str, lock_timeout: float) -> ExitCode:
    """Put the state in FILE where the state is kept.

    FILE was written by `state pull`. Its state replaces an older state of the same lineage, or is the first one
    there. The two commands move a state from one place to another.
    """
    from reconciler.manifest.files import content_of
    from reconciler.manifest.kinds import FileKind, kind_of
    from reconciler.usecases.state import push

    try:
        content = content_of(file)
    except OSError as fault:
        raise ReconcilerError(
            f"{file} can't be read: {fault.strerror}",
            f"name a file that {command('state pull', options=['--out', 'FILE'])} wrote",
        ) from fault
    if (kind := kind_of(content)) not in (None, FileKind.STATE):
        raise ReconcilerError(
            f"{file} is {kind}, not a state",
            f"name the file that {command('state pull', options=['--out', 'FILE'])} wrote",
        )
    pushed, changed = push(shell.workspace, content, file, lock_timeout)
    verb = "Pushed" if changed else "Nothing to push: it is recorded already"
    shell.terminal.answer(f"{verb}: {_size(pushed)}.")
    return ExitCode.DONE


def _size(state: "State") -> str:
    """The number of recorded jobs and the serial of a state, as text."""
    from reconciler.views.phrases import counted

    return f"{counted(len(state.jobs), 'job')}, serial {state.serial}"


def _write_new(path: str, content: bytes) -> None:
    """Create a file. Raises `ReconcilerError` if the file exists or can't be written."""
    try:
        with open(path, "xb") as target:
            target.write(content)
    except OSError as fault:
        raise ReconcilerError(f"{path} can't be written: {fault.strerror}", "name a file that is not there") from fault
