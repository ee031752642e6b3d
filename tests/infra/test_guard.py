"""The guard of a part that leaves its children behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra import processes

WAIT = 30.0

# three generations: the first ends on SIGINT alone and then leaves the others, one of them in a
# session of its own; the last ignores what is asked politely
LEAVES = """
import signal, subprocess, sys, time
stubborn = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "open(sys.argv[1] + '.stubborn', 'w').close(); time.sleep(600)"
)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
subprocess.Popen([sys.executable, "-c", stubborn, sys.argv[1]])
signal.signal(signal.SIGTERM, signal.SIG_IGN)
try:
    time.sleep(600)
except KeyboardInterrupt:
    open(sys.argv[1], "w").close()
"""
PARENT = """
import os, subprocess, sys, time
guard = [sys.executable, "-P", "-m", "infra.launch", str(os.getpid()), *sys.argv[1:]]
print(subprocess.Popen(guard).pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def parents() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for parent in started:
        parent.kill()
        parent.communicate()


def started(
    parents: list[subprocess.Popen[str]], *command: str, mark: str
) -> tuple[subprocess.Popen[str], int]:
    """A process that runs the guard of a command; gives it and the pid of the guard."""
    guard = [sys.executable, "-P", "-m", "infra.guard", *command]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *guard],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, processes.MARK: mark},
    )
    parents.append(parent)
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


def wait(true: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def left(mark: str, parent: int) -> list[int]:
    return [process.pid for process in processes.marked(mark) if process.pid != parent]


@pytest.mark.parametrize("by", ["asked", "orphaned"])
def test_all_that_came_of_the_command_ends(
    parents: list[subprocess.Popen[str]], tmp_path: Path, by: str
) -> None:
    mark, said = uuid.uuid4().hex, tmp_path / "interrupted"
    parent, guard = started(parents, sys.executable, "-c", LEAVES, str(said), mark=mark)
    wait(lambda: len(left(mark, parent.pid)) == 4)
    assert guard in left(mark, parent.pid)
    wait((tmp_path / "interrupted.stubborn").exists)

    if by == "asked":
        os.kill(guard, signal.SIGTERM)
    else:
        parent.kill()

    wait(lambda: left(mark, parent.pid) in ([], [guard]))  # as a zombie: nobody reaps it here
    assert said.exists()


def test_a_command_that_ends_ends_its_guard_with_its_code(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "infra.guard", sys.executable, "-c", "raise SystemExit"]
    environment = {**os.environ, processes.MARK: uuid.uuid4().hex}

    good = subprocess.run(command, check=False, env=environment, cwd=tmp_path, timeout=WAIT)
    bad = subprocess.run(
        [*command[:-1], "import os; os.kill(os.getpid(), 9)"],
        check=False,
        env=environment,
        cwd=tmp_path,
        timeout=WAIT,
    )

    assert (good.returncode, bad.returncode) == (0, 128 + signal.SIGKILL)
