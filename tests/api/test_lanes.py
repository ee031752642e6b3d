"""Two lanes over workers that the test plays: who runs when, and what becomes of the slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from serving.envelope import Code, RequestError
from serving.frames import Frame
from serving.front import cache, lanes
from serving.front.board import Board
from serving.front.cache import Cache
from serving.front.lanes import Job, Lanes
from serving.query import Query
from tests.api.waiting import until

STOPPED = RequestError(Code.DEADLINE, "late")


class Played:
    """A worker; the test says what it answers."""

    def __init__(self, crew: PlayedPool) -> None:
        self.crew = crew
        self.run: Any = None
        self.number = 0  # the last change that it has
        self.id = 0
        self.cancelled: list[int] = []
        self.killed: str | None = None
        self.paused = False
        self.channel = self

    def begin(self, run: Any, header: dict[str, Any]) -> None:
        self.run, self.id, self.sql = run, header["id"], header["query"]["sql"]
        self.least = header["least"]
        self.crew.begun.append(self.sql)

    def send(self, header: dict[str, Any]) -> None:
        self.cancelled.append(header["id"])

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def kill(self, why: str) -> None:
        self.killed = why
        run, self.run = self.run, None
        self.crew.workers.remove(self)
        run.broken(why)

    def head(self, number: int = 1, views: tuple[str, ...] = ("v",), steady: bool = True) -> None:
        told = {
            "kind": "head",
            "id": self.id,
            "number": number,
            "media_type": "application/json",
            "coverage": [{"view": each} for each in views],
            "steady": steady,
            "row_count": 1,
            "truncated": False,
        }
        self.run.told(Frame(told))

    def part(self, data: bytes) -> None:
        self.run.told(Frame({"kind": "part", "id": self.id}, data))

    def end(self) -> None:
        run, self.run = self.run, None
        run.told(Frame({"kind": "end", "id": self.id}))

    def error(self, code: str) -> None:
        run, self.run = self.run, None
        told = {"code": code, "message": "no", "line": None, "column": None}
        run.told(Frame({"kind": "error", "id": self.id, **told}))

    def answer(self, data: bytes) -> None:
        self.head()
        self.part(data)
        self.end()


class PlayedPool:
    def __init__(self, size: int) -> None:
        self.for_slow = size - 1
        self.reached = 0
        self.begun: list[str] = []
        self.workers = [Played(self) for _ in range(size)]

    def free(self) -> list[Any]:
        return [each for each in self.workers if each.run is None]

    def busy(self) -> list[Played]:
        return [each for each in self.workers if each.run is not None]

    def with_sql(self, sql: str) -> Played:
        (found,) = (each for each in self.busy() if each.sql == sql)
        return found


def query(sql: str = "FROM v") -> Query:
    return Query(sql, None, 10, "application/json")


def played(scenario: Callable[[PlayedPool, Lanes], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        pool = PlayedPool(2)
        await scenario(pool, Lanes(pool))

    asyncio.run(asyncio.wait_for(run(), 20))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of the lanes, a tenth of what they are."""
    monkeypatch.setattr(lanes, "FAST_SECONDS", 0.02)
    monkeypatch.setattr(lanes, "CROWDED_SECONDS", 0.005)
    monkeypatch.setattr(lanes, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(lanes, "AGAIN_SECONDS", 0.005)


def job(board: Lanes, sql: str, user: str = "a", seconds: float = 10.0) -> Job:
    made = Job(query(sql), user, asyncio.get_running_loop().time() + seconds, board)
    made.waiting += 1
    board.put(made)
    return made


def test_a_small_answer_is_whole() -> None:
    async def scenario(pool: PlayedPool, board: Lanes) -> None:
        asked = job(board, "one")
        pool.with_sql("one").answer(b"body")
        assert (await asked.reply).body == b"body"
        assert not pool.busy()
        assert board.running == board.waiting == 0

    played(scenario)


def test_users_take_turns() -> None:
    async def scenario(pool: PlayedPool, board: Lanes) -> None:
        for number in range(4):
            job(board, f"a{number}", "a")
        for number in range(2):
            job(board, f"b{number}", "b")
        while busy := pool.busy():
            busy[0].answer(b"")
        assert pool.begun == ["a0", "a1", "a2", "b0", "a3", "b1"]

    played(scenario)


def test_the_slow_never_have_the_last_worker() -> None:
    async def scenario(pool: PlayedPool, board: Lanes) -> None:
        slow = [job(board, f"slow{number}") for number in range(5)]
        # one goes on where it is; the other is stopped, and every one behind it in its turn
        for _ in range(4):
            await until(lambda: any(each.cancelled for each in pool.busy()))
            (stopped,) = (each for each in pool.busy() if each.cancelled)
            stopped.cancelled.clear()
            stopped.error("deadline")
        assert [each.sql for each in pool.busy()] == ["slow0"]
        assert board.waiting == 4
        quick_one = job(board, "quick")
        pool.with_sql("quick").answer(b"quick")
        assert (await quick_one.reply).body == b"quick"
        pool.with_sql("slow0").answer(b"0")
        assert (await slow[0].reply).body == b"0"
        for number in range(1, 5):  # in the order in which they came
            assert [each.sql for each in pool.busy()] == [f"slow{number}"]
            pool.busy()[0].answer(b"x")
            assert (await slow[number].reply).body == b"x"

    played(scenario)


def test_a_text_that_was_slow_begins_in_the_slow_lane() -> None:
    async def scenario(pool: PlayedPool, board: Lanes) -> None:
        first = job(board, "slow")
        await until(lambda: first.slow)
        pool.with_sql("slow").answer(b"")
        again, other = job(board, "slow"), job(board, "slow")
        assert (again.slow, other.slow) == (True, True)
        assert len(pool.busy()) == 1

    played(scenario)


def test_a_deadline_interrupts_and_then_kills() -> None:
    async def scenario(pool: PlayedPool, board: Lanes) -> None:
        deaf = job(board, "deaf")
        worker = pool.with_sql("deaf")
        deaf.leave(STOPPED)
        with pytest.raises(RequestError, match="late"):
            await deaf.reply
        await until(lambda: worker.killed == "deadline")
        assert len(worker.cancelled) > 5  # it was said again and again
        assert (deaf.ended, board.running) == (True, 0)

    played(scenario)


def test_one_that_heeds_is_not_killed() -> None:
    async def scenario(pool: PlayedPool, board: Lanes) -> None:
        asked = job(board, "heeds")
        worker = pool.with_sql("heeds")
        asked.leave(STOPPED)
        worker.error("deadline")
        await asyncio.sleep(0.15)
        assert worker.killed is None
        assert worker in pool.free()

    played(scenario)


def test_a_query_that_waits_can_leave() -> None:
    async def scenario(pool: PlayedPool, board: Lanes) -> None:
        for number in range(2):
            job(board, f"runs{number}")
        waits = job(board, "waits")
        waits.leave(STOPPED)
        assert (waits.ended, board.waiting) == (True, 0)
        assert not any(each.sql == "waits" for each in pool.busy())

    played(scenario)


def test_a_large_answer_is_streamed_once_it_is_slow() -> None:
    async def scenario(pool: PlayedPool, board: Lanes) -> None:
        asked = job(board, "large")
        worker = pool.with_sql("large")
        worker.head()
        part = b"x" * (lanes.HELD_BYTES // 2 + 1)
        worker.part(part)
        worker.part(part)
        assert worker.paused
        body = (await asked.reply).body
        assert not isinstance(body, bytes)
        parts = [await anext(body), await anext(body)]
        assert not worker.paused
        worker.part(b"last")
        worker.end()
        parts += [each async for each in body]
        assert b"".join(parts) == part + part + b"last"

    played(scenario)


def test_an_answer_that_ends_while_it_is_stopped_is_whole() -> None:
    async def scenario(pool: PlayedPool, board: Lanes) -> None:
        first, second = job(board, "one"), job(board, "two")
        await until(lambda: any(each.cancelled for each in pool.busy()))
        (stopped,) = (each for each in pool.busy() if each.cancelled)
        stopped.answer(b"whole")
        done = first if first.reply.done() else second
        assert (await done.reply).body == b"whole"

    played(scenario)


def test_a_worker_that_was_held_back_is_free_for_the_next() -> None:
    async def scenario(pool: PlayedPool, board: Lanes) -> None:
        asked = job(board, "large")
        worker = pool.with_sql("large")
        worker.head()
        worker.part(b"x" * (lanes.HELD_BYTES + 1))
        assert worker.paused
        worker.end()
        assert not worker.paused
        assert len((await asked.reply).body) == lanes.HELD_BYTES + 1

    played(scenario)


def test_what_nobody_waits_for_does_not_begin_again() -> None:
    async def scenario(pool: PlayedPool, board: Lanes) -> None:
        deaf, other = job(board, "deaf"), job(board, "other")
        await until(lambda: any(each.cancelled for each in pool.busy()))
        (stopped,) = (each for each in pool.busy() if each.cancelled)
        asked = deaf if stopped.sql == "deaf" else other
        asked.leave(STOPPED)
        await until(lambda: stopped.killed is not None)
        assert (stopped.killed, asked.ended, board.waiting) == ("deadline", True, 0)
        assert len(pool.busy()) == 1

    played(scenario)


def test_one_that_ends_its_worker_does_not_begin_again() -> None:
    async def scenario(pool: PlayedPool, board: Lanes) -> None:
        job(board, "one"), job(board, "two")
        await until(lambda: any(each.cancelled for each in pool.busy()))
        (stopped,) = (each for each in pool.busy() if each.cancelled)
        asked = stopped.run
        stopped.kill("ended")
        with pytest.raises(RequestError, match="ended; ask again"):
            await asked.reply
        assert board.waiting == 0

    played(scenario)


def test_a_stream_is_for_who_began_it_or_one_after_him() -> None:
    async def scenario(pool: PlayedPool, board: Lanes) -> None:
        asked = job(board, "large")
        worker = pool.with_sql("large")
        worker.head()
        await asked.reply
        assert not asked.take()
        asked.orphaned = True
        assert [asked.take(), asked.take()] == [True, False]

        whole = job(board, "small")
        pool.with_sql("small").answer(b"body")
        await whole.reply
        assert [whole.take(), whole.take()] == [True, True]

    played(scenario)


@pytest.mark.parametrize(
    ("how", "message"),
    [("error", "no"), ("killed", "ended; ask again"), ("late", "before its deadline")],
)
def test_a_stream_that_breaks_off_raises(how: str, message: str) -> None:
    async def scenario(pool: PlayedPool, board: Lanes) -> None:
        asked = job(board, "breaks", seconds=0.1 if how == "late" else 10)
        worker = pool.with_sql("breaks")
        worker.head()
        worker.part(b"begun")
        body = (await asked.reply).body
        assert not isinstance(body, bytes)
        assert await anext(body) == b"begun"
        if how == "error":
            worker.error("bad_sql")
        elif how == "killed":
            worker.kill("ended")
        with pytest.raises(RequestError, match=message):
            await anext(body)

    played(scenario)


def test_a_worker_that_ends_fails_its_query_alone() -> None:
    async def scenario(pool: PlayedPool, board: Lanes) -> None:
        one, other = job(board, "one"), job(board, "other")
        await until(lambda: one.slow or other.slow)  # it has run too long to begin again
        slow, quick = (one, other) if one.slow else (other, one)
        pool.with_sql(slow.query.sql).kill("ended")
        with pytest.raises(RequestError, match="ended; ask again") as caught:
            await slow.reply
        assert caught.value.status == 503
        pool.with_sql(quick.query.sql).answer(b"fine")
        assert (await quick.reply).body == b"fine"

    played(scenario)


def test_one_that_lost_its_worker_while_it_was_quick_begins_again_once() -> None:
    async def scenario(pool: PlayedPool, board: Lanes) -> None:
        lucky, guilty = job(board, "lucky"), job(board, "guilty")
        pool.with_sql("lucky").kill("ended")
        await until(lambda: not lucky.running)
        pool.workers.append(Played(pool))
        await until(lambda: lucky.running)
        pool.with_sql("lucky").answer(b"fine")
        assert (await lucky.reply).body == b"fine"

        pool.with_sql("guilty").kill("ended")
        await until(lambda: guilty.running)
        pool.with_sql("guilty").kill("ended")
        with pytest.raises(RequestError, match="ended; ask again"):
            await guilty.reply
        assert (pool.workers, board.waiting, board.running) == ([], 0, 0)

    played(scenario)


def test_one_that_lost_its_worker_can_leave_meanwhile() -> None:
    async def scenario(pool: PlayedPool, board: Lanes) -> None:
        lost = job(board, "lost")
        pool.with_sql("lost").kill("ended")
        lost.leave(STOPPED)
        assert lost.ended
        job(board, "after")
        await until(lambda: pool.busy()[0].sql == "after")
        await asyncio.sleep(2 * lanes.AGAIN_SECONDS)  # nothing is to happen
        assert pool.begun == ["lost", "after"]

    played(scenario)


# the cache


def coverage(**epochs: int) -> Frame:
    views = [{"view": view, "epoch": epoch, "waits": None} for view, epoch in epochs.items()]
    number = sum(epochs.values())
    return Frame({"kind": "change", "number": number, "views": views, "streams": []})


def test_an_answer_is_kept_until_what_it_read_changes() -> None:
    async def scenario(pool: PlayedPool, lanes_: Lanes) -> None:
        board, known = Board().after(coverage(v=1, other=1)), Cache()
        asked, key = job(lanes_, "FROM v"), cache.key(query("FROM v"))
        known.begin(key, asked, board)
        worker = pool.with_sql("FROM v")
        worker.head(number=2)
        worker.part(b"one")
        worker.end()
        reply = await asked.reply
        known.end(key, asked, reply)
        assert known.find(key, board) is reply
        later = board.after(coverage(v=1, other=2))
        assert known.find(key, later) is reply  # another view has moved
        assert known.find(cache.key(query("FROM v ")), later) is None
        assert known.find(key, later.after(coverage(v=2, other=2))) is None
        assert known.find(key, later) is None  # and it is gone

    played(scenario)


@pytest.mark.parametrize(
    ("steady", "view", "body"),
    [(False, "v", b"x"), (True, "unknown", b"x"), (True, "v", b"x" * (cache.ANSWER_BYTES + 1))],
)
def test_what_may_not_be_kept(steady: bool, view: str, body: bytes) -> None:
    async def scenario(pool: PlayedPool, lanes_: Lanes) -> None:
        board, known = Board().after(coverage(v=1)), Cache()
        asked, key = job(lanes_, "q"), cache.key(query("q"))
        known.begin(key, asked, board)
        worker = pool.with_sql("q")
        worker.head(number=1, views=(view,), steady=steady)
        worker.part(body)
        worker.end()
        known.end(key, asked, await asked.reply)
        assert known.find(key, board) is None

    played(scenario)


def test_the_cache_has_a_size() -> None:
    async def scenario(pool: PlayedPool, lanes_: Lanes) -> None:
        board, known = Board().after(coverage(v=1)), Cache(most=20_000)
        for number in range(10):
            asked, key = job(lanes_, f"q{number}"), cache.key(query(f"q{number}"))
            known.begin(key, asked, board)
            pool.with_sql(f"q{number}").answer(b"x" * 3000)
            known.end(key, asked, await asked.reply)
        found = [known.find(cache.key(query(f"q{number}")), board) for number in range(10)]
        assert [each is not None for each in found] == [False] * 6 + [True] * 4

    played(scenario)


def test_a_worker_is_told_what_its_client_may_have_seen() -> None:
    async def scenario(pool: PlayedPool, lanes_: Lanes) -> None:
        pool.reached = 7
        job(lanes_, "a")
        pool.reached = 9
        job(lanes_, "b")
        assert (pool.with_sql("a").least, pool.with_sql("b").least) == (7, 9)

    played(scenario)


def test_time_counts_from_when_the_worker_has_the_state() -> None:
    async def scenario(pool: PlayedPool, lanes_: Lanes) -> None:
        pool.reached = 7
        waits = job(lanes_, "waits")
        worker = pool.with_sql("waits")
        waits.reached(6)
        await asyncio.sleep(5 * lanes.FAST_SECONDS)
        assert not waits.slow
        waits.reached(7)
        await until(lambda: waits.slow)
        worker.answer(b"body")
        assert (await waits.reply).head.row_count == 1

    played(scenario)


def test_a_text_that_was_quick_again_is_slow_no_more() -> None:
    async def scenario(pool: PlayedPool, lanes_: Lanes) -> None:
        first = job(lanes_, "q")
        await until(lambda: first.slow)
        pool.with_sql("q").answer(b"")
        again = job(lanes_, "q")
        assert again.slow
        await asyncio.sleep(2 * lanes.CROWDED_SECONDS)
        pool.with_sql("q").answer(b"")
        still = job(lanes_, "q")
        assert still.slow
        pool.with_sql("q").answer(b"")
        assert not job(lanes_, "q").slow

    played(scenario)


def test_who_asks_the_same_waits_for_the_same() -> None:
    async def scenario(pool: PlayedPool, lanes_: Lanes) -> None:
        board, known = Board().after(coverage(v=1)), Cache()
        asked, key = job(lanes_, "q"), cache.key(query("q"))
        known.begin(key, asked, board)
        assert known.making(key, query("q"), board) is asked
        # it runs already, and may have begun before what another answer has shown since
        assert known.making(key, query("q"), board.after(coverage(v=2))) is None
        asked.leave(STOPPED)
        assert known.making(key, query("q"), board) is None
        assert pool.busy()

    played(scenario)


def test_a_board_knows_since_when_answers_stand() -> None:
    first = Board().after(coverage(v=1, w=1))
    second = first.after(coverage(v=1, w=5))
    assert (first.number, second.number) == (2, 6)
    assert second.still(["v"], 2)
    assert not second.still(["w"], 2)
    assert second.still(["w", "v"], 6)
    assert not second.still(["gone"], 6)
    assert first.behind(second) == ["w"]
    assert second.behind(first) == []
    assert Board().behind(first) == []


def test_a_board_may_be_behind_in_a_stream() -> None:
    def streams(epoch: int, waits: str | None = None) -> Board:
        told = [{"stream": "s", "epoch": epoch, "raw_waits": waits}]
        return Board().after(Frame({"kind": "change", "number": 1, "views": [], "streams": told}))

    assert streams(5).behind(streams(5)) == []
    assert streams(4).behind(streams(5)) == ["s"]
    assert streams(5, "is not ready").behind(streams(5)) == ["s"]
    assert streams(5).behind(streams(6, "is not ready")) == []
