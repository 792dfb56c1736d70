"""The list of jobs, read page by page until the list is known to be complete.

A page is requested by its offset, and the list may change between two requests. If a job is deleted, all later jobs
move up by one place. The job that would have come first on the next page is then on the page that was read already, so
neither page shows it. So each page is requested to begin with the last job of the page before. If the page does not,
the list has changed, and is read again. This does not work if the service rounds offsets to pages of its own, or if a
page holds one job. Such a list is read by plain offsets until two readings in a row agree.

The size that a service reports may be missing or wrong. The list is complete if the service reports its end and no
other field contradicts that, or if a page holds no new job.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from itertools import islice
from typing import NamedTuple

from reconciler.host.threads import WorkerPool
from reconciler.model.errors import EngineError, ListIncomplete

PAGE_SIZE = 100
PAGE_LIMIT = 10_000
"""The most pages that one reading of the list requests."""

_OVERLAPS = (1, 1, 0, 0, 0)
"""The number of jobs that a page shares with the page before, for each attempt to read the list."""

_MOVED = "it changed while it was read"

Job = Mapping[str, object]


class Page(NamedTuple):
    """One page of the list.

    `total` and `has_next` are about the whole list, and None if the service does not state them.
    """

    jobs: Sequence[tuple[str, Job]]
    total: int | None = None
    has_next: bool | None = None


def read_list(fetch: Callable[[int], Page], parallelism: int) -> Iterator[tuple[str, Job]]:
    """Yield each listed job with its id. Each id comes once, as soon as its page is there.

    `fetch` returns the page at an offset, and is called from up to `parallelism` threads. The errors of `fetch` are
    raised. Raises `ListIncomplete`, after all jobs that were found, if the list may be incomplete.
    """
    given: set[str] = set()
    before: list[str] | None = None
    fault = _MOVED
    for overlap in _OVERLAPS:
        with closing(_Reading(fetch, parallelism, overlap)) as reading:
            for job_id, job in reading.jobs():
                if job_id not in given:
                    given.add(job_id)
                    yield job_id, job
        ids = list(reading.ids)
        agrees = ids == before
        # No job can get lost between pages if all jobs came on one page.
        if not reading.fault and (reading.overlap or reading.filled <= 1 or agrees):
            return
        fault = reading.fault or _MOVED
        if agrees:
            break
        before = None if overlap else ids
    raise ListIncomplete(
        f"the list of jobs may not be whole: {fault}", "try again later, or name the jobs that are missing"
    )


class _Reading:
    """One reading of the list, from its first page on.

    `fault` is the reason why the list may be incomplete, or "". `filled` counts the pages that held a new job.
    """

    def __init__(self, fetch: Callable[[int], Page], parallelism: int, overlap: int) -> None:
        self._pages = _Pages(fetch, parallelism)
        self.overlap = overlap
        self.ids: dict[str, None] = {}
        self.filled = 0
        self.fault = ""
        self._total: int | None = None
        self._has_next: bool | None = None

    def jobs(self) -> Iterator[tuple[str, Job]]:
        """Yield each job as soon as its page is read, until the end of the list or the first sign of a change."""
        tail = ""
        for _ in range(PAGE_LIMIT):
            shared = self.overlap if self.ids else 0
            try:
                page = self._pages.at(len(self.ids) - shared)
            except EngineError as fault:
                if not shared:
                    raise
                self.fault = fault.message
                return
            if page.total is not None:
                self._total = page.total
            fresh = {job_id: job for job_id, job in page.jobs if job_id not in self.ids}
            if not fresh:
                self.fault = self._fault_at_the_end(page, tail)
                return
            self.ids |= dict.fromkeys(fresh)
            yield from fresh.items()
            if len(fresh) != len(page.jobs) - shared or (shared and page.jobs[0][0] != tail):
                self.fault = _MOVED
                return
            if not self.filled:
                self._look_ahead(page)
            self.filled += 1
            tail = page.jobs[-1][0]
            self._has_next = page.has_next
            if page.has_next is False and (self._total is None or self._total <= len(self.ids)):
                return
        raise EngineError(f"the list of jobs does not end after {PAGE_LIMIT} pages")

    def close(self) -> None:
        """Drop the pages that were requested ahead."""
        self._pages.close()

    def _look_ahead(self, first: Page) -> None:
        if len(first.jobs) == 1:
            self.overlap = 0  # a page of one job can't hold both the last job and a new one
        step = len(first.jobs) - self.overlap
        self._pages.expect(range(step, (first.total or 0) - self.overlap, step))

    def _fault_at_the_end(self, page: Page, tail: str) -> str:
        """Return the reason why a page without a new job may not be the end of the list, or ""."""
        count, total = len(self.ids), self._total
        if total == count:
            return ""
        if total is not None and total > count:
            return f"the service says that it has {total} jobs, and lists {count}"
        ids = [job_id for job_id, _ in page.jobs]
        if page.has_next or (self._has_next and page.has_next is None and not ids):
            return f"the service says that it has more jobs than the {count} that it lists"
        if self.overlap and count and not ids:
            return _MOVED
        if ids not in ([], [tail]):
            return "the service answers for another page with the same jobs"
        return ""


class _Pages:
    """Pages by their offset. Up to `parallelism` expected pages are requested before `at` asks for them."""

    def __init__(self, fetch: Callable[[int], Page], parallelism: int) -> None:
        self._fetch = fetch
        self._parallelism = parallelism
        self._pool = WorkerPool(parallelism)
        self._offsets: Iterator[int] = iter(())
        self._ahead: deque[tuple[int, Future[Page]]] = deque()

    def expect(self, offsets: Iterable[int]) -> None:
        """Request the pages at these offsets ahead, in this order."""
        self._offsets = iter(offsets)

    def at(self, offset: int) -> Page:
        """Return the page that begins at the offset."""
        wanted = islice(self._offsets, self._parallelism - len(self._ahead))
        self._ahead.extend((start, self._pool.submit(self._fetch, start)) for start in wanted)
        if self._ahead and self._ahead[0][0] == offset:
            return self._pool.result(self._ahead.popleft()[1])
        # The pages do not begin at the expected offsets.
        self._offsets = iter(())
        self._ahead.clear()
        return self._fetch(offset)

    def close(self) -> None:
        """Request no more pages, and wait for the requests that are on their way."""
        self._pool.close(cancel=True)
