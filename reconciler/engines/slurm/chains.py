"""Runs that begin once others have completed: `--dependency=afterok`.

Slurm takes an id that it does not know for that of a job that has ended well. It looks at the others of a job once the
job is released, and it drops a failed job some time after the end of that job (MinJobAge). So a job is released only
while the others are active, or once they are known to have completed. Where one of them does not complete, Slurm
cancels the job that waits (`--kill-on-invalid-dep`), which has not executed anything then: the run is withdrawn.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.engines.port import Config, Status
from reconciler.engines.slurm.reading import Reading
from reconciler.engines.slurm.scripts import options_of
from reconciler.engines.slurm.submission import native_of

_ANY = "?"
"""What parts the conditions of a dependency of which one is enough."""


def chain_options(config: Config, after: Sequence[str]) -> list[str]:
    """Return the options that let a job wait for the jobs of some handles, beside those for which it waits anyway."""
    if not after:
        return []
    conditions = [*filter(None, [_own(config)]), f"afterok:{':'.join(map(_id_of, after))}"]
    return [f"--dependency={','.join(conditions)}", "--kill-on-invalid-dep=yes"]


def chain_fault(config: Config, after: Sequence[str]) -> str:
    """Return why a job can't also wait for others; "" if it can."""
    if after and _ANY in _own(config):
        return f"a dependency with {_ANY} can't be joined with `after`: write what it waits for with commas"
    return ""


def why_not_to_release(reading: Reading, after: Sequence[str]) -> str:
    """Return why a held job would not wait for the jobs of some handles; "" if it will, or need not any more.

    Raises the errors of `Engine.observe`.
    """
    if not after:
        return ""
    present = reading.present()
    may_be_waited_for = {run.ref for run in present.runs if run.status in (Status.ACTIVE, Status.COMPLETE)}
    if not may_be_waited_for.issuperset(after):
        may_be_waited_for |= {run.ref for run in reading.past(present).runs if run.status is Status.COMPLETE}
    left = [_id_of(handle) for handle in after if handle not in may_be_waited_for]
    return f"it comes after job {left[0]}, which does not go on and is not known to have completed" if left else ""


def _own(config: Mapping[str, Any]) -> str:
    """Return the dependency that a config asks for by itself; "" for none."""
    native = native_of(config).get("dependency", "")
    in_script = [option.value for option in options_of(config.get("script", "")) if option.name == "dependency"]
    return str(native or next(iter(in_script[::-1]), ""))


def _id_of(handle: str) -> str:
    return handle.partition("@")[0]
