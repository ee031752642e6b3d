"""Names in an expression that nothing declares, and what was probably meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp

from schemas.language import near

QUOTED = 0.8
# quotes of a word processor, which are letters for a parser
MARKS = "\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}" + (
    "\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}\N{DOUBLE LOW-9 QUOTATION MARK}"
)
Tables = Mapping[str, Sequence[str]]
"""Columns of each table, by the name that an expression has for the table."""


def unknown(column: exp.Column, tables: Tables, called: Mapping[str, str] | None = None) -> str:
    """What to say of a column that is none of these; `called` gives the names that tables have
    here by those that they were declared with."""
    everything = [name for columns in tables.values() for name in columns]
    owner = next((name for name in tables if name.lower() == column.table.lower()), None)
    if column.table and owner is None:
        return _table(column, tables, everything, called or {})
    if owner is not None:
        whose, columns = owner, list(tables[owner])
    else:
        whose, columns = " or ".join(tables), everything
    got = column.sql("duckdb")
    subject = f"column must be a declared one of {whose}; got {got}"
    quoted = (bool(column.this.args.get("quoted")) or got[0] in MARKS) and not column.table
    hidden = column.name.startswith("_")
    choice = [each for each in columns if hidden or each[:1] != "_"]
    # what stands in quotes is more often a text than a misspelt name
    close = near.miss(column.name, choice, QUOTED if quoted else near.SIMILAR)
    if quoted:
        text = column.name.strip(MARKS).replace("'", "''")
        meant = f". Did you mean {close!r}?" if close else ""
        return f"{subject}. A text stands in single quotes: '{text}'{meant}"
    if close:
        return f"{subject}; did you mean {close!r}?"
    if column.name.lower() in (name.lower() for name in tables):
        return f"{subject}, which is a table. For the number of its rows write count(*)"
    return f"{subject}. There is {near.listed(name for name in columns if name[:1] != '_')}"


def _table(
    column: exp.Column, tables: Tables, everything: list[str], called: Mapping[str, str]
) -> str:
    got = column.sql("duckdb")
    path = [part.name for part in column.parts]
    if path[0].lower() in (name.lower() for name in everything):
        return (
            f"column must be a declared one; got {got}. Part of a JSON column is written "
            f"{path[0]}->>'$.{'.'.join(path[1:])}'"
        )
    table = column.table
    here = called.get(table.lower())
    known = " or ".join(repr(name) for name in tables)
    way_out = f". {table!r} is called {here!r} here" if here else near.hint(table, tables)
    return f"table before the dot must be {known}; got {got}{way_out}"
