"""A state folder with committed epochs, made without Spark and Kafka, and servers over it."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa

from schemas import registered
from schemas.compile import CompiledView
from schemas.ledger import leases
from schemas.ledger.builds import PublicationRow, rollback
from schemas.ledger.connect import Ledger, open_ledger
from schemas.ledger.epochs import EpochCommit, SegmentFile, commit_epoch, lease_name, progress
from schemas.ledger.leases import Holder
from schemas.ledger.versions import folding, register
from schemas.observed import Epoch
from schemas.position import Range
from schemas.segment import Segment, encode
from schemas.storage import DataRoot
from serving.follower.follow import LAY_ROWS, Follower
from serving.front.answers import Answers
from serving.front.api import application
from serving.front.listening import USUAL, Limits, Server
from serving.front.neighbours import LOOPBACK
from serving.front.tokens import Tokens
from serving.front.watch import Watch
from streaming.epoch import observed as put_together
from streaming.seen import reasons, seen_times
from streaming.task import TaskReport
from tests.api.layers import Layers
from tests.api.threads import ThreadedFront
from tests.api.twins import Twins, asked
from tests.folding import Folding, load, records

START = datetime(2026, 1, 1, 10, tzinfo=UTC)
STREAM = """
CREATE STREAM hits (k VARCHAR, u BIGINT, n INTEGER, moment TIMESTAMP)
WITH (topic = 'hits', format = 'json', event_time = 'moment');
"""
VIEWS = {
    "by_key": """SELECT k, count(*) AS hits, sum(n) AS total, avg(n) AS mean, min(n) AS low,
        max(n) AS high, count(*) FILTER (WHERE n > 5) AS large FROM hits GROUP BY k""",
    "everything": "SELECT count(*) AS hits, sum(n) AS total, max(k) AS last FROM hits",
    "visitors": "SELECT k, approx_count_distinct(u) AS visitors FROM hits GROUP BY k",
    "all_visitors": "SELECT approx_count_distinct(u) AS visitors, count(u) AS known FROM hits",
    "by_two": "SELECT n % 3 AS third, k, max(moment) AS at, count(n) AS ns FROM hits GROUP BY ALL",
    "keys": "SELECT k FROM hits GROUP BY 1",
}
COLUMNS = (("k", "VARCHAR"), ("u", "BIGINT"), ("n", "INTEGER"), ("moment", "TIMESTAMP"))

Row = dict[str, Any]


class World:
    """One stream, deployed; epochs are committed as streaming would."""

    def __init__(
        self,
        folder: Path,
        *,
        stream: str = STREAM,
        views: Mapping[str, str] = VIEWS,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        self.state = folder / "state"
        self.state.mkdir(parents=True)
        self.root = DataRoot(self.state)
        self.ledger = open_ledger(self.state, create=True)
        self.offset = 0
        self.told: dict[int, list[Row]] = {0: []}  # epoch -> all rows counted up to it
        self.compiled: dict[str, CompiledView] = {}  # every version, by its id
        self.deploy(folder / "project", stream, views, files)
        self.lease = leases.take(
            self.ledger,
            lease_name(self.name),
            Holder("here", 1, 0.0),
            START,
            timedelta(days=1),
            alive=lambda _: False,
        )
        self.layers = Layers(self.ledger, self.root, self.name, self.lease)
        self.layers.compiled = self.compiled
        self.now = START
        self._reports: list[TaskReport] = []

    def deploy(
        self,
        folder: Path,
        stream: str,
        views: Mapping[str, str],
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        """Register a stream and views over it; `stream` may hold other definitions too, `files` has
        those of references."""
        definitions = [f"CREATE VIEW {name} AS {select};" for name, select in views.items()]
        self.folding = Folding(load(folder, stream, *definitions, files=files))
        self.name = self.folding.stream.name
        streams, rows = registered.rows(self.folding.project, self.root)
        register(self.ledger, streams, rows, START)
        self.compiled |= {view.version: view for view in self.folding.views}

    def tick(self) -> datetime:
        self.now += timedelta(minutes=1)
        return self.now

    def seal(self, last: int | None = None, *, unlink: bool = False) -> None:
        """Seal all epochs, or those up to `last`."""
        self.layers.seal(self.tick(), last, unlink=unlink)

    def build(self, view: str, **options: Any) -> PublicationRow:
        """Build a view up to the last sealed epoch and publish it."""
        return self.layers.build(view, self.tick(), **options)

    def rollback(self, view: str, to: int | None = None) -> PublicationRow:
        return rollback(self.ledger, view, to, self.tick())

    def epoch(
        self,
        *tasks: Sequence[Row | bytes],
        suspend: Mapping[str, str] | None = None,
        spoil: Mapping[str, pa.Table] | None = None,
        lost: int = 0,
        observed: Epoch | None = None,
    ) -> int:
        """Commit an epoch of these rows, or of bytes as they are. `suspend` maps names of views to
        messages, `spoil` to what stands in the segments in place of their core rows; that many
        offsets before them are `lost`. `observed` is said of it in the place of what is seen."""
        last = progress(self.ledger, self.name)
        number, instant = last.epoch + 1, START + timedelta(seconds=last.epoch + 1)
        carried = [row for row in folding(self.ledger, self.name) if row.suspended_epoch is None]
        self.folding.views = [self.compiled[row.version] for row in carried]
        gone = {self.folding.view(name).version: text for name, text in (suspend or {}).items()}
        self.folding.views = [each for each in self.folding.views if each.version not in gone]
        self.layers.records[number] = (self.folding.stream, [])
        self._reports = []
        start, until = self.offset, self.offset + sum(len(rows) for rows in tasks)
        ranges = (Range(0, start - lost, until),)
        segments = tuple(
            self._segment(number, instant, at, rows, spoil or {}, ranges)
            for at, rows in enumerate(tasks)
        )
        commit_epoch(
            self.ledger,
            EpochCommit(
                stream=self.name,
                epoch=number,
                instant=instant,
                token=self.lease.token,
                stream_version=self.folding.stream.version,
                topic_id="topic-id",
                ranges=ranges,
                segments=segments,
                folded=tuple(view.version for view in self.folding.views),
                suspended=tuple(gone.items()),
                uuid=uuid.uuid4().hex,
                observed=observed
                or put_together(
                    self._reports, read_to=instant, ended=frozenset({0}), timed=self._timed
                ),
            ),
        )
        rows = [row for task in tasks for row in task if not isinstance(row, bytes)]
        self.told[number] = [*self.told[number - 1], *rows]
        return number

    @property
    def _timed(self) -> bool:
        return self.folding.stream.event_time is not None

    def _segment(
        self,
        epoch: int,
        instant: datetime,
        at: int,
        rows: Sequence[Row | bytes],
        spoil: Mapping[str, pa.Table],
        ranges: tuple[Range, ...],
    ) -> SegmentFile:
        table = records([spelled(row) for row in rows], offset=self.offset)
        self.layers.records[epoch][1].append(table)
        self.offset += len(rows)
        (folded,) = self.folding.epoch(epoch, instant, table)
        times, future = seen_times(self.folding.stream, table, folded.master, instant)
        offsets = (self.offset - len(rows), self.offset - 1)
        told = TaskReport(at, {0: offsets}, times=times, future=future)
        self._reports.append(replace(told, reasons=reasons(folded.rejects)))
        spoilt = {self.folding.view(name).version: {"core": core} for name, core in spoil.items()}
        data = encode(
            Segment(
                self.name,
                epoch,
                self.lease.token,
                folded.master,
                folded.rejects,
                folded.ids,
                {**folded.partials, **spoilt},
                ranges,
            )
        )
        name = f"{epoch}-{at}-{self.lease.token}-{uuid.uuid4().hex}.zip"
        file = self.root.put(f"segments/{self.name}", name, data)
        return SegmentFile(
            file,
            len(rows),
            folded.accepted,
            folded.duplicates,
            folded.rejected,
            folded.ids is not None,
        )


def spelled(row: Row | bytes) -> bytes:
    if isinstance(row, bytes):
        return row
    moment = row.get("moment")
    return json.dumps({**row, "moment": moment.isoformat() if moment else None}).encode()


class Served:
    """What `serving.run` puts together, stepped by hand: `now` is the test's clock."""

    def __init__(self, state: Path, *, round_epochs: int = 256, lay_rows: int = LAY_ROWS) -> None:
        self._twins = Twins((state / "batch", state / "master"))
        self.tables = self._twins.worker
        self._opened: list[Ledger] = []
        self.follower = Follower(
            lambda: self._open(state),
            DataRoot(state),
            self._twins,
            round_epochs=round_epochs,
            lay_rows=lay_rows,
        )
        self.now = 0.0

    def _open(self, state: Path) -> Ledger:
        self._opened.append(open_ledger(state))
        return self._opened[-1]

    def close(self) -> None:
        """Of many in one process each takes descriptors."""
        self._twins.close()
        for ledger in self._opened:
            ledger.close()

    def step(self, seconds: float = 2.0) -> bool:
        self.now += seconds
        return self.follower.step(self.now)

    def catch_up(self) -> None:
        self.follow()
        self._twins.compare()

    def follow(self) -> None:
        while self.step():
            pass

    def check(self) -> None:
        """Catch up, and let every file be checked."""
        self.catch_up()
        assert self.follower.checker.wait(30)
        self.catch_up()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return asked(self.tables, sql)

    def held(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of the tables that changes are computed from."""
        return asked(self._twins.spare, sql)

    def arrow(self, sql: str) -> pa.Table:
        cursor = self.tables.cursor()
        try:
            table: pa.Table = cursor.sql(sql).to_arrow_table()
            return table
        finally:
            cursor.close()

    def degraded(self, view: str) -> str | None:
        found: str | None = self.coverage(view)["degraded"]
        return found

    def coverage(self, view: str) -> dict[str, Any]:
        (found,) = (
            each.json()
            for stream in self.follower.streams.values()
            for each in stream.coverage()
            if each.view == view
        )
        return found


@contextmanager
def http(
    front: Answers,
    tokens: Tokens | None = None,
    limits: Limits = USUAL,
    watch: Watch | None = None,
) -> Iterator[httpx.Client]:
    """The application behind a real server on a loopback port."""
    app = application(front, LOOPBACK, tokens, watch or Watch(time.time, time.monotonic))
    server = Server(app, limits, port=0, log_level="critical")
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def serving(served: Served, *, watch: Watch | None = None, **limits: int) -> Iterator[httpx.Client]:
    front = ThreadedFront(served.tables, served.follower, lambda: served.now, **limits)
    try:
        with http(front, watch=watch) as client:
            yield client
    finally:
        front.close()


def ask(client: httpx.Client, sql: str, **fields: Any) -> httpx.Response:
    return client.post("/sql", json={"sql": sql, **fields})
