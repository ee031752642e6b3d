"""The whole path in one process, stepped by hand: a topic, the speed layer over it, sealing, builds
and publications, serving. Spark and the broker are stand-ins (`spark.py`, `topic.py`), all else is
real, and lies in a folder that another process can go on with.
"""

from __future__ import annotations

import functools
import json
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, cast

from pyspark.sql import SparkSession

from batch import publish
from batch.build import Builder, Done, Make
from batch.settings import Settings as BatchSettings
from batch.stages import in_process
from schemas import failpoints, project, registered
from schemas.failpoints import Action
from schemas.ledger import leases
from schemas.ledger.builds import rollback
from schemas.ledger.connect import open_ledger
from schemas.ledger.epochs import epochs_after, lease_name, progress
from schemas.ledger.leases import Holder, Lease
from schemas.ledger.process import is_running, this_process
from schemas.ledger.versions import register
from schemas.project import Project
from schemas.storage import DataRoot
from streaming import task
from streaming.epoch import EpochWriter
from streaming.flow import Flow
from streaming.orphans import remove_orphans
from streaming.sealer import Sealer
from streaming.settings import Settings
from streaming.topics import Topics
from tests.api.world import Served
from tests.engine.yard import Direct
from tests.matrix.recount import Commit
from tests.matrix.spark import Session
from tests.matrix.topic import Ack, Event, Topic

START = datetime(2026, 1, 1, 10, tzinfo=UTC)
COLUMNS = """id VARCHAR PRIMARY KEY, ts TIMESTAMP NOT NULL, k VARCHAR NOT NULL,
    n INTEGER CHECK (n >= 0), x DOUBLE, d DECIMAL(12,2), b BOOLEAN, j JSON"""
STREAM = f"""CREATE STREAM events ({COLUMNS})
WITH (topic = 'events', format = 'json', event_time = 'ts');
"""
UNKEYED = STREAM.replace(" PRIMARY KEY", "")
VIEWS = {
    "by_key": """SELECT k, count(*) AS events, sum(n) AS total, sum(d) AS money, max(x) AS weight,
        min(n) AS low, max(n) AS high FROM events GROUP BY k""",
    "by_hour": """SELECT time_bucket(INTERVAL '1 hour', ts) AS hour, count(*) AS events,
        max(k) AS last FROM events GROUP BY ALL""",
    "everything": "SELECT count(*) AS events, sum(n) AS total, sum(d) AS money FROM events",
}
SECOND = timedelta(seconds=1)


@functools.cache
def loaded(text: str) -> Project:
    """A project of these definitions; each row begins with the same ones."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "all.sql").write_text(text, encoding="utf-8")
        return project.load(Path(folder))


def event(number: int, **columns: Any) -> Event:
    """A good event; a column that is given None is left out."""
    meant = {
        "id": f"e{number}",
        "ts": f"2026-01-01T{number % 24:02}:30:00",
        "k": f"k{number % 5}",
        "n": number % 100,
        "x": number / 10,
        "d": f"{number}.25",
        **columns,
    }
    meant = {name: value for name, value in meant.items() if value is not None}
    return Event(json.dumps(meant).encode(), meant)


def bad(value: bytes | None = b"no json") -> Event:
    return Event(value, None)


class World:
    """One stream on its topic, deployed."""

    def __init__(
        self,
        folder: Path,
        *,
        stream: str = STREAM,
        views: Mapping[str, str] = VIEWS,
        partitions: int = 2,
    ) -> None:
        self.folder, self.state = folder, folder / "state"
        self.root = DataRoot(self.state)
        self.topic = Topic(folder / "topic", partitions)
        there = self.state.exists()
        self.state.mkdir(exist_ok=True)
        self.ledger = open_ledger(self.state, create=not there)
        self.clock = START
        self.views = dict(views)
        self.commits: dict[int, Commit] = {}  # as they were seen in the ledger
        self.topic_id = self.topic.id  # whose events count
        self.lost: list[tuple[int, int, int]] = []  # partition, start, until
        self.served: Served | None = None
        self.all_served: list[Served] = []
        self.seen: dict[str, tuple[dict[int, int], int, int]] = {}  # position, cut, epoch
        self.hashes: dict[str, str] = {}  # of every file that was ever named
        self.keyed = "PRIMARY KEY" in stream
        if not there:
            self.declare(stream, self.views)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for served in self.all_served:
            served.close()
        self.ledger.close()

    def serving(self) -> Served:
        """A server that has loaded nothing."""
        self.all_served.append(Served(self.state))
        return self.all_served[-1]

    def declare(self, stream: str, views: Mapping[str, str]) -> None:
        """Deploy these definitions."""
        selects = [f"CREATE VIEW {name} AS {select};\n" for name, select in views.items()]
        rows = registered.rows(loaded(stream + "".join(selects)), self.root)
        register(self.ledger, *rows, self.clock)
        self.views = dict(views)

    # the speed layer

    def send(self, *events: Event, partition: int = 0) -> None:
        self.topic.send(partition, *events)

    def some(self, first: int, count: int = 10) -> None:
        """Good events with these numbers, on two partitions in turn, and a bad one."""
        for partition in (0, 1):
            numbers = range(first + partition, first + count, 2)
            self.send(*(event(number) for number in numbers), partition=partition)
        self.send(bad(), partition=1)

    def driver(self, **options: Any) -> Driver:
        return Driver(self, **options)

    def stream(self, **settings: Any) -> Driver:
        """A driver from its start to its end, with what is in the topic now; it must not fail."""
        with self.driver(**settings) as driver:
            driver.run()
        assert driver.trouble() is None, driver.trouble()
        return driver

    def seal(self, **settings: Any) -> None:
        """A driver that seals everything there is."""
        with self.driver(**settings) as driver:
            driver.seal()

    def note(self) -> None:
        """Keep when each epoch was committed: sealing forgets it."""
        for each in epochs_after(self.ledger, "events", 0, 10**6):
            self.commits[each.epoch] = (each.instant, dict(each.position.offsets))

    def position(self) -> dict[int, int]:
        return dict(progress(self.ledger, "events").position.offsets)

    def acks(self) -> list[Ack]:
        """What was acknowledged of the topic that counts, and not lost to retention."""
        return [
            ack
            for ack in self.topic.acks()
            if ack.topic_id == self.topic_id
            and not any(ack.partition == p and a <= ack.offset < b for p, a, b in self.lost)
        ]

    # the batch layer

    def builder(self, make: Make = in_process, **settings: Any) -> Builder:
        chosen = BatchSettings(state=self.state, memory="512MB", **settings)
        return Builder(chosen, self.ledger, make, self.tick, threads=1)

    def build(self, view: str, *, full: bool = False, **settings: Any) -> Done:
        return self.builder(**settings).all_steps(view, full=full, until=None)

    def rollback(self, view: str) -> None:
        """Recorded, so the cut of the view may go back once."""
        rollback(self.ledger, view, None, self.tick())
        publish.write_current(self.ledger, self.root, view)
        position, _, epoch = self.seen.get(view, ({}, 0, 0))
        self.seen[view] = (position, 0, epoch)

    def tick(self) -> datetime:
        self.clock += SECOND
        return self.clock

    # serving

    def serve(self) -> Served:
        """A new server."""
        self.served = self.serving()
        return self.look()

    def look(self) -> Served:
        """The server, caught up; a new one if there is none."""
        if self.served is None:
            self.served = self.serving()
        self.served.step()
        self.served.catch_up()
        return self.served


class Driver:
    """A streaming driver: its lease, its flow and its sealer, in new Python workers."""

    def __init__(
        self,
        world: World,
        *,
        holder: Holder | None = None,
        alive: Callable[[Holder], bool] | None = None,
        stopping: threading.Event | None = None,
        **settings: Any,
    ) -> None:
        self.world = world
        once: dict[str, Any] = {"once": True, "back_off_first": 0.0, "keep_removed": timedelta(0)}
        self.settings = Settings(world.state, "127.0.0.1:1", **(once | settings))
        task._Worker.engine = None
        ttl = timedelta(days=1)
        self.lease: Lease = leases.take(
            world.ledger,
            lease_name("events"),
            holder or this_process(),
            world.clock,
            ttl,
            alive or is_running,
        )
        self.token = self.lease.token
        self.session = Session(world.topic)
        self.fatal: list[BaseException] = []
        self.stopping = stopping or threading.Event()
        self.writer = EpochWriter(
            settings=self.settings,
            ledger=world.ledger,
            root=world.root,
            topics=cast(Topics, world.topic),
            stream="events",
            token=self.token,
            now=world.tick,
            stopping=self.stopping,
        )
        self.flow = Flow(
            cast(SparkSession, self.session),
            self.settings,
            self.writer,
            self.fatal.append,
            lambda: None,
        )

    def __enter__(self) -> Self:
        remove_orphans(self.world.root, self.world.ledger, "events", self.token)
        return self

    def __exit__(self, *_: object) -> None:
        self.world.note()
        leases.release(self.world.ledger, self.lease)

    def run(self) -> None:
        """Read what is in the topic, with the tries that a driver makes."""
        self.flow._tries()
        self.world.note()

    def trouble(self) -> str | None:
        """What it says of itself at its end."""
        return str(self.fatal[0]) if self.fatal else self.flow.error

    def sealer(self, **settings: Any) -> Sealer:
        chosen = replace(self.settings, seal_every=timedelta(0), **settings)
        return Sealer(
            settings=chosen,
            ledger=self.world.ledger,
            root=self.world.root,
            stream="events",
            token=self.token,
            now=self.world.tick,
            run=Direct(),
            moved=self.writer.moved,
            fatal=self.fatal.append,
            done=lambda: None,
        )

    def seal(self, **settings: Any) -> None:
        """What is not sealed yet; the files that stopped counting go."""
        self.world.note()
        self.sealer(**settings).step()
        sealer = self.sealer(**settings)
        sealer._tidy_at = 0.0
        sealer.step()


class Waits(threading.Event):
    """A driver's request to stop, on which it waits between two tries; here without any time."""

    def __init__(self, after: Callable[[int], object] = lambda _: None) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._after = after  # is given how often it waited

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout or 0.0)
        self._after(len(self.seconds))
        return self.is_set()


@contextmanager
def at(moment: str, act: Callable[[], object], *, hit: int | None = 1) -> Iterator[None]:
    """Do something at the n-th passing of a failpoint."""
    assert moment in failpoints.MOMENTS
    before = dict(failpoints._ACTIONS)
    failpoints._HITS.clear()
    failpoints._ACTIONS[moment] = Action("a test's", lambda: (act(), None)[1], hit)
    try:
        yield
    finally:
        failpoints._ACTIONS.clear()
        failpoints._ACTIONS.update(before)


def raises(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


@contextmanager
def loud(error: type[BaseException], *words: str) -> Iterator[None]:
    """L: it ends with this error, and its text has these words."""
    try:
        yield
    except error as raised:
        says(str(raised), *words)
        return
    message = f"expected {error.__name__}, nothing was raised"
    raise AssertionError(message)


def says(text: str | None, *words: str) -> None:
    """L, of what a part says of itself."""
    for each in words:
        assert each in str(text), f"expected {each!r} in {text!r}"
