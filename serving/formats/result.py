"""A result that is on its way from the engine, read once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from duckdb.sqltypes import DuckDBPyType

from serving.envelope import Code, RequestError
from serving.formats import values

# The engine makes so many rows at a time; more only take more memory.
BATCH_ROWS = 2_048
# Of Arrow: a larger batch is refused, so that encoding takes a few times this at most. The engine
# makes the batch, and a cell may be large before anything here sees it: the memory limits of the
# engine and of its process bound that.
BATCH_BYTES = 64 * 2**20
# Of Arrow, that is made into text at a time.
PIECE_BYTES = 128 * 1024


@dataclass(frozen=True)
class Piece:
    """Some rows, column by column, as JSON values."""

    count: int
    columns: list[list[Any]]

    def rows(self) -> Sequence[tuple[Any, ...]]:
        return list(zip(*self.columns, strict=True)) if self.columns else [()] * self.count


class Result:
    """Rows, at most `max_rows` of them, and what goes with them.

    `batches` have `schema`, whose columns are `names` and, in DuckDB's words, `types`; their arrays
    start at their first value, as the engine's do. `elapsed_ms` is asked at the end. Raises
    RequestError for a type that has no form.
    """

    def __init__(
        self,
        names: Sequence[str],
        types: Sequence[DuckDBPyType],
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
        *,
        max_rows: int,
        elapsed_ms: Callable[[], float],
        coverage: Sequence[Mapping[str, Any]] = (),
        integers: str = "number",
    ) -> None:
        self.names, self.types, self.schema = names, types, schema
        self.elapsed_ms, self.coverage = elapsed_ms, coverage
        self.row_count = 0  # so far
        self.truncated: bool | None = None  # None: not read to its end
        self._batches, self._max_rows = batches, max_rows
        self._forms = values.forms(names, types, integers)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """What may be sent, batch by batch. Raises RequestError for one that is too large."""
        for batch in self._batches:
            room = self._max_rows - self.row_count
            if room == 0 and batch.num_rows:
                self.truncated = True
                return
            size = _size(batch)
            if size > BATCH_BYTES:
                message = (
                    f"every {BATCH_ROWS} rows of a result must have at most {BATCH_BYTES} bytes; "
                    f"got {size}. Ask for less of them"
                )
                raise RequestError(Code.TOO_LARGE, message)
            self.row_count += min(batch.num_rows, room)
            if batch.num_rows > room:
                yield batch.slice(0, room)
                self.truncated = True
                return
            if batch.num_rows:
                yield batch
        self.truncated = False

    def pieces(self) -> Iterator[Piece]:
        """The rows as JSON values, some at a time."""
        for batch in self.batches():
            count = batch.num_rows
            columns = [form(batch.column(at)) for at, form in enumerate(self._forms)]
            step = max(1, count * PIECE_BYTES // max(1, _size(batch)))
            if step >= count:
                yield Piece(count, columns)
            else:
                for at in range(0, count, step):
                    cut = [column[at : at + step] for column in columns]
                    yield Piece(min(step, count - at), cut)


def _size(batch: pa.RecordBatch) -> int:
    """The bytes of all that it keeps in memory."""
    return batch.get_total_buffer_size()


Write = Callable[[Result], Iterator[bytes]]


def distinct(names: Sequence[str]) -> list[str]:
    """Names that differ, whatever their case, and are not empty."""
    taken: set[str] = set()
    found = []
    for at, name in enumerate(names, 1):
        base = name or f"column_{at}"
        new, count = base, 0
        while new.lower() in taken:
            count += 1
            new = f"{base}_{count}"
        taken.add(new.lower())
        found.append(new)
    return found
