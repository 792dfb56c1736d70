"""Work for several threads, on a machine that may have fewer to give than were asked for."""

import resource
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from os import listdir
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_SPARE_FILES = 12
"""Open files that are needed beside connections: the journal and its successor, a new state, what git is given."""

_ENOUGH_FILES = 4096


class WorkerPool:
    """Up to `size` threads that carry out tasks in the order in which they are given.

    A thread is started for each task until there are enough. If the machine gives no more of them, those that there
    are do it all; if it gave none, the tasks are done by whoever waits for them (`help`).
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._threads: list[Thread] = []

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close(cancel=exception[0] is not None)

    def submit(self, work: Callable[..., _Result], *arguments: Any) -> "Future[_Result]":
        """Have it done, after all that was given before."""
        future: Future[_Result] = Future()
        self._tasks.put(_Task(future, work, arguments))
        if len(self._threads) < self._size:
            thread = Thread(target=self._work, name="pool", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                self._size = len(self._threads)
            else:
                self._threads.append(thread)
        return future

    def help(self) -> None:
        """Without any thread, carry out one task that waits; else do nothing."""
        if not self._threads:
            with suppress(Empty):
                task = self._tasks.get_nowait()
                if task is not None:
                    task.carry_out(BaseException)

    def result(self, future: "Future[_Result]") -> _Result:
        """What came of a task. Raises what the task raised."""
        while not self._threads and not future.done():
            self.help()
        return future.result()

    def close(self, *, cancel: bool = False) -> None:
        """Wait for all tasks to end; with `cancel`, those that have not begun are dropped."""
        with suppress(Empty):
            while cancel or not self._threads:
                task = self._tasks.get_nowait()
                if task is not None and not task.future.cancel():
                    task.carry_out(BaseException)
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task.carry_out(())


class _Task:
    def __init__(self, future: "Future[Any]", work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.future = future
        self._work = work
        self._arguments = arguments

    def carry_out(self, passes: Any) -> None:
        """Do it, and keep what comes of it. Of what is no `Exception`, that of the type `passes` is raised here too."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self._work(*self._arguments)
        except Exception as fault:  # noqa: BLE001  raised again where the result is asked for
            self.future.set_exception(fault)
        except BaseException as fault:
            self.future.set_exception(fault)
            if passes:
                raise
        else:
            self.future.set_result(result)


def map_in_order(work: Callable[[_Item], _Result], items: Iterable[_Item], size: int) -> list[_Result]:
    """The results of all items, in their order, by up to `size` threads at once. Raises what the first one raised."""
    pool = WorkerPool(max(1, size))
    try:
        futures = [pool.submit(work, item) for item in items]
        return [pool.result(future) for future in futures]
    finally:
        pool.close(cancel=True)


def affordable_connections(wanted: int, files_each: int) -> int:
    """How many connections to have at most, of `files_each` open files each: `wanted`, or as many as are left, or 1.

    Raises the limit on open files first, as far as that is allowed without more rights.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _ENOUGH_FILES and (hard == resource.RLIM_INFINITY or hard > soft):
        enough = _ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH_FILES)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))
            soft = enough
    if soft == resource.RLIM_INFINITY:
        return wanted
    try:
        used = len(listdir("/dev/fd"))
    except OSError:
        used = 0
    return max(1, min(wanted, (soft - used - _SPARE_FILES) // files_each))
