"""Where a difference comes from: the files whose partials are not those of the master's events.

    batch view | runs | unsealed epochs     what each holds of a group, beside the fold of the
        1..cut | a..b |  n                  master's events of the same epochs, and what
                                            retention removed of them
A file that differs is named with its epochs. Where none does, the files are right, and what is
served of them is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from batch import compare, stages, standing
from batch.compare import MISSING, Difference
from schemas import reading
from schemas.compile import CompiledView, PartialTable, sql
from schemas.engine import Engine
from schemas.ledger.contents import StreamContents, ViewContents
from schemas.ledger.epochs import CommittedEpoch
from schemas.ledger.files import DataFile
from schemas.reading import Rows
from schemas.segment import SegmentReader
from schemas.storage import DataRoot

GROUPS = sql.name("$groups")
HELD, ANEW = sql.name("$held"), sql.name("$anew")
FOUND = sql.name("$found")
Group = tuple[str | None, ...]


@dataclass(frozen=True)
class Layer:
    """Files of a view that hold the same epochs."""

    kind: str  # batch, run, epoch
    first: int
    last: int
    files: tuple[DataFile, ...] = ()
    epoch: CommittedEpoch | None = None

    @property
    def words(self) -> str:
        """As what follows "in"."""
        if self.kind == "epoch":
            return f"epoch {self.first}, which is not sealed"
        what = "the batch view" if self.kind == "batch" else "the run"
        return f"{what} of epochs {self.first}..{self.last}"


def trace(
    engine: Engine,
    root: DataRoot,
    view: CompiledView,
    there: StreamContents,
    master: Sequence[Rows],
    base: Sequence[DataFile],
    differences: Sequence[Difference],
) -> Mapping[Group, tuple[Layer, ...]]:
    """The layers that are wrong about each differing group, as it was told. `master` has the
    master's rows, `base` holds the partials of events that are not in it any more; the view's
    references are loaded. Groups with keys that are not shown are told apart by those that are;
    empty for a view that shows none."""
    keys = {name for name, _ in view.keys}
    names = [name for name in differences[0].group if name in keys]
    told = list(differences[0].group)
    if any(list(each.group) != told for each in differences) or (keys and not names):
        return {}
    by_keys = {
        tuple(each.group.values()): tuple(each.group[name] for name in names)
        for each in differences
    }
    groups = list(dict.fromkeys(by_keys.values()))
    _name_groups(engine, names, groups)
    found: dict[Group, list[Layer]] = {group: [] for group in groups}
    for layer in _layers(there, there.views[view.name]):
        engine.count_from(reading.counted(view, master, layer.first, layer.last))
        gone = base if layer.kind == "batch" else ()
        for table in view.tables:
            held = _held(engine, root, view, table, layer)
            anew = _anew(engine, root, table, gone)
            for group in _wrong(engine, table, names, held, anew):
                if layer not in found[group]:
                    found[group].append(layer)
    return {group: tuple(found[keys_of]) for group, keys_of in by_keys.items()}


def _layers(there: StreamContents, held: ViewContents) -> Iterator[Layer]:
    if held.batch:
        yield Layer("batch", 1, held.row.cut, held.batch)
    for first, last in sorted({(each.first, each.last) for each in held.runs}):
        of_these = tuple(each for each in held.runs if (each.first, each.last) == (first, last))
        yield Layer("run", first, last, of_these)
    for epoch in standing.carried(there, held):
        yield Layer("epoch", epoch.epoch, epoch.epoch, epoch=epoch)


def _name_groups(engine: Engine, names: Sequence[str], groups: Sequence[Group]) -> None:
    columns = ", ".join(f"{sql.name(name)} VARCHAR" for name in names) or "nothing VARCHAR"
    engine.execute(f"CREATE OR REPLACE TEMP TABLE {GROUPS} ({columns})")
    for group in groups:
        marks = ", ".join("?" * len(group)) or "NULL"
        engine.con.execute(f"INSERT INTO {GROUPS} VALUES ({marks})", list(group))


def _held(
    engine: Engine, root: DataRoot, view: CompiledView, table: PartialTable, layer: Layer
) -> str:
    """SELECT of a table's partials in a layer."""
    if layer.epoch is None:
        paths = [root.check(each.file) for each in layer.files if each.table == table.name]
        source = engine.files(paths) if paths else reading.empty(stages.columns(table))
        return stages.partials(table, source)
    engine.execute(
        f"CREATE OR REPLACE TEMP TABLE {HELD} AS FROM {reading.empty(stages.columns(table))}"
    )
    for segment in layer.epoch.segments:
        reader = SegmentReader(root.get(segment.file), segment.file.path)
        engine.register("$segment", reader.partials(view.version)[table.name])
        engine.execute(f"INSERT INTO {HELD} {stages.partials(table, sql.name('$segment'))}")
        engine.con.unregister("$segment")
    return f"FROM {HELD}"


def _anew(engine: Engine, root: DataRoot, table: PartialTable, base: Sequence[DataFile]) -> str:
    """SELECT of a table's partials of the counted events, and of those that were removed."""
    paths = [root.check(each.file) for each in base if each.table == table.name]
    if not paths:
        return table.fold
    removed = stages.partials(table, engine.files(paths))
    return f"{stages.partials(table, f'({table.fold})')} UNION ALL {removed}"


def _wrong(
    engine: Engine, table: PartialTable, names: Sequence[str], held: str, should: str
) -> list[Group]:
    """The groups of which the partials in `held` do not merge to those that they should."""
    for relation, select in ((FOUND, held), (ANEW, should)):
        of_groups = _of_groups(names, select)
        engine.execute(f"CREATE OR REPLACE TEMP TABLE {relation} AS {table.merge(of_groups)}")
    anew = f"({stages.partials(table, ANEW)})"
    compare.unlike(engine, f"({stages.partials(table, FOUND)})", anew)
    keys = ", ".join(f"{sql.name(name)}::VARCHAR" for name in names)
    select = f"SELECT DISTINCT {keys} FROM {compare.UNLIKE}" if keys else f"FROM {compare.UNLIKE}"
    rows = engine.con.execute(select).fetchall()
    return [tuple(row) for row in rows] if keys else [()] * bool(rows)


def _of_groups(names: Sequence[str], select: str) -> str:
    """The rows of a SELECT that are of the groups in question, as a relation."""
    pairs = [f"p.{sql.name(n)}::VARCHAR IS NOT DISTINCT FROM g.{sql.name(n)}" for n in names]
    where = " AND ".join(pairs) or "true"
    return f"(SELECT p.* FROM ({select}) p WHERE EXISTS (FROM {GROUPS} g WHERE {where}))"


def advice(view: str, difference: Difference, layers: Sequence[Layer]) -> str:
    """What a person does about a difference."""
    if not layers:
        return (
            "the files agree with the master, so what serving holds is wrong: "
            "restart it (`everview down`, `everview up`)"
        )
    where = " and ".join(each.words for each in layers)
    what = "is missing from" if difference.built == MISSING else "is wrong in"
    full = " --full" if any(each.kind == "batch" for each in layers) else ""
    return f"it {what} {where}: `everview rebuild {view}{full}` corrects it from the master"
