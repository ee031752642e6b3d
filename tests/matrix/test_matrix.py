"""The fault matrix, row by row; and each guard taken out, which turns a row red."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.matrix import events, kafka, micro_batch, rebuild, sealing, times
from tests.matrix.guards import GUARDS
from tests.matrix.process import Processes
from tests.matrix.registry import ROWS, Row, in_order
from tests.matrix.stage import Stage
from tests.matrix.world import remember_definitions

ROOMS = (micro_batch, kafka, sealing, rebuild, times, events)
PLAYED = [row for row in in_order() if row.scenario is not None]


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    made = Processes()
    yield made
    made.close()


@pytest.fixture
def stage(
    tmp_path: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stage]:
    remember_definitions(monkeypatch)
    made = Stage(tmp_path, processes, monkeypatch)
    yield made
    made.close()


@pytest.mark.parametrize("row", PLAYED, ids=lambda row: row.number)
def test_row(stage: Stage, row: Row) -> None:
    assert row.scenario is not None
    row.scenario(stage)


@pytest.mark.parametrize("guard", GUARDS)
def test_without(stage: Stage, guard: str) -> None:
    GUARDS[guard].remove(stage.patch)
    stage.without = guard
    row = ROWS[GUARDS[guard].row]
    assert row.scenario is not None
    with pytest.raises(Exception):  # noqa: B017, PT011
        row.scenario(stage)
