"""From the broker to the answer: flights of a year on real Kafka and Spark, polled as they flow.

Late, repeated and malformed lines are among them. Meanwhile epochs are sealed and batch views are
built and published; streaming, serving and a build are killed. Each answer is compared with the
oracle at the position that the answer itself reports.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kafka import KafkaProducer

from infra.sending import Pace
from schemas.ledger import builds
from schemas.ledger.connect import Ledger, open_ledger
from schemas.ledger.epochs import CommittedEpoch, epochs_after
from schemas.ledger.files import MASTER, REJECTS
from schemas.ledger.sealing import SealedRange, sealed_ranges
from schemas.segment import SegmentReader
from schemas.storage import DataRoot
from tests.end_to_end import flights
from tests.end_to_end.comparing import check_rows
from tests.end_to_end.flights import Lines, Truth
from tests.end_to_end.running import Background, Stack, position, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.spark]

SEED = 20130101
FAST, SLOW = 6000.0, 100.0  # flights per second: most of them, and until all has happened
HELD_BACK = 40_000  # flights, so that events flow however slow the machine is
POLL = 1 / 10  # seconds between two polls
RECOVERY = 60.0  # how long after a kill an answer may fail
# what is asked of each view: whole where it is small
QUERIES: Mapping[str, str] = {
    "everything": "SELECT * FROM everything",
    "dest_totals": "SELECT * FROM dest_totals",
    "origin_weather": "SELECT * FROM origin_weather",
    "carrier_day": "SELECT * FROM carrier_day WHERE carrier IN ('UA', 'OO')",
    "carrier_hour": """SELECT carrier, airline, count(*) AS hours, sum(flights) AS flights,
        sum(late) AS late, min(hour) AS earliest, max(worst_delay) AS worst,
        sum(mean_delay IS NULL) AS unknown FROM carrier_hour GROUP BY ALL""",
}


@dataclass(eq=False)
class Poller(Background):
    """Asks ten times a second, each view for a second at a time; keeps every answer."""

    stack: Stack
    answers: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    failures: list[tuple[float, str]] = field(default_factory=list)

    def run(self) -> None:
        begun = time.monotonic()
        due = begun
        while not self.stopping.is_set():
            view = list(QUERIES)[int(due - begun) % len(QUERIES)]
            try:
                self.answers.append((view, self.stack.ask(QUERIES[view])))
            except (OSError, HTTPException) as error:
                self.failures.append((time.monotonic(), f"{view}: {error}"))
            due = max(due + POLL, time.monotonic())
            self.stopping.wait(due - time.monotonic())


@dataclass(eq=False)
class Feeder(Background):
    """Sends lines to a topic, most of them fast and then slowly, until it is stopped."""

    servers: str
    lines: tuple[str, ...]
    sent: int = 0

    def run(self) -> None:
        producer = KafkaProducer(bootstrap_servers=self.servers, linger_ms=5)
        fast = len(self.lines) - HELD_BACK
        pace, most = Pace(FAST, time.monotonic()), len(self.lines) - 1000
        while not self.stopping.is_set() and self.sent < most:
            if self.sent == fast:
                pace = Pace(SLOW, time.monotonic())
            pace.wait()
            producer.send("flights", self.lines[self.sent].encode())
            self.sent += 1
        producer.flush()
        producer.close()

    def stop(self) -> tuple[str, ...]:
        """The lines that are left."""
        assert self.is_alive(), "everything so far must happen while events flow"
        self.end()
        return self.lines[self.sent :]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = Stack(flights.project(tmp_path / "project"), tmp_path / "state")
    try:
        yield made
    finally:
        subprocess.run(made.everview("down"), capture_output=True, check=False)


@pytest.mark.parametrize(
    ("number", "again"),
    [(100_000, False), pytest.param(flights.FLIGHTS, True, marks=pytest.mark.long)],
)
def test_every_poll_is_right_while_all_is_rebuilt_and_killed(
    stack: Stack, tmp_path: Path, number: int, again: bool
) -> None:
    """`again`: each view is published twice while events flow."""
    lines = flights.sent(SEED, number)
    stack.up("--no-airflow")
    feeder = Feeder(stack.status["kafka"]["bootstrap_servers"], lines.sent)
    with Poller(stack) as poller, feeder:
        down = rebuild_and_kill(stack, poller, again)
        rest = tmp_path / "rest.csv"
        rest.write_text("\n".join([lines.header, *feeder.stop()]) + "\n")
        stack.run("produce", "flights", str(rest))
        wait_until(lambda: flights_read(stack) == stack.ends("flights"), "all flights")

    assert [each for each in poller.failures if not down[0] <= each[0] <= down[1]] == []
    assert down[1] - down[0] < RECOVERY
    truth = read_back(stack, lines)
    check_polls(truth, poller.answers)
    check_identities(stack, truth)
    assert stack.ask("SELECT flights FROM everything")["rows"] == [[number]]
    check_layers(stack, 2 * len(QUERIES) + 2 if again else len(QUERIES) + 2)
    verified = json.loads(stack.run("verify", "--json"))
    assert {each["view"]: each["differences"] for each in verified} == {
        view: [] for view in QUERIES
    }

    pids = [
        part["pid"] for part in map(stack.status.get, ("kafka", "streaming", "serving")) if part
    ]
    stack.run("down")
    assert len(pids) == 3
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


def rebuild_and_kill(stack: Stack, poller: Poller, again: bool) -> tuple[float, float]:
    """Publications, and three kills between them; gives since when and until when serving did not
    answer."""
    wait_until(lambda: sum(flights_read(stack).values()) > 0, "the first epoch")

    stack.run("rebuild", "--all")
    streaming = kill(stack, "streaming")
    kill_a_build(stack, "carrier_day")
    wait_back(stack, "streaming", streaming)
    if again:
        stack.run("rebuild", "--all")
    gone = time.monotonic()
    serving = kill(stack, "serving")
    stack.run("rebuild", "everything", "carrier_day", "--full")
    wait_back(stack, "serving", serving)
    return gone, max([at for at, _ in poller.failures], default=gone)


def flights_read(stack: Stack) -> dict[int, int]:
    return position(stack.ask("SELECT flights FROM everything"))


def kill(stack: Stack, part: str) -> int:
    """kill -9 of a part while events flow; gives its process id."""
    pid: int = stack.look()[part]["pid"]
    assert stack.status["streams"]["flights"]["epoch"] > 0
    os.kill(pid, signal.SIGKILL)
    return pid


def wait_back(stack: Stack, part: str, killed: int) -> None:
    """Returns when all is ready again."""

    def back() -> bool:
        found = stack.look()
        return bool(found["ready"] and found[part]["pid"] != killed)

    wait_until(back, f"{part} to come back")
    stack.look()


def kill_a_build(stack: Stack, view: str) -> None:
    """kill -9 of a build and all its processes in the middle of it."""
    with open_ledger(stack.state) as ledger:
        known = builds.publications(ledger, view)
        process = subprocess.Popen(
            # the last boundary may be published already, and only streaming seals further
            stack.everview("rebuild", view, "--full"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(lambda: bool(builds.builds_at_work(ledger, view)), "a build at work")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        assert builds.publications(ledger, view) == known


def read_back(stack: Stack, lines: Lines) -> Truth:
    """The topic, read by a plain consumer."""
    records = stack.records("flights")
    assert len(records) == len(lines.sent)
    return Truth(lines, records)


def check_polls(truth: Truth, answers: list[tuple[str, dict[str, Any]]]) -> None:
    """Invariant 11: every answer is right for what it says it covers, and that never goes back."""
    expected: dict[tuple[str, tuple[tuple[int, int], ...]], list[tuple[object, ...]]] = {}
    seen: dict[str, tuple[int, dict[int, int]]] = {}
    cuts = set()
    for view, answer in answers:
        assert not answer["truncated"]
        (covered,) = answer["coverage"]
        assert covered["view"] == view
        assert covered["degraded"] is None
        at = position(answer)
        cut, before = seen.get(view, (0, {}))
        assert all(at.get(p, 0) >= offset for p, offset in before.items()), (view, before, at)
        assert covered["cut"] >= cut
        seen[view] = (covered["cut"], at)
        cuts.add((view, covered["cut"]))
        key = view, tuple(sorted(at.items()))
        if key not in expected:
            expected[key] = truth.answer(view, QUERIES[view], at)
        check_rows(view, at, answer, expected[key])
    assert len(answers) >= 500
    assert len(expected) >= 50, "the polls must have seen the flow, not only its end"
    assert len(cuts) >= len(QUERIES) + 2, "the polls must have seen publications"


def check_layers(stack: Stack, publications: int) -> None:
    """So many publications, each proven; batch and speed neither overlap nor leave a gap."""
    handoff = stack.ask("SELECT view, gaps, doubles, cut FROM everview.handoff")["rows"]
    assert {view: (gaps, doubles) for view, gaps, doubles, _ in handoff} == dict.fromkeys(
        QUERIES, (0, 0)
    )
    assert all(cut > 0 for *_, cut in handoff)
    published = stack.ask("SELECT publication, kind, full_build FROM everview.publications")["rows"]
    assert len(published) == publications
    assert {kind for _, kind, _ in published} == {"build"}
    assert {full for *_, full in published} == {True, False}
    proofs = stack.ask("SELECT build, verdict FROM everview.proofs")["rows"]
    assert {build for build, _ in proofs} >= {build for build, *_ in published}
    assert {verdict for _, verdict in proofs} == {"equal"}


def held(ledger: Ledger) -> tuple[list[SealedRange], list[CommittedEpoch]]:
    """Sealed ranges, and the epochs behind them, as they were at one moment: streaming goes on
    sealing."""
    while True:
        sealed = sealed_ranges(ledger, "flights")
        unsealed = epochs_after(ledger, "flights", sealed[-1].last, 1_000_000)
        if sealed_ranges(ledger, "flights") == sealed:
            return sealed, unsealed


def check_identities(stack: Stack, truth: Truth) -> None:
    """Invariant 1: master and rejects hold each record of the topic once, and nothing else."""
    root = DataRoot(stack.state)
    accepted: Counter[tuple[int, int]] = Counter()
    rejected: Counter[tuple[int, int]] = Counter()

    def add(into: Counter[tuple[int, int]], table: pa.Table) -> None:
        columns = table.select(["_partition", "_offset"]).to_pydict()
        into.update(zip(columns["_partition"], columns["_offset"], strict=True))

    with open_ledger(stack.state) as ledger:
        sealed, unsealed = held(ledger)
        for each in sealed:
            for file in each.files:
                if file.kind in (MASTER, REJECTS):
                    into = accepted if file.kind == MASTER else rejected
                    add(into, pq.read_table(root.check(file.file)))
        for epoch in unsealed:
            for segment in epoch.segments:
                reader = SegmentReader(root.get(segment.file), segment.file.path)
                add(accepted, reader.master())
                add(rejected, reader.rejects())
    assert len(sealed) > 1
    assert set(accepted) == {place for place, row in truth.rows.items() if row is not None}
    assert set(rejected) == {place for place, row in truth.rows.items() if row is None}
    assert set((accepted + rejected).values()) == {1}
