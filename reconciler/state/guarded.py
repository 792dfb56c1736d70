"""The homes of state of other packages, behind a guard.

What a plugin, its store or its remote raises becomes an error that names the package. `registry.plugin_of` puts each
plugin that does not come with the tool behind the guard.

A remote that fails has perhaps written, so that each of its failures counts as `Unreachable`.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NoReturn, TypeVar

from reconciler.host.packages import HINT, RAISED, Package
from reconciler.host.secrecy import Secrets
from reconciler.model.errors import PluginFailed, ReconcilerError
from reconciler.model.jobs import State, Target
from reconciler.state.history import StoredHistory
from reconciler.state.leased_store import LeasedStore
from reconciler.state.port import (
    Advice,
    Content,
    Moved,
    Note,
    Pace,
    Page,
    Snapshot,
    Store,
    Surroundings,
    Unreachable,
    Write,
)
from reconciler.state.session import Session

_Value = TypeVar("_Value")


class HomeFailed(PluginFailed, Unreachable):
    """A home of state of another package that raised, or returned, what the port does not permit."""


class _Guard:
    """Reads attributes and calls methods of `inner`."""

    def __init__(self, inner: Any, package: Package) -> None:
        self._inner = inner
        self._package = package

    def _call(self, kind: type[_Value] | tuple[type, ...], where: str, *arguments: Any) -> Any:
        """Return what a method returns, which is to be of a kind. Raises `ReconcilerError` and `Moved`."""
        return self._checked(kind, where, lambda: getattr(self._inner, where)(*arguments))

    def _read(self, kind: type[_Value], where: str) -> Any:
        """Return an attribute, which is to be of a kind."""
        return self._checked(kind, where, lambda: getattr(self._inner, where))

    def _checked(self, kind: type[_Value] | tuple[type, ...], where: str, value_of: Callable[[], Any]) -> Any:
        try:
            value = value_of()
        except RAISED as fault:
            self._refuse(fault, where)
        if isinstance(value, kind):
            return value
        raise HomeFailed(self._package.blamed(f"{where} returned a {type(value).__name__}"), HINT)

    def _refuse(self, fault: BaseException, where: str) -> NoReturn:
        if isinstance(fault, ReconcilerError | Moved):
            raise fault
        raise HomeFailed(self._package.failed(fault, where), HINT) from fault


class GuardedStatePlugin(_Guard):
    """A `StatePlugin` of another package."""

    def __init__(self, inner: Any, scheme: str, distribution: str) -> None:
        """`distribution` is the name and the version of the package, or ""."""
        super().__init__(inner, Package(f"the home of states at {scheme}://", distribution, Secrets()))

    @property
    def prefix(self) -> str:
        """See `StatePlugin.prefix`."""
        return str(self._read(str, "prefix"))

    def fault_of(self, url: str) -> tuple[str, str] | None:
        """See `StatePlugin.fault_of`."""
        found = self._call((tuple, type(None)), "fault_of", url)
        if found is None:
            return None
        if len(found) != 2 or not all(isinstance(text, str) for text in found):
            raise HomeFailed(self._package.blamed("fault_of returned a tuple of other values than two texts"), HINT)
        return found[0], found[1]

    def full_url(self, url: str) -> str:
        """See `StatePlugin.full_url`."""
        return str(self._call(str, "full_url", url))

    def open(self, url: str, surroundings: Surroundings) -> Store:
        """See `StatePlugin.open`."""
        store = self._call(object, "open", url, surroundings)
        if isinstance(store, LeasedStore):
            store.guard(lambda remote: GuardedRemote(remote, self._package))
            return store
        return GuardedStore(store, self._package)


class GuardedStore(_Guard):
    """A `Store` of another package that is not made of a remote."""

    @property
    def where(self) -> str:
        """See `Store.where`."""
        return str(self._read(str, "where"))

    def read(self, target: Target) -> State | None:
        """See `Store.read`."""
        found: State | None = self._call((State, type(None)), "read", target)
        return found

    @contextmanager
    def open(self, target: Target, what: str, timeout_s: float) -> Iterator[Session]:
        """See `Store.open`. An error of the command that uses the session stays as it is."""
        opening: AbstractContextManager[Session] = self._call(object, "open", target, what, timeout_s)
        session = self._checked(object, "open", opening.__enter__)
        try:
            yield session
        except BaseException as fault:
            with_fault = type(fault), fault, fault.__traceback__
            self._checked(object, "open", lambda: opening.__exit__(*with_fault))
            raise
        self._checked(object, "open", lambda: opening.__exit__(None, None, None))

    def read_history(self) -> StoredHistory:
        """See `Store.read_history`."""
        found: StoredHistory = self._call(StoredHistory, "read_history")
        return found

    def at(self, revision: str) -> StoredHistory:
        """See `Store.at`."""
        found: StoredHistory = self._call(StoredHistory, "at", revision)
        return found

    def put(self, state: State, target: Target, timeout_s: float) -> bool:
        """See `Store.put`."""
        return bool(self._call(bool, "put", state, target, timeout_s))

    def accept(self, target: Target, timeout_s: float, *, has_moved: bool = False) -> tuple[State, list[str]]:
        """See `Store.accept`."""
        accept = self._inner.accept
        found: tuple[State, list[str]] = self._checked(
            tuple, "accept", lambda: accept(target, timeout_s, has_moved=has_moved)
        )
        return found


class GuardedRemote(_Guard):
    """A `Remote` of another package."""

    @property
    def where(self) -> str:
        """See `Remote.where`."""
        return str(self._read(str, "where"))

    @property
    def pace(self) -> Pace:
        """See `Remote.pace`."""
        pace: Pace = self._read(Pace, "pace")
        return pace

    @property
    def advice(self) -> Advice:
        """See `Remote.advice`."""
        advice: Advice = self._read(Advice, "advice")
        return advice

    def version(self) -> str | None:
        """See `Remote.version`."""
        found: str | None = self._call((str, type(None)), "version")
        return found

    def fetch(self) -> Snapshot | None:
        """See `Remote.fetch`."""
        found = self._call((Snapshot, type(None)), "fetch")
        return None if found is None else self._snapshot(found, "fetch")

    def publish(self, base: str | None, write: Write, note: Note) -> str:
        """See `Remote.publish`."""
        return str(self._call(str, "publish", base, write, note))

    def follows(self, version: str) -> bool:
        """See `Remote.follows`."""
        return bool(self._call(bool, "follows", version))

    def author_of(self, version: str) -> str:
        """See `Remote.author_of`."""
        return str(self._call(str, "author_of", version))

    def past(self, version: str, after: str | None, limit: int) -> Page:
        """See `Remote.past`."""
        page = self._call(Page, "past", version, after, limit)
        if isinstance(page.content, bytes) and isinstance(page.after, str | None):
            return Page(*page)
        raise HomeFailed(self._package.blamed("past returned a page whose content is no bytes"), HINT)

    def at(self, revision: str) -> Snapshot:
        """See `Remote.at`."""
        return self._snapshot(self._call(Snapshot, "at", revision), "at")

    def probe(self) -> None:
        """See `Remote.probe`."""
        self._call(object, "probe")

    def _snapshot(self, found: Snapshot, where: str) -> Snapshot:
        content: Any = found.content
        texts: tuple[object, ...] = (found.version, *content[:3]) if isinstance(content, Content) else ()
        if texts and isinstance(texts[0], str) and all(isinstance(part, bytes | None) for part in texts[1:]):
            return found
        raise HomeFailed(self._package.blamed(f"{where} returned a snapshot of other values than the port's"), HINT)
