"""Work for several threads, on a machine that may not have as many threads as are wanted."""

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
"""The open files that are needed besides connections: journals, a new state file, and the files for git."""

_ENOUGH_FILES = 4096
"""The limit on open files that is always enough."""


class WorkerPool:
    """Up to `size` threads that run tasks in the order of submission.

    A thread is started for each task until there are `size` threads. If the machine can start no more threads, the
    running threads do all the tasks. If the machine can start none at all, the threads that wait for results do the
    tasks (`help`).
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
        """Run `work` with these arguments, after all earlier tasks. Returns the future of the result."""
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
        """Run one waiting task, if the pool could start no thread. Does nothing otherwise."""
        if not self._threads:
            with suppress(Empty):
                task = self._tasks.get_nowait()
                if task is not None:
                    task.carry_out(BaseException)

    def result(self, future: "Future[_Result]") -> _Result:
        """The result of a task. Waits for the task, and raises the error that the task raised."""
        while not self._threads and not future.done():
            self.help()
        return future.result()

    def close(self, *, cancel: bool = False) -> None:
        """Wait until all tasks have ended. With `cancel`, drop the tasks that have not begun."""
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
        """Run the task, and set the result or the error of its future.

        An error that is not an `Exception`, such as `KeyboardInterrupt`, is also raised here if it is of the type
        `passes`.
        """
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
    """The results of `work` for all items, in the items' order. Raises the error of the first item that failed."""
    pool = WorkerPool(max(1, size))
    try:
        futures = [pool.submit(work, item) for item in items]
        return [pool.result(future) for future in futures]
    finally:
        pool.close(cancel=True)


def affordable_connections(wanted: int, files_each: int) -> int:
    """The number of connections to open: `wanted`, or fewer where open files are scarce, and at least 1.

    A connection needs `files_each` open files. This function first raises the soft limit on open files, as far as the
    hard limit allows.
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
