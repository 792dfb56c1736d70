"""The engine `slurm`."""

from reconciler.engines.port import EngineError, Surroundings
from reconciler.engines.slurm.settings import Settings


class SlurmEngine:
    """Runs jobs on a Slurm cluster. See `Engine`."""

    def __init__(self, settings: Settings, surroundings: Surroundings) -> None:
        raise EngineError("the engine slurm can't be opened yet", "")

    def close(self) -> None:
        """Close the connection."""
