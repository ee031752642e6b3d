"""What a stack writes down, its lock, and what it leaves when its supervisor is killed."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra import processes, stack
from infra.processes import Identity
from infra.stack import PartRecord, Stack
from infra.verbs import down, status, up
from schemas.errors import StackRunning

GONE = Identity(2**22 + 1, 1.0)  # above any pid


def written(state: Path, mark: str = "none", **parts: PartRecord) -> Stack:
    one = Stack(mark, GONE, "/project", "127.0.0.1:1", "http://127.0.0.1:2", parts)
    stack.write(state, one)
    return one


@contextmanager
def asleep(**environment: str) -> Iterator[Identity]:
    """A process that has started and does nothing."""
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]
    child = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        found = processes.identity(child.pid)
        assert found is not None
        try:
            yield found
        finally:
            child.kill()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    one = written(tmp_path, kafka=PartRecord("ready", Identity(1, 2.5), 3, -9, 1.5, "", "x.log"))

    assert stack.read(tmp_path) == one
    assert one.ready
    assert not one.running


def test_a_stack_answers_without_its_airflow(tmp_path: Path) -> None:
    ready, waiting = PartRecord("ready"), PartRecord("waiting")

    one = written(tmp_path, serving=ready, airflow=waiting)

    assert (one.answering, one.ready) == (True, False)
    assert written(tmp_path, serving=ready, airflow=ready).ready
    assert not written(tmp_path, serving=waiting, airflow=ready).answering
    assert not written(tmp_path).answering


def test_a_state_without_a_stack(tmp_path: Path) -> None:
    assert stack.read(tmp_path) is None


def test_one_supervisor_per_state(tmp_path: Path) -> None:
    with stack.only_supervisor(tmp_path), stack.only_supervisor(tmp_path / "other"):
        expected = pytest.raises(StackRunning, match=f"process {os.getpid()} runs it")
        with expected, stack.only_supervisor(tmp_path):
            pass
    with stack.only_supervisor(tmp_path):
        pass


def test_what_was_left_is_found_and_ended(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    with asleep() as known, asleep(**{processes.MARK: f"{mark}/streaming"}) as marked:
        written(tmp_path, mark, kafka=PartRecord("ready", known))

        up.clear(tmp_path)

        assert processes.find(known) is None
        assert processes.find(marked) is None


def test_a_process_that_took_the_pid_is_left_alone(tmp_path: Path) -> None:
    with asleep() as other:
        one = written(tmp_path, kafka=PartRecord("ready", Identity(other.pid, 1.0)))

        assert stack.left_over(one) == []


def test_status_and_down_where_nothing_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, kafka=PartRecord("ready", GONE))

    told = status.status(tmp_path)
    code = down.run(argparse.Namespace(state=tmp_path, now=False))

    assert (told["running"], told["ready"], told["streams"]) == (False, False, {})
    assert [told[part]["state"] for part in status.PARTS] == ["stopped"] * 4
    assert json.dumps(told)
    assert code == 0
    assert "nothing runs" in capsys.readouterr().out
