"""Processes that work on a world and may be killed.

`python -m tests.matrix.process` is a server: it has imported everything, and for each request, a
line of JSON, it forks a process that does the steps, waits for it and says how it ended. So a
process costs milliseconds, and its death is that of a real one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from schemas import failpoints
from tests.api.world import Served
from tests.matrix import guards
from tests.matrix.world import World

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, negative for a signal, and what it wrote."""

    code: int
    said: str


class Processes:
    """The server, started with the first request."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None

    def run(
        self,
        folder: Path,
        steps: Sequence[str],
        *,
        failpoints: str = "",
        without: str | None = None,
        zone: str = "",
    ) -> Ended:
        server = self._started()
        assert server.stdin is not None
        assert server.stdout is not None
        asked = [str(folder), list(steps), failpoints, without, zone]
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        code, said = json.loads(server.stdout.readline())
        return Ended(code, said)

    def close(self) -> None:
        if self._server is not None:
            self._server.communicate()

    def _started(self) -> subprocess.Popen[str]:
        if self._server is None:
            pipe = subprocess.PIPE
            command = [sys.executable, "-P", "-m", "tests.matrix.process"]
            own = {**os.environ, "PYTHONPATH": str(ROOT)}
            self._server = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=own, text=True)
        return self._server


def work(folder: str, steps: Sequence[str], set_failpoints: str, without: str | None) -> None:
    """What a process does: `stream`, `seal`, `build VIEW`, `serve`, one after the other."""
    failpoints._ACTIONS.update(failpoints.parse(set_failpoints))
    with pytest.MonkeyPatch.context() as patch:
        if without is not None:
            guards.GUARDS[without].remove(patch)
        with World(Path(folder)) as world:
            for step in steps:
                verb, _, named = step.partition(" ")
                _step(world, verb, named)


def _step(world: World, verb: str, named: str) -> None:
    if verb == "stream":
        world.stream(max_events_per_epoch=int(named or 200_000))
    elif verb == "seal":
        world.seal(seal_epochs=1, merge_fanout=2)
    elif verb == "build":
        world.build(named)
    elif verb == "serve":
        Served(world.state).catch_up()


def _child(request: Sequence[Any], said: int) -> None:
    os.dup2(said, 1)
    os.dup2(said, 2)
    folder, steps, set_failpoints, without, zone = request
    if zone:
        os.environ["TZ"] = zone
        time.tzset()
    code = 1
    try:
        work(folder, steps, set_failpoints, without)
        code = 0
    finally:
        if code:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    for line in sys.stdin:
        with tempfile.TemporaryFile() as said:
            pid = os.fork()
            if pid == 0:
                _child(json.loads(line), said.fileno())
            _, status = os.waitpid(pid, 0)
            said.seek(0)
            text = said.read().decode(errors="replace")
        sys.stdout.write(json.dumps([os.waitstatus_to_exitcode(status), text]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
