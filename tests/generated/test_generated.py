"""The law on a thousand generated cases, and what becomes of one that fails.

EVERVIEW_CASES and EVERVIEW_SEED ask for more of them, or for others; `make test-nightly` for very
many.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.measures import ALL
from schemas.measures.measure import Call, Measure
from tests.generated import running, script
from tests.generated.shrinking import Failing, shrunk

pytestmark = pytest.mark.slow

SHARDS = 2  # of about as many cases, for workers that run them beside each other
COUNT = int(os.environ.get("EVERVIEW_CASES", "1000"))
SEED = int(os.environ.get("EVERVIEW_SEED", "7"))


@pytest.mark.parametrize("shard", range(SHARDS))
def test_generated_cases(shard: int, tmp_path: Path) -> None:
    bundles = -(-COUNT // (running.CASES * SHARDS))
    tally = running.run(SEED, range(shard * bundles, (shard + 1) * bundles))
    for at, failing in enumerate(tally.failing[:3]):
        found = shrunk(failing)
        path = tmp_path / f"counterexample_{at}.py"
        path.write_text(script.write(found, f"seed {SEED}: {found.view.name}"))
        pytest.fail(f"seed {SEED}; run {path}:\n{path.read_text()}\n{found.text}")
    assert tally.verdicts["refused"] <= 0.2 * tally.cases, tally.text()
    assert tally.verdicts["failed"] <= 0.03 * tally.cases, tally.text()
    assert tally.cases * SHARDS >= COUNT
    forms = {"groups", "groups joined", "groups ASOF", "events"}
    assert forms <= set(tally.forms) or COUNT < 1000, tally.text()
    # judged by DuckDB's own answer, nearly each of them; the others are read as synonyms
    judged = {
        name for name in ALL if tally.compared[f"{name} equal"] + tally.compared[f"{name} within"]
    }
    missing = set(ALL) - judged - {"min_by", "max_by"}
    assert len(missing) <= 2 or COUNT < 1000, f"{missing}\n{tally.text()}"


# what a measure must not do: `max` of two tasks is the lesser
BREAK = """
from dataclasses import replace
from schemas.measures import ALL
whole = ALL["max"].build
def broken(call):
    measure = whole(call)
    return replace(measure, partials=tuple(replace(p, merge="min") for p in measure.partials))
ALL["max"] = replace(ALL["max"], build=broken)
"""


def test_a_failing_case_is_made_small_and_runs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ALL["max"].build

    def broken(call: Call) -> Measure:
        measure = whole(call)
        partials = tuple(replace(partial, merge="min") for partial in measure.partials)
        return replace(measure, partials=partials)

    with monkeypatch.context() as patch:
        patch.setitem(ALL, "max", replace(ALL["max"], build=broken))
        number, failing = 0, list[Failing]()
        while not failing:
            failing = running.run(SEED, range(number, number + 1)).failing
            number += 1
        found = shrunk(failing[0])
    # the two values that it takes, in two tasks, and one aggregate
    assert len(found.events) == 2
    assert [item.sql.startswith("max(") for item in found.view.items] == [True]
    assert sorted(len(split.tasks) for split in found.splits) == [1, 2]
    path = tmp_path / "counterexample.py"
    path.write_text(script.write(found, "max of two tasks"))
    alone = f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')"
    right = _run(alone)
    assert right.returncode == 0, right.stderr
    assert "agreed" in right.stdout
    wrong = _run(BREAK + alone)
    assert wrong.returncode == 1, wrong.stderr
    assert found.view.text in wrong.stdout
    assert found.text in wrong.stdout


def _run(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
