"""The recount: V's own SELECT, run by DuckDB over the counted events of the master (the law).

The text is the view's own, over relations that bear the names of its definition; nothing of what
the view was compiled to takes part, but that an approximate aggregate has an exact one in its
place.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from schemas.compile import CompiledStream, CompiledView, sql
from schemas.engine import Engine
from schemas.language.scope import RECORD_COLUMNS


def master(engine: Engine, stream: CompiledStream, paths: Sequence[Path]) -> str:
    """The relation of these master files' rows, which may be none."""
    if paths:
        return engine.files(paths)
    declared = [("_epoch", "BIGINT"), *RECORD_COLUMNS, ("_value", "BLOB"), *stream.columns]
    return empty([*declared, ("_duplicate", "BOOLEAN")])


def count(
    engine: Engine, stream: CompiledStream, view: CompiledView, source: str, first: int, last: int
) -> None:
    """Let the names in the view's text mean its references and the counted events of the epochs
    `first` to `last` of `source`, rows of the master. References must be loaded."""
    counted = stream.counted(source, first, last)
    engine.execute(f"CREATE OR REPLACE TEMP VIEW {sql.name(view.stream)} AS {counted}")
    for reference in view.references:
        engine.execute(
            f"CREATE OR REPLACE TEMP VIEW {sql.name(reference.name)} AS "
            f"FROM {sql.name(reference.table)}"
        )


def empty(columns: Sequence[tuple[str, str]]) -> str:
    """A relation of these columns without rows."""
    nulls = ", ".join(f"CAST(NULL AS {kind}) AS {sql.name(name)}" for name, kind in columns)
    return f"(SELECT {nulls} WHERE false)"
