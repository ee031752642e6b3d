"""Worker processes as the front knows them: alone, and as the crew that has one state.

A crew is forked from one spare. What the follower announces is relayed to all of it, before any
query that comes later, so a client whose second question meets another worker finds there what it
saw at the first, or more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from serving.frames import Frame
from serving.front.board import Board
from serving.front.channel import Channel

ENDED = "ended"  # by itself, or by another hand
BACKLOG_BYTES = 256 * 2**20  # of changes that a worker has not taken; then it has to go

log = logging.getLogger("serving")


class Run(Protocol):
    """A query that a worker has."""

    def told(self, frame: Frame) -> None:
        """The worker's word on it; `end` and `error` are its last."""

    def broken(self, why: str) -> None:
        """The worker has ended before it did."""


@dataclass(eq=False)
class Worker:
    """One process. `number` is the last change that it had when it was forked; None: it has not
    said so yet."""

    crew: Crew
    channel: Channel
    pid: int | None = None
    number: int | None = None
    run: Run | None = None
    confinement: Mapping[str, Any] = field(default_factory=dict)
    killed: str | None = None
    ended: bool = False

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
        self.board, self._describe = board, describe
        self.workers: list[Worker] = []
        self._changed, self._lost = changed, lost
        self._retired = False
        self._starting: set[asyncio.Task[None]] = set()

    def add(self, fork: Callable[[int], None]) -> None:
        """One more worker; `fork` has the spare make it, at a descriptor."""
        ours, its = socket.socketpair()
        with its:
            fork(its.fileno())
        worker: Worker

        def told(frame: Frame) -> None:
            self._told(worker, frame)

        worker = Worker(self, Channel(told, lambda: self._ended(worker)))
        self.workers.append(worker)
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
        for worker in list(self.workers):
            worker.channel.send(header, change.payload)
            if worker.channel.waiting > BACKLOG_BYTES:
                worker.kill("backlog")
        self.board = self.board.after(change)
        self._changed()

    def ready(self, size: int) -> bool:
        """Whether that many have come and have the state of the board."""
        come = [each for each in self.workers if each.number is not None]
        return len([each for each in come if each.number <= self.board.number]) >= size  # type: ignore[operator]

    @property
    def reached(self) -> float:
        """The last change that the crew has; one for the past needs none."""
        return self.board.number or math.inf

    def free(self) -> list[Worker]:
        return [each for each in self.workers if each.free]

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
        if frame.kind == "hello":
            worker.pid, worker.number = int(frame.header["pid"]), int(frame.header["number"])
            worker.confinement = frame.header["confinement"]
            self._changed()
        elif frame.kind == "trouble":
            log.error("worker %s ends: %s", worker.pid, frame.header["message"])
        elif frame.kind == "describe" and self._describe is not None:
            self._describe(worker, frame)
        elif worker.run is not None:
            run = worker.run
            if frame.kind in ("end", "error"):
                worker.run = None
                if worker.crew._retired or self._describe is not None:
                    worker.kill("done")
            run.told(frame)
            if worker.run is None:
                self._changed()

    def _ended(self, worker: Worker) -> None:
        worker.ended = True
        crew = worker.crew
        crew.workers.remove(worker)
        run, worker.run = worker.run, None
        if run is not None:
            run.broken(worker.killed or ENDED)
        if not crew._retired:
            if worker.killed is None and run is not None:
                log.warning("worker %s ended by itself; another takes its place", worker.pid)
            crew._lost(worker)
