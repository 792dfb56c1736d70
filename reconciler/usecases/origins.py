"""Who runs a command, and at which commit. The history and the records name both."""

from functools import cached_property
from typing import TYPE_CHECKING

from reconciler.model.history import Origin

if TYPE_CHECKING:
    from reconciler.usecases.world import World


class Origins:
    """The user, and the commit that is checked out in the folder of the manifest. Each is looked up once."""

    def __init__(self, folder: str, world: "World") -> None:
        self._folder = folder
        self._world = world

    @cached_property
    def who(self) -> str:
        """The CI run that this command is part of, else the user of git, else USER@HOST."""
        from reconciler.host.ci import ci_identity
        from reconciler.manifest.revisions import git_user

        return ci_identity(self._world.env) or git_user(self._folder, self._world.env) or self._world.user

    @cached_property
    def commit(self) -> str | None:
        """The commit that is checked out; None without a repository. A remark says why git can't read a repository."""
        from reconciler.manifest.revisions import commit_at

        commit, why = commit_at(self._folder)
        if why:
            self._world.remark(
                f"warning: the commit is not recorded, since git can't read the repository of {self._folder}: {why}"
            )
        return commit

    def of(self, command: str) -> Origin:
        """The origin of all that a command does, for the history."""
        return Origin(self.who, self.commit, command=command)
