"""`reconciler apply`."""

from typing import TYPE_CHECKING

import click

from reconciler.cli.interrupts import Interrupts
from reconciler.cli.shell import SECONDS, Number, Shell, allow, is_given, lock_timeout, options, selection, show_error
from reconciler.cli.watch import Watch
from reconciler.commands import command
from reconciler.errors import ExitCode, ReconcilerError, Refused, Usage

if TYPE_CHECKING:
    from reconciler import app
    from reconciler.diagnostics import Position
    from reconciler.plan import Plan
    from reconciler.planning import Selection


@click.command()
@click.option("--plan", "saved", metavar="FILE", help="Carry out this saved plan.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Print the exact requests, in order, and send none.")
@click.option(
    "--parallelism",
    type=click.IntRange(1, 256),
    default=10,
    show_default=True,
    metavar="N",
    help="How many calls to have under way at a time.",
)
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
@options("json", "github")
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

    Aborts first, then runs, then deletes; each call is recorded before it is sent. A job that comes
    after others is held until they have completed; the next apply goes on, or --wait waits.

    --push is for a checkout that is thrown away, as that of a CI runner. It has no effect where --state
    names a branch of a remote: all is pushed there anyway.
    """
    from reconciler import app
    from reconciler.homes import default_state_path
    from reconciler.planning import Selection, place_of
    from reconciler.wiring import ApplyOptions

    selection = Selection(targets, excludes, prune)
    if saved is not None:
        if any(map(is_given, ("paths", "targets", "excludes", "prune"))):
            raise Usage("--plan FILE already says which jobs: give no PATH, --target, --exclude or --prune with it")
        selection = Selection()
    saved_plan = None
    if saved is not None:
        saved_plan = app.read_plan(_read(saved), saved)
        place = place_of(saved_plan, shell.place, shell.world)
        # A command that a message names finds the default state by itself.
        is_default = len(place.paths) == 1 and place.state_url == default_state_path(place.paths[0])
        shell.is_about(place, state_url=shell.place.state_url if is_default else place.state_url)
    if dry_run:
        return _dry_run(shell, selection, saved_plan, allowed)
    options = ApplyOptions(parallelism, max_rps, settle, fail_fast, lock_timeout, wait, allowed, push)
    with Interrupts(shell) as interrupts:
        watch = Watch(shell)
        try:
            done = app.apply(
                shell.place,
                shell.world,
                selection,
                options,
                saved=saved_plan,
                confirm=lambda made: _confirm(shell, made, yes, interrupts),
                watch=watch,
                remark=shell.terminal.remark,
                show_refused=lambda made: _show_plan(shell, made),
            )
        except ReconcilerError as fault:
            if interrupts.exit_code is None:
                raise
            show_error(shell, fault)
            return interrupts.exit_code
        finally:
            watch.close()
    _show_applied(shell, done, told_whole=watch.is_whole)
    return interrupts.exit_code or done.exit_code


def _read(path: str) -> str:
    from reconciler.kinds import FileKind, kind_of
    from reconciler.sources import content_of

    try:
        content = content_of(path)
        if (kind := kind_of(content)) not in (None, FileKind.PLAN):
            raise ReconcilerError(
                f"--plan {path} is {kind}, not a saved plan", f"make one: {command('plan', options=['--out', 'FILE'])}"
            )
        text = content.decode()
        why = "" if text.strip() else "is no saved plan: it is empty"
    except FileNotFoundError:
        why = "can't be read: there is no such file"
    except UnicodeDecodeError:
        why = "is no saved plan: it is not UTF-8"
    except OSError as fault:
        why = f"can't be read: {fault.strerror}"
    if why:
        raise ReconcilerError(f"--plan {path} {why}", f"make one: {command('plan', options=['--out', 'FILE'])}")
    return text


def _dry_run(shell: Shell, selection: "Selection", saved: "Plan | None", allowed: dict[str, int]) -> ExitCode:
    from reconciler import app
    from reconciler.plan import plan_to_json
    from reconciler.views import text

    made, endpoint, refusal = app.dry_run(shell.place, shell.world, selection, saved, allowed)
    if refusal is not None:
        _show_plan(shell, made)
        raise refusal
    if shell.form == "json":
        shell.document(plan_to_json(made), is_plan=True)
    elif requests := text.requests(made, endpoint):
        shell.terminal.answer(requests)
    for warning in made.warnings:
        shell.terminal.remark(f"Warning: {warning}")
    shell.terminal.remark("Dry run: nothing was sent.")
    return ExitCode.DONE


def _confirm(shell: Shell, made: "Plan", yes: bool, interrupts: "Interrupts") -> None:
    from reconciler.views import text

    if shell.form == "text" or not yes:
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
    """Show a plan to the person who looks on: on stdout, or on stderr where stdout holds a document."""
    from reconciler.views import text

    shown = text.plan(made, calls=shell.verbose)
    if shell.form == "text":
        shell.terminal.answer(shown)
        shell.terminal.answer("")
    else:
        shell.terminal.remark(shown)


def _annotate(shell: Shell, done: "app.Applied") -> None:
    from reconciler.cli.forms import annotate
    from reconciler.views import github, text

    def place_of(job: str) -> "Position | None":
        return done.manifest.position(job) if done.manifest and job in done.manifest.jobs else None

    shell.terminal.remark(text.outcomes(done.outcomes, done.plan.narrowed))
    annotate(shell, github.outcomes(done.outcomes, place_of))


def _show_applied(shell: Shell, done: "app.Applied", *, told_whole: bool) -> None:
    """Show the end of an apply, and what was not done where it was not told whole as it went on."""
    from reconciler.errors import StateError
    from reconciler.views import text

    if not told_whole:
        (shell.terminal.answer if shell.form == "text" else shell.terminal.remark)(
            text.left_undone(done.outcomes, whole=shell.verbose)
        )

    if shell.form == "json":
        from reconciler.plan import outcomes_to_json

        shell.document(outcomes_to_json(done.plan, done.outcomes))
    elif shell.form == "github":
        _annotate(shell, done)
    else:
        held = [o for o in done.outcomes if o.action.kind.value == "hold"]
        if held and not any(o.action.touches for o in done.outcomes):
            shell.terminal.answer(text.plan(done.plan, calls=shell.verbose))
        elif in_doubt := tuple(o.action for o in held if o.action.job in done.doubtful):
            # No plan that was shown on the way had them: their calls were in doubt before this apply.
            shell.terminal.answer(text.plan(done.plan._replace(actions=in_doubt)))
        shell.terminal.answer(text.outcomes(done.outcomes, done.plan.narrowed))
    for trouble in filter(None, (done.unwritten, done.unpushed)):
        fault = StateError(trouble)
        if shell.form == "github":
            from reconciler.cli.forms import show_fault

            show_fault(shell, fault, ())
        shell.terminal.remark(text.error(fault))
