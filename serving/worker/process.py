"""`python -m serving.worker.process --front FD --follower FD [--memory 2GB]`: the spare.

It takes every change and never runs a client's statement. Workers are forks of it, so that a killed
one is replaced in milliseconds, with the same tables and without a copy of them: what a worker does
not change it shares. To be forked it stays a process of one thread (DuckDB is told so), so while it
takes a change, which may be to load a view, a fork has to wait.

    follower --change--> spare --taken and for workers, failed or refused--> follower
    front    --one byte and a socket--> spare --fork--> a worker at that socket
    spare    --its process id--> front, which believes no worker's word on that

The byte says what for: statements on the newest state, or one about the past, with databases of its
own.
"""

from __future__ import annotations

import argparse
import gc
import os
import selectors
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

import duckdb

from schemas.errors import DamagedFile, EverviewError, ViewFailed
from schemas.storage import DataRoot
from serving.envelope import from_engine
from serving.frames import FOR_PAST, PID, Frame, Wire
from serving.log import set_up
from serving.packing import pack, unpack
from serving.worker import confine
from serving.worker.confine import Limits
from serving.worker.past import Room
from serving.worker.tables import Tables
from serving.worker.worker import Worker

# in the state folder: what clients' statements may read, and what a worker reads for them
SHOWN = ("batch", "master")
READ = (*SHOWN, "runs", "segments", "base", "references")
# what a worker may take beside what the spare has: DuckDB counts not all that it allocates
ADDRESS_SPACE = 2
NO_PROCESS = -1
_UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}


class Spare:
    """The loop of the process."""

    def __init__(
        self,
        front: socket.socket,
        follower: Wire,
        state: Path,
        memory: str,
    ) -> None:
        self._front, self._follower = front, follower
        self._root, self._memory = DataRoot(state), memory
        self._readable = [state / folder for folder in READ]
        shown = [state / folder for folder in SHOWN]
        self._tables = Tables(memory_limit=memory, readable=shown)
        self._limits = Limits(ADDRESS_SPACE * _bytes(memory))

    def run(self) -> None:
        """Until front or follower have ended."""
        with selectors.DefaultSelector() as selector:
            for each in (self._front, self._follower):
                selector.register(each, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    going_on = self._fork() if key.fileobj is self._front else self._change()
                    if not going_on:
                        return

    def _change(self) -> bool:
        frame = self._follower.receive()
        if frame is None:
            return False
        header, data = self._taken(frame)
        try:
            self._follower.send(header, data)
        except OSError:
            return False
        return True

    def _taken(self, frame: Frame) -> tuple[dict[str, object], bytes]:
        """The answer to a change, with what workers are to take."""
        try:
            taken = self._tables.apply(unpack(frame.payload), int(frame.header["number"]))
        except duckdb.FatalException:
            raise  # the database is lost
        except ViewFailed as error:
            cause = error.__cause__
            damage = None
            if isinstance(cause, DamagedFile):
                damage = [cause.path, cause.expected, cause.found]
            told = {"view": error.view, "message": error.message, "damage": damage}
            return {"kind": "failed", **told}, b""
        except duckdb.Error as error:
            return {"kind": "refused", "message": from_engine(error, "").message}, b""
        except EverviewError as error:
            return {"kind": "refused", "message": str(error)}, b""
        if taken.heavy:
            return {"kind": "taken", "heavy": True}, b""
        return {"kind": "taken", "heavy": False}, pack(taken)

    def _fork(self) -> bool:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._front, 1, 1)
        except OSError:
            return False
        if not data:
            return False
        (descriptor,) = descriptors
        for folder in self._readable:  # a worker names them when it gives up all others
            folder.mkdir(parents=True, exist_ok=True)
        gc.freeze()  # what is there now is shared with the worker, and not to be touched by its gc
        try:
            pid = os.fork()
        except OSError:  # no more processes: the front sees its end closed, and asks again
            pid = NO_PROCESS
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._front.close()
            self._follower.close()
            wire = Wire(socket.socket(fileno=descriptor))
            room = Room(self._root, self._memory) if data == FOR_PAST else None
            Worker(wire, self._tables, self._limits, self._readable, room).run()
        os.close(descriptor)
        try:
            self._front.sendall(PID.pack(max(pid, 0)))
        except OSError:
            return False
        return True


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="serving.worker.process")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--front", type=int, required=True, help="a descriptor")
    parser.add_argument("--follower", type=int, required=True, help="a descriptor")
    parser.add_argument("--memory", required=True)
    options = parser.parse_args(arguments)
    set_up("spare")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # workers that ended leave nothing behind
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the front says when
    confine.prepare()
    front = socket.socket(fileno=options.front)
    follower = Wire(socket.socket(fileno=options.follower))
    Spare(front, follower, options.state.absolute(), options.memory).run()
    return 0


def _bytes(memory: str) -> int:
    """Of what DuckDB takes for a size, such as 512MB; at most that many."""
    number = memory.rstrip("BKMGTbkmgti ")
    unit = memory[len(number) :].strip().upper()[:1]
    return int(float(number) * 2 ** _UNITS.get(unit, 0))


if __name__ == "__main__":
    code = main()
    os._exit(code)
