"""`reconciler import`."""

import os

import click

from reconciler.cli import completing
from reconciler.cli.options import lock_timeout, options
from reconciler.cli.shell import Shell, say_what_is_passed_over
from reconciler.errors import ExitCode, Usage

_PICKING = ("--id", "--name", "--status")
"""The options that pick some of all jobs."""


@click.command("import")
@click.argument("words", nargs=-1, metavar="[NAME=ID]... [PATH]...", shell_complete=completing.paths)
@click.option("--all", "every", is_flag=True, help="Every job that the service lists.")
@click.option("--id", "ids_like", multiple=True, metavar="GLOB", help="Of all, only these, by the service's id.")
@click.option("--name", "names_like", multiple=True, metavar="GLOB", help="Of all, only these, by the service's name.")
@click.option("--status", "statuses", multiple=True, metavar="WORD",
              help="Of all, only these: draft, active, complete, failed, aborted, or the service's word.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show what would be written, and write nothing.")
@lock_timeout
@options(paths=False)
def import_(
    shell: Shell,
    words: tuple[str, ...],
    every: bool,
    ids_like: tuple[str, ...],
    names_like: tuple[str, ...],
    statuses: tuple[str, ...],
    dry_run: bool,
    lock_timeout: float,
) -> ExitCode:
    """Take over jobs that the service has already.

    Writes an entry into the manifest and a record into the state for each, and calls nothing that changes a job:
    the next plan is empty. PATH is the file that the entries go to; in a folder of several it is imported.yaml.
    """
    from reconciler import authoring
    from reconciler.views import edits
    from reconciler.wiring import ApplyOptions

    pairs = [word.rpartition("=") for word in words if _is_pair(word)]
    ids = {name: job_id for name, _, job_id in pairs}
    if len(ids) < len(pairs) or len(set(ids.values())) < len(pairs):
        raise Usage("a name or an id is given twice")
    picking = [option for option, given in zip(_PICKING, (ids_like, names_like, statuses), strict=True) if given]
    if picking and not every:
        raise Usage(f"{' and '.join(picking)} picks from all jobs of the service: give --all too, and no NAME=ID")
    if every and ids:
        raise Usage("--all takes every job: give no NAME=ID with it")
    if not every and not ids:
        raise click.MissingParameter("Say which jobs, or give --all.", param_hint="'NAME=ID'", param_type="argument")
    paths = tuple(word for word in words if not _is_pair(word))
    shell.is_about(shell.place._replace(paths=paths or shell.place.paths))
    if not shell.place.paths:
        say_what_is_passed_over(shell)
    wanted = authoring.Wanted(ids, ids_like, names_like, statuses)
    options = ApplyOptions(lock_timeout_s=lock_timeout)
    done = authoring.take_over(shell.place, shell.world, wanted, options, dry_run=dry_run)
    if dry_run and done.taken:
        shell.terminal.answer(edits.diff(*done.rewritten) + "\n")
    if done.taken or done.left:
        shell.terminal.answer(edits.taken(done.taken, done.rewritten.file, dry_run=dry_run))
    else:
        shell.terminal.answer(f"Nothing to import: {_why_none(every, bool(ids_like or names_like or statuses))}.")
    if done.left:
        shell.terminal.remark(edits.left_out(done.left))
    if done.unlisted:
        shell.terminal.remark(
            f"warning: {done.unlisted}; import --all again, or name the jobs that are missing: "
            "`reconciler import NAME=ID`"
        )
    if dry_run:
        shell.terminal.remark("Dry run: nothing was written.")
    elif done.taken:
        shell.terminal.remark("Nothing was sent. Review both files, and commit them.")
    if done.unlisted:
        return ExitCode.FAILED
    return ExitCode.REFUSED if done.left else ExitCode.DONE


def _why_none(every: bool, picked: bool) -> str:
    """Why no job was even looked at."""
    if not every:
        return "all of them are declared and recorded already"
    return f"the service lists no job that {'matches and ' if picked else ''}is not declared already"


def _is_pair(word: str) -> bool:
    return "=" in word and not os.path.exists(word)
