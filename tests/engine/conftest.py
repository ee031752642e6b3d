"""One real broker for every test that needs one, and drivers of streaming as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kafka import KafkaAdminClient, KafkaProducer

from infra import jars, ports
from infra.parts import kafka
from schemas import project, registered
from schemas.engine import connect
from schemas.ledger.connect import Ledger, open_ledger
from schemas.ledger.epochs import CommittedEpoch, epochs_after, lease_name
from schemas.ledger.files import MASTER, RUN
from schemas.ledger.leases import leases
from schemas.ledger.sealing import sealed_ranges
from schemas.ledger.versions import register
from schemas.segment import SegmentReader
from schemas.storage import DataRoot

ROOT = Path(__file__).parents[2]
WAIT = 90.0


def wait_until(condition: Callable[[], bool], what: str, seconds: float = WAIT) -> None:
    """Looks again and again until it is so; fails with `what` if that takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:g} s for {what}"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of a broker that lives as long as the test run."""
    state = tmp_path_factory.mktemp("broker")
    chosen = ports.choose(state / "ports.json", {"kafka": 0, "controller": 0})
    part = kafka.part(state, chosen["kafka"], chosen["controller"], "256m")
    kafka.prepare(state, chosen["kafka"], chosen["controller"])
    with (state / "log.txt").open("wb") as log:
        process = subprocess.Popen(part.command, cwd=state, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: kafka.answers("127.0.0.1", chosen["kafka"], 1.0), "the broker")
        yield f"127.0.0.1:{chosen['kafka']}"
    finally:
        process.terminate()
        process.wait(30)


@dataclass(frozen=True)
class Driver:
    """`python -m streaming.run` on a state, or the same through spark-submit."""

    state: Path
    process: subprocess.Popen[str]
    log: Path

    def end(self, seconds: float = WAIT) -> tuple[int, str]:
        """Its exit code and what it wrote."""
        code = self.process.wait(seconds)
        return code, self.log.read_text(encoding="utf-8")

    def stop(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        return self.end(30)

    def report(self) -> dict[str, object]:
        """What it last said of itself; nothing before that."""
        try:
            found = json.loads((self.state / "run" / "streaming.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return found if found["pid"] == self.process.pid else {}

    def stream(self, name: str) -> dict[str, object]:
        streams = self.report().get("streams", {})
        assert isinstance(streams, dict)
        found: dict[str, object] = streams.get(name, {})
        return found


@dataclass
class Stack:
    """A state with its project, on the shared broker; topics are named after the test."""

    state: Path
    servers: str
    prefix: str
    drivers: list[Driver] = field(default_factory=list)

    def declare(self, sql: str) -> None:
        """Deploy a project; `{topic}` in it is this test's prefix."""
        folder = self.state.parent / "project"
        folder.mkdir(exist_ok=True)
        (folder / "all.sql").write_text(sql.replace("{topic}", self.prefix), encoding="utf-8")
        with open_ledger(self.state, create=True) as ledger:
            streams, views = registered.rows(project.load(folder), DataRoot(self.state))
            register(ledger, streams, views, datetime.now(UTC))

    def topic(self, name: str) -> str:
        return f"{self.prefix}{name}"

    def create(self, *names: str, partitions: int = 2) -> None:
        admin = KafkaAdminClient(bootstrap_servers=self.servers)
        try:
            wanted = {self.topic(name): {"num_partitions": partitions} for name in names}
            admin.create_topics(wanted, wait_for_metadata=True)
        finally:
            admin.close()

    def produce(self, name: str, values: Iterable[bytes | None]) -> list[tuple[int, int]]:
        """Sends to the partitions in turn; gives (partition, offset) of each, acknowledged."""
        producer = KafkaProducer(bootstrap_servers=self.servers, linger_ms=5)
        try:
            sent = [
                producer.send(self.topic(name), value, key=b"key", partition=number % 2)
                for number, value in enumerate(values)
            ]
            producer.flush()
            done = [each.get(10) for each in sent]
            return [(each.partition, each.offset) for each in done]
        finally:
            producer.close()

    def start(
        self,
        *options: str,
        failpoints: str = "",
        launcher: tuple[str, ...] = (sys.executable, "-P", "-m", "streaming.run"),
        environment: Mapping[str, str] | None = None,
    ) -> Driver:
        command = [*launcher, "--state", str(self.state), "--bootstrap-servers", self.servers]
        # segments stay segments, and epochs rows of their own, unless a test is about sealing
        unsealed = [] if "--seal-every" in options else ["--seal-every", "0"]
        command += ["--verbose", *unsealed, *options]
        own = dict(os.environ) if environment is None else dict(environment)
        own.setdefault("PYTHONPATH", str(ROOT))
        if failpoints:
            own |= {"EVERVIEW_FAILPOINTS": failpoints, "EVERVIEW_TEST": "1"}
        log = self.state.parent / f"driver-{len(self.drivers)}.log"
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(
                command, cwd=self.state.parent, env=own, stdout=file, stderr=file, text=True
            )
        driver = Driver(self.state, process, log)
        self.drivers.append(driver)
        return driver

    def run(self, *options: str, failpoints: str = "") -> tuple[int, str]:
        """What is in the topics now, in small epochs."""
        connector = ("--jars", str(jars.connector_jars()[0].parent))
        return self.start("--once", *connector, *options, failpoints=failpoints).end()

    def ledger(self) -> Ledger:
        return open_ledger(self.state)

    def is_held(self, stream: str) -> bool:
        with self.ledger() as ledger:
            return lease_name(stream) in {lease.name for lease in leases(ledger)}

    def epochs(self, stream: str) -> list[CommittedEpoch]:
        with self.ledger() as ledger:
            return epochs_after(ledger, stream, 0, 100_000)

    def segments(self, stream: str) -> list[SegmentReader]:
        root = DataRoot(self.state)
        files = [each.file for epoch in self.epochs(stream) for each in epoch.segments]
        return [SegmentReader(root.get(file), file.path) for file in files]

    def sealed(self, stream: str, kind: str, version: str | None = None) -> list[pa.Table]:
        """The core rows of every sealed file of a kind, in order."""
        root = DataRoot(self.state)
        with self.ledger() as ledger:
            files = [file for each in sealed_ranges(ledger, stream) for file in each.files]
        core = [each for each in files if each.table in (None, "core")]
        chosen = [each.file for each in core if (each.kind, each.version) == (kind, version)]
        return [pq.read_table(root.check(file)).replace_schema_metadata() for file in chosen]

    def rows(self, stream: str) -> list[dict[str, object]]:
        """The master, sealed or not, in commit order."""
        tables = self.sealed(stream, MASTER)
        tables += [each.master() for each in self.segments(stream)]
        return [row for each in tables for row in each.to_pylist()]

    def rejects(self, stream: str) -> list[dict[str, object]]:
        return [row for each in self.segments(stream) for row in each.rejects().to_pylist()]

    def answer(self, stream: str, view: str) -> list[dict[str, object]]:
        """The rows of a view without wide measures, merged from every run and segment."""
        with self.ledger() as ledger:
            views = registered.plan(ledger, stream).views
        (found,) = (each for each in views if each.name == view)
        parts = self.sealed(stream, RUN, found.version)
        parts += [each.partials(found.version)["core"] for each in self.segments(stream)]
        engine = connect()
        engine.register("parts", pa.concat_tables(parts))
        rows: list[dict[str, object]] = engine.arrow(
            found.present(f"({found.tables[0].merge('parts')})")
        ).to_pylist()
        return rows


@pytest.fixture
def stack(tmp_path: Path, broker: str, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """An empty state; drivers that the test left are killed."""
    made = Stack(tmp_path / "state", broker, f"{request.node.name.replace('_', '-')}-")
    made.state.mkdir()
    yield made
    for driver in made.drivers:
        driver.process.kill()
        driver.process.wait()
