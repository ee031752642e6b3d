"""What Airflow is told: `dags.json`, as `deploy` writes it."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from infra import cli, dags, deployment, settings
from infra.verbs import up
from schemas import project
from schemas.ledger import versions
from schemas.ledger.connect import open_ledger

STREAM = "CREATE STREAM hits (k VARCHAR, n INTEGER) WITH (topic = 'clicks', format = 'json');\n"
BY_KEY = "CREATE VIEW by_key{} AS SELECT k, count(*) AS hits FROM hits GROUP BY k"
TOTAL = "CREATE VIEW total AS SELECT count(*) AS hits FROM hits"
HOURLY = " WITH (rebuild = '@hourly')"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "project"
    made.mkdir()
    write(made, BY_KEY.format(HOURLY), TOTAL)
    return made


def write(folder: Path, *views: str, toml: str = "") -> None:
    text = "".join(f"{view};\n" for view in views)
    (folder / "all.sql").write_text(f"{STREAM}-- of keys\n{text}", encoding="utf-8")
    (folder / "everview.toml").write_text(toml, encoding="utf-8")


def deploy(folder: Path, *options: str) -> int:
    return cli.main(["deploy", *options, "--project", str(folder)])


def told(folder: Path) -> dict[str, Any]:
    text = (folder / ".everview" / "dags.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def schedules(folder: Path) -> dict[str, str | None]:
    return {view["name"]: view["schedule"] for view in told(folder)["views"]}


def registered(folder: Path) -> dict[str, str]:
    with open_ledger(folder / ".everview") as ledger:
        return {row.name: row.version for row in versions.views(ledger)}


def test_deploy_tells_what_airflow_needs(folder: Path) -> None:
    write(
        folder,
        BY_KEY.format(HOURLY),
        TOTAL,
        toml="[batch]\nmemory = '2GB'\ndriver_memory = '2g'\nfull_every = 7\npool = 'builds'\n"
        "py_files = 'dist/everview.zip'\n",
    )
    assert deploy(folder) == 0

    found = told(folder)
    views = {view["name"]: view for view in found.pop("views")}
    assert found == {
        "format": 1,
        "state": str(folder / ".everview"),
        "project": str(folder),
        "python": sys.executable,
        "application": str(Path(dags.__file__).parent / "spark" / "main.py"),
        "flags": [
            *("--memory", "2GB", "--proof-rows", "20000000"),
            *("--rollback-window", "86400", "--full-every", "7"),
        ],
        "driver_memory": "2g",
        "py_files": str(folder / "dist" / "everview.zip"),
        "connection": "spark_default",
        "pool": "builds",
    }
    assert views["by_key"] == {
        "name": "by_key",
        "stream": "hits",
        "schedule": "@hourly",
        "sql": BY_KEY.format(HOURLY),
        "version": registered(folder)["by_key"],
        "about": "stream hits, topic clicks",
    }
    assert views["total"]["schedule"] is None


def test_settings_have_the_last_word_on_schedules(folder: Path) -> None:
    assert deploy(folder) == 0
    before = registered(folder)
    toml = "[rebuild]\nBY_KEY = 'never'\ntotal = '0 3 * * *'\n"
    write(folder, BY_KEY.format(HOURLY), TOTAL, toml=toml)

    assert deploy(folder) == 0

    assert schedules(folder) == {"by_key": None, "total": "0 3 * * *"}
    # nor is a schedule in the definition anything to register
    write(folder, BY_KEY.format(" WITH (rebuild = '@monthly')"), TOTAL)
    loaded, state = project.load(folder), folder / ".everview"
    assert deployment.plan(loaded, state).changes == ()
    up.prepare(folder, state, False, settings.load(folder, {}))
    assert schedules(folder) == {"by_key": "@monthly", "total": None}
    assert registered(folder) == before


def test_where_the_project_cannot_be_read_what_is_registered_counts(folder: Path) -> None:
    assert deploy(folder) == 0
    write(folder, "CREATE VIEW by_key AS SELECT", toml="[rebuild]\ntotal = '@daily'\n")

    up.prepare(folder, folder / ".everview", False, settings.load(folder, {}))

    assert schedules(folder) == {"by_key": "@hourly", "total": "@daily"}
    views = {view["name"]: view for view in told(folder)["views"]}
    assert views["by_key"]["sql"].startswith(BY_KEY.format(HOURLY))


def test_a_view_that_is_not_registered_has_no_dag(folder: Path) -> None:
    assert deploy(folder) == 0
    changed = BY_KEY.format("").replace("count(*)", "count(n)")
    write(folder, changed, TOTAL, "CREATE VIEW third AS SELECT max(n) AS high FROM hits")
    loaded, state = project.load(folder), folder / ".everview"

    dags.write(state, folder, settings.load(folder, {}), loaded)

    views = {view["name"]: view for view in told(folder)["views"]}
    assert set(views) == {"by_key", "total"}
    # what is built is what is registered
    assert "count(*)" in views["by_key"]["sql"]
    deployment.deploy(loaded, state, datetime.now(UTC))
    dags.write(state, folder, settings.load(folder, {}), loaded)
    views = {view["name"]: view for view in told(folder)["views"]}
    assert set(views) == {"by_key", "total", "third"}
    assert views["by_key"]["sql"] == changed


@pytest.mark.parametrize("verb", [["check"], ["deploy"], ["deploy", "--plan"]])
def test_a_schedule_of_no_view_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], verb: list[str]
) -> None:
    write(folder, BY_KEY.format(""), TOTAL, toml="[rebuild]\nby_kye = '@daily'\n")

    assert cli.main([*verb, "--project", str(folder)]) == 2

    expected = "everview.toml:2:1: rebuild.by_kye must name a view; did you mean 'by_key'?"
    assert expected in capsys.readouterr().err
    assert not (folder / ".everview").exists()


@pytest.mark.parametrize("text", ["hourly", "0 3 * * * *", "@yearly", "* * * * R", ""])
def test_a_wrong_schedule_of_a_view_is_refused_with_its_place(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    write(folder, BY_KEY.format(f" WITH (rebuild = '{text}')"))

    assert cli.main(["check", "--project", str(folder)]) == 2

    expected = "all.sql:3:36: option 'rebuild' of view 'by_key' must be @hourly, @daily, @weekly, "
    said = capsys.readouterr().err
    assert said.startswith(expected)
    assert f"or 'never'; got {text!r}" in said
