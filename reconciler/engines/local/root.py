"""The root: the folder that holds all runs. It is made once, for one user of one machine."""

import os
import pwd
import stat
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from reconciler.engines.local.files import FOLDER, exists, get, write_all, write_flushed
from reconciler.engines.local.processes import executing
from reconciler.model.commands import command
from reconciler.model.errors import EngineError

NETWORK = frozenset({"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "lustre", "nfs", "nfs4", "smb3"})
"""File systems whose files another machine may change."""

_MACHINE_ID = "/etc/machine-id"


class Root(NamedTuple):
    """An open root. `folder` is a descriptor, which stays valid if the folder is moved."""

    path: str
    folder: int
    id: str
    machine: str


def machine_id() -> str:
    """Return the id of this machine; "" if it has none, as in some containers."""
    with suppress(OSError), open(_MACHINE_ID, encoding="ascii", errors="replace") as file:
        return file.read(64).strip()
    return ""


def open_root(path: str, *, make: bool) -> Root | None:
    """Return the root at an absolute path. None if there is none, unless `make` asks for one.

    The caller closes its descriptor. Raises `EngineError` for a root that this user or this machine must not use.
    """
    try:
        if make:
            _make_folder(path)
        folder = os.open(path, FOLDER | os.O_NOFOLLOW)
    except FileNotFoundError as fault:
        if make:
            raise _unusable(path, fault) from fault
        return None
    except OSError as fault:
        raise _unusable(path, fault) from fault
    try:
        _check_owner(path, folder)
        _check_file_system(path, folder)
        document = get(folder, "root.json") or (_made(path, folder) if make else None)
        if document is None:
            os.close(folder)
            return None
        root = Root(path, folder, document["id"], document["machine"])
        _check_origin(root, document["place"])
    except (OSError, ValueError, KeyError, TypeError) as fault:
        os.close(folder)
        raise _unusable(path, fault) from fault
    except EngineError:
        os.close(folder)
        raise
    return root


def _check_origin(root: Root, place: dict[str, Any]) -> None:
    """Raise `EngineError` for the root of another machine, and for a copy."""
    here = machine_id()
    if root.machine and here and root.machine != here:
        raise EngineError(
            f"{root.path} belongs to another machine: its id is {root.machine}, and that of this machine is {here}",
            "name a folder of this machine with target.root",
        )
    if not _is_original(place, root.path, root.folder):
        raise _copied(root, place["path"])


def _is_original(place: dict[str, Any], path: str, folder: int) -> bool:
    """Return whether an open folder is the one that its `root.json` was made in.

    A move within a file system keeps the numbers of files, and a copy has others. The number of a device may change
    with a restart of the machine, and some file systems give a folder another number then. A folder at the path where
    the root was made may therefore differ in either.
    """
    is_at_its_path = os.path.realpath(path) == place["path"]
    there = os.fstat(folder)
    if there.st_ino == place["folder"]:
        return is_at_its_path or bool(there.st_dev == place["device"])
    return is_at_its_path and bool(os.stat("root.json", dir_fd=folder).st_ino == place["file"])


def _copied(root: Root, made_at: str) -> EngineError:
    """Return the refusal of a root that is a copy: its runs are those of the original."""
    accept = command("state accept", options=["--identity"])
    if there := executing(root.id):
        advice = f"work there; its runs still execute: {there}"
    else:
        advice = (
            "work there, or name that folder with target.root; if it is gone for good, as after a move to another disk "
            f"or a restore, remove {root.path}/root.json, and then {accept}: it keeps the recorded ends, and "
            "starts nothing that has waited here"
        )
    was = "was in its place before" if made_at == os.path.realpath(root.path) else f"was made as {made_at}"
    return EngineError(
        f"{root.path} is a copy of the folder of runs that {was}: nothing is run, aborted or recorded from a copy",
        advice,
    )


def missing_root(path: str, goes_on: str) -> EngineError:
    """Return the refusal of a root that the state knows and that is not at its path.

    `goes_on` names the runs of the root that still execute.
    """
    if os.path.isdir(path):
        what, put_back = f"the folder of the runs has lost its root.json: {path}", "put the file back"
    else:
        what, put_back = f"the folder of the runs is not there: {path}", "put it back"
    elsewhere = "if another checkout has it, work there, or have one folder for all checkouts"
    if goes_on:
        what = f"{what}; runs of it still execute: {goes_on}"
        return EngineError(what, f"{put_back}, or let them end before anything else; {elsewhere} (target.root)")
    moved, accept = (
        command("state accept", options=[*options]) for options in (("--moved-to", "~/runs"), ("--identity",))
    )
    how = f"move it there, name it with target.root, such as root: ~/runs, and: {moved}"
    return EngineError(what, f"{put_back}; {elsewhere}: {how}; if the runs are gone for good: {accept}")


def _make_folder(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)


def _made(path: str, folder: int) -> dict[str, Any]:
    """Make what a root has, unless another command does so at this moment, and return its `root.json`."""
    for name in ("jobs", "tmp"):
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=folder)
    if not exists(folder, ".gitignore"):
        with suppress(FileExistsError):
            write_flushed(folder, ".gitignore", b"*\n")
    prepared = f".root.{uuid.uuid4().hex}"
    try:
        _write_prepared(path, folder, prepared)
        # Unlike a rename, a link does not replace the file of a faster command.
        with suppress(FileExistsError):
            os.link(prepared, "root.json", src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.unlink(prepared, dir_fd=folder)
    os.fsync(folder)
    return get(folder, "root.json") or {}


def _write_prepared(path: str, folder: int, name: str) -> None:
    """Write the content of a new `root.json`, which holds the number of its own file."""
    import json

    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        there = os.fstat(folder)
        place = {
            "path": os.path.realpath(path),
            "device": there.st_dev,
            "folder": there.st_ino,
            "file": os.fstat(descriptor).st_ino,
        }
        write_all(
            descriptor,
            json.dumps({"id": str(uuid.uuid4()), "machine": machine_id(), "place": place}).encode(),
        )
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_owner(path: str, folder: int) -> None:
    found = os.fstat(folder)
    if found.st_uid != os.geteuid():
        raise EngineError(
            f"{path} belongs to the user {_user(found.st_uid)}, and this command runs as {_user(os.geteuid())}",
            f"run the command as {_user(found.st_uid)}, or name another folder with target.root",
        )
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise EngineError(f"other users can write to {path}, and so could start commands", f"chmod 700 {path}")


def _check_file_system(path: str, folder: int) -> None:
    if (kind := _file_system_of(folder)) in NETWORK:
        raise EngineError(
            f"{path} is on a network file system ({kind}), where a lock does not prove that a process lives",
            "name a folder on a disk of this machine with target.root",
        )


def _file_system_of(folder: int) -> str:
    """Return the type of the file system of an open folder, as in /proc/self/mountinfo; "" without /proc."""
    try:
        with open(f"/proc/self/fdinfo/{folder}", encoding="ascii") as file:
            mount = next((line.split()[1] for line in file if line.startswith("mnt_id:")), "")
        return next((kind for each, kind in _mounts() if each == mount), "")
    except OSError:
        return ""


def _mounts() -> Iterator[tuple[str, str]]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            yield before.split()[0], after.split()[0]


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _unusable(path: str, fault: Exception) -> EngineError:
    what = f"the folder of the runs can't be used: {path}"
    if isinstance(fault, OSError):
        return EngineError(f"{what}: {fault.strerror}", "mend it, or name another one with target.root")
    # Without the file, the folder is one that has lost it, and what to do then is said (`missing_root`).
    return EngineError(f"{what}: {fault}", f"put back {path}/root.json as it was; if nobody has a copy, remove it")
