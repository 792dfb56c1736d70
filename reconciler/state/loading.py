"""Reading a state file with the journal beside it, and what `state accept` takes of damaged ones."""

from collections.abc import Iterator
from contextlib import contextmanager

from reconciler.host.disk import Disk
from reconciler.model.commands import command
from reconciler.model.errors import StateError
from reconciler.model.jobs import State, Target
from reconciler.state import codec, history
from reconciler.state.journal import Entry, Journal, JournalDamaged, decode, journal_path
from reconciler.state.replay import (
    NO_FILE,
    STARTED_FROM,
    LoadedState,
    checkpoint_entry,
    header_of,
    held_count,
    lacking,
    match_journal,
    merged,
    replayed,
    started_from,
)


def load(disk: Disk, path: str, target: Target | None) -> LoadedState | None:
    """Read state file and journal, None where there is neither. Writes nothing.

    Raises `StateError` where they are damaged, do not belong together, or are for another target;
    without a `target` any will do.
    """
    stamp = disk.stamp(path)
    content = disk.read(path)
    base = None if content is None else codec.decode(content, path)
    digest = "" if content is None else codec.stated_digest(content)
    journal = disk.read(journal_path(path))
    entries = None
    folded: list[Entry] = []
    with only_known_shapes(path):
        if journal is not None:
            base, folded, entries = match_journal(base, digest, decode(journal, journal_path(path)), path)
        if base is None:
            return None
        if target is not None:
            refuse_other_target(base.target, target, path)
        loaded = replayed(base, digest, entries)
        if entries:
            codec.refuse_ambiguous(loaded.state.jobs, f"{path}, with the journal beside it,")
        before = history.stamped(history.history_lines(folded, ended=False), base.lineage, base.serial)
        return loaded._replace(unwritten=(*before, *loaded.unwritten), stamp=stamp)


def salvage(
    disk: Disk, path: str, target: Target, lineage: str, *, has_moved: bool = False
) -> tuple[LoadedState, list[str]]:
    """What is on disk as `state accept` takes it: what can be read, whatever the digests say, and remarks on it.

    The journal's records are replayed over the file, except those that the journal says the file holds. Where the
    journal started from another file, the two are merged as in `merged`. Raises `StateError` where the file is no
    state at all, and `OtherTarget` where it is for another target, unless the service `has_moved`.
    """
    remarks: list[str] = []
    content = disk.read(path)
    empty = State(lineage, 0, target, {})
    base = _salvaged_state(content, path, empty, remarks)
    entries = _salvaged_entries(disk.read(journal_path(path)), path, remarks)
    with only_known_shapes(path):
        starts_elsewhere = False
        if entries and content is None:
            base = _state_before(entries[0], empty)
        elif entries and content is not None:
            digest = codec.stated_digest(content)
            starts_elsewhere = started_from(entries[0]) != digest and not held_count(entries, digest)
            entries = lacking(entries, digest)
        if base.target != target:
            if not has_moved:
                refuse_other_target(base.target, target, path)
            remarks.append(f"it was for {base.target}, and is taken for {target}")
        base = base._replace(target=target)
        if entries is not None:
            remarks.append(f"replayed {len(entries)} journal records")
        if entries and starts_elsewhere:
            return merged(base, entries, remarks), remarks
        return replayed(base, "", entries), remarks


def _salvaged_state(content: bytes | None, path: str, empty: State, remarks: list[str]) -> State:
    """The state in a file whose digest may be wrong, or `empty` where there is no file; `remarks` get what is wrong."""
    if content is None:
        remarks.append(f"{path} is not there: starting from an empty state")
        return empty
    state = codec.decode_unchecked(content, path)
    try:
        codec.decode(content, path)
    except StateError as fault:
        remarks.append(fault.message)
    return state


def _salvaged_entries(content: bytes | None, path: str, remarks: list[str]) -> list[Entry] | None:
    """The readable records of a journal, None where there is no journal; `remarks` get what is wrong."""
    if content is None:
        return None
    try:
        return decode(content, journal_path(path))
    except JournalDamaged as fault:
        remarks.append(fault.message)
        return fault.readable


def _state_before(header: Entry, empty: State) -> State:
    """The empty state that a journal with this header starts from; `empty` fills in what the header lacks."""
    engine, endpoint = (codec.text_from_json(header.get(name, "")) for name in ("engine", "endpoint"))
    return empty._replace(
        lineage=codec.text_from_json(header.get("lineage", empty.lineage)),
        target=Target(engine, endpoint) if engine else empty.target,
    )


def mark_held(disk: Disk, path: str, state: State, digest: str, *, was_sound: bool) -> None:
    """Have the journal that is there, if any, say that the state of this digest holds it, as a fold does.

    Whoever puts that state in place is then free to be killed before the journal is removed: nothing of it is
    replayed over the state. Where file and journal were not sound they stay so until then; of a damaged journal
    what could be read is kept. Raises `OSError`.
    """
    content = disk.read(journal_path(path))
    if content is None:
        return
    try:
        header, *rest = decode(content, journal_path(path))
    except JournalDamaged as fault:
        header = next((entry for entry in fault.readable if entry.get("type") == "header"), {})
        rest = [entry for entry in fault.readable if entry.get("type") != "header"]
    started = header if was_sound else {**header_of(state, NO_FILE), STARTED_FROM: started_from(header)}
    Journal(
        disk, journal_path(path), disk.mode(path) or 0o600, [started, *rest, checkpoint_entry(state.serial, digest)]
    ).close()


@contextmanager
def only_known_shapes(path: str) -> Iterator[None]:
    """Turn what a record of another shape than ours makes the block raise into a `StateError`."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        raise StateError(
            f"{journal_path(path)} holds a record that this reconciler can't read: "
            f"{type(fault).__name__}: {str(fault)[:200]}",
            "finish its apply with the version of reconciler that began it; or move it away, knowing that a call "
            "may be missing, check the jobs by hand, and: `reconciler state accept`",
        ) from fault


class OtherTarget(StateError):
    """A state is for another target than the manifest: nothing of the one may be done to the other."""


def refuse_other_target(recorded: Target, target: Target, path: str) -> None:
    """Raise `OtherTarget` where a state is for another target than the manifest.

    What it says leads to a state of its own for a rehearsal. It names no command that binds this state to another
    target: that takes the address of the target, from the hand of a person.
    """
    if recorded != target:
        raise OtherTarget(
            f"{path} is for {recorded}, and the manifest for {target}",
            "for a rehearsal, or another environment, give it a state of its own: add --state rehearsal.state.json; "
            f"if the service itself moved for good, see {command('state accept', options=['--help'])}",
        )
