"""The parts of a manifest that can be read although some files have faults.

Commands that look back, such as `history` and `state`, need the target and the place of the state. These commands must
work during a merge conflict, and while a job of the manifest has a fault.
"""

import re
from array import array
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from reconciler.manifest.build import block_of, declared_state_in
from reconciler.manifest.document import Document
from reconciler.manifest.engine_schemas import choice_of
from reconciler.manifest.faults import fault_of_kind, faults_beside_yaml, is_sound
from reconciler.manifest.model import DeclaredState, EngineLookup, Head
from reconciler.manifest.parse import parse
from reconciler.manifest.yaml import read
from reconciler.model.errors import ManifestError

_Blocks = dict[str, tuple[Document, Any]]
"""Blocks at the top of a manifest by name: the file that holds the block, and the value of the block."""

_BLOCK_START = re.compile(r"(apiVersion|target|state|defaults|guards|jobs)[ \t]*:(?=\s)|---\s*$")
_CONFLICT_MARK = re.compile(r"<{7}|={7}|>{7}|\|{7}")


def head_of(sources: Sequence[tuple[str, bytes]], engine_of: EngineLookup) -> Head:
    """Return the head of the manifest in these files, even if other parts have faults.

    `sources` holds pairs of a name and a content. Raises `ManifestError`, as `parse` does, if a fault makes the head
    uncertain.
    """
    try:
        return parse(sources, engine_of, may_be_empty=True).head
    except ManifestError:
        blocks = _blocks_in(sources, ("target", "state"), engine_of)
        if blocks is None or "target" not in blocks:
            raise
        block = block_of(blocks["target"][0])
        return Head(block.read_by(engine_of), block, _declared_in(blocks))


def declared_state_of(sources: Sequence[tuple[str, bytes]], engine_of: EngineLookup) -> DeclaredState | None:
    """Return the place of the state that these files name, even if other parts have faults.

    `sources` holds pairs of a name and a content. Raises `ManifestError`, as `parse` does, if a fault makes the place
    uncertain.
    """
    try:
        return parse(sources, engine_of, may_be_empty=True).state
    except ManifestError:
        if (blocks := _blocks_in(sources, ("state",), engine_of)) is None:
            raise
        return _declared_in(blocks)


def ids_in_spite_of_faults(sources: Sequence[tuple[str, bytes]]) -> Mapping[str, str] | None:
    """Return the engine job id of each job by name, even if other parts have faults, or None if an id is uncertain."""
    ids: dict[str, str] = {}
    for file, content in sources:
        document = read(content, file)
        if not document.whole or type(document.value) is not dict:
            return None
        for name, block in document.jobs.items():
            job_id = block.get("id", name) if type(block) is dict else name
            if type(name) is not str or type(job_id) is not str or name in ids:
                return None
            ids[name] = job_id
    return ids if len(set(ids.values())) == len(ids) else None


def _declared_in(blocks: _Blocks) -> DeclaredState | None:
    return declared_state_in(blocks["state"][0]) if "state" in blocks else None


def _blocks_in(sources: Sequence[tuple[str, bytes]], names: Collection[str], engine_of: EngineLookup) -> _Blocks | None:
    """Return the blocks of these names in all files, or None if a fault makes a block uncertain."""
    found: _Blocks = {}
    for file, content in sources:
        if fault_of_kind(file, content):
            return None
        document = read(content, file)
        blocks = (
            _sound_blocks(document, names, engine_of)
            if document.whole
            else _blocks_of_broken(file, content, names, engine_of)
        )
        if blocks is None or found.keys() & blocks.keys():
            return None
        found |= blocks
    return found


def _sound_blocks(document: Document, names: Collection[str], engine_of: EngineLookup) -> _Blocks | None:
    """Return the blocks of these names in one document, or None if such a block has a fault."""
    if document.value is None:
        return {}
    if type(document.value) is not dict:
        return None
    blocks = {name: document.value[name] for name in names if name in document.value}
    starts = sorted(document.position((name,), of_key=True) for name in document.value)
    for name in blocks:
        start = document.position((name,), of_key=True)
        end = next((other for other in starts if other > start), None)
        if any(start <= fault.position and (end is None or fault.position < end) for fault in document.faults):
            return None
    alone = Document(document.file, {"apiVersion": "reconciler/v1", **blocks}, array("Q"), {})
    choice = choice_of([alone], engine_of)
    if choice.faults or any(faults_beside_yaml(alone, choice, sound=is_sound(alone, choice))):
        return None
    return {name: (document, value) for name, value in blocks.items()}


def _blocks_of_broken(file: str, content: bytes, names: Collection[str], engine_of: EngineLookup) -> _Blocks | None:
    """Return the blocks of these names in a file that is not YAML, such as a file with the marks of a merge conflict.

    Only lines without indentation show where a block begins. Return None if such a line begins anything but a known
    block, and if one of the blocks stands between the marks of a conflict.
    """
    lines = content.decode("utf-8-sig", "replace").splitlines(keepends=True)
    keys = [(at, line) for at, line in enumerate(lines) if line[:1] not in ("", " ", "\t", "#", "\r", "\n")]
    if not keys or any(line[:1] in (" ", "\t") and line.strip() for line in lines[: keys[0][0]]):
        return None
    blocks: _Blocks = {}
    in_conflict = False
    for (at, line), end in zip(keys, [*(at for at, _ in keys[1:]), len(lines)], strict=True):
        if mark := _CONFLICT_MARK.match(line):
            in_conflict = mark[0][0] != ">"
            continue
        key = _BLOCK_START.match(line)
        if key is None:
            return None
        name = key[1]
        if name in names:
            # Empty lines before the block keep the line numbers of the file.
            chunk = read(("\n" * at + "".join(lines[at:end])).encode(), file)
            inner = _sound_blocks(chunk, names, engine_of) if chunk.whole else None
            if in_conflict or name in blocks or not inner:
                return None
            blocks |= inner
    return blocks
