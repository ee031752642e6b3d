"""What follower, spare and workers hand on arrives as it was, and is no larger than it is."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa

from serving.packing import pack, unpack
from serving.worker.tables import Change

ROWS = 10_000
TABLE = pa.table(
    {
        "text": pa.array([f"row {n}" for n in range(ROWS)]),
        "exact": pa.array([Decimal(n) for n in range(ROWS)], pa.decimal128(38, 0)),
        "at": pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * ROWS, pa.timestamp("us", "UTC")),
        "missing": pa.array([1.5, None] * (ROWS // 2)),
        "several": pa.array([[n, None] for n in range(ROWS)]),
    }
)


def test_a_change_arrives_as_it_was() -> None:
    change = Change((), partials={"v": {"core": TABLE, "empty": TABLE.slice(0, 0)}})
    assert unpack(pack(change)) == change


def test_a_table_in_parts_is_packed_once() -> None:
    whole = len(pack(TABLE.combine_chunks()))
    parts = pa.concat_tables([TABLE.slice(at, 100) for at in range(0, ROWS, 100)])
    assert len(pack(parts)) < 1.5 * whole
    assert unpack(pack(parts)) == TABLE
    assert len(pack(TABLE.slice(7, 10))) < whole / 100
