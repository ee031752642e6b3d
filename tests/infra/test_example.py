"""The example project: its data, its definitions, and what `produce` sends of it."""

from __future__ import annotations

import itertools
import os
import runpy
import shutil
from pathlib import Path

from infra import settings
from infra.records import Source
from infra.verbs.produce import shape_of
from schemas import project

EXAMPLE = Path(__file__).parents[2] / "examples" / "flights"


def prepared(folder: Path) -> Path:
    """A copy of the example with its data."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("data", ".everview"))
    prepare = runpy.run_path(str(EXAMPLE / "prepare.py"))["prepare"]
    prepare(folder / "data")
    return folder


def test_the_example_is_a_good_project(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "flights")

    loaded = project.load(folder)

    assert [stream.name for stream in loaded.streams()] == ["flights"]
    assert len(loaded.definitions.references) == 4
    assert {view.name for view in loaded.views()} >= {"carrier_hour", "carrier_day", "everything"}
    settings.load(folder, {})


def test_its_lines_are_sent_as_they_are(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "flights")
    file = folder / "data" / "flights.csv"
    stream = project.load(folder).definitions.streams["flights"]

    source = Source(str(file), shape_of(stream))
    sent = [value for _, value in itertools.islice(source.records(), 1000)]

    with file.open("rb") as lines:
        assert sent == [line.rstrip() for line in itertools.islice(lines, 1, 1001)]


def test_preparing_again_changes_nothing(tmp_path: Path) -> None:
    prepare = runpy.run_path(str(EXAMPLE / "prepare.py"))["prepare"]
    folder = prepare(tmp_path / "data")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}

    prepare(folder)

    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert sorted(before) == [
        "airlines.csv",
        "airports.csv",
        "flights.csv",
        "planes.csv",
        "weather.csv",
    ]
    assert os.path.getsize(folder / "flights.csv") > 30_000_000
