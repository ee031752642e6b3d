"""Processes by identity: a pid together with its start time, or a mark in the environment.

A pid alone is never trusted (it is used again) and a name never (others bear it too).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

MARK = "EVERVIEW_PART"
"""The variable every process of a stack inherits: `<stack id>/<part>`."""

CLOCK_SLACK = 2.0
"""Seconds by which the start time of one process may seem to move when the clock is set."""


@dataclass(frozen=True)
class Identity:
    """One process: its pid and the moment it started (seconds since 1970)."""

    pid: int
    started: float


def identity(pid: int) -> Identity | None:
    try:
        return Identity(pid, psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def find(known: Identity) -> psutil.Process | None:
    """The living process of that identity; None if it has ended (a zombie has)."""
    try:
        process = psutil.Process(known.pid)
        same = abs(process.create_time() - known.started) < CLOCK_SLACK
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def marked(mark: str) -> list[psutil.Process]:
    """Living processes of this user whose mark is `mark`, or lies below it."""
    found = []
    for process in psutil.process_iter():
        try:
            value = process.environ().get(MARK, "")
            if value != mark and not value.startswith(mark + "/"):
                continue
            if process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def end(processes: Iterable[psutil.Process], grace: float) -> None:
    """Ends processes that are not our children: TERM, after `grace` seconds KILL."""
    living = send(processes, signal.SIGTERM)
    _, left = psutil.wait_procs(living, timeout=grace)
    psutil.wait_procs(send(left, signal.SIGKILL), timeout=5)


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> list[psutil.Process]:
    """Sends a signal; gives the processes that were still there to receive it."""
    reached = []
    for process in processes:
        try:
            process.send_signal(number)
            reached.append(process)
        except psutil.NoSuchProcess:
            continue
    return reached
