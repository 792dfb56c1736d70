"""Advice that is added to an error: the source of a value, and what the user probably wanted."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from reconciler.model.commands import command
from reconciler.model.errors import MissingPath, ReconcilerError, UnknownJob, Usage

if TYPE_CHECKING:
    from reconciler.cli.shell import Shell

_JOB_OPERANDS = ("job", "old")
"""The names of the parameters whose value is the name of a job."""


def variable_of(ctx: click.Context, parameter: click.Parameter) -> str:
    """The environment variable that gave a parameter its value; "" if the value has another source."""
    # Click records no source for a variable whose text can't be split into words.
    if ctx.get_parameter_source(parameter.name or "") not in (click.core.ParameterSource.ENVIRONMENT, None):
        return ""
    named = [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or ()
    return next((name for name in named if os.environ.get(name)), "")


def advise(shell: "Shell", ctx: click.Context, fault: ReconcilerError, operands: Mapping[str, Any]) -> None:
    """Add advice to an error. `operands` are the arguments of the command by name."""
    job = _job_operand(shell, operands)
    if isinstance(fault, MissingPath):
        _advise_on_path(shell, ctx, fault, job)
    elif isinstance(fault, UnknownJob) and job and os.path.exists(job):
        swapped = command(shell.verb, "JOB", job, options=_flags_given(ctx))
        fault.hint = f"{job} is a path, and the job comes before the path: {swapped}"
        shell.work_at(shell.place._replace(paths=()))
    else:
        _advise_on_service(shell, fault)
    for parameter in ctx.command.params:
        option = max(parameter.opts, key=len)
        if option.startswith("--") and option in fault.message and (variable := variable_of(ctx, parameter)):
            fault.message = f"{fault.message} ({option} has its value from {variable})"
    if isinstance(fault, Usage) and not fault.hint:
        fault.hint = f"{ctx.command_path} --help shows how it is used"


def _job_operand(shell: "Shell", operands: Mapping[str, Any]) -> str:
    """The word in the place of the job; "" without one. In `history PATH JOB` it is PATH, since JOB comes first."""
    if shell.verb == "history":
        words = operands["words"]
        return words[0] if len(words) > 1 and not _looks_like_path(words[1]) else ""
    return next((operands[name] for name in _JOB_OPERANDS if name in operands), "")


def _looks_like_path(word: str) -> bool:
    from reconciler.manifest.files import is_manifest_name

    return is_manifest_name(word) or word.endswith("/")


def _advise_on_path(shell: "Shell", ctx: click.Context, fault: MissingPath, job: str) -> None:
    """Advise on a path that is missing. The word may be a job, may stand in the place of a job, or may be misspelt."""
    from reconciler.model.suggestions import Suggestions
    from reconciler.usecases.names import declared_names

    path, place, verb = fault.path, shell.place, shell.verb
    if job and os.path.exists(job):
        shell.work_at(place._replace(paths=()))
        fault.hint = f"the job comes before the path: {command(verb, path, job, options=_flags_given(ctx))}"
        return
    others = tuple(other for other in place.paths if os.path.exists(other))
    if path in declared_names(shell.workspace.at(place._replace(paths=others))):
        shell.work_at(place._replace(paths=others))
        takes_target = any(parameter.name == "targets" for parameter in ctx.command.params)
        way = command(verb if takes_target else "plan", options=["--target", path])
        fault.hint = f"{path} is a job, and PATH is for manifests; to pick a job: {way}"
        return
    folder = os.path.dirname(path)
    near = Suggestions().nearest(os.path.basename(path), _manifests_in(folder))
    if near:
        fault.hint = f"did you mean {os.path.join(folder, near)}?"


def _flags_given(ctx: click.Context) -> list[str]:
    """The flags on the command line, as the user wrote them."""
    given = click.core.ParameterSource.COMMANDLINE
    flags = [one for one in ctx.command.params if isinstance(one, click.Option) and one.is_flag]
    return [
        max(flag.opts if is_on else flag.secondary_opts, key=len)
        for flag in flags
        if ctx.get_parameter_source(flag.name or "") is given
        for value in [ctx.params[flag.name or ""]]
        for is_on in (value if flag.multiple else (value,))
    ]


def _manifests_in(folder: str) -> list[str]:
    from reconciler.manifest.files import is_manifest_name

    try:
        names = sorted(os.listdir(folder or "."))
    except OSError:
        return []
    return [name for name in names if is_manifest_name(name) or os.path.isdir(os.path.join(folder, name))]


def _advise_on_service(shell: "Shell", fault: ReconcilerError) -> None:
    """Name the --endpoint that fits the --state, if the state is for another service than the manifest."""
    place = shell.place
    if not place.state_url or place.endpoint:
        return
    from reconciler.state.loading import OtherTarget

    if not isinstance(fault, OtherTarget):
        return
    from reconciler.usecases.names import endpoint_of_state

    if endpoint := endpoint_of_state(shell.workspace):
        fault.hint = f"add the service that this state is for: --endpoint {endpoint}; or name another --state"
