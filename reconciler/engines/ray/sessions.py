"""The sessions of a head: which one it has now, and whether the state was ever used with another one.

A head that is restarted forgets all jobs, and has a session of another name. So a run that the head does not know may
have been executed under an earlier head. Three rules follow from that:

- A call has the session in which it was staged as its handle, which the intent keeps. A run is sent to that session
  alone. A run in doubt is never sent to another head than the one that may have executed it.
- The identity of a service has the session of the first call. In another session it has `restarts` instead, so that the
  state keeps both. The jobs then have the rows of the table for what an engine has forgotten: a run whose end is
  recorded is forgotten, and any other one is taken away.
- Once there was more than one session, the head's word that it does not know a run id proves nothing about a call for
  that run id. Whether such a call can be sent again is for the first rule to say.
"""

from collections.abc import Mapping
from threading import Lock

from reconciler.engines.port import EngineError
from reconciler.engines.ray.head import Head

_SESSION, _RESTARTS = "session", "restarts"


class Sessions:
    """The sessions of one head, as one command sees them. Several threads may call any method at the same time.

    Each property and method raises the errors of `Engine.observe` the first time.
    """

    def __init__(self, head: Head, known: Mapping[str, str], *, is_replaced: bool = False) -> None:
        """`known` is the recorded identity, and `is_replaced` is as in `Surroundings`."""
        self._head = head
        self._known = known
        self._is_replaced = is_replaced
        self._lock = Lock()
        self._name = ""

    @property
    def name(self) -> str:
        """The session that the head had when this command has first asked for it."""
        with self._lock:
            self._name = self._name or self._head.session()
            return self._name

    @property
    def identity(self) -> Mapping[str, str]:
        """The named parts that tell this service from another one, as far as they are to be recorded."""
        is_first = self._known.get(_SESSION, self.name) == self.name
        parts = {_SESSION: self.name} if is_first or self._is_replaced else {}
        return {**parts, _RESTARTS: "yes"} if self.were_several else parts

    @property
    def were_several(self) -> bool:
        """Whether the state was used with another session than this one, or is used with another one from now on."""
        return _RESTARTS in self._known or self._known.get(_SESSION, self.name) != self.name

    @property
    def recorded(self) -> str:
        """The recorded session if it is another one than that of the head; "" if not, or if that was not asked for."""
        recorded = "" if self._is_replaced or not self._name else self._known.get(_SESSION, "")
        return recorded if recorded != self._name else ""

    def refuse_other(self) -> None:
        """Raise `EngineError` if the head has another session by now than when this command began."""
        began, found = self.name, self._head.session()
        if found != began:
            raise EngineError(
                f"{self._head.address} was restarted while this command was at work: its session was {began}, "
                f"and is {found}",
                "apply again",
            )
