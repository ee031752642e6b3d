"""Tables one after another into one Parquet file, in row groups of bounded bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


class RowGroups:
    """Holds about `most` bytes of rows, however many tables come; knows how many there were."""

    def __init__(self, metadata: Mapping[str, str], most: int) -> None:
        self.rows = self.duplicates = 0
        self._metadata, self._most = dict(metadata), most
        self._held: list[pa.Table] = []
        self._bytes = 0

    def write(self, path: Path, tables: Iterable[pa.Table]) -> None:
        """The first table, which may be empty, says the columns."""
        listed = iter(tables)
        first = next(listed)
        schema = first.schema.with_metadata(self._metadata)
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            self._add(writer, schema, first)
            for table in listed:
                self._add(writer, schema, table)
            self._flush(writer)

    def _add(self, writer: pq.ParquetWriter, schema: pa.Schema, table: pa.Table) -> None:
        self.rows += table.num_rows
        if "_duplicate" in table.column_names:
            self.duplicates += pc.sum(table["_duplicate"]).as_py() or 0
        self._held.append(table.cast(schema))
        self._bytes += table.nbytes
        if self._bytes >= self._most:
            self._flush(writer)

    def _flush(self, writer: pq.ParquetWriter) -> None:
        rows = pa.concat_tables(self._held) if self._held else None
        if rows is not None and rows.num_rows:
            fits = max(1, rows.num_rows * self._most // max(self._bytes, self._most))
            writer.write_table(rows, row_group_size=fits)
        self._held, self._bytes = [], 0
