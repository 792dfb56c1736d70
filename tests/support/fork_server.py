"""Run the programs of the tests in children that are forked from a process with every module loaded.

A child is a process like any other: the folder, environment, files, signals and exit code are its own. Only the start
of an interpreter is saved, which is most of the cost of a command. A program that depends on the start of the
interpreter (on the PYTHON* variables or the locale) is not forked but started.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import reconciler
from reconciler.manifest.parse import parse
from reconciler.usecases.engines import plugin_named

_MANIFEST = b"apiVersion: reconciler/v1\ntarget: {engine: bytenite}\njobs: {a: {state: absent}}\n"
_REQUEST_BYTES = 1 << 17
_NUMBER = struct.Struct("i")
_AT_START = ("PYTHON", "LC_", "LANG")


def can_run(command: Sequence[str], env: Mapping[str, str]) -> bool:
    """Whether a command may be forked, although its modules are loaded already and in another environment."""
    changed = {name for name, _ in env.items() ^ os.environ.items()}
    return sys.platform == "linux" and command[1] != "-c" and not any(name.startswith(_AT_START) for name in changed)


def run(
    command: Sequence[str], folder: Path, env: Mapping[str, str], stdin: str, timeout_s: float
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m MODULE ...` or `python FILE ...` to its end. Raises `subprocess.TimeoutExpired`."""
    return _server().run(command, folder, env, stdin, timeout_s)


def load_all() -> None:
    """Load and compile everything that a program would load late, so that a forked child starts faster."""
    for module in pkgutil.walk_packages(reconciler.__path__, "reconciler."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ("deepdiff", "requests", "yaml", "jsonschema_rs", "encodings.ascii"):
        importlib.import_module(name)
    # Parsing a valid manifest compiles the schemas, which takes longer than most commands.
    parse([("jobs.yaml", _MANIFEST)], plugin_named)
    gc.collect()
    gc.freeze()


class _Server:
    """The process that forks, and the socket that leads to it."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            number = theirs.fileno()
            self._program = subprocess.Popen([sys.executable, __file__, str(number)], pass_fds=[number])
        atexit.register(self._close)

    def run(
        self, command: Sequence[str], folder: Path, env: Mapping[str, str], stdin: str, timeout_s: float
    ) -> "subprocess.CompletedProcess[str]":
        request = json.dumps([command[1:], str(folder), dict(env)]).encode()
        reading, writing = os.pipe()
        with (
            open(reading, "rb", buffering=0) as answers,
            open(os.memfd_create("stdin"), "w+") as given,
            open(os.memfd_create("stdout")) as out,
            open(os.memfd_create("stderr")) as err,
        ):
            given.write(stdin)
            given.seek(0)
            socket.send_fds(self._channel, [request], [given.fileno(), out.fileno(), err.fileno(), writing])
            os.close(writing)
            (child,) = _NUMBER.unpack(answers.read(_NUMBER.size))
            if not select.select([answers], [], [], timeout_s)[0]:
                os.kill(child, signal.SIGKILL)
                raise subprocess.TimeoutExpired(command, timeout_s)
            (code,) = _NUMBER.unpack(answers.read(_NUMBER.size))
            for file in (out, err):
                file.seek(0)
            return subprocess.CompletedProcess(command, code, out.read(), err.read())

    def _close(self) -> None:
        self._channel.close()
        self._program.wait()


@cache
def _server() -> _Server:
    """Return the one server for all tests of this process."""
    return _Server()


def _next_program(channel: socket.socket) -> Sequence[str]:
    """Fork for each request; exit once the channel is closed.

    Returns in each child only, with the arguments of the child's program.
    """
    # file descriptor that is readable once a child has ended -> the child's process id, the pipe for its exit code
    alive: dict[int, tuple[int, int]] = {}
    while True:
        readable, _, _ = select.select([channel.fileno(), *alive], [], [])
        for ended in alive.keys() & readable:
            child, writing = alive.pop(ended)
            os.close(ended)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            with suppress(BrokenPipeError):  # the caller's timeout has passed
                os.write(writing, _NUMBER.pack(code))
            os.close(writing)
        if channel.fileno() in readable:
            request, files, _, _ = socket.recv_fds(channel, _REQUEST_BYTES, 4)
            if not request:
                sys.exit()
            child = os.fork()
            if not child:
                return _moved_in(request, files)
            *standard, writing = files
            os.write(writing, _NUMBER.pack(child))
            alive[os.pidfd_open(child)] = child, writing
            for file in standard:
                os.close(file)


def _moved_in(request: bytes, files: Sequence[int]) -> Sequence[str]:
    """Take over the folder, environment and files of a request; return the arguments of its program."""
    arguments, folder, env = json.loads(request)
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
    for file in files:
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    return list(arguments)


def _become(arguments: Sequence[str]) -> None:
    """Run the program as the interpreter would with these arguments; never return."""
    try:
        match arguments:
            case ["-m", module, *_]:
                sys.argv = list(arguments[1:])
                runpy.run_module(module, run_name="__main__", alter_sys=True)
            case _:
                sys.argv = list(arguments)
                runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        if type(end.code) is not int:
            raise
        # These are the steps of an interpreter's end, without the destruction of the modules.
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code)


if __name__ == "__main__":
    load_all()
    _become(_next_program(socket.socket(fileno=int(sys.argv[1]))))
