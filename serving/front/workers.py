"""Worker processes as the front knows them: alone, and as the crew that has one state.

A crew is forked from one spare. What the follower announces is relayed to all of it. A worker says
when it has a change; with the first that has it the change is shown, and every query from then on
says so to its worker, which waits for it. So a client whose second question meets another worker
finds there what it saw at the first, or more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from serving.frames import Frame, encode
from serving.front.board import Board
from serving.front.channel import Channel
from serving.log import about

ENDED = "ended"  # by itself, or by another hand
BACKLOG_BYTES = 2**29  # of changes that a worker has not taken; then it has to go
FRAME_BYTES = 4 * 2**20  # that a worker may send at once

log = logging.getLogger("serving")


Fork = Callable[["Worker", int], None]


class Run(Protocol):
    """A query that a worker has."""

    number: int  # of the attempt

    def told(self, frame: Frame) -> None:
        """The worker's word on it; `end` and `error` are its last."""

    def broken(self, why: str) -> None:
        """The worker has ended before it did."""


@dataclass(eq=False)
class Worker:
    """One process. `number` is the last change that it has said to have; None: it has said nothing
    yet. `pid` is the spare's word."""

    crew: Crew
    channel: Channel
    pid: int | None = None
    number: int | None = None
    run: Run | None = None
    killed: str | None = None
    ended: bool = False
    born: float = 0.0

    @property
    def free(self) -> bool:
        known = self.number is not None and self.number <= self.crew.reached
        return known and self.run is None and not self.ended and self.killed is None

    def begin(self, run: Run, header: dict[str, Any]) -> None:
        self.run = run
        self.channel.send(header)

    def kill(self, why: str) -> None:
        """Kill the process; its query, if any, hears of it when the wire ends."""
        if self.ended or self.killed is not None:
            return
        self.killed = why
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.channel.close()


class Crew:
    """The workers of one state. `changed` is called when one may be free, `lost` when one has
    ended that was not retired. Those of a crew with `describe` answer one statement each, about a
    past state; it is called when one asks what that was."""

    def __init__(
        self,
        board: Board,
        changed: Callable[[], None],
        lost: Callable[[Worker], None],
        describe: Callable[[Worker, Frame], None] | None = None,
    ) -> None:
        self.board, self._describe = board, describe  # what was relayed to all
        self.shown = board  # what one of them has
        self._relayed: deque[Board] = deque()  # that none of them has
        self._newest = 0  # of the changes that one of them has
        self.workers: list[Worker] = []
        self._changed, self._lost = changed, lost
        self._retired = False
        self._starting: set[asyncio.Task[None]] = set()

    def add(self, fork: Fork) -> None:
        """One more worker; `fork` has the spare make it, at a descriptor that is its to close."""
        ours, its = socket.socketpair()
        worker: Worker

        def told(frame: Frame) -> None:
            self._told(worker, frame)

        channel = Channel(told, lambda: self._ended(worker), FRAME_BYTES)
        worker = Worker(self, channel, born=time.monotonic())
        self.workers.append(worker)
        fork(worker, its.detach())
        task = asyncio.ensure_future(worker.channel.over(ours))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    def adopt(self, worker: Worker) -> None:
        """Take a worker of another crew, which has this one's state already."""
        worker.crew.workers.remove(worker)
        worker.crew = self
        self.workers.append(worker)

    def relay(self, change: Frame) -> None:
        """Tell all of them a change; the board follows."""
        header = {"kind": "change", "number": change.header["number"]}
        frame = encode(header, change.payload)
        for worker in list(self.workers):
            if worker.channel.waiting > BACKLOG_BYTES:
                worker.kill("backlog")
            worker.channel.write(frame)
        self.board = self.board.after(change)
        self._relayed.append(self.board)
        self._show(self._newest)
        self._changed()

    def _show(self, number: int) -> None:
        """One has that change."""
        self._newest = max(self._newest, number)
        while self._relayed and self._relayed[0].number <= self._newest:
            self.shown = self._relayed.popleft()

    def ready(self, size: int) -> bool:
        """Whether that many have come and have the state of the board."""
        come = [each for each in self.workers if each.number is not None]
        return len([each for each in come if each.number <= self.board.number]) >= size  # type: ignore[operator]

    @property
    def reached(self) -> float:
        """The last change that the crew has; one for the past needs none."""
        return self.board.number or math.inf

    def free(self) -> list[Worker]:
        """Those with the newest state are last."""
        free = [each for each in self.workers if each.free]
        return sorted(free, key=lambda each: each.number or 0)

    def retire(self) -> None:
        """Let all go: at once who does nothing, the others with the end of their query."""
        self._retired = True
        for worker in list(self.workers):
            if worker.run is None:
                worker.channel.close()

    def kill(self, why: str) -> None:
        self._retired = True
        for worker in list(self.workers):
            worker.kill(why)

    def _told(self, worker: Worker, frame: Frame) -> None:
        """Its word is believed as far as it can be the word of a worker; one that says anything
        else may be in the hands of a statement, and is killed."""
        try:
            self._hear(worker, frame)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.error("worker %s said what none says: %s", worker.pid, type(error).__name__)
            worker.kill("protocol")

    def _hear(self, worker: Worker, frame: Frame) -> None:
        if worker.number is None:
            self._greet(worker, frame)
        elif frame.kind == "trouble":
            places = "; ".join(map(str, frame.header["raised"]))
            log.error("worker %s ends by %s: %s", worker.pid, str(frame.header["error"]), places)
        elif frame.kind == "changed":
            self._moved(worker, frame.header["number"])
        elif frame.kind == "describe" and self._describe is not None:
            self._describe(worker, frame)
        else:
            self._answered(worker, frame)

    def _greet(self, worker: Worker, frame: Frame) -> None:
        """The first word, before it has had a statement."""
        worker.number = int(frame.header["number"])
        worker.crew._show(worker.number)
        held = frame.header["confinement"]
        missing = {name: why for name, why in held["missing"].items() if name != "parent"}
        if missing:
            extra = about(repeat=("confinement", *sorted(missing)))
            log.warning("workers go without layers of confinement: %s", missing, extra=extra)
        self._changed()

    def _moved(self, worker: Worker, number: int) -> None:
        """Its state, or that of an answer, has a change."""
        if not 0 <= number <= worker.crew.board.number:
            message = "a change that has not been told"
            raise ValueError(message)
        worker.number = max(worker.number or 0, number)
        worker.crew._show(number)
        self._changed()

    def _answered(self, worker: Worker, frame: Frame) -> None:
        run = worker.run
        if run is None or frame.header["id"] != run.number:
            message = "an answer that nobody waits for"
            raise ValueError(message)
        if frame.kind == "head" and self._describe is None:
            self._moved(worker, frame.header["number"])
        run.told(frame)
        if frame.kind in ("end", "error"):
            worker.run = None
            if worker.crew._retired or self._describe is not None:
                worker.kill("done")
            self._changed()

    def _ended(self, worker: Worker) -> None:
        worker.ended = True
        crew = worker.crew
        crew.workers.remove(worker)
        run, worker.run = worker.run, None
        if run is not None:
            run.broken(worker.killed or ENDED)
        if not crew._retired:
            if worker.killed is None and (run is not None or self._describe is None):
                log.warning("worker %s ended by itself; another takes its place", worker.pid)
            crew._lost(worker)
