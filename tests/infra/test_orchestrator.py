"""The client of Airflow's REST API, against a server that speaks like it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from infra import orchestrator, processes, stack
from infra.orchestrator import AirflowRefused, Orchestrator
from infra.parts import airflow
from infra.stack import PartRecord, Stack

Answer = tuple[int, Any]
RUN_ID = "manual__2026-01-01T10:00:00+00:00"
QUOTED = "manual__2026-01-01T10%3A00%3A00%2B00%3A00"
RUNS = "/api/v2/dags/rebuild_pages/dagRuns"


class Server:
    """Answers what `answers` says; a token is good until `tokens` counts on."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Callable[[Any], Answer]] = {}
        self.tokens = 0
        self.calls: list[tuple[str, str]] = []
        told = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                status, said = told.answer(self.command, self.path, token, body)
                found = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(found)))
                self.end_headers()
                self.wfile.write(found)

            do_GET = do_POST = _any

            def log_message(self, *_: object) -> None:
                return

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever)
        self.thread.start()

    def answer(self, method: str, path: str, token: str, body: Any) -> Answer:
        self.calls.append((method, path))
        if path == "/auth/token":
            if body != {"username": "admin", "password": "secret"}:
                return 401, {"detail": "Invalid credentials"}
            self.tokens += 1
            return 201, {"access_token": f"t{self.tokens}"}
        if token != f"t{self.tokens}":
            return 401, {"detail": "Invalid JWT token"}
        found = self.answers.get((method, path))
        return found(body) if found else (404, {"detail": f"nothing at {path}"})

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    one.answers["GET", "/api/v2/dags/rebuild_pages"] = lambda _: (200, {})
    one.answers["POST", RUNS] = lambda _: (200, {"dag_run_id": RUN_ID})
    told = {"dag_run_id": RUN_ID, "state": "running", "start_date": "2026", "end_date": None}
    one.answers["GET", f"{RUNS}/{QUOTED}"] = lambda _: (200, told)
    yield one
    one.close()


def asked(server: Server, password: str = "secret") -> Orchestrator:
    return Orchestrator(server.url, "admin", password)


def test_a_run_is_started_and_looked_at(server: Server) -> None:
    bodies = []

    def started(body: Any) -> Answer:
        bodies.append(body)
        return 200, {"dag_run_id": RUN_ID}

    server.answers["POST", RUNS] = started
    client = asked(server)

    run = client.run("pages", client.trigger("pages", full=True, until=7))

    assert bodies == [{"logical_date": None, "conf": {"full": True, "until": 7}}]
    assert (run.id, run.state, run.over) == (RUN_ID, "running", False)
    assert server.tokens == 1


def test_a_token_that_has_ended_is_renewed(server: Server) -> None:
    client = asked(server)
    client.run("pages", RUN_ID)
    server.tokens = 10

    assert client.run("pages", RUN_ID).state == "running"
    assert server.tokens == 11


def test_a_dag_that_is_new_is_waited_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestrator, "LOOK_EVERY", 0.01)
    looks = []

    def found(_: Any) -> Answer:
        looks.append(1)
        return (200, {}) if len(looks) == 3 else (404, {"detail": "not found"})

    server.answers["GET", "/api/v2/dags/rebuild_pages"] = found

    assert asked(server).trigger("pages") == RUN_ID
    assert len(looks) == 3


def test_a_dag_that_never_comes_is_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestrator, "KNOWN_WITHIN", 0.0)

    with pytest.raises(AirflowRefused, match=r"refused with status 404 to GET .*rebuild_hits"):
        asked(server).trigger("hits")


def test_tasks_and_their_logs(server: Server) -> None:
    one = f"{RUNS}/{QUOTED}/taskInstances"
    states = [{"task_id": "rebuild", "state": "success"}, {"task_id": "prove", "state": None}]
    server.answers["GET", one] = lambda _: (200, {"task_instances": states})
    server.answers["GET", f"{one}/prove"] = lambda _: (200, {"try_number": 2})
    lines = {"content": [{"event": "first"}, {"event": "second", "level": "info"}]}
    server.answers["GET", f"{one}/prove/logs/2?full_content=true"] = lambda _: (200, lines)

    assert asked(server).tasks("pages", RUN_ID) == {"rebuild": "success", "prove": "none"}
    assert asked(server).log("pages", RUN_ID, "prove") == "first\nsecond"


def test_a_wrong_password_is_told(server: Server) -> None:
    with pytest.raises(AirflowRefused, match=r"status 401 to POST /auth/token: Invalid cred"):
        asked(server, "guess").run("pages", RUN_ID)


def test_a_question_is_put_again_and_a_change_is_not(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orchestrator, "LOOK_EVERY", 0.01)
    good = server.answers["GET", f"{RUNS}/{QUOTED}"]
    looks, starts = [], []

    def busy(_: Any) -> Answer:
        looks.append(1)
        return good(None) if len(looks) == 3 else (500, "database is locked")

    def refused(_: Any) -> Answer:
        starts.append(1)
        return 500, "database is locked"

    server.answers["GET", f"{RUNS}/{QUOTED}"] = busy
    server.answers["POST", RUNS] = refused

    assert asked(server).run("pages", RUN_ID).state == "running"
    with pytest.raises(AirflowRefused, match="status 500 to POST"):
        asked(server).trigger("pages")
    assert len(starts) == 1


def test_nothing_there_is_told(free_port: int) -> None:
    client = Orchestrator(f"http://127.0.0.1:{free_port}", "admin", "secret")

    with pytest.raises(AirflowRefused, match="gave no answer to POST /auth/token") as raised:
        client.run("pages", RUN_ID)

    assert raised.value.status is None


# ---- that of a stack


def write(state: Path, part: str | None, url: str | None) -> None:
    own = processes.identity(os.getpid())
    assert own is not None
    parts = {} if part is None else {"airflow": PartRecord(part)}
    stack.write(state, Stack("x", own, "/p", "h:1", "http://h:2", parts, url))


@pytest.mark.parametrize(
    ("part", "url"), [(None, None), ("starting", "http://h:3"), ("waiting", "http://h:3")]
)
def test_a_stack_whose_airflow_is_not_ready_has_none(
    state: Path, part: str | None, url: str | None
) -> None:
    airflow.prepare(state / "airflow")
    write(state, part, url)

    assert orchestrator.of(state) is None


def test_no_stack_has_none(state: Path) -> None:
    assert orchestrator.of(state) is None


def test_that_of_a_stack_knows_its_password(state: Path, server: Server) -> None:
    airflow.prepare(state / "airflow")
    write(state, "ready", server.url)

    found = orchestrator.of(state)

    assert found is not None
    assert (found.url, found.user) == (server.url, "admin")
    with pytest.raises(AirflowRefused, match="Invalid credentials"):
        found.run("pages", RUN_ID)
