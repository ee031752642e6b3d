"""The laws of positions: a partial order, and contiguity."""

from __future__ import annotations

import json
import pickle
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import RangeInvalid, RangeNotContiguous
from schemas.position import Position, Range

offsets = st.integers(0, 2**63 - 1)
positions = st.dictionaries(st.integers(0, 3), st.integers(0, 3)).map(Position)
runs = st.dictionaries(
    st.integers(0, 5),
    st.lists(st.integers(0, 2**40), min_size=2, max_size=6).map(sorted),
)


def ranges(run: dict[int, list[int]]) -> list[Range]:
    """Contiguous ranges from the bounds of each partition."""
    return [
        Range(partition, start, until)
        for partition, bounds in run.items()
        for start, until in pairwise(bounds)
    ]


@given(positions)
def test_order_is_reflexive(a: Position) -> None:
    assert a <= a
    assert not a < a


@given(positions, positions)
def test_order_is_antisymmetric(a: Position, b: Position) -> None:
    assert (a <= b and b <= a) == (a == b)
    if a == b:
        assert hash(a) == hash(b)


@given(positions, positions, positions)
def test_order_is_transitive(a: Position, b: Position, c: Position) -> None:
    if a <= b and b <= c:
        assert a <= c


def test_order_is_partial() -> None:
    a, b = Position({0: 1}), Position({1: 1})
    assert not a <= b
    assert not b <= a
    assert Position() <= a


@given(runs, st.integers(0, 30))
def test_advancing_at_once_is_advancing_in_parts(run: dict[int, list[int]], cut: int) -> None:
    whole = ranges(run)
    assert Position().advance(whole) == Position().advance(whole[:cut]).advance(whole[cut:])


@given(runs, st.integers(0, 30))
def test_11_a_position_never_goes_back_by_advancing(run: dict[int, list[int]], cut: int) -> None:
    whole = ranges(run)
    before = Position().advance(whole[:cut])
    assert before <= before.advance(whole[cut:])


@given(st.integers(0, 9), offsets, offsets, offsets)
def test_2a_a_range_starts_where_the_one_before_ends(
    partition: int, start: int, until: int, other: int
) -> None:
    start, until = sorted((start, until))
    position = Position().advance([Range(partition, start, until)])

    if other == until:
        assert position.advance([Range(partition, other, other)]) == position
        return
    with pytest.raises(RangeNotContiguous) as caught:
        position.advance([Range(partition, other, max(other, until))])

    assert (caught.value.partition, caught.value.expected) == (partition, until)
    assert caught.value.start == other


@given(st.dictionaries(st.integers(0, 99), offsets))
def test_a_position_survives_json_and_pickle(there: dict[int, int]) -> None:
    position = Position(there)
    assert Position.from_json(json.loads(json.dumps(position.json()))) == position
    assert pickle.loads(pickle.dumps(position)) == position


def test_json_is_in_order_of_partitions() -> None:
    assert list(Position({10: 1, 2: 7}).json().items()) == [("2", 7), ("10", 1)]


def test_a_position_does_not_change_with_what_it_was_made_of() -> None:
    there = {0: 1}
    position = Position(there)
    there[0] = 2
    assert position.offsets[0] == 1
    with pytest.raises(TypeError):
        position.offsets[0] = 2  # type: ignore[index]


@pytest.mark.parametrize(("partition", "start", "until"), [(0, 2, 1), (0, -1, 1), (-1, 0, 1)])
def test_ranges_that_no_log_can_have_are_refused(partition: int, start: int, until: int) -> None:
    with pytest.raises(RangeInvalid, match=f"partition {partition} "):
        Range(partition, start, until)


def test_positions_that_no_log_can_have_are_refused() -> None:
    with pytest.raises(RangeInvalid, match="next offset -1"):
        Position({0: -1})


def test_the_size_of_a_range_is_its_offsets() -> None:
    assert Range(0, 5, 12).size == 7
