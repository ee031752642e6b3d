"""A server that is attacked: its state, a file outside with a canary, a listener that counts.

front  <- the client that attacks, the client that only asks
state     views over epochs, sealed and built, and a stray file among those of the batch view
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import httpx

from tests.api.test_run import Process
from tests.api.world import World

CANARY = "canary-b81d7"
SECRET = "secret-b81d7"
MESSAGE_BYTES = 1024
WAIT_SECONDS = 60.0
GRACE_SECONDS = 1.0  # how long after its deadline a statement may last
SLACK_SECONDS = 2.0  # what a busy machine adds to that

# what another client asks, before and after
OWN = """
    SELECT k, hits, mean, all_hits, (SELECT count(*) FROM (SHOW TABLES)) AS tables,
        abs(-hits) AS a, sum(hits) OVER () AS s, (SELECT sum(i) FROM range(5) t(i)) AS r
    FROM by_key, (SELECT hits AS all_hits FROM everything) ORDER BY k
"""


class Listener:
    """Notes every connection, and answers none."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.met = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.met += 1
            connection.close()

    def close(self) -> None:
        self._socket.close()


class Attacked:
    def __init__(self, folder: Path) -> None:
        self.world = World(folder / "made")
        self.state = self.world.state
        self.world.epoch([{"k": "a", "u": 1, "n": 1, "moment": None}, {"k": None, "u": 2, "n": 7}])
        self.world.epoch([{"k": "b", "u": 2, "n": 9}])
        self.world.seal()
        self.world.build("by_key")
        self.world.epoch([{"k": "a", "u": 2, "n": None}])
        (self.batch,) = (self.state / "batch" / "by_key").glob("*/*/*")
        evil = self.batch / "evil.parquet"
        duckdb.execute(f"COPY (SELECT 'evil' AS k, 666 AS hits) TO '{evil}'")
        self.outside = folder / "outside.csv"
        self.outside.write_text(f"{CANARY},b\n1,2\n")
        self.listener = Listener()
        self.before = self._files()
        environment = {"SECRET": SECRET}
        with _environment(environment):
            self.process = Process(self.state)
        self.client = httpx.Client(base_url=self.process.until("running"), timeout=WAIT_SECONDS)
        self.own = httpx.Client(base_url=self.client.base_url, timeout=WAIT_SECONDS)
        self.answers = self._answers()

    def filled(self, sql: str) -> str:
        """A statement with its places filled in."""
        places = {
            "outside": self.outside,
            "name": self.outside.name,
            "state": self.state,
            "batch": self.batch,
            "url": f"http://127.0.0.1:{self.listener.port}/x",
            "version": next(iter(self.world.compiled)),
        }
        return re.sub(r"\{(\w+)\}", lambda found: str(places.get(found[1], found[0])), sql)

    def ask(self, sql: str, **fields: Any) -> httpx.Response:
        return self.client.post("/sql", json={"sql": sql, **fields})

    def check_unhurt(self) -> None:
        """No file has changed, nobody was called, and another client is answered as before."""
        assert self._files() == self.before
        assert self.listener.met == 0
        assert self._answers() == self.answers

    def check_answer(self, answer: httpx.Response, sql: str = "") -> None:
        """It tells nothing that the statement itself did not tell, and an error has our shape."""
        for secret in (CANARY, SECRET, str(self.state.parent), str(Path(__file__).parents[2])):
            assert secret in sql or secret not in answer.text
        status = answer.status_code
        assert status == 200 or 400 <= status < 500 or status == 503, answer.text
        if status != 200:
            check_error(answer)

    def close(self) -> None:
        self.client.close()
        self.own.close()
        self.listener.close()
        if self.process.process.poll() is None:
            self.process.process.kill()
        _, errors = self.process.process.communicate()
        assert "Traceback" not in errors, errors
        assert SECRET not in errors

    def _answers(self) -> list[list[Any]]:
        found: list[list[Any]] = self.own.post("/sql", json={"sql": OWN}).json()["rows"]
        return found

    def _files(self) -> dict[str, str]:
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in [*self.state.rglob("*"), self.outside]
            if path.is_file() and path.parent.name != "run" and "ledger.db-" not in path.name
        }


def check_error(answer: httpx.Response) -> None:
    assert answer.headers["content-type"].startswith("application/json")
    error = answer.json()["error"]
    assert {"code", "message", "line", "column"} <= error.keys()
    assert 0 < len(error["message"].encode()) < MESSAGE_BYTES, error


def valid(text: str) -> Any:
    """JSON as the standard has it, without NaN and the like."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    return json.loads(text, parse_constant=refuse)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]


@contextmanager
def attacked(folder: Path) -> Iterator[Attacked]:
    found = Attacked(folder)
    try:
        yield found
    finally:
        found.close()
