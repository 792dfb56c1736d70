"""The package that the folder of a config is uploaded as: a zip archive that depends on the files alone.

The name of a package holds the digest of its files, as with Ray's own client. So a package that the head has need not
be uploaded again, and its folder need not be there any more.

A head drops a package once no job uses it. It keeps one that was asked for, or uploaded, for some minutes.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from io import BytesIO
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from reconciler.engines.port import EngineError
from reconciler.engines.ray.schemas import schema
from reconciler.engines.ray.settings import Settings
from reconciler.manifest.folders import FolderFile, digest_of, files_in, rules_of
from reconciler.model.errors import ReconcilerError

LIMIT_BYTES = 100 << 20
"""The longest package that a head takes over HTTP. It answers a longer one with 413 (DASHBOARD_CLIENT_MAX_SIZE)."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first time that an archive can hold. The times of the files tell nothing of their contents."""

_UNIX = 3
"""The system of an archive whose entries have the permissions of Unix (ZipInfo.create_system)."""


def package_of(config: Mapping[str, Any]) -> str:
    """Return the URI of the package of a config, such as "gcs://_ray_pkg_0123….zip"; "" if it has no folder."""
    folder = config.get("working_dir")
    return f"gcs://_ray_pkg_{folder['content']}.zip" if isinstance(folder, Mapping) else ""


def packed(config: Mapping[str, Any], settings: Settings) -> bytes:
    """Return the archive of the folder of a config, from the files as they are now.

    Raises `EngineError` if the folder can't be read, if it is too large, and if it holds other files than when the
    config was read.
    """
    named = config["working_dir"]
    folder = os.path.join(settings.folder, named["folder"])
    rules = rules_of(schema("config")["properties"]["working_dir"]["folder"])
    try:
        archive, content = archive_of(files_in(folder, settings.folder, rules))
    except ReconcilerError as fault:
        raise EngineError(f"no package can be made: {fault.message}", fault.hint) from fault
    if content != named["content"]:
        raise EngineError(
            f"the files of {named['folder']} are others than when the manifest was read, and the head has no package "
            "of those",
            "plan again",
        )
    if len(archive) > LIMIT_BYTES:
        raise EngineError(
            f"the package of {named['folder']} has {len(archive) >> 20} MiB, and a head takes {LIMIT_BYTES >> 20} MiB",
            "name what the job does not need in .rayignore",
        )
    return archive


def archive_of(files: Iterable[FolderFile]) -> tuple[bytes, str]:
    """Return an archive of files, and the digest of what it holds. The archive is the same for the same files.

    Nothing in it is compressed, as in Ray's own: compressed bytes depend on the version of a library. Each file is read
    once.
    """
    buffer = BytesIO()
    with ZipFile(buffer, "w", ZIP_STORED) as archive:
        content = digest_of(_added(files, archive))
    return buffer.getvalue(), content


def _added(files: Iterable[FolderFile], archive: ZipFile) -> Iterator[FolderFile]:
    for one in files:
        content = b"".join(one.pieces())
        entry = ZipInfo(one.path, _EPOCH)
        entry.create_system = _UNIX
        # A head gives a file these permissions (packaging.py, unzip_package).
        entry.external_attr = (stat.S_IFREG | (0o755 if one.is_executable else 0o644)) << 16
        archive.writestr(entry, content)
        yield one._replace(pieces=partial(iter, (content,)))
