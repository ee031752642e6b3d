"""The demo as a user starts it, killed whole in mid-flow, started again, stopped by Ctrl-C.

The feed can say each of its records, so the right answer at any position is known without the
topic: what the stack counts is compared with it, and so is the topic itself.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import feed
import psutil
import pytest
from feed import Feed, Record
from kafka import KafkaConsumer, TopicPartition

from infra import asking, processes, stack
from infra.asking import QueryRefused
from schemas.errors import StackNotRunning
from tests.end_to_end.comparing import check_rows
from tests.end_to_end.flights import EXAMPLE, Lines, Truth
from tests.end_to_end.running import position, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.spark]

RATE = 3000
PARTITIONS = 2
WAIT = 240.0
STOP_WITHIN = 60.0
LEAST = 15_000  # records after the kill
QUERIES: Mapping[str, str] = {
    "carrier_day": "SELECT * FROM carrier_day",
    "carrier_hour": """SELECT carrier, airline, sum(flights) AS flights, sum(late) AS late,
        min(hour) AS earliest, max(worst_delay) AS worst FROM carrier_hour GROUP BY ALL""",
    "dest_totals": "SELECT * FROM dest_totals",
    "everything": "SELECT * FROM everything",
    "origin_weather": "SELECT * FROM origin_weather",
}
COUNTS = """SELECT flights, duplicates, rejects FROM everything, (
    SELECT sum(duplicates)::BIGINT AS duplicates, sum(rejected)::BIGINT AS rejects
    FROM everview.epochs)"""
SEALED = "SELECT last_epoch FROM everview.epochs WHERE sealed"


@dataclass
class Demo:
    """One start of the demo, on a pipe instead of a terminal."""

    state: Path
    log: Path
    pids: dict[int, processes.Identity] = field(default_factory=dict)

    def start(self) -> None:
        script = [str(EXAMPLE / "demo.py"), "--state", str(self.state), "--rate", str(RATE)]
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, *script, "--no-airflow"],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def tree(self) -> list[psutil.Process]:
        """Every living process of it; what was seen once is remembered."""
        own = psutil.Process(self.process.pid)
        running = stack.read(self.state)
        marked = processes.marked(running.id) if running else []
        for each in [own, *own.children(recursive=True), *marked]:
            known = processes.identity(each.pid)
            if known is not None:
                self.pids[each.pid] = known
        return self.living()

    def living(self) -> list[psutil.Process]:
        return [found for known in self.pids.values() if (found := processes.find(known))]

    def ask(self, sql: str) -> dict[str, Any] | None:
        """An answer; None while there is none."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            return asking.of(self.state).table(sql)
        except (StackNotRunning, QueryRefused):
            return None

    def counted(self) -> int:
        answer = self.ask("SELECT flights FROM everything")
        return sum(position(answer).values()) if answer else 0

    def rows(self, sql: str) -> list[list[Any]]:
        answer = self.ask(sql)
        return answer["rows"] if answer else []

    def rebuild(self, view: str) -> None:
        command = [sys.executable, "-m", "infra", "rebuild", view, "--state", str(self.state)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def kill(self) -> None:
        """kill -9 of all of it: of the demo first, so that nobody can end in order."""
        for each in self.tree():
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait(10)
        wait_until(lambda: not self.living(), "the killed processes to be gone", WAIT)

    def interrupt(self) -> int:
        self.tree()
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_WITHIN)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    made = Demo(tmp_path / "state", tmp_path / "demo.log")
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.tree()
        for each in made.living():
            with suppress(psutil.NoSuchProcess):
                each.kill()
        made.process.wait(10)


@pytest.mark.long
def test_nothing_is_lost_or_doubled_however_hard_the_kill(demo: Demo) -> None:
    seed = random.randrange(1_000_000)
    sys.stdout.write(f"seed of the moment of the kill: {seed}\n")
    reached = random.Random(seed).randrange(1, 25_000)

    demo.start()
    wait_until(lambda: demo.counted() >= reached, f"{reached} records to be counted", WAIT)
    demo.kill()
    demo.start()
    wait_until(lambda: demo.counted() >= reached + LEAST, "records after the kill", WAIT)
    wait_until(lambda: bool(demo.rows(SEALED)), "a sealed epoch", WAIT)
    demo.rebuild("carrier_day")
    wait_until(lambda: "% from batch" in demo.log.read_text(), "the publication to be shown", WAIT)
    answers = {view: demo.ask(query) for view, query in QUERIES.items()}
    counts = demo.ask(COUNTS)
    topic = read_back(demo)
    code = demo.interrupt()

    assert code == 0, demo.log.read_text()
    assert demo.living() == []
    log = demo.log.read_text()
    assert "sending" not in log
    assert "proof: carrier_day" in log
    assert "first publication after" in log
    whole = Feed(feed.read(EXAMPLE / "data" / "flights.csv"), PARTITIONS)
    expected = {place: whole.record(whole.number(*place)) for place in topic}
    assert topic == {place: record.value for place, record in expected.items()}
    truth = truth_of(expected)
    for view, answer in answers.items():
        assert answer is not None
        at = position(answer)
        check_rows(view, at, answer, truth.answer(view, QUERIES[view], at))
    assert counts is not None
    assert counts["rows"] == [counted_below(position(counts), expected)]


def truth_of(records: Mapping[tuple[int, int], Record]) -> Truth:
    texts = {place: each.value.decode(errors="replace") for place, each in records.items()}
    malformed = {texts[place] for place, each in records.items() if each.kind == "malformed"}
    with (EXAMPLE / "data" / "flights.csv").open(encoding="utf-8") as file:
        return Truth(Lines(file.readline().strip(), (), frozenset(malformed)), texts)


def counted_below(
    position: Mapping[int, int], records: Mapping[tuple[int, int], Record]
) -> list[int]:
    """Flights, duplicates and rejects of the records below a position."""
    below = [each for (p, offset), each in records.items() if offset < position[p]]
    fitting = [each.value for each in below if each.kind != "malformed"]
    different = len(set(fitting))
    assert len(below) == sum(position.values())
    assert different < len(fitting) < len(below)
    return [different, len(fitting) - different, len(below) - len(fitting)]


def read_back(demo: Demo) -> dict[tuple[int, int], bytes]:
    """The topic, read by a plain consumer, up to where it ends at first."""
    running = stack.read(demo.state)
    assert running is not None
    reader = KafkaConsumer(bootstrap_servers=running.bootstrap_servers, group_id=None)
    found: dict[tuple[int, int], bytes] = {}
    try:
        partitions = [TopicPartition("flights", p) for p in range(PARTITIONS)]
        reader.assign(partitions)
        reader.seek_to_beginning(*partitions)
        until = reader.end_offsets(partitions)
        while any(reader.position(each) < until[each] for each in partitions):
            for records in reader.poll(1000).values():
                found |= {(each.partition, each.offset): each.value for each in records}
    finally:
        reader.close()
    return found
