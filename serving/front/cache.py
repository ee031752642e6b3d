"""Answers that are still the answer: kept by what was asked, shared while they are being made.

An answer is good as long as nothing that it read has changed since (`Board.still`), so none is
stale: a look-up compares numbers, and nothing has to be thrown out in time.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass

from serving.front.board import Board
from serving.front.lanes import Job, digest
from serving.query import Query, Reply

BYTES = 64 * 2**20
ANSWER_BYTES = 2**20  # a larger one is not kept
TEXTS = 10_000  # whose relations are known


@dataclass(frozen=True)
class Kept:
    """An answer, what it read, and the last change that its worker had."""

    reply: Reply
    reads: tuple[str, ...]
    number: int
    size: int


class Cache:
    """By the whole of a query. Least recently used answers go first."""

    def __init__(self, most: int = BYTES) -> None:
        self._most, self._size = most, 0
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._making: dict[str, tuple[Job, int]] = {}  # with the change that it was begun after
        self._reads: OrderedDict[bytes, tuple[str, ...]] = OrderedDict()

    def find(self, key: str, board: Board) -> Reply | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        if not board.still(kept.reads, kept.number):
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return kept.reply

    def making(self, key: str, query: Query, board: Board) -> Job | None:
        """A job that will have the answer for this state, or a later one."""
        job, begun = self._making.get(key, (None, 0))
        if job is None or job.ended or job.over is not None or job.reply.done():
            return None
        if not job.running or begun == board.number:
            return job
        reads = self._reads.get(digest(query.sql))
        return job if reads is not None and board.still(reads, begun) else None

    def begin(self, key: str, job: Job, board: Board) -> None:
        self._making[key] = job, board.number

    def end(self, key: str, job: Job, reply: Reply | None) -> None:
        """Keep an answer, if it can be kept."""
        if self._making.get(key, (None, 0))[0] is job:
            del self._making[key]
        if reply is None or not isinstance(reply.body, bytes):
            return
        if not reply.head.steady or job.query.as_of is not None:
            return
        reads = tuple(str(each["view"]).lower() for each in reply.head.coverage)
        self._reads[digest(job.query.sql)] = reads
        if len(self._reads) > TEXTS:
            self._reads.popitem(last=False)
        if len(reply.body) > ANSWER_BYTES:
            return
        size = len(reply.body) + len(key) + 1000
        self._drop(key)
        self._kept[key] = Kept(reply, reads, job.made_at, size)
        self._size += size
        while self._size > self._most:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._size -= kept.size


def key(query: Query) -> str:
    """All of a query that its answer depends on."""
    fields = (query.params, query.max_rows, query.media_type, query.integers, query.strict)
    return json.dumps([query.sql, *fields, query.as_of], separators=(",", ":"))
