"""The stream's own log, as a repair reads it: exact ranges of offsets, committed records only."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pyarrow as pa
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from schemas.engine import RECORDS
from schemas.errors import BrokerUnreachable
from schemas.position import Range
from streaming.topics import TopicFacts, Topics

ANSWER = timedelta(seconds=15)
IDLE = 10.0  # seconds without a record after which what is left of a range holds none
POLL_MS = 500
EPOCH = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)


class Log(Protocol):
    """Where the records of topics are. Raises `BrokerUnreachable`."""

    def facts(self, topic: str) -> TopicFacts | None: ...

    def bounds(self, topic: str, partitions: Sequence[int]) -> Mapping[int, tuple[int, int]]:
        """Partition -> the first offset that there is, and the one behind the last."""
        ...

    def records(self, topic: str, ranges: Sequence[Range]) -> pa.Table:
        """All records in these ranges, as a task is given them."""
        ...


class KafkaLog:
    """The topics of a broker."""

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._topics = Topics(servers, ANSWER)

    def close(self) -> None:
        self._topics.close()

    def facts(self, topic: str) -> TopicFacts | None:
        try:
            return self._topics.facts(topic)
        except (KafkaError, OSError) as error:
            raise BrokerUnreachable(self._servers, str(error)) from error

    def bounds(self, topic: str, partitions: Sequence[int]) -> Mapping[int, tuple[int, int]]:
        with self._asking() as consumer:
            wanted = [TopicPartition(topic, each) for each in partitions]
            first, last = consumer.beginning_offsets(wanted), consumer.end_offsets(wanted)
            return {each.partition: (int(first[each]), int(last[each])) for each in wanted}

    def records(self, topic: str, ranges: Sequence[Range]) -> pa.Table:
        with self._asking() as consumer:
            return table(_read(consumer, topic, [each for each in ranges if each.size]))

    def _asking(self) -> _Asking:
        return _Asking(self._servers)


class _Asking:
    """A consumer for one question."""

    def __init__(self, servers: str) -> None:
        self._servers = servers

    def __enter__(self) -> Any:
        try:
            self._consumer = KafkaConsumer(
                bootstrap_servers=self._servers,
                isolation_level="read_committed",
                enable_auto_commit=False,
                group_id=None,
                client_id="everview-repair",
                bootstrap_timeout_ms=ANSWER // timedelta(milliseconds=1),
            )
        except (KafkaError, OSError) as error:
            raise BrokerUnreachable(self._servers, str(error)) from error
        return self._consumer

    def __exit__(self, kind: type[BaseException] | None, error: object, _: object) -> None:
        self._consumer.close()
        if isinstance(error, KafkaError):
            raise BrokerUnreachable(self._servers, str(error)) from error


def _read(consumer: Any, topic: str, ranges: Sequence[Range]) -> Iterator[Any]:
    until = {TopicPartition(topic, each.partition): each.until for each in ranges}
    consumer.assign(list(until))
    for each in ranges:
        consumer.seek(TopicPartition(topic, each.partition), each.start)
    left, heard = set(until), time.monotonic()
    while left and time.monotonic() - heard < IDLE:
        for partition, records in consumer.poll(timeout_ms=POLL_MS).items():
            heard = time.monotonic()
            yield from (each for each in records if each.offset < until[partition])
        done = {each for each in left if consumer.position(each) >= until[each]}
        left -= done
        consumer.pause(*done)


def table(records: Iterable[Any]) -> pa.Table:
    """Kafka's records as Spark hands them to a task."""
    columns: dict[str, list[Any]] = {each: [] for each in RECORDS.names}
    for each in records:
        columns["_partition"].append(each.partition)
        columns["_offset"].append(each.offset)
        columns["_timestamp"].append(EPOCH + timedelta(milliseconds=each.timestamp))
        columns["_key"].append(each.key)
        columns["_value"].append(each.value)
        headers = [{"key": key, "value": value} for key, value in each.headers]
        columns["_headers"].append(headers or None)
    return pa.Table.from_pydict(columns, schema=RECORDS)
