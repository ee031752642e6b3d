"""Measure: one aggregate of a view as fold, merge, present.

The law that every measure obeys, for every split of the rows into parts, in any order:

    present(merge(fold(part), fold(part), ...)) == the aggregate over all rows

`merge` is associative and commutative, and the fold of no rows is its identity. For an exact
measure `==` is equality; an approximate one is within its bound and identical to the bit for every
split. `tests/laws/test_measures.py` applies this to each entry of `schemas.measures.ALL`.

The shape (prepare, associative plus, present) is that of Algebird's `Aggregator`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

Merge = Literal["sum", "min", "max", "bit_and", "bit_or", "bit_xor"]
Exactness = Literal["exact", "reproducible", "approximate"]


class RefusedCall(Exception):
    """An aggregate that cannot promise the law with these arguments; the text says why and what
    to write instead."""


@dataclass(frozen=True)
class Call:
    """An aggregate as a view calls it: the SQL and DuckDB types of its arguments, the condition of
    its FILTER, and the type that DuckDB gives its result. `event_time` is the SQL of the stream's
    own, for an aggregate that goes by it; None where the stream declares none."""

    function: str
    arguments: tuple[str, ...]
    types: tuple[str, ...]
    where: str | None
    distinct: bool
    result: str
    event_time: str | None = None


@dataclass(frozen=True)
class Partial:
    """One mergeable value: a column. `fold` is an aggregate over rows of events."""

    kind: str
    type: str
    fold: str
    merge: Merge


@dataclass(frozen=True)
class Bucket:
    """A column that divides a group further in a wide table; `sql` is over `_value`."""

    name: str
    type: str
    sql: str


@dataclass(frozen=True)
class Wide:
    """A table of its own beside the view's core: rows (group keys, buckets, values).

    `value` is computed once per row of events for which `where` is true and is called `_value` in
    the buckets and the folds; so are `steps`, each under its own name and over those before it.
    `rows` is the most rows that a group can have once merged; None where it has one per different
    value. A fold never has more rows than events.
    """

    kind: str
    value: str
    where: str
    buckets: tuple[Bucket, ...]
    values: tuple[Partial, ...]
    rows: int | None
    steps: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Finished:
    """The one value that the wide rows of a group come to: an aggregate over them, of that type.
    `windows` are columns that it needs beside theirs, each over all rows of the group: {group}
    stands for its PARTITION BY."""

    sql: str
    type: str
    windows: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Judged:
    """How an answer that need not be DuckDB's own is told from a wrong one: `exact` is what DuckDB
    is asked for instead, with {0}, {1}, ... for the arguments as written, {filter} for the FILTER
    (where it is not named, it is at the end) and {where} for the condition of that; `within` is a
    condition over {ours} and {exact} that no right answer fails."""

    exact: str
    within: str


@dataclass(frozen=True)
class Measure:
    """What a call is compiled to. `present` is SQL in which {0}, {1}, ... stand for the columns of
    `partials` and {finished} for what `wide` is finished to; any of them may be NULL. An
    approximate measure is `judged`. What depends on the types of a call is said by the measure:
    `exactness` and `bound` are those of the aggregate where it has none."""

    partials: tuple[Partial, ...]
    present: str
    wide: Wide | None = None
    finish: Finished | None = None
    judged: Judged | None = None
    exactness: Exactness | None = None
    bound: str | None = None


@dataclass(frozen=True)
class Aggregate:
    """An aggregate function that views may call.

    `meaning` enters the version of every view that uses it, and is raised whenever the same call
    would give another answer than before. `bound` says how far an answer may be off, of the type
    for which it may be most. `timed` aggregates go by the event time of the stream.
    """

    name: str
    meaning: int
    exactness: Exactness
    bound: str
    build: Callable[[Call], Measure]
    timed: bool = False

    def measure(self, call: Call) -> Measure:
        """What a call is compiled to; RefusedCall where it cannot promise the law."""
        built = self.build(call)
        return replace(
            built,
            exactness=built.exactness or self.exactness,
            bound=self.bound if built.bound is None else built.bound,
        )


def filtered(aggregate: str, where: str | None) -> str:
    """An aggregate with the call's own FILTER."""
    return f"{aggregate} FILTER (WHERE {where})" if where else aggregate


def plain(call: Call, arguments: int) -> tuple[str, ...]:
    """SQL of the arguments of a call without DISTINCT; any other number of them is refused."""
    if call.distinct:
        message = f"{call.function}(DISTINCT ...) is not a measure; leave out DISTINCT"
        raise RefusedCall(message)
    if len(call.arguments) != arguments:
        count = {1: "one argument", 2: "two arguments"}[arguments]
        message = f"{call.function} must have {count}; got {len(call.arguments)}"
        raise RefusedCall(message)
    return call.arguments


def one_argument(call: Call) -> tuple[str, str]:
    """SQL and type of the only argument; anything else is refused."""
    return plain(call, 1)[0], call.types[0]
