"""Which epochs are sealed together, and which sealed ranges become one: no input or output.

level 2   [1 .. 100]
level 1             [101 .. 110][111 .. 120]
level 0                                     [121][122][123]   ten of one make one of the next
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from itertools import accumulate, groupby, pairwise
from operator import itemgetter

from schemas.ledger.epochs import CommittedEpoch
from schemas.ledger.files import RUN, DataFile
from schemas.ledger.sealing import SealedRange

RunKey = tuple[str | None, str | None]  # version, table


def segment_bytes(epoch: CommittedEpoch) -> int:
    return sum(each.file.bytes for each in epoch.segments)


def to_seal(epochs: Sequence[CommittedEpoch], most: int) -> list[CommittedEpoch]:
    """The first ones of unsealed epochs that fit into one range: alike, and of at most `most` bytes
    unless it is a single one."""
    chosen: list[CommittedEpoch] = []
    size = 0
    for each in epochs:
        size += segment_bytes(each)
        alike = not chosen or _kind(each) == _kind(chosen[0])
        if not alike or (chosen and size > most):
            break
        chosen.append(each)
    return chosen


def to_merge(
    ranges: Sequence[SealedRange],
    kept: Collection[int],
    fanout: int,
    span: timedelta | None = None,
    retained: int = 0,
) -> list[SealedRange]:
    """The first `fanout` adjacent ranges of one level, or none.

    With a `span` no range comes to last longer than that, so that retention finds boundaries to
    end at; those up to the epoch `retained` are behind it already.

    A range counts with the level of the highest after it that it may be merged with: what was cut
    short by a boundary that is kept no longer would never be joined otherwise.
    """
    for part in _parts(ranges, kept):
        for alike in _by_level(part):
            for first in range(len(alike) - fanout + 1):
                chosen = alike[first : first + fanout]
                lasts = chosen[-1].instant - chosen[0].first_instant
                if span is None or lasts <= span or chosen[-1].last <= retained:
                    return chosen
    return []


def _parts(ranges: Sequence[SealedRange], kept: Collection[int]) -> list[list[SealedRange]]:
    """Ranges that may be merged with each other."""
    parts = [[each] for each in ranges[:1]]
    for before, each in pairwise(ranges):
        if _kind(before) == _kind(each) and before.last not in kept:
            parts[-1].append(each)
        else:
            parts.append([each])
    return parts


def _by_level(part: Sequence[SealedRange]) -> list[list[SealedRange]]:
    levels = list(accumulate((each.level for each in reversed(part)), max))[::-1]
    leveled = groupby(zip(levels, part, strict=True), key=itemgetter(0))
    return [[each for _, each in alike] for _, alike in leveled]


def packs(files: Iterable[DataFile], most: int) -> list[tuple[DataFile, ...]]:
    """Adjacent files that together have at most `most` bytes: each pack becomes one file. A file
    that is alone stays as it is and is in none."""
    found: list[list[DataFile]] = []
    size = 0
    for each in files:
        size += each.file.bytes
        if not found or size > most:
            found.append([])
            size = each.file.bytes
        found[-1].append(each)
    return [tuple(pack) for pack in found if len(pack) > 1]


def runs(files: Iterable[DataFile]) -> dict[RunKey, list[tuple[DataFile, ...]]]:
    """Runs by version and table, those without a hole between them together."""
    found: dict[RunKey, list[list[DataFile]]] = {}
    for each in sorted((file for file in files if file.kind == RUN), key=lambda file: file.first):
        parts = found.setdefault((each.version, each.table), [])
        if not parts or parts[-1][-1].last + 1 != each.first:
            parts.append([])
        parts[-1].append(each)
    return {key: [tuple(part) for part in parts] for key, parts in found.items()}


def _kind(of: CommittedEpoch | SealedRange) -> tuple[str, frozenset[str]]:
    return of.stream_version, of.folded
