"""Scope: the stream and the references that a view reads from, and who owns a column name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlglot import exp

from schemas.language.reference import Reference
from schemas.language.stream import Stream

# what Kafka says of a record, beside the columns that a stream declares
RECORD_COLUMNS = (
    ("_partition", "INTEGER"),
    ("_offset", "BIGINT"),
    ("_timestamp", "TIMESTAMP"),
    ("_key", "BLOB"),
)


@dataclass(frozen=True)
class Scope:
    """`alias` and the keys of `references` are the names by which the view calls its tables."""

    stream: Stream
    alias: str
    references: Mapping[str, Reference]
    select: exp.Select

    def owner(self, column: str, table: str = "") -> str | None:
        """The table, by the name the view has for it, that a column name belongs to; the stream's
        own columns come first, as in a LEFT JOIN ... USING."""
        for name, columns in self._tables():
            if (not table or table.lower() == name.lower()) and column.lower() in columns:
                return name
        return None

    def qualified(self, node: exp.Expr) -> exp.Expr:
        """A copy in which every column says whose it is, in the case in which it was declared."""

        def replace(part: exp.Expr) -> exp.Expr:
            if not isinstance(part, exp.Column):
                return part
            name = self.owner(part.name, part.table)
            if name is None:
                return part
            columns = dict(self._tables())[name]
            column = exp.to_identifier(columns[part.name.lower()], quoted=True)
            column.meta.update(part.this.meta)
            return exp.column(column, exp.to_identifier(name, quoted=True))

        return node.copy().transform(replace)

    def event_time(self) -> str | None:
        """SQL of the stream's event time, None where it declares none."""
        if self.stream.event_time is None:
            return None
        name = exp.column(self.stream.event_time, self.alias)
        return self.qualified(name).sql("duckdb")

    def columns_used(
        self, node: exp.Expr, event_times: Iterable[str | None] = ()
    ) -> tuple[str, ...]:
        """The stream's declared columns that a piece of the view names, in order of declaration;
        its event time too where any of its calls goes by it."""
        named = _named(node)
        if any(event_times) and self.stream.event_time is not None:
            named.add(self.stream.event_time.lower())
        columns = self.stream.columns.columns
        return tuple(column.name for column in columns if column.name.lower() in named)

    def columns_joined(self, reference: Reference) -> tuple[str, ...]:
        """The columns of a reference that the view names, and its key."""
        named = _named(self.select) | {name.lower() for name in reference.columns.key}
        columns = reference.columns.columns
        return tuple(column.name for column in columns if column.name.lower() in named)

    def meaning(self) -> str:
        """FROM and its joins, whatever the case in which the view names what it reads."""
        names = [self.stream.name, *(reference.name for reference in self.references.values())]
        return self.source({name.lower(): name.lower() for name in names})

    def source(self, tables: Mapping[str, str]) -> str:
        """FROM and its joins as SQL; `tables` says what to read for a stream or a reference, under
        the name the view has for it."""
        parts = [self.select.args["from_"], *self.select.args.get("joins", [])]
        return " ".join(self._renamed(part.copy(), tables).sql("duckdb").strip() for part in parts)

    def _renamed(self, part: exp.Expr, tables: Mapping[str, str]) -> exp.Expr:
        for table in list(part.find_all(exp.Table)):
            instead = tables.get(table.name.lower())
            alias = (table.alias or table.name).lower()
            if instead is not None:
                renamed = exp.to_table(instead, dialect="duckdb").as_(alias, quoted=True)
                table.replace(renamed)
        condition = part.args.get("on")
        if condition is not None:
            part.set("on", self.qualified(condition))
        using = [exp.to_identifier(column.name.lower(), quoted=True) for column in _using(part)]
        if using:
            part.set("using", using)
        if part.args.get("kind") in ("INNER", "OUTER"):  # as without the word
            part.set("kind", None)
        return part

    def names(self) -> dict[str, list[str]]:
        """The columns of each table, by the name that the view has for it."""
        return {name: list(columns.values()) for name, columns in self._tables()}

    def untyped(self) -> dict[str, set[str]]:
        """Columns, in lower case, whose type is none that a column may have, of each table."""
        declared = {self.alias: self.stream.columns}
        declared |= {name: each.columns for name, each in self.references.items()}
        return {
            name: {column.name.lower() for column in columns.columns if not column.type}
            for name, columns in declared.items()
        }

    def called(self) -> dict[str, str]:
        """The name that the view has for each table, by the declared one in lower case."""
        declared = {name: each.name for name, each in self.references.items()}
        return {
            name.lower(): here for here, name in {self.alias: self.stream.name, **declared}.items()
        }

    def _tables(self) -> list[tuple[str, dict[str, str]]]:
        own = [column.name for column in self.stream.columns.columns]
        own += [name for name, _ in RECORD_COLUMNS]
        tables = [(self.alias, own)]
        for name, reference in self.references.items():
            tables.append((name, [column.name for column in reference.columns.columns]))
        return [(name, {column.lower(): column for column in columns}) for name, columns in tables]


def _named(node: exp.Expr) -> set[str]:
    """Lower-case names of columns in a piece of a view; a name after AS is none."""
    named = {column.name.lower() for column in node.find_all(exp.Column)}
    for join in node.find_all(exp.Join):
        named |= {column.name.lower() for column in _using(join)}
    return named


def _using(part: exp.Expr) -> list[exp.Expr]:
    return part.args.get("using") or []
