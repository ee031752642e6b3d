"""What the broker says of a topic, asked beside Spark, which does not see one recreated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from kafka.errors import KafkaError, TopicAlreadyExistsError, UnknownTopicOrPartitionError

UNREACHABLE = (KafkaError, OSError)
RETENTION = "retention.ms"


@dataclass(frozen=True)
class TopicFacts:
    """One topic: its id and its partitions."""

    id: str
    partitions: tuple[int, ...]


class Topics:
    """Questions to one broker. Raises `KafkaError` where there is no answer in time; the next
    question then connects anew. Safe for several threads."""

    def __init__(self, bootstrap_servers: str, answer: timedelta) -> None:
        self._servers = bootstrap_servers
        self._answer_ms = answer // timedelta(milliseconds=1)
        self._client: KafkaAdminClient | None = None

    def facts(self, topic: str) -> TopicFacts | None:
        """None where there is no such topic."""
        (found,) = self._ask("describe_topics", [topic])
        code = found["error_code"]
        if code == UnknownTopicOrPartitionError.errno or not found["partitions"]:
            return None
        numbers = sorted(partition["partition_index"] for partition in found["partitions"])
        return TopicFacts(str(found["topic_id"]), tuple(numbers))

    def log_starts(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """The first offset that each partition still has."""
        wanted = {TopicPartition(topic, number): OffsetSpec.EARLIEST for number in partitions}
        found = self._ask("list_partition_offsets", wanted)
        return {each.partition: int(answer.offset) for each, answer in found.items()}

    def log_ends(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """The offset behind the last record of each partition, committed or not."""
        wanted = {TopicPartition(topic, number): OffsetSpec.LATEST for number in partitions}
        found = self._ask("list_partition_offsets", wanted)
        return {each.partition: int(answer.offset) for each, answer in found.items()}

    def kept_ms(self, topic: str) -> int | None:
        """How long records of a topic are kept at least, milliseconds; None: for ever."""
        wanted = ConfigResource(ConfigResourceType.TOPIC, topic, {RETENTION: None})
        found = self._ask("describe_configs", [wanted], config_filter="all")
        kept = int(found["topic"][topic][RETENTION]["value"])
        return None if kept < 0 else kept

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic; one that is there already stays as it is."""
        try:
            wanted = {topic: {"num_partitions": partitions}}
            self._ask("create_topics", wanted, wait_for_metadata=True)
        except TopicAlreadyExistsError:
            return

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _ask(self, question: str, *arguments: Any, **options: Any) -> Any:
        try:
            return getattr(self._connected(), question)(*arguments, **options)
        except TopicAlreadyExistsError:
            raise
        except UNREACHABLE:
            self.close()
            raise

    def _connected(self) -> KafkaAdminClient:
        if self._client is None:
            self._client = KafkaAdminClient(
                bootstrap_servers=self._servers,
                request_timeout_ms=self._answer_ms,
                bootstrap_timeout_ms=self._answer_ms,
                client_id="everview-streaming",
            )
        return self._client
