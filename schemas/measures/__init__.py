"""The aggregates that a view may call: a file per kind of partial, listed in ALL."""

from schemas.measures import (
    buckets,
    extremes,
    pairs,
    ranks,
    registers,
    spread,
    sums,
    values,
)
from schemas.measures.measure import Aggregate

ALL: dict[str, Aggregate] = {
    aggregate.name: aggregate
    for file in (sums, spread, extremes, pairs, registers, buckets, values, ranks)
    for aggregate in file.ALL
}

__all__ = ["ALL", "Aggregate"]
