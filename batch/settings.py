"""Everything about a build that can be tuned, in one place."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from schemas.ages import Ages, KeptFor
from schemas.errors import BadUse

# begins the names of folders for what is disposable, of processes on this machine
SCRATCH = f"batch-{socket.gethostname()}-"
_RUN = uuid.uuid4().hex[:8]  # process ids come again


@dataclass(frozen=True)
class Settings:
    """How views are rebuilt. Numbers are bytes, rows or seconds."""

    state: Path
    master: str | None = None  # None: what spark-submit says, else LOCAL_MASTER
    driver_memory: str = "1g"  # the JVM's heap
    memory: str = "1GB"  # DuckDB's limit: in each task, and in the proof
    rollback_window: timedelta = timedelta(days=1)
    proof_rows: int = 20_000_000  # a master of more rows is recounted for full builds only
    retain: Ages = field(default_factory=Ages)  # how long the master of each stream is kept
    keep: Mapping[str, KeptFor] = field(default_factory=dict)  # how long views keep their groups
    full_every: int = 0  # every n-th build is a full one; 0: only where it is asked for

    task_bytes: int = 64 << 20  # master files that one task folds
    bucket_bytes: int = 128 << 20  # input for which there is one bucket of group keys
    most_buckets: int = 1_000
    piece_rows: int = 20_000  # rows that travel in one piece

    lease_ttl: timedelta = timedelta(seconds=30)
    lease_every: float = 5.0
    build_idle: timedelta = timedelta(minutes=10)  # how long a build is kept between two steps
    keep_removed: timedelta = timedelta(minutes=10)  # longer than the longest query reads

    def __post_init__(self) -> None:
        for name in ("proof_rows", "full_every"):
            if getattr(self, name) < 0:
                message = f"{name} must be 0 or more; got {getattr(self, name)}"
                raise BadUse(message)

    @property
    def scratch(self) -> Path:
        """Disposable, and this process's own, also where several machines share the state."""
        return self.state / "spark" / f"{SCRATCH}{os.getpid()}-{_RUN}"
