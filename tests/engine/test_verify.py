"""What `verify` says of a difference: where it is, in which epochs, and what corrects it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from sqlalchemy import update

from batch import standing, verify
from batch.compiled import Compiled
from batch.verify import Served, Verified
from schemas.engine import connect
from schemas.ledger import tables
from schemas.ledger.contents import contents
from schemas.ledger.epochs import epochs_after
from schemas.segment import Segment, SegmentReader, encode
from schemas.stored_file import StoredFile
from tests.engine.batching import Sealed, events

pytestmark = pytest.mark.slow


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Sealed]:
    """Epochs 1 and 2 in a batch view, 3 and 4 in a run, 5 and 6 in segments."""
    made = Sealed(tmp_path)
    made.epochs(events(40), events(10, start=40))
    for view in ("by_key", "visitors"):
        made.builder().all_steps(view, full=False, until=None)
    made.epochs(events(10, start=50), events(10, start=60))
    made.epoch(events(10, start=70))
    made.epoch(events(10, start=80))
    yield made
    made.ledger.close()


def verified(world: Sealed, view: str, served: Served | None = None) -> Verified:
    definitions = Compiled(world.ledger)
    return verify.verify(
        world.ledger, world.root, definitions, view, served, memory="256MB", threads=1
    )


def wrong_in(found: Verified) -> dict[tuple[str | None, ...], list[tuple[str, int, int]]]:
    return {
        group: [(each.kind, each.first, each.last) for each in layers]
        for group, layers in found.layers.items()
    }


def replace_file(world: Sealed, stored: StoredFile, data: bytes) -> None:
    """Other bytes in a file, and the ledger names those: as a fault of whoever wrote it would."""
    world.root.local(stored.path).write_bytes(data)
    found = StoredFile.of(stored.path, data)
    with world.ledger.write() as connection:
        changed = update(tables.files).where(tables.files.c.path == stored.path)
        connection.execute(changed.values(sha256=found.sha256, bytes=found.bytes))


def alter(world: Sealed, stored: StoredFile, select: str, where: str = "") -> None:
    """Put what a SELECT says of a Parquet file in its place."""
    path, other = world.root.local(stored.path), world.state / uuid.uuid4().hex
    duckdb.execute(f"COPY ({select} FROM '{path}' {where}) TO '{other}' (FORMAT parquet)")
    replace_file(world, stored, other.read_bytes())
    other.unlink()


def alter_segment(world: Sealed, epoch: int, view: str) -> None:
    """One row of a view's partials is lost."""
    (found,) = (e for e in epochs_after(world.ledger, world.name, 0, 100) if e.epoch == epoch)
    (segment,) = found.segments
    reader = SegmentReader(world.root.get(segment.file), segment.file.path)
    partials = {v.version: reader.partials(v.version) for v in world.folding.views}
    core = partials[world.folding.view(view).version]["core"]
    kept = [key != "k1" for key in core.column("k").to_pylist()]
    partials[world.folding.view(view).version] = {"core": core.filter(pa.array(kept))}
    again = Segment(
        world.name,
        epoch,
        world.lease.token,
        reader.master(),
        reader.rejects(),
        reader.ids(),
        partials,
        found.ranges,
    )
    replace_file(world, segment.file, encode(again))


def test_what_is_right_names_no_layer(world: Sealed) -> None:
    for view in ("by_key", "visitors", "everything"):
        found = verified(world, view)
        assert (found.comparison.different, found.layers) == (0, {})


def test_a_wrong_file_is_named_with_its_epochs(world: Sealed) -> None:
    held = contents(world.ledger, world.name).views["by_key"]
    batch = next(each.file for each in held.batch if each.table == "core")
    (run,) = (each.file for each in held.runs if each.table == "core")

    alter(
        world, run, "SELECT * REPLACE (_count_0 + (k IS NOT DISTINCT FROM 'k2')::INT AS _count_0)"
    )
    found = verified(world, "by_key")
    assert wrong_in(found) == {("k2",): [("run", 3, 4)]}
    (told,) = found.json()["differences"]
    assert told["wrong_in"] == [{"what": "run", "epochs": [3, 4]}]
    assert told["do"] == (
        "it is wrong in the run of epochs 3..4: `everview rebuild by_key` corrects it from the "
        "master"
    )

    alter(world, batch, "SELECT *", "WHERE k IS NOT NULL")
    alter_segment(world, 6, "by_key")
    found = verified(world, "by_key")
    assert wrong_in(found) == {
        (None,): [("batch", 1, 2)],
        ("k1",): [("epoch", 6, 6)],
        ("k2",): [("run", 3, 4)],
    }
    told_of = {each["group"]["k"]: each["do"] for each in found.json()["differences"]}
    assert "the batch view of epochs 1..2: `everview rebuild by_key --full`" in told_of[None]
    assert "epoch 6, which is not sealed: `everview rebuild by_key` corrects" in told_of["k1"]


def test_a_wide_table_is_traced_by_its_groups(world: Sealed) -> None:
    held = contents(world.ledger, world.name).views["visitors"]
    (run,) = (each.file for each in held.runs if each.table != "core")
    alter(world, run, "SELECT *", "WHERE k IS DISTINCT FROM 'k3'")
    found = verified(world, "visitors")
    assert wrong_in(found) == {("k3",): [("run", 3, 4)]}


def test_a_view_of_one_group_is_traced_too(world: Sealed) -> None:
    for run in contents(world.ledger, world.name).views["everything"].runs:
        alter(world, run.file, "SELECT * REPLACE (_count_0 + 1 AS _count_0)")
    assert wrong_in(verified(world, "everything")) == {(): [("run", 1, 2), ("run", 3, 4)]}


def test_where_the_files_are_right_serving_is_wrong(world: Sealed) -> None:
    there = contents(world.ledger, world.name)
    compiled = world.folding.view("by_key")
    engine = connect()
    rows = engine.arrow(standing.of(engine, world.root, compiled, there).select)
    hits = rows.column_names.index("hits")
    spoilt = rows.set_column(hits, "hits", pa.compute.add(rows.column("hits"), 1))
    served = Served(spoilt, compiled.version, 6, 2)

    found = verified(world, "by_key", served)
    assert found.comparison.different == rows.num_rows == 6
    assert list(wrong_in(found).values()) == [[]] * 6
    for told in found.json()["differences"]:
        assert told["wrong_in"] == []
        assert "what serving holds is wrong: restart it" in told["do"]
