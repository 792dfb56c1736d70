"""One attempt of a run: a child that waits until it is let go, and what the supervisor does until the child has ended.

The spawner imports this module, so it imports little.
"""

import errno
import os
import select
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

from reconciler.engines.local import processes
from reconciler.engines.local.files import SCRIPT, exists, path_of
from reconciler.engines.local.limits import ControlGroup, Limits, limit_process
from reconciler.engines.local.log import LogWriter

_LOOK_EVERY_S = 2.0
"""How often the supervisor looks for `abort.json` without a signal: the sender may be in another container."""

_READ_BYTES = 1 << 16
_CAN_NOT_START = 127
_NOTED = (signal.SIGCHLD, signal.SIGTERM)
_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ)
DEFAULT_GRACE_S = 10
"""The seconds from the signal of an abort or a timeout to SIGKILL."""


class Ended(NamedTuple):
    """How an attempt ended.

    `reason` says why the supervisor ended it, or why it was not started; "" if it ended by itself. `exit_code` is None
    if a signal ended it. `is_final` is set if no other attempt may follow. `cpu_s` and `max_memory_bytes` are those of
    all its processes that have ended, the latter of the largest one.
    """

    reason: str = ""
    exit_code: int | None = None
    signal: str = ""
    is_final: bool = True
    cpu_s: float = 0.0
    max_memory_bytes: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether the command ended by itself with the exit code 0."""
        return self.exit_code == 0 and not self.reason

    @property
    def status(self) -> str:
        """The status of a run whose last attempt this is."""
        return "complete" if self.is_complete else "aborted" if self.reason == "aborted" else "failed"

    @property
    def in_short(self) -> dict[str, Any]:
        """The attempt as it is recorded."""
        return {"exit_code": self.exit_code, "signal": self.signal, "reason": self.reason}


class Watch:
    """Wakes this process when a child ends or a signal asks for a look at the files.

    From its creation on, SIGTERM does not end the process. Once in a process.
    """

    def __init__(self) -> None:
        self._read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if hasattr(os, "pipe2") else _pipe()
        for number in _NOTED:
            signal.signal(number, _note)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def fileno(self) -> int:
        """The descriptor that becomes readable with a signal."""
        return self._read

    def drain(self) -> None:
        """Forget the signals that have come. What they ask for is looked up each time."""
        with suppress(BlockingIOError):
            os.read(self._read, 4096)


class Attempt:
    """One child of the supervisor, and all that descends from it."""

    def __init__(
        self,
        folder: int,
        spec: Mapping[str, Any],
        env: Mapping[str, str],
        watch: Watch,
        log: LogWriter,
        limits: Limits,
        group: ControlGroup | None,
    ) -> None:
        """`folder` is an open descriptor of the run's folder. `group` has the `limits`; without one, processes do."""
        self._folder = folder
        self._spec = spec
        self._config: Mapping[str, Any] = spec["config"]
        self._env = env
        self._watch = watch
        self._log = log
        self._limits = limits
        self._group = group
        self.pid = 0
        self._go = self._output = self._errors = -1
        self._status: int | None = None
        self._reason = ""
        self._kill_at_s = float("inf")
        self._cpu_s, self._max_memory_bytes = 0.0, 0

    def fork(self) -> bool:
        """Fork the child, which waits. Return False if the kernel has no room for a process."""
        pipes: list[int] = []
        supervisor = os.getpid()
        try:
            for _ in range(3):
                pipes += os.pipe()
            pid = os.fork()
        except OSError:
            for each in pipes:
                os.close(each)
            return False
        go_read, go_write, output_read, output_write, errors_read, errors_write = pipes
        if pid == 0:
            self._execute(supervisor, go_read, go_write, output_write, errors_write)
        for each in (go_read, output_write, errors_write):
            os.close(each)
        self.pid, self._go, self._output, self._errors = pid, go_write, output_read, errors_read
        os.set_blocking(output_read, False)
        return True

    def cancel(self) -> None:
        """End the child, which has not executed the command."""
        os.close(self._go)
        os.waitpid(self.pid, 0)
        os.close(self._output)
        os.close(self._errors)

    def let_go(self, job_deadline_s: float | None) -> Ended:
        """Let the child execute the command, and return once nothing of the attempt executes any more.

        The deadline is on the monotonic clock.
        """
        kills_before = processes.out_of_memory_kills()
        group_kills_before = self._group.memory_kills if self._group else 0
        with suppress(BrokenPipeError):  # somebody has killed the child
            os.write(self._go, b"g")
        os.close(self._go)
        fault = os.read(self._errors, 4096).decode(errors="replace")
        os.close(self._errors)
        self._watch_child(self._deadlines(job_deadline_s))
        self._end_the_rest()
        self._copy_output()
        os.close(self._output)
        assert self._status is not None
        code = os.waitstatus_to_exitcode(self._status)
        name = "" if code >= 0 else _signal_name(-code)
        reason = self._reason or fault
        if not reason and self._group and code and self._group.memory_kills > group_kills_before:
            reason = "out of memory: the run has reached its limit, resources.memory"
        if not reason and name == "SIGKILL" and processes.out_of_memory_kills() > kills_before:
            reason = "out of memory: the kernel killed processes of this machine at that time"
        return Ended(
            reason,
            None if code < 0 else code,
            name,
            is_final=self._reason in ("aborted", "jobTimeout") or bool(fault),
            cpu_s=self._cpu_s,
            max_memory_bytes=self._max_memory_bytes,
        )

    def _deadlines(self, job_deadline_s: float | None) -> list[tuple[float, str]]:
        deadlines = [] if job_deadline_s is None else [(job_deadline_s, "jobTimeout")]
        if task_timeout_s := self._config.get("taskTimeout"):
            deadlines.append((time.monotonic() + task_timeout_s, "taskTimeout"))
        return deadlines

    def _watch_child(self, deadlines: list[tuple[float, str]]) -> None:
        poll = select.poll()
        for each in (self._watch.fileno(), self._output):
            poll.register(each, select.POLLIN)
        while True:
            self._reap()
            if self._status is not None:
                return
            self._stop_if_due(deadlines)
            next_s = min([self._kill_at_s, *(at_s for at_s, _ in deadlines if not self._reason)], default=float("inf"))
            wait_s = max(0.0, min(_LOOK_EVERY_S, next_s - time.monotonic()))
            for descriptor, event in poll.poll(wait_s * 1000 + 1):
                if descriptor == self._output:
                    self._copy_output()
                    if event & select.POLLHUP:
                        poll.unregister(self._output)
                else:
                    self._watch.drain()

    def _stop_if_due(self, deadlines: list[tuple[float, str]]) -> None:
        """End the child if an abort was asked for or a timeout is over: first with a signal, then with SIGKILL."""
        now_s = time.monotonic()
        if not self._reason:
            due = [reason for at_s, reason in deadlines if now_s >= at_s]
            if exists(self._folder, "abort.json"):
                self._reason = "aborted"
            elif due:
                self._reason = due[0]
            if self._reason:
                abort = self._config.get("abort", {})
                processes.signal_group(self.pid, signal.Signals[f"SIG{abort.get('signal', 'TERM')}"])
                self._kill_at_s = now_s + abort.get("grace", DEFAULT_GRACE_S)
        elif now_s >= self._kill_at_s:
            processes.signal_group(self.pid, signal.SIGKILL)
            processes.kill_descendants()
            self._kill_at_s = now_s + 0.5

    def _reap(self) -> bool:
        """Take the ends of all children that have ended. Return whether a child is left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                self._status = status
            self._cpu_s += usage.ru_utime + usage.ru_stime
            # On macOS, the unit is a byte.
            self._max_memory_bytes = max(self._max_memory_bytes, usage.ru_maxrss * (1024 if processes.HAS_PROC else 1))

    def _end_the_rest(self) -> None:
        """Kill what the command left behind, and return once all of it has ended."""
        pause_s = 0.001
        while self._reap():
            if self._group is not None:
                self._group.kill()
            processes.kill_descendants()
            self._copy_output()
            time.sleep(pause_s)
            pause_s = min(0.2, pause_s * 2)

    def _copy_output(self) -> None:
        """Write what there is of the output to the log."""
        while True:
            try:
                piece = os.read(self._output, _READ_BYTES)
            except BlockingIOError:
                return
            if not piece:
                return
            self._log.write(piece)
            if len(piece) < _READ_BYTES:
                return

    def _execute(self, supervisor: int, go: int, go_write: int, output: int, errors: int) -> NoReturn:
        """In the child: wait until it is let go, and execute the command. An error goes to the supervisor."""
        try:
            os.setsid()
            processes.die_with(supervisor)
            signal.set_wakeup_fd(-1)
            for number in (*_NOTED, *_IGNORED):
                signal.signal(number, signal.SIG_DFL)
            os.close(go_write)
            null = os.open(os.devnull, os.O_RDONLY)
            for descriptor, standard in ((null, 0), (output, 1), (output, 2)):
                os.dup2(descriptor, standard)
            if os.read(go, 1) == b"g":
                self._enter_and_execute()
        except (OSError, ValueError) as fault:
            os.write(errors, self._can_not_start(fault).encode(errors="replace"))
        finally:
            processes.leave(_CAN_NOT_START)

    def _enter_and_execute(self) -> NoReturn:
        os.chdir(self._workdir)
        os.umask(self._spec["umask"])
        if self._group is not None:
            self._group.enter()
        else:
            limit_process(self._limits)
        command = self._command
        os.execvpe(command[0], command, self._env)  # noqa: S606  the command is a list, which no shell reads

    @property
    def _workdir(self) -> str:
        """The working folder. A relative one is in the folder around the root, wherever that is by now."""
        workdir: str = self._spec["workdir"]
        if os.path.isabs(workdir):
            return workdir
        path = self._path.removesuffix(self._spec["run_path"])
        return os.path.normpath(os.path.join(path, "..", workdir))

    @property
    def _path(self) -> str:
        """The path of the run's folder, wherever that is by now."""
        return path_of(self._folder) or self._spec["path"]

    @property
    def _command(self) -> list[str]:
        """The program and its arguments."""
        script = self._config.get("script")
        if script is None:
            return list(self._config["command"])
        return [os.path.join(self._path, SCRIPT)] if script.startswith("#!") else ["/bin/sh", "-c", script]

    def _can_not_start(self, fault: OSError | ValueError) -> str:
        reason = str(fault)
        if isinstance(fault, OSError):
            # The search of a program ends with the last folder of PATH, which tells nothing.
            is_folder = fault.filename == self._workdir
            place = f"workdir {fault.filename}" if is_folder else self._command[0]
            first_line = self._config.get("script", "").partition("\n")[0]
            if not is_folder and fault.errno == errno.ENOENT and first_line.startswith("#!"):
                place = first_line  # The script is there, and the program is not that its first line names.
            reason = f"{place}: {fault.strerror}"
        return f"the command can't be started: {reason}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _note(number: int, frame: object) -> None:
    """Do nothing: the number of the signal has gone into the pipe."""


def _pipe() -> tuple[int, int]:
    read, write = os.pipe()
    for each in (read, write):
        os.set_blocking(each, False)
    return read, write
