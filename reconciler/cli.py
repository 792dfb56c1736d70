"""The command line: parse, call, print, exit."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from reconciler import __version__
from reconciler.errors import ExitCode, ManifestError, ReconcilerError, Refused, Usage

if TYPE_CHECKING:
    from types import FrameType

    from reconciler import app, wiring
    from reconciler.events import Event
    from reconciler.plan import Plan
    from reconciler.terminal import Terminal

_Command = TypeVar("_Command", bound=Callable[..., Any])

_EXIT_CODES = """\b
Exit codes:
  0    done, or nothing to do
  1    an error before anything was done
  2    changes are pending (plan --detailed-exitcode)
  3    some actions failed; state holds the rest
  4    refused: a guard, a hold, a stale plan, a lock, no --yes
  5    some call is in doubt
  64   wrong usage
  130  interrupted (143 by SIGTERM); state holds what was done"""


class Shell:
    """What every command shares: where it is about, and how it speaks."""

    def __init__(
        self, place: "wiring.Place", world: "wiring.World", terminal: "Terminal", form: str, verbose: bool
    ) -> None:
        self.place = place
        self.world = world
        self.terminal = terminal
        self.form = form
        self.verbose = verbose

    def document(self, document: object) -> None:
        """Print a document for a machine."""
        from reconciler.render import json

        self.terminal.document(json.dumps(document))


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    try:
        code = cli.main(prog_name="reconciler", standalone_mode=False)
    except click.UsageError as fault:
        code = _wrong_usage(fault)
    except click.ClickException as fault:
        fault.show()
        code = ExitCode.ERROR
    except (click.Abort, KeyboardInterrupt):
        code = ExitCode.INTERRUPTED
    sys.exit(int(code or 0))


def _wrong_usage(fault: click.UsageError) -> ExitCode:
    if "json" in sys.argv or "--format=json" in sys.argv:
        from reconciler.render import json

        error = json.error(Usage(fault.format_message()), ())
        sys.stdout.write(json.dumps(error))
    fault.show()
    return ExitCode.USAGE


def _options(*forms: str, paths: bool = True) -> Callable[[_Command], _Command]:
    """The options of every command; with `forms`, also --format. The command gets a `Shell` first."""

    def wrap(command: _Command) -> _Command:
        def run(
            state_url: str,
            endpoint: str,
            no_color: bool,
            verbose: bool,
            paths: tuple[str, ...] = (),
            form: str = "text",
            **rest: Any,
        ) -> ExitCode:
            from reconciler import wiring
            from reconciler.terminal import Terminal

            place = wiring.Place(paths, state_url, endpoint)
            world = wiring.World(os.environ, threading.Event())
            terminal = Terminal(sys.stdout, sys.stderr, os.environ, no_color=no_color)
            shell = Shell(place, world, terminal, form, verbose)
            try:
                if verbose:
                    manifest = ", ".join(wiring.manifest_paths(place))
                    terminal.remark(f"manifest: {manifest}; state: {wiring.state_path(place)}")
                return ExitCode(command(shell, **rest))
            except ReconcilerError as fault:
                _show_error(shell, fault)
                return fault.exit_code

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        decorators = [
            click.option(
                "--state", "state_url", metavar="URL", default="", help="Where state lives [beside the manifest]."
            ),
            click.option("--endpoint", metavar="URL", default="", help="The service, in place of the manifest's."),
            click.option("--no-color", is_flag=True, help="No colours (as with NO_COLOR)."),
            click.option("--verbose", is_flag=True, help="Say where things stand, and show the calls."),
        ]
        if forms:
            decorators.append(
                click.option("--format", "form", type=click.Choice(["text", *forms]), default="text", show_default=True)
            )
        if paths:
            decorators.append(click.argument("paths", nargs=-1, metavar="[PATH]..."))
        wrapped: Any = run
        for decorator in decorators:
            wrapped = decorator(wrapped)
        # Click reads this list from its end: what is the command's own comes first in its help.
        wrapped.__click_params__ += getattr(command, "__click_params__", [])
        return wrapped  # type: ignore[no-any-return]

    return wrap


def _selection(command: _Command) -> _Command:
    for decorator in (
        click.option("--prune", is_flag=True, help="Treat recorded jobs that are no longer declared as absent."),
        click.option("--exclude", "excludes", multiple=True, metavar="GLOB", help="Leave out jobs by name."),
        click.option("--target", "targets", multiple=True, metavar="GLOB", help="Take only jobs by name."),
    ):
        command = decorator(command)
    return command


_lock_timeout = click.option(
    "--lock-timeout",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="How long to wait for the lock [0].",
)


def _show_error(shell: Shell, fault: ReconcilerError) -> None:
    from reconciler.render import text

    found = fault.diagnostics if isinstance(fault, ManifestError) else ()
    if shell.form == "json":
        from reconciler.render import json

        shell.document(json.error(fault, found))
    if found:
        shell.terminal.remark(text.diagnostics(found))
    shell.terminal.remark(text.error(fault))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, epilog=_EXIT_CODES)
@click.version_option(__version__, prog_name="reconciler")
def cli() -> None:
    """Declare in YAML what each batch job should be, see the plan, apply it.

    PATH is a manifest file or a folder of them; without one, jobs.yaml, then jobs/.
    """


@cli.command()
@_options("json")
def validate(shell: Shell) -> ExitCode:
    """Check the manifest.

    Shows all faults at once, each with its place. Reads nothing else.
    """
    from reconciler import app
    from reconciler.render import json, text

    try:
        manifest, files = app.validate(shell.place)
    except ManifestError as fault:
        if shell.form == "json":
            shell.document({"valid": False, "diagnostics": json.diagnostics(fault.diagnostics)})
        else:
            shell.terminal.answer(text.diagnostics(fault.diagnostics))
            shell.terminal.remark(text.error(fault))
        return ExitCode.ERROR
    if shell.form == "json":
        shell.document({"valid": True, "diagnostics": [], "jobs": len(manifest.jobs), "files": files})
    else:
        jobs = "1 job" if len(manifest.jobs) == 1 else f"{len(manifest.jobs)} jobs"
        shell.terminal.answer(f"Valid: {jobs} in {'1 file' if files == 1 else f'{files} files'}.")
    return ExitCode.DONE


@cli.command()
@click.option("--refresh", is_flag=True, help="Read the jobs from the service first; needs credentials.")
@click.option("--out", metavar="FILE", help="Save the plan, for apply --plan.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit 2 where changes are pending.")
@_selection
@_options("json")
def plan(
    shell: Shell,
    refresh: bool,
    out: str | None,
    detailed_exitcode: bool,
    targets: tuple[str, ...],
    excludes: tuple[str, ...],
    prune: bool,
) -> ExitCode:
    """Show what an apply would do. Writes nothing but --out."""
    from reconciler import app

    selection = app.Selection(targets, excludes, prune)
    with_commit = out is not None or shell.form == "json"
    made, refusal = app.plan(shell.place, shell.world, selection, refresh=refresh, with_commit=with_commit)
    if with_commit:
        from reconciler.plan import plan_to_json

        document = plan_to_json(made)
        if out is not None:
            _save(out, document)
        if shell.form == "json":
            shell.document(document)
    if shell.form == "text":
        from reconciler.render import text

        shell.terminal.answer(text.plan(made, calls=shell.verbose))
        if out is not None:
            shell.terminal.remark(f"Saved. To do exactly this: reconciler apply --plan {out}")
    if refusal is not None:
        from reconciler.render import text

        shell.terminal.remark(text.error(refusal))
        return refusal.exit_code
    return ExitCode.PENDING if detailed_exitcode and made.pending else ExitCode.DONE


def _save(path: str, document: object) -> None:
    from reconciler.render import json

    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(json.dumps(document))
    except OSError as fault:
        raise ReconcilerError(f"--out {path}: {fault.strerror}", "name a file that can be written") from fault


@cli.command()
@click.option("--plan", "saved", metavar="FILE", help="Do exactly what this plan shows.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Print the exact requests, in order, and send none.")
@click.option(
    "--parallelism", type=click.IntRange(1, 256), default=10, show_default=True, metavar="N", help="Actions at once."
)
@click.option("--max-rps", type=click.FloatRange(min=0, min_open=True), metavar="N", help="Requests a second at most.")
@click.option("--settle", type=click.FloatRange(min=0), default=60.0, show_default=True, metavar="SECONDS",
              help="Time between the two looks at a call in doubt.")  # fmt: skip
@click.option("--fail-fast", is_flag=True, help="Start nothing new once something failed.")
@_lock_timeout
@_selection
@_options("json")
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
) -> ExitCode:
    """Carry out the plan.

    Aborts first, then runs, then deletes; each call is on record before it is sent.
    """
    from reconciler import app
    from reconciler.wiring import ApplyOptions

    if saved is not None and (shell.place.paths or targets or excludes or prune):
        raise Usage("--plan says all by itself: give no PATH, --target, --exclude or --prune with it")
    selection = app.Selection(targets, excludes, prune)
    saved_plan = None if saved is None else app.read_plan(_read(saved), saved)
    if dry_run:
        return _dry_run(shell, selection, saved_plan)
    options = ApplyOptions(parallelism, max_rps, settle, fail_fast, lock_timeout)
    with _Interrupts(shell) as interrupts:
        watch = _Watch(shell)
        try:
            done = app.apply(
                shell.place,
                shell.world,
                selection,
                options,
                saved=saved_plan,
                confirm=lambda made: _confirm(shell, made, yes, interrupts, watch),
                watch=watch,
                remark=shell.terminal.remark,
            )
        except ReconcilerError as fault:
            if interrupts.exit_code is None:
                raise
            _show_error(shell, fault)
            return interrupts.exit_code
        finally:
            watch.close()
    _show_applied(shell, done)
    return interrupts.exit_code or done.exit_code


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as fault:
        raise ReconcilerError(
            f"--plan {path} can't be read: {fault}", "make one: reconciler plan --out FILE"
        ) from fault


def _dry_run(shell: Shell, selection: "app.Selection", saved: "Plan | None") -> ExitCode:
    from reconciler import app
    from reconciler.plan import plan_to_json
    from reconciler.render import text

    made, endpoint = app.dry_run(shell.place, shell.world, selection, saved)
    if shell.form == "json":
        shell.document(plan_to_json(made))
    elif requests := text.requests(made, endpoint):
        shell.terminal.answer(requests)
    shell.terminal.remark("Dry run: nothing was sent.")
    return ExitCode.DONE


def _confirm(shell: Shell, made: "Plan", yes: bool, interrupts: "_Interrupts", watch: "_Watch") -> None:
    from reconciler.render import text

    shown = text.plan(made, calls=shell.verbose)
    if shell.form == "text":
        shell.terminal.answer(shown)
        shell.terminal.answer("")
    elif not yes:
        shell.terminal.remark(shown)
    if not yes:
        if not shell.terminal.interactive:
            raise Refused("nobody is there to say yes", "give --yes, or run it at a terminal")
        with interrupts.suspended():
            answer = shell.terminal.ask("Carry this out? Only `yes` does: ")
        if answer != "yes":
            raise Refused("not carried out: the answer was not `yes`")
    watch.begin(made)


def _show_applied(shell: Shell, done: "app.Applied") -> None:
    from reconciler.errors import StateError
    from reconciler.render import text

    if shell.form == "json":
        from reconciler.plan import outcomes_to_json

        shell.document(outcomes_to_json(done.plan, done.outcomes))
    else:
        held = [o for o in done.outcomes if o.action.kind.value == "hold"]
        if held and not any(o.action.kind.value not in ("hold", "noop") for o in done.outcomes):
            shell.terminal.answer(text.plan(done.plan))
        shell.terminal.answer(text.outcomes(done.outcomes))
    if done.unwritten:
        shell.terminal.remark(text.error(StateError(done.unwritten)))


class _Watch:
    """Shows the actions of an apply as they end."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._progress: Any = None
        self._tell: Callable[[str, bool], None] | None = None
        self._number = self._total = self._names = 0

    def begin(self, made: "Plan") -> None:
        """Start the bar for a plan."""
        from reconciler.text import field, width

        self.close()
        touched = [a for a in made.actions if a.kind.value not in ("hold", "noop")]
        self._number, self._total = 0, len(touched)
        self._names = max(width(field(action.job)) for action in touched)
        self._progress = self._shell.terminal.progress(self._total)
        self._tell = self._progress.__enter__()

    def __call__(self, made: "Plan", event: "Event") -> None:
        from reconciler.events import Finished
        from reconciler.render import text

        if not isinstance(event, Finished) or event.outcome.action.kind.value in ("hold", "noop") or self._tell is None:
            return
        self._number += 1
        self._tell(text.finished(event, self._number, self._total, self._names), self._shell.form == "text")

    def close(self) -> None:
        """End the bar."""
        if self._progress is not None:
            self._progress.__exit__(None, None, None)
            self._progress = None


class _Interrupts:
    """The first Ctrl-C or SIGTERM starts nothing new and lets what is in flight end; the second leaves at once."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._before: dict[signal.Signals, Any] = {}
        self.exit_code: ExitCode | None = None

    def __enter__(self) -> "_Interrupts":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """While a person is asked, Ctrl-C ends the command."""
        with_handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, with_handler)

    def _received(self, number: int, frame: "FrameType | None") -> None:
        code = ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.TERMINATED
        if self.exit_code is not None:
            os._exit(int(code))
        self.exit_code = code
        self._shell.world.stop.set()
        self._shell.terminal.urgent(
            "Stopping: nothing new starts, what is in flight is put on record. Again to leave at once."
        )


@cli.command()
@_options("json")
def status(shell: Shell) -> ExitCode:
    """Show desired, recorded and observed side by side. Reads the service."""
    from reconciler import app

    rows = app.status(shell.place, shell.world)
    if shell.form == "json":
        from reconciler.render import json

        shell.document(json.status(rows))
    else:
        from reconciler.render import text

        shell.terminal.answer(text.status(rows))
    return ExitCode.DONE


@cli.command()
@click.argument("job")
@click.option("--applied/--not-applied", "was_applied", default=None, help="What you found out about the call.")
@click.option("--reason", "why", default="", metavar="TEXT", help="How you know; kept on record.")
@_lock_timeout
@_options()
def resolve(shell: Shell, job: str, was_applied: bool | None, why: str, lock_timeout: float) -> ExitCode:
    """Settle a call in doubt on your word.

    JOB's last call was applied, or it was not: you found out at the service.
    """
    from reconciler import app

    if was_applied is None:
        raise Usage("say --applied or --not-applied")
    shell.terminal.answer(app.resolve(shell.place, shell.world, job, was_applied, why, lock_timeout))
    return ExitCode.DONE


@cli.group()
def state() -> None:
    """Look at the state, and mend it."""


@state.command("list")
@_options("json")
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
@_options("json")
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
@_lock_timeout
@_options()
def state_forget(shell: Shell, job: str, lock_timeout: float) -> ExitCode:
    """Drop a record. Calls nothing: the job stays as it is at the service."""
    from reconciler import app

    app.forget(shell.place, shell.world, job, lock_timeout)
    shell.terminal.answer(f"Forgotten: {job}. It stays as it is at the service.")
    return ExitCode.DONE


@state.command("accept")
@_lock_timeout
@_options()
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


@cli.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="Port on 127.0.0.1 [a free one].")
@click.option("--db", metavar="FILE", default="sandbox.db", show_default=True, help="Where its jobs live (SQLite).")
@click.option("--latency", type=click.FloatRange(min=0), default=0.0, metavar="SECONDS", help="Delay of every answer.")
@click.option("--job-seconds", type=click.FloatRange(min=0), default=30.0, show_default=True, metavar="SECONDS",
              help="How long a job is active.")  # fmt: skip
@click.option("--fault", "faults", multiple=True, metavar="RULE", help="Misbehave: VERB:KIND[:after][:key=value]...")
@click.option("--create-missing", is_flag=True, help="Treat an id that was never heard of as a draft.")
@click.option("--no-color", is_flag=True, hidden=True)
def sandbox(
    port: int,
    db: str,
    latency: float,
    job_seconds: float,
    faults: tuple[str, ...],
    create_missing: bool,
    no_color: bool,
) -> ExitCode:
    """Run the embedded server by itself.

    It simulates: no job really runs.

    It takes the token in BYTENITE_ACCESS_TOKEN and the key in BYTENITE_API_KEY, else the words
    sandbox-token and sandbox-key.

    \b
    --fault RULE, as often as wanted, for example:
      run:503               a 503 to every run, which is not done
      run:503:after         a 503 to every run, which is done
      run:reset:times=2     a reset connection for the first two runs
      any:slow:seconds=5    every answer five seconds late
      delete:429:retry-after=3:job=nightly-*
    """
    from reconciler.engines.sandbox.faults import parse_fault
    from reconciler.engines.sandbox.server import SandboxServer
    from reconciler.terminal import Terminal

    terminal = Terminal(sys.stdout, sys.stderr, os.environ, no_color=no_color)
    try:
        rules = [parse_fault(fault) for fault in faults]
    except ValueError as fault:
        raise click.UsageError(f"--fault: {fault}") from fault
    token = os.environ.get("BYTENITE_ACCESS_TOKEN", "").strip() or "sandbox-token"
    key = os.environ.get("BYTENITE_API_KEY", "").strip() or "sandbox-key"
    try:
        server = SandboxServer(
            db,
            port=port,
            access_token=token,
            api_key=key,
            latency_s=latency,
            job_seconds=job_seconds,
            faults=rules,
            create_missing=create_missing,
        )
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        terminal.answer(server.banner)
        server.serve_forever()
    except KeyboardInterrupt:
        return ExitCode.DONE
    except OSError as fault:
        terminal.remark(f"error: the server can't start: {fault}")
        return ExitCode.ERROR
    return ExitCode.DONE


@cli.command()
@click.argument("name", type=click.Choice(["manifest", "plan", "outcome"]), default="manifest")
def schema(name: str) -> ExitCode:
    """Print a JSON Schema: manifest, plan or outcome."""
    from reconciler.schemas import schema_text

    click.echo(schema_text(f"{name}.schema.json"), nl=False)
    return ExitCode.DONE


@cli.command()
@click.argument("path", default="jobs.yaml")
def init(path: str) -> ExitCode:
    """Write a first manifest.

    It validates, and runs on the embedded sandbox.
    """
    from reconciler.starter import MANIFEST

    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(MANIFEST)
    except FileExistsError:
        click.echo(f"error: {path} is there already; name another place: reconciler init PATH", err=True)
        return ExitCode.ERROR
    except OSError as fault:
        click.echo(f"error: {path} can't be written: {fault.strerror}", err=True)
        return ExitCode.ERROR
    click.echo(f"Wrote {path}. Next: reconciler plan{'' if path == 'jobs.yaml' else f' {path}'}")
    return ExitCode.DONE


@cli.command()
@click.argument("shell_name", metavar="bash|zsh|fish", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell_name: str) -> ExitCode:
    """Print a shell's completion script.

    To use it: eval "$(reconciler completion bash)"
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell_name)
    assert found is not None
    click.echo(found(cli, {}, "reconciler", "_RECONCILER_COMPLETE").source())
    return ExitCode.DONE
