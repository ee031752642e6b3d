"""Runs of the DAG, by Airflow, with spark-submit, on a state with sealed epochs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from batch import run
from infra import dags, settings
from schemas import project
from schemas.ledger import builds, leases, versions
from schemas.ledger.files import BATCH
from schemas.ledger.process import this_process
from tests.engine.batching import Sealed, current, events
from tests.engine.test_batch_proof import alter, file_of
from tests.orchestration.conftest import Airflow

pytestmark = [pytest.mark.spark, pytest.mark.slow]

STEPS = ("choose_cut", "rebuild", "prove", "publish", "release")
SKIPPED = dict.fromkeys(STEPS, "skipped")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Sealed]:
    made = Sealed(tmp_path)
    yield made
    made.ledger.close()


def told(world: Sealed) -> Path:
    folder = world.state.parent / "project"
    (folder / "everview.toml").write_text('[batch]\nmemory = "512MB"\ndriver_memory = "512m"\n')
    dags.write(world.state, folder, settings.load(folder, {}), project.load(folder))
    return world.state / dags.FILE


def free(world: Sealed, view: str) -> bool:
    return builds.build_lease(view) not in {each.name for each in leases.leases(world.ledger)}


def test_a_run_publishes_and_a_refused_one_does_not(airflow: Airflow, world: Sealed) -> None:
    world.epochs(events(40), [], events(60, start=30))
    file = told(world)

    done, _ = airflow.run(file, "by_key")

    assert done["state"] == "success"
    assert done["tasks"] == dict.fromkeys(STEPS, "success")
    (published,) = builds.publications(world.ledger, "by_key")
    assert (published.cut, published.served) == (3, True)
    assert world.finished("by_key") == world.expected("by_key", 3)
    rows = len(world.finished("by_key"))
    extra = {"publication": published.id, "cut": 3, "rows": rows, "verdict": "equal"}
    assert done["assets"] == {"everview://views/by_key": extra}
    assert free(world, "by_key")

    # nothing is new: nothing is built
    again, log = airflow.run(file, "by_key")
    assert (again["state"], again["tasks"]) == ("success", SKIPPED)
    assert "published up to epoch 3 already; there is nothing to build" in log

    # the batch view that the next build goes on from is wrong
    alter(world, file_of(world, BATCH, world.folding.view("by_key").version), "_count_0")
    world.epochs(events(12, start=30))
    refused, log = airflow.run(file, "by_key")

    assert refused["state"] == "failed"
    assert refused["tasks"]["prove"] == "failed"
    assert refused["tries"]["prove"] == 1
    assert refused["tasks"]["publish"] == "upstream_failed"
    assert refused["assets"] == {}
    different = [line for line in log.splitlines() if "rows of the view, group (k = 'k1')" in line]
    assert different
    assert current(world.state, "by_key")["publication"] == published.id
    (still,) = builds.publications(world.ledger, "by_key")
    assert still.served
    assert free(world, "by_key")


@pytest.mark.long
def test_a_killed_rebuild_is_tried_again(airflow: Airflow, world: Sealed) -> None:
    world.epochs(events(40))
    world.epochs(events(9, start=40))
    asked = {"full": True, "until": 1}  # as the form of the DAG asks

    done, _ = airflow.run(told(world), "by_two", asked, FAIL_ONCE="rebuild.after_files=kill")

    assert done["tasks"] == dict.fromkeys(STEPS, "success")
    assert done["tries"]["rebuild"] == 2
    assert world.finished("by_two") == world.expected("by_two", 1)
    (published,) = builds.publications(world.ledger, "by_two")
    assert published.id == done["results"]["choose_cut"]["id"] == 1
    assert builds.build(world.ledger, 1).full
    # of the try that was killed nothing is left
    named = {each.file.path for each in builds.build_files(world.ledger, 1)}
    folders = [world.state / "batch", world.state / "views"]
    there = {path for folder in folders for path in folder.rglob("*.parquet")}
    assert {path.relative_to(world.state).as_posix() for path in there} == named


def test_a_run_beside_another_build_is_skipped(airflow: Airflow, world: Sealed) -> None:
    world.epochs(events(40))
    now = datetime.now(UTC)
    name, holder = builds.build_lease("by_key"), this_process()
    leases.take(world.ledger, name, holder, now, timedelta(days=1), alive=lambda _: True)

    done, log = airflow.run(told(world), "by_key")

    assert (done["state"], done["tasks"]) == ("success", SKIPPED)
    (reason,) = [line for line in log.splitlines() if "Skipping task" in line]
    assert f"process {os.getpid()}" in reason


def test_a_build_that_failed_for_good_is_given_up(
    airflow: Airflow, world: Sealed, capfd: pytest.CaptureFixture[str]
) -> None:
    world.epochs(events(40))
    nowhere = json.dumps({"conn_type": "spark", "host": "local[none]"})

    done, _ = airflow.run(told(world), "by_key", AIRFLOW_CONN_SPARK_DEFAULT=nowhere, ONE_TRY="1")

    assert done["state"] == "failed"
    assert done["tasks"]["rebuild"] == "failed"
    assert (done["tasks"]["prove"], done["tasks"]["release"]) == ("upstream_failed", "success")
    found = builds.build(world.ledger, 1)
    assert found.state == "failed"
    assert "given up" in (found.message or "")
    # and the next one begins at once
    assert run.main(["--state", str(world.state), "--step", "plan", "by_key"]) == run.DONE
    assert json.loads(capfd.readouterr().out)["id"] == 2
    assert [row.publication for row in versions.views(world.ledger) if row.name == "by_key"] == [
        None
    ]
