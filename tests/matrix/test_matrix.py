"""The fault matrix, row by row; and each guard taken out, which turns a row red."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.errors import PySparkException

from schemas.errors import EverviewError
from tests.matrix import events, kafka, micro_batch, rebuild, sealing, times
from tests.matrix.guards import GUARDS
from tests.matrix.process import Processes
from tests.matrix.registry import ROWS, Row, in_order
from tests.matrix.stage import Stage

ROOT = Path(__file__).parents[2]
ROOMS = (micro_batch, kafka, sealing, rebuild, times, events)
ALL_ROWS = in_order()
PLAYED = [row for row in ALL_ROWS if row.scenario is not None]
LONG = (sealing, rebuild, times, events)  # left to `make test`


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    made = Processes()
    yield made
    made.close()


@pytest.fixture
def stage(tmp_path: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    made = Stage(tmp_path, processes, monkeypatch)
    yield made
    made.close()


def _marks(row: Row) -> list[pytest.MarkDecorator]:
    long = {room.__name__ for room in LONG}
    return [pytest.mark.slow] if row.scenario.__module__ in long else []


@pytest.mark.parametrize(
    "row", [pytest.param(row, marks=_marks(row), id=row.number) for row in PLAYED]
)
def test_row(stage: Stage, row: Row) -> None:
    assert row.scenario is not None
    row.scenario(stage)


@pytest.mark.long
@pytest.mark.parametrize("guard", GUARDS)
def test_without(stage: Stage, guard: str) -> None:
    """The row fails, by what it finds or by everview's own words; not by a patch that is wrong."""
    GUARDS[guard].remove(stage.patch)
    stage.without = guard
    row = ROWS[GUARDS[guard].row]
    assert row.scenario is not None
    with pytest.raises((AssertionError, EverviewError, PySparkException)):
        row.scenario(stage)


def test_every_row_of_the_matrix_is_played_or_shown_or_has_a_reason() -> None:
    numbers = [f"F{each}" for each in range(1, 49)] + [f"E{each}" for each in range(1, 32)]
    assert [row.number for row in ALL_ROWS] == numbers
    for row in ALL_ROWS:
        assert row.scenario or row.tests or row.reason, row.number


def test_every_test_that_a_row_names_exists() -> None:
    for row in ALL_ROWS:
        for test in row.tests:
            file, _, function = test.partition("::")
            text = (ROOT / file).read_text(encoding="utf-8")
            assert not function or f"\ndef {function}(" in text, (row.number, test)


def test_every_room_of_guards_has_teeth() -> None:
    rows = {guard.row for guard in GUARDS.values()}
    assert rows <= {row.number for row in PLAYED}
    for room in ROOMS:
        own = {row.number for row in PLAYED if row.scenario.__module__ == room.__name__}
        assert own & rows, room.__name__


def test_the_recount_is_a_program_of_its_own() -> None:
    tree = ast.parse((ROOT / "tests" / "matrix" / "recount.py").read_text(encoding="utf-8"))
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names
