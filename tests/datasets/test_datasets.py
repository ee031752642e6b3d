"""Public data, declared as projects, and what is served of it: the same as DuckDB says to queries
written by hand over the files themselves (`<project>/by_hand/<view>.sql`).

On the way: several tasks and epochs in an order that means nothing, records that are sent twice,
views built and published at one cut, one of them again at a later one, and speed beside.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import duckdb
import pytest

from schemas import definitions
from schemas.language import parser
from schemas.ledger import sealing
from schemas.ledger.epochs import epochs_after
from tests.api.world import Served
from tests.datasets import projects
from tests.datasets.projects import ALL, Estimate, Project, Sent
from tests.engine.batching import Sealed

Row = Mapping[str, object]
STANDARD_ERROR = Fraction("0.011")  # of a distinct count
QUANTILE_ERROR = Fraction("0.0101")


@pytest.mark.parametrize("project", ALL, ids=lambda each: each.name)
def test_every_view_has_its_query_by_hand(project: Project) -> None:
    statements, wrong = parser.parse(project.name, project.definitions)
    found, problems = definitions.read(statements)

    assert wrong + problems == []
    assert set(found.views) == {file.stem for file in (project.folder / "by_hand").iterdir()}
    assert len(list(Path(__file__).parent.glob("*/by_hand/*.sql"))) >= 15


@pytest.mark.slow
@pytest.mark.parametrize("project", ALL, ids=lambda each: each.name)
def test_what_is_served_is_what_the_files_say(project: Project, tmp_path: Path) -> None:
    _compare(project, tmp_path)


@pytest.mark.long
def test_three_million_flights(tmp_path: Path) -> None:
    departures = next(each for each in ALL if each.name == "departures")
    whole = replace(
        departures,
        read=lambda folder: Sent(projects.flights(folder, "2002-01-01")),
        variables={"until": "2002-01-01"},
    )
    _compare(whole, tmp_path)


def _compare(project: Project, scratch: Path) -> None:
    folder = project.data.open(scratch / "unpacked")
    sent = project.read(folder)
    world = Sealed(scratch / "world", stream=project.definitions, views={}, files=sent.files)

    last = _followed(world, sent)

    assert _counted(world) == (len(sent.records), 0 if not sent.again else 2 * sent.again, 0)
    served = Served(world.state)
    served.catch_up()
    by_hand = _by_hand(folder, project.variables)
    for view in world.folding.views:
        covered = served.coverage(view.name)
        assert 0 < covered["cut"] < covered["epoch"] == last
        query = project.folder / "by_hand" / f"{view.name}.sql"
        right = _rows(by_hand.execute(query.read_text(encoding="utf-8")))
        cursor = served.tables.cursor()
        ours = _rows(cursor.execute(f"FROM {view.name}"))
        cursor.close()
        assert right
        _same(view.name, ours, right, project.estimates.get(view.name, {}))
    served.close()
    world.ledger.close()


def _followed(world: Sealed, sent: Sent) -> int:
    """Have everything sent, part of it twice, and the views built on the way; gives the last
    epoch."""
    records = list(sent.records)
    random.Random(7).shuffle(records)
    fifth = -(-len(records) // 5)
    one, two, three, four, five = (records[at : at + fifth] for at in range(0, len(records), fifth))
    build = partial(world.builder().all_steps, full=False, until=None)
    views = [view.name for view in world.folding.views]
    world.epoch(one, two)
    world.epoch([])
    world.epoch(three, three[: sent.again])
    cut = world.seal_all()
    built = [build(view) for view in views]
    world.epoch(four[::2], four[1::2])
    world.seal_all()
    built += [build(view) for view in views[:1]]
    assert {each.proof.verdict for each in built} == {"equal"}
    assert {each.build.cut for each in built} == {cut, cut + 1}
    return world.epoch(five, one[: sent.again])


def _counted(world: Sealed) -> tuple[int, int, int]:
    """How many events count, how many were there before, how many did not fit."""
    sealed = sealing.sealed_ranges(world.ledger, world.name)
    parts = [*sealed, *epochs_after(world.ledger, world.name, sealed[-1].last, 10)]
    accepted, duplicates, rejected = (
        sum(getattr(part, name) for part in parts)
        for name in ("accepted", "duplicates", "rejected")
    )
    return accepted - duplicates, duplicates, rejected


def _by_hand(folder: Path, variables: Mapping[str, str]) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for name, value in ({"folder": str(folder)} | dict(variables)).items():
        connection.execute(f"SET VARIABLE {name} = ?", [value])
    return connection


def _rows(result: duckdb.DuckDBPyConnection) -> list[Row]:
    names = [column[0] for column in result.description]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def _same(
    view: str, ours: Iterable[Row], right: Iterable[Row], estimates: Mapping[str, Estimate]
) -> None:
    """By column names; rows are put side by side in the order of what is exact."""

    def place(row: Row) -> list[str]:
        exact = sorted(set(row) - set(estimates))
        return [repr(row[name]) for name in exact if not isinstance(row[name], float | dict)]

    served, expected = sorted(ours, key=place), sorted(right, key=place)
    assert len(served) == len(expected), view
    for mine, theirs in zip(served, expected, strict=True):
        assert list(mine) == list(theirs), view
        wrong = [name for name in mine if not _agree(mine[name], theirs[name], estimates.get(name))]
        assert not wrong, (view, wrong, mine, theirs)


def _agree(ours: object, right: object, estimate: Estimate | None) -> bool:
    if estimate is None:
        if isinstance(ours, float) and isinstance(right, float):
            return math.isclose(ours, right, rel_tol=1e-15)
        return ours == right
    if isinstance(ours, list) and isinstance(right, list):
        pairs = zip(ours, right, strict=True)
        return all(_agree(one, other, estimate) for one, other in pairs)
    if ours is None or right is None:
        return ours is right
    one, other = Fraction(str(ours)), Fraction(str(right))
    bounds: dict[Estimate, Fraction] = {
        # of few values it is off by two at most, of more by five standard errors
        "distinct": max(Fraction(2), 5 * STANDARD_ERROR * other),
        "quantile": QUANTILE_ERROR * abs(other),
        # of DuckDB's own rounding in the query by hand, one addition at a time
        "double": Fraction("1e-10") * abs(other),
    }
    return abs(one - other) <= bounds[estimate]
