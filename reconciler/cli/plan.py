"""`reconciler plan`."""

import os
from functools import partial
from typing import TYPE_CHECKING

import click

from reconciler.cli import completing
from reconciler.cli.options import allow, options, selection
from reconciler.cli.shell import Shell
from reconciler.model.commands import command
from reconciler.model.errors import ExitCode, ReconcilerError, Refused
from reconciler.views.answers import PlanAnswer

if TYPE_CHECKING:
    from reconciler.rules.review import Review
    from reconciler.usecases.plan import Planned

_NO_PLANS = (".yaml", ".yml", ".state.json", ".journal", ".lock", ".history.jsonl", ".tmp")
"""The endings of the names of manifests, states, and the files beside a state. No plan is saved under such a name."""


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
    from reconciler.usecases.selection import Selection

    selection = Selection(targets, excludes, prune)
    provenance = out is not None or not shell.is_text
    planned = plan(shell.workspace, selection, refresh=refresh, provenance=provenance, allowed=allowed)
    if out is not None:
        _save(out, planned)
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


def _save(path: str, planned: "Planned") -> None:
    """Save a plan. Raises `Refused` if the plan would overwrite a file of another kind.

    Raises `ReconcilerError` if the file can't be written.
    """
    from reconciler.manifest.kinds import kind_at
    from reconciler.model.plan_json import plan_to_json
    from reconciler.views import json

    try:
        real = os.path.realpath(path)
        if _is_of_another_kind(real):
            kind = kind_at(real)
            there = f"{kind} is there" if kind else "a file of another kind is there, or has such a name"
            raise Refused(
                f"--out {path}: {there}",
                "name a file that is not there yet, such as plan.json",
            )
        with open(path, "w", encoding="utf-8") as file:
            file.write(json.dumps(plan_to_json(planned.plan)))
    except OSError as fault:
        raise ReconcilerError(f"--out {path}: {fault.strerror}", "name a file that can be written") from fault


def _say_saved(shell: Shell, path: str, allowed: dict[str, int], planned: "Planned") -> None:
    """Remark how to apply the saved plan: the command, with each --allow that the plan needs."""
    words = [word for kind, count in sorted(allowed.items()) for word in ("--allow", f"{kind}={count}")]
    words += planned.refusal.allow.split() if planned.refusal else []
    shell.terminal.remark(f"Saved. To do exactly this: {command('apply', options=['--plan', path, *words])}")


def _is_of_another_kind(path: str) -> bool:
    """Whether the file is, or is named like, a state, a journal, a history or a manifest."""
    import json

    if path.endswith(_NO_PLANS):
        return True
    if not os.path.isfile(path):  # there is no file, or a device such as /dev/stdout
        return False
    with open(path, "rb") as file:
        content = file.read()
    try:
        found = json.loads(content) if content.strip() else {"actions": []}
    except ValueError:
        return True
    return not (isinstance(found, dict) and "actions" in found)
