"""The `sql` verb against a small server that says what it is told to."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from infra import asking, cli, processes, stack
from infra.stack import Stack

ANSWER = {
    "columns": [{"name": "page", "type": "VARCHAR"}, {"name": "ms", "type": "DECIMAL(38,0)"}],
    "rows": [["[bold]a\u001b[31m", 9007199254740993], [None, None]],
    "row_count": 2,
    "truncated": True,
    "elapsed_ms": 1.5,
    "coverage": [
        {"view": "pages", "epoch": 7, "fresh_as_of": "2026-01-01T00:00:00Z", "degraded": "damage"}
    ],
}

Serve = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serves one answer on a state that seems to run; gives the list of what it was asked."""
    servers: list[HTTPServer] = []

    def start(status: int, answer: Any, **headers: str) -> list[dict[str, Any]]:
        asked: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = json.loads(self.rfile.read(length))
                asked.append({"accept": self.headers["Accept"], **body})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                text = answer if isinstance(answer, str) else json.dumps(answer)
                self.wfile.write(text.encode())

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        own = processes.identity(os.getpid())
        assert own is not None
        http = f"http://127.0.0.1:{server.server_port}"
        stack.write(tmp_path, Stack("id", own, "/", "127.0.0.1:1", http))
        return asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def sql(state: Path, *arguments: str) -> int:
    return cli.main(["sql", *arguments, "--state", str(state)])


def test_a_table_with_its_coverage(
    tmp_path: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = serve(200, ANSWER)

    assert sql(tmp_path, "SELECT * FROM pages", "--max-rows", "2") == 0

    said = capsys.readouterr().out
    assert asked == [{"accept": "application/json", "sql": "SELECT * FROM pages", "max_rows": 2}]
    assert r"[bold]a\x1b[31m" in said
    assert "9007199254740993" in said
    assert said.count("NULL") == 2
    assert "2 rows in 1.5 ms, only the first 2 rows" in said
    assert "pages: epoch 7, fresh as of 2026-01-01T00:00:00Z, DEGRADED: damage" in said


def test_csv_goes_through_as_it_is(
    tmp_path: Path, serve: Serve, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    asked = serve(200, "page,ms\na,1\n")

    assert sql(tmp_path, "SELECT 1", "--format", "csv") == 0

    assert asked[0]["accept"] == "text/csv"
    assert capfdbinary.readouterr().out == b"page,ms\na,1\n"


def test_a_past_answer_and_a_strict_one(tmp_path: Path, serve: Serve) -> None:
    asked = serve(200, ANSWER)

    assert sql(tmp_path, "FROM pages", "--as-of", "7", "--strict") == 0
    assert sql(tmp_path, "FROM pages", "--as-of", "2026-01-01", "--format", "ndjson") == 0

    assert (asked[0]["as_of"], asked[0]["strict"]) == (7, True)
    assert (asked[1]["as_of"], asked[1]["accept"]) == ("2026-01-01", "application/x-ndjson")
    assert "strict" not in asked[1]


@pytest.mark.parametrize("word", ["exit", "quit;", "\\q", " EXIT ; "])
def test_a_prompt_is_left_by_a_word(
    tmp_path: Path,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    word: str,
) -> None:
    asked = serve(200, ANSWER)
    lines = iter(["help", "SELECT", "1;", word])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)

    assert sql(tmp_path) == 0

    assert [each["sql"] for each in asked] == ["SELECT\n1;"]
    assert "SHOW TABLES; lists the views" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("form", "answer", "headers", "said"),
    [
        ("csv", 'a\n1\n"\n"\n', {"Everview_Truncated": "true"}, "only the first 2 rows"),
        ("csv", 'a\n1\n"\n"\n', {"Everview_Truncated": "false"}, ""),
        ("csv", 'a\n1\n"\n""\n"\n', {}, "2 rows, as many as were asked for"),
        ("csv", 'a\n"1\n\n"\n', {}, ""),
        ("ndjson", '{"a": 1}\n{"a": "\\""}\n', {}, "2 rows, as many as were asked for"),
        ("ndjson", '{"a": 1}\n', {}, ""),
        ("json", ANSWER, {}, "only the first 2 rows"),
        ("json", '{"rows":[],"truncated":true,"coverage":[]}', {}, "only the first 2 rows"),
        ("json", {**ANSWER, "truncated": False}, {}, ""),
    ],
)
def test_rows_that_are_left_out_are_told(
    tmp_path: Path,
    serve: Serve,
    capsys: pytest.CaptureFixture[str],
    form: str,
    answer: Any,
    headers: dict[str, str],
    said: str,
) -> None:
    serve(200, answer, **headers)

    assert sql(tmp_path, "FROM pages", "--format", form, "--max-rows", "2") == 0

    told = capsys.readouterr().err
    assert said in told
    assert told.endswith(": --max-rows N asks for more, 1000000 at most\n" if said else "")
    assert bool(told) == bool(said)


@pytest.mark.parametrize(("code", "status", "exits"), [("bad_sql", 400, 2), ("deadline", 408, 1)])
def test_an_error_is_drawn_below_its_place(
    tmp_path: Path,
    serve: Serve,
    capsys: pytest.CaptureFixture[str],
    code: str,
    status: int,
    exits: int,
) -> None:
    error = {"code": code, "message": "no such column", "line": 2, "column": 3}
    serve(status, {"error": error})

    assert sql(tmp_path, "SELECT\n  nope\nFROM pages") == exits

    assert capsys.readouterr().err == f"  nope\n  ^\nno such column ({code})\n"


def test_a_wrong_token_is_not_told_as_a_missing_one(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(401, {"error": {"code": "unauthorised", "message": "no"}})
    monkeypatch.delenv("EVERVIEW_TOKEN", raising=False)
    with pytest.raises(asking.QueryRefused, match="wants a token: set EVERVIEW_TOKEN to one"):
        asking.of(tmp_path).sql("SELECT 1")
    monkeypatch.setenv("EVERVIEW_TOKEN", "bad")
    with pytest.raises(asking.QueryRefused, match="does not know the token in EVERVIEW_TOKEN"):
        asking.of(tmp_path).sql("SELECT 1")


def test_an_answer_that_is_no_error_shape(tmp_path: Path, serve: Serve) -> None:
    serve(500, "<html>")

    with pytest.raises(asking.QueryRefused, match="<html> \\(500\\)"):
        asking.of(tmp_path).sql("SELECT 1")
