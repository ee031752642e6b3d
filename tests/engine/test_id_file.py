"""Files of sorted ids: what is looked up is found, whatever engine hashed it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import id_file
from schemas.engine import connect, hash_probe
from schemas.errors import DamagedFile
from schemas.id_file import IdFile
from schemas.storage import DataRoot
from streaming import task as task_module
from tests.folding import Folding, load, records

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEY = (("k", "VARCHAR"), ("d", "DECIMAL(12,2)"))


def made(folder: Path, hashes: list[int], rows_per_batch: int = 3) -> IdFile:
    """A file with these hashes; `k` tells the rows apart."""
    table = pa.table({"_hash": pa.array(hashes, pa.uint64()), "k": range(len(hashes))})
    path = folder / "ids.arrow"
    id_file.write(path, table.schema, table.to_batches(max_chunksize=rows_per_batch), {})
    return IdFile.open(path, "ids.arrow")


def looked_up(file: IdFile, hashes: list[int]) -> Counter[int]:
    wanted = np.array(sorted(set(hashes)), np.uint64)
    found: Counter[int] = Counter()
    for batch in file.matching(wanted):
        found.update(int(each) for each in batch.column("k").to_numpy())
    return found


@given(
    st.lists(st.integers(0, 12) | st.integers(2**64 - 4, 2**64 - 1)).map(sorted),
    st.lists(st.integers(0, 12) | st.integers(2**64 - 4, 2**64 - 1)),
    st.integers(1, 5),
)
def test_all_rows_of_a_hash_are_found_and_no_others(
    tmp_path_factory: pytest.TempPathFactory, held: list[int], wanted: list[int], batch: int
) -> None:
    file = made(tmp_path_factory.mktemp("ids"), held, batch)
    assert file.rows == len(held)
    expected = Counter(at for at, each in enumerate(held) if each in wanted)
    assert looked_up(file, wanted) == expected


def ids(*rows: tuple[str | None, str, datetime]) -> pa.Table:
    return pa.table(
        {
            "_hash": pa.array([7] * len(rows), pa.uint64()),
            "k": [k for k, _, _ in rows],
            "d": pa.array([d for _, d, _ in rows], pa.string()).cast(pa.decimal128(12, 2)),
            "_instant": pa.array([at.replace(tzinfo=None) for *_, at in rows], pa.timestamp("us")),
        }
    )


def test_what_the_engine_writes_is_sorted_by_its_own_hash(tmp_path: Path) -> None:
    engine, path = connect(), tmp_path / "ids.arrow"
    early = NOON.replace(hour=1)
    parts = [ids(("a", "1.00", NOON), ("b", "1.00", early)), ids(("c", "0.10", NOON))]
    assert engine.write_ids(path, KEY, parts, since=NOON, told={"x": "y"}) == 2
    file = IdFile.open(path, "ids.arrow")
    assert (file.key, file.probe) == (["k", "d"], hash_probe())
    assert file.schema.metadata[b"x"] == b"y"
    (batch,) = file.batches
    hashes = batch.column("_hash").to_numpy()
    assert hashes[0] < hashes[1]
    own = engine.arrow("SELECT hash('c', 0.1::DECIMAL(12,2)) AS h")["h"].to_numpy()
    (found,) = file.matching(own)
    assert found["k"].to_pylist() == ["c"]


def test_a_file_that_is_none_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "ids.arrow"
    for bytes_ in (b"", b"PAR1" * 100):
        path.write_bytes(bytes_)
        with pytest.raises(DamagedFile, match=r"ids/x\.arrow"):
            IdFile.open(path, "ids/x.arrow")


STREAM = """
CREATE STREAM s (k VARCHAR, d DECIMAL(12,2), PRIMARY KEY (d, k)) WITH (topic = 's');
"""
SENT = [b'{"k":"a","d":1}', b'{"k":"b","d":1}', b'{"k":"a","d":2}']


def test_an_id_in_a_sealed_file_makes_a_duplicate_and_its_hash_alone_does_not(
    tmp_path: Path,
) -> None:
    stream = Folding(load(tmp_path / "project", STREAM))
    path = tmp_path / "ids.arrow"
    key = stream.stream.key_types
    table = ids(("a", "1.00", NOON)).select(["d", "k", "_instant"])
    stream.engine.write_ids(path, key, [table])
    file = IdFile.open(path, "ids.arrow")
    # the hash of ('b', 1) on the row of another id: a collision
    (other,) = stream.engine.arrow("SELECT hash(1::DECIMAL(12,2), 'b') AS h")["h"].to_pylist()
    collides = file.batches[0].set_column(0, "_hash", pa.array([other], pa.uint64()))
    lying = IdFile((collides,), file.schema)
    folded = stream.engine.fold(
        stream.stream,
        stream.views,
        records(SENT),
        epoch=1,
        instant=NOON,
        since=NOON.replace(hour=1),
        sealed_ids=[file, lying],
    )
    assert folded.master["_duplicate"].to_pylist() == [True, False, False]
    assert folded.ids is not None
    assert folded.ids.num_rows == 2
    late = stream.engine.fold(
        stream.stream,
        stream.views,
        records(SENT),
        epoch=1,
        instant=NOON,
        since=NOON,
        sealed_ids=[file],
    )
    assert not any(late.master["_duplicate"].to_pylist())


@pytest.mark.parametrize("early_form", [False, True])
def test_hashes_of_another_engine_and_unsorted_ids_are_made_anew(
    tmp_path: Path, early_form: bool
) -> None:
    stream = Folding(load(tmp_path / "project", STREAM))
    root = DataRoot(tmp_path / "state")
    key = stream.stream.key_types
    table = ids(("a", "1.00", NOON)).select(["d", "k", "_instant"])

    own = tmp_path / "own.arrow"
    stream.engine.write_ids(own, key, [table])
    file = IdFile.open(own, "own")
    other = [each.set_column(0, "_hash", pa.array([1], pa.uint64())) for each in file.batches]
    told = {id_file.PROBE.decode(): "of another release"}

    def write(path: Path) -> None:
        id_file.write(path, file.schema, other, told)

    def early(path: Path) -> None:
        pq.write_table(pa.Table.from_batches(other), path)

    stored = root.write("ids/s", "1-2.arrow", write)
    if early_form:
        stored = root.write("ids/s", "1-2.parquet", early)
    found = task_module.open_ids(root, stored, stream.engine, stream.stream)
    assert found.probe == hash_probe()
    folded = stream.engine.fold(
        stream.stream,
        stream.views,
        records(SENT),
        epoch=1,
        instant=NOON,
        since=NOON.replace(hour=1),
        sealed_ids=[found],
    )
    assert folded.master["_duplicate"].to_pylist() == [True, False, False]
