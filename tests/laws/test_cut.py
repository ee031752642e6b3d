"""The law of the cut: every epoch is on exactly one side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.cut import Cut
from schemas.engine import connect
from schemas.errors import CutInvalid

epochs = st.integers(0, 2**62)


@given(epochs, epochs)
def test_6a_every_epoch_is_owned_by_one_side(cut: int, epoch: int) -> None:
    assert Cut(cut).owns_batch(epoch) != Cut(cut).owns_speed(epoch)


@given(epochs)
def test_6a_the_cut_itself_is_batchs(cut: int) -> None:
    assert Cut(cut).owns_batch(cut)
    assert Cut(cut).owns_speed(cut + 1)


@given(epochs, epochs, epochs)
def test_a_later_cut_takes_nothing_from_batch(cut: int, later: int, epoch: int) -> None:
    cut, later = sorted((cut, later))
    assert not (Cut(cut).owns_batch(epoch) and Cut(later).owns_speed(epoch))


def test_sql_and_python_agree() -> None:
    engine = connect()
    for cut in map(Cut, range(4)):
        for sql, owns in (
            (cut.batch_sql("i"), cut.owns_batch),
            (cut.speed_sql("i"), cut.owns_speed),
        ):
            rows = engine.con.sql("FROM range(6) r(i)").filter(sql).fetchall()
            assert [row[0] for row in rows] == [i for i in range(6) if owns(i)]


def test_a_cut_below_zero_is_refused() -> None:
    with pytest.raises(CutInvalid, match="got -1"):
        Cut(-1)
