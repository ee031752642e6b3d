"""Which calls are legal: asked of DuckDB and of `Aggregate.build`, never listed. A new aggregate is
generated, and under the laws, by standing in `schemas.measures.ALL`."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import duckdb

from schemas import engine
from schemas.measures import ALL
from schemas.measures.measure import Call, Measure, RefusedCall
from tests.generated import values

# what may stand in place of a column where a function wants a constant
LITERALS = ("0.5", "3", "[0.25, 0.9]", "[0, 1]", "'a'", "true")


@dataclass(frozen=True)
class Argument:
    """A column of a type, or a literal."""

    type: str
    literal: str = ""

    def sql(self, column: str) -> str:
        """The argument, where a column of its type is called so."""
        return self.literal or column


@dataclass(frozen=True)
class Shape:
    """A call that DuckDB can type: function, arguments, DISTINCT, and the type of its result."""

    function: str
    arguments: tuple[Argument, ...]
    distinct: bool
    result: str

    def sql(self, *columns: str) -> str:
        """The call over these columns, one per argument."""
        pairs = zip(self.arguments, columns, strict=True)
        listed = ", ".join(argument.sql(column) for argument, column in pairs) or "*"
        return f"{self.function}({'DISTINCT ' if self.distinct else ''}{listed})"


def refusal(shape: Shape) -> str | None:
    """Why the measure refuses this call; None if it is taken."""
    try:
        measure = ALL[shape.function].build(_call(shape))
    except RefusedCall as refused:
        return str(refused)
    assert isinstance(measure, Measure)
    return None


def _call(shape: Shape) -> Call:
    return Call(
        function=shape.function,
        arguments=tuple(each.sql("c") for each in shape.arguments),
        types=tuple(each.type for each in shape.arguments),
        where=None,
        distinct=shape.distinct,
        result=shape.result,
        event_time="t",
    )


@functools.cache
def shape(function: str, arguments: tuple[Argument, ...], distinct: bool = False) -> Shape | None:
    """The call with its type; None where DuckDB has none such."""
    columns = [f"CAST(NULL AS {each.type})" for each in arguments]
    found = Shape(function, arguments, distinct, "")
    try:
        rows = _engine().con.execute(f"DESCRIBE SELECT {found.sql(*columns)}").fetchall()
    except duckdb.Error:
        return None
    return Shape(function, arguments, distinct, str(rows[0][1]))


@functools.cache
def legal(function: str, arguments: tuple[Argument, ...], distinct: bool = False) -> Shape | None:
    """The call, if DuckDB can type it and the measure takes it."""
    found = shape(function, arguments, distinct)
    return found if found is not None and refusal(found) is None else None


@functools.cache
def arities(function: str) -> tuple[int, ...]:
    """How many arguments DuckDB's function of this name may have."""
    counts = _engine().con.execute(
        "SELECT DISTINCT len(parameters) FROM duckdb_functions() "
        "WHERE function_type = 'aggregate' AND lower(function_name) = ? ORDER BY 1",
        [function],
    )
    found = {int(count) for (count,) in counts.fetchall()}
    return tuple(sorted(found | ({0} if function == "count" else set())))


@functools.cache
def every(function: str, types: tuple[str, ...] = values.TYPES) -> tuple[Shape, ...]:
    """All legal calls with arguments of these types and of the literals above."""
    return tuple(_every(function, types))


def _every(function: str, types: tuple[str, ...]) -> Iterator[Shape]:
    first = [Argument(kind) for kind in types]
    for count in arities(function):
        others = [[*first, *literals()] if at < 3 else literals() for at in range(1, count)]
        for arguments in product(*([first] if count else []), *others):
            for distinct in (False, True) if count == 1 else (False,):
                found = legal(function, arguments, distinct)
                if found is not None:
                    yield found


@functools.cache
def literals() -> tuple[Argument, ...]:
    """The literals with the types that DuckDB gives them."""
    (row,) = _engine().con.execute(f"SELECT {', '.join(map(_typeof, LITERALS))}").fetchall()
    return tuple(Argument(kind, text) for kind, text in zip(row, LITERALS, strict=True))


def _typeof(literal: str) -> str:
    return f"typeof({literal})"


@functools.cache
def _engine() -> engine.Engine:
    return engine.connect()


def described(
    tables: Mapping[str, Sequence[tuple[str, str]]], source: str, texts: Sequence[str]
) -> list[tuple[str, str]]:
    """Expressions over FROM `source`, with the types that DuckDB gives them over empty tables."""
    con = _engine().con
    for name, columns in tables.items():
        listed = ", ".join(f'"{column}" {kind}' for column, kind in columns)
        con.execute(f"CREATE OR REPLACE TABLE {name} ({listed})")
    rows = con.execute(f"DESCRIBE SELECT {', '.join(texts)} FROM {source}").fetchall()
    for name in tables:
        con.execute(f"DROP TABLE {name}")
    return [(text, str(row[1])) for text, row in zip(texts, rows, strict=True)]
