"""The contract of a `Remote`, of which `LeasedStore` makes a home of state.

    class TestMyRemote(RemoteContract):
        @pytest.fixture
        def connect(self, tmp_path):
            return lambda: MyRemote(tmp_path / "place")

Each call of `connect` returns a remote for the same place, as another machine has it. What this suite finds, it finds
faster than `StateContract`, and names it more precisely. A home needs both.
"""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from reconciler.model.errors import ReconcilerError
from reconciler.state.port import (
    Append,
    Content,
    Fold,
    Hold,
    Leave,
    Moved,
    NoRevisions,
    Note,
    NotFenced,
    Remote,
    Write,
)
from reconciler.testing.amount import Amount, amount_in

Connect = Callable[[], Remote]

NOTE = Note("ada@one", "apply", "2026-01-02T03:04:05Z")

ANY_BYTES = bytes(range(256))
"""All bytes, since a remote has to keep a state, a journal and a lease as they are."""

_RACERS = 8


def lease(number: int) -> bytes:
    """Return the content of a lease. No two publishes have the same."""
    return b'{"who": "ada", "beat": %d}\n' % number


def random_writes(seed: int, count: int) -> Iterator[Write]:
    """Yield writes of all kinds, as sessions make them one after the other."""
    draw = random.Random(seed)  # noqa: S311  a test has to be repeatable
    journal = b""
    for number in range(1, count + 1):
        match draw.choice(("append", "append", "append", "hold", "fold", "leave")):
            case "append":
                # The byte at the end of a journal marks its end, and goes with the next append.
                kept = max(0, len(journal) - draw.choice((0, 1)))
                added = b"record %d " % number + ANY_BYTES[: draw.randrange(257)] + b"\0"
                journal = journal[:kept] + added
                yield Append(lease(number), kept, added)
            case "hold":
                yield Hold(lease(number))
            case "leave":
                yield Leave()
            case _:
                journal = draw.choice((b"", b"journal %d\0" % number))
                lines = b"".join(b'{"op": "%d-%d"}\n' % (number, at) for at in range(draw.randrange(4)))
                holder = draw.choice((None, lease(number)))
                state = draw.choice((None, b"state %d" % number + ANY_BYTES))
                yield Fold(holder, state, journal or None, lines)


def opened(connect: Connect) -> Remote:
    """Return a remote that has fetched, as each command fetches before it publishes."""
    remote = connect()
    remote.fetch()
    return remote


def begin(remote: Remote) -> str:
    """Publish a first version with a state, a journal, a lease and two lines of history. Return the version."""
    return remote.publish(None, Fold(lease(0), b"first", b"journal\0", b"{}\n{}\n"), NOTE)


def content_of(remote: Remote) -> Content:
    """Return what a remote holds; an empty content if there is no version."""
    snapshot = remote.fetch()
    return Content() if snapshot is None else snapshot.content


def differing(found: Content, expected: Content) -> list[str]:
    """Return the names of the fields that differ.

    A test that compares large contents compares these names. Where the variable `CI` is set, pytest explains a failed
    comparison in full, and needs minutes for a megabyte.
    """
    pairs = zip(Content._fields, found, expected, strict=True)
    return [field for field, one, other in pairs if one != other]


def history_of(remote: Remote, version: str, limit: int) -> bytes:
    """Return the history at a version, read in pages of this many lines."""
    pages, after = [], None
    while True:
        page = remote.past(version, after, limit)
        pages.append(page.content)
        if page.after is None:
            return b"".join(pages)
        assert page.content.count(b"\n") <= limit, "a page has more lines than were asked for"
        assert page.after != after, "a page leads to itself"
        after = page.after


WRITES: dict[str, Write] = {
    "append": Append(lease(1), 7, b"more\0"),
    "fold": Fold(lease(1), b"second", None, b"{}\n"),
    "hold": Hold(lease(1)),
    "leave": Leave(),
}


class RemoteContract:
    """The whole contract of a remote. An author has to provide the fixture `connect`."""

    @pytest.fixture
    def connect(self) -> Connect:
        """A function that returns a remote for one empty place, a new object each time."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `connect` that returns a function")

    @pytest.fixture
    def connect_unfenced(self) -> Connect | None:
        """The same for a place that ignores conditions, as some copies of a service do; None if there is no such."""
        return None

    @pytest.fixture
    def amount(self) -> Amount:
        """How much of the suite runs; see `reconciler.testing.amount`."""
        return amount_in()

    def revision(self, remote: Remote) -> str:
        """Return the name of the latest revision of the place; "" if it keeps no revisions."""
        return ""

    # --- one after the other -------------------------------------------------------------------------------------

    def test_an_empty_place_has_no_version(self, connect: Connect) -> None:
        remote = connect()
        assert remote.version() is None
        assert remote.fetch() is None

    def test_the_place_has_a_name_of_one_line_that_stays(self, connect: Connect) -> None:
        assert connect().where == connect().where
        assert connect().where
        assert "\n" not in connect().where

    def test_each_write_leads_to_the_content_that_the_port_says(self, connect: Connect, amount: Amount) -> None:
        remote, reader = opened(connect), connect()
        expected, base, lines, versions = Content(), None, b"", set()
        for write in random_writes(1, amount.writes):
            base = remote.publish(base, write, NOTE)
            assert base not in versions, "a version came twice"
            versions.add(base)
            expected = expected.after(write)
            lines += write.history if isinstance(write, Fold) else b""
            assert reader.version() == base
            snapshot = reader.fetch()
            assert snapshot is not None
            assert snapshot.version == base
            assert differing(snapshot.content, expected) == [], f"after {write}"
        assert base is not None
        assert "\n" not in base
        assert history_of(reader, base, 3) == lines

    def test_content_may_be_large(self, connect: Connect) -> None:
        state, journal = ANY_BYTES * 8192, ANY_BYTES * 4096
        version = opened(connect).publish(None, Fold(lease(1), state, journal, b"{}\n" * 5000), NOTE)
        opened(connect).publish(version, Append(lease(2), len(journal), journal), NOTE)
        assert differing(content_of(connect()), Content(state, journal + journal, lease(2), 15_000)) == []

    # --- compare and swap ----------------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", list(WRITES))
    def test_a_write_that_follows_an_older_version_is_refused(self, connect: Connect, kind: str) -> None:
        remote = opened(connect)
        old = begin(remote)
        late = opened(connect)
        remote.publish(old, Hold(lease(7)), NOTE)
        _is_refused(connect, late, old, WRITES[kind])

    @pytest.mark.parametrize("kind", ["append", "fold", "hold"])
    def test_a_write_that_begins_a_place_is_refused_where_there_is_one(self, connect: Connect, kind: str) -> None:
        late = opened(connect)
        begin(opened(connect))
        _is_refused(connect, late, None, WRITES[kind])

    def test_a_write_is_refused_even_if_the_content_is_as_it_was(self, connect: Connect) -> None:
        """Nothing but the version counts: a content may come back, and others acted on it meanwhile."""
        remote = opened(connect)
        old = remote.publish(None, Fold(None, b"state", None, b""), NOTE)
        late = opened(connect)
        held = remote.publish(old, Hold(lease(1)), NOTE)
        remote.publish(held, Leave(), NOTE)
        _is_refused(connect, late, old, Hold(lease(2)))

    def test_of_writes_that_follow_one_version_one_arrives(self, connect: Connect, amount: Amount) -> None:
        base: str | None = None
        for number in range(1, 3 + 4 * amount.races):
            barrier = Barrier(_RACERS)

            def race(racer: int, base: str | None = base, number: int = number, barrier: Barrier = barrier) -> str:
                remote, content = opened(connect), b"state of %d in round %d" % (racer, number)
                barrier.wait()
                try:
                    return remote.publish(base, Fold(lease(racer), content, None, b"{}\n"), NOTE)
                except Moved:
                    return ""

            with ThreadPoolExecutor(_RACERS) as pool:
                versions = list(pool.map(race, range(_RACERS)))
            winners = [racer for racer, version in enumerate(versions) if version]
            assert len(winners) == 1, f"{len(winners)} of {_RACERS} writes arrived on top of one version"
            snapshot = connect().fetch()
            assert snapshot is not None
            assert snapshot.version == versions[winners[0]]
            assert snapshot.content.state == b"state of %d in round %d" % (winners[0], number)
            assert snapshot.content.history_bytes == 3 * number
            base = snapshot.version

    def test_a_sound_place_passes_the_probe_which_leaves_nothing_behind(self, connect: Connect) -> None:
        remote = connect()
        remote.probe()
        assert remote.fetch() is None

    def test_a_place_that_ignores_conditions_is_refused(self, connect_unfenced: Connect | None) -> None:
        if connect_unfenced is None:
            pytest.skip("the author knows no place of this kind that ignores conditions")
        with pytest.raises(NotFenced):
            connect_unfenced().probe()

    # --- what came before ----------------------------------------------------------------------------------------

    def test_a_version_follows_itself_and_those_before_it(self, connect: Connect) -> None:
        remote = opened(connect)
        versions = [begin(remote)]
        for number in range(1, 4):
            versions.append(remote.publish(versions[-1], Hold(lease(number)), NOTE))
        reader = opened(connect)
        assert all(reader.follows(version) for version in versions)
        unknown = versions[0][:-1] + ("0" if versions[0][-1] != "0" else "1")
        assert not reader.follows(unknown)

    def test_the_author_of_a_version_is_who_published_it(self, connect: Connect) -> None:
        version = begin(opened(connect))
        reader = opened(connect)
        assert reader.author_of(version) == "" or "ada" in reader.author_of(version)

    @pytest.mark.parametrize("limit", [1, 3, 10_000])
    def test_the_history_is_read_in_pages_as_it_was_at_a_version(self, connect: Connect, limit: int) -> None:
        remote = opened(connect)
        base, lines, known = None, b"", {}
        for number in range(1, 6):
            more = b"".join(b'{"op": "%d-%d"}\n' % (number, at) for at in range(number))
            base = remote.publish(base, Fold(lease(number), b"state", None, more), NOTE)
            lines += more
            known[base] = lines
        assert base is not None
        reader = opened(connect)
        assert history_of(reader, base, limit) == lines
        # What a command fetched stays readable while others write.
        remote.publish(base, Fold(None, b"later", None, b"{}\n"), NOTE)
        assert history_of(reader, base, limit) == lines

    def test_a_revision_shows_the_content_as_it_was(self, connect: Connect) -> None:
        remote = opened(connect)
        version = begin(remote)
        before, named = content_of(connect()), self.revision(connect())
        remote.publish(version, Fold(None, b"later", None, b"{}\n"), NOTE)
        if not named:
            with pytest.raises(NoRevisions):
                connect().at("1")
            return
        reader = opened(connect)
        snapshot = reader.at(named)
        assert snapshot.content == before
        assert history_of(reader, snapshot.version, 10) == b"{}\n{}\n"
        with pytest.raises(ReconcilerError):
            reader.at("no-such-revision")


def _is_refused(connect: Connect, late: Remote, base: str | None, write: Write) -> None:
    before = connect().fetch()
    with pytest.raises(Moved):
        late.publish(base, write, NOTE)
    assert connect().fetch() == before, "a write that was refused has changed the place"
