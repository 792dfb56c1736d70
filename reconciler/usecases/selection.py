"""The jobs that a command is about, selected by globs over their names."""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, NamedTuple

from reconciler.model.commands import command
from reconciler.model.errors import ReconcilerError, UnknownJob
from reconciler.model.jobs import State

if TYPE_CHECKING:
    from reconciler.manifest import Manifest
    from reconciler.rules.matching import Matching

_WITHOUT_CREDENTIALS = command("plan", options=["--format", "json"])
ALL_NAMES = f"{command('status')} lists all jobs; {_WITHOUT_CREDENTIALS} lists them without credentials"
"""The hint for a name that no job has."""


class Selection(NamedTuple):
    """Globs over names of jobs. Without `targets` all jobs are selected. `prune` adds undeclared jobs."""

    targets: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    prune: bool = False

    def among(self, names: Collection[str]) -> Callable[[str], bool]:
        """A function that tells whether one of these names is selected."""
        if not self.targets and not self.excludes:
            return lambda name: True
        from reconciler.model.globs import matcher

        wanted = matcher(self.targets, names) if self.targets else lambda name: True
        unwanted = matcher(self.excludes, names)
        return lambda name: wanted(name) and not unwanted(name)


def matching_of(manifest: "Manifest", state: State, selection: Selection, now_s: float = 0.0) -> "Matching":
    """The jobs of the manifest with their records. If the selection prunes, the undeclared records are included.

    `now_s` is as in `Terms`.
    """
    from reconciler.rules.matching import Terms, match_records, prune
    from reconciler.usecases.engines import plugin_for

    engine = plugin_for(manifest.target)
    terms = Terms(engine.promises(manifest.target), state.lineage, state.last, now_s)
    matching = match_records(manifest.jobs, state.jobs, engine.same_config, terms)
    return prune(matching, state.jobs) if selection.prune else matching


def selected(manifest: "Manifest", state: State, selection: Selection, now_s: float = 0.0) -> "Matching":
    """The same as `matching_of`, after a check of the selection.

    Raises `ReconcilerError` if a --target matches no job, or if --exclude leaves none.
    """
    matching = matching_of(manifest, state, selection, now_s)
    names = names_of(matching)
    for glob in selection.targets:
        if glob not in names and not any(map(Selection((glob,)).among(names), names)):
            from reconciler.model.suggestions import Suggestions

            near = Suggestions().nearest(glob, tuple(names))
            raise UnknownJob(f"--target {glob} matches no job", f"did you mean {near}?" if near else ALL_NAMES)
    if selection.excludes and not any(map(selection.among(names), names)):
        globs = " ".join(f"--exclude {glob}" for glob in selection.excludes)
        raise ReconcilerError(f"{globs} leaves no job", ALL_NAMES)
    return matching


def names_of(matching: "Matching") -> Collection[str]:
    """The names of the jobs that a plan may be about, in the order of the matching."""
    return {subject.job.name: None for subject in matching.subjects}.keys()
