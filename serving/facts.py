"""What is measured of a state and of the follower, as JSON values: from whom makes it to whom shows
it, which may be two processes.

Times are seconds since 1970, not ages: whoever reads them later than they were made sees them age.
Where something cannot be known it is None. The size depends on how many streams, partitions and
views there are, never on the history, and nothing of an event is in it.
"""

from __future__ import annotations

from typing import TypedDict


class PartitionFacts(TypedDict):
    partition: int
    unread: int | None  # offsets that Kafka has and no epoch
    counted_to: float | None  # what came before it is counted
    low_watermark: float | None


class StreamFacts(TypedDict):
    stream: str
    epoch: int
    partitions: list[PartitionFacts]
    asked_at: float | None  # when streaming asked Kafka for the ends of the logs
    kept_seconds: float | None  # how long Kafka keeps records; None: for ever, or not known
    events: dict[str, int]  # counted, duplicate, rejected
    rejects: dict[str, int]  # by reason
    future_events: int
    segments: int
    unsealed_since: float | None
    master_bytes: int
    epoch_seconds: float | None
    commit_seconds: float | None


class ViewFacts(TypedDict):
    view: str
    fresh_at: float | None  # what was in Kafka then is in the answers
    cut: int
    cut_at: float | None
    build_seconds: float | None
    built_at: float | None
    proof_failures: int
    publications: int
    gaps: int
    doubles: int
    mismatches: int


class Facts(TypedDict):
    at: float
    streams: list[StreamFacts]
    views: list[ViewFacts]
    files: dict[str, int]
    leases: dict[str, int]
    disk_free_bytes: int
    load_seconds: float | None
    damaged_files: int
