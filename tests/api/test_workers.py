"""What the front believes of a worker: a socket that the test speaks into."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from serving.frames import Frame, Wire
from serving.front.board import Board
from serving.front.workers import FRAME_BYTES, Crew, Worker
from tests.api.waiting import until

HELLO = {"kind": "hello", "number": 0, "confinement": {"active": [], "missing": {}}}


class Heard:
    number = 7

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.broke: str | None = None
        self.at = 0

    def reached(self, number: int) -> None:
        self.at = number

    def told(self, frame: Frame) -> None:
        self.frames.append(frame)

    def broken(self, why: str) -> None:
        self.broke = why


class Scene:
    def __init__(self, describe: Callable[[Worker, Frame], None] | None = None) -> None:
        self.lost: list[Worker] = []
        self.crew = Crew(Board(), lambda: None, self.lost.append, describe)
        self.crew.add(self._fork)
        self.run = Heard()

    def _fork(self, worker: Worker, descriptor: int) -> None:
        self.worker = worker
        self.wire = Wire(socket.socket(fileno=descriptor))

    async def comes(self) -> None:
        self.wire.send(HELLO)
        await until(lambda: self.worker.number is not None)
        self.worker.begin(self.run, {"kind": "query", "id": self.run.number})


def played(
    scenario: Callable[[Scene], Coroutine[Any, Any, None]],
    describe: Callable[[Worker, Frame], None] | None = None,
) -> None:
    async def run() -> None:
        scene = Scene(describe)
        try:
            await scenario(scene)
        finally:
            scene.crew.kill("over")
            await asyncio.sleep(0)
            scene.wire.close()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_it_answers_what_it_was_asked() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.comes()
        scene.wire.send({"kind": "part", "id": 7}, b"x")
        scene.wire.send({"kind": "end", "id": 7})
        await until(lambda: scene.worker.run is None)
        assert [each.kind for each in scene.run.frames] == ["part", "end"]
        assert scene.worker.killed is None

    played(scenario)


def test_what_runs_hears_of_its_workers_state() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.comes()
        scene.crew.relay(Frame({"kind": "change", "number": 3, "views": [], "streams": []}))
        assert scene.crew.shown.number == 0
        scene.wire.send({"kind": "changed", "number": 3})
        await until(lambda: scene.run.at == 3)
        assert scene.crew.shown.number == 3

    played(scenario)


@pytest.mark.parametrize(
    "frame",
    [
        {"kind": "end", "id": 8},  # of another query
        {"kind": "end"},
        {"kind": "part", "id": "7", "more": 1},
        {"kind": "hello", "number": 5, "pid": 1},
        {"kind": "describe", "id": 9},
        {"kind": "changed", "number": 1},  # which nobody told it
        {"kind": "changed", "number": -1},
        {"kind": "head", "id": 7, "number": 1},
    ],
)
def test_one_that_says_anything_else_is_killed(
    frame: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.comes()
        scene.wire.send(frame)
        await until(lambda: scene.lost)
        assert scene.worker.killed == "protocol"
        assert scene.run.broke == "protocol"

    played(scenario)
    (said,) = caplog.records
    assert said.exc_info is not None
    assert said.exc_info[2] is not None  # where, if it is our fault


def test_one_that_closes_its_wire_is_ended() -> None:
    async def scenario(scene: Scene) -> None:
        with subprocess.Popen(["sleep", "60"]) as process:
            scene.worker.named(process.pid)
            await scene.comes()
            scene.wire.close()
            await until(lambda: scene.lost)
            assert await asyncio.to_thread(process.wait, 20) == -signal.SIGKILL
        assert scene.run.broke == "ended"

    played(scenario)


def test_one_that_is_named_late_is_ended_then() -> None:
    async def scenario(scene: Scene) -> None:
        scene.worker.kill("deadline")
        with subprocess.Popen(["sleep", "60"]) as process:
            scene.worker.named(process.pid)
            assert await asyncio.to_thread(process.wait, 20) == -signal.SIGKILL

    played(scenario)


def test_its_last_words_are_its_last(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.comes()
        last = {"kind": "trouble", "error": "E" * 10_000, "raised": ["x" * 10_000] * 3}
        for _ in range(5):
            scene.wire.send(last)
        await until(lambda: scene.lost)
        assert scene.run.broke == "ended"

    played(scenario)
    assert [len(each.getMessage()) < 5_000 for each in caplog.records] == [True]


def test_one_whose_engine_failed_gets_no_other_query() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.comes()
        scene.wire.send({"kind": "error", "id": 7, "last": True})
        await until(lambda: scene.lost)
        assert [each.kind for each in scene.run.frames] == ["error"]
        assert (scene.worker.killed, scene.run.broke) == ("done", None)

    played(scenario)


def test_the_past_is_asked_for_once() -> None:
    asked: list[Frame] = []

    async def scenario(scene: Scene) -> None:
        await scene.comes()
        for _ in range(5):
            scene.wire.send({"kind": "describe", "id": 7})
        await until(lambda: scene.lost)
        assert scene.worker.killed == "protocol"

    played(scenario, lambda _, frame: asked.append(frame))
    assert len(asked) == 1


@pytest.mark.parametrize("hello", [{**HELLO, "number": "x"}, {**HELLO, "confinement": 1}])
def test_a_first_word_that_is_none(hello: dict[str, Any]) -> None:
    async def scenario(scene: Scene) -> None:
        scene.wire.send(hello)
        await until(lambda: scene.lost)
        assert scene.worker.killed == "protocol"

    played(scenario)


def test_a_worker_names_no_process_to_be_killed() -> None:
    async def scenario(scene: Scene) -> None:
        scene.wire.send({**HELLO, "pid": os.getpid()})
        await until(lambda: scene.worker.number is not None)
        assert scene.worker.pid is None
        scene.worker.kill("deadline")  # this test goes on

    played(scenario)


def test_the_front_holds_no_more_than_a_frame() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.comes()
        sending = asyncio.create_task(asyncio.to_thread(_flood, scene.wire))
        await until(lambda: scene.lost)
        await sending
        assert scene.run.broke is not None

    played(scenario)


def _flood(wire: Wire) -> None:
    try:
        wire.send({"kind": "part", "id": 7}, b"x" * (FRAME_BYTES + 1))
    except OSError:
        return
