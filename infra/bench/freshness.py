"""From produce to queryable at a steady rate, and whether age makes anything slower.

A producer sends at its intended times. Twenty times a second it notes the offset and the time of
the event it just meant to send; that event is queryable when an answer's own position has passed
it. So the figure holds the broker, the micro-batch, the ledger, serving and the query.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from kafka import KafkaProducer

from infra.bench import hits

QUESTION = "SELECT hits FROM everything"
POLL = 0.025
WARM = 60  # seconds in which the JVM compiles and nothing is noted


@dataclass(frozen=True)
class Mark:
    """An event that was meant to be sent at `sent` (seconds, monotonic)."""

    sent: float
    partition: int
    offset: int


@dataclass(frozen=True)
class Freshness:
    """Seconds from produce to queryable; the same and the length of epochs, early and late in the
    run, to see whether they grow."""

    rate: int
    seconds: int
    epochs: int
    latencies: tuple[float, ...]
    early: float
    late: float
    early_epoch: float
    late_epoch: float
    query_early: float
    query_late: float


def measure(folder: Path, rate: int, seconds: int) -> Freshness:
    """Bring up a stack, send for so long, ask all the while, take it down."""
    project, state = hits.project(folder / "project", "hits"), folder / "state"
    here = ["--project", str(project), "--state", str(state)]
    subprocess.run(
        [sys.executable, "-m", "infra", "up", "--detach", "--no-airflow", *here], check=True
    )
    try:
        told = subprocess.run(
            [sys.executable, "-m", "infra", "status", "--json", *here],
            check=True,
            capture_output=True,
        )
        status = json.loads(told.stdout)
        return _measured(status, rate, seconds)
    finally:
        subprocess.run([sys.executable, "-m", "infra", "down", *here], check=True)


def _measured(status: dict[str, Any], rate: int, seconds: int) -> Freshness:
    marks: list[Mark] = []
    sending = threading.Thread(
        target=_send, args=(status["kafka"]["bootstrap_servers"], rate, seconds, marks)
    )
    sending.start()
    latencies, queries, epochs = _watch(status["serving"]["http"] + "/sql", sending, marks)
    # an answer may have skipped epochs, and then they were as long as each other
    gaps = [
        (after - before) / (last - first)
        for (first, before), (last, after) in pairwise(epochs)
        for _ in range(last - first)
    ]
    early, late = _early_and_late(latencies)
    early_epoch, late_epoch = _early_and_late(gaps)
    query_early, query_late = _early_and_late(queries)
    return Freshness(
        rate,
        seconds,
        len(gaps),
        tuple(sorted(latencies)),
        early,
        late,
        early_epoch,
        late_epoch,
        query_early,
        query_late,
    )


def _send(servers: str, rate: int, seconds: int, marks: list[Mark]) -> None:
    producer = KafkaProducer(bootstrap_servers=servers, linger_ms=2, compression_type="lz4")
    values = hits.values(0)
    every = rate // 20
    begun = time.monotonic()
    for number in range(rate * (WARM + seconds)):
        intended = begun + number / rate
        ahead = intended - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
        future = producer.send("hits", next(values))
        if number >= rate * WARM and number % every == 0:
            future.add_callback(
                lambda found, sent: marks.append(Mark(sent, found.partition, found.offset)),
                sent=intended,
            )
    producer.flush()
    producer.close()


def _watch(
    url: str, sending: threading.Thread, marks: list[Mark]
) -> tuple[list[float], list[float], list[tuple[int, float]]]:
    """Latencies of the marks in order, and of the queries; and the epochs that were answered from,
    each with the moment at which it was first."""
    latencies: list[float] = []
    queries: list[float] = []
    epochs: list[tuple[int, float]] = []
    waiting: list[Mark] = []
    taken = 0
    while sending.is_alive() or waiting or taken < len(marks):
        asked = time.monotonic()
        epoch, position = _answer(url)
        now = time.monotonic()
        if marks:
            queries.append(now - asked)
            if not epochs or epochs[-1][0] < epoch:
                epochs.append((epoch, now))
        waiting += marks[taken:]
        taken += len(marks) - taken
        covered = [mark for mark in waiting if position.get(mark.partition, 0) > mark.offset]
        latencies += [now - mark.sent for mark in covered]
        waiting = [mark for mark in waiting if position.get(mark.partition, 0) <= mark.offset]
        time.sleep(POLL)
    return latencies, queries, epochs


def _answer(url: str) -> tuple[int, dict[int, int]]:
    """The epoch and the position of an answer."""
    body = json.dumps({"sql": QUESTION}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        (coverage,) = json.load(answer)["coverage"]
    position = coverage["position"].items()
    return coverage["epoch"], {int(partition): offset for partition, offset in position}


def _early_and_late(values: Sequence[float]) -> tuple[float, float]:
    """Medians of the first tenth and of the last."""
    tenth = max(1, len(values) // 10)
    return median(values[:tenth]), median(values[-tenth:])


def median(values: Sequence[float]) -> float:
    return percentile(sorted(values), 0.5)


def percentile(values: Sequence[float], share: float) -> float:
    """Of sorted values."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")
