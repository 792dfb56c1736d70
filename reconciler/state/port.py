"""The ports to the place where a state lives: the store, its plugin, and the remote that a store can be made of.

A plugin opens the `Store` at a URL. A store whose files are on a disk of this machine is one by itself. For any other
place, an author writes a `Remote`, and `reconciler.state.leased_store.LeasedStore` makes a store of it. A remote
offers a compare-and-swap of small writes. Everything else is done for it: waiting for a turn, taking over, publishing
in the background, and noticing a state that was rolled back.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from reconciler.host.clocks import Clocks
from reconciler.model.errors import StateError
from reconciler.model.history import Origin
from reconciler.model.jobs import State, Target
from reconciler.state.history import StoredHistory
from reconciler.state.session import Session

__all__ = [
    "Advice",
    "Append",
    "Content",
    "Denied",
    "Fold",
    "Hold",
    "Leave",
    "Moved",
    "NoRevisions",
    "NotFenced",
    "Note",
    "Pace",
    "Page",
    "Remote",
    "Snapshot",
    "StateError",
    "StatePlugin",
    "Store",
    "Surroundings",
    "Unreachable",
    "Write",
]

# --- the store, as every command sees it -----------------------------------------------------------------------------


class NoRevisions(StateError):
    """The place of the state keeps no older revisions."""


class Store(Protocol):
    """One state, kept in one place.

    A store promises four things. `read`, `read_history` and `at` write nothing. While a session is open, no other
    session on the same state is open, in this program or in any other. When a method of a session has returned, the
    change is durable: neither a kill nor a loss of power undoes it. The history has each change of a session exactly
    once, by the time the session is left or, after a crash, by the time the next session was opened.

    `read`, `open` and `put` raise `StateError` for a state that is damaged, is for another target, or is older than a
    state that this machine knows.
    """

    @property
    def where(self) -> str:
        """The place in words, for messages."""

    def read(self, target: Target) -> State | None:
        """What is recorded, including the journal of a command that was killed; None if nothing was ever applied."""

    def open(self, target: Target, what: str, timeout_s: float) -> AbstractContextManager[Session]:
        """Lock the state for the command `what` and load it. On leaving, the state is written and unlocked.

        Raises `LockTaken` if another command holds the lock for longer than `timeout_s`. On leaving, raises
        `JournalBroken` if the state could not be written.
        """

    def read_history(self) -> StoredHistory:
        """The history. It can be read even if the state is refused."""

    def at(self, revision: str) -> StoredHistory:
        """The history and the state as they were at a revision. Without a state then, `state` is None.

        The store says what a revision is, such as a commit. Raises `NoRevisions` if the place keeps none, and
        `ReconcilerError` if there is no such revision.
        """

    def put(self, state: State, target: Target, timeout_s: float) -> bool:
        """Record a whole state in place of an older one. False means that this state is recorded already.

        Raises `Refused` if the state is not newer than the recorded one, is of another lineage, or lacks a call that
        is in doubt in the recorded one. Raises `LockTaken` as `open` does.
        """

    def accept(self, target: Target, timeout_s: float, *, has_moved: bool = False) -> tuple[State, list[str]]:
        """Accept the state as it is, whether somebody edited it, merged it, or rolled it back.

        A state of another target is accepted only if the service `has_moved` to this target. Returns the state, and a
        remark on each thing that was accepted; there are no remarks if the state was sound. Raises `StateError` if it
        is not a state at all, or is for another target. Raises `LockTaken` as `open` does.
        """


class Surroundings(NamedTuple):
    """What a store may take from outside.

    `env` are the environment variables. A relative path in a URL is relative to `folder`, and `checkout` is the folder
    of the manifest, whose git configuration counts. `marks_folder` is for locks and marks of this machine, and must
    outlive `cache_folder`, which is for files that can be made again; each is "" for a user without such a folder.
    `user` names the person, the machine and the program. `person` returns the name of the person or the CI run.
    `now` returns the time as RFC 3339 text for people to read, and `new_id` a fresh id. `wait` pauses for seconds, and
    returns True if a stop was asked for. `tell` is called with each sentence for the person who waits. `clocks`
    measure ages. `origin` says for the history who runs a command; without it, that is `user`.
    """

    env: Mapping[str, str]
    folder: str
    checkout: str
    marks_folder: str
    cache_folder: str
    user: str
    person: Callable[[], str]
    now: Callable[[], str]
    new_id: Callable[[], str]
    wait: Callable[[float], bool]
    tell: Callable[[str], None]
    clocks: Clocks = Clocks()
    origin: Callable[[str], Origin] | None = None


class StatePlugin(Protocol):
    """A kind of place for a state. `reconciler.state.registry` finds the plugin of a URL."""

    @property
    def prefix(self) -> str:
        """The beginning of each URL of this kind, such as `s3://`."""

    def fault_of(self, url: str) -> tuple[str, str] | None:
        """(fault, advice) for a URL with this prefix, None if the URL is valid. The texts show no password."""

    def full_url(self, url: str) -> str:
        """The URL with all of its defaults and without credentials. It tells one state from another."""

    def open(self, url: str, surroundings: Surroundings) -> Store:
        """The store at a valid URL. Writes nothing yet. Raises `ReconcilerError` if the URL leads nowhere."""


# --- the remote, of which a store can be made ------------------------------------------------------------------------


class Unreachable(StateError):
    """The remote does not exist, refuses access, or did not answer in time. A write may or may not have arrived."""


class Denied(Unreachable):
    """The remote refused a write by a rule, so the same write would be refused again."""


class NotFenced(StateError):
    """The place ignores the condition of a compare-and-swap, so two commands could write over each other."""


class Moved(Exception):
    """The remote is not at the version that a write was to follow, because someone else wrote."""


class Append(NamedTuple):
    """The journal has grown: keep its first `keep_bytes` bytes, and put `content` after them.

    `keep_bytes` is 0 if there was no journal. Otherwise it may be less than the length of the journal by one byte,
    which marks the end of the journal. A remote that keeps each append by itself keeps both values.
    """

    holder: bytes
    keep_bytes: int
    content: bytes


class Fold(NamedTuple):
    """The journal is folded into the state, or is another one. None as `holder` gives the lease up.

    `state` is the whole new state, None if the state stays as it is. `journal` is the whole new journal, None if there
    is none from now on. `history` is appended to the history: whole lines, b"" for none.
    """

    holder: bytes | None
    state: bytes | None
    journal: bytes | None
    history: bytes


class Hold(NamedTuple):
    """Nothing changes but the lease."""

    holder: bytes


class Leave(NamedTuple):
    """Nothing changes but that the lease is given up."""


Write = Append | Fold | Hold | Leave


class Content(NamedTuple):
    """What a remote holds of one state. None stands for what is not there.

    `holder` is the content of the lease: it names the command that holds the state, and no two publishes have the same.
    `history_bytes` is the length of the whole history.
    """

    state: bytes | None = None
    journal: bytes | None = None
    holder: bytes | None = None
    history_bytes: int = 0

    def after(self, write: Write) -> "Content":
        """The content after a write."""
        match write:
            case Append(holder, keep_bytes, content):
                return self._replace(holder=holder, journal=(self.journal or b"")[:keep_bytes] + content)
            case Fold(holder, state, journal, history):
                length_bytes = self.history_bytes + len(history)
                return Content(self.state if state is None else state, journal, holder, length_bytes)
            case Hold(holder):
                return self._replace(holder=holder)
            case Leave():
                return self._replace(holder=None)


class Snapshot(NamedTuple):
    """What a remote holds at one version. A version is a text without line ends that never comes twice."""

    version: str
    content: Content


class Page(NamedTuple):
    """Some lines of a history, oldest first. `after` leads to the next page; None if there is none."""

    content: bytes
    after: str | None


class Note(NamedTuple):
    """The command that publishes, for people to read: its user, its name, and the time when it began."""

    who: str
    what: str
    since: str


class Pace(NamedTuple):
    """How often to publish.

    One publish holds up to `intents_ahead` intents, and so many actions are under way at once. No intent waits for
    longer than `gather_s` for others that go with it. A remote on which each write stays for ever may set
    `beats_while_idle` to False: then a command that has nothing under way does not renew its lease, and may be taken
    over; its next publish is refused then.
    """

    intents_ahead: int = 256
    gather_s: float = 5.0
    beats_while_idle: bool = True


class Advice(NamedTuple):
    """Words for errors: what a version is called here, and what a person can do.

    `damaged` and `rolled_back` are clauses: how to bring a sound state back, and how to bring the newer one back.
    """

    version: str = "version"
    damaged: str = "bring a sound version back"
    rolled_back: str = "bring the newer version back"


class Remote(Protocol):
    """A place that holds one state, with a compare-and-swap. Only one thread at a time uses an object.

    A command fetches before it publishes, so an object knows the base of a write from a `fetch` or from an earlier
    `publish` of its own. Every method but `follows` raises `Unreachable` if the remote can't be reached, and
    `StateError` or `Refused` if what is there can't be a state. Nothing is retried here.
    """

    @property
    def where(self) -> str:
        """The place in words, without credentials. It tells this state from all others."""

    @property
    def pace(self) -> Pace:
        """How often to publish."""

    @property
    def advice(self) -> Advice:
        """Words for errors."""

    def version(self) -> str | None:
        """The latest version, None if there is none. This is asked while a command waits, and should be cheap."""

    def fetch(self) -> Snapshot | None:
        """The latest version with its content, None if there is none. State, journal and holder are of one moment."""

    def publish(self, base: str | None, write: Write, note: Note) -> str:
        """Carry out one write, whole or not at all, if `base` is still the latest version. Returns the new version.

        The write is durable when this returns. If an answer is lost, the remote is read to find out whether the write
        arrived. Raises `Moved` if the latest version is another one, `Denied` if a rule forbids the write, and
        `Unreachable` if it is not known whether the write arrived.
        """

    def follows(self, version: str) -> bool:
        """Whether the version that was fetched last is that one, or came after it."""

    def author_of(self, version: str) -> str:
        """Who wrote the version that was fetched last, in words; "" if nobody knows."""

    def past(self, version: str, after: str | None, limit: int) -> Page:
        """Up to `limit` lines of the history as it was at a version that was fetched or looked up.

        `after` is that of the page before, None for the first page.
        """

    def at(self, revision: str) -> Snapshot:
        """The content at a revision that a person names. Raises `NoRevisions`, or `StateError` if there is no such."""

    def probe(self) -> None:
        """Make sure that the place honours the conditions of a compare-and-swap. Raises `NotFenced`.

        This is called once, before the first write to an empty place.
        """
