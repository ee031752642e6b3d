"""DuckDB's SQL, read so that it means the same when it is written again.

sqlglot knows functions by what they do and writes them in its own way: `log2(x)` as `log(2, x)`,
which is another DOUBLE, and the JSON key `'a.b'` as the path of `b` in `a`. Of what has an index it
infers a type, and casts to it. What a view is compiled to must be what DuckDB makes of the view's
own text, so functions stay by name, keys and indexes as written.
"""

from __future__ import annotations

from typing import ClassVar

import sqlglot
from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.parsers.duckdb import DuckDBParser


class Verbatim(DuckDB):
    """The dialect that definitions are read in."""

    # an index is kept as it stands; `parsed` says so to what writes it
    INDEX_OFFSET = 0

    class Parser(DuckDBParser):
        # what is no function at all
        FUNCTIONS: ClassVar = {"COLUMNS": DuckDBParser.FUNCTIONS["COLUMNS"]}

    def to_json_path(self, path: exp.Expr | None) -> exp.Expr | None:
        """The key or path of `->` and `->>`, as it stands there."""
        return path


def parsed(text: str) -> exp.Expr:
    """The tree of a statement or an expression. ParseError where it is none."""
    tree = sqlglot.parse_one(text, read=Verbatim)
    for bracket in tree.find_all(exp.Bracket):
        bracket.set("offset", DuckDB.INDEX_OFFSET)
    return tree
