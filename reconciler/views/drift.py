"""What differs from the record, as text for people and as a document for machines."""

from typing import Any

from reconciler.drift import DIFFERS, QUIET, Drift, Finding, Kind, summary, verdict
from reconciler.jobs import title
from reconciler.plan import FORMAT_VERSION, target_to_json
from reconciler.text import Style, field, styled
from reconciler.views.text import Line, listed


def text(drift: Drift, *, whole: bool = False) -> str:
    """What differs from what is recorded: counts, then all but the quiet jobs.

    More than `MANY` that say the same are one line, unless the list is to be `whole`.
    """
    shown = [finding for finding in drift.findings if finding.kind not in QUIET]
    lines = [verdict(drift, lambda words: styled(Style.MAGENTA, words))]
    if shown:
        words = max(len(finding.kind) for finding in shown)
        said = []
        for one in shown:
            sign = styled(
                Style.DIM if one.kind in (Kind.UNDER_WAY, Kind.SUSPENDED) else Style.MAGENTA, f"! {one.kind:<{words}}"
            )
            way_out = f": {field(one.way_out)}" if one.way_out else ""
            said.append(Line(sign, field(title(one.name)), f"{field(one.reason)}{way_out}"))
        lines += ["", *listed(said, whole=whole)]
    return "\n".join(lines)


def document(drift: Drift) -> dict[str, Any]:
    """What is found of each job, gravest first; the form is that of `schemas/drift.schema.json`."""
    return {
        "formatVersion": FORMAT_VERSION,
        "target": target_to_json(drift.target),
        "lineage": drift.lineage,
        "serial": drift.serial,
        "commit": drift.commit,
        "paths": list(drift.paths),
        "summary": {kind.value: count for kind, count in summary(drift).items()},
        "jobs": [_finding(finding) for finding in drift.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "job": finding.name,
        "id": finding.id,
        "found": finding.kind.value,
        "differs": finding.kind in DIFFERS,
        "reason": finding.reason,
        "wayOut": finding.way_out,
        "declared": finding.job is not None,
        "recorded": None if finding.record is None else finding.record.state,
        "observed": finding.observed.status.value,
        "observedWord": finding.observed.word,
        "changes": [{"path": c.path, "before": c.before, "after": c.after} for c in finding.changes],
    }
