"""A Parquet file, a row group at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from pyarrow import parquet

from serving.formats.columns import Columns
from serving.formats.outlet import Outlet
from serving.formats.result import Result, distinct

GROUP_ROWS = 65_536
GROUP_BYTES = 8 * 2**20  # of Arrow; a group ends with the batch that comes to it


def write(result: Result) -> Iterator[bytes]:
    columns = Columns(result, distinct(result.names), flat=True)
    outlet = Outlet()
    with parquet.ParquetWriter(outlet.file, columns.schema, compression="zstd") as writer:
        for group in _groups(columns, result):
            writer.write_table(group, row_group_size=group.num_rows)
            yield outlet.take()
    yield outlet.take()


def _groups(columns: Columns, result: Result) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in result.batches():
        held.append(columns.fitted(batch))
        rows += batch.num_rows
        size += batch.nbytes
        if rows >= GROUP_ROWS or size >= GROUP_BYTES:
            yield pa.Table.from_batches(held, columns.schema)
            held, rows, size = [], 0, 0
    if held:
        yield pa.Table.from_batches(held, columns.schema)
