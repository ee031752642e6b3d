"""The promises of docs/accuracy.md on smaller samples than those of `make bench`."""

from __future__ import annotations

import pytest

from infra.bench import accuracy

pytestmark = pytest.mark.slow

SEEDS = {1: 3_000, 10: 3_000, 100: 2_000, 199: 2_000, 1_000: 500, 10_000: 200, 100_000: 20}


def test_distinct_counts_are_as_near_as_promised() -> None:
    found = list(accuracy.of_counts(SEEDS))
    assert [(each.size, each.seeds) for each in found] == list(SEEDS.items())
    for each in found:
        assert each.within >= 0.997
        # five standard errors of the mean, and a tenth of one count
        assert abs(each.mean) <= 5 * 0.0111 / each.seeds**0.5 + 0.1 / each.size
        assert each.spread <= 0.0111 * 1.5
        assert each.near >= 0.999 or each.size >= accuracy.FEW
        assert each.off == 0 or each.size > 1
    # few share a register, and are counted rather than estimated
    assert found[2].spread < 0.002
    assert found[4].spread < 0.004


def test_quantiles_are_as_near_as_promised() -> None:
    found = list(accuracy.of_quantiles(values=5_000, seeds=3))
    assert len(found) == len(accuracy.KINDS)
    for each in found:
        assert max(each.worst) <= 0.01 * (1 + 1e-9), each
        assert each.ends, each
        assert each.ordered, each
        assert each.rows <= each.bound, each
    constant = next(each for each in found if each.kind == "constant")
    assert set(constant.worst) == {0.0}
    assert constant.rows == 1
    # nine orders of magnitude
    assert all(each.rows < 2_300 for each in found if "exponent" not in each.kind)
