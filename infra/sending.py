"""Sends records to a topic, and knows of each one whether the broker has it.

One refused record makes an idempotent producer refuse everything after it. So what was not
acknowledged is sent again by a new producer, in halves, until the refused records stand alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from schemas.errors import BrokerUnreachable, TopicNotThere

LINGER_MS = 20
BATCH_BYTES = 128 * 1024
FIRST_CONTACT_MS = 10_000
DELIVERY_MS = 60_000
IN_FLIGHT = 50_000
"""Records that may be sent and not yet acknowledged; more would only fill memory."""


@dataclass(frozen=True)
class Refused:
    """A record that the broker, or its limit on sizes, does not take: where it stood, and why."""

    place: str
    why: str


@dataclass(frozen=True)
class _Record:
    place: str
    value: bytes
    partition: int | None


class Sender:
    """Sends to one topic. `acknowledged` counts; `refused` is told of each refused record.

    The records of one partition keep the order in which they were sent.
    """

    def __init__(self, servers: str, topic: str, refused: Callable[[Refused], None]) -> None:
        self._servers, self._topic, self._tell = servers, topic, refused
        self._changed = threading.Condition()
        self.acknowledged = 0
        self.refused = 0
        self._in_flight = 0
        self._failed: list[tuple[_Record, BaseException]] = []
        self._producer = self._connected()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._producer.close(timeout=5)

    def send(self, place: str, value: bytes, partition: int | None = None) -> None:
        """Sends one record, waiting while too many are on their way; without a partition to
        whichever the producer chooses."""
        with self._changed:
            self._changed.wait_for(lambda: self._in_flight < IN_FLIGHT or self._failed)
        if self._failed:
            self._again()
        self._send(_Record(place, value, partition))

    def finish(self) -> None:
        """Returns once every record is acknowledged or refused. Raises BrokerUnreachable."""
        self._settle()
        while self._failed:
            self._again()

    def _send(self, record: _Record) -> None:
        try:
            future = self._producer.send(self._topic, record.value, partition=record.partition)
        except KafkaError as error:
            if error.retriable:
                raise BrokerUnreachable(self._servers, str(error)) from error
            self._refuse(record.place, error)
            return
        with self._changed:
            self._in_flight += 1
        future.add_callback(self._sent)
        future.add_errback(self._not_sent, record)

    def _sent(self, _: object) -> None:
        with self._changed:
            self.acknowledged += 1
            self._in_flight -= 1
            self._changed.notify_all()

    def _not_sent(self, record: _Record, error: BaseException) -> None:
        with self._changed:
            self._failed.append((record, error))
            self._in_flight -= 1
            self._changed.notify_all()

    def _refuse(self, place: str, error: BaseException) -> None:
        self.refused += 1
        self._tell(Refused(place, f"{type(error).__name__}: {error}"))

    def _settle(self) -> None:
        """Returns once the fate of everything that was sent is known."""
        with self._changed:
            self._changed.wait_for(lambda: self._in_flight == 0)

    def _again(self) -> None:
        """Sends what failed once more; of records that fail together each half by itself."""
        self._settle()
        halves = [self._take_failed()]
        while halves:
            part = halves.pop()
            self._producer.close(timeout=5)
            self._producer = self._connected()
            for record, _ in part:
                self._send(record)
            self._settle()
            failed = self._take_failed()
            if len(part) == 1 and failed:
                self._refuse(part[0][0].place, failed[0][1])
            elif failed:
                middle = (len(failed) + 1) // 2
                halves += [half for half in (failed[middle:], failed[:middle]) if half]

    def _take_failed(self) -> list[tuple[_Record, BaseException]]:
        with self._changed:
            failed, self._failed = self._failed, []
        lost = next((e for _, e in failed if getattr(e, "retriable", False)), None)
        if lost is not None:
            raise BrokerUnreachable(self._servers, f"{type(lost).__name__}: {lost}")
        return failed

    def _connected(self) -> Any:
        try:
            return KafkaProducer(
                bootstrap_servers=self._servers.split(","),
                acks="all",
                enable_idempotence=True,
                compression_type="lz4",
                linger_ms=LINGER_MS,
                batch_size=BATCH_BYTES,
                bootstrap_timeout_ms=FIRST_CONTACT_MS,
                max_block_ms=FIRST_CONTACT_MS,
                delivery_timeout_ms=DELIVERY_MS,
            )
        except KafkaError as error:
            raise BrokerUnreachable(self._servers, f"{type(error).__name__}: {error}") from error


def records_in(servers: str, topic: str, within: float) -> int:
    """How many offsets a topic has given out, over all partitions.

    Waits up to `within` seconds for the topic. Raises TopicNotThere, BrokerUnreachable.
    """
    return sum(ends(servers, topic, within).values())


def ends(servers: str, topic: str, within: float) -> dict[int, int]:
    """The next offset of each partition. Waits and raises as `records_in` does."""
    with _reading(servers, topic, within) as (consumer, partitions):
        return {at.partition: end for at, end in consumer.end_offsets(partitions).items()}


def last_values(servers: str, topic: str, within: float) -> dict[tuple[int, int], bytes]:
    """The last record of each partition that holds one, by partition and offset.

    Waits and raises as `records_in` does; `within` bounds the reading too.
    """
    found: dict[tuple[int, int], bytes] = {}
    with _reading(servers, topic, within) as (consumer, partitions):
        until = consumer.end_offsets(partitions)
        begins = consumer.beginning_offsets(partitions)
        held = [at for at in partitions if until[at] > begins[at]]
        consumer.assign(held)
        for at in held:
            consumer.seek(at, until[at] - 1)
        end = time.monotonic() + within
        while len(found) < len(held):
            if time.monotonic() > end:
                message = f"the last records of topic {topic!r} did not come in {within:g} s"
                raise BrokerUnreachable(servers, message)
            for at, records in consumer.poll(timeout_ms=200).items():
                found.setdefault((at.partition, records[0].offset), records[0].value)
    return found


@contextmanager
def _reading(servers: str, topic: str, within: float) -> Iterator[tuple[Any, list[TopicPartition]]]:
    """A consumer, and the partitions of a topic once it is there."""
    try:
        consumer = KafkaConsumer(
            bootstrap_servers=servers.split(","),
            group_id=None,
            bootstrap_timeout_ms=FIRST_CONTACT_MS,
        )
    except KafkaError as error:
        raise BrokerUnreachable(servers, f"{type(error).__name__}: {error}") from error
    try:
        until = time.monotonic() + within
        while topic not in consumer.topics():
            if time.monotonic() > until:
                raise TopicNotThere(topic, servers)
            time.sleep(0.2)  # the broker does not tell of a new topic
        yield consumer, [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic)]
    except KafkaError as error:
        raise BrokerUnreachable(servers, f"{type(error).__name__}: {error}") from error
    finally:
        consumer.close()


class Pace:
    """Intended send times: the n-th record is due n / rate seconds after the start.

    A sender that fell behind catches up; it does not shift the plan.
    """

    def __init__(self, rate: float | None, start: float) -> None:
        self._rate, self._start, self._sent = rate, start, 0

    def wait(self) -> None:
        """Returns when the next record is due; at once without a rate."""
        if self._rate is None:
            return
        early = self._start + self._sent / self._rate - time.monotonic()
        self._sent += 1
        if early > 0:
            time.sleep(early)
