"""From the broker to the answer: January's flights on real Kafka and Spark, polled as they flow.

Each answer is compared with the oracle at the position that the answer itself reports. In mid-flow
the streaming driver is killed; between two runs Spark's checkpoint is deleted.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pytest
from kafka import KafkaConsumer, TopicPartition

from schemas.ledger.connect import open_ledger
from schemas.ledger.epochs import epochs_after
from schemas.segment import SegmentReader
from schemas.storage import DataRoot
from tests.end_to_end import flights
from tests.end_to_end.flights import Lines, Truth

pytestmark = [pytest.mark.kafka, pytest.mark.spark]

SEED = 20130101
RATE = 1500
WAIT = 120.0


@dataclass
class Stack:
    """A stack that was brought up by the command line, as a user would."""

    project: Path
    state: Path
    status: dict[str, Any] = field(default_factory=dict)

    def everview(self, *words: str) -> list[str]:
        where = ["--project", str(self.project), "--state", str(self.state)]
        return [sys.executable, "-m", "infra", words[0], *where, *words[1:]]

    def run(self, *words: str) -> str:
        done = subprocess.run(self.everview(*words), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def up(self) -> None:
        self.run("up", "--detach")
        self.look()

    def look(self) -> dict[str, Any]:
        self.status = json.loads(self.run("status", "--json"))
        return self.status

    def ask(self, sql: str) -> dict[str, Any]:
        request = urllib.request.Request(
            self.status["serving"]["http"] + "/sql",
            json.dumps({"sql": sql, "max_rows": 100_000}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def position(self) -> dict[int, int]:
        return position(self.ask("SELECT flights FROM everything"))


@dataclass
class Poller(threading.Thread):
    """Asks for one view after the other until it is stopped; keeps every answer."""

    stack: Stack
    views: list[str]
    answers: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        while not self.stopping.is_set():
            for view in self.views:
                try:
                    self.answers.append((view, self.stack.ask(f"SELECT * FROM {view}")))
                except OSError as error:
                    self.failures.append(f"{view}: {error}")
            self.stopping.wait(0.05)

    def stop(self) -> None:
        self.stopping.set()
        self.join(30)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = Stack(flights.project(tmp_path / "project"), tmp_path / "state")
    try:
        yield made
    finally:
        subprocess.run(made.everview("down"), capture_output=True, check=False)


def test_every_poll_is_right_and_kills_change_nothing(stack: Stack, tmp_path: Path) -> None:
    lines = flights.january(SEED)
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    middle = len(lines.sent) * 3 // 4
    first.write_text("\n".join([lines.header, *lines.sent[:middle]]) + "\n")
    second.write_text("\n".join([lines.header, *lines.sent[middle:]]) + "\n")
    views = flights.views()

    stack.up()
    poller = Poller(stack, list(views))
    poller.start()
    producer = subprocess.Popen(
        stack.everview("produce", "flights", str(first), "--rate", str(RATE)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_until(lambda: sum(stack.position().values()) > 0, "the first epoch")
    killed = kill(stack)
    assert stack.position() != ends(stack), "the driver must die while events flow"
    output, _ = producer.communicate(timeout=WAIT)
    assert producer.returncode == 0, output
    wait_until(lambda: stack.position() == ends(stack), "the first three quarters")
    poller.stop()
    assert not poller.failures
    assert stack.look()["streaming"]["pid"] != killed

    stack.run("down")
    # the ledger is the truth: what Spark wrote down for itself may go
    shutil.rmtree(stack.state / "spark")
    stack.up()
    again = Poller(stack, list(views))
    again.start()
    stack.run("produce", "flights", str(second))
    wait_until(lambda: stack.position() == ends(stack), "all flights")
    again.stop()
    assert not again.failures

    truth = read_back(stack, lines)
    answers = poller.answers + again.answers
    check_polls(views, truth, answers)
    check_identities(stack, truth)
    everything = stack.ask("SELECT flights FROM everything")["rows"]
    assert everything == [[flights.JANUARY]]

    pids = [
        part["pid"] for part in map(stack.status.get, ("kafka", "streaming", "serving")) if part
    ]
    stack.run("down")
    assert len(pids) == 3
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


def kill(stack: Stack) -> int:
    """kill -9 of the streaming driver while events flow."""
    pid: int = stack.look()["streaming"]["pid"]
    before = stack.status["streams"]["flights"]["epoch"]
    assert before > 0
    os.kill(pid, signal.SIGKILL)
    return pid


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, f"waited {WAIT:g} s for {what}"
        time.sleep(0.1)


def position(answer: Mapping[str, Any]) -> dict[int, int]:
    (covered,) = answer["coverage"]
    return {int(partition): offset for partition, offset in covered["position"].items()}


def consumer(stack: Stack) -> tuple[KafkaConsumer, list[TopicPartition]]:
    reader = KafkaConsumer(
        bootstrap_servers=stack.status["kafka"]["bootstrap_servers"], group_id=None
    )
    found = [TopicPartition("flights", p) for p in sorted(reader.partitions_for_topic("flights"))]
    reader.assign(found)
    return reader, found


def ends(stack: Stack) -> dict[int, int]:
    """Where the topic ends now."""
    reader, partitions = consumer(stack)
    try:
        return {each.partition: end for each, end in reader.end_offsets(partitions).items()}
    finally:
        reader.close()


def read_back(stack: Stack, lines: Lines) -> Truth:
    """The topic, read by a plain consumer."""
    records: dict[tuple[int, int], str] = {}
    reader, partitions = consumer(stack)
    try:
        reader.seek_to_beginning(*partitions)
        until = reader.end_offsets(partitions)
        while any(reader.position(each) < until[each] for each in partitions):
            for found in reader.poll(1000).values():
                for record in found:
                    records[record.partition, record.offset] = record.value.decode()
    finally:
        reader.close()
    assert len(records) == len(lines.sent)
    return Truth(lines, records)


def check_polls(
    views: Mapping[str, str], truth: Truth, answers: list[tuple[str, dict[str, Any]]]
) -> None:
    """Invariant 11: every answer is right for what it says it covers, and that never goes back."""
    expected: dict[tuple[tuple[int, int], ...], dict[str, list[tuple[object, ...]]]] = {}
    seen: dict[str, dict[int, int]] = {}
    compared = 0
    for view, answer in answers:
        assert not answer["truncated"]
        assert answer["coverage"][0]["view"] == view
        assert answer["coverage"][0]["degraded"] is None
        at = position(answer)
        before = seen.get(view, {})
        assert all(at.get(p, 0) >= offset for p, offset in before.items()), (view, before, at)
        seen[view] = at
        key = tuple(sorted(at.items()))
        if key not in expected:
            expected[key] = truth.answers(views, at)
        check_rows(view, at, answer, expected[key][view])
        compared += 1
    assert compared >= 50
    assert len(expected) >= 5, "the polls must have seen the flow, not only its end"


def check_rows(
    view: str, at: Mapping[int, int], answer: Mapping[str, Any], right: list[tuple[object, ...]]
) -> None:
    columns = answer["columns"]
    approximate = [at for at, column in enumerate(columns) if column["name"] == "planes"]
    found = [
        tuple(value(cell, column["type"]) for cell, column in zip(row, columns, strict=True))
        for row in answer["rows"]
    ]
    apart = [_without(row, approximate) for row in found]
    assert Counter(apart) == Counter(_without(row, approximate) for row in right), (view, at)
    counts = {_without(row, approximate): [row[at] for at in approximate] for row in right}
    for row, rest in zip(found, apart, strict=True):
        for told, exact in zip([row[at] for at in approximate], counts[rest], strict=True):
            # standard error 1.6 %: five of them, and one where groups are small
            assert abs(int(str(told)) - int(str(exact))) <= max(1, 0.08 * int(str(exact)))


def _without(row: tuple[object, ...], places: list[int]) -> tuple[object, ...]:
    return tuple(cell for at, cell in enumerate(row) if at not in places)


def value(cell: Any, kind: str) -> object:
    """A JSON value as what Python has for its type."""
    if cell is None:
        return None
    if kind == "TIMESTAMP":
        return datetime.fromisoformat(cell).astimezone(UTC).replace(tzinfo=None)
    if kind == "DATE":
        return date.fromisoformat(cell)
    return Decimal(cell) if kind.startswith("DECIMAL") else cell


def check_identities(stack: Stack, truth: Truth) -> None:
    """Invariant 1: master and rejects hold each record of the topic once, and nothing else."""
    root = DataRoot(stack.state)
    accepted: Counter[tuple[int, int]] = Counter()
    rejected: Counter[tuple[int, int]] = Counter()
    with open_ledger(stack.state) as ledger:
        for epoch in epochs_after(ledger, "flights", 0, 1_000_000):
            for segment in epoch.segments:
                reader = SegmentReader(root.get(segment.file), segment.file.path)
                for table, into in ((reader.master(), accepted), (reader.rejects(), rejected)):
                    places = table.select(["_partition", "_offset"]).to_pylist()
                    into.update((row["_partition"], row["_offset"]) for row in places)
    assert set(accepted) == {place for place, row in truth.rows.items() if row is not None}
    assert set(rejected) == {place for place, row in truth.rows.items() if row is None}
    assert set((accepted + rejected).values()) == {1}
