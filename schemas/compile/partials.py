"""Partial tables: plain relations whose every merge is GROUP BY keys with sum, min or max.

core          keys | values               one row per group
wide          keys | buckets | values     several rows per group, for one measure
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.compile import sql
from schemas.measures.measure import Merge

MEANING = 1


@dataclass(frozen=True)
class PartialColumn:
    """A mergeable value: its column, its DuckDB type, and the aggregate that merges it."""

    name: str
    type: str
    merge: Merge


@dataclass(frozen=True)
class PartialTable:
    """One relation of partials. `fold` is a SELECT over `counted` and the references. Of `single`
    rows each is one event's, and its merge with any other table adds rows and changes none."""

    name: str
    group: tuple[tuple[str, str], ...]
    buckets: tuple[tuple[str, str], ...]
    partials: tuple[PartialColumn, ...]
    fold: str
    single: bool = False

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """Group keys and, in a wide table, its buckets: what no two merged rows share."""
        return self.group + self.buckets

    @property
    def values(self) -> tuple[tuple[str, str, str], ...]:
        """Column, type and merge of each value."""
        return tuple((column.name, column.type, column.merge) for column in self.partials)

    def merge(self, source: str) -> str:
        """SELECT of the merged rows of `source`, a table or a SELECT in parentheses.

        Law: associative and commutative; a table without keys has one row, even over none.
        """
        keys = [sql.name(name) for name, _ in self.keys]
        quoted = [sql.name(column.name) for column in self.partials]
        merged = [
            f"CAST({column.merge}({name}) AS {column.type}) AS {name}"
            for column, name in zip(self.partials, quoted, strict=True)
        ]
        group = f" GROUP BY {', '.join(keys)}" if keys else ""
        return f"SELECT {', '.join(keys + merged)} FROM {source}{group}"


@dataclass(frozen=True)
class Finish:
    """The finished value that each group's rows of a wide table come to."""

    table: str
    group: tuple[tuple[str, str], ...]
    column: str
    type: str
    aggregate: str
    windows: tuple[tuple[str, str], ...] = ()

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """Finished columns and their types."""
        return ((self.column, self.type),)

    def select(self, source: str) -> str:
        """SELECT of group keys and finished columns over merged rows of the wide table."""
        keys = [sql.name(name) for name, _ in self.group]
        finished = f"CAST({self.aggregate} AS {self.type}) AS {sql.name(self.column)}"
        group = f" GROUP BY {', '.join(keys)}" if keys else ""
        if self.windows:
            part = f"PARTITION BY {', '.join(keys)}" if keys else ""
            own = ", ".join(f"{text.format(group=part)} AS {name}" for name, text in self.windows)
            source = f"(SELECT *, {own} FROM {source})"
        return f"SELECT {', '.join([*keys, finished])} FROM {source}{group}"
