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
import os
import signal
import socket
import sys
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
TOLD_CHARACTERS = 2_000  # of its last words

log = logging.getLogger("serving")


Fork = Callable[["Worker", int], None]


class Run(Protocol):
    """A query that a worker has."""

    number: int  # of the attempt

    def reached(self, number: int) -> None:
        """The worker has the changes up to that one."""

    def told(self, frame: Frame) -> None:
        """The worker's word on it; `end` and `error` are its last."""

    def broken(self, why: str) -> None:
        """The worker has ended before it did."""


@dataclass(eq=False)
class Worker:
    """One process. `number` is the last change that it has said to have; None: it has said nothing
    yet."""

    crew: Crew
    channel: Channel
    pid: int | None = None
    number: int | None = None
    run: Run | None = None
    described: bool = False  # it has asked what a past state was
    killed: str | None = None
    ended: bool = False
    born: float = 0.0
    _process: int | None = None  # a descriptor of it, which no other process can be mistaken for

    @property
    def free(self) -> bool:
        return self.crew.knows(self.number) and self.run is None and self.killed is None

    def named(self, pid: int) -> None:
        """The spare's word on which process it is; 0: there is none."""
        if not pid:
            return
        self.pid = pid
        if sys.platform == "linux":
            with contextlib.suppress(ProcessLookupError):
                self._process = os.pidfd_open(pid)
        if self.killed is not None or self.ended:
            self._end()

    def begin(self, run: Run, header: dict[str, Any]) -> None:
        self.run = run
        self.channel.send(header)

    def kill(self, why: str) -> None:
        """Kill the process; its query, if any, hears of it when the wire ends."""
        if self.ended or self.killed is not None:
            return
        self.killed = why
        self._end()
        self.channel.close()

    def gone(self) -> None:
        """Its wire has ended; so has the process, or it is none that is a worker any more."""
        self.ended = True
        self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        with contextlib.suppress(ProcessLookupError):
            if process is not None:
                signal.pidfd_send_signal(process, signal.SIGKILL)
            elif sys.platform != "linux" and self.pid is not None and not self.ended:
                os.kill(self.pid, signal.SIGKILL)  # of one that ended the number may be another's
        if process is not None:
            os.close(process)


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
        self.begun = time.monotonic()
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
        """Whether that many have come, with no more than was relayed."""
        return sum(self.knows(each.number) for each in self.workers) >= size

    def knows(self, number: int | None) -> bool:
        """Whether all of that state was relayed; a crew for the past has no state."""
        return number is not None and (self._describe is not None or number <= self.board.number)

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
        if worker.killed is not None:
            return
        try:
            self._hear(worker, frame)
        except Exception:  # whatever its words bring about; or a fault of ours: the places tell
            log.exception("worker %s said what none says", worker.pid)
            worker.kill("protocol")

    def _hear(self, worker: Worker, frame: Frame) -> None:
        if worker.number is None:
            self._greet(worker, frame)
        elif frame.kind == "trouble":
            places = "; ".join(map(str, frame.header["raised"]))[:TOLD_CHARACTERS]
            named = str(frame.header["error"])[:TOLD_CHARACTERS]
            log.error("worker %s ends by %s: %s", worker.pid, named, places)
            worker.kill(ENDED)
        elif frame.kind == "changed":
            self._moved(worker, frame.header["number"])
        elif frame.kind == "describe" and self._describe is not None:
            if worker.run is None or worker.described:
                message = "a question that none has"
                raise ValueError(message)
            worker.described = True
            self._describe(worker, frame)
        else:
            self._answered(worker, frame)

    def _greet(self, worker: Worker, frame: Frame) -> None:
        """The first word, before it has had a statement."""
        worker.number = int(frame.header["number"])
        worker.crew._show(worker.number)
        held = frame.header["confinement"]
        missing = dict(held["missing"])
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
        if worker.run is not None:
            worker.run.reached(worker.number)
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
            last = worker.crew._retired or self._describe is not None
            if last or frame.header.get("last"):
                worker.kill("done")
            self._changed()

    def _ended(self, worker: Worker) -> None:
        worker.gone()
        crew = worker.crew
        crew.workers.remove(worker)
        run, worker.run = worker.run, None
        if run is not None:
            run.broken(worker.killed or ENDED)
        if not crew._retired:
            if worker.killed is None and (run is not None or self._describe is None):
                log.warning("worker %s ended by itself; another takes its place", worker.pid)
            crew._lost(worker)
