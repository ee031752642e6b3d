"""What the front measures and says of itself: metrics, readiness, a line per query."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from serving.envelope import Code, RequestError
from serving.facts import Facts
from serving.front import metrics
from serving.front.answers import Answers
from serving.front.metrics import OK, QueryMetrics
from serving.log import about
from serving.query import Query, Reply

DISK_FLOOR = 1 << 30  # bytes
MEASURED_WITHIN = 30.0  # seconds
HASH_CHARACTERS = 16

log = logging.getLogger("serving.queries")


@dataclass(frozen=True)
class Limits:
    """Beyond which the server is not ready. Reasons say the limit and not how it stands, so that
    they stay the same while it is passed."""

    disk_floor: int = DISK_FLOOR  # bytes that the disk of the state must have left
    freshness: float | None = None  # how old answers may be, seconds; None: as old as they are

    def unready(self, facts: Facts | None, now: float) -> list[str]:
        """Why the server is not ready; before the first facts there is no reason here."""
        if facts is None:
            return []
        reasons = []
        if now - facts["at"] > MEASURED_WITHIN:
            reasons.append(f"nothing could be measured for more than {MEASURED_WITHIN:g} s")
        if facts["disk_free_bytes"] < self.disk_floor:
            floor = f"{self.disk_floor / 2**20:,.0f} MiB"
            reasons.append(f"the disk of the state has less than its floor of {floor} left")
        for view in facts["views"]:
            old = metrics.freshness(view, now)
            if self.freshness is not None and old is not None and old > self.freshness:
                limit = f"{self.freshness:g} s"
                reasons.append(f"view {view['view']!r}: its answers are more than {limit} old")
        return reasons


class Watch:
    """Keeps what is measured. `now` gives seconds since 1970; `clock` seconds, never back."""

    def __init__(
        self,
        now: Callable[[], float],
        clock: Callable[[], float],
        limits: Limits = Limits(),
    ) -> None:
        self.queries, self.limits = QueryMetrics(), limits
        self._now, self._clock = now, clock
        self._facts: Facts | None = None

    def tell(self, facts: Facts) -> None:
        """The newest facts, from any thread."""
        self._facts = facts

    def page(self) -> bytes:
        """What `/metrics` answers."""
        return metrics.render(self.queries, self._facts, self._now())

    def unready(self) -> list[str]:
        """Why the server is not ready, as far as it is measured."""
        return self.limits.unready(self._facts, self._now())

    async def query(self, who: str, sql: str, work: Awaitable[Reply]) -> Reply:
        """The answer of a query, which is counted and told of: by whom, a hash of its text, how
        long, how many rows, what it came to."""
        begun, outcome, rows = self._clock(), Code.INTERNAL.value, None
        try:
            answer = await work
            outcome, rows = OK, answer.head.row_count
            return answer
        except RequestError as error:
            outcome = error.code.value
            raise
        except asyncio.CancelledError:
            outcome = Code.DEADLINE.value
            raise
        finally:
            seconds = self._clock() - begun
            self.queries.finished(outcome, seconds)
            level = logging.ERROR if outcome == Code.INTERNAL.value else logging.INFO
            told = about(
                repeat=("query", outcome),
                who=who,
                hash=hash_of(sql),
                seconds=round(seconds, 6),
                rows=rows,
                outcome=outcome,
            )
            log.log(level, "query", extra=told)


class Watched:
    """`Answers`, each query of which is measured and told of."""

    def __init__(self, answers: Answers, watch: Watch) -> None:
        self._answers, self._watch = answers, watch

    async def answer(self, query: Query, user: str, timeout_ms: int) -> Reply:
        work = self._answers.answer(query, user, timeout_ms)
        return await self._watch.query(user, query.sql, work)

    def views(self) -> dict[str, dict[str, Any]]:
        return self._answers.views()

    def streams(self) -> list[dict[str, Any]]:
        return self._answers.streams()

    def unready(self) -> list[str]:
        return self._answers.unready() + self._watch.unready()

    def waiting(self) -> dict[str, str]:
        return self._answers.waiting()


def hash_of(sql: str) -> str:
    """By which a statement is found again without being shown."""
    return hashlib.sha256(sql.encode(errors="replace")).hexdigest()[:HASH_CHARACTERS]
