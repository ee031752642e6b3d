"""What the routes ask: an answer to a query, and what there is.

    request -> cache -> bounded queue, lanes -> worker -> answer

The loop only waits and copies; statements run in other processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from serving.envelope import Code, RequestError
from serving.front import board, cache, refusals
from serving.front.cache import Cache
from serving.front.connected import ClientLeft
from serving.front.lanes import Job, Lanes
from serving.front.past import Past
from serving.front.pool import Pool
from serving.query import Query, Reply

QUEUE = 256


class Front:
    """Takes queries for the workers of a pool. `killed` is told why a worker was, `waits` how many
    queries wait."""

    def __init__(
        self,
        pool: Pool,
        *,
        queue: int = QUEUE,
        killed: Callable[[str], None] = lambda _: None,
        waits: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._pool, self._queue, self._waits = pool, queue, waits
        self._cache = Cache()
        self.lanes, self._past = Lanes(pool, killed), Past(pool)
        self._past_lanes = Lanes(self._past, killed)
        pool.changed = self._pump
        self._closed = False

    async def answer(self, query: Query, user: str, timeout_ms: int) -> Reply:
        """The answer, or a `RequestError`; the time in the queue counts. A caller that is
        cancelled stops the query, unless another waits for the same."""
        if self._closed:
            raise refusals.ending()
        until = asyncio.get_running_loop().time() + timeout_ms / 1000
        key = cache.key(query)
        state = self._pool.board
        found = self._cache.find(key, state)
        if found is not None:
            return replace(found, source="cache")
        shared = self._cache.making(key, query, state)
        if shared is not None:
            reply = await self._wait(shared, until, timeout_ms)
            if shared.take():
                return replace(reply, source="shared")
        self._admit(user)
        lanes = self.lanes if query.as_of is None else self._past_lanes
        job = Job(query, user, until, lanes)
        self._cache.begin(key, job, state)
        lanes.put(job)
        self._pump()
        reply_or_none: Reply | None = None
        try:
            reply_or_none = await self._wait(job, until, timeout_ms)
            return reply_or_none
        finally:
            job.orphaned = reply_or_none is None
            self._cache.end(key, job, reply_or_none)

    def _admit(self, user: str) -> None:
        """Whether one more query may wait. Where all places are taken, each user has a share."""
        if not self._pool.manned and not self._pool.board.number:
            raise RequestError(Code.NOT_READY, "; ".join(self._pool.unready()))
        waiting = self.waiting_queries
        if waiting < self._queue:
            return
        by_user = self.lanes.waiting_by_user() + self._past_lanes.waiting_by_user()
        by_user[user] += 1
        if waiting >= 2 * self._queue or by_user[user] > self._queue // len(by_user):
            message = f"at most {self._queue} queries may wait; try again in a second"
            raise RequestError(Code.QUEUE_FULL, message)

    @property
    def waiting_queries(self) -> int:
        return self.lanes.waiting + self._past_lanes.waiting

    def _pump(self) -> None:
        self.lanes.pump()
        self._past.want(self._past_lanes.waiting + self._past_lanes.running)
        self._past_lanes.pump()
        self._waits(self.waiting_queries)

    def views(self) -> dict[str, dict[str, Any]]:
        """The views by name, as `/views` lists them; of the state that queries see."""
        columns = self._pool.columns
        views = sorted(self._pool.board.views.values(), key=lambda each: str(each["view"]).lower())
        return {
            each["view"]: board.view_facts(each, columns.get(each["view"], {})) for each in views
        }

    def streams(self) -> list[dict[str, Any]]:
        found = sorted(self._pool.board.streams.items())
        return [board.stream_facts(facts) for _, facts in found]

    def unready(self) -> list[str]:
        """Why this server is not ready; empty if it is."""
        return self._pool.unready()

    def waiting(self) -> dict[str, str]:
        """Views that are not to be asked yet, and why; they do not make the server unready."""
        return self._pool.waiting()

    def close(self) -> None:
        """Take nothing more, and stop what runs."""
        self._closed = True
        self.lanes.close(refusals.ending())
        self._past_lanes.close(refusals.ending())

    async def _wait(self, job: Job, until: float, timeout_ms: int) -> Reply:
        """Its answer, until then. The last that waits stops it when he leaves."""
        job.waiting += 1
        within = max(0.0, until - asyncio.get_running_loop().time())
        try:
            done, _ = await asyncio.wait({job.reply}, timeout=within)
        except asyncio.CancelledError:
            job.leave(ClientLeft())
            raise
        if not done:
            late = self._late(job, timeout_ms)
            job.leave(late)
            raise late
        job.waiting -= 1
        return job.reply.result()

    def _late(self, job: Job, timeout_ms: int) -> RequestError:
        if not self._pool.manned:
            why = "; ".join(self._pool.unready())
            message = (
                f"no worker came within {timeout_ms} ms to run the statement ({why}); ask again"
            )
            return RequestError(Code.NOT_READY, message)
        message = f"statement must end within {timeout_ms} ms; it was stopped"
        if not job.running:
            message = (
                f"statement must end within {timeout_ms} ms; it waited for a worker, which all had "
                "others"
            )
        return RequestError(Code.DEADLINE, message)
