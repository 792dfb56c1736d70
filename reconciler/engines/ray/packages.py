"""The package that the folder of a config is uploaded as: a zip archive that depends on the files alone.

The name of a package holds the digest of its files, as with Ray's own client. So a package that the head has need not
be uploaded again, and need not be packed either.
"""

from collections.abc import Mapping
from typing import Any

from reconciler.engines.port import EngineError
from reconciler.engines.ray.settings import Settings

LIMIT_BYTES = (1 << 29) - 1
"""The longest package that a head takes (GRPC_CPP_MAX_MESSAGE_SIZE)."""


def package_of(config: Mapping[str, Any]) -> str:
    """Return the URI of the package of a config, such as "gcs://_ray_pkg_0123….zip"; "" if it has no folder."""
    folder = config.get("working_dir")
    return f"gcs://_ray_pkg_{folder['content']}.zip" if isinstance(folder, Mapping) else ""


def packed(config: Mapping[str, Any], settings: Settings) -> bytes:
    """Return the archive of the folder of a config.

    Raises `EngineError` if the folder can't be read or is too large, and if it holds other files than when the config
    was read.
    """
    raise EngineError("no folder can be packed yet")
