"""Serving beside plain DuckDB tables: a view of a million groups with a thousand epochs of speed,
asked while events flow.

    bare     a process with the finished rows in a plain table, the statement to bytes of JSON
    served   the same statement through HTTP, front and worker, with coverage

Spark and Kafka are left out, so that what is measured is serving: a process folds the events of
each epoch and commits it, as streaming would.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import queue
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pyarrow as pa

from infra.bench import asking
from infra.bench.asking import Connection, Found
from schemas import engine, project, registered
from schemas.engine import RECORDS
from schemas.ledger import versions
from schemas.ledger.connect import Ledger, open_ledger
from schemas.ledger.epochs import EpochCommit, SegmentFile, commit_epoch, lease_name
from schemas.ledger.leases import Holder, take
from schemas.position import Range
from schemas.segment import Segment, encode
from schemas.storage import DataRoot
from serving import formats

GROUPS, EPOCHS, SPEED_EVENTS = 1_000_000, 1_000, 200
EVENTS_A_SECOND, EPOCHS_A_SECOND = 10_000, 4
CLIENTS = (1, 16, 64)
SECONDS = 10
CHARTS, VIEWERS = 47, 50
START = datetime(2026, 1, 1, tzinfo=UTC)
DEFINITIONS = """
CREATE STREAM visits (
    visitor BIGINT NOT NULL, moment TIMESTAMP NOT NULL, page INTEGER, millis INTEGER
)
WITH (topic = 'visits', format = 'json', event_time = 'moment', partitions = 1);

CREATE VIEW by_visitor AS
SELECT visitor, count(*) AS visits, sum(millis) AS millis, avg(millis) AS mean, max(moment) AS last
FROM visits GROUP BY visitor;

CREATE VIEW by_page AS
SELECT page, count(*) AS visits, avg(millis) AS mean, max(millis) AS worst FROM visits
GROUP BY page;

CREATE VIEW everything AS SELECT count(*) AS visits FROM visits;
"""
LOOK_UP = "SELECT visitor, visits, millis, mean, last FROM {} WHERE visitor = ?"
TOP = "SELECT visitor, visits, millis, mean, last FROM {} ORDER BY visits DESC, visitor LIMIT 10"
CHART = "SELECT page, visits, mean, worst FROM by_page WHERE page % {} = 0 ORDER BY visits DESC"


@dataclass(frozen=True)
class Measured:
    """One kind of statement by so many clients, bare and served."""

    statement: str
    clients: int
    bare: Found
    served: Found


@dataclass(frozen=True)
class Result:
    measured: list[Measured]
    cached: Found  # the top ten, the same text each time, by 16 clients
    dashboard: Found
    fresh: list[float]  # milliseconds from the end of a commit to an answer that has it
    ready: float  # seconds from the start of the server until it was ready


class Writer:
    """Folds events and commits them as epochs."""

    def __init__(self, state: Path, projected: Path) -> None:
        loaded = project.load(projected)
        self._root, self._engine = DataRoot(state), engine.connect()
        self._ledger: Ledger = open_ledger(state, create=True)
        versions.register(self._ledger, *registered.rows(loaded, self._root), START)
        holder = Holder("bench", os.getpid(), 0.0)
        lease = take(
            self._ledger, lease_name("visits"), holder, START, timedelta(days=1), lambda _: False
        )
        self._token = lease.token
        (self._stream,), self._views = loaded.streams(), loaded.views()
        self._epoch = self._offset = 0

    def commit(self, visitors: str, events: int) -> None:
        """An epoch of so many events; `visitors` is the SQL of whose event number i is."""
        self._epoch += 1
        first, at = self._offset, self._epoch
        select = (
            f"SELECT 0::INTEGER AS _partition, {first} + i AS _offset, "
            "TIMESTAMP '2026-01-01' AS _timestamp, NULL::BLOB AS _key, "
            f"encode(json_object('visitor', {visitors}, 'moment', '2026-01-01T10:00:00Z', "
            "'page', i % 500, 'millis', hash(i) % 900)::VARCHAR) AS _value, "
            f"NULL::STRUCT(key VARCHAR, value BLOB)[] AS _headers FROM range({events}) t(i)"
        )
        records = self._engine.arrow(select).cast(RECORDS)
        instant = START + timedelta(seconds=at)
        found = self._engine.fold(
            self._stream, self._views, records, epoch=at, instant=instant, since=START
        )
        ranges = (Range(0, first, first + events),)
        segment = Segment(
            "visits", at, self._token, found.master, found.rejects, None, found.partials, ranges
        )
        name = f"{at}-0-{self._token}-{uuid.uuid4().hex}.zip"
        file = self._root.put("segments/visits", name, encode(segment))
        written = SegmentFile(file, events, found.accepted, 0, found.rejected, has_ids=False)
        commit_epoch(
            self._ledger,
            EpochCommit(
                stream="visits",
                epoch=at,
                instant=instant,
                token=self._token,
                stream_version=self._stream.version,
                topic_id="bench",
                ranges=ranges,
                segments=(written,),
                folded=tuple(found.partials),
                suspended=(),
                uuid=uuid.uuid4().hex,
            ),
        )
        self._offset += events


def measure(folder: Path) -> Result:
    """All of it, in one run."""
    projected = folder / "project"
    projected.mkdir(parents=True)
    (projected / "visits.sql").write_text(DEFINITIONS, encoding="utf-8")
    state = folder / "state"
    flowing, stop = multiprocessing.Event(), multiprocessing.Event()
    commits: multiprocessing.Queue[tuple[int, float]] = multiprocessing.Queue()
    arguments = (state, projected, flowing, stop, commits)
    writer = multiprocessing.Process(target=_flow, args=arguments)
    writer.start()
    try:
        epoch = _written(writer, commits)
        with _server(state) as (url, ready):
            asyncio.run(_reached(url, epoch))
            flowing.set()
            asyncio.run(_reached(url, epoch + 20))
            return asyncio.run(_measure(url, ready, commits))
    finally:
        stop.set()
        writer.join(10)
        writer.kill()


def _written(
    writer: multiprocessing.Process, commits: multiprocessing.Queue[tuple[int, float]]
) -> int:
    """The last epoch before events flow."""
    while True:
        try:
            return commits.get(timeout=1)[0]
        except queue.Empty:
            if not writer.is_alive():
                message = "the writer of epochs ended"
                raise RuntimeError(message) from None


def _flow(
    state: Path,
    projected: Path,
    flowing: Event,
    stop: Event,
    commits: multiprocessing.Queue[tuple[int, float]],
) -> None:
    writer = Writer(state, projected)
    writer.commit("i", GROUPS)
    for epoch in range(EPOCHS):
        writer.commit(f"(hash(i + {epoch * SPEED_EVENTS}) % {GROUPS})", SPEED_EVENTS)
    commits.put((1 + EPOCHS, time.time()))
    flowing.wait()
    events, due, epoch = EVENTS_A_SECOND // EPOCHS_A_SECOND, time.monotonic(), 1 + EPOCHS
    while not stop.is_set():
        writer.commit(f"(hash(i + {epoch * events}) % {GROUPS})", events)
        epoch += 1
        commits.put((epoch, time.time()))
        due += 1 / EPOCHS_A_SECOND
        time.sleep(max(0.0, due - time.monotonic()))


@contextmanager
def _server(state: Path) -> Iterator[tuple[str, float]]:
    begun = time.monotonic()
    command = [sys.executable, "-m", "serving.run", "--state", str(state), "--memory", "4GB"]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    report = state / "run" / "serving.json"
    try:
        while not _is_ready(report):
            if server.poll() is not None or time.monotonic() - begun > 300:
                message = "the server did not become ready"
                raise RuntimeError(message)
            time.sleep(0.05)
        yield json.loads(report.read_text())["http"], time.monotonic() - begun
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def _is_ready(report: Path) -> bool:
    if not report.exists() or json.loads(report.read_text())["state"] != "running":
        return False
    try:
        with urlopen(f"{json.loads(report.read_text())['http']}/readyz"):
            return True
    except HTTPError:
        return False


async def _reached(url: str, epoch: int) -> None:
    connection = await Connection.to(url)
    while await _epoch(connection) < epoch:
        await asyncio.sleep(0.05)
    connection.close()


async def _epoch(connection: Connection) -> int:
    answer = json.loads(await connection.ask({"sql": "FROM everything"}))
    return int(answer["coverage"][0]["epoch"])


async def _measure(
    url: str, ready: float, commits: multiprocessing.Queue[tuple[int, float]]
) -> Result:
    chance = random.Random(8)
    keys = [chance.randrange(GROUPS) for _ in range(200_000)]

    def look_up(number: int) -> dict[str, object]:
        return {"sql": LOOK_UP.format("by_visitor"), "params": [keys[number % len(keys)]]}

    def top(number: int) -> dict[str, object]:
        return {"sql": f"{TOP.format('by_visitor')} -- {number}"}  # never the same text twice

    measured = []
    with _Bare(keys) as bare:
        for clients in CLIENTS:
            for statement, ask in (("look-up", look_up), ("top ten", top)):
                floor = await asyncio.to_thread(bare.run, statement, clients)
                served = await asking.in_turns(url, clients, SECONDS, ask)
                measured.append(Measured(statement, clients, floor, served))
    cached = await asking.in_turns(url, 16, SECONDS, lambda _: {"sql": TOP.format("by_visitor")})
    charts = {"queries": [{"sql": CHART.format(chart + 2)} for chart in range(CHARTS)]}
    dashboard = await asking.each_second(url, VIEWERS, SECONDS, charts)
    fresh = await _fresh(url, commits)
    return Result(measured, cached, dashboard, fresh, ready)


async def _fresh(url: str, commits: multiprocessing.Queue[tuple[int, float]]) -> list[float]:
    while not commits.empty():
        commits.get()
    connection, found = await Connection.to(url), []
    for _ in range(40):
        epoch, at = await asyncio.to_thread(commits.get)
        while await _epoch(connection) < epoch:
            await asyncio.sleep(0.01)
        found.append((time.time() - at) * 1000)
    connection.close()
    return found


class _Bare:
    """Processes with the finished rows in a plain table, as many as a server has workers."""

    def __init__(self, keys: list[int]) -> None:
        self._keys = keys
        self._con = engine.connect().con
        self._con.execute(
            "CREATE TABLE plain AS SELECT i AS visitor, 1 + hash(i) % 3 AS visits, "
            "(hash(i) % 900)::HUGEINT AS millis, (hash(i) % 900)::DOUBLE AS mean, "
            f"TIMESTAMP '2026-01-01 10:00:00' AS last FROM range({GROUPS}) t(i)"
        )

    def __enter__(self) -> _Bare:
        return self

    def __exit__(self, *_: object) -> None:
        self._con.close()

    def run(self, statement: str, clients: int) -> Found:
        """`clients` share the processes: what each waits for its turn is in its time."""
        size = min(clients, max(2, os.cpu_count() or 1))
        ends = [os.pipe() for _ in range(size)]
        for number, (_, end) in enumerate(ends):
            if os.fork() == 0:
                try:
                    took = self._loop(statement, number)
                    with os.fdopen(end, "w") as told:
                        json.dump(took, told)
                finally:
                    os._exit(0)
            os.close(end)
        seconds: list[float] = []
        for end, _ in ends:
            with os.fdopen(end) as told:
                seconds += json.load(told)
            os.wait()
        return Found([each * clients / size for each in seconds], SECONDS)

    def _loop(self, statement: str, number: int) -> list[float]:
        took, until = [], time.perf_counter() + SECONDS
        while (begun := time.perf_counter()) < until:
            cursor = self._con.cursor()
            if statement == "look-up":
                key = self._keys[number % len(self._keys)]
                found = cursor.sql(LOOK_UP.format("plain"), params=[key])
            else:
                found = cursor.sql(f"{TOP.format('plain')} -- {number}")
            _encoded(found)
            cursor.close()
            took.append(time.perf_counter() - begun)
            number += 2
        return took


def _encoded(found: Any) -> bytes:
    reader: pa.RecordBatchReader = found.to_arrow_reader(formats.BATCH_ROWS)
    result = formats.Result(
        found.columns,
        found.types,
        reader.schema,
        reader,
        max_rows=10_000,
        elapsed_ms=lambda: 0.0,
        coverage=(),
        integers="number",
    )
    return b"".join(formats.encode(formats.JSON_TYPE, result))


def table(result: Result) -> list[str]:
    """The lines of the page."""
    lines = [
        "| statement | clients | bare p50, p99 ms | served p50, p99 ms | p50 ratio | bare /s "
        "| served /s | rate ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in result.measured:
        bare, served = each.bare, each.served
        lines.append(
            f"| {each.statement} | {each.clients} "
            f"| {bare.percentile(0.5):.2f}, {bare.percentile(0.99):.1f} "
            f"| {served.percentile(0.5):.2f}, {served.percentile(0.99):.1f} "
            f"| {served.percentile(0.5) / bare.percentile(0.5):.1f} "
            f"| {bare.rate:,.0f} | {served.rate:,.0f} | {served.rate / bare.rate:.2f} |"
        )
    cached, dashboard = result.cached, result.dashboard
    return [
        *lines,
        "",
        f"The top ten by 16 clients with one text, so that answers are kept while nothing changes: "
        f"{cached.rate:,.0f}/s, p50 {cached.percentile(0.5):.1f} ms, "
        f"p99 {cached.percentile(0.99):.1f} ms.",
        f"A dashboard of {CHARTS} charts in one request, {VIEWERS} viewers each second: "
        f"p50 {dashboard.percentile(0.5):.0f} ms, p99 {dashboard.percentile(0.99):.0f} ms.",
        "From the end of a commit to an answer that has it, asked every 10 ms: "
        f"median {median(result.fresh):.0f} ms, "
        f"worst of {len(result.fresh)} {max(result.fresh):.0f} ms.",
        f"A start with {1 + EPOCHS:,} epochs that are in no sealed file: {result.ready:.0f} s.",
    ]
