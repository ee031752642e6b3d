"""A new project by its README: each command of it as it stands there, on real Kafka and Spark."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra import stack
from infra.verbs import init
from tests import starter

# `.ci/installed` does the same in short, with the installed wheel
pytestmark = [pytest.mark.kafka, pytest.mark.spark, pytest.mark.long]

WAIT = 180.0
SHELL = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "EVERVIEW_AIRFLOW_OWN": "false",  # the README does without it
}
Run = Callable[[str], str]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return init.make(tmp_path / "a-shop")


@pytest.fixture
def run(shop: Path) -> Iterator[Run]:
    """Runs a line in the project, as a user's shell would; gives what it printed."""

    def line(command: str) -> str:
        done = subprocess.run(
            command, shell=True, cwd=shop, env=SHELL, capture_output=True, text=True, timeout=WAIT
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    try:
        yield line
    finally:
        line("everview down")


def test_every_command_does_what_the_readme_says(shop: Path, run: Run) -> None:
    steps = starter.steps(shop / "README.md")
    asked = 0
    for step in steps:
        if "everview.epochs" in step.command:
            wait_until(lambda: committed(run) == 210)
        said = run(step.command)
        if step.output:
            asked += 1
            assert said == step.output, step.command

    assert asked == 4
    verbs = [step.command.split()[1] for step in steps if step.command.startswith("everview ")]
    assert verbs == ["up", "produce", "sql", "sql", "sql", "rebuild", "verify", "down"]
    last = stack.read(shop / ".everview")
    assert last is not None
    assert not last.running
    assert stack.left_over(last) == []


def committed(run: Run) -> int:
    """How many lines of the topic are in epochs that serving has."""
    query = "SELECT coalesce(sum(accepted + rejected), 0) FROM everview.epochs"
    ((found,),) = json.loads(run(f'everview sql --format json "{query}"'))["rows"]
    return int(found)


def wait_until(there: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT
    while not there():
        assert time.monotonic() < until, "the lines that were sent must be counted"
        time.sleep(0.2)
