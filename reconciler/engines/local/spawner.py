"""The spawner: the one process of a root that forks. It starts a supervisor for each run, and queues runs for slots.

It is executed anew, has one thread, and imports little. It ends once its queue is empty, its supervisors have ended and
nobody is connected.
"""

import gc
import json
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from reconciler.engines.local import processes
from reconciler.engines.local.files import FOLDER, holder_of, is_at, lock, put, remove
from reconciler.engines.local.supervisor import NO_PROCESS, NO_ROOM, Order, run_and_exit
from reconciler.engines.local.tombstones import sweep

READY, TAKEN, FAILED = 0, 3, 1
"""How the program ends once it has left the spawner behind, if another spawner has the root, and if it can't start."""

PROTOCOL = 2
"""The version of the messages on the socket."""

SOCKET = "spawner.sock"
TROUBLE = "spawner.trouble"
LOCK = "spawner.lock"
QUEUE = "queue"
SLOTS = "slots"

_RETRY_EVERY_S = 1.0
"""How long the spawner waits after the kernel had no room for a process, or the disk none for a file."""

_LOOK_EVERY_S = 0.2
"""How often the spawner looks for free slots that supervisors of an earlier spawner give back."""

_FIRST_WITHIN_S = 10.0
"""How long a new spawner waits for the command that has started it."""

_READ_BYTES = 1 << 16
_TROUBLES = {
    NO_PROCESS: "no process can be started: the limit of processes or the memory of this machine is used up",
    NO_ROOM: "the start of a run can't be recorded: the disk is full or fails",
}


class Manner(StrEnum):
    """What a command asks of the spawner about a run.

    A run that is announced is about to be accepted, and counts as started if the connection of its command breaks.
    `START` puts an accepted run into the queue. `URGENT` starts a supervisor without a slot.
    """

    ANNOUNCE = "announce"
    START = "start"
    URGENT = "urgent"


class _Client:
    """The connection of a command: what of its last message has come, and the runs that the command has announced."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.rest = bytearray()
        self.announced: dict[str, Order] = {}


class Spawner:
    """The queue of a root, its slots, and the supervisors that this process has forked."""

    def __init__(self, root_path: str, root: int, listener: socket.socket) -> None:
        """`root` is an open descriptor of the root, which is also the working directory."""
        self._root_path = root_path
        self._root = root
        self._listener = listener
        self._clients: dict[int, _Client] = {}
        self._queue: dict[str, Order] = {}
        self._running: dict[int, tuple[Order, int]] = {}
        """The order and the slot of each supervisor that this process has forked, by process id."""
        self._slots = 1
        self._slots_file = os.open(SLOTS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._not_before_s = 0.0
        self._stay_until_s = time.monotonic() + _FIRST_WITHIN_S
        self._trouble = ""
        self._has_queued = False
        self._poll = select.poll()
        self._woken, self._wake = os.pipe()
        for each in (self._woken, self._wake):
            os.set_blocking(each, False)

    def serve(self) -> None:
        """Work until nothing is left to do, or the root is gone."""
        processes.boot_id()  # read once for all supervisors
        gc.freeze()  # A collection in a supervisor would copy each page that it shares with this process.
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self._listener.setblocking(False)
        for each in (self._listener.fileno(), self._woken):
            self._poll.register(each, select.POLLIN)
        while True:
            self._reap()
            self._start_what_fits()
            if self._is_done():
                break
            if self._queue and not is_at(self._root_path, self._root):
                break  # The root was moved or removed. What is queued there is started from where it is found.
            self._wait()
        if not self._queue:
            remove(self._root, QUEUE)
        self._listener.close()

    def _is_done(self) -> bool:
        """Return whether this process may end. What `keepFor` and `keepRuns` say is done first."""
        if self._has_work() or time.monotonic() < self._stay_until_s:
            return False
        try:
            return all(not self._has_work() for _ in sweep(self._root, time.time()))
        except OSError:
            return True  # The root was removed.

    def _has_work(self) -> bool:
        """Return whether a run is queued or executes, or a command is connected or about to be."""
        return bool(self._queue or self._running or self._clients or select.select([self._listener], [], [], 0)[0])

    def _wait(self) -> None:
        now_s = time.monotonic()
        if self._queue:
            wait_s = max(_LOOK_EVERY_S, self._not_before_s - now_s)
        elif self._clients or self._running:
            wait_s = None  # Nothing happens without a message or a signal.
        else:
            wait_s = max(0.0, self._stay_until_s - now_s)
        for descriptor, _ in self._poll.poll(None if wait_s is None else wait_s * 1000 + 1):
            if descriptor == self._woken:
                self._drain()
            elif descriptor == self._listener.fileno():
                self._accept()
            else:
                self._read(descriptor)

    def _drain(self) -> None:
        try:
            os.read(self._woken, 4096)
        except BlockingIOError:
            pass

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:  # it has gone, or no descriptor is left
            return
        client.settimeout(5.0)
        self._stay_until_s = 0.0
        self._clients[client.fileno()] = _Client(client)
        self._poll.register(client.fileno(), select.POLLIN)

    def _read(self, descriptor: int) -> None:
        client = self._clients[descriptor]
        rest = client.rest
        try:
            piece = client.connection.recv(_READ_BYTES)
            rest += piece
            while (end := rest.find(b"\n")) >= 0:
                message = bytes(rest[:end])
                del rest[: end + 1]
                client.connection.sendall(self._answer(client, message))
        except (OSError, ValueError, KeyError, TypeError):
            piece = b""
        if not piece:
            self._poll.unregister(descriptor)
            del self._clients[descriptor]
            client.connection.close()
            self._take_over(client)

    def _answer(self, client: _Client, message: bytes) -> bytes:
        """Take one message, and return the answer. Raises `ValueError`, `KeyError` or `TypeError` for a damaged one."""
        document = json.loads(message)
        if document["protocol"] != PROTOCOL:
            return b"protocol\n"
        self._slots = max(1, int(document["slots"]))
        if not document.get("path"):
            return b"ok\n"
        order = Order(document["path"], document["env"], document["op"])
        manner = Manner(document["manner"])
        try:
            self._keep_queue()
        except OSError as fault:
            return f"{fault.strerror}\n".encode()
        if manner is Manner.ANNOUNCE:
            client.announced[order.path] = order
        else:
            client.announced.pop(order.path, None)
            self._enqueue(order, is_urgent=manner is Manner.URGENT)
        return b"ok\n"

    def _keep_queue(self) -> None:
        """Leave word on disk that runs may wait here, before the first one is accepted. Raises `OSError`."""
        if not self._has_queued:
            os.close(os.open(QUEUE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=self._root))
            os.fsync(self._root)
            self._has_queued = True

    def _enqueue(self, order: Order, *, is_urgent: bool) -> None:
        if is_urgent and self._fork(order, -1):
            return
        if is_urgent or not self._is_running(order):
            self._queue[order.path] = order

    def _is_running(self, order: Order) -> bool:
        """Return whether a supervisor has this order. One that has an order of another call may execute nothing."""
        return any((order.path, order.op) == (running.path, running.op) for running, _ in self._running.values())

    def _take_over(self, client: _Client) -> None:
        """Queue the runs that a command has announced and accepted, if the command was killed before it said so.

        A run that was not accepted has no folder. A run of another call of the same run id has another op, and is left
        to whoever sends that call: its environment is not known here.
        """
        for order in client.announced.values():
            try:
                os.stat(order.path, dir_fd=self._root)
            except OSError:
                continue
            if not self._is_running(order):
                self._queue.setdefault(order.path, order)

    def _start_what_fits(self) -> None:
        """Start supervisors from the front of the queue, as long as a slot is free."""
        if not self._queue or time.monotonic() < self._not_before_s:
            return
        taken = {slot for _, slot in self._running.values()}
        for slot in range(self._slots):
            if not self._queue or not is_at(self._root_path, self._root):
                return
            if slot not in taken and not holder_of(self._slots_file, slot).is_alive:
                order = next(iter(self._queue.values()))
                if not self._fork(order, slot):
                    return
                del self._queue[order.path]

    def _fork(self, order: Order, slot: int) -> bool:
        try:
            pid = os.fork()
        except OSError:
            self._put_off(NO_PROCESS)
            return False
        if pid == 0:
            self._leave(slot)
            run_and_exit(self._root, self._root_path, order)
        self._running[pid] = order, slot
        return True

    def _leave(self, slot: int) -> None:
        """In the supervisor: close what belongs to the spawner, and take the slot."""
        signal.set_wakeup_fd(-1)
        kept = {0, 1, 2, self._root, self._slots_file}
        for descriptor in range(3, max(kept | {self._wake, self._listener.fileno(), *self._clients}) + 1):
            if descriptor not in kept:
                try:
                    os.close(descriptor)
                except OSError:
                    pass
        if slot >= 0:
            lock(self._slots_file, slot)

    def _reap(self) -> None:
        """Take the ends of supervisors. A run that could not be started goes back to the front of the queue."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            order, _ = self._running.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            if code < 0:
                # It may have been killed before it started the run. If not, the next one finds that out and ends.
                self._queue.setdefault(order.path, order)
            elif code in _TROUBLES:
                self._queue = {order.path: order, **self._queue}
                self._put_off(code)
            elif self._trouble:
                self._trouble = ""
                remove(self._root, TROUBLE)

    def _put_off(self, code: int) -> None:
        """Start nothing for a while, and let observers say why."""
        self._not_before_s = time.monotonic() + _RETRY_EVERY_S
        if self._trouble != _TROUBLES[code]:
            self._trouble = _TROUBLES[code]
            try:
                put(self._root, TROUBLE, {"trouble": self._trouble})
            except OSError:
                self._trouble = ""  # The disk is full. The next try writes the file.


def main(root_path: str) -> int:
    """Leave a spawner behind, which has the root for itself. Returns `READY`, `TAKEN` or `FAILED`."""
    read, write = os.pipe()
    if os.fork():
        os.close(write)
        answer = os.read(read, 1)
        return answer[0] if answer else FAILED
    os.close(read)
    try:
        with _listening(root_path) as found:
            if found is None:
                os.write(write, bytes([TAKEN]))
            else:
                os.write(write, bytes([READY]))
                os.close(write)
                Spawner(root_path, *found).serve()
    except Exception:  # noqa: BLE001  the process ends here, and this is all that is known afterwards
        import traceback

        os.write(2, f"{time.strftime('%FT%TZ', time.gmtime())} {traceback.format_exc()}\n".encode())
    finally:
        processes.leave(0)


@contextmanager
def _listening(root_path: str) -> Iterator[tuple[int, socket.socket] | None]:
    """Yield an open descriptor of the root and the socket there; None if another process has the root."""
    os.umask(0o077)
    os.chdir(root_path)
    root = os.open(".", FOLDER)
    lock_file = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if not lock(lock_file):
        yield None
        return
    remove(root, TROUBLE)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Relative to the working directory, since the path of a socket may have 107 bytes only.
    remove(root, f"{SOCKET}.new")
    listener.bind(f"{SOCKET}.new")
    listener.listen(128)
    os.rename(f"{SOCKET}.new", SOCKET)
    yield root, listener
