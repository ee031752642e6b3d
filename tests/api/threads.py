"""The front's part in tests that step the follower by hand: statements run in threads of the test,
on the follower's own tables, in place of worker processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from serving.envelope import Code, RequestError
from serving.follower.follow import Follower
from serving.follower.process import columns
from serving.front import board
from serving.query import Query, Reply, Whole
from serving.worker.job import Job
from serving.worker.tables import Tables


class ThreadedFront:
    """What `serving.front.front.Front` is to the routes."""

    def __init__(
        self,
        tables: Tables,
        follower: Follower,
        clock: Callable[[], float],
        *,
        workers: int = 2,
        queue: int = 64,
    ) -> None:
        self._tables, self._follower, self._clock = tables, follower, clock
        self._pool = ThreadPoolExecutor(workers)
        self._room = workers + queue
        self._jobs: set[Job] = set()

    async def answer(self, query: Query, user: str, timeout_ms: int) -> Reply:  # noqa: ARG002
        if len(self._jobs) >= self._room:
            message = f"at most {self._room} queries may run or wait; try again in a second"
            raise RequestError(Code.QUEUE_FULL, message)
        job = Job(self._tables, query, self._clock)
        self._jobs.add(job)
        running = asyncio.get_running_loop().run_in_executor(self._pool, self._run, job)
        try:
            done, _ = await asyncio.wait({running}, timeout=timeout_ms / 1000)
            if done:
                return running.result()
            message = f"statement must end within {timeout_ms} ms; it was stopped"
            raise RequestError(Code.DEADLINE, message)
        finally:
            while not running.done():
                job.stop(RequestError(Code.DEADLINE, "stopped"))
                await asyncio.sleep(0.01)
            self._jobs.discard(job)

    def _run(self, job: Job) -> Reply:
        sink = Whole()
        job.run(sink)
        return sink.reply()

    def views(self) -> dict[str, dict[str, Any]]:
        covered = self._tables.state.views
        shown = {
            view.row.name: columns(view.shown)
            for stream in self._follower.streams.values()
            for view in stream.views.values()
        }
        return {
            each.view: board.view_facts(each.__dict__, shown.get(each.view, {}))
            for each in covered.values()
        }

    def streams(self) -> list[dict[str, Any]]:
        streams = self._follower.streams
        return [board.stream_facts(streams[name].told().__dict__) for name in sorted(streams)]

    def unready(self) -> list[str]:
        return self._follower.unready(self._clock())

    def waiting(self) -> dict[str, str]:
        return self._follower.waiting()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
