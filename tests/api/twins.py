"""What the spare and one worker are to each other, in one process: the spare computes a change, the
worker takes what it came to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from schemas.compile.sql import name
from serving.coverage import SCHEMA
from serving.packing import pack, unpack
from serving.worker.tables import Change, Tables

_CORES = (
    "SELECT table_name FROM duckdb_tables() "
    f"WHERE schema_name = '{SCHEMA}' AND ends_with(table_name, '.core') ORDER BY 1"
)


class Twins:
    """`Applies`. Clients ask `worker`. It takes heavy changes too, for which others are forked."""

    def __init__(self, readable: Sequence[Path]) -> None:
        self.spare, self.worker = Tables(readable=readable), Tables(readable=readable)

    def apply(self, change: Change) -> None:
        self.worker.apply(unpack(pack(self.spare.apply(change))))

    def compare(self) -> None:
        """Whether they are the same, row by row and number by number."""
        cores = asked(self.worker, _CORES)
        assert cores == asked(self.spare, _CORES)
        for (core,) in cores:
            rows = f"SELECT rowid, * FROM {SCHEMA}.{name(core)} ORDER BY rowid"
            mine, others = asked(self.worker, rows), asked(self.spare, rows)
            assert repr(mine) == repr(others), core  # by their text, as nan is not nan

    def close(self) -> None:
        self.spare.close()
        self.worker.close()


def asked(tables: Tables, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a statement."""
    cursor = tables.cursor()
    try:
        return cursor.execute(sql).fetchall()
    finally:
        cursor.close()
