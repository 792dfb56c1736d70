"""Groups of commands that suggest a command for a misspelt one."""

import click

from reconciler.model.commands import command

_STOP = "to stop a job, declare it `state: aborted`, and apply that"
_REMOVE = "to remove a job, declare it `state: absent`, and apply that"
_RUN = f"to run a job, declare it `state: running`, and apply that; to run it once more: {command('rerun', 'JOB')}"
_BACK = "to go back, revert the manifest in git, and apply that"
_OF_OTHER_TOOLS = {
    **dict.fromkeys(("abort", "cancel", "kill", "scancel", "stop"), _STOP),
    **dict.fromkeys(("delete", "destroy", "remove", "rm"), _REMOVE),
    **dict.fromkeys(("create", "restart", "retry", "run", "start", "submit"), _RUN),
    **dict.fromkeys(("revert", "rollback", "undo"), _BACK),
}
"""What to do in place of a command that other tools have: a job is what its manifest says."""


class Suggesting(click.Group):
    """A group that suggests one of its commands, or a command of a group in it, for a misspelt command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name[:1] != "-" and self.get_command(ctx, name) is None and not ctx.resilient_parsing:
            ctx.fail(f"No such command '{name}'.{self._suggestion(ctx, name)}")
        return super().resolve_command(ctx, args)

    def _suggestion(self, ctx: click.Context, name: str) -> str:
        from difflib import get_close_matches

        if name in _OF_OTHER_TOOLS and ctx.parent is None:
            return f" A job is what its manifest says: {_OF_OTHER_TOOLS[name]}."
        near = get_close_matches(name, self.list_commands(ctx), n=1)
        inner = [group for group in self.list_commands(ctx) if name in _commands_of(self.get_command(ctx, group), ctx)]
        meant = [f"{ctx.command_path} {group} {name}" for group in inner] + [
            f"{ctx.command_path} {one}" for one in near
        ]
        return f" Did you mean '{meant[0]}'?" if meant else ""


def _commands_of(group: click.Command | None, ctx: click.Context) -> list[str]:
    return group.list_commands(ctx) if isinstance(group, click.Group) else []
