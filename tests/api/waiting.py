"""Waiting for what another thread or process is about to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

WAIT_SECONDS = 60.0


def wait(true: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
    """Until it is true; a failure when it is not in time."""
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit, "it never came"
        time.sleep(0.01)


async def until(true: Callable[[], object]) -> None:
    """The same in a loop, for as long as a scenario is given."""
    while not true():
        await asyncio.sleep(0.001)
