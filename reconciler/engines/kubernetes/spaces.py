"""The namespace of the jobs, and whether it is there.

A list of the Jobs of a namespace that is not there is empty, as one of a namespace without Jobs is. So a name with a
typo would look like a namespace in which no job has run.
"""

from threading import Lock

from reconciler.engines.kubernetes.api import Api, segment
from reconciler.engines.kubernetes.fields import document, uid
from reconciler.engines.port import EngineError


class Space:
    """The namespace of the jobs. Several threads may call any method at the same time."""

    def __init__(self, api: Api, name: str) -> None:
        self._api = api
        self.name = name
        self._lock = Lock()
        self._was_there = False

    def uid_of(self, namespace: str) -> str:
        """Return the uid of a namespace; "" if it can't be read."""
        return self._read(namespace)[1]

    def own_uid(self) -> str:
        """Return the uid of the own namespace; "" if it can't be read. Raises `EngineError` if it is not there."""
        status, found = self._read(self.name)
        if status == 404:
            raise EngineError(
                f"the namespace {self.name} is not there",
                "name the one that is meant, as target.namespace or in the context; or have it made",
            )
        return found

    def refuse_if_gone(self) -> None:
        """Raise `EngineError` if the own namespace is not there. It is asked for once.

        Without the right to read it, nothing is known, and nothing is refused.
        """
        with self._lock:
            if not self._was_there:
                self.own_uid()
                self._was_there = True

    def _read(self, namespace: str) -> tuple[int | None, str]:
        reply = self._api.read(f"/api/v1/namespaces/{segment(namespace)}")
        return reply.status, uid(document(reply)) if reply.status == 200 else ""
