"""`reconciler wait`."""

from typing import TYPE_CHECKING

import click

from reconciler.cli import completing
from reconciler.cli.options import SECONDS, lock_timeout, options
from reconciler.cli.run import take_paths
from reconciler.cli.shell import Shell
from reconciler.manifest.files import is_manifest_name
from reconciler.model.errors import ExitCode
from reconciler.views.answers import WaitAnswer

if TYPE_CHECKING:
    from reconciler.usecases.wait import Waited


@click.command()
@click.argument("words", nargs=-1, metavar="[JOB]... [PATH]...", shell_complete=completing.known_jobs)
@click.option("--timeout", type=SECONDS, default=None, metavar="SECONDS",
              help="How long to wait [until all have ended]; exit 2 if a run goes on then.")  # fmt: skip
@lock_timeout
@options(WaitAnswer, paths=False)
def wait(shell: Shell, words: tuple[str, ...], timeout: float | None, lock_timeout: float) -> ExitCode:
    """Wait until the runs of each JOB have ended, or those of all jobs.

    How they ended is recorded. Exits with 3 if a run did not complete. A word that ends in .yaml, .yml or / is a PATH.
    """
    from reconciler.model.jobs import title
    from reconciler.usecases.wait import wait

    jobs = [word for word in words if not (is_manifest_name(word) or word.endswith(("/", ".")))]
    take_paths(shell, [word for word in words if word not in jobs])

    def ended(waited: "Waited", left: int) -> None:
        if left:
            still = f"; {left} more to wait for" if left > 1 else "; 1 more to wait for"
            shell.terminal.remark(f"{title(waited.name)}: {waited.observed.status}{still}")

    found = wait(shell.workspace, jobs, timeout, lock_timeout, ended)
    shell.show(WaitAnswer(found.jobs))
    return found.exit_code
