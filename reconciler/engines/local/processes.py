"""The processes of a run: their mark, those that live on without a supervisor, and what ends them.

The spawner imports this module, so it imports little.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from typing import NoReturn

MARK = "RECONCILER_RUN"
"""The environment variable that all processes of a run inherit. Its value is ROOT-ID/JOB/RUN."""

HAS_PROC = sys.platform.startswith("linux")
"""Whether the kernel offers what only Linux has: /proc, a death signal, subreapers, descriptors of processes."""

_HAS_ARGUMENTS_WITHIN_S, _HAS_ENVIRONMENT_WITHIN_S = 2.0, 0.02
"""The most seconds for which a process without an environment is read again, while it has no arguments, and after."""

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None, use_errno=True) if HAS_PROC else None


def mark_of(root_id: str, job_id: str, run_id: str) -> str:
    """Return the mark of a run."""
    return f"{root_id}/{job_id}/{run_id}"


@cache
def boot_id() -> str:
    """Return the id of this boot of the machine; "" where the kernel has none. No process outlives a boot."""
    if HAS_PROC:
        with suppress(OSError), open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
            return file.readall().decode().strip()
        return ""
    import subprocess

    with suppress(OSError, subprocess.SubprocessError):
        asked = subprocess.run(["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, check=False)
        return asked.stdout.decode(errors="replace").strip()
    return ""


def die_with(parent: int) -> None:
    """Have the kernel kill this process once the thread that forked it ends.

    `parent` is the id of the process with that thread. If it has ended already, the kernel sends nothing, and this
    process ends by itself.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        leave(1)


def adopt_descendants() -> None:
    """Become the parent of each descendant whose parent ends."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def survivors() -> Mapping[str, tuple[int, ...]]:
    """Return the ids of the processes that bear a mark, by the mark.

    A process that executes a new program has no environment for a moment. Such a process is read again, until it has
    one. /proc is read twice, because a process may fork while it is read.
    """
    found: dict[str, set[int]] = {}
    for _ in range(2 if HAS_PROC else 0):
        left, began_s = _pids(), time.monotonic()
        while left:
            waited_s = time.monotonic() - began_s
            between = []
            for pid in left:
                if environment := _environment_at(pid):
                    if mark := _mark_in(environment):
                        found.setdefault(mark, set()).add(pid)
                elif _is_between_programs(pid, waited_s):
                    between.append(pid)
            left = between
            if left:
                time.sleep(0.001)
    return {mark: tuple(sorted(pids)) for mark, pids in found.items()}


def executing(root_id: str) -> str:
    """Return the runs of a root that still execute, in words: "a-1 (processes 12, 13)"; "" if none is found."""
    return in_words(survivors(), f"{root_id}/")


def in_words(found: Mapping[str, tuple[int, ...]], start: str) -> str:
    """Return the runs whose mark begins with `start`, with their processes: "a-1 (processes 12, 13)"."""
    return ", ".join(
        f"{mark.rpartition('/')[2]} (process{'es' if len(pids) > 1 else ''} {', '.join(map(str, pids))})"
        for mark, pids in sorted(found.items())
        if mark.startswith(start)
    )


def stop_marked(mark: str) -> set[int]:
    """Stop all processes that bear a mark, and return their ids. Those that they fork meanwhile are stopped too."""
    stopped: set[int] = set()
    while left := set(survivors().get(mark, ())) - stopped:
        send_to_marked(mark, left, signal.SIGSTOP)
        stopped |= left
    return stopped


def send_to_marked(mark: str, pids: Iterable[int], signum: int) -> None:
    """Send a signal to those of the processes that bear the mark.

    A descriptor stands for each process, so that the signal does not reach a later process of the same id.
    """
    for pid in pids:
        with suppress(OSError):  # it has ended, or belongs to somebody else
            process = os.pidfd_open(pid)
            try:
                if _mark_at(pid) == mark:
                    signal.pidfd_send_signal(process, signum)
            finally:
                os.close(process)


def may_exist(pid: int) -> bool:
    """Return whether there is a process of this id, as far as this machine tells."""
    return not HAS_PROC or os.path.exists(f"/proc/{pid}")


def is_stopped(pid: int) -> bool:
    """Return whether a signal or a debugger has stopped a process. False without /proc."""
    with suppress(OSError, IndexError), open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    return False


def leave(code: int) -> NoReturn:
    """End this process, which was forked, and nothing that belongs to the process that forked it."""
    os._exit(code)


def signal_group(child: int, signum: int) -> None:
    """Send a signal to the process group of a child, which leads the group and whose end was not taken yet.

    As long as its end was not taken, the kernel gives its id to no other process.
    """
    if child <= 1:
        raise ValueError(f"{child} is no child")
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signum)


def kill_descendants() -> None:
    """Kill all processes that descend from this one.

    A process may end, and its id may go to a process of somebody else. So a descriptor is opened for each process, and
    only a process that is still a descendant afterwards is killed.
    """
    opened: dict[int, int] = {}
    try:
        for pid in _descendants():
            with suppress(OSError):
                opened[pid] = os.pidfd_open(pid)
        for pid in _descendants() if opened else ():
            with suppress(OSError, KeyError):
                signal.pidfd_send_signal(opened[pid], signal.SIGKILL)
    finally:
        for descriptor in opened.values():
            os.close(descriptor)


def out_of_memory_kills() -> int:
    """Return how many processes the kernel has killed for lack of memory since the start of the machine."""
    with suppress(OSError, ValueError, IndexError), open("/proc/vmstat", "rb", buffering=0) as file:
        return int(file.readall().partition(b"\noom_kill ")[2].split(maxsplit=1)[0])
    return 0


def _descendants() -> list[int]:
    """Return the ids of all processes that descend from this one; an empty list without /proc."""
    children: dict[int, list[int]] = {}
    for pid in _pids():
        with suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/stat", "rb") as file:
            # The name of the program is in parentheses, and may hold any character.
            children.setdefault(int(file.read().rpartition(b")")[2].split()[1]), []).append(pid)
    found: list[int] = []
    left = [os.getpid()]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()] if HAS_PROC else []
    except OSError:
        return []


def _is_between_programs(pid: int, waited_s: float) -> bool:
    """Return whether a process without an environment may execute a new program just now, after so many seconds.

    Such a process has no arguments for a moment either. A process with arguments, which may have been given no
    environment, is waited for only shortly. A thread of the kernel and a process that has ended have no program.
    """
    try:
        os.readlink(f"/proc/{pid}/exe")
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return waited_s < (_HAS_ARGUMENTS_WITHIN_S if not file.read(1) else _HAS_ENVIRONMENT_WITHIN_S)
    except OSError:
        return False


def _mark_at(pid: int) -> str:
    """Return the mark of a process, once the process has an environment; "" if it bears none."""
    began_s = time.monotonic()
    while not (environment := _environment_at(pid)):
        if not _is_between_programs(pid, time.monotonic() - began_s):
            return ""
        time.sleep(0.001)
    return _mark_in(environment)


def _environment_at(pid: int) -> bytes:
    """Return the environment with which a process began; b"" for one that has none, or is not ours to read."""
    with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        return file.read()
    return b""


def _mark_in(environment: bytes) -> str:
    """Return the mark in an environment; "" if it has none."""
    start = f"{MARK}=".encode()
    for variable in environment.split(b"\0"):
        if variable.startswith(start):
            return variable[len(start) :].decode(errors="replace")
    return ""
