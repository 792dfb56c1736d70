"""`reconciler apply`."""

from typing import TYPE_CHECKING

import click

from reconciler.cli import completing
from reconciler.cli.interrupts import Interrupts
from reconciler.cli.options import (
    SECONDS,
    Number,
    allow,
    is_given,
    lock_timeout,
    options,
    parallelism_option,
    selection,
)
from reconciler.cli.shell import Shell, show_error
from reconciler.model.errors import ExitCode, ReconcilerError, Refused, Usage
from reconciler.views.answers import OutcomeAnswer, RequestsAnswer
from reconciler.views.formats import Channel

if TYPE_CHECKING:
    from reconciler.model.places import Position
    from reconciler.model.plan import Plan
    from reconciler.usecases.apply import Applied
    from reconciler.usecases.apply_options import ApplyOptions
    from reconciler.usecases.selection import Selection


@click.command()
@click.option("--plan", "saved", metavar="FILE", shell_complete=completing.paths, help="Carry out this saved plan.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Print the exact requests, in order, and send none.")
@parallelism_option("calls")
@click.option(
    "--max-rps", type=Number(min=0.001, max=1_000_000), metavar="N", help="The most requests to send in a second."
)
@click.option("--settle", type=SECONDS, default=60.0, show_default=True, metavar="SECONDS",
              help="Time between the two checks of a call in doubt.")  # fmt: skip
@click.option("--fail-fast", is_flag=True, help="Start nothing new once something failed.")
@click.option("--wait", type=SECONDS, default=0.0, metavar="SECONDS",
              help="How long to wait for jobs to complete that others run after [0].")  # fmt: skip
@click.option("--push", metavar="[REMOTE:]BRANCH", default="",
              help="Push state, journal and history to this branch, before the first call and at the end.")  # fmt: skip
@lock_timeout
@allow
@selection
@options(OutcomeAnswer, RequestsAnswer)
def apply(
    shell: Shell,
    saved: str | None,
    yes: bool,
    dry_run: bool,
    parallelism: int,
    max_rps: float | None,
    settle: float,
    fail_fast: bool,
    lock_timeout: float,
    targets: tuple[str, ...],
    excludes: tuple[str, ...],
    prune: bool,
    wait: float,
    push: str,
    allowed: dict[str, int],
) -> ExitCode:
    """Carry out the plan.

    Aborts come first, then runs, then deletes. Each call is recorded before it is sent. A job that runs
    after others waits until they are complete: the next apply runs it, or this one does with --wait.

    --push is for a checkout that is deleted later, such as that of a CI runner. It has no effect if the
    state is on a branch of a remote, since everything is pushed to that branch.
    """
    from reconciler.usecases.apply_options import ApplyOptions
    from reconciler.usecases.engines import Pace
    from reconciler.usecases.selection import Selection

    saved_plan = None if saved is None else _saved_plan(shell, saved)
    selection = Selection(targets, excludes, prune) if saved is None else Selection()
    if dry_run:
        return _dry_run(shell, selection, saved_plan, allowed)
    options = ApplyOptions(Pace(parallelism, max_rps), settle, fail_fast, lock_timeout, wait, allowed, push)
    return _carry_out(shell, selection, saved_plan, options, yes=yes)


def _saved_plan(shell: Shell, path: str) -> "Plan":
    """The plan in a file. The command then works in the workspace that the plan was made for.

    Raises `Usage` if the command line also names jobs, since the plan names them.
    """
    from reconciler.state.homes import default_state_path
    from reconciler.usecases.plan_files import load_plan
    from reconciler.usecases.saved_plans import workspace_of

    if any(map(is_given, ("paths", "targets", "excludes", "prune"))):
        raise Usage("--plan FILE already says which jobs: give no PATH, --target, --exclude or --prune with it")
    plan = load_plan(path)
    workspace = workspace_of(plan, shell.workspace)
    place = workspace.place
    # Messages need not name the default state, since every command finds it by itself.
    is_default = len(place.paths) == 1 and place.state_url == default_state_path(place.paths[0])
    shell.work_in(workspace, state_url=shell.place.state_url if is_default else place.state_url)
    return plan


def _carry_out(
    shell: Shell, selection: "Selection", saved: "Plan | None", options: "ApplyOptions", *, yes: bool
) -> ExitCode:
    from reconciler.cli.watch import Watch
    from reconciler.usecases.apply import apply
    from reconciler.usecases.apply_options import Interaction

    with Interrupts(shell) as interrupts:
        watch = Watch(shell)
        try:
            interaction = Interaction(
                confirm=lambda made: _confirm(shell, made, yes, interrupts),
                watch=watch,
                show_refused=lambda made: _show_plan(shell, made),
                began=interrupts.watch,
            )
            done = apply(shell.workspace, selection, options, interaction, saved)
        except ReconcilerError as fault:
            if interrupts.exit_code is None:
                raise
            show_error(shell, fault)
            return interrupts.exit_code
        finally:
            watch.close()
    _show_applied(shell, done, was_shown=watch.is_whole)
    return interrupts.exit_code or done.exit_code


def _dry_run(shell: Shell, selection: "Selection", saved: "Plan | None", allowed: dict[str, int]) -> ExitCode:
    from reconciler.usecases.apply import dry_run

    made, exact, refusal = dry_run(shell.workspace, selection, saved, allowed)
    if refusal is not None:
        _show_plan(shell, made)
        raise refusal
    shell.show(RequestsAnswer(made, exact))
    for warning in made.warnings:
        shell.terminal.remark(f"Warning: {warning}")
    shell.terminal.remark("Dry run: nothing was sent.")
    return ExitCode.DONE


def _confirm(shell: Shell, made: "Plan", yes: bool, interrupts: "Interrupts") -> None:
    """Show the plan and ask the user to confirm it, unless --yes was given. Raises `Refused` for any answer but yes."""
    from reconciler.views import text

    if shell.is_text or not yes:
        _show_plan(shell, made)
    if not yes:
        if not shell.terminal.interactive:
            raise Refused(
                "nobody can be asked, and --yes was not given", "give --yes, or run the command at a terminal"
            )
        with interrupts.asking():
            answer = shell.terminal.ask(text.question(made))
        if answer != "yes":
            raise Refused("not carried out: the answer was not `yes`")


def _show_plan(shell: Shell, made: "Plan") -> None:
    """Show a plan as text. The text goes to stderr if the answer on stdout has another format."""
    from reconciler.views import text

    shown = text.plan(made, calls=shell.verbose)
    if shell.is_text:
        shell.terminal.answer(shown, is_prose=True)
        shell.terminal.answer("")
    else:
        shell.terminal.remark(shown)


def _show_applied(shell: Shell, done: "Applied", *, was_shown: bool) -> None:
    """Show the end of an apply. `was_shown` is whether each action that was not done was printed before."""
    from reconciler.model.errors import StateError
    from reconciler.views import text

    def position_of(job: str) -> "Position | None":
        manifest = shell.workspace.manifest
        return manifest.position(job) if job in manifest.jobs else None

    if not was_shown and not shell.is_text:
        shell.terminal.remark(text.left_undone(done.outcomes, whole=shell.verbose))
    if shell.format.channel is Channel.COMMANDS:  # the annotations on stdout show only what was not done
        shell.terminal.remark(text.outcomes(done.outcomes, done.plan.narrowed))
    shell.show(OutcomeAnswer(done.plan, done.outcomes, done.doubtful, was_shown, position_of))
    for trouble in filter(None, (done.unwritten, done.unpushed)):
        fault = StateError(trouble)
        if shell.format.channel is Channel.COMMANDS:  # a document on stdout is complete already
            shell.show_fault(fault)
        shell.terminal.remark(text.error(fault))
