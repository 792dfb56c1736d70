"""What the offline path imports: each slow module here would cost a plan tens of milliseconds."""

from pathlib import Path

import pytest

from imports import imported_by
from reconciler.model.jobs import Desired, Record, State, Target
from reconciler.state.codec import encode
from reconciler.views.formats import names_for

# What a plan that sends nothing has no use for.
SLOW = {
    "asyncio",
    "concurrent.futures",
    "deepdiff",
    "difflib",
    "email",
    "http.client",
    "http.server",
    "importlib.metadata",
    "jsonschema",
    "logging",
    "multiprocessing",
    "reconciler.rules.drift",
    "reconciler.rules.circles",
    "reconciler.views.edits",
    *(f"reconciler.views.{name}" for name in names_for() if name != "text"),
    "reconciler.rules.review",
    "requests",
    "socketserver",
    "sqlite3",
    "ssl",
    "subprocess",
    "unittest",
    "urllib.request",
    "urllib3",
    "xml.etree.ElementTree",
}
# The compiled part of jsonschema-rs imports `email.utils` to read the date of its own build, and can't be kept from it.
OF_JSONSCHEMA_RS = {"email"}
# The help of a command lists the formats, and asks each view for the answers that it shows.
OF_FORMATS = {name for name in SLOW if name.startswith("reconciler.")}
SLOW_FOR_A_LIST_OF_FORMATS = {"base64", "html.parser", "importlib.resources", "tempfile", "urllib.parse"}
MANIFEST = """\
apiVersion: reconciler/v1
target:
  engine: bytenite
  endpoint: http://127.0.0.1:9/v1/customer
jobs:
  nightly:
    id: job-1
    state: running
    config: {taskTimeout: 600}
"""
STATE = State(
    lineage="3f1c2f6e-8a55-4c0e-9f0a-6b1f0d9f4b11",
    serial=1,
    target=Target("bytenite", "http://127.0.0.1:9/v1/customer"),
    jobs={"nightly": Record("job-1", Desired.RUNNING, {"taskTimeout": 600})},
)


@pytest.mark.parametrize(
    ("arguments", "reached", "slow"),
    [
        (["plan", "--detailed-exitcode"], "reconciler.rules.decide", SLOW - OF_JSONSCHEMA_RS),
        (["--help"], "reconciler.cli", SLOW | {"jsonschema_rs", "yaml"}),
        (
            ["plan", "--help"],
            "reconciler.views.html",
            (SLOW - OF_FORMATS) | SLOW_FOR_A_LIST_OF_FORMATS | {"jsonschema_rs", "reconciler.rules.adoption", "yaml"},
        ),
    ],
    ids=["plan", "help", "help of a command"],
)
def test_the_offline_path_imports_nothing_slow(
    arguments: list[str], reached: str, slow: set[str], tmp_path: Path
) -> None:
    (tmp_path / "jobs.yaml").write_text(MANIFEST)
    (tmp_path / "jobs.state.json").write_bytes(encode(STATE))
    imported = imported_by(arguments, tmp_path)
    assert reached in imported
    assert imported & slow == set()
