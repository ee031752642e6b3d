"""On an executor: rejects that are tried again, as the records of an epoch that covers no offsets.

rejects behind the cursor, at most so many -- without those that were re-admitted already
  -> folded like any epoch, under the declaration of now
  -> a segment of what is accepted; what is rejected again stays where it is
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from schemas import rejects
from schemas.engine import RECORDS
from schemas.ledger.rejects import Sources
from schemas.ledger.replays import Place
from streaming.task import FoldTask, TaskReport, Tried


@dataclass(frozen=True, kw_only=True)
class ReplayTask(FoldTask):
    """The next part of a replay; `mapInArrow` calls it over one row."""

    sources: Sources
    after: Place
    until: int  # the last epoch whose rejects are tried
    most_rows: int
    most_bytes: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.num_rows:
                report = self._tried()
                yield pa.record_batch({"report": pa.array([report.json()], pa.string())})

    def _tried(self) -> TaskReport:
        read, last = self._read()
        tried = Tried(self.after, 0, last)
        if read is not None and read.num_rows:
            place = Place(*(read[name][-1].as_py() for name in rejects.IDENTITY))
            records = self._open(read)
            tried = Tried(place, records.num_rows, last)
            if records.num_rows:
                folded = self._fold(records)
                if isinstance(folded, int):
                    return TaskReport(0, {}, needs_ids_from=folded)
                if folded.accepted:
                    still = folded.rejects.slice(0, 0)
                    kept = replace(folded, rejects=still, rejected=0)
                    return replace(self._written(0, {}, kept), tried=tried)
        return TaskReport(0, {}, tried=tried)

    def _read(self) -> tuple[pa.Table | None, bool]:
        """The rejects behind the place, and whether these are the last ones."""
        parts: list[pa.Table] = []
        rows = size = 0
        for table in rejects.after(self.root, self.sources, self.after, self.until):
            if rows >= self.most_rows or size >= self.most_bytes:
                if table.num_rows:
                    return pa.concat_tables(parts), False
                continue
            fits = self.most_rows - rows
            if table.nbytes > self.most_bytes - size:
                each = max(1, table.nbytes // table.num_rows)
                fits = min(fits, max(1, (self.most_bytes - size) // each))
            parts.append(table.slice(0, fits))
            rows, size = rows + parts[-1].num_rows, size + parts[-1].nbytes
            if fits < table.num_rows:
                return pa.concat_tables(parts), False
        return (pa.concat_tables(parts) if parts else None), True

    def _open(self, read: pa.Table) -> pa.Table:
        """As records, without those that a replay re-admitted before."""
        taken = rejects.places(rejects.taken(self.root, self.sources, self.after))
        identities = zip(read["_partition"].to_pylist(), read["_offset"].to_pylist(), strict=True)
        there = pa.array([each not in taken for each in identities], pa.bool_())
        return read.filter(there).select(RECORDS.names).cast(RECORDS)
