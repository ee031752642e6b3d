"""The recount: V's own SELECT, run by DuckDB over the counted events of the master (the law).

The text is the view's own, over relations that bear the names of its definition; nothing of what
the view was compiled to takes part, but that an approximate aggregate has an exact one in its
place.
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas import reading
from schemas.compile import CompiledView, sql
from schemas.engine import Engine
from schemas.reading import Rows


def count(
    engine: Engine, view: CompiledView, listed: Sequence[Rows], first: int, last: int
) -> None:
    """Let the names in the view's text mean its references and the events of the epochs `first` to
    `last` that count for it. References must be loaded."""
    counted = reading.counted(view, listed, first, last)
    engine.execute(f"CREATE OR REPLACE TEMP VIEW {sql.name(view.stream)} AS {counted}")
    for reference in view.references:
        engine.execute(
            f"CREATE OR REPLACE TEMP VIEW {sql.name(reference.name)} AS "
            f"FROM {sql.name(reference.table)}"
        )
