"""The root: the folder that holds all runs. It is made once, for one user of one machine."""

import os
import pwd
import stat
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from reconciler.engines.local.files import FOLDER, exists, get, write_flushed
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
        document = get(folder, "root.json") or (_made(folder) if make else None)
        if document is None:
            os.close(folder)
            return None
        root = Root(path, folder, document["id"], document["machine"])
    except (OSError, ValueError, KeyError, TypeError) as fault:
        os.close(folder)
        raise _unusable(path, fault) from fault
    except EngineError:
        os.close(folder)
        raise
    here = machine_id()
    if root.machine and here and root.machine != here:
        os.close(folder)
        raise EngineError(
            f"{path} belongs to another machine: its id is {root.machine}, and that of this machine is {here}",
            "name a folder of this machine with target.root",
        )
    return root


def _make_folder(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)


def _made(folder: int) -> dict[str, str]:
    """Make what a root has, unless another command does so at this moment, and return its `root.json`."""
    for name in ("jobs", "tmp"):
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=folder)
    if not exists(folder, ".gitignore"):
        with suppress(FileExistsError):
            write_flushed(folder, ".gitignore", b"*\n")
    prepared = f".root.{uuid.uuid4().hex}"
    import json

    write_flushed(folder, prepared, json.dumps({"id": str(uuid.uuid4()), "machine": machine_id()}).encode())
    try:
        # Unlike a rename, a link does not replace the file of a faster command.
        with suppress(FileExistsError):
            os.link(prepared, "root.json", src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.unlink(prepared, dir_fd=folder)
    os.fsync(folder)
    return get(folder, "root.json") or {}


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
    reason = fault.strerror if isinstance(fault, OSError) else str(fault)
    return EngineError(
        f"the folder of the runs can't be used: {path}: {reason}", "mend it, or name another one with target.root"
    )
