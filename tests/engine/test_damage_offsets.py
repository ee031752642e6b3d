"""The offsets of a damaged file are told by the ledger and by whole files, never by itself."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from infra.damage.offsets import Covered, covered
from schemas.ledger.repairs import Span
from schemas.parquet import Description
from schemas.position import Position, Range

AT = datetime(2026, 1, 1, tzinfo=UTC)
# partition 0 moves by 10 in each epoch, partition 1 by 1 from epoch 5 on
ENDS = {epoch: {0: 10 * epoch} | ({1: epoch - 4} if epoch > 4 else {}) for epoch in range(1, 9)}


def ranges(first: int, last: int) -> tuple[Range, ...]:
    before = ENDS.get(first - 1, {})
    return tuple(Range(p, before.get(p, 0), until) for p, until in ENDS[last].items())


def span(first: int, last: int) -> Span:
    position = Position(ENDS[last])
    return Span(
        first, last, True, AT, AT, "v", "t", frozenset(), ranges(first, last), position, 0, 0, 0
    )


def file(first: int, last: int) -> Description:
    return Description("master", "hits", first, last, ranges(first, last))


SPANS = [span(1, 2), span(3, 8)]


@pytest.mark.parametrize(
    ("first", "last", "whole"),
    [
        (3, 8, []),  # the ledger's own word
        (1, 2, []),
        (1, 8, []),  # what a build wrote
        (3, 4, [(3, 4)]),  # another file of the same epochs
        (3, 4, [(5, 8)]),  # what follows it
        (7, 8, [(3, 4), (5, 6)]),  # what comes before it
        (5, 6, [(3, 4), (7, 8)]),
        (5, 6, [(3, 4), (5, 5), (7, 8)]),
        (5, 6, [(1, 2), (3, 4), (7, 7), (8, 8)]),
    ],
)
def test_exactly(first: int, last: int, whole: list[tuple[int, int]]) -> None:
    found = covered(SPANS, [file(*each) for each in whole], first, last)
    assert found == Covered(ranges(first, last), True)


def test_at_most_where_nothing_tells() -> None:
    found = covered(SPANS, [file(3, 4)], 5, 6)
    assert found == Covered(ranges(3, 8), False)
    assert found.words == "offsets 0: 20..79, 1: 0..3 at most"


def test_unknown_epochs() -> None:
    assert covered(SPANS, [], 9, 9) is None
