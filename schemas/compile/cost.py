"""What a view's columns cost: which partials each is made from, and what a group takes of them.

Widths are of values in memory: a text or a nested value counts `TEXT` bytes and is more with its
content. A wide table costs its rows; where it has one per different value nobody knows how many.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from schemas import column_types
from schemas.compile import exact, fold
from schemas.compile.partials import PartialTable
from schemas.language.view import Output, View
from schemas.measures.measure import Exactness

TEXT = 16
MILLION = 1_000_000
_WIDTHS = {
    "BOOLEAN": 1,
    "TINYINT": 1,
    "UTINYINT": 1,
    "SMALLINT": 2,
    "USMALLINT": 2,
    "INTEGER": 4,
    "UINTEGER": 4,
    "DATE": 4,
    "BIGINT": 8,
    "UBIGINT": 8,
    "DOUBLE": 8,
    "TIMESTAMP": 8,
    "HUGEINT": 16,
}


@dataclass(frozen=True)
class WideCost:
    """What a wide table adds to a group: `rows` at most, each of `width` bytes, or one per
    different value (None). `calls` are what it is for, as the view has them."""

    table: str
    rows: int | None
    width: int
    calls: tuple[str, ...]

    @property
    def bytes(self) -> int | None:
        """At most, of a group."""
        return None if self.rows is None else self.rows * self.width


@dataclass(frozen=True)
class ColumnCost:
    """An output column: how far it may be off, the partial tables that it needs, the bytes of a
    group in the core table (partials that columns share count for each), and its wide tables. What
    no aggregate is in is a key, also in a view of single events."""

    column: str
    type: str
    is_key: bool
    exactness: Exactness
    bound: str
    tables: tuple[str, ...]
    core_bytes: int
    wide: tuple[WideCost, ...]


@dataclass(frozen=True)
class ViewCost:
    """All columns; `core_bytes` and `wide` are what a group takes, each table counted once."""

    columns: tuple[ColumnCost, ...]
    core_bytes: int
    wide: tuple[WideCost, ...]


def width(type_name: str) -> int:
    """Bytes of a value of a type; of what has no fixed width `TEXT`."""
    if type_name.startswith("STRUCT(") and type_name.endswith(")"):
        inside = type_name[len("STRUCT(") : -1]
        return sum(width(field.split(" ", 1)[1]) for field in _fields(inside))
    decimal = column_types.decimal(type_name)
    if decimal is not None:
        digits = decimal[0]
        return 2 if digits <= 4 else 4 if digits <= 9 else 8 if digits <= 18 else 16
    return _WIDTHS.get(type_name, TEXT)


def _fields(inside: str) -> list[str]:
    """`a INTEGER`, `b DECIMAL(9,2)` of what stands between the parentheses of a STRUCT."""
    found, depth = [""], 0
    for character in inside:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            found.append("")
        else:
            found[-1] += character
    return [field.strip() for field in found]


def of_view(view: View) -> ViewCost:
    """What each column of a view costs, and all of them."""
    tables = {table.name: table for table in fold.tables(view, {})}
    wide = _wide(view, tables)
    columns = tuple(
        _column(view, output, compared, wide)
        for output, compared in zip(view.outputs, exact.compared(view), strict=True)
    )
    return ViewCost(columns, _row(tables["core"]), tuple(wide.values()))


def _wide(view: View, tables: dict[str, PartialTable]) -> dict[str, WideCost]:
    found = {}
    for wide, name in fold.wide_tables(view).items():
        numbers = [at for at, measure in enumerate(view.measures) if measure.wide == wide]
        calls = tuple(_call(view, at) for at in numbers)
        found[name] = WideCost(name, wide.rows, _row(tables[name]), calls)
    return found


def _call(view: View, at: int) -> str:
    """An aggregate call, as people write it."""
    call = view.calls[at]
    distinct = "DISTINCT " if call.distinct else ""
    return f"{call.function}({distinct}{', '.join(call.arguments)})".replace('"', "")


def _column(
    view: View, output: Output, compared: exact.Compared, wide: dict[str, WideCost]
) -> ColumnCost:
    calls = output.calls
    measures = [view.measures[at] for at in dict.fromkeys(calls)]
    partials = {partial for measure in measures for partial in measure.partials}
    names = fold.wide_tables(view)
    needed: dict[str, list[str]] = {}
    for at in dict.fromkeys(calls):
        own = view.measures[at].wide
        if own is not None:
            needed.setdefault(names[own], []).append(_call(view, at))
    tables = ("core", *needed) if partials or not needed else tuple(needed)
    return ColumnCost(
        column=output.name,
        type=output.type,
        is_key=not calls,
        exactness=compared.exactness,
        bound=compared.bound,
        tables=tables,
        core_bytes=sum(width(partial.type) for partial in partials),
        wide=tuple(replace(wide[name], calls=tuple(called)) for name, called in needed.items()),
    )


def _row(table: PartialTable) -> int:
    columns: Iterable[tuple[str, str]] = table.keys
    values: Sequence[tuple[str, str]] = [(name, kind) for name, kind, _ in table.values]
    return sum(width(kind) for _, kind in [*columns, *values])
