"""`python -m serving.follower.process --state DIR --front FD --spare FD`: the follower of a server.

A child of the front, which has no use for it by itself. It follows the ledger; each change goes to
the spare, and when that has taken it to the front. It ends when one of the two has.

| it says | when |
|---|---|
| `change` | the spare has taken one: its number, the coverage after it, and its bytes as they are
for workers. A `heavy` one has none: workers are forked anew |
| `facts` | once a second: what is measured
| `status` | what it waits for has changed, and once a second |
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.compile import CompiledView
from schemas.errors import EverviewError
from schemas.ledger.connect import open_ledger
from schemas.storage import DataRoot
from serving.envelope import Code, RequestError
from serving.follower.facts import Facting
from serving.follower.follow import Follower
from serving.follower.past import describe
from serving.follower.spare import Spare, SpareGone
from serving.frames import Frame, Wire
from serving.log import set_up
from serving.packing import pack
from serving.worker.guard import Relation
from serving.worker.tables import Change

LOOK_SECONDS = 0.1
HEARTBEAT_SECONDS = 1.0

log = logging.getLogger("serving")


class Process:
    """The follower's thread is the main one; another looks after what it waits for."""

    def __init__(self, state: Path, front: Wire, spare: Wire, after: int) -> None:
        self._front, self._state, self._root = front, state, DataRoot(state)
        self._follower = Follower(
            lambda: open_ledger(state), DataRoot(state), Spare(spare, after, self._announce)
        )
        self._stop = threading.Event()
        self._facting = Facting(
            self._follower,
            lambda: open_ledger(state),
            state,
            lambda: datetime.now(UTC),
            lambda facts: self._say({"kind": "facts", "facts": facts}),
        )

    def run(self) -> int:
        for work in (self._report, self._measure, self._until_the_front_ends):
            threading.Thread(target=work, daemon=True).start()
        try:
            self._follower.run(self._stop, time.monotonic)
        except SpareGone:
            return 1
        return 0

    def _measure(self) -> None:
        self._facting.run(self._stop)

    def _announce(self, number: int, change: Change, data: bytes | None) -> None:
        self._say(
            {
                "kind": "change",
                "number": number,
                "heavy": data is None,
                "views": [asdict(each) for each in change.coverage],
                "streams": [asdict(each) for each in change.streams],
            },
            data or b"",
        )

    def _report(self) -> None:
        last, said_at = "", 0.0
        while True:
            told = self._status()
            text, now = json.dumps(told), time.monotonic()
            if text != last or now >= said_at + HEARTBEAT_SECONDS:
                self._say({"kind": "status", **told})
                last, said_at = text, now
            self._stop.wait(LOOK_SECONDS)

    def _status(self) -> dict[str, Any]:
        return {
            "unready": self._follower.unready(time.monotonic()),
            "waiting": self._follower.waiting(),
            "columns": {
                view.row.name: columns(view.shown)
                for stream in self._follower.streams.values()
                for view in stream.views.values()
            },
        }

    def _say(self, header: Mapping[str, Any], data: bytes = b"") -> None:
        try:
            self._front.send(header, data)
        except OSError:
            os._exit(0)

    def _until_the_front_ends(self) -> None:
        with ThreadPoolExecutor(1) as pool:
            while (frame := self._front.receive()) is not None:
                pool.submit(self._describe, frame)
            os._exit(0)

    def _describe(self, frame: Frame) -> None:
        """Say what the relations of a statement were."""
        told = {"kind": "described", "worker": frame.header["worker"]}
        relations = [
            Relation(tuple(path), None if place is None else (place[0], place[1]))
            for path, place in frame.header["relations"]
        ]
        try:
            known = self._follower.checker.stamps()
            with open_ledger(self._state) as ledger:
                as_of, now = frame.header["as_of"], datetime.now(UTC)
                past = describe(ledger, self._root, relations, as_of, known, now)
        except RequestError as error:
            self._say({**told, "error": _refused(error)})
        except EverviewError as error:
            message = str(error).replace(f"{self._state.absolute()}/", "")
            self._say({**told, "error": _refused(RequestError(Code.NOT_READY, message))})
        except Exception:
            log.exception("what was cannot be described")
            message = "the past of this statement cannot be read now; ask again"
            self._say({**told, "error": _refused(RequestError(Code.NOT_READY, message))})
        else:
            self._say(told, pack(past))


def _refused(error: RequestError) -> dict[str, Any]:
    place = None if error.line is None else [error.line, error.column]
    return {"code": error.code, "message": error.message, "place": place}


def columns(view: CompiledView | None) -> dict[str, list[dict[str, str]]]:
    """The columns of a view's answer, and which of them are group keys."""
    if view is None:
        return {"columns": [], "keys": []}
    keys = {name for name, _ in view.keys}
    columns = [{"name": name, "type": kind} for name, kind in view.columns]
    return {"columns": columns, "keys": [each for each in columns if each["name"] in keys]}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="serving.follower.process")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--front", type=int, required=True, help="a descriptor")
    parser.add_argument("--spare", type=int, required=True, help="a descriptor")
    parser.add_argument("--after", type=int, default=0, help="changes are numbered from here on")
    options = parser.parse_args(arguments)
    set_up("follower")
    front = Wire(socket.socket(fileno=options.front))
    spare = Wire(socket.socket(fileno=options.spare))
    return Process(options.state, front, spare, options.after).run()


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # nothing that it holds is worth waiting for
