"""A stream's topic as a Spark source: where it starts, and which ranges a micro-batch has.

The ledger says where to start and Spark says how far a micro-batch goes; the checkpoint is written
for Spark alone and never read back by another query (invariant 4).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from schemas.errors import OffsetsGone
from schemas.ledger.instant import ZERO
from schemas.position import Position, Range
from streaming.settings import Settings, milliseconds

RECORDS = (
    "partition AS _partition",
    "offset AS _offset",
    "timestamp AS _timestamp",
    "key AS _key",
    "value AS _value",
    "headers AS _headers",
)


def starts(
    stream: str,
    position: Position,
    partitions: tuple[int, ...],
    log_starts: Mapping[int, int],
    accepted: Iterable[Range] = (),
) -> dict[int, int]:
    """Partition -> the offset to go on from: the ledger's; before the first epoch the log's start;
    0 for a partition that came later.

    Raises `OffsetsGone` for offsets that were not read and that the log no longer has, unless their
    loss was accepted: then the next epoch's range begins with them, and no record is in them.
    """
    found = {}
    missing = []
    for partition in partitions:
        first = log_starts[partition]
        start = position.offsets.get(partition, 0 if position.offsets else first)
        if start < first and not _within(Range(partition, start, first), accepted):
            missing.append((partition, start, first))
        found[partition] = start
    if missing:
        raise OffsetsGone(stream, missing)
    return found


def _within(wanted: Range, ranges: Iterable[Range]) -> bool:
    """Whether ranges, together, hold all of one."""
    reached = wanted.start
    for each in sorted(ranges):
        if each.partition == wanted.partition and each.start <= reached:
            reached = max(reached, each.until)
    return reached >= wanted.until


def read(
    session: SparkSession, settings: Settings, topic: str, offsets: Mapping[int, int], most: int
) -> DataFrame:
    """The records of a topic from the given offsets on, committed ones only; at most `most`
    offsets per micro-batch."""
    start = {topic: {str(partition): offset for partition, offset in offsets.items()}}
    asked = options(settings, topic)
    asked["startingOffsets"] = json.dumps(start)
    asked["maxOffsetsPerTrigger"] = str(most)
    return session.readStream.format("kafka").options(**asked).load().selectExpr(*RECORDS)


def options(settings: Settings, topic: str) -> dict[str, str]:
    """How Spark's Kafka source is asked for a topic, wherever it starts."""
    return {
        "kafka.bootstrap.servers": settings.bootstrap_servers,
        "subscribe": topic,
        "failOnDataLoss": "true",
        "includeHeaders": "true",
        "groupIdPrefix": f"everview-{topic}",
        "kafkaConsumer.pollTimeoutMs": milliseconds(settings.kafka_poll_timeout),
        "kafka.isolation.level": "read_committed",
        "kafka.max.poll.records": str(settings.kafka_poll_records),
        "kafka.max.partition.fetch.bytes": str(settings.kafka_partition_fetch_bytes),
        "kafka.fetch.max.bytes": str(settings.kafka_fetch_bytes),
        "kafka.receive.buffer.bytes": str(settings.kafka_receive_buffer_bytes),
        # A consumer asks ahead for records that are not there yet, and the broker answers Spark's
        # next question on that connection only after this wait (default: half a second).
        "kafka.fetch.max.wait.ms": milliseconds(settings.kafka_fetch_wait),
        "kafka.reconnect.backoff.max.ms": milliseconds(settings.kafka_reconnect_most),
    }


@dataclass(frozen=True)
class Plan:
    """A micro-batch as Spark planned it."""

    ends: Mapping[int, int]  # partition -> end offset
    # UTC, right after the ends of the logs were asked for; None where this Spark does not say it
    at: datetime | None


def planned(checkpoint: Path, batch: int, topic: str) -> Plan:
    """The plan of a micro-batch that Spark wrote before it began."""
    lines = (checkpoint / "offsets" / str(batch)).read_text(encoding="utf-8").splitlines()
    ends: dict[str, int] = json.loads(lines[-1])[topic]
    told = json.loads(lines[-2]).get("batchTimestampMs")
    at = None if told is None else ZERO + timedelta(milliseconds=told)
    return Plan({int(partition): end for partition, end in ends.items()}, at)


def read_to_their_ends(ranges: Iterable[Range], most: int) -> frozenset[int]:
    """The partitions that a micro-batch of at most `most` offsets reads to where their logs ended
    when it was planned.

    Spark takes all that there is, up to that many offsets. Of more than that it takes from each
    partition its share, rounded to a whole offset, and at least one. So where fewer are taken,
    even counting what was rounded off, nothing was left; and a partition of which nothing is taken
    has nothing.
    """
    planned = list(ranges)
    all_of_it = sum(each.size for each in planned) < most - len(planned)
    return frozenset(each.partition for each in planned if all_of_it or not each.size)


def ranges(begun: Mapping[int, int], ends: Mapping[int, int]) -> tuple[Range, ...]:
    """What lies between: a partition that joined since has been there from offset 0.

    Raises `RangeInvalid` where an end lies before its begin.
    """
    return tuple(Range(each, begun.get(each, 0), ends[each]) for each in sorted(ends))
