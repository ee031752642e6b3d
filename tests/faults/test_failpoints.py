"""Failpoints do nothing by themselves, and exactly what they are told in a test."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from schemas import failpoints
from schemas.errors import FailpointInvalid

HIT = "from schemas.failpoints import failpoint\nfor i in range(3): print(i); failpoint('%s')"


def run(setting: str, *, test: str = "1") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EVERVIEW_FAILPOINTS": setting, "EVERVIEW_TEST": test}
    program = HIT % "epoch.in_commit"
    command = [sys.executable, "-u", "-c", program]
    root = str(Path(failpoints.__file__).parents[1])
    return subprocess.run(
        command, env=environment, cwd=root, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("setting", "code", "hits"),
    [
        ("", 0, 3),
        ("epoch.after_commit=kill", 0, 3),
        ("epoch.in_commit=kill", -signal.SIGKILL, 1),
        ("epoch.in_commit=kill@2", -signal.SIGKILL, 2),
        ("epoch.in_commit=exit:7@3; epoch.before_commit=stop", 7, 3),
        ("epoch.in_commit=sleep:0.001", 0, 3),
    ],
)
def test_actions(setting: str, code: int, hits: int) -> None:
    done = run(setting)
    assert done.returncode == code, done.stderr
    assert len(done.stdout.split()) == hits


def test_stop_waits_for_sigcont() -> None:
    failpoint = {"EVERVIEW_FAILPOINTS": "epoch.in_commit=stop@1", "EVERVIEW_TEST": "1"}
    environment = {**os.environ, **failpoint}
    root = str(Path(failpoints.__file__).parents[1])
    command = [sys.executable, "-u", "-c", HIT % "epoch.in_commit"]
    with subprocess.Popen(command, env=environment, cwd=root, stdout=subprocess.PIPE) as child:
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        child.send_signal(signal.SIGCONT)
        output, _ = child.communicate()
    assert output.split() == [b"0", b"1", b"2"]


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [("ENOSPC", OSError, "No space left"), ("RuntimeError", RuntimeError, "failpoint")],
)
def test_raise(name: str, error: type[Exception], text: str) -> None:
    action = failpoints.parse(f"task.after_segment=raise:{name}")["task.after_segment"]
    for _ in range(2):
        with pytest.raises(error, match=text):
            action.run()


def test_refused_outside_a_test() -> None:
    done = run("epoch.in_commit=kill", test="")
    assert done.returncode == 1
    assert "must be unset where EVERVIEW_TEST is not 1; got 'epoch.in_commit=kill'" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    "text",
    [
        "nowhere=kill",
        "epoch.in_commit",
        "epoch.in_commit=explode",
        "epoch.in_commit=kill@0",
        "epoch.in_commit=kill@x",
        "epoch.in_commit=kill:9",
        "epoch.in_commit=exit:x",
        "epoch.in_commit=raise:SystemExit",
        "epoch.in_commit=raise:Nonsense",
    ],
)
def test_what_nobody_understands_is_refused(text: str) -> None:
    with pytest.raises(FailpointInvalid, match="EVERVIEW_FAILPOINTS must be"):
        failpoints.parse(text)


def test_the_failpoints_in_the_code_are_the_known_moments() -> None:
    root = Path(failpoints.__file__).parents[1]
    parts = ["schemas", "streaming", "batch", "serving", "infra"]
    sources = [file for part in parts for file in (root / part).rglob("*.py")]
    found = {
        name
        for file in sources
        if file.name != "failpoints.py"
        for name in re.findall(r"failpoint\(\s*\"([^\"]+)\"", file.read_text())
    }
    assert found == set(failpoints.MOMENTS)
