"""`python -m serving.worker.process --front FD --follower FD [--memory 2GB]`: the spare.

It takes every change and never runs a client's statement. Workers are forks of it, so that a killed
one is replaced in milliseconds, with the same tables and without a copy of them: what a worker does
not change it shares. To be forked it stays a process of one thread (DuckDB is told so).

    follower --change--> spare --taken, failed or refused--> follower
    front    --one byte and a socket--> spare --fork--> a worker at that socket
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import pickle
import selectors
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import duckdb

from schemas.errors import DamagedFile, EverviewError, ViewFailed
from serving.envelope import from_engine
from serving.frames import Frame, Wire
from serving.worker.tables import Tables
from serving.worker.worker import Worker


class Spare:
    """The loop of the process."""

    def __init__(self, front: socket.socket, follower: Wire, tables: Tables) -> None:
        self._front, self._follower, self._tables = front, follower, tables
        self._number = 0  # of the last change

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
        header = self._taken(frame)
        try:
            self._follower.send(header)
        except OSError:
            return False
        return True

    def _taken(self, frame: Frame) -> dict[str, object]:
        try:
            self._tables.apply(pickle.loads(frame.payload))
        except ViewFailed as error:
            cause = error.__cause__
            damage = None
            if isinstance(cause, DamagedFile):
                damage = [cause.path, cause.expected, cause.found]
            told = {"view": error.view, "message": error.message, "damage": damage}
            return {"kind": "failed", **told}
        except duckdb.Error as error:
            return {"kind": "refused", "message": from_engine(error, "").message}
        except EverviewError as error:
            return {"kind": "refused", "message": str(error)}
        self._number = int(frame.header["number"])
        return {"kind": "taken"}

    def _fork(self) -> bool:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._front, 1, 1)
        except OSError:
            return False
        if not data:
            return False
        (descriptor,) = descriptors
        gc.freeze()  # what is there now is shared with the worker, and not to be touched by its gc
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._front.close()
            self._follower.close()
            Worker(Wire(socket.socket(fileno=descriptor)), self._tables, self._number).run()
        os.close(descriptor)
        return True


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="serving.worker.process")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--front", type=int, required=True, help="a descriptor")
    parser.add_argument("--follower", type=int, required=True, help="a descriptor")
    parser.add_argument("--memory", required=True)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # workers that ended leave nothing behind
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the front says when
    tables = Tables(memory_limit=options.memory)
    front = socket.socket(fileno=options.front)
    Spare(front, Wire(socket.socket(fileno=options.follower)), tables).run()
    return 0


if __name__ == "__main__":
    code = main()
    os._exit(code)
