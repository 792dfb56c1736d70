"""One realistic plan, and one manifest with faults, in every format; `python tests/support/golden.py` renews the files.

The files in tests/golden are exactly what a user gets, byte for byte. After an intended change, renew the files, and
review the difference as if it were code.
"""

from collections.abc import Mapping

from checkout import TESTS
from reconciler.engines.bytenite.plugin import PLUGIN
from reconciler.host.safe_text import printable
from reconciler.manifest.parse import parse
from reconciler.model.errors import ManifestError
from reconciler.model.history import HistoryEntry
from reconciler.model.jobs import Desired, Doubt, Observation, Record, State, Status, Target, Verb
from reconciler.model.plan import Narrowed, Plan
from reconciler.model.plan_json import plan_to_json
from reconciler.rules.actions import make_plan
from reconciler.rules.matching import match_records, prune
from reconciler.rules.review import Review, review_plan
from reconciler.usecases.engines import plugin_named, wording_of
from reconciler.usecases.selection import Selection
from reconciler.views import github, html, json, junit, markdown, sarif, text

FOLDER = TESTS / "golden"
COMMIT = "8f3c2a90d1b74e5566aa90cf01d2e3f4a5b6c7d8"
STATE = State(
    lineage="3f1c2f6e-8a55-4c0e-9f0a-6b1f0d9f4b11",
    serial=42,
    target=Target("bytenite", "https://api.example.org/v1/customer"),
    jobs={
        "archive-2025": Record("archive-2025", Desired.ABORTED),
        "caption-backfill": Record(
            "5d0e1a52-8a55-4c0e-9f0a-6b1f0d9f4b11",
            None,
            doubt=Doubt("op-1", Verb.RUN, {"taskTimeout": 3600}, None, None, "2026-11-20T02:00:07Z", "502 Bad Gateway"),
        ),
        "live-ladder": Record(
            "0a4be0c1-58b1-4a35-8a55-1f0d9f4b1101", Desired.RUNNING, {"jobTimeout": 3600, "taskTimeout": 3600}
        ),
        "nightly-transcode": Record(
            "7728ba38-f0a0-4319-ae28-07734448a334", Desired.RUNNING, {"taskTimeout": 600}, submitted_at="2026-11-20"
        ),
        "old-report": Record("24c87023-ac0a-4516-ad2d-a6d841dc06d3", Desired.RUNNING, {"taskTimeout": 3600}),
        "payroll-export": Record("9b2f5a4e-1d2c-4f7a-9a6e-2f4f5a6b7c8d", Desired.RUNNING, {"taskTimeout": 3600}),
        "retired-loader": Record("retired-loader", Desired.RUNNING, {"taskTimeout": 3600}),
        "vanished": Record("61c1a2de-0c52-4f0b-8f5e-0b7f4c1c9f3e", Desired.RUNNING, {"taskTimeout": 60}),
        "weekly-digest": Record("weekly-digest", Desired.RUNNING, {"taskTimeout": 3600}),
    },
)
OBSERVED = {
    "archive-2025": Observation(Status.ABORTED, "JOB_STATE_ABORTED"),
    "5d0e1a52-8a55-4c0e-9f0a-6b1f0d9f4b11": Observation(Status.ACTIVE, "JOB_STATE_RUNNING"),
    "0a4be0c1-58b1-4a35-8a55-1f0d9f4b1101": Observation(
        Status.ACTIVE, "JOB_STATE_RUNNING", {"jobTimeout": 3600, "taskTimeout": 3600, "isTestJob": False}
    ),
    "7728ba38-f0a0-4319-ae28-07734448a334": Observation(
        Status.ABORTED, "JOB_STATE_ABORTED", {"taskTimeout": 600}, submitted_at="2026-11-20"
    ),
    "24c87023-ac0a-4516-ad2d-a6d841dc06d3": Observation(Status.ACTIVE, "JOB_STATE_PAUSED"),
    "9b2f5a4e-1d2c-4f7a-9a6e-2f4f5a6b7c8d": Observation(Status.ACTIVE, "JOB_STATE_RUNNING"),
    "thumbnails": Observation(Status.DRAFT, "JOB_STATE_NEW"),
    "61c1a2de-0c52-4f0b-8f5e-0b7f4c1c9f3e": Observation(Status.MISSING, detail="404"),
    "weekly-digest": Observation(Status.FAILED, "JOB_STATE_FAILED", detail="out of memory | exit 137"),
}
HISTORIES = {
    "0a4be0c1-58b1-4a35-8a55-1f0d9f4b1101": [
        HistoryEntry("2026-11-19T02:00:03Z", "ci@example.org", COMMIT, "run", "succeeded", 200, "req-8c1"),
        HistoryEntry("2026-11-20T02:00:07Z", "ada@example.org", None, "abort", "failed", 503, "req-9d2"),
    ],
    "weekly-digest": [HistoryEntry("2026-11-16T06:00:00Z", "ci@example.org", COMMIT, "run", "succeeded", 200)],
}

ALL, SOME = Selection(), Selection(("live-*", "old-*"), ("*-loader",))


def plan(selection: Selection = ALL) -> Plan:
    """Return the plan that the files show."""
    return _planned(selection)[0]


def review(selection: Selection = ALL) -> Review:
    """Return the review of that plan."""
    return _planned(selection)[1]


def files() -> Mapping[str, str]:
    """Return the content of each golden file by the file's name."""
    try:
        parse([("jobs/faulty.yaml", (FOLDER / "faulty.yaml").read_bytes())], plugin_named)
        raise AssertionError("faulty.yaml has faults")
    except ManifestError as error:
        faults = error.diagnostics
    return {
        "plan.json": json.dumps(plan_to_json(plan())),
        "plan.md": markdown.review(review()),
        "plan.html": html.review(review()),
        "plan.github.txt": "\n".join(github.commands(github.review(review()))) + "\n",
        "narrowed.txt": printable(text.plan(plan(SOME)), color=False) + "\n",
        "narrowed.json": json.dumps(plan_to_json(plan(SOME))),
        "narrowed.md": markdown.review(review(SOME)),
        "narrowed.github.txt": "\n".join(github.commands(github.review(review(SOME)))) + "\n",
        "faulty.github.txt": "\n".join(github.commands(github.diagnostics(faults))) + "\n",
        "faulty.junit.xml": junit.report(faults),
        "faulty.sarif.json": json.dumps(sarif.report(faults)),
        "valid.junit.xml": junit.report((), jobs=9),
        "valid.sarif.json": json.dumps(sarif.report(())),
    }


def _planned(selection: Selection) -> tuple[Plan, Review]:
    manifest = parse([("jobs.yaml", (FOLDER / "jobs.yaml").read_bytes())], plugin_named)
    matching = match_records(manifest.jobs, STATE.jobs, PLUGIN.same_config)
    made = make_plan(
        matching,
        OBSERVED,
        wording_of(STATE.target),
        selection.among([subject.job.name for subject in matching.subjects]),
        state=STATE,
        manifest_digest=manifest.digest,
        commit=COMMIT,
        paths=("jobs.yaml",),
    )
    if selection is not ALL:
        narrowed = Narrowed(len(made.actions), len(matching.subjects), selection.targets, selection.excludes)
        made = made._replace(narrowed=narrowed)
    subjects = prune(matching, STATE.jobs).subjects
    shown = review_plan(
        made, subjects, OBSERVED, manifest.position, HISTORIES, state_at="jobs.state.json", refusal=None
    )
    return made, shown


if __name__ == "__main__":
    for name, content in files().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
