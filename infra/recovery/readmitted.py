"""Rejects that replays had re-admitted after the copy of a ledger was made, found in the files: a
record that the master has as well, under a later epoch. Else they could be re-admitted again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from schemas import rejects
from schemas.engine import Engine, connect
from schemas.ledger import adopted, sealing
from schemas.ledger import rejects as rejected
from schemas.ledger.adopted import Readmitted
from schemas.ledger.connect import Ledger
from schemas.ledger.contents import EVERY
from schemas.ledger.epochs import epochs_after
from schemas.ledger.files import MASTER
from schemas.ledger.replays import Place
from schemas.rejects import EPOCH, IDENTITY
from schemas.segment import SegmentReader
from schemas.storage import DataRoot

COLUMNS = [*IDENTITY, "_duplicate"]
_REJECTED = (
    "CREATE TABLE rejected (_epoch BIGINT, _partition INTEGER, _offset BIGINT); "
    "CREATE TABLE taken (_epoch BIGINT, _partition INTEGER, _offset BIGINT, _duplicate BOOLEAN)"
)
_TAKEN = (
    "INSERT INTO taken BY NAME SELECT m.* FROM part m SEMI JOIN rejected r "
    "ON m._partition = r._partition AND m._offset = r._offset AND m._epoch > r._epoch"
)
_COUNTS = (
    "SELECT _epoch, count(*), count(*) FILTER (WHERE _duplicate) FROM taken GROUP BY 1 ORDER BY 1"
)


def record(ledger: Ledger, root: DataRoot, stream: str, copied: int, now: datetime) -> int:
    """Let the adopted epochs after `copied` be epochs of replays where they are; how many rejects
    they re-admitted. Raises `DamagedFile`."""
    engine = connect()
    try:
        for statement in _REJECTED.split("; "):
            engine.execute(statement)
        sources = rejected.sources(ledger, stream)
        for table in rejects.after(root, sources, Place(), EVERY, list(IDENTITY)):
            _with(engine, table.select(list(IDENTITY)), "INSERT INTO rejected BY NAME FROM part")
        for table in _master(ledger, root, stream, copied):
            _with(engine, table, _TAKEN)
        found = [Readmitted(*row) for row in engine.con.execute(_COUNTS).fetchall()]
    finally:
        engine.con.close()
    adopted.readmit(ledger, stream, found, now)
    return sum(each.events for each in found)


def _master(ledger: Ledger, root: DataRoot, stream: str, copied: int) -> Iterator[pa.Table]:
    for one in sealing.sealed_ranges(ledger, stream):
        for each in one.files:
            if each.kind == MASTER and each.last > copied:
                path = root.check(each.file)
                yield pq.read_table(path, columns=COLUMNS, filters=[(EPOCH, ">", copied)])
    after = max(copied, sealing.sealed_until(ledger, stream))
    for epoch in epochs_after(ledger, stream, after, EVERY):
        for segment in epoch.segments:
            reader = SegmentReader(root.get(segment.file), segment.file.path)
            yield reader.master().select(COLUMNS)


def _with(engine: Engine, part: pa.Table, statement: str) -> None:
    engine.register("part", part)
    engine.execute(statement)
    engine.con.unregister("part")
