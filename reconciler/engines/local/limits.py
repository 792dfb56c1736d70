"""What a run may use: a control group of version 2 where this user may make one, else the limits of each process.

The spawner imports this module, so it imports little.
"""

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

_PERIOD_US = 100_000
"""The time for which the kernel counts the CPU time of a group."""

_REMOVED_WITHIN_S = 1.0


class Limits(NamedTuple):
    """The limits of a run: memory in bytes, and CPU cores. None sets no limit."""

    memory_bytes: int | None = None
    cores: float | None = None

    @property
    def controllers(self) -> frozenset[str]:
        """The controllers of the kernel that these limits need."""
        wanted = {"memory": self.memory_bytes, "cpu": self.cores}
        return frozenset(name for name, limit in wanted.items() if limit is not None)


class ControlGroup:
    """A control group of version 2 for one run."""

    def __init__(self, path: str) -> None:
        self._path = path

    def enter(self) -> None:
        """Put this process into the group. Raises `OSError`."""
        _write(f"{self._path}/cgroup.procs", "0")

    def kill(self) -> None:
        """Kill all processes in the group, if the kernel can do that (Linux 5.14)."""
        path = f"{self._path}/cgroup.kill"
        if os.path.exists(path):
            with suppress(OSError):
                _write(path, "1")

    @property
    def memory_kills(self) -> int:
        """How many processes of the group the kernel has killed because the group had used up its memory."""
        return int(_fields(f"{self._path}/memory.events").get("oom_kill", 0))

    @property
    def cpu_s(self) -> float | None:
        """The CPU time of all processes that were ever in the group, in seconds; None if it can't be read."""
        usage_us = _fields(f"{self._path}/cpu.stat").get("usage_usec")
        return None if usage_us is None else int(usage_us) / 1e6

    @property
    def max_memory_bytes(self) -> int | None:
        """The most memory that the group had at any time, with its files in memory; None if that is not known."""
        text = _read(f"{self._path}/memory.peak").strip()
        return int(text) if text.isdecimal() else None

    def remove(self) -> None:
        """Remove the group, whose processes have ended. The kernel may take a moment to notice that."""
        until_s = time.monotonic() + _REMOVED_WITHIN_S
        while True:
            try:
                return os.rmdir(self._path)
            except FileNotFoundError:
                return None
            except OSError:
                if time.monotonic() > until_s:
                    return None
                time.sleep(0.005)


def group_for(limits: Limits, name: str, homes: "Iterator[str] | None" = None) -> ControlGroup | None:
    """Return a new group with these limits; None if there are no limits, or if no such group can be made here.

    `homes` yields the folders of the groups that may hold it, and is by default the group of this process and those
    around it.
    """
    if not limits.controllers:
        return None
    parent = parent_of(limits.controllers, homes)
    if not parent:
        return None
    path = f"{parent}/{name}"
    group = ControlGroup(path)
    try:
        with suppress(FileExistsError):
            os.mkdir(path)
        if limits.memory_bytes is not None:
            _write(f"{path}/memory.max", str(limits.memory_bytes))
            for file, value in (("memory.swap.max", "0"), ("memory.oom.group", "1")):
                with suppress(OSError):  # a kernel without swap, or before 4.19
                    _write(f"{path}/{file}", value)
        if limits.cores is not None:
            _write(f"{path}/cpu.max", f"{max(1000, round(limits.cores * _PERIOD_US))} {_PERIOD_US}")
    except OSError:
        group.remove()
        return None
    return group


def remove_left_group(limits: Limits, name: str) -> None:
    """Remove the group of a run whose supervisor was killed, once nothing is in it."""
    if limits.controllers and (parent := parent_of(limits.controllers)):
        with suppress(OSError):
            os.rmdir(f"{parent}/{name}")


def group_name(mark: str) -> str:
    """Return the name of the group of the run with this mark."""
    return f"reconciler-{mark.replace('/', '-')}"[:255]


def parent_of(controllers: frozenset[str], homes: "Iterator[str] | None" = None) -> str:
    """Return the folder of the nearest group that may hold a group with these controllers; "" if none may."""
    for home in _homes() if homes is None else homes:
        if not all(os.access(path, os.W_OK) for path in (home, f"{home}/cgroup.procs")):
            continue
        enabled = _read(f"{home}/cgroup.subtree_control").split()
        if controllers <= set(enabled):
            return home
    return ""


def limit_process(limits: Limits) -> None:
    """Limit the memory that this process may allocate, and each process that it starts. Raises `OSError`."""
    if limits.memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (limits.memory_bytes, limits.memory_bytes))


def unheld(limits: Limits, homes: "Iterator[str] | None" = None) -> list[str]:
    """Return the names of those limits that nothing on this machine holds: "memory", "cpu"."""
    if not limits.controllers or parent_of(limits.controllers, homes):
        return []
    # RLIMIT_DATA holds each process on Linux. On macOS, it does not count what `malloc` takes.
    held = {"memory"} if sys.platform.startswith("linux") else set[str]()
    return sorted(limits.controllers - held)


def _homes() -> Iterator[str]:
    """Yield the folder of the group of this process, and those of the groups around it."""
    mount = path = ""
    with suppress(OSError, ValueError, IndexError), open("/proc/self/mountinfo", encoding="utf-8") as file:
        # A mount of which a process sees a part only, as in a container, has another root.
        found = [line.split() for line in file if " - cgroup2 " in line]
        mount = next((fields[4] for fields in found if fields[3] == "/"), "")
    with suppress(OSError), open("/proc/self/cgroup", encoding="utf-8") as file:
        path = next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), "")
    if not mount or not path.startswith("/") or ".." in path:
        return
    while True:
        yield (mount + path).rstrip("/")
        if path == "/":
            return
        path = os.path.dirname(path)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _read(path: str) -> str:
    with suppress(OSError), open(path, encoding="ascii", errors="replace") as file:
        return file.read()
    return ""


def _fields(path: str) -> dict[str, str]:
    """Return the file of a group whose lines are a name and a value."""
    return {fields[0]: fields[1] for line in _read(path).splitlines() if len(fields := line.split()) == 2}
