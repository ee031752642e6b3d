"""A segment gives back what was put in, or names itself as damaged."""

from __future__ import annotations

import io
import random
import zipfile
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from schemas.errors import DamagedFile
from schemas.segment import Segment, SegmentReader, encode

TABLE = pa.table(
    {
        "a": pa.array([1, None, 3], pa.int64()),
        "d": pa.array([Decimal(10) ** 37, None, Decimal(-1)], pa.decimal128(38, 0)),
        "t": pa.array([datetime(9999, 12, 31, tzinfo=UTC), None, None], pa.timestamp("us", "UTC")),
        "b": pa.array([b"\x00", b"", None], pa.binary()),
        "x": pa.array([-0.0, float("inf"), None], pa.float64()),
    }
)
EMPTY = TABLE.slice(0, 0)


def segment(*, ids: pa.Table | None = TABLE) -> Segment:
    partials = {"9f2c": {"core": TABLE, 'odd / "name"_registers_1': EMPTY}, "77aa": {"core": EMPTY}}
    return Segment("flights", 7, 3, TABLE, EMPTY, ids, partials)


def test_what_is_written_is_read() -> None:
    written = segment()

    reader = SegmentReader(encode(written), "segments/flights/a.zip")

    assert reader.header == written.header
    assert reader.versions() == ("77aa", "9f2c")
    assert reader.master().equals(TABLE)
    assert reader.rejects().equals(EMPTY)
    ids = reader.ids()
    assert ids is not None
    assert ids.equals(TABLE)
    for version, tables in written.partials.items():
        assert reader.partials(version) == tables


def test_without_a_primary_key_there_are_no_ids() -> None:
    assert SegmentReader(encode(segment(ids=None)), "a.zip").ids() is None


def test_the_bytes_depend_on_the_content_alone() -> None:
    assert encode(segment()) == encode(segment())


def test_members_are_stored() -> None:
    with zipfile.ZipFile(io.BytesIO(encode(segment()))) as archive:
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}


@pytest.mark.parametrize("data", [b"", b"no zip", encode(segment())[:-30], encode(segment())[:100]])
def test_5b_a_cut_segment_is_an_error_that_names_the_file(data: bytes) -> None:
    with pytest.raises(DamagedFile, match=r"'segments/a\.zip'"):
        SegmentReader(data, "segments/a.zip")


@pytest.mark.parametrize("gone", ["segment.json", "master.parquet", "partials/77aa/core.arrow"])
def test_5b_a_missing_member_is_an_error_that_names_the_file(gone: str) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(encode(segment()))) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.namelist():
            if member != gone:
                new.writestr(member, old.read(member))

    with pytest.raises(DamagedFile, match=r"'segments/a\.zip'.*" + gone):
        everything(SegmentReader(target.getvalue(), "segments/a.zip"))


def test_5b_partials_of_a_version_that_is_not_there_are_damage() -> None:
    with pytest.raises(DamagedFile, match="of version f00d"):
        SegmentReader(encode(segment()), "a.zip").partials("f00d")


def test_5b_a_flipped_bit_is_never_another_value() -> None:
    """Even without the sha256, which the data root compares before."""
    data, draw = encode(segment()), random.Random(20260101)
    truth = everything(SegmentReader(data, "a.zip"))
    for _ in range(300):
        at, bit = draw.randrange(len(data)), 1 << draw.randrange(8)
        flipped = data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
        try:
            found = everything(SegmentReader(flipped, "a.zip"))
        except DamagedFile:
            continue
        assert found == truth, f"byte {at}, bit {bit}"


def everything(reader: SegmentReader) -> list[object]:
    partials = [reader.partials(version) for version in reader.versions()]
    return [reader.header, reader.master(), reader.rejects(), reader.ids(), partials]
