"""An Airflow with a database of its own, and processes that load the DAG file in it."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra import dags

SCRIPT = Path(__file__).with_name("airflow_process.py")
WAIT = 400.0
BIN = Path(sys.executable).parent


@dataclass
class Airflow:
    """Its home, and the variables that its processes have. `runs` forks those of runs, so that
    Airflow is imported once for all of them."""

    home: Path
    environment: dict[str, str]
    runs: subprocess.Popen[str] | None = None

    def start(self, command: str, *, told: Path | None) -> subprocess.Popen[str]:
        """A process of `airflow_process.py`; it writes to `out(command)` and `log(command)`."""
        own = dict(self.environment)
        if told is not None:
            own["EVERVIEW_DAGS"] = str(told)
        self.out(command).unlink(missing_ok=True)
        with self.log(command).open("w", encoding="utf-8") as log:
            return subprocess.Popen(
                [sys.executable, "-P", str(SCRIPT), command, str(self.out(command))],
                cwd=self.home,
                env=own,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def end(self, process: subprocess.Popen[str], command: str) -> tuple[dict[str, Any], str]:
        """What came of it, and its log."""
        try:
            process.wait(WAIT)
        finally:
            process.kill()
        log = self.log(command).read_text(encoding="utf-8")
        assert self.out(command).exists(), log[-5000:]
        return json.loads(self.out(command).read_text(encoding="utf-8")), log

    def parse(self, told: Path | None) -> dict[str, Any]:
        return self.end(self.start("parse", told=told), "parse")[0]

    def run(
        self, told: Path, view: str, conf: dict[str, Any] | None = None, **variables: str
    ) -> tuple[dict[str, Any], str]:
        """A run of a view's DAG: what came of it, and its log."""
        self.out("run").unlink(missing_ok=True)
        asked = [str(self.out("run")), str(self.log("run")), f"rebuild_{view}"]
        own = {"EVERVIEW_DAGS": str(told), **variables}
        code = self._forked([*asked, json.dumps(conf or {}), own])
        log = self.log("run").read_text(encoding="utf-8")
        assert code == 0, log[-5000:]
        return json.loads(self.out("run").read_text(encoding="utf-8")), log

    def _forked(self, request: list[object]) -> int:
        if self.runs is None:
            pipe = subprocess.PIPE
            self.runs = subprocess.Popen(
                [sys.executable, "-P", str(SCRIPT), "runs"],
                cwd=self.home,
                env=self.environment,
                stdin=pipe,
                stdout=pipe,
                text=True,
                start_new_session=True,
            )
        assert self.runs.stdin is not None
        assert self.runs.stdout is not None
        self.runs.stdin.write(json.dumps(request) + "\n")
        self.runs.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self.runs.stdout, selectors.EVENT_READ)
            answered = selector.select(WAIT)
        assert answered, self.log("run").read_text(encoding="utf-8")[-5000:]
        return int(self.runs.stdout.readline())

    def close(self) -> None:
        if self.runs is not None:
            os.killpg(self.runs.pid, signal.SIGKILL)
            self.runs.communicate()

    def out(self, command: str) -> Path:
        return self.home / f"{command}.json"

    def log(self, command: str) -> Path:
        return self.home / f"{command}.log"


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    home = tmp_path_factory.mktemp("airflow")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("EVERVIEW_", "AIRFLOW_", "PYTHON", "SPARK_", "PYSPARK_"))
    }
    environment |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags.FOLDER),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[2,4]"}),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        [str(BIN / "airflow"), "db", "migrate"],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    made = Airflow(home, environment)
    yield made
    made.close()
