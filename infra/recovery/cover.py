"""Which files, together, are the epochs of a stream: from the first on, without a hole.

    on disk   [1 .. 10] master, ids, runs     [11 .. 20] master, ids, runs    segments 18 .. 27
              [1 ............ 20] master, ids, runs, of a merge
    cover     [1 ............ 20]  21  22  23  24  25  26  27

Nothing is read here. A part is a span of epochs of which the master is whole, as many rejects as
it says are there, and the offsets follow those before.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from infra.recovery.found import Found
from schemas.errors import RangeNotContiguous
from schemas.ledger.files import IDS, MASTER, REJECTS, RUN, SEGMENT
from schemas.parquet import Origin, union
from schemas.position import Position, Range


@dataclass(frozen=True)
class Part:
    """Epochs that are known as one, and the files that hold them."""

    first: int
    last: int
    origin: Origin
    ranges: tuple[Range, ...]
    files: tuple[Found, ...]  # master, rejects, and the ids and whole runs that there are
    damaged: tuple[str, ...] = ()  # those that only an older ledger knows: paths

    def of(self, kind: str) -> list[Found]:
        return [each for each in self.files if each.data.kind == kind]


@dataclass(frozen=True)
class Placed:
    """A part, or an unsealed epoch, with the position after it."""

    part: Part
    position: Position


def sealed(found: Sequence[Found], known: Iterable[Part] = (), after: int = 0) -> list[Placed]:
    """The furthest cover by sealed files that follow the epoch `after`, of as few damaged files and
    then of as few parts as can be; `known` are those that an older ledger has."""
    parts = [*known, *_parts(found)]
    parts.sort(key=lambda each: (each.first, -each.last))
    best: dict[int, tuple[tuple[int, int], tuple[Placed, ...]]] = {after: ((0, 0), ())}
    for each in parts:
        before = best.get(each.first - 1)
        if before is None:
            continue
        (damaged, count), placed = before
        cost = damaged + len(each.damaged), count + 1
        position = placed[-1].position if placed else Position()
        moved = _advanced(position, each.ranges)
        if moved is None:
            continue
        if each.last not in best or cost < best[each.last][0]:
            best[each.last] = cost, (*placed, Placed(each, moved))
    return list(best[max(best)][1])


def unsealed(
    found: Sequence[Found], after: int, position: Position, instant: str, known: Iterable[Part]
) -> list[Placed]:
    """The longest way on by epochs of whole segments. One of a single segment that says it is all
    of its epoch is whole; another one only where an older ledger knows it. That ledger's word on an
    epoch stands as long as its files do. One without offsets, which a replay may have left without
    committing it, follows anything, so it is taken only where no other can be."""
    by_epoch: dict[int, list[Part]] = {each.first: [each] for each in known}
    certain = {epoch for epoch, (each,) in by_epoch.items() if not each.damaged}
    for file in sorted(found, key=lambda e: (-e.token, e.path)):
        part = _of_segment(file)
        if part is not None and part.first not in certain:
            by_epoch.setdefault(part.first, []).append(part)
    for parts in by_epoch.values():
        parts.sort(key=lambda each: len(each.damaged))
    lengths: dict[int, list[tuple[int, Part]]] = {}
    for epoch in sorted(by_epoch, reverse=True):
        lengths[epoch] = [
            (
                1 + max((n for n, e in lengths.get(epoch + 1, ()) if _follows(e, each)), default=0),
                each,
            )
            for each in by_epoch[epoch]
        ]
    placed: list[Placed] = []
    epoch = after + 1
    while epoch in lengths:
        for _, each in sorted(lengths[epoch], key=lambda pair: (not pair[1].ranges, -pair[0])):
            moved = _advanced(position, each.ranges)
            if moved is not None and each.origin.instant >= instant:
                break
        else:
            break
        position, instant = moved, each.origin.instant
        placed.append(Placed(each, position))
        epoch += 1
    return placed


def _parts(found: Sequence[Found]) -> list[Part]:
    """One for each span of epochs that some file has, where there is all of it."""
    spans = {(f.data.first, f.data.last) for f in found if f.data.kind != SEGMENT}
    made = [_part(found, first, last) for first, last in sorted(spans)]
    return [each for each in made if each is not None]


def _part(found: Sequence[Found], first: int, last: int) -> Part | None:
    inside = [each for each in found if first <= each.data.first and each.data.last <= last]
    master = tiled([each for each in inside if each.data.kind == MASTER], first, last)
    if not master:
        return None
    origins = [each.origin for each in master if each.origin is not None]
    alike = {(each.stream_version, each.folded) for each in origins}
    if len(origins) != len(master) or len(alike) != 1:
        return None
    origin = functools.reduce(Origin.with_next, origins)
    rejects = widest(each for each in inside if each.data.kind == REJECTS)
    counted = (
        sum(each.data.rows for each in master),
        sum(each.data.duplicates for each in master),
        sum(each.data.rows for each in rejects),
    )
    if counted != (origin.accepted, origin.duplicates, origin.rejected):
        return None
    files = [*master, *rejects, *widest(each for each in inside if each.data.kind == IDS)]
    runs = [each for each in inside if each.data.kind == RUN]
    for key in sorted({(str(each.data.version), str(each.data.table)) for each in runs}):
        own = [each for each in runs if (each.data.version, each.data.table) == key]
        files += tiled(own, first, last)
    ranges = union(each for one in master for each in one.ranges)
    return Part(first, last, origin, ranges, tuple(files))


def tiled(files: Sequence[Found], first: int, last: int) -> list[Found]:
    """Files that follow each other from `first` to `last`, as few as can be; none where they do
    not."""
    best: dict[int, list[Found]] = {first - 1: []}
    for each in sorted(files, key=lambda each: (each.data.first, -each.data.last, -each.token)):
        before = best.get(each.data.first - 1)
        if before is None:
            continue
        if each.data.last not in best or len(before) + 1 < len(best[each.data.last]):
            best[each.data.last] = [*before, each]
    return best.get(last, [])


def widest(files: Iterable[Found]) -> list[Found]:
    """Without those whose epochs are in another one."""
    kept: list[Found] = []
    for each in sorted(files, key=lambda each: (each.data.first, -each.data.last, -each.token)):
        if not kept or each.data.last > kept[-1].data.last:
            kept.append(each)
    return kept


def with_known(part: Part, versions: Collection[str]) -> Part:
    """Of versions that a ledger has."""
    folded = tuple(each for each in part.origin.folded if each in versions)
    files = tuple(e for e in part.files if e.data.kind != RUN or e.data.version in versions)
    return replace(part, origin=replace(part.origin, folded=folded), files=files)


def _of_segment(found: Found) -> Part | None:
    told = found.segment
    if found.data.kind != SEGMENT or told is None or not told["alone"]:
        return None
    epoch, data = found.data.first, found.data
    origin = Origin(
        first_instant=told["instant"],
        instant=told["instant"],
        stream_version=told["stream_version"],
        topic_id=told["topic_id"],
        folded=tuple(sorted(found.versions)),
        accepted=data.accepted,
        duplicates=data.duplicates,
        rejected=data.rejected,
    )
    return Part(epoch, epoch, origin, found.ranges, (found,))


def _follows(later: Part, before: Part) -> bool:
    ends = {each.partition: each.until for each in before.ranges}
    return all(ends.get(each.partition, each.start) == each.start for each in later.ranges)


def _advanced(position: Position, ranges: Sequence[Range]) -> Position | None:
    try:
        return position.advance(ranges)
    except RangeNotContiguous:
        return None
