"""Rows of events -> partials: a core table per view, and a wide one per measure that needs it."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.compile import sql
from schemas.compile.partials import PartialColumn, PartialTable
from schemas.language.view import View
from schemas.measures.measure import Partial, Wide

MEANING = 1


def core_columns(view: View) -> dict[Partial, str]:
    """The column of each partial; measures that need the same partial share one."""
    # a view without keys and without other core partials still has one row
    names = {Partial("count", "BIGINT", "count(*)", "sum"): "_count_0"}
    for measure in view.measures:
        for partial in measure.partials:
            names.setdefault(partial, f"_{partial.kind}_{len(names)}")
    return names


def wide_tables(view: View) -> dict[Wide, str]:
    """The table of each wide measure; measures that need the same rows share one."""
    names: dict[Wide, str] = {}
    for measure in view.measures:
        if measure.wide is not None:
            names.setdefault(measure.wide, f"{measure.wide.kind}_{len(names)}")
    return names


def tables(view: View, sources: Mapping[str, str]) -> tuple[PartialTable, ...]:
    """Every partial table of the view, the core first. `sources` says what to read for the stream
    and each reference, by the lower-case name of its definition."""
    source = view.scope.source(sources)
    where = f" WHERE {view.where}" if view.where else ""
    core = tuple(
        PartialColumn(name, partial.type, partial.merge)
        for partial, name in core_columns(view).items()
    )
    keys = tuple((key.name, key.type) for key in view.keys)
    selected = [f"{key.sql} AS {sql.name(key.name)}" for key in view.keys]
    folded = [
        f"CAST({partial.fold} AS {partial.type}) AS {sql.name(name)}"
        for partial, name in core_columns(view).items()
    ]
    group = _group(len(keys))
    if view.detail:  # each row is a group of its own
        folded, group = [f"CAST(1 AS {core[0].type}) AS {sql.name(core[0].name)}"], ""
    fold = f"SELECT {', '.join(selected + folded)} {source}{where}{group}"
    found = [PartialTable("core", keys, (), core, fold, view.detail)]
    for wide, name in wide_tables(view).items():
        found.append(_wide(view, wide, name, source))
    return tuple(found)


def _wide(view: View, wide: Wide, name: str, source: str) -> PartialTable:
    where = f"({view.where}) AND ({wide.where})" if view.where else wide.where
    rows = ", ".join(
        [f"{key.sql} AS {sql.name(key.name)}" for key in view.keys] + [f"{wide.value} AS _value"]
    )
    keys = [sql.name(key.name) for key in view.keys]
    buckets = [f"CAST({b.sql} AS {b.type}) AS {sql.name(b.name)}" for b in wide.buckets]
    values = [f"CAST({v.fold} AS {v.type}) AS {sql.name(v.kind)}" for v in wide.values]
    inner = f"(SELECT {rows} {source} WHERE {where})"
    for name_of_step, step in wide.steps:
        inner = f"(SELECT *, {step} AS {name_of_step} FROM {inner})"
    fold = (
        f"SELECT {', '.join(keys + buckets + values)} "
        f"FROM {inner}{_group(len(keys) + len(buckets))}"
    )
    return PartialTable(
        name,
        tuple((key.name, key.type) for key in view.keys),
        tuple((bucket.name, bucket.type) for bucket in wide.buckets),
        tuple(PartialColumn(value.kind, value.type, value.merge) for value in wide.values),
        fold,
    )


def _group(count: int) -> str:
    return " GROUP BY " + ", ".join(str(at + 1) for at in range(count)) if count else ""
