"""Running one command: the remarks before it, and the report on the error that ends it."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import click

from reconciler.cli.advice import advise
from reconciler.cli.failure import HINT, traceback_of
from reconciler.cli.shell import Shell, show_error
from reconciler.model.commands import command
from reconciler.model.errors import ExitCode, PluginFailed, ReconcilerError


def run(shell: Shell, body: Callable[..., Any], arguments: Mapping[str, Any], *, has_paths: bool) -> ExitCode:
    """Run the body of a command with its arguments. Prints the error that ends it. Returns the exit code.

    `has_paths` is whether the last arguments of the command are paths of manifests.
    """
    terminal = shell.terminal
    try:
        _refuse_lost_folder()
        if has_paths and not (shell.place.paths or arguments.get("saved")):
            _say_what_is_passed_over(shell)
        if has_paths and shell.verbose:
            _say_where(shell)
        code = ExitCode(body(shell, **arguments))
        if terminal.trouble:
            terminal.remark(f"error: {terminal.trouble}\n  what was done is recorded: {command('history')}")
            return code or ExitCode.ERROR
        return code
    except ReconcilerError as fault:
        advise(shell, click.get_current_context(), fault, arguments)
        show_error(shell, fault)
        if shell.verbose and isinstance(fault, PluginFailed):
            terminal.remark(traceback_of(fault))
        return fault.exit_code
    except (click.ClickException, click.exceptions.Exit, click.Abort, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as fault:  # noqa: BLE001  its message may hold anything
        from reconciler.host.crash_report import error_line

        show_error(shell, ReconcilerError(error_line(fault), HINT))
        if shell.verbose:
            terminal.remark(traceback_of(fault))
        return ExitCode.ERROR


def _refuse_lost_folder() -> None:
    """Raise `ReconcilerError` if the working directory was removed, since relative paths then have no meaning."""
    try:
        os.getcwd()
    except OSError as fault:
        raise ReconcilerError("the working directory is gone", "go to one that is there: cd FOLDER") from fault


def take_paths(shell: Shell, paths: Sequence[str]) -> None:
    """Set the paths of a command whose paths are among other words. If there are none, the environment's paths stay."""
    shell.work_at(shell.place._replace(paths=tuple(paths) or shell.place.paths))
    if not shell.place.paths:
        _say_what_is_passed_over(shell)


def _say_what_is_passed_over(shell: Shell) -> None:
    """Warn if no path was given and both default manifests exist, since only one of them is read."""
    from reconciler.manifest.files import DEFAULTS, passed_over

    if other := passed_over("."):
        shell.terminal.remark(
            f"warning: {DEFAULTS[0]} is read, and {other}/ beside it is not: name the paths that are meant"
        )


def _say_where(shell: Shell) -> None:
    """Remark which manifest and which state the command works on. Omits a state whose home can't be found."""
    manifest = ", ".join(shell.workspace.manifest_paths)
    where = f"manifest: {manifest}"
    with suppress(ReconcilerError):  # a command that needs the state reports the error
        where += f"; state: {shell.workspace.state_name}"
    shell.terminal.remark(where)
