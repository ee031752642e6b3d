"""`spark-submit` of a rebuild, with nothing of everview on the path but the zip; everybody can read
what it wrote."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import polars
import pytest

from schemas.ledger import builds
from tests.api.world import VIEWS
from tests.engine import submitting
from tests.engine.batching import Sealed, events, finished_files, ordered
from tests.engine.conftest import ROOT

pytestmark = pytest.mark.spark


def spark_submit(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [submitting.COMMAND, "--master", "local[2,4]", "--driver-memory", "512m"]
    command += ["--py-files", str(submitting.everview_zip(folder, "batch"))]
    command += [str(ROOT / "tests" / "engine" / "spark_read_back.py")]
    command += [submitting.MAIN, str(folder / "rows.json"), *arguments]
    own = submitting.environment()
    return subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, check=False)


def texts(rows: list[tuple[Any, ...]]) -> list[tuple[str, ...]]:
    return sorted(tuple(map(str, row)) for row in rows)


def test_a_rebuild_by_spark_submit_is_right_and_readable(tmp_path: Path) -> None:
    world = Sealed(tmp_path / "world")
    for at in range(3):
        world.epochs(events(400, start=at * 300), events(5))

    divided = ("--task-bytes", "1", "--bucket-bytes", "5000")
    run = ("batch.run", "--state", str(world.state), "--json", *divided)
    done = spark_submit(tmp_path, *run, *VIEWS)

    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [each["view"] for each in told] == list(VIEWS)
    assert {each["verdict"] for each in told} == {"equal"}
    by_spark = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    for view in VIEWS:
        expected = world.expected(view, 6)
        if "visitors" in view:  # estimates: what Spark's tasks made is what one process makes
            expected = ordered(world.finished(view))
        assert world.finished(view) == expected
        rows = polars.read_parquet(finished_files(world.state, view)).rows()
        assert texts(rows) == texts(expected)
        assert texts([tuple(row) for row in by_spark[view]]) == texts(expected)
    (published,) = builds.publications(world.ledger, "by_two")
    assert len(builds.build_files(world.ledger, published.id)) > 4
    world.ledger.close()
