"""DuckDB's SQL, read so that it means the same when it is written again.

sqlglot knows functions by what they do and writes them in its own way: `log2(x)` as `log(2, x)`,
which is another DOUBLE, and the JSON key `'a.b'` as the path of `b` in `a`. What a view is compiled
to must be what DuckDB makes of the view's own text, so functions stay by name and keys as written.
"""

from __future__ import annotations

from typing import ClassVar

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.parsers.duckdb import DuckDBParser


class Verbatim(DuckDB):
    """The dialect that definitions are read in."""

    class Parser(DuckDBParser):
        # what is no function at all
        FUNCTIONS: ClassVar = {"COLUMNS": DuckDBParser.FUNCTIONS["COLUMNS"]}

    def to_json_path(self, path: exp.Expr | None) -> exp.Expr | None:
        """The key or path of `->` and `->>`, as it stands there."""
        return path
