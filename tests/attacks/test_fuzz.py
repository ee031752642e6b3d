"""Thousands of statements that nobody would write. Whatever they are: nothing is written, nothing
outside is read, the server stays, and every answer is a result or a short error of our shape.

EVERVIEW_SEED asks those of another run again.
"""

from __future__ import annotations

import os
import secrets
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.api.world import Served, World, serving
from tests.attacks.fuzz import statements
from tests.attacks.server import Attacked, attacked, check_error
from tests.attacks.test_attacks import ALLOWED, ATTACKS

TIMEOUT_MS = 1000
SLACK_SECONDS = 5.0
# what stops a statement only behind the guard; that it comes so far is a hole in the guard
BEHIND = ("disabled by configuration", "read-only", "configuration has been locked", "Permission")
ENDLESS = ("A21", "A22", "hungry")
KNOWN = [*ALLOWED, *(row.sql for row in ATTACKS if row.name.split()[0] not in ENDLESS)]
TEXT = {"Content-Type": "text/plain"}


def _seed() -> int:
    return int(os.environ.get("EVERVIEW_SEED") or secrets.randbelow(10**9))


def _check(answer: httpx.Response, took: float, told: tuple[str, ...], sql: str) -> None:
    status = answer.status_code
    assert status == 200 or 400 <= status < 500 or status == 503, answer.text
    assert took < TIMEOUT_MS / 1000 + SLACK_SECONDS
    for each in told:
        assert each in sql or each not in answer.text
    if status != 200:
        check_error(answer)
        message = answer.json()["error"]["message"]
        assert not any(words in message and words not in sql for words in BEHIND), message


def _ask(client: httpx.Client, data: bytes) -> tuple[httpx.Response, float]:
    """As a JSON body where it is text, so that it has a deadline; else as it is."""
    started = time.monotonic()
    try:
        body = {"sql": data.decode(), "timeout_ms": TIMEOUT_MS, "max_rows": 100}
        answer = client.post("/sql", json=body)
    except UnicodeDecodeError:
        answer = client.post("/sql", content=data, headers=TEXT)
    return answer, time.monotonic() - started


@pytest.mark.slow
def test_two_thousand_statements_in_process(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.epoch([{"k": "a", "u": 1, "n": 1, "moment": None}, {"k": None, "u": 2, "n": 7}])
    served = Served(world.state)
    served.catch_up()
    outside = tmp_path / "outside.csv"
    outside.write_text("canary-9d2e,b\n1,2\n")
    places = {b"{outside}": outside, b"{state}": world.state, b"{batch}": world.state}
    before, seed, found = _engine(served), _seed(), Counter[int]()
    files = _files(tmp_path)
    with serving(served) as client:
        for at, data in enumerate(statements(seed, 2000, KNOWN)):
            for place, path in places.items():
                data = data.replace(place, str(path).encode())
            answer, took = _ask(client, data)
            try:
                _check(answer, took, ("canary-9d2e", str(tmp_path)), data.decode(errors="replace"))
            except AssertionError as error:
                error.add_note(f"EVERVIEW_SEED={seed}, statement {at}: {data!r}")
                raise
            found[answer.status_code] += 1
    assert (_engine(served), _files(tmp_path)) == (before, files), f"EVERVIEW_SEED={seed}"
    assert min(found[200], found[400], found[403]) > 200, found


def _engine(served: Served) -> list[object]:
    """What a statement could have left behind."""
    return [
        served.rows(f"SELECT {columns} FROM {table} GROUP BY ALL ORDER BY ALL")
        for table, columns in (
            ("duckdb_databases()", "database_name"),
            ("duckdb_views()", "database_name, schema_name, view_name, sql"),
            ("duckdb_tables()", "database_name, schema_name, table_name, estimated_size"),
            ("duckdb_functions()", "function_name, count(*)"),
            ("duckdb_settings()", "name, value"),
            ("by_key", "k, hits, total"),
        )
    ]


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "ledger.db-" not in path.name
    }


@pytest.mark.long
def test_twenty_thousand_statements_at_a_real_server(tmp_path: Path) -> None:
    seed, found, at = _seed(), Counter[int](), 0
    with attacked(tmp_path) as target:
        for at, data in enumerate(statements(seed, 20_000, KNOWN)):
            sent = target.filled(data.decode(errors="surrogateescape")).encode(
                errors="surrogateescape"
            )
            answer, took = _ask(target.client, sent)
            try:
                _check_real(target, answer, took, sent, at)
            except (AssertionError, KeyError) as error:
                error.add_note(f"EVERVIEW_SEED={seed}, statement {at}: {sent!r}")
                raise
            found[answer.status_code] += 1
        target.check_unhurt()
    print(f"EVERVIEW_SEED={seed}", dict(found))  # noqa: T201 the proof of a run by hand


def _check_real(
    target: Attacked, answer: httpx.Response, took: float, sent: bytes, at: int
) -> None:
    _check(answer, took, (), sent.decode(errors="replace"))
    target.check_answer(answer, sent.decode(errors="replace"))
    if at % 200 == 0:
        target.check_unhurt()
