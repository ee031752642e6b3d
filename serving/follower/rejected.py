"""The newest rejects of each stream, as `everview.rejects` shows them: at most `NEWEST` of a
stream, and of these only so many that their values take at most `VALUE_BYTES`.

They are taken in as epochs are followed, and from sealed files when a stream is loaded. Those that
a replay re-admits stay, and say in which epoch. An epoch without rejects costs nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from schemas import rejects
from schemas.engine import HEADERS
from schemas.ledger.epochs import CommittedEpoch
from schemas.ledger.rejects import Sources
from schemas.ledger.replays import Place
from schemas.segment import SegmentReader
from schemas.storage import DataRoot

NEWEST = 1_000
VALUE_BYTES = 16 * 2**20

_SHOWN: dict[str, str] = {
    "epoch": "_epoch",
    "partition": "_partition",
    "offset": "_offset",
    "timestamp": "_timestamp",
    "key": "_key",
    "value": "_value",
    "headers": "_headers",
    "reason": "_reason",
    "column": "_column",
    "expected": "_expected",
    "found": "_found",
}
COLUMNS: dict[str, pa.DataType] = {
    "stream": pa.string(),
    "epoch": pa.int64(),
    "partition": pa.int32(),
    "offset": pa.int64(),
    "timestamp": pa.timestamp("us"),
    "key": pa.binary(),
    "value": pa.binary(),
    "headers": HEADERS,
    "reason": pa.string(),
    "column": pa.string(),
    "expected": pa.string(),
    "found": pa.string(),
    "replayed": pa.int64(),
}
SCHEMA = pa.schema(COLUMNS)

Taken = Mapping[tuple[int, int], int]  # (partition, offset) -> the epoch that re-admitted it


def of_epoch(epoch: CommittedEpoch, readers: Sequence[SegmentReader]) -> tuple[pa.Table, Taken]:
    """What an epoch rejected, the newest of it, and what it re-admitted."""
    found = SCHEMA.empty_table()
    if epoch.rejected:
        tables = [rejects.of_epoch(reader.rejects(), epoch.epoch) for reader in readers]
        ordered = pa.concat_tables(tables).sort_by(
            [(each, "ascending") for each in rejects.IDENTITY]
        )
        found = _newest(_shown(epoch.stream, ordered))
    if epoch.ranges:
        return found, {}
    masters = (reader.master().select(list(rejects.IDENTITY)) for reader in readers)
    return found, rejects.places(masters)


def of_files(root: DataRoot, stream: str, sources: Sources, until: int) -> pa.Table:
    """The newest rejects of sealed epochs up to one."""
    sealed = Sources(sealed=sources.sealed, replays=sources.replays, master=sources.master)
    found = rejects.newest(root, sealed, NEWEST)
    if found is None:
        return SCHEMA.empty_table()
    shown = _newest(_shown(stream, found.filter(pa.array(found["_epoch"].to_numpy() <= until))))
    if not shown.num_rows:
        return shown
    epoch, partition, offset = (shown[name][0].as_py() for name in ("epoch", "partition", "offset"))
    before = Place(epoch, partition, offset - 1)
    taken = rejects.places(rejects.taken(root, sealed, before))
    return marked(shown, {place: epoch for place, epoch in taken.items() if epoch <= until})


def added(known: pa.Table, more: pa.Table) -> pa.Table:
    """The newest ones of both."""
    return _newest(pa.concat_tables([known, more])) if more.num_rows else known


def marked(known: pa.Table, taken: Taken) -> pa.Table:
    """With those that were re-admitted saying so."""
    if not taken or not known.num_rows:
        return known
    partitions, offsets = (known[name].to_numpy().tolist() for name in ("partition", "offset"))
    before = known["replayed"].to_pylist()
    places = zip(partitions, offsets, before, strict=True)
    replayed = [taken.get((partition, offset), epoch) for partition, offset, epoch in places]
    at = SCHEMA.get_field_index("replayed")
    return known.set_column(at, SCHEMA.field(at), pa.array(replayed, pa.int64()))


def relation(tables: Iterable[pa.Table | None]) -> pa.Table:
    """The rows of `everview.rejects`, of all streams."""
    return pa.concat_tables([SCHEMA.empty_table(), *(each for each in tables if each is not None)])


def _shown(stream: str, found: pa.Table) -> pa.Table:
    told = found.select(list(_SHOWN.values())).rename_columns(list(_SHOWN))
    own = pa.repeat(pa.scalar(stream), found.num_rows)
    told = told.append_column(pa.field("stream", pa.string()), own)
    nothing = pa.nulls(found.num_rows, pa.int64())
    told = told.append_column(pa.field("replayed", pa.int64()), nothing)
    return told.select(SCHEMA.names).cast(SCHEMA)


def _newest(found: pa.Table) -> pa.Table:
    """The last rows within the bounds, apart from what they were cut from."""
    found = found.slice(max(0, found.num_rows - NEWEST))
    held = 0
    for at in range(found.num_rows - 1, -1, -1):
        held += len(found["value"][at].as_py() or b"")
        if held > VALUE_BYTES:
            found = found.slice(at + 1)
            break
    return found.take(pa.array(range(found.num_rows), pa.int64()))
