"""The stack that the demo shows: one that runs already, or a child of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

from infra import stack
from infra.stack import Stack
from infra.verbs.up import DETACHED
from schemas.errors import StackNotRunning

STOP_WITHIN = 60.0


class Started:
    """`said` are the last lines of our child; they are printed too, unless `quiet`."""

    def __init__(self, project: Path, state: Path, with_airflow: bool) -> None:
        self.state = state
        self.said: deque[str] = deque(maxlen=2)
        self.quiet = False
        self.child: subprocess.Popen[str] | None = None
        running = stack.read(state)
        if running is not None and running.running:
            print(f"a stack runs already, as process {running.supervisor.pid}; it is used")
            return
        guard = ["-P", "-m", "infra.launch", str(os.getpid()), sys.executable]
        up = ["-P", "-m", "infra", "up", "--project", str(project), "--state", str(state)]
        up += [] if with_airflow else ["--no-airflow"]
        self.child = subprocess.Popen(
            [sys.executable, *guard, *up],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for us; we stop it when we are done
            env={**os.environ, DETACHED: "1"},
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def wait(self) -> Stack:
        """Returns once questions are answered. Raises StackNotRunning if it ends instead."""
        while True:
            running = stack.read(self.state)
            if running is not None and running.running and running.answering:
                return running
            self.check()
            time.sleep(0.1)  # it writes a file, and tells nobody

    def check(self) -> None:
        """Raises StackNotRunning if the stack has ended."""
        running = stack.read(self.state)
        ended = running is None or not running.running
        if self.child.poll() is not None if self.child else ended:
            raise StackNotRunning(str(self.state), "the stack")

    def stop(self) -> None:
        """Ends the stack if it is ours; Ctrl-C meanwhile ends it at once."""
        self.quiet = False
        if self.child is None or self.child.poll() is not None:
            return
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(STOP_WITHIN)
        except KeyboardInterrupt:
            self.child.send_signal(signal.SIGQUIT)
            self.child.wait(STOP_WITHIN)

    def _listen(self) -> None:
        assert self.child is not None
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.said.append(line.rstrip())
            if not self.quiet:
                print(line, end="", flush=True)
