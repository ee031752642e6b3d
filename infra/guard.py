"""`python -m infra.guard COMMAND...`: runs COMMAND, and ends all that came of it.

For a part that leaves its children behind where it is ended by anything but SIGINT. Asked to stop,
or when its parent is gone, the guard sends SIGINT to COMMAND; what still lives after PATIENCE gets
SIGTERM, what lives then is killed. What came of COMMAND is found by the mark of its part.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import FrameType

from infra import processes

PATIENCE, GRACE = 3.0, 3.0
"""Seconds for an orderly end; seconds after SIGTERM for those who did not end."""

LOOK_EVERY = 0.5


def main(command: list[str]) -> int:
    parent, asked = os.getppid(), list[int]()

    def ask(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, ask)
    # in a group of its own: a signal to the guard's is for the guard alone
    child = subprocess.Popen(command, start_new_session=True)
    code = None
    while not asked and code is None and os.getppid() == parent:
        code = _ended(child, LOOK_EVERY)
    if code is None:
        child.send_signal(signal.SIGINT)
    clear(child)
    code = child.wait()
    return code if code >= 0 else 128 - code


def clear(child: subprocess.Popen[bytes]) -> None:
    """Returns when nothing with our mark lives."""
    mark = os.environ[processes.MARK]
    end = time.monotonic() + PATIENCE
    while _ended(child, 0.1) is None and time.monotonic() < end:
        continue
    processes.end(processes.marked(mark), GRACE)


def _ended(child: subprocess.Popen[bytes], within: float) -> int | None:
    try:
        return child.wait(within)
    except subprocess.TimeoutExpired:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
