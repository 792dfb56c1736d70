"""The supervisor of a run: a process that executes the run once, from its start to its end.

The spawner imports this module, so it imports little.
"""

import os
import resource
import signal
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from reconciler.engines.local import processes
from reconciler.engines.local.attempt import DEFAULT_GRACE_S, Attempt, Ended, Watch
from reconciler.engines.local.files import (
    FOLDER,
    SCRIPT,
    Damaged,
    exists,
    get,
    holder,
    is_at,
    lock,
    put,
    remove,
    write_flushed,
)
from reconciler.engines.local.limits import Limits, group_for, group_name, remove_left_group
from reconciler.engines.local.log import DEFAULT_BYTES, LogWriter
from reconciler.engines.local.tombstones import TOMBSTONE

DONE, NO_PROCESS, NO_ROOM = 0, 75, 76
"""How a supervisor ends: the run needs no other supervisor; or nothing was started, since no child could be forked, or
since the start could not be recorded.
"""


class Order(NamedTuple):
    """What the spawner is told about a run.

    `path` is the folder of the run, relative to the root: jobs/JOB/RUN. `env` is the whole environment of the command,
    with the values of secrets. `op` is that of the call which the environment is for: a run that bears another one is
    not executed. "" stands for any.
    """

    path: str
    env: Mapping[str, str]
    op: str = ""


def supervise(root: int, root_path: str, order: Order) -> int:
    """Execute a run to its end, unless another process did or does. Returns `DONE`, `NO_PROCESS` or `NO_ROOM`.

    `root` is an open descriptor. Raises `OSError` if the folder of the run can't be read.
    """
    watch = Watch()
    folder = os.open(order.path, FOLDER, dir_fd=root)
    if exists(folder, "started.json") and not exists(folder, "abort.json"):
        # Whoever looks would take a lock of this process for that of a supervisor, and the run for an active one.
        if not holder(folder, "lock").is_alive:
            _remove_group_of(root, folder)
        return DONE
    lock_file = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    # From here on, SIGTERM makes this process look for `abort.json`, so the signal must not end it any more.
    if not lock(lock_file) or not is_at(os.path.join(root_path, order.path), folder):
        return DONE
    if exists(folder, "ended.json") or exists(folder, TOMBSTONE):
        return DONE
    identity, spec = get(root, "root.json"), get(folder, "spec.json")
    if identity is None or spec is None:
        return DONE
    if spec["root"] != identity["id"]:
        return DONE
    mark = processes.mark_of(identity["id"], spec["job_id"], spec["run_id"])
    if started := get(folder, "started.json"):
        if exists(folder, "abort.json"):
            _end_survivors(folder, spec, started, mark)
        _remove_group_of(root, folder)
        return DONE
    if exists(folder, "abort.json"):
        put(folder, "ended.json", _document(Ended(reason="aborted"), [], 0.0))
        return DONE
    if order.op not in ("", spec["marks"]["op"]):
        return DONE
    processes.adopt_descendants()
    places = {"path": os.path.join(root_path, order.path), "run_path": order.path}
    return _Run(folder, {**spec, **places}, {**order.env, processes.MARK: mark}, watch).execute()


def _remove_group_of(root: int, folder: int) -> None:
    """Remove the control group of a run of this root that a killed supervisor has left."""
    identity, spec = get(root, "root.json"), get(folder, "spec.json")
    if identity is not None and spec is not None and spec["root"] == identity["id"]:
        mark = processes.mark_of(identity["id"], spec["job_id"], spec["run_id"])
        remove_left_group(Limits(**spec.get("limits", {})), group_name(mark))


class _Run:
    """A run under the lock of this process."""

    def __init__(self, folder: int, spec: Mapping[str, Any], env: Mapping[str, str], watch: Watch) -> None:
        self._folder = folder
        self._spec = spec
        self._config: Mapping[str, Any] = spec["config"]
        self._env = env
        self._watch = watch
        self._log = LogWriter(folder, spec.get("log_bytes", DEFAULT_BYTES))
        self._limits = Limits(**spec.get("limits", {}))
        self._group = group_for(self._limits, group_name(env[processes.MARK]))

    def execute(self) -> int:
        """Make attempts until one completes, or no other one may follow."""
        began_s = time.monotonic()
        job_timeout_s = self._config.get("jobTimeout")
        deadline_s = None if job_timeout_s is None else began_s + job_timeout_s
        ends: list[Ended] = []
        began_at_s = time.time()
        try:
            self._write_script()
        except OSError:
            return self._given_up(NO_ROOM)
        while True:
            attempt = Attempt(self._folder, self._spec, self._env, self._watch, self._log, self._limits, self._group)
            if not attempt.fork():
                if not ends:
                    return self._given_up(NO_PROCESS)
                ends.append(Ended(reason="no process could be started for another attempt"))
                break
            try:
                put(self._folder, "started.json", self._started(began_at_s, len(ends) + 1, attempt.pid))
            except OSError as fault:
                attempt.cancel()
                ends.append(Ended(reason=f"not started, because that could not be recorded: {fault.strerror}"))
                if len(ends) == 1 and not exists(self._folder, "started.json"):
                    return self._given_up(NO_ROOM)
                break
            ends.append(attempt.let_go(deadline_s))
            if not self._may_follow(ends):
                break
        self._log.close()
        took_s = time.monotonic() - began_s
        lost = {"lost_log_bytes": self._log.lost_bytes}
        _record(self._folder, {**_document(ends[-1], ends, took_s), **lost, **self._used()})
        return self._given_up(DONE)

    def _write_script(self) -> None:
        """Write a script that names its program in its first line, for the kernel to execute. Raises `OSError`."""
        script = self._config.get("script", "")
        if script.startswith("#!"):
            remove(self._folder, SCRIPT)
            write_flushed(self._folder, SCRIPT, script.encode())
            os.chmod(SCRIPT, 0o700, dir_fd=self._folder)

    def _given_up(self, code: int) -> int:
        """Remove the control group, and return the code."""
        if self._group is not None:
            self._group.remove()
        return code

    def _used(self) -> dict[str, Any]:
        """Return what the control group knows better than the sum of the processes whose end was seen."""
        if self._group is None:
            return {}
        used = {"cpu_s": self._group.cpu_s, "max_memory_bytes": self._group.max_memory_bytes}
        return {name: value for name, value in used.items() if value is not None}

    def _may_follow(self, ends: list[Ended]) -> bool:
        last, retry = ends[-1], self._config.get("retry", {})
        if last.is_complete or last.is_final or len(ends) > retry.get("times", 0):
            return False
        codes = retry.get("exitCodes")
        return not exists(self._folder, "abort.json") and (codes is None or last.exit_code in codes)

    def _started(self, began_at_s: float, number: int, pid: int) -> dict[str, Any]:
        """Return what `started.json` says of an attempt. The run began with its first one."""
        return {
            "attempt": number,
            "at_s": began_at_s,
            "boot": processes.boot_id(),
            "node": os.uname().nodename,
            "pid": pid,
            "supervisor": os.getpid(),
        }


def _end_survivors(folder: int, spec: Mapping[str, Any], started: Mapping[str, Any], mark: str) -> None:
    """End what a killed supervisor left behind, after an abort was asked for.

    All processes are stopped before the first one gets the signal. Otherwise, a shell whose command has ended by the
    signal could start its next command before its own signal comes.
    """
    abort = spec["config"].get("abort", {})
    until_s = time.monotonic() + abort.get("grace", DEFAULT_GRACE_S)
    signum = signal.Signals[f"SIG{abort.get('signal', 'TERM')}"]
    asked: set[int] = set()
    while started["boot"] == processes.boot_id() and (pids := set(processes.survivors().get(mark, ()))):
        is_late = time.monotonic() >= until_s
        if is_late or pids - asked:
            pids = processes.stop_marked(mark)
            if is_late:
                processes.send_to_marked(mark, pids, signal.SIGKILL)
            else:
                processes.send_to_marked(mark, pids - asked, signum)
            processes.send_to_marked(mark, pids, signal.SIGCONT)
            asked |= pids
        time.sleep(0.05)
    _record(folder, _document(Ended(reason="aborted"), [], None))


def _record(folder: int, document: Mapping[str, Any]) -> None:
    """Record the end of a run, and try again for as long as the disk is full.

    A run whose folder was removed has no place for its end.
    """
    pause_s = 0.1
    while True:
        try:
            return put(folder, "ended.json", document)
        except FileNotFoundError:
            return None
        except OSError:
            time.sleep(pause_s)
            pause_s = min(10.0, pause_s * 2)


def _document(end: Ended, ends: list[Ended], took_s: float | None) -> dict[str, Any]:
    return {
        "status": end.status,
        "reason": end.reason,
        "exit_code": end.exit_code,
        "signal": end.signal,
        "at_s": time.time(),
        "took_s": took_s,
        "cpu_s": sum(each.cpu_s for each in ends),
        "max_memory_bytes": max((each.max_memory_bytes for each in ends), default=0),
        "attempts": [each.in_short for each in ends],
    }


def _report(order: Order, fault: Exception) -> None:
    os.write(2, f"{time.strftime('%FT%TZ', time.gmtime())} {order.path}: {fault!r}\n".encode())


def run_and_exit(root: int, root_path: str, order: Order) -> NoReturn:
    """Supervise in a process that was forked for it, and end the process."""
    code = NO_ROOM
    try:
        os.setsid()
        # A core would hold the values of secrets.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        code = supervise(root, root_path, order)
    except FileNotFoundError:
        code = DONE  # The folder of the run was removed.
    except OSError as fault:
        _report(order, fault)
    except (Damaged, KeyError) as fault:
        _report(order, fault)
        code = DONE  # Another supervisor would not find more.
    finally:
        processes.leave(code)
