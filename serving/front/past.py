"""Statements about the past: each has a worker of its own, which ends with it.

worker    judges the statement, asks what its relations were
follower  finds and checks the files of that state
worker    makes tables of them, answers
"""

from __future__ import annotations

from serving.front.pool import Pool
from serving.front.workers import Worker

SIZE = 2  # at once


class Past:
    """`lanes.Workers` over workers that are begun when one is wanted."""

    for_slow = SIZE  # what makes a state anew is not quick
    reached = 0  # each has a state of its own

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def free(self) -> list[Worker]:
        return self._pool.free_for_past()

    def want(self, number: int) -> None:
        """Begin workers for that many statements."""
        for _ in range(min(number, SIZE) - self._pool.past_workers):
            self._pool.fork_for_past()
