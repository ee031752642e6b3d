"""What is shared among those who ask the same, and who gets in when all places are taken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from serving.envelope import RequestError
from serving.front import lanes
from serving.front.board import Board
from serving.front.front import Front
from serving.front.pool import Pool
from serving.query import Reply
from tests.api.test_lanes import PlayedPool, query
from tests.api.waiting import until


class WholePool(PlayedPool):
    """With what a front asks of a pool beside the workers."""

    board = Board(number=1)
    manned = True
    past_workers = 0

    def free_for_past(self) -> list[Any]:
        return []

    def fork_for_past(self) -> None:
        pass


def played(scenario: Callable[[WholePool, Front], Awaitable[None]], queue: int = 4) -> None:
    async def run() -> None:
        pool = WholePool(2)
        await scenario(pool, Front(cast(Pool, pool), queue=queue))

    asyncio.run(asyncio.wait_for(run(), 20))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "FAST_SECONDS", 0.02)
    monkeypatch.setattr(lanes, "GRACE_SECONDS", 0.1)


def asks(front: Front, sql: str, user: str = "a", ms: int = 10_000) -> asyncio.Task[Reply]:
    return asyncio.ensure_future(front.answer(query(sql), user, ms))


async def ended(task: asyncio.Task[Reply]) -> None:
    await asyncio.wait({task})


def test_a_stream_whose_owner_left_is_for_the_one_who_shares_it() -> None:
    async def scenario(pool: WholePool, front: Front) -> None:
        owner = asks(front, "large")
        await until(lambda: len(pool.busy()) == 1)
        other = asks(front, "large")
        await asyncio.sleep(0)
        owner.cancel()
        await ended(owner)
        worker = pool.with_sql("large")
        worker.head()
        worker.part(b"begun")
        body = (await other).body
        assert not isinstance(body, bytes)
        assert await anext(body) == b"begun"
        worker.part(b", ended")
        worker.end()
        assert [each async for each in body] == [b", ended"]
        assert pool.begun == ["large"]

    played(scenario)


def test_who_shared_a_stream_of_another_asks_for_himself_in_what_is_left() -> None:
    async def scenario(pool: WholePool, front: Front) -> None:
        clock = asyncio.get_running_loop().time
        owner = asks(front, "large")
        await until(lambda: len(pool.busy()) == 1)
        begun = clock()
        other = asks(front, "large", ms=400)
        await asyncio.sleep(0.2)
        pool.with_sql("large").head()
        assert not isinstance((await owner).body, bytes)
        await ended(other)
        assert 0.4 <= clock() - begun < 0.55
        # in the slow lane by now, which has one worker of two
        assert "it waited for a worker" in str(other.exception())

    played(scenario)


def test_one_who_waited_is_told_so() -> None:
    async def scenario(pool: WholePool, front: Front) -> None:
        first = [asks(front, f"runs{number}") for number in range(2)]
        await until(lambda: len(pool.busy()) == 2)
        waits = asks(front, "waits", ms=10)
        with pytest.raises(RequestError, match="it waited for a worker"):
            await waits
        for each in pool.busy():
            each.answer(b"")
        await asyncio.gather(*first)

    played(scenario)


def test_where_all_places_are_taken_each_has_a_share() -> None:
    async def scenario(_: WholePool, front: Front) -> None:
        greedy = [asks(front, f"greedy{number}", "greedy") for number in range(2 + 4)]
        await until(lambda: front.waiting_queries == 4)
        refused = asks(front, "more", "greedy")
        await ended(refused)
        assert "at most 4 queries may wait" in str(refused.exception())
        others = [asks(front, f"other{number}", "other") for number in range(3)]
        await until(lambda: others[-1].done())
        assert [each.done() for each in others] == [False, False, True]  # half of four
        many = [asks(front, f"{number}", f"user{number}") for number in range(4)]
        await until(lambda: many[-1].done())
        assert front.waiting_queries <= 8
        for each in [*greedy, *others, *many]:
            each.cancel()
        await asyncio.wait([*greedy, *others, *many])

    played(scenario)
