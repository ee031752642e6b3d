"""The speed layer without Spark and Kafka: epochs folded in DuckDB, partials merged, presented."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from schemas import engine, project
from schemas.compile import CompiledStream, CompiledView
from schemas.engine import RECORDS, Engine, Folded
from schemas.project import Project

Parts = Sequence[Mapping[str, pa.Table]]


def load(folder: Path, *definitions: str, files: Mapping[str, bytes] | None = None) -> Project:
    """A project of these definitions."""
    folder.mkdir(parents=True, exist_ok=True)
    for at, text in enumerate(definitions):
        (folder / f"{at:03d}.sql").write_text(text)
    for name, data in (files or {}).items():
        (folder / name).write_bytes(data)
    return project.load(folder)


def records(values: Iterable[bytes | None], partition: int = 0, offset: int = 0) -> pa.Table:
    """Records of one partition, from an offset on."""
    listed = list(values)
    stamp = datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)
    columns: dict[str, list[object]] = {
        "_partition": [partition] * len(listed),
        "_offset": list(range(offset, offset + len(listed))),
        "_timestamp": [stamp] * len(listed),
        "_key": [None] * len(listed),
        "_value": [*listed],
        "_headers": [None] * len(listed),
    }
    return pa.Table.from_pydict(columns, schema=RECORDS)


class Folding:
    """One stream's epochs, one task each unless said otherwise."""

    def __init__(self, loaded: Project) -> None:
        self.project = loaded
        self.stream: CompiledStream = loaded.streams()[0]
        self.views: list[CompiledView] = loaded.views()
        self.within: timedelta = next(iter(loaded.definitions.streams.values())).dedup_within
        self.restart()

    def restart(self) -> None:
        """A new engine, which knows no ids."""
        self.engine: Engine = engine.connect()
        for view in self.views:
            for reference in view.references:
                data = self.project.contents[reference.name.lower()].data
                self.engine.load_reference(reference, data)

    def epoch(self, number: int, instant: datetime, *tasks: pa.Table) -> list[Folded]:
        """Fold the tasks of an epoch, then let the index of ids know it."""
        folded = [
            self.engine.fold(
                self.stream,
                self.views,
                task,
                epoch=number,
                instant=instant,
                since=instant - self.within,
            )
            for task in tasks
        ]
        if self.stream.key:
            ids = [part.ids for part in folded if part.ids is not None]
            self.engine.add_ids(self.stream, number, ids)
        return folded

    def view(self, name: str) -> CompiledView:
        """A view by name."""
        return next(view for view in self.views if view.name == name)


@functools.cache
def _merging() -> Engine:
    """The engine that merges and presents; it keeps nothing between calls."""
    return engine.connect()


def merged(view: CompiledView, parts: Parts) -> dict[str, pa.Table]:
    """The merge of partials, per table of a view."""
    own = _merging()
    tables = {}
    for table in view.tables:
        own.register("parts", pa.concat_tables([part[table.name] for part in parts]))
        tables[table.name] = own.arrow(table.merge("parts"))
    return tables


def presented(view: CompiledView, parts: Parts) -> list[tuple[object, ...]]:
    """present(merge(parts)) of a view, rows in no order."""
    own = _merging()
    return own.con.execute(_presentation(own, view, parts)).fetchall()


def refused(view: CompiledView, parts: Parts, source: str, rows: pa.Table) -> list[str]:
    """Columns of present(merge(parts)) that differ from the exact text over `rows`, which it calls
    `source`, by their own condition. Answers are put side by side in the order of their keys."""
    own = _merging()
    own.register(source, rows)
    columns = ", ".join(f"o{at}" for at in range(len(view.columns)))
    exact = columns.replace("o", "e")
    order = " ORDER BY 1" if view.keys else ""
    own.execute(
        f"CREATE OR REPLACE TEMP TABLE side AS FROM ({_presentation(own, view, parts)}{order}) "
        f"AS o({columns}) POSITIONAL JOIN ({view.exact}{order}) AS e({exact})"
    )
    said = []
    for at, column in enumerate(view.compared):
        condition = column.condition or "{ours} IS NOT DISTINCT FROM {exact}"
        if column.type == "DOUBLE" and not column.condition:  # a quotient, but for its last bit
            condition += " OR abs({ours} - {exact}) <= 4e-16 * abs({exact})"
        condition = condition.format(ours=f"o{at}", exact=f"e{at}")
        wrong = own.con.execute(f"SELECT o{at}, e{at} FROM side WHERE NOT ({condition})").fetchall()
        said += [f"{column.column}: {row}" for row in wrong if column.kind != "not"]
    own.con.unregister(source)
    return said


def _presentation(own: Engine, view: CompiledView, parts: Parts) -> str:
    tables = merged(view, parts)
    for name, rows in tables.items():
        own.register(f"merged_{name}", rows)
    wide = {name: f"merged_{name}" for name in tables if name != "core"}
    finished = view.finished("merged_core", wide)
    return view.present(f"({finished})")
