"""Follower, spare and workers: started, watched, and put in each other's place.

    front --fork--> follower + spare     a generation: one cannot be without the other
                       |        '--fork--> workers: a crew, which has one state
                       '--announces--> front --relays--> the crew

A light change is relayed to the crew. After a heavy one, a view that was made anew, the spare has
what its workers have not: another crew is forked from it, and takes over when all of it has come;
until then the old one answers from the old state. When follower or spare end, another generation
starts beside the crew that answers, and its crew takes over as soon as it is not behind.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from serving.facts import Facts
from serving.frames import FOR_NOW, FOR_PAST, PID, Frame
from serving.front.board import Board
from serving.front.channel import Channel
from serving.front.workers import Crew, Worker

FORKS_AT_ONCE = 64  # that the spare was told of and has not done
GENERATION = 10**9  # changes of one are numbered from its number times this
AGAIN_SECONDS = 1.0  # after a follower or spare that ended; doubled each time, up to the limit
AGAIN_LIMIT_SECONDS = 30.0
STEADY_SECONDS = 60.0  # one that lived so long ended for a reason of its own
SILENT_SECONDS = 10.0
TAKE_OVER_SECONDS = 30.0  # with views that stay behind, such as one that is being built anew
COMING_SECONDS = 10.0  # for a crew, while another one answers
END_SECONDS = 2.0
NEWBORN_SECONDS = 1.0  # a worker that ends before has not much to wait for

STARTING = "starting"

log = logging.getLogger("serving")


@dataclass(eq=False)
class Generation:
    """A follower and its spare."""

    number: int
    board: Board
    follower: subprocess.Popen[bytes]
    spare: subprocess.Popen[bytes]
    channel: Channel
    forks: socket.socket
    started: float
    heard: float
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    status: Mapping[str, Any] = field(default_factory=lambda: {"unready": [STARTING]})
    waiting: deque[tuple[Worker, int, bytes]] = field(default_factory=deque)  # to be forked
    forking: deque[Worker] = field(default_factory=deque)  # the spare was told

    def fork(self, worker: Worker, descriptor: int, what_for: bytes = FOR_NOW) -> None:
        """Have the spare fork a worker at a descriptor, which is closed when that is said."""
        self.waiting.append((worker, descriptor, what_for))
        self._say()

    def heard_of_forks(self) -> bool:
        """Take the spare's word on the processes that it made, in the order in which it was told;
        False when it has ended."""
        try:
            told = self.forks.recv(FORKS_AT_ONCE * PID.size)
        except BlockingIOError:
            return True
        except OSError:
            return False
        for (pid,) in PID.iter_unpack(told):
            self.forking.popleft().named(pid)
        self._say()
        return bool(told)

    def _say(self) -> None:
        while self.waiting and len(self.forking) < FORKS_AT_ONCE:
            worker, descriptor, what_for = self.waiting.popleft()
            self.forking.append(worker)
            try:
                socket.send_fds(self.forks, [what_for], [descriptor])
            except OSError:
                self.ended.set()
            finally:
                os.close(descriptor)

    def close(self) -> None:
        """End both, and wait for it. The channel is closed before, by the loop that has it."""
        self.forks.close()
        for _, descriptor, _ in self.waiting:
            os.close(descriptor)
        self.waiting.clear()
        for process in (self.follower, self.spare):
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Pool:
    """The processes behind the front. `changed` is called when a worker may be free, or the board
    has changed."""

    def __init__(self, state: Path, size: int, memory: str, facts: Callable[[Facts], None]) -> None:
        self._state, self.size, self._memory = state, size, memory
        self._facts = facts
        self.changed: Callable[[], None] = lambda: None
        self._generation: Generation | None = None
        self._generations = 0
        self._crew: Crew | None = None
        self._next: Crew | None = None
        self._columns: Mapping[str, Any] = {}
        self._closed = False
        self._failures = 0
        self._past = Crew(Board(), lambda: self.changed(), self._lost_of_past, self._describe)
        self._describing: dict[int, Worker] = {}  # by their process

    @property
    def board(self) -> Board:
        """What clients see: the newest state that one of the workers that answer has."""
        return Board() if self._crew is None else self._crew.shown

    @property
    def reached(self) -> int:
        return self.board.number

    @property
    def columns(self) -> Mapping[str, Any]:
        return self._columns

    @property
    def manned(self) -> bool:
        """Whether a worker is there, free or not."""
        return self._manned > 0

    @property
    def _manned(self) -> int:
        workers = [] if self._crew is None else self._crew.workers
        return sum(worker.number is not None for worker in workers)

    @property
    def for_slow(self) -> int:
        """All workers that are there but one; where there is to be only one, that."""
        return self._manned - 1 if self.size > 1 else 1

    def free(self) -> list[Worker]:
        return [] if self._crew is None else self._crew.free()

    def unready(self) -> list[str]:
        """Why what is answered is not what it should be; empty if it is."""
        generation = self._generation
        if generation is None:
            return [STARTING]
        reasons = list(generation.status["unready"])
        if not reasons and self._crew is None:
            return [STARTING]
        crew, coming = self._crew, self._next
        if not reasons and not self.manned:
            reasons.append("there is no worker")
        late = coming is not None and time.monotonic() - coming.begun > COMING_SECONDS
        if not reasons and (late or not self._serves(generation)):
            reasons.append("workers with the newest state are being started")
        if not reasons and crew is not None and crew.shown.waiting().keys() - crew.board.waiting():
            reasons.append("workers are taking the newest state")
        if time.monotonic() - generation.heard > SILENT_SECONDS:
            reasons.append(f"the follower has said nothing for {SILENT_SECONDS:g} s")
        return reasons

    def waiting(self) -> dict[str, str]:
        """Views that are not to be asked yet, and why."""
        return self.board.waiting()

    async def run(self) -> None:
        """Keep a generation alive until the pool is closed."""
        while not self._closed:
            generation = await self._start()
            await generation.ended.wait()
            if self._closed:
                return
            lived = time.monotonic() - generation.started
            self._failures = 0 if lived > STEADY_SECONDS else self._failures + 1
            log.error("follower or spare ended after %.1f s; both are started again", lived)
            self._forget(generation)
            generation.channel.close()
            await asyncio.to_thread(generation.close)
            if self._next is not None:
                self._next.kill("spare ended")
                self._next = None
            wait = min(AGAIN_SECONDS * 2 ** min(self._failures - 1, 10), AGAIN_LIMIT_SECONDS)
            await asyncio.sleep(wait if self._failures > 1 else 0)

    def close(self) -> None:
        """End everything that was started."""
        self._closed = True
        for crew in (self._crew, self._next, self._past):
            if crew is not None:
                crew.kill("closing")
        if self._generation is not None:
            self._forget(self._generation)
            self._generation.channel.close()
            self._generation.close()
            self._generation.ended.set()

    # the past

    def free_for_past(self) -> list[Worker]:
        """A worker each of which answers one statement about the past."""
        return self._past.free()

    def fork_for_past(self) -> None:
        """Begin another one."""
        generation = self._generation
        if generation is not None and not generation.ended.is_set():
            self._past.add(lambda worker, end: generation.fork(worker, end, FOR_PAST))

    @property
    def past_workers(self) -> int:
        return len(self._past.workers)

    def _describe(self, worker: Worker, frame: Frame) -> None:
        """Have the follower say what a past state was."""
        generation = self._generation
        if generation is None or worker.pid is None:
            worker.kill("no follower")
            return
        self._describing[worker.pid] = worker
        generation.channel.send({**frame.header, "worker": worker.pid})

    def _described(self, frame: Frame) -> None:
        worker = self._describing.pop(int(frame.header["worker"]), None)
        if worker is not None and not worker.ended:
            worker.channel.send(frame.header, frame.payload)

    # generations

    async def _start(self) -> Generation:
        self._generations += 1
        number = self._generations
        ours, followers = socket.socketpair()
        forks, spares = socket.socketpair()
        between, other = socket.socketpair()
        with followers, spares, between, other:
            follower = self._child(
                "serving.follower.process",
                {"--front": followers, "--spare": between},
                ["--after", str(number * GENERATION)],
            )
            spare = self._child(
                "serving.worker.process",
                {"--front": spares, "--follower": other},
                ["--memory", self._memory],
            )
        generation: Generation

        def told(frame: Frame) -> None:
            self._heard(generation, frame)

        channel = Channel(told, lambda: generation.ended.set())
        now = time.monotonic()
        board = Board(number=number * GENERATION)
        generation = Generation(number, board, follower, spare, channel, forks, now, now)
        self._generation = generation
        forks.setblocking(False)
        asyncio.get_running_loop().add_reader(forks, self._spare_told, generation)
        await channel.over(ours)
        return generation

    def _child(
        self, module: str, ends: Mapping[str, socket.socket], more: list[str]
    ) -> subprocess.Popen[bytes]:
        told = [text for name, end in ends.items() for text in (name, str(end.fileno()))]
        command = [sys.executable, "-P", "-m", module, "--state", str(self._state), *told, *more]
        passed = [end.fileno() for end in ends.values()]
        return subprocess.Popen(command, pass_fds=passed, stdin=subprocess.DEVNULL)

    def _spare_told(self, generation: Generation) -> None:
        if not generation.heard_of_forks():
            self._forget(generation)
            generation.ended.set()

    def _forget(self, generation: Generation) -> None:
        """Look no more at its spare; before its socket is closed."""
        if generation.forks.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(generation.forks)

    def _heard(self, generation: Generation, frame: Frame) -> None:
        generation.heard = time.monotonic()
        if frame.kind == "status":
            generation.status = frame.header
            self._columns = frame.header["columns"]
            self._take_over(generation)
            return
        if frame.kind == "described":
            self._described(frame)
            return
        if frame.kind == "facts":
            self._facts(cast(Facts, frame.header["facts"]))
            return
        before = self._crew.board if self._crew is not None else generation.board
        heavy = bool(frame.header["heavy"])
        other = self._crew is None or self._crew.board.number < generation.number * GENERATION
        if other and self._next is None:
            generation.board = replace_since(generation.board, before).after(frame)
            self._take_over(generation)
        elif heavy:
            serving = self._next or self._crew
            assert serving is not None
            generation.board = serving.board.after(frame)
            self._fork_crew(generation)
        else:
            crew = self._next or self._crew
            assert crew is not None
            crew.relay(frame)
            generation.board = crew.board
        self._swap()

    def _serves(self, generation: Generation) -> bool:
        """Whether the crew that answers, or the next one, is of this generation."""
        crew = self._next or self._crew
        return crew is not None and crew.board.number >= generation.number * GENERATION

    def _take_over(self, generation: Generation) -> None:
        """Begin the crew of a new generation, if it is not behind; or, when it has loaded all that
        it can, is still behind in some view, and the others have waited for long enough."""
        if self._serves(generation) or generation.board.number == generation.number * GENERATION:
            return
        if self._crew is not None and generation.board.behind(self._crew.board):
            lived = time.monotonic() - generation.started
            if generation.status["unready"] or lived < TAKE_OVER_SECONDS:
                return
        self._fork_crew(generation)

    # crews

    def _fork_crew(self, generation: Generation) -> None:
        """Begin the crew of a state that only the spare has."""
        crew = Crew(generation.board, self._freed, self._lost)
        for known in (self._next, self._crew):
            for worker in list(known.workers) if known is not None else []:
                if worker.number is not None and worker.number >= crew.board.number:
                    crew.adopt(worker)
        if self._next is not None:
            self._next.retire()
        self._next = crew
        for _ in range(self.size - len(crew.workers)):
            crew.add(generation.fork)

    def _freed(self) -> None:
        self._swap()
        self.changed()

    def _swap(self) -> None:
        """Have the next crew answer, once all of it has come."""
        if self._next is None or not self._next.ready(self.size):
            return
        before, self._crew, self._next = self._crew, self._next, None
        if before is not None:
            before.retire()
        self.changed()

    def _lost_of_past(self, worker: Worker) -> None:
        self._describing.pop(worker.pid or 0, None)
        if worker.number is None:  # whatever it was may still be so
            asyncio.get_running_loop().call_later(NEWBORN_SECONDS, self.changed)
        else:
            self.changed()

    def _lost(self, worker: Worker) -> None:
        """Have another worker in the place of one that has ended."""
        generation = self._generation
        crew = worker.crew
        if self._closed or generation is None or generation.ended.is_set():
            return
        if time.monotonic() - worker.born < NEWBORN_SECONDS:  # whatever it was may still be so
            asyncio.get_running_loop().call_later(NEWBORN_SECONDS, self._replace, crew)
        else:
            self._replace(crew)

    def _replace(self, crew: Crew) -> None:
        generation = self._generation
        if self._closed or generation is None or generation.ended.is_set():
            return
        same = crew.board.number >= generation.number * GENERATION
        wanted = crew is self._next or (crew is self._crew and self._next is None and same)
        if wanted and len(crew.workers) < self.size:
            crew.add(generation.fork)


def replace_since(board: Board, before: Board) -> Board:
    """A board of another generation, to be compared with the one that clients see."""
    if board.views:
        return board
    return Board(board.number, before.views, before.streams, before.since)
