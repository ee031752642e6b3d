"""kill -9 of every process of a stack, one after the other, while events flow: how long until
answers count what was sent after the kill, and that nothing is lost or doubled."""

from __future__ import annotations

import gc
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from kafka import KafkaProducer

from tests.end_to_end.running import Background, Stack, wait_until

pytestmark = [
    pytest.mark.long,
    pytest.mark.kafka,
    pytest.mark.spark,
    # kafka-python drops the sockets of a broker that was killed without closing them
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
    ),
]

RECOVERY = 60.0
EVERY = 0.02  # seconds between two events
PROJECT = """
CREATE STREAM ticks (id BIGINT PRIMARY KEY, k VARCHAR NOT NULL, sent TIMESTAMP NOT NULL)
WITH (topic = 'ticks', format = 'json', event_time = 'sent', partitions = 2);
CREATE VIEW newest AS SELECT count(*) AS events, sum(id) AS total, max(id) AS last FROM ticks;
CREATE VIEW by_key AS SELECT k, count(*) AS events, sum(id) AS total FROM ticks GROUP BY k;
"""


@dataclass(eq=False)
class Ticking(Background):
    """Sends events numbered 1, 2, 3, ... until it is stopped, over every outage of the broker."""

    servers: str
    sent: int = 0

    def run(self) -> None:
        producer = KafkaProducer(
            bootstrap_servers=self.servers, linger_ms=5, delivery_timeout_ms=300_000
        )
        while not self.stopping.wait(EVERY):
            self.sent += 1
            told = {"id": self.sent, "k": f"k{self.sent % 7}", "sent": "2026-01-01T00:00:00"}
            producer.send("ticks", json.dumps(told).encode())
        producer.flush()
        producer.close()


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = Stack(tmp_path / "project", tmp_path / "state")
    made.project.mkdir()
    (made.project / "ticks.sql").write_text(PROJECT)
    try:
        yield made
    finally:
        subprocess.run(made.everview("down"), capture_output=True, check=False)


def test_every_process_may_be_killed(stack: Stack) -> None:
    stack.up()
    wait_until(lambda: bool(stack.look()["airflow"].get("url")), "Airflow", 300)
    took: dict[str, float] = {}
    with Ticking(stack.status["kafka"]["bootstrap_servers"]) as ticking:
        wait_until(lambda: last(stack) > 100, "the first events")
        stack.run("rebuild", "--all")
        for name, victim in VICTIMS.items():
            took[name] = recovered(stack, ticking, name, victim)
            sys.stdout.write(f"kill -9 of {name}: {took[name]:.1f} s\n")
    wait_until(lambda: last(stack) == ticking.sent, "all events")
    gc.collect()  # what kafka-python dropped, while the filter for it holds

    assert stack.ask("SELECT * FROM newest")["rows"] == [
        [ticking.sent, ticking.sent * (ticking.sent + 1) // 2, ticking.sent]
    ]
    verified = json.loads(stack.run("verify", "--json"))
    assert [(each["view"], each["different"]) for each in verified] == [
        ("by_key", 0),
        ("newest", 0),
    ]
    assert stack.ask("SELECT sum(gaps) + sum(doubles) FROM everview.handoff")["rows"] == [[0]]
    assert {name: seconds for name, seconds in took.items() if seconds >= RECOVERY} == {}


def recovered(
    stack: Stack, ticking: Ticking, name: str, victim: Callable[[Stack], psutil.Process]
) -> float:
    """Seconds from the kill until an answer counts an event that was sent after it, and every part
    is ready again."""
    killed = victim(stack)
    begun = time.monotonic()
    killed.send_signal(signal.SIGKILL)
    wait_until(lambda: not alive(killed), f"{name} to be gone", 10)
    if name == "supervisor":
        wait_until(lambda: not parts_left(stack), "its parts to end by themselves", RECOVERY)
        stack.up()
    after = ticking.sent
    wait_until(lambda: last(stack) > after, f"answers after the kill of {name}", every=0.05)
    seconds = time.monotonic() - begun
    wait_until(lambda: bool(stack.look()["ready"]), f"all to be ready after {name}", 300)
    return seconds


def last(stack: Stack) -> int:
    """The last event that answers count; 0 while there is no answer."""
    try:
        ((_, _, found),) = stack.ask("SELECT * FROM newest")["rows"]
    except OSError:
        return 0
    return int(found or 0)


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def part(name: str) -> Callable[[Stack], psutil.Process]:
    return lambda stack: psutil.Process(stack.look()[name]["pid"])


def below(name: str, words: str) -> Callable[[Stack], psutil.Process]:
    """The first process below a part whose command line has these words."""

    def found(stack: Stack) -> psutil.Process:
        every = part(name)(stack).children(recursive=True)
        return next(each for each in every if alive(each) and words in " ".join(each.cmdline()))

    return found


def supervisor(stack: Stack) -> psutil.Process:
    return psutil.Process(stack.look()["supervisor"]["pid"])


def parts_left(stack: Stack) -> list[int]:
    told = [stack.status[name] for name in ("kafka", "streaming", "serving", "airflow")]
    return [each["pid"] for each in told if each.get("pid") and psutil.pid_exists(each["pid"])]


VICTIMS: dict[str, Callable[[Stack], psutil.Process]] = {
    "serving": part("serving"),
    "streaming's driver": part("streaming"),
    "streaming's JVM": below("streaming", "SparkSubmit"),
    "a Python worker": below("streaming", "pyspark.daemon"),
    "kafka": part("kafka"),
    "airflow": part("airflow"),
    "supervisor": supervisor,
}
