"""The embedded server against its own OpenAPI document, tested by schemathesis."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from reconciler.engines.sandbox.server import SandboxServer


@pytest.mark.parametrize("create_missing", [False, True])
def test_it_keeps_to_its_own_document(tmp_path: Path, create_missing: bool) -> None:
    with SandboxServer(
        tmp_path / "sandbox.db", access_token="an-access-token", api_key="an-api-key", create_missing=create_missing
    ) as server:
        url = urlsplit(server.endpoint)
        report = subprocess.run(
            [
                sys.executable,
                *("-m", "schemathesis.cli", "run", f"{url.scheme}://{url.netloc}/openapi.json"),
                *("--header", "Authorization: an-access-token", "--no-color", "--seed", "1", "--checks", "all"),
                # A valid call may get a 400: the job's state can forbid it, and the contract has no 409.
                *("--exclude-checks", "positive_data_acceptance"),
                # The first round tries every operation of the document, and the second uses jobs of earlier calls.
                *("--phases", "coverage,stateful" if create_missing else "coverage,fuzzing,stateful"),
                *("--max-examples", "4" if create_missing else "6"),
            ],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env=os.environ | {"PYTHONUTF8": "1"},
        )
    assert report.returncode == 0, report.stdout + report.stderr
    assert "Tested: 7" in report.stdout
