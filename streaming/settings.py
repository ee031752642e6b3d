"""Everything about streaming that can be tuned, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from schemas.ages import Ages
from schemas.errors import BadUse

CONNECTOR_JARS = (
    "commons-pool2-",
    "jsr305-",
    "kafka-clients-",
    "spark-sql-kafka-0-10_",
    "spark-token-provider-kafka-0-10_",
)


@dataclass(frozen=True)
class Settings:
    """How the streaming driver runs. Numbers are events, bytes or seconds."""

    state: Path
    bootstrap_servers: str
    master: str | None = None  # None: what spark-submit says, else LOCAL_MASTER
    jars: Path | None = None  # a folder that holds the Kafka connector; None: spark-submit has it
    create_topics: bool = False
    once: bool = False
    verbose: bool = False

    driver_memory: str = "1g"
    task_memory: str = "1GB"  # DuckDB's limit in one Python worker
    polling_delay: timedelta = timedelta(milliseconds=20)  # between two looks for new records
    arrow_rows: int = 100_000  # records per Arrow batch on the way into a task

    max_events_per_epoch: int = 200_000
    least_offsets: int = 1_000  # a range whose tasks fail is not planned smaller than this
    grow_after: int = 8  # epochs of a reduced size after which the size is doubled
    small_epoch: int = 20_000  # offsets up to which an epoch is one task
    ids_in_task: int = 32  # epochs whose id files travel with every task
    catch_up_epochs: int = 8  # tasks that carry all ids after a worker turned out to lack some
    plan_attempts: int = 3  # how often an epoch is planned anew because registrations changed

    replay_rows: int = 50_000  # rejects that are tried again at once, between two micro-batches
    replay_bytes: int = 32 << 20  # of them, if that is less
    replay_attempts: int = 3  # how often a part of a replay is tried before the replay is given up
    replay_look: float = 1.0  # between two looks whether a replay was asked for
    replay_yield: float = 0.05  # between two parts of one, so that micro-batches get their turn

    seal_every: timedelta = timedelta(seconds=60)  # age at which an epoch is sealed; 0: never
    seal_bytes: int = 64 << 20  # of segments, at which they are sealed, and about as many at once
    seal_epochs: int = 500  # epochs at which they are sealed, and as many at once
    seal_memory: str = "512MB"  # DuckDB's limit while it merges partials
    row_group_bytes: int = 16 << 20  # in memory, of the sealed files that are not partials
    merge_fanout: int = 10  # sealed ranges that become one of the next level
    retain: Ages = field(default_factory=Ages)  # says how long a sealed range may last
    master_bytes: int = 128 << 20  # files of this size are no longer merged into larger ones
    keep_removed: timedelta = timedelta(minutes=10)  # how long files that were replaced stay
    seal_look: float = 0.2  # between two looks whether there is something to seal
    tidy_every: float = 60.0  # between two looks for ranges to merge and files to remove

    kafka_poll_records: int = 20_000
    kafka_partition_fetch_bytes: int = 16 << 20
    kafka_fetch_bytes: int = 64 << 20
    kafka_receive_buffer_bytes: int = 4 << 20
    kafka_fetch_wait: timedelta = timedelta(milliseconds=5)  # see source.read
    kafka_poll_timeout: timedelta = timedelta(seconds=30)
    kafka_reconnect_most: timedelta = timedelta(seconds=3)
    kafka_answer: timedelta = timedelta(seconds=5)  # how long a question to the broker may take

    lease_ttl: timedelta = timedelta(seconds=15)
    lease_every: float = 3.0
    report_every: float = 1.0
    probe_every: int = 5  # is the topic still the one that was declared, and where does it end?
    kept_every: float = 60.0  # between two questions how long Kafka keeps a topic
    keep_alive_every: float = 30.0  # Spark ends Python workers after a minute without a task
    back_off_first: float = 1.0
    back_off_most: float = 30.0
    once_attempts: int = 3  # under `once`: how often a stream is tried before it counts as failed
    leave_patience: float = 8.0  # how long an epoch at work may go on after a request to stop
    stop_timeout: timedelta = timedelta(seconds=5)  # how long Spark may take to stop a query

    def __post_init__(self) -> None:
        if self.max_events_per_epoch < 1:
            message = f"max_events_per_epoch must be at least 1; got {self.max_events_per_epoch}"
            raise BadUse(message)
        if self.merge_fanout < 2:
            message = f"merge_fanout must be at least 2; got {self.merge_fanout}"
            raise BadUse(message)

    @property
    def seals(self) -> bool:
        """Whether epochs are sealed at all."""
        return self.seal_every > timedelta(0)

    @property
    def report(self) -> Path:
        return self.state / "run" / "streaming.json"

    @property
    def scratch(self) -> Path:
        """Disposable: checkpoints, Spark's own files."""
        return self.state / "spark"

    @property
    def connector(self) -> list[str]:
        """The jars of the Kafka connector that Spark does not bring itself."""
        if self.jars is None:
            return []
        found = sorted(self.jars.glob("*.jar"))
        return [str(jar.resolve()) for jar in found if jar.name.startswith(CONNECTOR_JARS)]


def milliseconds(span: timedelta) -> str:
    """As Spark and Kafka want to be told."""
    return str(span // timedelta(milliseconds=1))
