"""Changes of manifest files, as text for people."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from reconciler.host.safe_text import Style, field, pad, styled, width
from reconciler.model.jobs import title
from reconciler.views.phrases import counted, last_run
from reconciler.views.phrases import observed as seen_words

if TYPE_CHECKING:
    from reconciler.model.jobs import Observation, State
    from reconciler.rules.adoption import Adopted, LeftOut


def diff(file: str, before: bytes, after: bytes) -> str:
    """Return a unified diff of one file. The diff does not show line ends."""
    from difflib import unified_diff

    old, new = (content.decode("utf-8-sig", "replace").splitlines() for content in (before, after))
    return "\n".join(map(_diff_line, unified_diff(old, new, f"a/{file}", f"b/{file}", lineterm="")))


def imported(jobs: Sequence["Adopted"], file: str, *, dry_run: bool) -> str:
    """Return the jobs that were imported into `file`, one on each line, and then the number of the jobs."""
    names = max((width(field(job.name)) for job in jobs), default=0)
    lines = []
    for job in jobs:
        state = styled(Style.CYAN, f"{job.record.state or '':<8}")
        seen = field(seen_words(job.observed))
        lines.append(f"  = {state} {pad(field(job.name), names)}  {field(job.record.id)}  {seen}")
    verb = "To import" if dry_run else "Imported"
    return "\n".join([*lines, *([""] if lines else []), f"{verb}: {counted(len(jobs), 'job')} into {field(file)}."])


def left_out(jobs: Sequence["LeftOut"]) -> str:
    """Return the jobs that were not imported, one on each line, with the reason."""
    return "\n".join(f"{styled(Style.MAGENTA, 'left out')} {_named(job)}: {field(job.why)}" for job in jobs)


def left_to_owners(owners: Mapping[str, str]) -> str:
    """Return the jobs that were left to their owners, one on each line. `owners` maps engine job ids to owners."""
    return "\n".join(
        f"{styled(Style.MAGENTA, 'owned')} {field(job_id)}: {field(owner)} owns it" for job_id, owner in owners.items()
    )


def owned(job: "Adopted") -> str:
    """Return a warning about an imported job that another program owns."""
    owner = field(job.observed.owned_by)
    return f"warning: {owner} owns {field(job.name)}, and may remove it or make it again"


def rebuilt(state: "State", observed: "Mapping[str, Observation]", place: str) -> str:
    """Return the records that a rebuild makes, one on each line, and then their number and the lineage.

    `observed` maps the keys of these records to what they are made from.
    """
    names = max(width(field(title(key))) for key in observed)
    runs = max(width(field(last_run(state.jobs[key]))) for key in observed)
    lines = [
        f"  + {pad(field(title(key)), names)}  {pad(field(last_run(state.jobs[key])), runs)}  {field(seen_words(one))}"
        for key, one in sorted(observed.items())
    ]
    count = counted(len(observed), "record")
    return "\n".join([*lines, "", f"To rebuild: {count} of the lineage {field(state.lineage)}, in {field(place)}."])


def _named(job: "LeftOut") -> str:
    return field(job.name) if job.name == job.id else f"{field(job.name)} ({field(job.id)})"


def _diff_line(line: str) -> str:
    shown = field(line)
    return styled({"+": Style.GREEN, "-": Style.RED, "@": Style.CYAN}.get(line[:1], Style.DIM), shown) if shown else ""
