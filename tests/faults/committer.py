"""A process that commits epochs until it is killed; tests/faults/test_ledger.py starts it.

After each commit it appends the epoch's number to a file and fsyncs it: what stands there was
acknowledged.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from schemas.errors import LeaseHeld, LedgerBusy
from schemas.ledger import leases, tables
from schemas.ledger.connect import Ledger, open_ledger
from schemas.ledger.epochs import (
    EpochCommit,
    Progress,
    SegmentFile,
    commit_epoch,
    lease_name,
    progress,
)
from schemas.ledger.leases import Holder, Lease
from schemas.ledger.versions import StreamRow, ViewRow, register
from schemas.position import Range
from schemas.stored_file import StoredFile

NOW = datetime(2026, 1, 1, 10, 0, 0, tzinfo=UTC)
TTL = timedelta(seconds=30)
TOPIC_ID = "topic-id"
STREAM = StreamRow("flights", "flights-topic", "s1", "CREATE STREAM flights ...")
VIEWS = (
    ViewRow("carrier_hour", "v1", "flights", "CREATE VIEW carrier_hour ..."),
    ViewRow("planes", "v2", "flights", "CREATE VIEW planes ..."),
)
FLIGHTS = STREAM.name
FOLDED = ("v1", "v2")


def deploy(ledger: Ledger, *streams: str) -> None:
    """Streams like `STREAM`, each with a version of each view."""
    for name in streams or (STREAM.name,):
        alone = name == STREAM.name
        views = [
            view if alone else ViewRow(f"{name}_{view.name}", view.version, name, view.definition)
            for view in VIEWS
        ]
        stream = StreamRow(name, f"{name}-topic", STREAM.version, STREAM.definition)
        register(ledger, [stream], views, NOW)


def hold(ledger: Ledger, stream: str = STREAM.name, pid: int = 1) -> Lease:
    """The stream's lease, whoever had it."""
    holder = Holder("here", pid, 0.0)
    return leases.take(ledger, lease_name(stream), holder, NOW, TTL, alive=lambda _: False)


def next_epoch(last: Progress, token: int, *, size: int = 10, parts: int = 2) -> EpochCommit:
    """An epoch that may follow, with one segment per partition."""
    epoch = last.epoch + 1
    starts = [(p, last.position.offsets.get(p, 0)) for p in range(parts)]
    return EpochCommit(
        stream=last.stream,
        epoch=epoch,
        instant=NOW + timedelta(seconds=epoch),
        token=token,
        stream_version=STREAM.version,
        topic_id=TOPIC_ID,
        ranges=tuple(Range(p, start, start + size) for p, start in starts),
        segments=tuple(segment(last.stream, epoch, p, token, size) for p in range(parts)),
        folded=FOLDED,
        suspended=(),
        uuid=uuid.uuid4().hex,
    )


def segment(stream: str, epoch: int, task: int, token: int, size: int) -> SegmentFile:
    path = f"segments/{stream}/{epoch}-{task}-{token}-{uuid.uuid4().hex}.zip"
    return SegmentFile(StoredFile(path, "0" * 64, 4096), size, size - 1, 1, 1, True)


def commit_some(ledger: Ledger, count: int, token: int, stream: str = STREAM.name) -> None:
    for _ in range(count):
        commit_epoch(ledger, next_epoch(progress(ledger, stream), token))


def rows(ledger: Ledger) -> dict[str, list[Any]]:
    """Every row of every table but the state number, to see that nothing changed."""
    with ledger.read() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table))]
            for table in tables.metadata.sorted_tables
            if table is not tables.state
        }


def main(arguments: Sequence[str]) -> None:
    state, acknowledged, stream, pid = arguments
    ledger = open_ledger(Path(state), create=True)
    lease = hold(ledger, stream, int(pid))
    with Path(acknowledged).open("a", encoding="ascii") as log:
        while True:
            last = progress(ledger, stream)
            commit_epoch(ledger, next_epoch(last, lease.token))
            log.write(f"{last.epoch + 1}\n")
            log.flush()
            os.fsync(log.fileno())


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (LeaseHeld, LedgerBusy) as error:
        sys.exit(str(error))
