"""`reconciler plan`."""

from functools import partial
from typing import TYPE_CHECKING

import click

from reconciler.cli import completing
from reconciler.cli.options import allow, options, selection
from reconciler.cli.shell import Shell
from reconciler.model.commands import command
from reconciler.model.errors import ExitCode, Usage
from reconciler.views.answers import PlanAnswer

if TYPE_CHECKING:
    from reconciler.rules.review import Review
    from reconciler.usecases.plan import Planned


@click.command()
@click.option("--refresh", is_flag=True, help="Read the jobs from the service first; needs credentials.")
@click.option("--out", metavar="FILE", shell_complete=completing.paths, help="Save the plan, for apply --plan.")
@click.option(
    "--detailed-exitcode",
    is_flag=True,
    help="Exit 2 where changes are pending, or, with --refresh, a job is not as recorded.",
)
@allow
@selection
@options(PlanAnswer)
def plan(
    shell: Shell,
    refresh: bool,
    out: str | None,
    detailed_exitcode: bool,
    targets: tuple[str, ...],
    excludes: tuple[str, ...],
    prune: bool,
    allowed: dict[str, int],
) -> ExitCode:
    """Show what an apply would do. Writes nothing but --out."""
    from reconciler.usecases.plan import plan
    from reconciler.usecases.plan_files import save_plan
    from reconciler.usecases.selection import Selection

    if out == "-":
        raise Usage(
            "--out - names no file: a plan is saved to a file",
            f"name one, such as plan.json; {command('plan', options=['--format', 'json'])} writes the plan to the "
            "standard output",
        )
    selection = Selection(targets, excludes, prune)
    provenance = out is not None or not shell.is_text
    planned = plan(shell.workspace, selection, refresh=refresh, provenance=provenance, allowed=allowed)
    if out is not None:
        save_plan(planned.plan, out)
    shell.show(PlanAnswer(planned.plan, planned.refusal, partial(_review, shell, planned)))
    if out is not None and shell.is_text:
        _say_saved(shell, out, allowed, planned)
    if planned.refusal is not None:
        from reconciler.views import text

        shell.terminal.remark(text.error(planned.refusal))
        return planned.refusal.exit_code
    return ExitCode.PENDING if detailed_exitcode and planned.plan.pending else ExitCode.DONE


def _review(shell: Shell, planned: "Planned", *, with_history: bool = False) -> "Review":
    from reconciler.usecases.history import latest_entries
    from reconciler.usecases.plan import review

    return review(planned, shell.workspace, latest_entries(shell.workspace) if with_history else {})


def _say_saved(shell: Shell, path: str, allowed: dict[str, int], planned: "Planned") -> None:
    """Remark how to apply the saved plan: the command, with each --allow that the plan needs."""
    words = [word for kind, count in sorted(allowed.items()) for word in ("--allow", f"{kind}={count}")]
    words += planned.refusal.allow.split() if planned.refusal else []
    shell.terminal.remark(f"Saved. To do exactly this: {command('apply', options=['--plan', path, *words])}")
