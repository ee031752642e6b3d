"""Sealed files made anew from the master: runs, and lists of event ids."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from batch import stages
from infra.damage.target import Target
from schemas import registered
from schemas.compile import CompiledView, PartialTable, sql
from schemas.engine import Engine
from schemas.ledger import repairs, versions
from schemas.ledger.files import IDS, RUN, DataFile

MEMORY = "1GB"  # DuckDB's limit


def run(target: Target) -> DataFile:
    """A run, folded from the master of exactly its epochs."""
    data, version = target.data, str(target.data.version)
    view_name, _ = repairs.views_of(target.ledger, [version])[version]
    row = versions.version(target.ledger, view_name, version)
    view = registered.compiled(target.row, row)
    table = next(each for each in view.tables if each.name == data.table)
    told = replace(target.description(RUN), view=view.name, version=version, table=table.name)
    rows = 0
    with stages.working(MEMORY) as engine:
        fold(engine, target, view, table)

        def write(path: Path) -> None:
            nonlocal rows
            keys = sql.names(name for name, _ in table.keys)
            ordered = table.merge("folded") + (f" ORDER BY {keys}" if keys else "")
            rows = engine.copy(ordered, path, told)

        file = target.root.write(f"runs/{view.name}/{version}/{table.name}", target.name(), write)
    return DataFile(RUN, file, data.first, data.last, rows, version=version, table=table.name)


def fold(engine: Engine, target: Target, view: CompiledView, table: PartialTable) -> None:
    """Leave `folded`: the partials of the master in the epochs of a run."""
    stages.load_references(engine, target.root, view.references)
    source = engine.files([target.root.check(each.file) for each in target.masters()])
    data = target.data
    engine.count_from(view.counted(source, target.span.stream_version, data.first, data.last))
    engine.execute(f"CREATE OR REPLACE TEMP TABLE folded AS {table.fold}")


def ids(target: Target) -> DataFile:
    """A list of ids, from the rows of the master that count.

    The instant of an epoch inside a sealed range is on record nowhere else, so each id gets that of
    the range's last epoch: it is remembered longer than it had to be, by no more than the range
    lasted, and never forgotten too early. What was too old when ranges were merged is left out
    again: the oldest epochs.
    """
    data, stream = target.data, target.stream
    if not stream.key:
        message = "the stream has no primary key"
        raise target.refused(message)
    told = target.description(IDS).metadata()
    instant = target.span.instant if target.origin is None else moment(target.origin.instant)
    at = instant.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")
    rows = 0
    with stages.working(MEMORY) as engine:
        source = engine.files([target.root.check(each.file) for each in target.masters()])
        first = _first_counted(engine, source, target)
        select = (
            f"SELECT {sql.names(stream.key)}, TIMESTAMP '{at}' AS _instant FROM {source} "
            f"WHERE NOT _duplicate AND _epoch BETWEEN {first} AND {data.last}"
        )

        def write(path: Path) -> None:
            nonlocal rows
            rows = engine.write_ids(path, stream.key_types, [engine.arrow(select)], told=told)

        file = target.root.write(f"ids/{stream.name}", target.name("arrow"), write)
    return DataFile(IDS, file, data.first, data.last, rows)


def moment(text: str) -> datetime:
    """An instant as files tell it."""
    return datetime.fromisoformat(text).astimezone(UTC)


def _first_counted(engine: Engine, source: str, target: Target) -> int:
    """The epoch from which on the file's epochs count as many ids as it has rows."""
    data, gathered = target.data, 0
    if not data.rows:
        return data.last + 1
    counted = engine.arrow(
        f"SELECT _epoch, count(*) AS ids FROM {source} WHERE NOT _duplicate "
        f"AND _epoch BETWEEN {data.first} AND {data.last} GROUP BY _epoch ORDER BY _epoch DESC"
    ).to_pylist()
    for each in counted:
        gathered += each["ids"]
        if gathered == data.rows:
            return int(each["_epoch"])
    message = f"the master counts {gathered} ids in its epochs, and no part of them is {data.rows}"
    raise target.refused(message)
