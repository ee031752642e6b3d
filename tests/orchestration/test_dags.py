"""The DAG file as Airflow reads it: what it makes of `dags.json`, and of one that is none."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.engine.conftest import wait_until
from tests.orchestration.conftest import Airflow

pytestmark = pytest.mark.slow  # Airflow takes seconds to import

SQL = "CREATE VIEW by_key AS\nSELECT k, count(*) AS hits FROM hits GROUP BY k"


def view(name: str, schedule: str | None, sql: str = SQL) -> dict[str, Any]:
    about = "stream hits, topic clicks"
    told = {"name": name, "stream": "hits", "schedule": schedule, "sql": sql, "about": about}
    return told | {"version": "0123456789abcdef"}


def dags_json(folder: Path, *views: dict[str, Any], **changed: Any) -> Path:
    told = {
        "format": 1,
        "state": "/a state",
        "project": "/a project",
        "python": sys.executable,
        "application": "/everview/main.py",
        "flags": ["--memory", "1GB"],
        "driver_memory": "1g",
        "py_files": None,
        "connection": "spark_default",
        "pool": "builds",
        "views": list(views),
    }
    file = folder / "dags.json"
    file.write_text(json.dumps(told | changed), encoding="utf-8")
    return file


def test_there_is_a_dag_for_each_view(airflow: Airflow, tmp_path: Path) -> None:
    file = dags_json(
        tmp_path,
        view("by_key", "@hourly"),
        view("By_Day", "30 3 * * mon", "CREATE VIEW By_Day AS SELECT 1 -- of days"),
        view("by_hand", None),
    )

    found = airflow.parse(file)

    assert found["errors"] == []
    assert found["ours"] == []  # it runs where nothing of everview is installed, nor Spark
    made = found["dags"]
    schedules = {name: dag["schedule"] for name, dag in made.items()}
    assert schedules == {
        "rebuild_by_key": "0 * * * *",
        "rebuild_By_Day": "30 3 * * mon",
        "rebuild_by_hand": None,
    }
    for dag in made.values():
        assert (dag["max_active_runs"], dag["catchup"], dag["paused"]) == (1, False, False)
        assert dag["timezone"] == "UTC"
        assert dag["params"] == {"full": False, "until": None}
        assert dag["forms"]["full"]["type"] == "boolean"
        assert dag["forms"]["until"]["type"] == ["null", "integer"]
        assert dag["tags"] == ["everview", "stream:hits"]
    assert SQL in made["rebuild_by_key"]["docs"]
    assert "@hourly" in made["rebuild_by_key"]["docs"]
    assert "-- of days" in made["rebuild_By_Day"]["docs"]
    assert "started by hand" in made["rebuild_by_hand"]["docs"]


def test_tasks_follow_each_other_in_one_pool(airflow: Airflow, tmp_path: Path) -> None:
    file = dags_json(tmp_path, view("by_key", None))

    tasks = airflow.parse(file)["dags"]["rebuild_by_key"]["tasks"]

    assert {name: task["after"] for name, task in tasks.items()} == {
        "choose_cut": [],
        "rebuild": ["choose_cut"],
        "prove": ["rebuild"],
        "publish": ["prove"],
        "release": ["choose_cut", "publish"],
    }
    assert {task["pool"] for task in tasks.values()} == {"builds"}
    assert all("upstream" in task["weight"].lower() for task in tasks.values())
    assert {task["retries"] for task in tasks.values()} == {2}
    assert [name for name, task in tasks.items() if task["teardown"]] == ["release"]
    outlets = {name: task["outlets"] for name, task in tasks.items() if task["outlets"]}
    assert outlets == {"publish": [["everview_by_key", "everview://views/by_key"]]}
    assert tasks["prove"]["command"][:9] == [
        *(sys.executable, "-P", "-m", "batch.run", "--state", "/a state", "--json"),
        *("--memory", "1GB"),
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "must name a file with JSON"),
        ("", "must name a file with JSON"),
        ('{"format": 1, "vie', "must name a file with JSON"),
        ("[]", "must be of format 1"),
        ('{"format": 2, "views": []}', "must be of format 1"),
    ],
)
def test_a_file_that_is_none_is_an_import_error(
    airflow: Airflow, tmp_path: Path, content: str | None, expected: str
) -> None:
    file = tmp_path / "dags.json"
    if content is not None:
        file.write_text(content)

    found = airflow.parse(file)

    assert found["dags"] == {}
    (error,) = found["errors"]
    assert expected in error
    assert "everview deploy" in error


def test_without_the_variable_there_is_an_import_error(airflow: Airflow) -> None:
    (error,) = airflow.parse(None)["errors"]
    assert "EVERVIEW_DAGS must name a file; it is not set" in error


def test_a_state_without_views_has_no_dag(airflow: Airflow, tmp_path: Path) -> None:
    found = airflow.parse(dags_json(tmp_path))
    assert (found["dags"], found["errors"]) == ({}, [])


def test_a_stopped_task_ends_its_command(airflow: Airflow, tmp_path: Path) -> None:
    file = dags_json(tmp_path, view("by_key", None))
    process = airflow.start("stop", told=file)
    wait_until(lambda: bool(command_of(process)), "the command")
    (command,) = command_of(process)

    process.send_signal(signal.SIGTERM)
    told, _ = airflow.end(process, "stop")

    assert not command.is_running()
    assert told["error"] == "AirflowException"  # another one, AirflowFailException, ends retries
    assert "stopped by a signal" in told["message"]


def command_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    assert process.poll() is None
    children = psutil.Process(process.pid).children()
    return [each for each in children if "signal.pause()" in " ".join(each.cmdline())]
