"""Who runs when: two lanes over the workers; users take turns, and each waits in his own order.

Every query begins in the fast lane. One that is not done after `FAST_SECONDS`, or `CROWDED_SECONDS`
where others wait, goes on in the slow lane, if there is room, else it is stopped and begins again
there when its turn comes. The slow lane never has the last worker, so what is quick is answered
beside any number of queries that are not. A text that was slow begins in the slow lane, until it
was quick there. What a worker takes to have the newest state is nobody's fault and counts for none.
One whose worker ends while it is quick begins again, once: the worker may have been gone before.
(Two lanes with a broker's queue: as Druid and Pinot have it.)
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol

from serving.envelope import Code, RequestError
from serving.frames import Frame
from serving.front.workers import ENDED, Worker
from serving.query import Head, Query, Reply

FAST_SECONDS = 0.2
CROWDED_SECONDS = 0.05
GRACE_SECONDS = 1.0  # for a query that was stopped to end; then its worker is killed
SMALL_SECONDS = 0.02
DEADLINE = "deadline"  # why a worker was killed
AGAIN_SECONDS = 0.05  # between interrupts: one that comes between two statements is lost
HELD_BYTES = 2 * 2**20  # of an answer that its client has not taken
KNOWN_SLOW = 10_000  # texts

_numbers = itertools.count(1)


class Workers(Protocol):
    """What the lanes need of a pool."""

    @property
    def for_slow(self) -> int:
        """How many of them slow statements may have at once."""

    @property
    def reached(self) -> int:
        """The newest change that clients may have seen: nobody gets an older state."""

    def free(self) -> list[Worker]: ...


class Job:
    """One query on its way. `reply` is there when the first of its answer may go to the client."""

    def __init__(self, query: Query, user: str, until: float, lanes: Lanes) -> None:
        self.query, self.user = query, user
        self.waiting = 0  # for its answer
        self._until = until  # by the clock of the loop
        self.orphaned = False  # who began it has left
        self.number = 0  # of the attempt; a worker's word on another one is not meant
        self._least = 0  # the change that its worker must have to begin
        self._ran_from: float | None = None  # when it had that
        self.made_at = 0  # the last change that its worker had
        self.slow = False
        self.reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.reply.add_done_callback(_seen)
        self.over: RequestError | None = None  # why nobody waits for it any more
        self._lanes = lanes
        self._worker: Worker | None = None
        self._head: Head | None = None
        self._parts: deque[bytes] = deque()
        self._held = 0
        self._more = asyncio.Event()
        self._done = False
        self._broken: RequestError | None = None
        self._again = False  # it was stopped to begin again in the slow lane
        self._lost_once = False  # its worker ended, and it began again
        self._timers: list[asyncio.TimerHandle] = []

    @property
    def running(self) -> bool:
        return self._worker is not None

    @property
    def ended(self) -> bool:
        return self._done

    def begin(self, worker: Worker) -> None:
        self._worker = worker
        self.number = next(_numbers)
        self._head, self._held, self._again = None, 0, False
        self._least, self._ran_from = self._lanes.least, None
        self._parts.clear()
        told = {"kind": "query", "id": self.number, "least": self._least}
        worker.begin(self, {**told, "query": vars(self.query)})
        self.reached(worker.number or 0)

    def reached(self, number: int) -> None:
        """Its worker has the changes up to that one: from the least on, its time counts."""
        if number < self._least or self._ran_from is not None:
            return
        self._ran_from = asyncio.get_running_loop().time()
        if not self.slow:
            self._later(CROWDED_SECONDS, self._slow_in_a_crowd)
            self._later(FAST_SECONDS, self._too_slow)

    def stop(self, why: RequestError) -> None:
        """Nobody waits for it any more: its client has left, or its time is over."""
        if self._done or self.over is not None:
            return
        self.over = why
        if not self.reply.done():
            self.reply.set_exception(why)
        if self._worker is None:
            self._finish()
            return
        self._interrupt()

    def take(self) -> bool:
        """Whether one that shares it may have the answer. A streamed one has one reader: who began
        it, or the first of the others if he has left."""
        orphaned, self.orphaned = self.orphaned, False
        return orphaned or isinstance(self.reply.result().body, bytes)

    def leave(self, why: RequestError) -> None:
        """One waits no longer; the last one stops it."""
        self.waiting -= 1
        if not self.waiting:
            self.stop(why)

    # the worker's word

    def told(self, frame: Frame) -> None:
        if frame.kind == "head":
            self.made_at = int(frame.header["number"])
            self._head = _head(self.query.media_type, frame)
            if self.slow:
                self._later(SMALL_SECONDS, self._stream)  # a small answer is whole by then
        elif frame.kind == "part":
            self._part(frame.payload)
        elif frame.kind == "end":
            self._end()
        else:
            self._error(frame)

    def broken(self, why: str) -> None:
        self._worker = None
        if why != DEADLINE:  # which is counted when it is
            self._lanes.killed("died" if why == ENDED else "other")
        if self.over is not None:
            self._finish()
            return
        if self._again and why == DEADLINE:
            self._requeue()
            return
        if why == ENDED and not (self.slow or self._again or self._lost_once):
            self._lost_once = True
            self._clear_timers()
            self._later(AGAIN_SECONDS, self._put)  # which other workers ended too is known then
            return
        message = "the worker that ran this statement ended; ask again"
        self._fail(RequestError(Code.NOT_READY, message))

    def _part(self, data: bytes) -> None:
        if self.over is not None:
            return
        self._parts.append(data)
        self._held += len(data)
        self._more.set()
        if self._held > HELD_BYTES and self._worker is not None:
            self._worker.channel.pause()

    def _end(self) -> None:
        if self._head is None:
            message = "an end without a beginning"
            raise ValueError(message)
        self._let_go()
        self._judge()
        if self.over is None and not self.reply.done():
            self.reply.set_result(Reply(self._head, b"".join(self._parts)))
        self._finish()

    def _error(self, frame: Frame) -> None:
        told = frame.header
        self._let_go()
        if self._again and self.over is None and told["code"] == Code.DEADLINE:
            self._requeue()
            return
        place = None if told["line"] is None else (int(told["line"]), int(told["column"]))
        self._fail(RequestError(Code(told["code"]), str(told["message"]), place))

    def _judge(self) -> None:
        """A text that was slow once, on a machine that was busy, is not slow for ever."""
        now = asyncio.get_running_loop().time()
        if self.slow and now - (self._ran_from or 0.0) < CROWDED_SECONDS:
            self._lanes.forget_slow(self.query.sql)

    def _let_go(self) -> None:
        """The worker is free for others, which want to hear of theirs."""
        if self._worker is not None:
            self._worker.channel.resume()
        self._worker = None

    def _fail(self, error: RequestError) -> None:
        if not self.reply.done():
            self.reply.set_exception(error)
        self._broken = error
        self._finish()

    # lanes

    def _slow_in_a_crowd(self) -> None:
        if self._lanes.crowded:
            self._too_slow()

    def _too_slow(self) -> None:
        """Go on in the slow lane, or begin again there."""
        ended = self._worker is None or self._done or self.over is not None
        if ended or self.slow or self._again:
            return
        self._lanes.remember_slow(self.query.sql)
        if self._lanes.room_for_slow():
            self.slow = True
            self._stream()
            return
        self._again = True
        self._interrupt()

    def _stream(self) -> None:
        """Let the client have what there is, as it comes; no longer than its time."""
        if self._head is None or self.reply.done():
            return
        self.reply.set_result(Reply(self._head, self._body()))
        late = RequestError(Code.DEADLINE, "statement must end before its deadline; it was stopped")
        left = self._until - asyncio.get_running_loop().time()
        self._later(left, lambda: self.stop(late))

    async def _body(self) -> AsyncGenerator[bytes]:
        try:
            while True:
                while self._parts:
                    data = self._parts.popleft()
                    self._held -= len(data)
                    if self._held < HELD_BYTES // 2 and self._worker is not None:
                        self._worker.channel.resume()
                    yield data
                broken = self._broken or self.over
                if broken is not None:
                    raise broken
                if self._done:
                    return
                self._more.clear()
                await self._more.wait()
        finally:
            self.stop(RequestError(Code.DEADLINE, "client left before the end of the answer"))

    def _requeue(self) -> None:
        self._clear_timers()
        self.slow = True
        self._again = False
        self._put()

    def _put(self) -> None:
        self._lanes.put(self)

    def _interrupt(self) -> None:
        """Stop what runs: by word, again and again; at last by force."""
        worker, number = self._worker, self.number
        if worker is None:
            return
        worker.channel.resume()

        def say() -> None:
            if self._worker is worker and self.number == number:
                worker.channel.send({"kind": "cancel", "id": number})
                self._later(AGAIN_SECONDS, say)

        def kill() -> None:
            if self._worker is worker and self.number == number:
                self._lanes.killed(DEADLINE)
                worker.kill(DEADLINE)

        say()
        self._later(GRACE_SECONDS, kill)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(seconds, call))

    def _clear_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _finish(self) -> None:
        self._done = True
        self._clear_timers()
        self._more.set()
        self._lanes.finished(self)


class Lanes:
    """The queues before the workers of a pool."""

    def __init__(self, pool: Workers, killed: Callable[[str], None] = lambda _: None) -> None:
        self._pool, self.killed = pool, killed
        self._fast, self._slow = _Fair(), _Fair()
        self._running: set[Job] = set()
        self._known_slow: OrderedDict[bytes, None] = OrderedDict()

    @property
    def least(self) -> int:
        """The change that a worker must have to answer."""
        return self._pool.reached

    @property
    def waiting(self) -> int:
        return len(self._fast) + len(self._slow)

    @property
    def running(self) -> int:
        return len(self._running)

    def waiting_by_user(self) -> Counter[str]:
        """How many of each user wait."""
        return self._fast.by_user() + self._slow.by_user()

    @property
    def crowded(self) -> bool:
        """Whether one waits that has not had its turn."""
        return len(self._fast) > 0

    def put(self, job: Job) -> None:
        self._running.discard(job)
        job.slow = job.slow or digest(job.query.sql) in self._known_slow
        (self._slow if job.slow else self._fast).put(job)
        self.pump()

    def pump(self) -> None:
        """Give free workers what waits."""
        free = self._pool.free()
        while free:
            job = self._next()
            if job is None:
                return
            self._running.add(job)
            job.begin(free.pop())

    def room_for_slow(self) -> bool:
        return sum(job.slow for job in self._running) < self._pool.for_slow

    def remember_slow(self, sql: str) -> None:
        self._known_slow[digest(sql)] = None
        self._known_slow.move_to_end(digest(sql))
        if len(self._known_slow) > KNOWN_SLOW:
            self._known_slow.popitem(last=False)

    def forget_slow(self, sql: str) -> None:
        self._known_slow.pop(digest(sql), None)

    def finished(self, job: Job) -> None:
        self._running.discard(job)
        self._fast.drop(job)
        self._slow.drop(job)
        self.pump()

    def close(self, why: RequestError) -> None:
        for job in [*self._fast, *self._slow, *self._running]:
            job.stop(why)

    def _next(self) -> Job | None:
        if len(self._slow) and self.room_for_slow():
            return self._slow.take()
        return self._fast.take()


def digest(sql: str) -> bytes:
    """By which a text is known again, without being kept."""
    return hashlib.blake2b(sql.encode(errors="replace"), digest_size=16).digest()


class _Fair:
    """A queue per user; users take turns."""

    def __init__(self) -> None:
        self._users: OrderedDict[str, deque[Job]] = OrderedDict()

    def __len__(self) -> int:
        return sum(len(each) for each in self._users.values())

    def by_user(self) -> Counter[str]:
        return Counter({user: len(jobs) for user, jobs in self._users.items()})

    def __iter__(self) -> Any:
        return (job for jobs in list(self._users.values()) for job in list(jobs))

    def put(self, job: Job) -> None:
        self._users.setdefault(job.user, deque()).append(job)

    def take(self) -> Job | None:
        if not self._users:
            return None
        user, jobs = next(iter(self._users.items()))
        job = jobs.popleft()
        del self._users[user]
        if jobs:
            self._users[user] = jobs  # behind the others
        return job

    def drop(self, job: Job) -> None:
        jobs = self._users.get(job.user)
        if jobs is not None and job in jobs:
            jobs.remove(job)
            if not jobs:
                del self._users[job.user]


def _head(media_type: str, frame: Frame) -> Head:
    told = frame.header
    return Head(
        media_type,
        tuple(told["coverage"]),
        bool(told["steady"]),
        told["row_count"],
        told["truncated"],
    )


def _seen(reply: asyncio.Future[Reply]) -> None:
    if not reply.cancelled():
        reply.exception()  # seen, also when nobody waits for it any more
