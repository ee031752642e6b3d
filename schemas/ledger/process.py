"""A process as the holder of a lease."""

from __future__ import annotations

import os
import socket

import psutil

from schemas.ledger.leases import Holder


def this_process() -> Holder:
    """Who takes a lease here."""
    return Holder(socket.gethostname(), os.getpid(), psutil.Process().create_time())


def is_running(holder: Holder) -> bool:
    """Whether a holder on this machine is that very process, and not a later one of its number."""
    try:
        process = psutil.Process(holder.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return abs(process.create_time() - holder.started) < 2.0
    except psutil.NoSuchProcess:
        return False
