"""The files of a manifest, read once for each command."""

import os
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from reconciler.model.errors import ManifestError
from reconciler.usecases.engines import plugin_named

if TYPE_CHECKING:
    from reconciler.manifest import DeclaredState, Head, Manifest
    from reconciler.manifest.files import Sources
    from reconciler.usecases.place import Place


class ManifestFiles:
    """The manifest at a place. Each file is read once, when it is first needed."""

    def __init__(self, place: "Place", sources: "Sources | None" = None) -> None:
        """`sources` replace the files at the paths of the place. A manifest in them needs no `jobs` block."""
        self._place = place
        self._given = sources

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """The paths of the manifest. Raises `ReconcilerError` if none is given and there is no default path."""
        return self._place.manifest_paths

    @cached_property
    def sources(self) -> "Sources":
        """The files. Raises `ReconcilerError` as `read_sources` does."""
        from reconciler.manifest.files import read_sources

        return read_sources(self.paths) if self._given is None else self._given

    @cached_property
    def parsed(self) -> "Manifest":
        """The manifest as the files state it. Raises `ManifestError`."""
        from reconciler.manifest.parse import parse

        return parse(self.sources, plugin_named, may_be_empty=self._given is not None)

    @cached_property
    def manifest(self) -> "Manifest":
        """The manifest at the endpoint that the user names. Each freeze that has ended is marked.

        Raises `ManifestError`, also for a `state:` that can't be used.
        """
        import time

        from reconciler.rules.actions import lapsed

        manifest = self.parsed
        if manifest.state is not None:
            from reconciler.state.homes import declared_home

            declared_home(manifest.state)
        target = self._place.target(manifest.target, manifest.block)
        over = lapsed(manifest.jobs, time.time())
        jobs = {**manifest.jobs, **over} if over else manifest.jobs
        return manifest._replace(target=target, jobs=jobs, over=tuple(over))

    @cached_property
    def head(self) -> "Head":
        """The head of the manifest, at the endpoint that the user names, also if the jobs have faults.

        Raises `ManifestError` if a fault hides the head.
        """
        from reconciler.manifest.salvage import head_of

        try:
            head = self.parsed.head
        except ManifestError:
            head = head_of(self.sources, plugin_named)
        return head._replace(target=self._place.target(head.target, head.block))

    @cached_property
    def declared_state(self) -> "DeclaredState | None":
        """The `state:` of the manifest, also if the rest has faults; None without one, and without any file.

        Raises `ManifestError` if a fault hides it.
        """
        if self._given is None and not any(map(os.path.lexists, self.paths)):
            return None
        from reconciler.manifest.salvage import declared_state_of

        try:
            return self.parsed.state
        except ManifestError:
            return declared_state_of(self.sources, plugin_named)

    @cached_property
    def ids_in_spite_of_faults(self) -> Mapping[str, str] | None:
        """The engine job id of each declared job, by the job's name; None if a fault hides an id."""
        from reconciler.manifest.salvage import ids_in_spite_of_faults

        try:
            return {name: job.id for name, job in self.parsed.jobs.items()}
        except ManifestError:
            return ids_in_spite_of_faults(self.sources)
