"""What must hold after a fault, by the letters of the matrix; each is one check of a `World`.

    R  every answer is the recount at the position that it reports
    V  position and cut never go back, between two looks or over a restart; no gap, nothing twice
    M  master and rejects hold what was acknowledged below the position: each once, nothing else
    A  offsets are accepted, rejects and legal gaps; accepted are firsts and duplicates
    F  every file that the ledger names is there as it was written, and never changed
    B  a batch view is the recount at its cut, and so it is when it is built anew
    L  loud: `world.loud`, `world.says`
    H  heals: `heals`, a plain restart, after which nothing is unread and all of the above holds

Files and the ledger are read by their formats (SQLite, zip, Parquet, Arrow), not by code of
everview's.
"""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tests.matrix import recount
from tests.matrix.topic import digest
from tests.matrix.world import World

WITHIN = timedelta(days=7)
ROWS = "SELECT {columns} FROM {view}"
Rows = list[tuple[Any, ...]]


def right(world: World) -> None:
    """R and V, of every view that answers."""
    served = world.look()
    answering = 0
    for view in world.views:
        told = served.coverage(view)
        if told["epoch"] == 0:
            continue
        answering += 1
        position = {int(each): offset for each, offset in told["position"].items()}
        rows = served.rows(ROWS.format(columns="*", view=view))
        same(f"{view} at {position}", rows, answer(world, view, told["epoch"], position))
        _onward(world, view, position, told["cut"], told["epoch"])
    assert answering or not world.commits
    for view, gaps, doubles in served.rows("SELECT view, gaps, doubles FROM everview.handoff"):
        assert (gaps, doubles) == (0, 0), f"handoff of {view}: {gaps} gaps, {doubles} doubles"


def _onward(world: World, view: str, position: dict[int, int], cut: int, epoch: int) -> None:
    before, old_cut, old_epoch = world.seen.get(view, ({}, 0, 0))
    assert all(position.get(p, 0) >= offset for p, offset in before.items()), (view, position)
    assert cut >= old_cut, f"the cut of {view} went back from {old_cut} to {cut}"
    assert epoch >= old_epoch, f"the epoch of {view} went back from {old_epoch} to {epoch}"
    world.seen[view] = (position, cut, epoch)


def answer(world: World, view: str, epoch: int, position: Mapping[int, int] | None = None) -> Rows:
    """The recount of a view after an epoch."""
    commits = [world.commits[each] for each in range(1, epoch + 1)]
    if position is not None and commits:
        assert commits[-1][1] == position, (commits[-1], position)
    events, _ = recount.counted(world.acks(), commits, ("id",) if world.keyed else (), WITHIN)
    return recount.VIEWS[view](events)


def same(what: str, found: Rows, expected: Rows) -> None:
    """Equal as multisets."""
    ours, theirs = sorted(found, key=repr), sorted(expected, key=repr)
    assert len(ours) == len(theirs), f"{what}: {ours} is not {theirs}"
    for one, other in zip(ours, theirs, strict=True):
        assert one == other, f"{what}: {one} is not {other}"


# the ledger and the files, by their formats


def query(world: World, sql: str) -> list[Any]:
    """Rows of the ledger, by SQLite alone."""
    path = (world.state / "ledger.db").as_uri()
    connection = sqlite3.connect(f"{path}?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def named(world: World, counting: str = "WHERE removed_state IS NULL") -> list[Any]:
    """path, kind, sha256, bytes, rows of the files that the ledger names."""
    return query(world, f"SELECT path, kind, sha256, bytes, rows FROM files {counting}")


def table(data: bytes, name: str) -> pa.Table:
    if name.endswith(".parquet"):
        return pq.read_table(pa.BufferReader(data))
    return pa.ipc.open_file(pa.BufferReader(data)).read_all()


def members(world: World, member: str, kind: str) -> Iterator[dict[str, Any]]:
    """The rows of master or rejects, sealed or not."""
    for path, of, *_ in named(world):
        if of not in ("segment", kind):
            continue
        assert (world.state / path).is_file(), f"{path} is named and not there"
        data = (world.state / path).read_bytes()
        if of == "segment":
            data = zipfile.ZipFile(io.BytesIO(data)).read(member)
        yield from table(data, member).to_pylist()


def master(world: World) -> list[dict[str, Any]]:
    return list(members(world, "master.parquet", "master"))


def rejects(world: World) -> list[dict[str, Any]]:
    return list(members(world, "rejects.parquet", "rejects"))


def once(world: World) -> None:
    """M."""
    there = [*master(world), *rejects(world)]
    found = Counter((r["_partition"], r["_offset"], digest(r["_value"])) for r in there)
    at = world.position()
    sent = {
        (a.partition, a.offset, a.sha256) for a in world.acks() if a.offset < at.get(a.partition, 0)
    }
    assert not sent - set(found), f"lost: {sorted(sent - set(found))[:5]}"
    assert not set(found) - sent, f"never sent: {sorted(set(found) - sent)[:5]}"
    doubled = [each for each, count in found.items() if count > 1]
    assert not doubled, f"doubled: {doubled[:5]}"


def accounted(world: World) -> None:
    """A."""
    at = world.position()
    kept = len(master(world)), len(rejects(world))
    sums = "coalesce(sum(accepted), 0), coalesce(sum(duplicates), 0), coalesce(sum(rejected), 0)"
    parts = [query(world, f"SELECT {sums} FROM {each}")[0] for each in ("epochs", "sealed")]
    accepted, duplicates, rejected = (sum(each) for each in zip(*parts, strict=True))
    assert (accepted, rejected) == kept
    lost = sum(min(until, at[p]) - start for p, start, until in world.lost if start < at.get(p, 0))
    read = sum(at.values()) - sum(_begun(world).values())
    gaps = sum(
        1
        for partition, until in at.items()
        for offset in range(until)
        if offset < world.topic.ends[partition] and (partition, offset) not in world.topic.records
    )
    assert read - gaps - lost == accepted + rejected, (read, gaps, lost, accepted, rejected)
    key = ("id",) if world.keyed else ()
    commits = [world.commits[each] for each in sorted(world.commits)]
    firsts, seconds = recount.counted(world.acks(), commits, key, WITHIN)
    assert (accepted, duplicates) == (len(firsts) + seconds, seconds)
    assert sum(not row["_duplicate"] for row in master(world)) == len(firsts)
    assert all(row["_reason"] for row in rejects(world))


def _begun(world: World) -> dict[int, int]:
    """Where the first epoch began."""
    begun: dict[int, int] = {}
    for partition, start in query(world, 'SELECT "partition", min(start) FROM ranges GROUP BY 1'):
        begun[partition] = start
    for (told,) in query(world, "SELECT ranges FROM sealed"):
        for each, (start, _) in json.loads(told).items():
            begun[int(each)] = min(start, begun.get(int(each), start))
    return begun


def files(world: World) -> None:
    """F."""
    for path, kind, sha256, size, rows in named(world):
        file = world.state / path
        assert file.is_file(), f"{path} is named and not there"
        data = file.read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (size, sha256), f"{path} is damaged"
        assert world.hashes.setdefault(path, sha256) == sha256, f"{path} changed"
        assert _rows(data, kind, path) == rows, f"rows of {path}"


def _rows(data: bytes, kind: str, path: str) -> int:
    if kind != "segment":
        return int(table(data, path).num_rows)
    told = json.loads(zipfile.ZipFile(io.BytesIO(data)).read("segment.json"))
    return int(told["master"] + told["rejects"])


def stray(world: World) -> set[str]:
    """Data files that no row of the ledger names, whether it counts still or not."""
    known = {path for path, *_ in named(world, "")}
    tops = ("segments", "master", "rejects", "ids", "runs", "batch")
    found = [file for top in tops for file in (world.state / top).rglob("*") if file.is_file()]
    return {file.relative_to(world.state).as_posix() for file in found} - known


def batch(world: World, *, anew: bool = False) -> None:
    """B, of every view that was published; `anew` builds it once more from the whole master."""
    served = 'SELECT v.name, p.id, p.cut FROM views v JOIN publications p ON v."publication" = p.id'
    for view, publication, cut in query(world, served):
        folder = world.state / "views" / view
        assert (folder / "current.json").is_file(), f"{view} has no current.json"
        told = json.loads((folder / "current.json").read_text())
        assert (told["publication"], told["cut"]) == (publication, cut), f"current.json of {view}"
        paths = [folder / each["path"] for each in told["files"]]
        expected = answer(world, view, cut)
        same(f"batch view {view} at cut {cut}", _finished(paths), expected)
        if anew:
            done = world.build(view, full=True)
            again = [
                world.state / path
                for path, kind, *_ in named(world, f"WHERE build = {done.build.id}")
                if kind == "finished"
            ]
            same(f"{view} built anew", _finished(again), answer(world, view, done.build.cut))


def _finished(paths: list[Path]) -> Rows:
    rows: Rows = duckdb.execute(f"FROM read_parquet({[str(each) for each in paths]})").fetchall()
    return rows


CHECKS: Mapping[str, Callable[[World], None]] = {
    "R": right,
    "V": right,
    "M": once,
    "A": accounted,
    "F": files,
    "B": batch,
}


def holds(world: World, letters: str = "RVMAFB") -> None:
    """All of these."""
    world.note()
    for check in dict.fromkeys(CHECKS[each] for each in letters if each not in " LH"):
        check(world)


def heals(world: World, letters: str = "RVMAFB", **settings: Any) -> None:
    """H: a new driver, a new server, and everything is read and right."""
    world.stream(**settings)
    world.serve()
    holds(world, letters)
    assert world.position() == world.topic.ends
