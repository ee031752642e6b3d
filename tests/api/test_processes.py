"""The processes of a server: killed in every state, and nothing that a client sees is wrong.

A `Poller` asks all the time and holds each answer against what had been told up to the epoch that
the answer itself names; epochs never go back.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from serving.formats.media import NAMES
from tests.api.test_run import Process
from tests.api.waiting import WAIT_SECONDS, wait
from tests.api.world import World

pytestmark = pytest.mark.slow

VIEWS = {"everything": "SELECT count(*) AS hits, sum(n) AS total FROM hits"}
SLOW = "SELECT count(*) FROM range(100000000000)"
LARGE = "SELECT range AS n, text FROM range(3000000), (SELECT 'abcdefghij' AS text)"


class Server(Process):
    """A server over a world, its children by name."""

    def __init__(self, world: World, *arguments: str) -> None:
        self.world = world
        super().__init__(world.state, *arguments)
        self.url = self.until("running")
        self.client = httpx.Client(base_url=self.url, timeout=WAIT_SECONDS)

    def child(self, module: str) -> psutil.Process:
        """The follower or the spare."""
        children = psutil.Process(self.process.pid).children()
        (found,) = (each for each in children if module in " ".join(each.cmdline()))
        return found

    def workers(self) -> list[psutil.Process]:
        spare = self.child("serving.worker.process")
        return [each for each in spare.children() if each.status() != psutil.STATUS_ZOMBIE]

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def ask(self, sql: str, **fields: Any) -> httpx.Response:
        return self.client.post("/sql", json={"sql": sql, **fields})

    def epoch(self) -> int:
        """The epoch of an answer; it must be what had been told up to it."""
        answer = self.ask("FROM everything").json()
        assert "coverage" in answer, answer
        (covered,) = answer["coverage"]
        told = self.world.told[covered["epoch"]]
        expected = [len(told), sum(row["n"] for row in told) if told else None]
        assert answer["rows"] == [expected], covered
        return int(covered["epoch"])

    def reaches(self, epoch: int) -> None:
        wait(lambda: self.epoch() == epoch)

    def is_busy(self) -> None:
        """Waits until a worker has been at work for a while."""
        before = {each.pid: each.cpu_times().user for each in self.workers()}
        wait(
            lambda: any(
                each.cpu_times().user > before.get(each.pid, 0.0) + 0.2 for each in self.workers()
            )
        )

    def end(self, number: signal.Signals) -> tuple[int, str]:
        self.client.close()
        return super().end(number)

    def more(self, epochs: int = 1) -> int:
        last = 0
        for _ in range(epochs):
            last = self.world.epoch([{"k": "a", "n": 1}, {"k": "b", "n": 2}])
        return last


class Poller:
    """Asks in a thread, all the time; `refused` counts answers that were errors of ours."""

    def __init__(self, server: Server) -> None:
        self._server, self._stop = server, threading.Event()
        self.answers = self.refused = self.broken = 0
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Poller:
        self._run = self._pool.submit(self._poll)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._run.result()  # raises what was wrong
        self._pool.shutdown()

    def goes_on(self) -> None:
        answered = self.answers
        wait(lambda: self.answers > answered + 3)

    def _poll(self) -> None:
        last = 0
        while not self._stop.is_set():
            try:
                epoch = self._server.epoch()
            except KeyError:  # an error has no coverage
                self.refused += 1
                continue
            except httpx.TransportError:
                self.broken += 1
                continue
            assert epoch >= last, "answers went back"
            last, self.answers = epoch, self.answers + 1


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, views=VIEWS)
    world.epoch([{"k": "a", "n": 1}])
    return world


@pytest.fixture
def server(world: World) -> Iterator[Server]:
    yield from served(world)


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Server]:
    """A server with a view whose changes take a while."""
    views = {**VIEWS, "by_key": "SELECT k, count(*) AS hits FROM hits GROUP BY k"}
    world = World(tmp_path, views=views)
    world.epoch([{"k": str(number), "n": 1} for number in range(60_000)])
    yield from served(world)


def served(world: World) -> Iterator[Server]:
    server = Server(world)
    yield server
    family = server.family()
    code, errors = server.end(signal.SIGTERM)
    assert code == 0, errors
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive, "processes were left behind"


def pids(processes: list[psutil.Process]) -> set[int]:
    return {each.pid for each in processes}


@pytest.mark.parametrize("state", ["idle", "running", "applying"])
def test_a_killed_worker_is_replaced_and_only_its_query_fails(server: Server, state: str) -> None:
    before = server.workers()
    with Poller(server) as poller, ThreadPoolExecutor(1) as pool:
        if state == "running":
            asked = pool.submit(server.ask, SLOW, timeout_ms=30_000)
            server.is_busy()
        elif state == "applying":
            server.more(5)
        for each in before:
            each.kill()
        server.reaches(server.more())
        if state == "running":
            answer = asked.result(WAIT_SECONDS)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
        wait(lambda: len(server.workers()) == len(before))
        poller.goes_on()
    assert not pids(server.workers()) & pids(before)


@pytest.mark.parametrize("part", ["serving.follower.process", "serving.worker.process"])
def test_a_killed_follower_or_spare_is_started_anew(server: Server, part: str) -> None:
    with Poller(server) as poller:
        for _ in range(2):
            server.reaches(server.more())
            failed, known = poller.refused, server.child(part).pid
            server.child(part).kill()
            poller.goes_on()  # from the crew that was there
            server.reaches(server.more(3))
            assert server.child(part).pid != known
            wait(lambda: server.client.get("/readyz").status_code == 200)
            assert poller.refused == failed


def test_where_no_worker_comes_the_answer_says_so(server: Server) -> None:
    spare = server.child("serving.worker.process")
    workers = server.workers()
    spare.suspend()
    for each in workers:
        each.kill()

    def told() -> str:
        answer = server.ask("FROM everything", timeout_ms=500)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
        return str(answer.json()["error"]["message"])

    wait(lambda: told().startswith("no worker came within 500 ms"))
    spare.resume()
    wait(lambda: server.ask("FROM everything").status_code == 200)


def test_nothing_outlives_a_killed_front(world: World) -> None:
    server = Server(world)
    family = server.family()
    assert len(family) >= 4
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.ask, SLOW, timeout_ms=30_000)
        server.is_busy()
        server.process.kill()
        assert isinstance(asked.exception(WAIT_SECONDS), httpx.TransportError)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    server.end(signal.SIGTERM)
    again = Server(world)
    assert again.epoch() == 1
    assert again.end(signal.SIGTERM)[0] == 0


def test_a_query_does_not_hold_up_the_end(world: World) -> None:
    server = Server(world)
    with server.client, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.ask, SLOW, timeout_ms=60_000)
        server.is_busy()
        started = time.monotonic()
        code, errors = Process.end(server, signal.SIGTERM)  # its client is still asking
        assert code == 0
        assert time.monotonic() - started < 4.0
        assert asked.exception() is not None or asked.result().status_code >= 400
    assert "Traceback" not in errors


def test_publications_swap_while_clients_ask(server: Server) -> None:
    def publication() -> object:
        return server.client.get("/views/everything").json()["publication"]

    with Poller(server) as poller:
        for number in range(1, 4):
            last = server.more(4)
            server.world.seal()
            assert server.world.build("everything").id == number
            wait(lambda: publication() == number)  # noqa: B023 awaited before the next round
            assert server.epoch() >= last
            poller.goes_on()
    assert (poller.refused, poller.broken) == (0, 0)


def test_no_client_sees_an_older_state_than_another_has_seen(large: Server) -> None:
    """While changes are made in each worker by itself."""
    world = large.world
    seen, stop = [1], threading.Event()

    def ask(client: httpx.Client) -> int:
        asked = 0
        while not stop.is_set():
            least = max(seen)
            sql = f"SELECT hits, (SELECT sum(hits) FROM by_key) FROM everything -- {asked}"
            answer = client.post("/sql", json={"sql": sql}).json()
            (epoch,) = {each["epoch"] for each in answer["coverage"]}
            assert epoch >= least
            assert answer["rows"] == [[len(world.told[epoch])] * 2]
            seen.append(epoch)
            asked += 1
        return asked

    with ThreadPoolExecutor(4) as pool:
        clients = [httpx.Client(base_url=large.url, timeout=WAIT_SECONDS) for _ in range(4)]
        asking = [pool.submit(ask, client) for client in clients]
        try:
            for number in range(40):
                last = world.epoch([{"k": str(number * 97 % 60_000), "n": 1}] * 50)
            wait(lambda: max(seen) == last or any(each.done() for each in asking))
        finally:
            stop.set()
            wait(lambda: all(each.done() for each in asking))
            for client in clients:
                client.close()
        assert sum(each.result() for each in asking) > 40


def test_a_deadline_takes_the_worker_and_not_the_server(server: Server) -> None:
    """What does not heed an interrupt is killed a second after its deadline."""
    before = pids(server.workers())
    deaf = " UNION ALL ".join(f"SELECT count(*) FROM a{n}" for n in range(40))
    tables = ", ".join(f"a{n} AS (FROM range(1000) WHERE range % 7 = {n})" for n in range(40))
    joins = " JOIN ".join(f"range(3) t{n}" for n in range(60))
    started = time.monotonic()
    answer = server.ask(
        f"WITH {tables} {deaf} UNION ALL SELECT count(*) FROM {joins}", timeout_ms=400
    )
    took = time.monotonic() - started
    assert answer.status_code in (200, 400, 408)
    assert took < 3.0
    assert server.epoch() == 1
    wait(lambda: len(server.workers()) == len(before))


def test_look_ups_go_on_beside_33_slow_ones(server: Server) -> None:
    with ThreadPoolExecutor(33) as pool:
        slow = [
            pool.submit(server.ask, f"{SLOW} -- {number}", timeout_ms=8_000) for number in range(33)
        ]
        took: list[float] = []
        while not all(each.done() for each in slow):
            started = time.monotonic()
            answer = server.ask("SELECT hits + ? FROM everything", params=[len(took)])
            took.append(time.monotonic() - started)
            assert answer.status_code == 200
    assert {each.result().status_code for each in slow} == {408}
    assert len(took) > 10
    assert sorted(took)[len(took) // 2] < 1.0


@pytest.mark.parametrize("kind", sorted(NAMES.values()))
def test_a_killed_worker_breaks_its_stream(server: Server, kind: str) -> None:
    """A short answer never looks whole, in any format."""
    asked = {"sql": LARGE, "max_rows": 1_000_000, "timeout_ms": 60_000}
    with server.client.stream("POST", "/sql", json=asked, headers={"Accept": kind}) as answer:
        assert answer.status_code == 200
        parts = answer.iter_raw()
        next(parts)
        for each in server.workers():
            each.kill()
        with pytest.raises(httpx.TransportError):
            list(parts)
    assert server.epoch() == 1


def test_a_client_that_leaves_ends_its_query(server: Server) -> None:
    asked = {"sql": LARGE, "max_rows": 1_000_000, "timeout_ms": 60_000}
    for _ in range(4):  # more than there are workers
        with server.client.stream("POST", "/sql", json=asked) as answer:
            next(answer.iter_raw())
    started = time.monotonic()
    assert server.epoch() == 1
    assert server.ask(f"{SLOW} -- after", timeout_ms=1_000).status_code == 408
    assert time.monotonic() - started < 10.0
