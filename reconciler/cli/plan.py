"""`reconciler plan`."""

import os

import click

from reconciler.cli.shell import Shell, allow, options, selection
from reconciler.commands import command
from reconciler.errors import ExitCode, ReconcilerError, Refused

_NO_PLANS = (".yaml", ".yml", ".state.json", ".journal", ".lock", ".history.jsonl", ".tmp")
"""The ends of names that manifests, states and what stands beside a state have."""


@click.command()
@click.option("--refresh", is_flag=True, help="Read the jobs from the service first; needs credentials.")
@click.option("--out", metavar="FILE", help="Save the plan, for apply --plan.")
@click.option(
    "--detailed-exitcode",
    is_flag=True,
    help="Exit 2 where changes are pending, or, with --refresh, a job is not as recorded.",
)
@allow
@selection
@options("json", "markdown", "html", "github")
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
    from reconciler import app
    from reconciler.plan import plan_to_json
    from reconciler.planning import Selection

    selection = Selection(targets, excludes, prune)
    provenance = out is not None or shell.form != "text"
    planned = app.plan(shell.place, shell.world, selection, refresh=refresh, provenance=provenance, allowed=allowed)
    made, refusal = planned.plan, planned.refusal
    if out is not None:
        _save(out, plan_to_json(made))
    match shell.form:
        case "text":
            from reconciler.views import text

            shell.terminal.answer(text.plan(made, calls=shell.verbose))
            if out is not None:
                words = [word for kind, count in sorted(allowed.items()) for word in ("--allow", f"{kind}={count}")]
                words += refusal.allow.split() if refusal else []
                again = command("apply", options=["--plan", out, *words])
                shell.terminal.remark(f"Saved. To do exactly this: {again}")
        case "json":
            refused = {"refused": {"message": refusal.message, "hint": shell.text(refusal.hint)}} if refusal else {}
            shell.document(plan_to_json(made) | refused, is_plan=True)
        case _:
            from reconciler import audit
            from reconciler.cli.forms import show_review

            histories = audit.histories(shell.place, shell.world) if shell.form == "html" else {}
            show_review(shell, app.review(planned, shell.place, histories))
    if refusal is not None:
        from reconciler.views import text

        shell.terminal.remark(text.error(refusal))
        return refusal.exit_code
    return ExitCode.PENDING if detailed_exitcode and made.pending else ExitCode.DONE


def _save(path: str, document: object) -> None:
    """Write a saved plan. Raises `Refused` where another file would be lost, `ReconcilerError` where it can't be."""
    from reconciler.kinds import kind_at
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
            file.write(json.dumps(document))
    except OSError as fault:
        raise ReconcilerError(f"--out {path}: {fault.strerror}", "name a file that can be written") from fault


def _is_of_another_kind(path: str) -> bool:
    """Whether a saved plan would take the place of something else: a state, a journal, a history, a manifest."""
    import json

    if path.endswith(_NO_PLANS):
        return True
    if not os.path.isfile(path):  # nothing is there, or what keeps nothing, such as /dev/stdout
        return False
    with open(path, "rb") as file:
        content = file.read()
    try:
        found = json.loads(content) if content.strip() else {"actions": []}
    except ValueError:
        return True
    return not (isinstance(found, dict) and "actions" in found)
