"""A job writes its answer into a sink: whole if it is short, in parts if it is not, and never so
that a part looks like the whole."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from schemas import failpoints
from serving import formats
from serving.envelope import Code, RequestError
from serving.formats import CHUNK_BYTES, media, result
from serving.front.coverage_header import headers
from serving.query import Head, Query, Whole
from serving.worker.job import HELD_BYTES, Job
from serving.worker.tables import Tables

NAMES = list(media.NAMES)
# what each format says of a body, or raises
READ: dict[str, Callable[[bytes], int]] = {
    "json": lambda body: len(json.loads(body)["rows"]),
    "ndjson": lambda body: len([json.loads(line) for line in body.splitlines()]),
    "csv": lambda body: len(list(csv.reader(io.StringIO(body.decode(), newline="")))) - 1,
    "arrow": lambda body: pa.ipc.open_stream(body).read_all().num_rows,
    "parquet": lambda body: pq.read_table(io.BytesIO(body)).num_rows,
}


class Parts:
    """A sink that keeps parts apart, and calls `at` with their number after each."""

    def __init__(self, at: Callable[[int], None] = lambda _: None) -> None:
        self.heads: list[Head] = []
        self.parts: list[bytes] = []
        self._at = at

    def head(self, head: Head) -> None:
        assert not self.parts
        self.heads.append(head)

    def part(self, data: bytes) -> None:
        assert self.heads
        self.parts.append(data)
        self._at(len(self.parts))

    def body(self) -> bytes:
        return b"".join(self.parts)


@pytest.fixture(scope="module")
def tables() -> Iterator[Tables]:
    tables = Tables(memory_limit="1GB")
    yield tables
    tables.close()


def query(sql: str, name: str = "json", max_rows: int = 1_000_000) -> Query:
    return Query(sql, None, max_rows, formats.named(name))


def run(tables: Tables, asked: Query, sink: Parts) -> None:
    Job(tables, asked, time.monotonic).run(sink)


@pytest.mark.parametrize("name", NAMES)
def test_a_short_answer_comes_with_its_count(tables: Tables, name: str) -> None:
    for limit, count, cut in ((4, 4, True), (5, 5, False), (6, 5, False)):
        sink = Parts()
        run(tables, query("FROM range(5)", name, limit), sink)
        (head,) = sink.heads
        assert (head.row_count, head.truncated, len(sink.parts)) == (count, cut, 1)
        assert READ[name](sink.body()) == count
        assert headers(head)["Everview-Row-Count"] == str(count)


@pytest.mark.parametrize("name", NAMES)
def test_a_long_answer_is_streamed(tables: Tables, name: str) -> None:
    sql = "SELECT i, hash(i), hash(i + 1)::VARCHAR || 'x' AS h FROM range(200000) t(i)"
    for limit in (50_000, 2_048 * 20):
        sink = Parts()
        run(tables, query(sql, name, limit), sink)
        (head,) = sink.heads
        assert (head.row_count, head.truncated) == (None, None)
        assert headers(head).keys() == {"Everview-Coverage"}
        assert len(sink.body()) > HELD_BYTES
        assert min(map(len, sink.parts)) > 0
        assert max(map(len, sink.parts)) <= CHUNK_BYTES
        assert READ[name](sink.body()) == limit
        if name == "json":
            told = json.loads(sink.body())
            assert (told["row_count"], told["truncated"]) == (limit, True)


@pytest.mark.parametrize("name", NAMES)
def test_a_long_answer_that_ends_at_max_rows(tables: Tables, name: str) -> None:
    """As many rows as there are: nothing was left out."""
    sink = Parts()
    run(tables, query("SELECT i, hash(i) AS h FROM range(40960) t(i)", name, 40_960), sink)
    assert READ[name](sink.body()) == 40_960
    if name == "json":
        assert json.loads(sink.body())["truncated"] is False


def broken(name: str, body: bytes, rows: int) -> bool:
    """Whether a body is seen not to be whole, or has not even a part of the rows too many."""
    try:
        found = READ[name](body)
    except (ValueError, OSError, pa.ArrowException):
        return True
    return name in ("ndjson", "csv", "arrow") and found < rows


@pytest.mark.parametrize("name", NAMES)
def test_an_error_after_the_head_is_raised(tables: Tables, name: str) -> None:
    """The sink has a part of a body, which its reader refuses or which the front breaks off."""
    wide = "hash(i)::VARCHAR || hash(i + 1)::VARCHAR || hash(i + 2)::VARCHAR"
    sql = f"""SELECT {wide} AS w, CASE WHEN i < 199000 THEN '1' ELSE 'x' END::INTEGER AS n
        FROM range(200000) t(i)"""
    sink = Parts()
    with pytest.raises(RequestError, match="Could not convert string 'x'") as raised:
        run(tables, query(sql, name), sink)
    assert raised.value.code == Code.BAD_SQL
    assert (raised.value.line, raised.value.column) != (None, None)
    assert len(sink.heads) == 1
    assert len(sink.body()) > HELD_BYTES
    assert sink.heads[0].row_count is None
    assert broken(name, sink.body(), 200_000)
    sink = Parts()
    run(tables, query("SELECT 1", name), sink)
    assert READ[name](sink.body()) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_worker_that_ends_in_the_middle(
    tables: Tables, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = failpoints.parse("serve.mid_result=raise:OSError")
    monkeypatch.setattr(failpoints, "_ACTIONS", found)
    sink = Parts()
    with pytest.raises(OSError, match="failpoint"):
        run(tables, query("SELECT i, hash(i) AS h FROM range(200000) t(i)", name), sink)
    assert len(sink.body()) >= HELD_BYTES
    assert broken(name, sink.body(), 200_000)


@pytest.mark.parametrize("name", ["json", "parquet"])
def test_an_error_before_the_head_sends_nothing(tables: Tables, name: str) -> None:
    sql = "SELECT CASE WHEN i < 5000 THEN '1' ELSE 'x' END::INTEGER FROM range(9000) t(i)"
    sink = Parts()
    with pytest.raises(RequestError, match="Could not convert"):
        run(tables, query(sql, name), sink)
    assert (sink.heads, sink.parts) == ([], [])


@pytest.mark.parametrize("name", NAMES)
def test_a_job_is_stopped_between_parts(tables: Tables, name: str) -> None:
    why = RequestError(Code.DEADLINE, "late")
    sql = "SELECT i, hash(i) AS h FROM range(100000000000) t(i)"
    job = Job(tables, query(sql, name, 10**9), time.monotonic)
    sink = Parts(lambda count: job.stop(why) if count == 3 else None)
    with pytest.raises(RequestError) as raised:
        job.run(sink)
    assert raised.value is why
    assert len(sink.parts) <= 3 + HELD_BYTES // 1024


def test_a_job_is_stopped_between_parts_of_a_cell(tables: Tables) -> None:
    """Where the engine has nothing left to interrupt."""
    why = RequestError(Code.DEADLINE, "late")
    sql = "SELECT string_agg(hash(i)::VARCHAR, '') FROM range(250000) t(i)"
    job = Job(tables, query(sql), time.monotonic)
    sink = Parts(lambda count: job.stop(why) if count == 3 else None)
    with pytest.raises(RequestError) as raised:
        job.run(sink)
    assert raised.value is why
    assert len(sink.parts) == 3


def test_a_client_that_leaves_ends_the_job(tables: Tables) -> None:
    def gone(count: int) -> None:
        if count == 2:
            raise BrokenPipeError

    sink = Parts(gone)
    with pytest.raises(BrokenPipeError):
        run(tables, query("FROM range(100000000000)", "csv", 10**9), sink)
    assert len(sink.parts) == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_of_megabytes(tables: Tables, name: str) -> None:
    sql = "SELECT string_agg(hash(i)::VARCHAR, '\"') AS v FROM range(250000) t(i)"
    sink = Parts()
    run(tables, query(sql, name), sink)
    assert max(map(len, sink.parts)) <= CHUNK_BYTES
    ((wanted,),) = duckdb.execute(sql).fetchall()
    assert len(wanted) > 4 * 2**20
    body = sink.body()
    found: Any
    if name == "json":
        ((found,),) = json.loads(body)["rows"]
    elif name == "ndjson":
        found = json.loads(body)["v"]
    elif name == "csv":
        csv.field_size_limit(10**8)
        _, (found,) = csv.reader(io.StringIO(body.decode(), newline=""))
    elif name == "arrow":
        found = pa.ipc.open_stream(body).read_all()["v"][0].as_py()
    else:
        found = pq.read_table(io.BytesIO(body))["v"][0].as_py()
    assert found == wanted


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_are_too_large_are_refused(
    tables: Tables, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result, "BATCH_BYTES", 2**20)
    sql = "SELECT string_agg(hash(i)::VARCHAR, '') FROM range(100000) t(i)"
    with pytest.raises(RequestError, match="at most 1048576 bytes") as raised:
        run(tables, query(sql, name), Parts())
    assert raised.value.code == Code.TOO_LARGE


STEADY: tuple[tuple[str, bool], ...] = (
    ("SELECT 1 + 1, upper('x'), count(*) FROM range(3)", True),
    ("SELECT date_trunc('day', TIMESTAMP '2026-01-01')", True),
    ("SELECT approx_quantile(i, 0.5), list(i ORDER BY i) FROM range(3) t(i)", True),
    ("WITH a AS (SELECT 1 AS now) SELECT now FROM a", True),
    ("SHOW TABLES", False),
    ("SELECT now()", False),
    ("SELECT NOW()", False),
    ("SELECT * FROM range(3) t(i) WHERE i < random()", False),
    ("SELECT (SELECT max(uuid()) FROM range(2))", False),
    ("WITH a AS (SELECT today() AS d) FROM a", False),
    ("SELECT current_date", False),
    ('SELECT "current_timestamp"', False),
    ("SELECT 1 FROM range(2) t(i) ORDER BY random()", False),
    ("SELECT i FROM range(2) t(i) GROUP BY i, gen_random_uuid()", False),
    ("SELECT age(TIMESTAMP '2026-01-01')", False),
    ("SELECT reservoir_quantile(i, 0.5) FROM range(3) t(i)", False),
    ("SELECT i FROM range(9) t(i) USING SAMPLE 3", False),
    ("SELECT i FROM range(9) t(i) TABLESAMPLE 50%", False),
    ("SELECT sum(random()) OVER () FROM range(3)", False),
    ("FROM everview.streams", False),
    ("SELECT (SELECT count(*) FROM Everview.Views)", False),
)


@pytest.mark.parametrize(("sql", "steady"), STEADY)
def test_steady(tables: Tables, sql: str, steady: bool) -> None:
    sink = Whole()
    Job(tables, query(sql), time.monotonic).run(sink)
    assert sink.reply().head.steady is steady


CHILD = """
import json, resource, sys, time
from serving import formats
from serving.query import Query
from serving.worker.job import Job
from serving.worker.tables import Tables

class Counting:
    size = 0
    def head(self, head): pass
    def part(self, data): self.size += len(data)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

tables = Tables(memory_limit="256MB")
sql = "SELECT i, i / 7 AS d, TIMESTAMP '2026-01-01' + to_seconds(i) AS t, " + ", ".join(
    " || ".join(f"hash(i * {at})::VARCHAR" for at in range(first, first + 4)) + f" AS h{first}"
    for first in (1, 5)
) + " FROM range(1000000) t(i)"
grown = {}
for name, kind in formats.media.NAMES.items():
    found = []
    for rows in (100_000, 300_000):
        sink = Counting()
        Job(tables, Query(sql, None, rows, kind), time.monotonic).run(sink)
        found.append((peak(), sink.size / 2**20))
    (before, _), (after, size) = found
    grown[name] = (after - before, size)
print(json.dumps(grown))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_result() -> None:
    """In a process of its own, whose peak is measured: 300,000 rows against 100,000."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=120, check=True
    )
    grown: dict[str, tuple[float, float]] = json.loads(done.stdout.splitlines()[-1])
    assert list(grown) == NAMES
    for name, (megabytes, size) in grown.items():
        assert size > (20 if name == "parquet" else 50), grown
        assert megabytes < 20, grown
