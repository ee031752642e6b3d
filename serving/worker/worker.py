"""A worker: one statement at a time, on one state; changes beside it, in the order they came.

    control thread   reads the socket: queries and changes into queues, `cancel` at once
    changing thread  takes the changes; until one is whole, statements see the state before it
    main thread      takes the queries; what it answers goes to the socket

A query says which change its state must have at `least`, as its client may have seen that. A change
that cannot be taken ends the process: the spare took it, so another worker will.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import duckdb

from serving.envelope import Code, RequestError, from_engine
from serving.frames import Frame, Wire
from serving.log import raised
from serving.packing import unpack
from serving.query import Head, Query
from serving.worker import guard
from serving.worker.confine import Limits, confine
from serving.worker.job import LOST, Job
from serving.worker.past import Room
from serving.worker.tables import Change, Tables

PART_BYTES = 2**20  # of an answer, in one frame
BEHIND_BYTES = 2**28  # of changes in memory; a worker that has more of them ends


class Worker:
    """A process that was forked a moment ago."""

    def __init__(
        self,
        front: Wire,
        tables: Tables,
        limits: Limits,
        readable: Sequence[Path],
        room: Room | None,
    ) -> None:
        self._front, self._tables = front, tables
        self._limits, self._readable = limits, readable
        self._room = room
        self._todo: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._changes: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._moved = threading.Condition()  # a change is whole, or a query was stopped
        self._busy = threading.Lock()  # held by a statement that runs
        self._behind = 0  # bytes of changes that were not taken yet
        self._lock = threading.Lock()  # for that, and what follows
        self._job: tuple[int, Job] | None = None
        self._cancelled: set[int] = set()

    def run(self) -> NoReturn:
        """Never returns: it ends with the front, or by its hand."""
        try:
            held = confine(self._limits, self._readable, keep={0, 1, 2, self._front.fileno()})
            hello = {"number": self._tables.state.number, "confinement": held.json()}
            self._front.send({"kind": "hello", **hello})
            threading.Thread(target=self._listen, daemon=True).start()
            threading.Thread(target=self._change, daemon=True).start()
            while True:
                self._query(self._todo.get())
                if self._room is not None:
                    os._exit(0)  # it was for one statement
        except BaseException as error:  # noqa: BLE001 it ends here, whatever it was
            self._end(error)

    def _end(self, error: BaseException) -> NoReturn:
        """The front logs why, as this process may write no file."""
        try:
            told = {"error": type(error).__name__, "raised": raised(error.__traceback__)}
            self._front.send({"kind": "trouble", **told})
        finally:
            os._exit(1)

    def _listen(self) -> NoReturn:
        """A worker that does not listen, as a statement has taken all memory, is none."""
        try:
            while (frame := self._front.receive()) is not None:
                if frame.kind == "cancel":
                    self._cancel(int(frame.header["id"]))
                elif frame.kind == "change":
                    self._fall_behind(len(frame.payload))
                    self._changes.put(frame)
                else:
                    self._todo.put(frame)
        except BaseException:  # noqa: BLE001 to say why would wait for others that send
            os._exit(1)
        os._exit(0)

    def _fall_behind(self, size: int) -> None:
        with self._lock:
            self._behind += size
        if self._behind > BEHIND_BYTES:
            os._exit(1)

    def _change(self) -> NoReturn:
        try:
            while True:
                frame = self._changes.get()
                number = int(frame.header["number"])
                if number > self._tables.state.number:  # else it was forked after it
                    self._take(unpack(frame.payload), number)
                self._fall_behind(-len(frame.payload))
        except BaseException as error:  # noqa: BLE001 it ends here, whatever it was
            self._end(error)

    def _take(self, change: Change, number: int) -> None:
        try:
            self._tables.apply(change, number)
        except (MemoryError, duckdb.OutOfMemoryException):  # which a statement may hold
            with self._busy:
                self._tables.apply(change, number)
        self._front.send({"kind": "changed", "number": number})
        with self._moved:
            self._moved.notify_all()

    def _query(self, frame: Frame) -> None:
        number = int(frame.header["id"])
        query = Query(**frame.header["query"])
        tables = self._tables if self._room is None else self._room.tables
        job = Job(tables, query, time.monotonic)
        with self._lock:
            self._job = number, job
            cancelled = number in self._cancelled
            self._cancelled.clear()
        if cancelled:
            job.stop(_stopped())
        least = int(frame.header["least"])
        with self._moved:
            self._moved.wait_for(lambda: self._tables.state.number >= least or job.stopped)
        try:
            if self._room is not None:
                self._recall(self._room, number, query)
            with self._busy:
                job.run(_Answer(self._front, number, job))
            said: dict[str, Any] = {"kind": "end"}
        except RequestError as error:
            said = _refusal(error)
        except MemoryError:
            message = "statement needs more memory than a worker has"
            said = _refusal(RequestError(Code.TOO_LARGE, message))
        except LOST as error:
            told = from_engine(error, query.sql).message
            message = f"the engine failed in this statement: {told}"
            refused = _refusal(RequestError(Code.INTERNAL, message))
            self._front.send({**refused, "id": number, "last": True})
            raise
        finally:
            with self._lock:
                self._job = None
        self._front.send({**said, "id": number})

    def _recall(self, room: Room, number: int, query: Query) -> None:
        """Make the tables of the state that a query is about, from what the follower says of it."""
        cursor = room.tables.cursor()
        try:
            relations = guard.check(cursor, query.sql).relations
        finally:
            cursor.close()
        told = {"as_of": query.as_of, "relations": [(each.path, each.place) for each in relations]}
        self._front.send({"kind": "describe", "id": number, **told})
        frame = self._todo.get()
        if "error" in frame.header:
            error = frame.header["error"]
            raise RequestError(Code(error["code"]), error["message"], error["place"])
        room.fill(unpack(frame.payload))

    def _cancel(self, number: int) -> None:
        """Stop a query, also one that has not begun. An interrupt between two statements of a job
        is lost, which is why the front says this again."""
        with self._lock:
            if self._job is not None and self._job[0] == number:
                self._job[1].stop(_stopped())
            elif self._job is None:
                self._cancelled.add(number)
        with self._moved:
            self._moved.notify_all()


class _Answer:
    """Where a job puts its answer: the front's socket."""

    def __init__(self, front: Wire, query: int, job: Job) -> None:
        self._front, self._query, self._job = front, query, job

    def head(self, head: Head) -> None:
        self._front.send(
            {
                "kind": "head",
                "id": self._query,
                "number": self._job.number,
                "coverage": list(head.coverage),
                "steady": head.steady,
                "row_count": head.row_count,
                "truncated": head.truncated,
            }
        )

    def part(self, data: bytes) -> None:
        for at in range(0, len(data), PART_BYTES):
            self._front.send({"kind": "part", "id": self._query}, data[at : at + PART_BYTES])


def _refusal(error: RequestError) -> dict[str, Any]:
    told = {"code": error.code, "message": error.message}
    return {"kind": "error", **told, "line": error.line, "column": error.column}


def _stopped() -> RequestError:
    return RequestError(Code.DEADLINE, "statement must end before its deadline; it was stopped")
