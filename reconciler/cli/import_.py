"""`reconciler import`."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from reconciler.cli import completing
from reconciler.cli.options import lock_timeout, options
from reconciler.cli.run import take_paths
from reconciler.cli.shell import Shell
from reconciler.model.errors import ExitCode, Usage

if TYPE_CHECKING:
    from reconciler.usecases.import_ import Imported, Wanted

_PICKING = ("--id", "--name", "--status", "--include-owned")
"""The options about --all, in the order of the fields of `Wanted` after `ids`."""


@click.command("import")
@click.argument("words", nargs=-1, metavar="[NAME=ID]... [PATH]...", shell_complete=completing.paths)
@click.option("--all", "every", is_flag=True, help="Every job that the service lists.")
@click.option("--id", "ids_like", multiple=True, metavar="GLOB", help="Of all, only these, by the service's id.")
@click.option("--name", "names_like", multiple=True, metavar="GLOB", help="Of all, only these, by the service's name.")
@click.option("--status", "statuses", multiple=True, metavar="WORD",
              help="Of all, only these: draft, active, complete, failed, aborted, or the service's word.")  # fmt: skip
@click.option("--include-owned", is_flag=True, help="Of all, also those that another program owns, such as a CronJob.")
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
    include_owned: bool,
    dry_run: bool,
    lock_timeout: float,
) -> ExitCode:
    """Take over jobs that the service has already.

    Writes an entry into the manifest and a record into the state for each job. Sends no call that changes a job,
    and the next plan is empty. PATH is the file for the entries; in a folder of several files it is imported.yaml.

    With --all, what another program owns is listed with its owner and left alone, such as the Jobs of a CronJob,
    of Helm or of Argo CD: their owner makes and removes them by itself.
    """
    from reconciler.usecases.import_ import Wanted, import_jobs

    wanted = Wanted(_ids(words), ids_like, names_like, statuses, include_owned)
    _refuse_contradictions(wanted, every=every)
    take_paths(shell, [word for word in words if not _is_pair(word)])
    done = import_jobs(shell.workspace, wanted, lock_timeout, dry_run=dry_run)
    _show(shell, done, wanted, dry_run=dry_run)
    if done.unlisted:
        return ExitCode.FAILED
    return ExitCode.REFUSED if done.left else ExitCode.DONE


def _ids(words: Sequence[str]) -> dict[str, str]:
    """The id of each job by its name, from the words NAME=ID. Raises `Usage` for a name or an id that is repeated."""
    ids: dict[str, str] = {}
    names: dict[str, str] = {}
    for word in filter(_is_pair, words):
        name, _, job_id = word.rpartition("=")
        if name in ids:
            raise Usage(f"the name {name} is given twice: {name}={ids[name]} and {word}")
        if job_id in names:
            raise Usage(f"the id {job_id} is given twice: {names[job_id]}={job_id} and {word}")
        ids[name], names[job_id] = job_id, name
    return ids


def _refuse_contradictions(wanted: "Wanted", *, every: bool) -> None:
    """Raise `Usage` unless the command line names either some jobs or all jobs."""
    picking = [option for option, given in zip(_PICKING, wanted[1:], strict=True) if given]
    if picking and not every:
        verb = "picks" if len(picking) == 1 else "pick"
        named = " and ".join(picking)
        raise Usage(f"{named} {verb} from all jobs of the service: give --all too, and no NAME=ID")
    if every and wanted.ids:
        raise Usage("--all takes every job: give no NAME=ID with it")
    if not every and not wanted.ids:
        raise click.MissingParameter("Say which jobs, or give --all.", param_hint="'NAME=ID'", param_type="argument")


def _show(shell: Shell, done: "Imported", wanted: "Wanted", *, dry_run: bool) -> None:
    """Print which jobs were imported, why others were not, and what to do next."""
    from reconciler.views import edits

    terminal = shell.terminal
    if dry_run and done.adopted:
        terminal.answer(edits.diff(*done.rewritten) + "\n")
    if done.adopted or done.left:
        terminal.answer(edits.imported(done.adopted, done.rewritten.file, dry_run=dry_run))
    else:
        terminal.answer(f"Nothing to import: {_why_none(wanted, done.owned)}.")
    if done.owned:
        terminal.remark(edits.left_to_owners(done.owned))
        terminal.remark("Their owners make and remove them. To take them over nevertheless: --include-owned")
    for job in done.adopted:
        if job.observed.owned_by:
            terminal.remark(edits.owned(job))
    if done.left:
        terminal.remark(edits.left_out(done.left))
    if done.unlisted:
        terminal.remark(
            f"warning: {done.unlisted}; import --all again, or name the jobs that are missing: "
            "`reconciler import NAME=ID`"
        )
    if dry_run:
        terminal.remark("Dry run: nothing was written.")
    elif done.adopted:
        *most, last = done.written
        files = f"{', '.join(most)} and {last}, and commit them" if most else f"{last}, and commit it"
        terminal.remark(f"Nothing was sent. Review {files}.")


def _why_none(wanted: "Wanted", owned: Mapping[str, str]) -> str:
    """The reason why there was no job to import."""
    if wanted.ids:
        return "all of them are declared and recorded already"
    matches = " that matches," if any(wanted[1:4]) else ""
    others = " or have another owner" if owned else ""
    return f"the service lists no job{matches} beside those that are declared already{others}"


def _is_pair(word: str) -> bool:
    """Whether a word is NAME=ID. A word with "=" may also be a path."""
    return "=" in word and not os.path.exists(word)
