"""What lies in a state's folders, read whole: files that say what they are, without a ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas import parquet
from schemas.errors import DamagedFile
from schemas.id_file import IdFile, sorted_file
from schemas.ledger.files import IDS, MASTER, REJECTS, RUN, SEGMENT, DataFile
from schemas.parquet import Origin
from schemas.position import Range
from schemas.segment import SegmentOrigin, SegmentReader
from schemas.storage import DataRoot, unfinished
from schemas.stored_file import StoredFile
from streaming.orphans import FOLDERS, token_of

DUPLICATE = "_duplicate"


@dataclass(frozen=True)
class Found:
    """A whole file of a stream."""

    data: DataFile
    token: int
    ranges: tuple[Range, ...]
    origin: Origin | None = None  # of a sealed file; None for one of an early release
    segment: SegmentOrigin | None = None
    has_ids: bool = False
    versions: tuple[str, ...] = ()  # of a segment

    @property
    def path(self) -> str:
        return self.data.file.path


def files(
    root: DataRoot,
    stream: str,
    known: Mapping[str, DataFile],
    say: Callable[[str], None],
) -> list[Found]:
    """Every file of a stream's epochs that is whole. `known` has what an older ledger says of some,
    by path; one that is otherwise now is damaged, and said, as is one that cannot be read."""
    found = []
    for path in _listed(root, stream):
        token = token_of(path.rpartition("/")[2])
        if token is None:
            continue
        try:
            row = known.get(path)
            one = _read(root, path, token, row)
            if row is not None and row.file != one.data.file:
                raise DamagedFile(path, str(row.file), str(one.data.file))
        except (DamagedFile, OSError, pa.ArrowException) as error:
            say(f"left out: {error}")
            continue
        if _whose(one, root, path) == stream:
            found.append(one)
    return found


def _listed(root: DataRoot, stream: str) -> Iterator[str]:
    top = root.local("runs").parent
    folders = [top / folder / stream for folder in FOLDERS.values()]
    for folder in [*folders, top / "runs"]:
        for each in sorted(folder.rglob("*")):
            if each.is_file() and unfinished(each.name) is None:
                yield each.relative_to(top).as_posix()


def _whose(found: Found, root: DataRoot, path: str) -> str | None:
    """The stream: runs of all streams lie together."""
    if found.data.kind != RUN:
        return path.split("/")[1]
    told = parquet.said(root.local(path), path)
    return None if told is None else told.stream


def _read(root: DataRoot, path: str, token: int, row: DataFile | None) -> Found:
    local = root.local(path)
    if path.endswith(".zip"):
        return _segment(local, path, token)
    file = _stored(local, path)
    told = parquet.said(local, path)
    if told is None and row is not None:  # as files of the first releases
        return Found(replace(row, file=file), token, (), has_ids=row.kind == IDS)
    if told is None:
        raise DamagedFile(path, parquet.EXPECTED, "one that does not")
    rows, duplicates = _counted(local, path, told.kind)
    data = DataFile(
        told.kind,
        file,
        told.first,
        told.last,
        rows,
        accepted=rows if told.kind == MASTER else 0,
        duplicates=duplicates,
        rejected=rows if told.kind == REJECTS else 0,
        version=told.version,
        table=told.table,
    )
    return Found(data, token, told.ranges, told.origin, has_ids=told.kind == IDS)


def _segment(local: Path, path: str, token: int) -> Found:
    content = local.read_bytes()
    reader = SegmentReader(content, path)
    header, master, ids = reader.header, reader.master(), reader.ids()
    reader.rejects()
    for version in reader.versions():
        reader.partials(version)
    data = DataFile(
        SEGMENT,
        StoredFile.of(path, content),
        header["epoch"],
        header["epoch"],
        header["master"] + header["rejects"],
        accepted=header["master"],
        duplicates=_duplicates(master),
        rejected=header["rejects"],
    )
    return Found(
        data,
        token,
        reader.ranges,
        segment=header.get("origin"),
        has_ids=ids is not None and ids.num_rows > 0,
        versions=reader.versions(),
    )


def _counted(local: Path, path: str, kind: str) -> tuple[int, int]:
    """Rows, and duplicates among them, of a file that is read to its end."""
    if sorted_file(path):
        return IdFile.open(local, path).rows, 0
    rows = duplicates = 0
    with pq.ParquetFile(local) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            rows += table.num_rows
            duplicates += _duplicates(table) if kind == MASTER else 0
    return rows, duplicates


def _duplicates(table: pa.Table) -> int:
    count: Any = pc.sum(table[DUPLICATE]).as_py()
    return int(count or 0)


def _stored(local: Path, path: str) -> StoredFile:
    with local.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return StoredFile(path, digest.hexdigest(), file.tell())
