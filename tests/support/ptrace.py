"""Run a child program and decide the fate of each of its system calls on files and sockets.

This does the work of `strace -f -e inject=...`, with two differences: the calls of all threads are counted together
(strace counts each thread's own calls), and a call shows the bytes that it writes or sends. It needs Linux on x86-64;
see `unavailable`.
"""

import ctypes
import errno
import os
import platform
import signal
import sys
from collections.abc import Callable
from typing import NamedTuple

_SEIZE, _INTERRUPT, _SYSCALL, _POKEUSER, _SYSCALL_INFO = 0x4206, 0x4207, 24, 6, 0x420E
# mark stops at system calls, follow threads and exec, and kill the child when its tracer ends
_OPTIONS = 0x1 | 0x8 | 0x10 | 0x100000
_ORIG_RAX, _RAX = 15 * 8, 10 * 8  # offsets in struct user
_WALL = 0x40000000
_ENTRY, _EXIT = 1, 2
_CREATES = os.O_CREAT

_BY_DESCRIPTOR = {
    1: "write", 18: "pwrite64", 42: "connect", 44: "sendto", 45: "recvfrom", 73: "flock", 74: "fsync",
    75: "fdatasync", 77: "ftruncate", 91: "fchmod", 285: "fallocate",
}  # fmt: skip
_BY_PATH = {
    82: ("rename", 0), 83: ("mkdir", 0), 87: ("unlink", 0), 257: ("openat", 1), 263: ("unlink", 1), 264: ("rename", 1)
}  # fmt: skip
"""A call's name -> the index of its path argument; a second index names the folder that the path is relative to."""

_WORKING_FOLDER = 0xFFFFFF9C  # AT_FDCWD
_CARRIES_BYTES = ("write", "pwrite64", "sendto")


class Call(NamedTuple):
    """One system call on a file or a socket; `content` holds the bytes that the call writes or sends.

    `path` is "socket" for a socket, and ends in " (deleted)" for an open file whose name was removed.
    """

    name: str
    path: str
    content: bytes = b""


class Kill(NamedTuple):
    """Kill the child before the call is made."""


class Fail(NamedTuple):
    """Let the call fail with this error number, without any effect."""

    number: int


class Signal(NamedTuple):
    """Send a signal, and let the call be made."""

    number: int


Verdict = Kill | Fail | Signal | None


class _Info(ctypes.Structure):
    """`struct ptrace_syscall_info`, with the fields of its largest union member."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("arch", ctypes.c_uint32),
        ("instruction", ctypes.c_uint64),
        ("stack", ctypes.c_uint64),
        ("number", ctypes.c_int64),  # on exit: the result
        ("arguments", ctypes.c_uint64 * 6),
        ("rest", ctypes.c_uint64),
    )


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def unavailable() -> str:
    """Return why children cannot be traced on this machine, "" if they can be."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"ptrace is used as on Linux, x86-64; this is {sys.platform}, {platform.machine()}"
    try:
        trace(lambda: None, ".", lambda call: None, lambda call, result: None)
    except OSError as fault:
        return f"ptrace is not permitted: {fault.strerror}"
    return ""


def start(body: Callable[[], object]) -> int:
    """Fork a child that runs `body` and exits with 0. The caller must have no other threads."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            body()
            code = 0
        finally:
            os._exit(code)
    return child


def trace(
    body: Callable[[], object], folder: str, before: Callable[[Call], Verdict], after: Callable[[Call, int], None]
) -> int:
    """Run `body` in a forked child and return its exit code, or the negative number of the signal that killed it.

    `before` decides each call on a socket or below `folder`. `after` gets the result of each of these calls; a negative
    result is an error number. `body` ends by `os._exit` or by returning.
    """
    ready, go = os.pipe()

    def wait_and_run() -> None:
        os.read(ready, 1)
        os.close(ready)
        os.close(go)
        body()

    child = start(wait_and_run)
    try:
        _ptrace(_SEIZE, child, 0, _OPTIONS)
        _ptrace(_INTERRUPT, child)
        return _Tracer(child, os.path.realpath(folder), before, after).follow(lambda: os.write(go, b"."))
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.close(ready)
        os.close(go)


class _Tracer:
    def __init__(
        self,
        child: int,
        folder: str,
        before: Callable[[Call], Verdict],
        after: Callable[[Call, int], None],
    ) -> None:
        self._child = child
        self._folder = folder
        self._before = before
        self._after = after
        self._under_way: dict[int, tuple[Call, int]] = {}

    def follow(self, begin: Callable[[], object]) -> int:
        begun = False
        while True:
            thread, status = os.waitpid(-1, _WALL)
            if os.WIFEXITED(status) or os.WIFSIGNALED(status):
                if thread == self._child:
                    return os.waitstatus_to_exitcode(status)
                continue
            number = os.WSTOPSIG(status)
            passed_on = 0
            if number == signal.SIGTRAP | 0x80:
                self._syscall(thread)
            elif not status >> 16:
                passed_on = number
            try:
                _ptrace(_SYSCALL, thread, 0, passed_on)
            except ProcessLookupError:  # killed in the meantime
                continue
            if not begun:
                begun = True
                begin()

    def _syscall(self, thread: int) -> None:
        info = _Info()
        try:
            _ptrace(_SYSCALL_INFO, thread, ctypes.sizeof(info), ctypes.addressof(info))
        except ProcessLookupError:
            return
        if info.op == _ENTRY:
            call = self._call(thread, info)
            if call is not None:
                self._under_way[thread] = (call, self._apply(self._before(call), thread))
        elif info.op == _EXIT and thread in self._under_way:
            call, failure = self._under_way.pop(thread)
            if failure:
                _ptrace(_POKEUSER, thread, _RAX, -failure)
            self._after(call, -failure or info.number)

    def _apply(self, verdict: Verdict, thread: int) -> int:
        """Carry out a verdict; return the error number for the call, 0 for none."""
        match verdict:
            case Kill():
                os.kill(self._child, signal.SIGKILL)
            case Signal(number):
                os.kill(self._child, number)
            case Fail(number):
                _ptrace(_POKEUSER, thread, _ORIG_RAX, -1)
                return number
            case None:
                pass
        return 0

    def _call(self, thread: int, info: _Info) -> Call | None:
        """Return the call that a thread is about to make, None if the call is not on a file or socket of interest."""
        arguments = info.arguments
        name = _BY_DESCRIPTOR.get(info.number)
        if name is not None:
            try:
                path = os.readlink(f"/proc/{thread}/fd/{arguments[0]}")
            except OSError:
                return None
            path = "socket" if path.startswith("socket:") else path
            if path != "socket" and not self._is_below(path):
                return None
            content = self._memory(thread, arguments[1], arguments[2]) if name in _CARRIES_BYTES else b""
            return Call(name, path, content)
        by_path = _BY_PATH.get(info.number)
        if by_path is None or (by_path[0] == "openat" and not arguments[2] & _CREATES):
            return None
        name, at = by_path
        folder = arguments[0] & 0xFFFFFFFF if at else _WORKING_FOLDER
        start = "cwd" if folder == _WORKING_FOLDER else f"fd/{folder}"
        path = os.path.join(os.readlink(f"/proc/{thread}/{start}"), self._text(thread, arguments[at]))
        return Call(name, path) if self._is_below(path) else None

    def _is_below(self, path: str) -> bool:
        return path == self._folder or path.startswith(self._folder + os.sep)

    def _text(self, thread: int, address: int) -> str:
        to_page_end = 4096 - address % 4096
        content = self._memory(thread, address, to_page_end)
        if b"\0" not in content:
            content += self._memory(thread, address + to_page_end, 4096)
        return os.fsdecode(content.partition(b"\0")[0])

    def _memory(self, thread: int, address: int, length: int) -> bytes:
        memory = os.open(f"/proc/{thread}/mem", os.O_RDONLY)
        try:
            return os.pread(memory, length, address)
        finally:
            os.close(memory)


def _ptrace(request: int, thread: int, address: int = 0, value: int = 0) -> None:
    if _libc.ptrace(request, thread, address & 0xFFFFFFFFFFFFFFFF, value & 0xFFFFFFFFFFFFFFFF) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def words_of(number: int) -> str:
    """Return the name of an error number."""
    return errno.errorcode[number]
