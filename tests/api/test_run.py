"""The process: starts without a ledger, follows one that comes, ends cleanly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra import asking
from infra.asking import Answers, QueryRefused
from serving import run
from serving.front import tokens
from tests.api.waiting import WAIT_SECONDS, wait
from tests.api.world import World

pytestmark = pytest.mark.slow


class Process:
    def __init__(self, state: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "serving.run", "--state", str(state), *arguments]
        root = Path(__file__).parents[2]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        self.process = subprocess.Popen(
            command, cwd=root, env=environment, stderr=subprocess.PIPE, text=True
        )
        self.file = state / "run" / "serving.json"

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.file.read_text())
        return found

    def _own(self, state: str) -> bool:
        """Whether this process says so, and not one before it."""
        report = self.report()
        return bool(report["state"] == state and report["pid"] == self.process.pid)

    def until(self, state: str) -> str:
        """Waits for a state of the report; gives the server's address."""

        def reported() -> bool:
            assert self.process.poll() is None, self.process.communicate()[1]
            return self.file.exists() and self._own(state)

        wait(reported)
        address: str = self.report()["http"]
        return address

    def end(self, number: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=WAIT_SECONDS)
        return self.process.returncode, errors


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
        each.process.communicate()


def test_a_ledger_that_comes_later(tmp_path: Path, processes: list[Process]) -> None:
    state = tmp_path / "state"
    process = Process(state)
    processes.append(process)
    address = process.until("starting")
    assert process.report()["pid"] == process.process.pid
    with httpx.Client(base_url=address) as client:
        wait(lambda: "no ledger yet" in client.get("/readyz").json()["error"]["message"])
        assert client.get("/healthz").status_code == 200
        world = World(tmp_path / "made")
        world.epoch([{"k": "a", "n": 3}])
        world.ledger.close()
        state.rename(tmp_path / "aside")
        world.state.rename(state)
        assert process.until("running") == address
        assert client.get("/readyz").status_code == 200
        answer = client.post(
            "/sql", content="FROM everything", headers={"Content-Type": "text/plain"}
        )
        assert answer.json()["rows"] == [[1, 3, "a"]]
        wait(lambda: 'everview_epoch{stream="hits"} 1.0' in client.get("/metrics").text)
    code, errors = process.end(signal.SIGTERM)
    assert code == 0
    assert process.report()["state"] == "stopped"
    assert errors.count("no ledger yet") == 1
    lines = [json.loads(line) for line in errors.splitlines()]
    assert {line["part"] for line in lines} == {"serving"}
    (query,) = (line for line in lines if line["message"] == "query")
    assert (query["outcome"], query["id"]) == ("ok", answer.headers["x-request-id"])
    assert "Traceback" not in errors


def test_an_answer_waits_for_no_confirmation(tmp_path: Path, processes: list[Process]) -> None:
    """Of its head, by a client that keeps its connection: that takes 40 ms."""
    process = Process(World(tmp_path).state)
    processes.append(process)
    took = []
    with httpx.Client(base_url=process.until("running")) as client:
        for _ in range(40):
            started = time.monotonic()
            assert client.get("/sql", params={"q": "SELECT 1"}).status_code == 200
            took.append(time.monotonic() - started)
    assert sorted(took)[10] < 0.03


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "--insecure-listen"),
        (["--port", "70000"], "--port must be from 0 to 65535"),
        (["--memory", "much"], "--memory must be a number with a unit"),
        (["--memory", "0GB"], "--memory must be a number with a unit"),
    ],
)
def test_bad_use(
    tmp_path: Path, processes: list[Process], arguments: list[str], words: str
) -> None:
    process = Process(tmp_path, *arguments)
    processes.append(process)
    _, errors = process.process.communicate(timeout=WAIT_SECONDS)
    assert process.process.returncode == 2
    assert words in errors
    assert not process.file.exists()


def test_who_has_a_token_may_ask_from_elsewhere(
    tmp_path: Path, processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tokens.make(tmp_path / "tokens", "ann")
    world = World(tmp_path)
    world.epoch([{"k": "a", "n": 3}])
    process = Process(world.state, "--host", "0.0.0.0", "--tokens", str(tmp_path / "tokens"))
    processes.append(process)
    answers = Answers(process.until("running").replace("0.0.0.0", "127.0.0.1"), world.state)
    monkeypatch.delenv(asking.TOKEN, raising=False)
    with pytest.raises(QueryRefused, match="set EVERVIEW_TOKEN to one"):
        answers.sql("FROM everything")
    with pytest.raises(QueryRefused, match="set EVERVIEW_TOKEN to one"):
        answers.get("/views")
    monkeypatch.setenv(asking.TOKEN, token)
    assert answers.table("FROM everything")["rows"] == [[1, 3, "a"]]
    assert len(answers.get("/streams")["streams"]) == 1
    code, errors = process.end(signal.SIGTERM)
    assert code == 0
    assert "ANYBODY" not in errors


def test_where_anybody_may_ask_the_log_says_so(tmp_path: Path, processes: list[Process]) -> None:
    process = Process(tmp_path, "--host", "0.0.0.0", "--insecure-listen")
    processes.append(process)
    process.until("starting")
    code, errors = process.end(signal.SIGTERM)
    assert code == 0
    lines = [json.loads(line) for line in errors.splitlines()]
    (told,) = (line for line in lines if "ANYBODY" in line["message"])
    assert told["level"] == "warning"
    assert "0.0.0.0" in told["message"]


def test_memory_is_limited(tmp_path: Path, processes: list[Process]) -> None:
    process = Process(World(tmp_path).state, "--memory", "64MB")
    processes.append(process)
    large = "SELECT count(DISTINCT i) FROM range(20000000) t(i)"
    headers = {"Content-Type": "text/plain"}
    with httpx.Client(base_url=process.until("running"), headers=headers) as client:
        answer = client.post("/sql", content=large, timeout=WAIT_SECONDS)
        assert answer.json()["error"]["code"] == "too_large"
        assert client.post("/sql", content="FROM everything").status_code == 200
    assert run.MEMORY == "2GB"


def test_a_taken_port(tmp_path: Path, processes: list[Process], free_port: int) -> None:
    first = Process(tmp_path / "one", "--port", str(free_port))
    processes.append(first)
    first.until("starting")
    second = Process(tmp_path / "two", "--port", str(free_port))
    processes.append(second)
    _, errors = second.process.communicate(timeout=WAIT_SECONDS)
    assert second.process.returncode == 1
    assert f"cannot listen on 127.0.0.1:{free_port}" in errors
    assert first.end(signal.SIGINT)[0] == 0
