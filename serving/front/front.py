"""The asyncio side of a query: a bounded queue, a deadline, and a client that may leave.

The loop only waits; jobs run in a few threads, first come, first served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from serving import coverage
from serving.coverage import Coverage
from serving.envelope import Answer, Code, RequestError
from serving.follower.follow import Follower
from serving.worker.job import Job, Query
from serving.worker.tables import Tables

WORKERS = 2
QUEUE = 64
AGAIN_SECONDS = 0.05  # between interrupts of a job that goes on
GRACE_SECONDS = 1.0  # how long after its deadline a job may take to stop


class Front:
    """Takes queries for `tables`; knows what `follower` says of them."""

    def __init__(
        self,
        tables: Tables,
        follower: Follower,
        clock: Callable[[], float],
        *,
        workers: int = WORKERS,
        queue: int = QUEUE,
    ) -> None:
        self.tables, self.follower, self.clock = tables, follower, clock
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="query")
        self._room = workers + queue
        self._closed = False
        self._jobs: set[Job] = set()  # that run or wait
        self._stopping: set[asyncio.Task[None]] = set()

    async def answer(self, query: Query, timeout_ms: int) -> Answer:
        """The answer, or a `RequestError`; the time in the queue counts. A caller that is
        cancelled stops the query."""
        if self._closed:
            raise _ending()
        if len(self._jobs) >= self._room:
            message = f"at most {self._room} queries may run or wait; try again in a second"
            raise RequestError(Code.QUEUE_FULL, message)
        job = Job(self.tables, query, self.clock)
        self._jobs.add(job)
        running = asyncio.get_running_loop().run_in_executor(self._pool, job.run)
        running.add_done_callback(lambda done: self._ended(job, done))
        try:
            done, _ = await asyncio.wait({running}, timeout=timeout_ms / 1000)
        except asyncio.CancelledError:
            self._stop(job, running, RequestError(Code.DEADLINE, "client left before the answer"))
            raise
        if done:
            if running.cancelled():
                raise _ending()
            return running.result()
        message = f"statement must end within {timeout_ms} ms; it was stopped"
        late = RequestError(Code.DEADLINE, message)
        await asyncio.wait({self._stop(job, running, late)}, timeout=GRACE_SECONDS)
        raise late

    async def coverage(self) -> dict[str, Coverage]:
        """Of all views, by lower-case name; does not wait for queries."""
        return await asyncio.to_thread(self._coverage)

    def close(self) -> None:
        """Take nothing more, and stop what runs."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        for job in list(self._jobs):
            job.stop(_ending())

    def _coverage(self) -> dict[str, Coverage]:
        cursor = self.tables.cursor()
        try:
            return coverage.read(cursor)
        finally:
            cursor.close()

    def _ended(self, job: Job, running: asyncio.Future[Answer]) -> None:
        self._jobs.discard(job)
        if not running.cancelled():
            running.exception()  # seen, also when nobody waits for it any more

    def _stop(
        self, job: Job, running: asyncio.Future[Answer], why: RequestError
    ) -> asyncio.Task[None]:
        async def stop() -> None:
            while not running.done():
                job.stop(why)
                await asyncio.wait({running}, timeout=AGAIN_SECONDS)

        task = asyncio.create_task(stop())
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)
        return task


def _ending() -> RequestError:
    return RequestError(Code.NOT_READY, "this server is ending; ask again")
