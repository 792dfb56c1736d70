"""`reconciler schema`: the schema of manifests for one engine."""

from reconciler.model.errors import UnknownEngine, Usage
from reconciler.usecases.engines import plugin_named


def manifest_schema(engine: str) -> str:
    """The schema of a file of a manifest for one engine, as the text of a file.

    Raises `Usage` for an engine that is not installed, and `EngineError` for one that can't be used.
    """
    from reconciler.manifest.engine_schemas import narrow, text_of

    try:
        return text_of(narrow(plugin_named(engine)))
    except UnknownEngine as fault:
        raise Usage(f"--engine: {fault.message}", fault.hint) from fault
