"""Segments, master and rejects made anew from the records that the log still has.

exact offsets of the epochs, same topic id -> records, committed ones only
  -> parsed as the stream was declared then -> `_duplicate` as it was decided -> the same counts
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from batch import compare, stages
from infra.damage.log import Log
from infra.damage.refold import MEMORY, moment
from infra.damage.target import Target
from schemas import id_file, registered
from schemas.compile import CompiledStream, CompiledView, sql
from schemas.engine import Engine, Folded
from schemas.errors import DamagedFile, DefinitionError, OffsetsNotThere, VersionOfAnotherRelease
from schemas.ledger import repairs, sealing, versions
from schemas.ledger.files import BATCH, IDS, MASTER, REJECTS, RUN, SEGMENT, DataFile
from schemas.ledger.rejects import replayed
from schemas.parquet import Description
from schemas.position import Range
from schemas.segment import SegmentReader
from schemas.storage import DataRoot
from streaming.row_groups import RowGroups
from streaming.task import EpochIds, FoldTask, SealedIds, TaskReport

ROW_GROUP_BYTES = 32 << 20
IDENTITY = ["_partition", "_offset"]
ROW = "_row"


def segment(target: Target, log: Log, damaged: Sequence[str]) -> DataFile:
    """One segment in the place of all the damaged ones of its epoch: of the epoch's records those
    that are in no whole one. It is folded as the epoch was, with the ids of the epochs before."""
    data, span, row = target.data, target.span, target.row
    others = target.counting(SEGMENT, data.first, data.last)
    whole = [each for each in others if each.file.path not in damaged]
    records = _without(fetched(target, log), target.root, whole)
    if not records.num_rows:
        message = f"{data.rows} records must be in its offsets; the log has none"
        raise target.refused(message)
    stream = registered.stream(row)
    ids = sealing.counted_ids(target.ledger, stream.name, 0)
    task = FoldTask(
        stream=stream,
        views=tuple(_views(target)),
        epoch=data.first,
        token=target.token,
        instant=span.instant,
        since=span.instant - registered.declaration(row).dedup_within,
        root=target.root,
        sealed=SealedIds(ids.sealed_until, ids.sealed) if stream.key else SealedIds(),
        ids=tuple(EpochIds(n, files) for n, files in ids.epochs if n < data.first)
        if stream.key
        else (),
        task_memory=MEMORY,
        ids_whole=True,
        ranges=span.ranges,
        topic_id=span.topic_id,
        alone=not whole,
    )
    (batch,) = task(iter(records.to_batches()))
    report = TaskReport.from_json(str(batch.column("report")[0]))
    assert report.file is not None
    made = DataFile(
        SEGMENT,
        report.file,
        data.first,
        data.last,
        report.rows,
        report.accepted,
        report.duplicates,
        report.rejected,
    )
    if report.suspended:
        target.root.remove(made.file.path)
        version, message = report.suspended[0]
        why = f"version {version} cannot be folded: {message}"
        raise target.refused(why)
    return made


def master(target: Target, log: Log) -> DataFile:
    """A master file. Inside a sealed range the epoch of a row went with the file: each gets the
    range's last one of the file, as no kept boundary lies inside."""
    stream, told = target.stream, target.description(MASTER)
    records = fetched(target, log)
    with stages.working(MEMORY) as engine:
        rows = _parsed(engine, target, stream, records).master
        if stream.key:
            rows = _decided(engine, target, stream, rows)
        return _written(target, told, rows, accepted=rows.num_rows)


def rejects(target: Target, log: Log) -> DataFile:
    """A file of rejects, each with the file's last epoch. A replay finds its place by the epochs of
    rejects, so a file of several is not made again where there was one."""
    data, told = target.data, target.description(REJECTS)
    if data.first < data.last and replayed(target.ledger, target.held.stream):
        message = (
            "rejects of the stream were replayed, and nothing tells any more which epoch rejected "
            "which; take the file from a backup (--from)"
        )
        raise target.refused(message)
    with stages.working(MEMORY) as engine:
        rows = _parsed(engine, target, target.stream, fetched(target, log)).rejects
    epochs = pa.repeat(pa.scalar(data.last, pa.int64()), rows.num_rows)
    rows = rows.add_column(0, pa.field("_epoch", pa.int64()), epochs)
    return _written(target, told, rows, rejected=rows.num_rows)


def fetched(target: Target, log: Log) -> pa.Table:
    """The records of the file's epochs. Raises `OffsetsNotThere` with the exact ranges that are
    gone."""
    if not target.covered.exact:
        message = "no whole file tells which offsets its epochs cover"
        raise target.refused(message)
    topic, stream = target.row.topic, target.held.stream
    facts = log.facts(topic)
    wanted = target.covered.sized
    if facts is None or (target.span.topic_id is not None and facts.id != target.span.topic_id):
        why = "there is no such topic" if facts is None else f"its topic id is {facts.id} now"
        raise OffsetsNotThere(stream, topic, why, _told(wanted))
    bounds = log.bounds(topic, [each.partition for each in wanted])
    missing = []
    for each in wanted:
        first, behind = bounds[each.partition]
        if each.start < first:
            missing.append(Range(each.partition, each.start, min(each.until, first)))
        if behind < each.until:
            missing.append(Range(each.partition, max(each.start, behind), each.until))
    if missing:
        raise OffsetsNotThere(stream, topic, "Kafka has them no longer", _told(missing))
    return log.records(topic, wanted).sort_by([(name, "ascending") for name in IDENTITY])


def _told(ranges: Sequence[Range]) -> list[tuple[int, int, int]]:
    return [(each.partition, each.start, each.until) for each in ranges]


def _without(records: pa.Table, root: DataRoot, whole: Sequence[DataFile]) -> pa.Table:
    """The records that are in none of these segments."""
    left = records.select(IDENTITY).append_column(
        ROW, pa.array(range(records.num_rows), pa.int64())
    )
    for each in whole:
        reader = SegmentReader(root.get(each.file), each.file.path)
        for rows in (reader.master(), reader.rejects()):
            known = rows.select(IDENTITY).cast(records.select(IDENTITY).schema)
            left = left.join(known, IDENTITY, join_type="left anti")
    return records.take(left.sort_by([(name, "ascending") for name in IDENTITY])[ROW])


def _views(target: Target) -> list[CompiledView]:
    """The versions that the epoch carries; one that was given up and that this release cannot fold
    is needed by nobody."""
    found = []
    for version, (name, retired) in sorted(
        repairs.views_of(target.ledger, sorted(target.span.folded)).items()
    ):
        row = versions.version(target.ledger, name, version)
        try:
            found.append(registered.compiled(target.row, row))
        except (VersionOfAnotherRelease, DefinitionError) as error:
            if not retired:
                raise target.refused(str(error)) from error
    return found


def _parsed(engine: Engine, target: Target, stream: CompiledStream, records: pa.Table) -> Folded:
    """Accepted events and rejects of the records; the `_duplicate` of the former knows no other
    epoch."""
    instant = target.span.instant
    return engine.fold(stream, (), records, epoch=target.data.last, instant=instant, since=instant)


def _decided(engine: Engine, target: Target, stream: CompiledStream, rows: pa.Table) -> pa.Table:
    """The accepted rows with `_duplicate` as it was decided: as many of an id count as the list of
    ids has of it, the first ones. Where that leaves a choice between events of several partitions,
    what else was made of the same epochs has to agree."""
    _counted_ids(engine, target, stream, rows)
    found, choice = _first(engine, stream, rows, "_partition, _offset")
    if not choice or _agrees(engine, target, found):
        return found
    found, _ = _first(engine, stream, rows, "_timestamp, _partition, _offset")
    if _agrees(engine, target, found):
        return found
    message = (
        f"of {choice} event ids two partitions have events that differ, and no whole run or batch "
        "view of the same epochs tells which one counted"
    )
    raise target.refused(message)


def _first(
    engine: Engine, stream: CompiledStream, rows: pa.Table, order: str
) -> tuple[pa.Table, int]:
    """The first rows of each id in an order count; and how many ids had a choice."""
    key = sql.names(stream.key)
    listed = " AND ".join(f"a.{sql.name(k)} = n.{sql.name(k)}" for k in stream.key)
    engine.register("accepted", rows)
    engine.execute(
        "CREATE OR REPLACE TEMP TABLE decided AS SELECT a.*, coalesce(n.counted, 0) AS _counted "
        f"FROM (SELECT *, row_number() OVER (PARTITION BY {key} ORDER BY {order}) AS _rank, "
        f"count(*) OVER (PARTITION BY {key}) AS _of FROM accepted) a LEFT JOIN "
        f"(SELECT {key}, count(*) AS counted FROM counted_ids GROUP BY ALL) n ON {listed}"
    )
    values = sql.names(name for name, _ in stream.columns)
    choice = engine.arrow(
        f"SELECT {key} FROM decided WHERE _counted BETWEEN 1 AND _of - 1 GROUP BY {key} "
        f"HAVING count(DISTINCT _partition) > 1 AND count(DISTINCT row({values})) > 1"
    ).num_rows
    found = engine.arrow(
        "SELECT * EXCLUDE (_rank, _of, _counted) REPLACE (_rank > _counted AS _duplicate) "
        "FROM decided ORDER BY _partition, _offset"
    ).cast(rows.schema)
    engine.con.unregister("accepted")
    return found, choice


def _counted_ids(engine: Engine, target: Target, stream: CompiledStream, rows: pa.Table) -> None:
    """Leave `counted_ids`: what the lists of ids have of the file's epochs. Where one of these is
    damaged too, an id counts that is in no list of earlier epochs; the counts tell if that holds.
    """
    columns = ", ".join(f"{sql.name(name)} {kind}" for name, kind in stream.key_types)
    engine.execute(f"CREATE OR REPLACE TEMP TABLE counted_ids ({columns}, _instant TIMESTAMP)")
    own = target.counting(IDS, target.data.first, target.data.last)
    try:
        _list(engine, stream, [target.root.check(each.file) for each in own])
    except DamagedFile:
        _not_before(engine, target, stream, rows)
        return
    if target.origin is not None:
        first, last = (
            moment(text).replace(tzinfo=None).isoformat(sep=" ")
            for text in (target.origin.first_instant, target.origin.instant)
        )
        outside = f"_instant NOT BETWEEN TIMESTAMP '{first}' AND TIMESTAMP '{last}'"
        engine.execute(f"DELETE FROM counted_ids WHERE {outside}")


def _not_before(engine: Engine, target: Target, stream: CompiledStream, rows: pa.Table) -> None:
    """Let `counted_ids` have each id of the rows once that no earlier list has."""
    earlier = [
        each for each in target.counting(IDS, 1, target.data.first) if each.last < target.data.first
    ]
    _list(engine, stream, [target.root.check(each.file) for each in earlier])
    key = sql.names(stream.key)
    engine.register("accepted", rows)
    engine.execute(
        "CREATE OR REPLACE TEMP TABLE counted_ids AS SELECT DISTINCT ON "
        f"({key}) {key}, NULL::TIMESTAMP AS _instant FROM accepted ANTI JOIN counted_ids "
        f"USING ({key})"
    )
    engine.con.unregister("accepted")


def _list(engine: Engine, stream: CompiledStream, paths: Sequence[Path]) -> None:
    """Put the ids of files into `counted_ids`."""
    names = sql.names([*stream.key, "_instant"])
    for path in paths:
        for table in id_file.tables(path, path.name):
            if id_file.key_of(table.schema) == list(stream.key):
                engine.register("listed", table)
                engine.execute(f"INSERT INTO counted_ids SELECT {names} FROM listed")
                engine.con.unregister("listed")


def _agrees(engine: Engine, target: Target, rows: pa.Table) -> bool:
    """Whether the rows fold to the runs, and to the batch views, of the same epochs, of which
    there is at least one that is whole."""
    data, found = target.data, False
    made: dict[tuple[int | None, str, str], list[DataFile]] = {}
    for each in repairs.counting(target.ledger):
        one = each.data
        same = (each.stream, one.first, one.last) == (target.held.stream, data.first, data.last)
        if same and one.kind in (RUN, BATCH):
            key = each.build, str(one.version), str(one.table)
            made.setdefault(key, []).append(one)
    engine.register("found", rows)
    for (_, version, name), files in made.items():
        with contextlib.suppress(DamagedFile):
            paths = [target.root.check(each.file) for each in files]
            view_name, _ = repairs.views_of(target.ledger, [version])[version]
            row = versions.version(target.ledger, view_name, version)
            view = registered.compiled(target.row, row)
            table = next(each for each in view.tables if each.name == name)
            stages.load_references(engine, target.root, view.references)
            accepted = target.span.stream_version
            engine.count_from(view.counted("found", accepted, data.first, data.last))
            engine.execute(f"CREATE OR REPLACE TEMP TABLE folded AS {table.fold}")
            merged = f"({table.merge('folded')})"
            ours = f"({stages.partials(table, merged)})"
            theirs = f"({stages.partials(table, engine.files(paths))})"
            if compare.unlike(engine, ours, theirs):
                return False
            found = True
    return found


def _written(
    target: Target, told: Description, rows: pa.Table, *, accepted: int = 0, rejected: int = 0
) -> DataFile:
    groups = RowGroups(told.metadata(), ROW_GROUP_BYTES)
    folder = f"{told.kind}/{told.stream}"
    file = target.root.write(folder, target.name(), lambda path: groups.write(path, [rows]))
    return DataFile(
        told.kind,
        file,
        target.data.first,
        target.data.last,
        groups.rows,
        accepted=accepted,
        duplicates=groups.duplicates,
        rejected=rejected,
    )
