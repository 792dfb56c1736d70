"""The package of a folder: the same archive for the same files, under a name that says which files they are."""

import os
import subprocess
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import pytest

from reconciler.engines.port import EngineError
from reconciler.engines.ray import packages
from reconciler.engines.ray.packages import package_of, packed
from reconciler.engines.ray.settings import Settings
from reconciler.manifest.parse import parse
from reconciler.model.errors import ManifestError
from reconciler.usecases.engines import plugin_named

MANIFEST = b"""\
apiVersion: reconciler/v1
target: {engine: ray}
jobs:
  train: {state: running, config: {command: [x], working_dir: train}}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "train" / "lib").mkdir(parents=True)
    (tmp_path / "train" / "main.py").write_text("print()")
    (tmp_path / "train" / "run.sh").write_text("echo")
    (tmp_path / "train" / "run.sh").chmod(0o700)
    (tmp_path / "train" / "lib" / "a.py").write_text("a")
    (tmp_path / "train" / "__pycache__").mkdir()
    (tmp_path / "train" / "__pycache__" / "main.pyc").write_text("x")
    return tmp_path


def config(home: Path) -> Mapping[str, Any]:
    """Return the config of a manifest beside the folder, as it is now."""
    return parse([(str(home / "jobs.yaml"), MANIFEST)], plugin_named).jobs["train"].config


def test_a_package_is_named_by_its_files(home: Path) -> None:
    made = config(home)
    assert package_of(made) == f"gcs://_ray_pkg_{made['working_dir']['content']}.zip"
    assert package_of({"command": ["x"]}) == package_of({"working_dir": "s3://b/x.zip"}) == ""


def test_a_package_has_the_files_as_ray_unpacks_them(home: Path) -> None:
    with ZipFile(BytesIO(packed(config(home), Settings(str(home))))) as archive:
        assert archive.namelist() == ["lib/a.py", "main.py", "run.sh"]
        assert archive.read("lib/a.py") == b"a"
        modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
        assert {entry.compress_type for entry in archive.infolist()} == {ZIP_STORED}
    assert modes == {"lib/a.py": 0o100644, "main.py": 0o100644, "run.sh": 0o100755}


def test_the_same_files_make_the_same_bytes(home: Path) -> None:
    before = packed(config(home), Settings(str(home)))
    os.utime(home / "train" / "main.py", (1_000_000_000, 1_000_000_000))
    (home / "train" / "lib" / "a.py").unlink()
    (home / "train" / "lib" / "a.py").write_text("a")
    assert packed(config(home), Settings(str(home))) == before


def test_files_that_have_changed_since_are_not_packed(home: Path) -> None:
    """The plan that a person has read is about the files of before."""
    made = config(home)
    (home / "train" / "main.py").write_text("print(1)")
    with pytest.raises(EngineError, match="the files of train are others than when the manifest was read") as caught:
        packed(made, Settings(str(home)))
    assert caught.value.hint == "plan again"


def test_no_package_holds_what_a_link_into_git_s_own_folder_leads_to(home: Path) -> None:
    """actions/checkout keeps a token in `.git/config`."""
    made = config(home)
    (home / "train" / "odd").symlink_to("../.git/config")
    with pytest.raises(ManifestError) as refused:
        config(home)
    assert "working_dir: train/odd is a link to .git/config" in str(refused.value.diagnostics[0])
    with pytest.raises(EngineError, match=r"no package can be made: train/odd is a link to \.git/config"):
        packed(made, Settings(str(home)))


def test_a_folder_that_is_gone_is_told(home: Path) -> None:
    made = config(home)
    (home / "train").rename(home / "moved")
    with pytest.raises(EngineError, match="no package can be made: train: there is no such folder"):
        packed(made, Settings(str(home)))


def test_no_package_is_longer_than_ray_takes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive is somewhat longer than its files."""
    monkeypatch.setattr(packages, "LIMIT_BYTES", 300)
    with pytest.raises(EngineError, match=r"the package of train has .* MiB"):
        packed(config(home), Settings(str(home)))


def test_the_limit_of_the_schema_is_that_of_a_package() -> None:
    part = plugin_named("ray").config_schema["properties"]["working_dir"]
    assert part["folder"]["mostBytes"] == packages.LIMIT_BYTES
