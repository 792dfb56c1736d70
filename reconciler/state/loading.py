"""Reading a state file with its journal, and salvaging damaged ones for `state accept`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from reconciler.host.disk import Disk
from reconciler.model.commands import command
from reconciler.model.errors import StateError
from reconciler.model.jobs import Record, State, Target, title
from reconciler.model.json_values import canonical, compact
from reconciler.state import codec, history, json_types
from reconciler.state.journal import Entry, Journal, JournalDamaged, decode
from reconciler.state.merging import merged
from reconciler.state.paths import paths_of
from reconciler.state.replay import (
    NO_FILE,
    STARTED_FROM,
    LoadedState,
    checkpoint_entry,
    header_of,
    held_count,
    lacking,
    match_journal,
    replayed,
    started_from,
)


def load(disk: Disk, path: str, target: Target | None) -> LoadedState | None:
    """Read the state file at `path` and its journal. Returns None where neither is there. Writes nothing.

    Raises `StateError` where either is damaged, where they do not belong together, or where they are for another
    target. Without a `target`, every target is accepted.
    """
    stamp = disk.stamp(path)
    content = disk.read(path)
    base = None if content is None else codec.decode(content, path)
    digest = "" if content is None else codec.stated_digest(content)
    journal = disk.read(paths_of(path).journal)
    entries = None
    folded: list[Entry] = []
    with only_known_shapes(path):
        if journal is not None:
            base, folded, entries = match_journal(base, digest, decode(journal, paths_of(path).journal), path)
        if base is None:
            return None
        if target is not None:
            refuse_other_target(base.target, target, path)
        loaded = replayed(base, digest, entries)
        if entries:
            codec.refuse_ambiguous(loaded.state.jobs, f"{path}, with the journal beside it,")
        before = history.stamped(history.history_lines(folded, ended=False), base)
        return loaded._replace(unwritten=(*before, *loaded.unwritten), held=len(before), stamp=stamp)


def salvage(disk: Disk, path: str, empty: State, *, has_moved: bool = False) -> tuple[LoadedState, list[str]]:
    """Read whatever can be read of a state file and its journal. Returns the state, and remarks on what is wrong.

    Digests are not checked. Entries of the journal are replayed over the file, except those that the file holds. A
    journal that started from another file is merged (`merging.merged`). `empty` is a new state of the target, for the
    case that no file is there. Raises `StateError` where the file is not a state, and `OtherTarget` where the state is
    for another target and `has_moved` is False.
    """
    remarks: list[str] = []
    content = disk.read(path)
    target = empty.target
    base = _salvaged_state(content, path, empty, remarks)
    entries = _salvaged_entries(disk.read(paths_of(path).journal), path, remarks)
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
    """The state in a file whose digest may be wrong, `empty` where there is no file. Faults go to `remarks`."""
    if content is None:
        remarks.append(f"{path} is not there: starting from an empty state")
        return empty
    state = codec.decode_unchecked(content, path)
    for name, record in state.jobs.items():
        refuse_unreadable_configs(name, record, path)
    try:
        codec.decode(content, path)
    except StateError as fault:
        remarks.append(fault.message)
    return state


def _salvaged_entries(content: bytes | None, path: str, remarks: list[str]) -> list[Entry] | None:
    """The readable entries of a journal, None where there is no journal. Faults go to `remarks`."""
    if content is None:
        return None
    try:
        return decode(content, paths_of(path).journal)
    except JournalDamaged as fault:
        remarks.append(fault.message)
        return fault.readable


def _state_before(header: Entry, empty: State) -> State:
    """The empty state that a journal with this header starts from. `empty` fills in what the header lacks."""
    engine, endpoint = (json_types.text_from_json(header.get(name, "")) for name in ("engine", "endpoint"))
    return empty._replace(
        lineage=json_types.text_from_json(header.get("lineage", empty.lineage)),
        target=Target(engine, endpoint) if engine else empty.target,
        last=json_types.runs_from_json(header.get("last", empty.last)),
    )


def mark_held(disk: Disk, path: str, state: State, digest: str, *, was_sound: bool) -> None:
    """Add a checkpoint to the journal, if there is one, that says that the state of this digest holds its entries.

    The command may then be killed after it puts that state in place: no entry is replayed over the state. Until the
    state is in place, a file and a journal that did not fit together (`was_sound` is False) must not seem to fit. Of a
    damaged journal, the readable entries are kept. Raises `OSError`.
    """
    content = disk.read(paths_of(path).journal)
    if content is None:
        return
    try:
        header, *rest = decode(content, paths_of(path).journal)
    except JournalDamaged as fault:
        header = next((entry for entry in fault.readable if entry.get("type") == "header"), {})
        rest = [entry for entry in fault.readable if entry.get("type") != "header"]
    started = header if was_sound else {**header_of(state, NO_FILE), STARTED_FROM: started_from(header)}
    Journal(
        disk, paths_of(path).journal, disk.mode(path) or 0o600, [started, *rest, checkpoint_entry(state.serial, digest)]
    ).close()


@contextmanager
def only_known_shapes(path: str) -> Iterator[None]:
    """Turn the error for an entry of an unknown shape, raised in the block, into a `StateError`."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        raise StateError(
            f"{paths_of(path).journal} holds a record that this reconciler can't read: {json_types.words_of(fault)}",
            "finish its apply with the version of reconciler that began it; or move it away, knowing that a call "
            "may be missing, check the jobs by hand, and: `reconciler state accept`",
        ) from fault


class OtherTarget(StateError):
    """The state is for another target than the manifest, so no job of one may be touched for the other."""


def refuse_other_target(recorded: Target, target: Target, path: str) -> None:
    """Raise `OtherTarget` where the recorded target is not the manifest's target.

    The hint proposes a separate state, as for a rehearsal. It names no command that binds the state to the other
    target: a person must enter that target's address.
    """
    if recorded != target:
        raise OtherTarget(
            f"{path} is for {recorded}, and the manifest for {target}",
            "for a rehearsal, or another environment, where all jobs are to run as well, give it a state of its own: "
            "add --state rehearsal.state.json; if the service itself moved for good, see "
            f"{command('state accept', options=['--help'])}",
        )


def refuse_unreadable_configs(name: str, record: Record, where: str) -> None:
    """Raise `StateError` where a config that has run is not a text of `reruns.text_of`, so that no plan can read it."""
    for text in record.ran_configs:
        try:
            is_config = text.startswith("{") and compact(canonical(json.loads(text))) == text
        except (TypeError, ValueError, RecursionError):
            is_config = False
        if not is_config:
            raise StateError(
                f"{where} has {text[:80]!r} in `ranConfigs` of {title(name)}, which is no config as JSON on one line",
                f"restore that line: git log -p -- {where} shows it; then: `reconciler state accept`",
            )
