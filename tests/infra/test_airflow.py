"""The part that Airflow is: its environment, its home, what counts as health. No Airflow runs."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from infra import dags, processes, settings
from infra.parts import airflow
from infra.supervisor import Health
from infra.verbs import up


def part_environment(state: Path) -> dict[str, str]:
    made = airflow.part(
        state, 24001, dags=dags.FOLDER, file=state / dags.FILE, master="spark://h:7077"
    )
    return dict(made.environment)


def test_it_starts_when_an_answer_is_possible(state: Path) -> None:
    made = airflow.part(state, 24001, dags=dags.FOLDER, file=state / dags.FILE, master="local[2]")

    assert made.after == ("streaming", "serving")
    assert made.command[-1] == "standalone"


def test_where_it_is_not_installed_it_is_left_out_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(airflow, "NEEDED", ("everview", "airflow-of-nobody"))

    assert not up.has_airflow(settings.load(tmp_path, {}))

    said = capsys.readouterr().out
    assert "Airflow is left out: airflow-of-nobody is not installed: pip install " in said
    assert len(said.splitlines()) == 1


def test_a_stack_may_do_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = settings.load(tmp_path, {"EVERVIEW_AIRFLOW_OWN": "false"})

    assert not up.has_airflow(chosen)
    assert capsys.readouterr().out == ""
    assert up.has_airflow(settings.load(tmp_path, {}))


def test_its_environment_keeps_to_loopback_and_to_the_state(state: Path) -> None:
    found = part_environment(state)

    assert found["AIRFLOW_HOME"] == str(state / "airflow")
    assert found["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert found["AIRFLOW__API__PORT"] == "24001"
    assert found["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:24001/execution/"
    assert found["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].startswith(f"sqlite:///{state}/")
    assert found["EVERVIEW_DAGS"] == str(state / "dags.json")
    assert json.loads(found["AIRFLOW_CONN_SPARK_DEFAULT"])["host"] == "spark://h:7077"
    assert found["PATH"].split(os.pathsep)[1] == str(Path(sys.executable).parent)


def test_a_home_is_for_its_owner_alone_and_keeps_its_password(state: Path) -> None:
    assert airflow.password(state) is None

    airflow.prepare(state / "airflow")
    first = airflow.password(state)
    airflow.prepare(state / "airflow")

    assert first is not None
    assert len(first) >= 12
    assert airflow.password(state) == first
    assert mode(state / "airflow") == 0o700
    assert mode(airflow.password_file(state)) == 0o600


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_two_states_have_two_passwords(tmp_path: Path) -> None:
    for name in ("one", "two"):
        airflow.prepare(tmp_path / name / "airflow")

    assert airflow.password(tmp_path / "one") != airflow.password(tmp_path / "two")


@pytest.mark.parametrize(
    ("component", "skips"),
    [("scheduler", True), ("triggerer", True), ("api-server", False), ("dag-processor", False)],
)
def test_the_command_leaves_out_the_servers_of_logs(
    state: Path, component: str, skips: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    echo = state / "a python with 'quotes'"
    echo.write_text('#!/bin/sh\necho "$@"\n')
    echo.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(echo))
    airflow.prepare(state / "airflow")

    told = subprocess.run(
        [state / "airflow" / "bin" / "airflow", component, "--pid", "a b"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout

    assert told.startswith(f"-P -m airflow {component} --pid a b")
    assert told.rstrip().endswith("--skip-serve-logs") == skips


# ---- health


class Monitor:
    """What `GET /api/v2/monitor/health` says, in Airflow's own form."""

    def __init__(self) -> None:
        told = self.told = everything_well(datetime.now(UTC))

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(told).encode()
                self.send_response(200 if self.path == "/api/v2/monitor/health" else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def health(self) -> Health:
        return airflow.health(self.server.server_port, os.getpid())

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def everything_well(at: datetime) -> dict[str, dict[str, Any]]:
    return {"metadatabase": {"status": "healthy"}} | {
        name: {"status": "healthy", f"latest_{name}_heartbeat": at.isoformat()}
        for name in ("scheduler", "triggerer", "dag_processor")
    }


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    one = Monitor()
    yield one
    one.close()


def test_it_is_ready_when_all_of_it_is(monitor: Monitor) -> None:
    assert monitor.health() == Health(alive=True, ready=True)


@pytest.mark.parametrize("name", ["metadatabase", "scheduler", "triggerer", "dag_processor"])
def test_it_is_not_well_without_one_of_its_components(monitor: Monitor, name: str) -> None:
    monitor.told[name] = {"status": None}

    assert monitor.health() == Health(alive=False, ready=False, note=f"waits for {name}")


def test_a_heartbeat_of_the_life_before_does_not_count(monitor: Monitor) -> None:
    born = processes.identity(os.getpid())
    assert born is not None
    before = datetime.fromtimestamp(born.started, UTC) - timedelta(seconds=1)
    monitor.told.update(everything_well(before))

    assert monitor.health().note == "waits for scheduler, triggerer, dag_processor"


def test_nothing_answers_while_it_starts(free_port: int) -> None:
    found = airflow.health(free_port, os.getpid())

    assert (found.alive, found.ready) == (False, False)
    assert found.note == f"nothing listens at port {free_port}"
