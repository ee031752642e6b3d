"""Stop a running stack, and wait until it has stopped."""

from __future__ import annotations

import argparse
import signal

import psutil

from infra import processes, stack
from infra.supervisor import STOP_WITHIN

SLACK = 15.0


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--now", action="store_true", help="kill at once; nothing is lost by it")


def run(found: argparse.Namespace) -> int:
    last = stack.read(found.state)
    if last is None:
        print(f"nothing runs on {found.state}")
        return 0
    supervisor = processes.find(last.supervisor)
    if supervisor is not None:
        print(f"stopping process {supervisor.pid} and its parts", flush=True)
        first = signal.SIGQUIT if found.now else signal.SIGTERM
        if not _ended(supervisor, first, STOP_WITHIN + SLACK):
            _ended(supervisor, signal.SIGKILL, SLACK)
    left = stack.left_over(last)
    if left:
        print(f"ending {len(left)} processes that were left behind", flush=True)
        processes.end(left, grace=10.0)
    if processes.find(last.supervisor) or stack.left_over(last):
        print("some of them still live")
        return 1
    print("everything has stopped; the state stays" if supervisor or left else "nothing runs")
    return 0


def _ended(supervisor: psutil.Process, number: signal.Signals, within: float) -> bool:
    """Whether it ended in time after that signal."""
    try:
        supervisor.send_signal(number)
        supervisor.wait(timeout=within)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return False
    return True
