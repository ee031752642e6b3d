"""What counts as a difference between two relations, and how it is told."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from batch import compare
from batch.compare import Comparison
from batch.stopping import Stopping
from schemas.compile import CompiledView
from schemas.engine import connect
from tests.api.world import STREAM
from tests.folding import load

VIEWS = {
    "by_key": "SELECT k, count(*) AS hits, avg(n) AS mean FROM hits GROUP BY k",
    "estimates": "SELECT k, approx_count_distinct(u) AS users, "
    "2 * approx_count_distinct(u) AS twice FROM hits GROUP BY k",
    "ranked": "SELECT k, approx_top_k(u, 2) AS top, approx_quantile(n, 0.5) AS half, "
    "approx_quantile(n, [0, 1]) AS ends FROM hits GROUP BY k",
    "hidden": "SELECT count(*) AS hits, avg(n) AS mean FROM hits GROUP BY k",
    "everything": "SELECT count(*) AS hits FROM hits",
}


def view(folder: Path, name: str) -> CompiledView:
    loaded = load(folder, STREAM, f"CREATE VIEW {name} AS {VIEWS[name]};")
    (found,) = loaded.views()
    return found


def compared(of: CompiledView, ours: str, exact: str) -> Comparison:
    columns = ", ".join(name for name, _ in of.columns)
    sources = [f"(SELECT * FROM (VALUES {rows}) t({columns}))" for rows in (ours, exact)]
    return compare.rows(connect(), of, *sources)


@pytest.mark.parametrize(
    ("ours", "exact", "different"),
    [
        ("('a', 1, 2.0::DOUBLE)", "('a', 1, 2.0::DOUBLE)", 0),
        ("('a', 1, 0.1::DOUBLE + 0.2)", "('a', 1, 0.3::DOUBLE)", 0),
        ("('a', 1, 1.0000001::DOUBLE)", "('a', 1, 1.0::DOUBLE)", 1),
        ("('a', 1, 'nan'::DOUBLE)", "('a', 1, 'nan'::DOUBLE)", 0),
        ("('a', 1, 'inf'::DOUBLE)", "('a', 1, '-inf'::DOUBLE)", 1),
        ("('a', 1, 'nan'::DOUBLE)", "('a', 1, 1.0::DOUBLE)", 1),
        ("('a', 1, NULL::DOUBLE)", "('a', 1, NULL::DOUBLE)", 0),
        ("('a', 1, NULL::DOUBLE)", "('a', 1, 0.0::DOUBLE)", 1),
        ("(NULL, 1, 2.0::DOUBLE)", "(NULL, 1, 2.0::DOUBLE)", 0),
        ("(NULL, 1, 2.0::DOUBLE)", "('a', 1, 2.0::DOUBLE)", 2),
        ("('a', 1, 2.0::DOUBLE), ('a', 1, 2.0::DOUBLE)", "('a', 1, 2.0::DOUBLE)", 1),
    ],
)
def test_rows_are_paired_by_their_keys(
    tmp_path: Path, ours: str, exact: str, different: int
) -> None:
    assert compared(view(tmp_path, "by_key"), ours, exact).different == different


def test_a_difference_names_group_and_column(tmp_path: Path) -> None:
    found = compared(
        view(tmp_path, "by_key"),
        "('a', 1, 2.0::DOUBLE), ('b', 3, 1.0), ('c', 7, 1.0)",
        "('a', 2, 3.0::DOUBLE), ('b', 3, 1.0), ('d', 7, 1.0)",
    )

    assert (found.built, found.expected, found.different) == (3, 3, 3)
    told = [(each.group["k"], each.column, each.built, each.expected) for each in found.differences]
    assert told == [
        ("a", "hits", "1", "2"),
        ("a", "mean", "2.0", "3.0"),
        ("c", "", "hits = 7, mean = 1.0", compare.MISSING),
        ("d", "", compare.MISSING, "hits = 7, mean = 1.0"),
    ]


def test_no_more_are_told_than_can_be_read(tmp_path: Path) -> None:
    ours = ", ".join(f"('k{at:03}', {at}, 1.0::DOUBLE)" for at in range(100))
    exact = ", ".join(f"('k{at:03}', {at + 1}, 1.0::DOUBLE)" for at in range(100))
    found = compared(view(tmp_path, "by_key"), ours, exact)
    assert found.different == 100
    assert len(found.differences) == compare.MOST


def test_an_estimate_is_within_its_bound_and_what_is_made_of_it_is_left_out(tmp_path: Path) -> None:
    estimates = view(tmp_path, "estimates")
    assert compared(estimates, "('a', 1050, 1)", "('a', 1000, 2)").different == 0
    assert compared(estimates, "('a', 1500, 1)", "('a', 1000, 2)").different == 1
    assert compare.by_calls(estimates) == ["twice"]


@pytest.mark.parametrize(
    ("top", "half", "ends", "different"),
    [
        ("['x', 'y']", "100", "[1, 900]", 0),
        ("['x', 'y']", "101", "[1, 900]", 0),
        ("['y', 'x']", "100", "[1, 900]", 1),
        ("['x']", "100", "[1, 900]", 1),
        ("['x', 'y']", "102", "[1, 900]", 1),
        ("['x', 'y']", "100", "[2, 900]", 1),
        ("NULL", "100", "[1, 900]", 1),
        ("['x', 'y']", "NULL", "[1, 900]", 1),
    ],
)
def test_a_ranking_is_judged_by_all_counts_and_a_quantile_by_the_exact_one(
    tmp_path: Path, top: str, half: str, ends: str, different: int
) -> None:
    exact = "('a', MAP {'z': 1::UBIGINT, 'y': 4, 'x': 4}, 100, [1, 900])"
    found = compared(view(tmp_path, "ranked"), f"('a', {top}, {half}, {ends})", exact)
    assert found.different == different


def test_no_value_at_all_has_neither_ranking_nor_quantile(tmp_path: Path) -> None:
    exact = "('a', NULL::MAP(VARCHAR, UBIGINT), NULL::INTEGER, NULL::INTEGER[])"
    none = "('a', NULL::VARCHAR[], NULL::INTEGER, NULL::INTEGER[])"
    assert compared(view(tmp_path, "ranked"), none, exact).different == 0


def test_rows_whose_key_is_not_shown_are_a_multiset(tmp_path: Path) -> None:
    hidden = view(tmp_path, "hidden")
    ours = "(1, 2.0::DOUBLE), (1, 3.0), (2, 1.0)"
    assert compared(hidden, ours, "(2, 1.0::DOUBLE), (1, 3.0), (1, 2.0)").different == 0
    assert compared(hidden, ours, "(2, 1.0::DOUBLE), (1, 3.0), (1, 2.5)").different == 1
    assert compared(hidden, ours, "(2, 1.0::DOUBLE), (1, 3.0)").different > 0


def test_a_view_without_keys_has_one_row(tmp_path: Path) -> None:
    everything = view(tmp_path, "everything")
    assert compared(everything, "(1)", "(1)").different == 0
    assert compared(everything, "(1)", "(2)").differences[0].group == {}
    assert compared(everything, "(1), (1)", "(1)").different == 1


def test_partials_are_equal_as_multisets(tmp_path: Path) -> None:
    own = connect()
    (core,) = view(tmp_path, "by_key").tables
    columns = ", ".join(name for name, _ in [*core.keys, *((n, t) for n, t, _ in core.values)])
    rows = {
        "ours": "('a', 1, 2, 3), ('b', 1, 2, 3), (NULL, 1, NULL, 0)",
        "same": "(NULL, 1, NULL, 0), ('b', 1, 2, 3), ('a', 1, 2, 3)",
        "twice": "(NULL, 1, NULL, 0), ('b', 1, 2, 3), ('a', 1, 2, 3), ('a', 1, 2, 3)",
        "other": "(NULL, 1, NULL, 0), ('b', 1, 2, 4), ('a', 1, 2, 3)",
    }
    for name, values in rows.items():
        own.execute(f"CREATE TABLE {name} AS SELECT * FROM (VALUES {values}) t({columns})")

    assert compare.partials(own, core, "ours", "same").different == 0
    assert compare.partials(own, core, "ours", "twice").different == 1
    (found,) = compare.partials(own, core, "ours", "other").differences
    assert (found.group, found.built, found.expected) == ({"k": "b"}, "3", "4")


def test_a_signal_waits_for_what_must_not_be_left() -> None:
    stopping, reached = Stopping(), []

    def work() -> None:
        with stopping.listening():
            with stopping.held():
                os.kill(os.getpid(), signal.SIGTERM)
                reached.append("the end of it")
            reached.append("more")

    with pytest.raises(SystemExit, match="stopped by signal 15"):
        work()
    assert reached == ["the end of it"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
