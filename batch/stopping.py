"""TERM and INT end a run in order: what is at work is recorded as failed and leaves nothing that
the next build does not remove. Only the start of Spark's JVM is waited for, since a JVM whose
driver goes while it starts stays behind."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopping:
    """What the signals of this process do."""

    def __init__(self) -> None:
        self._asked: int | None = None
        self._held = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """They do it in the block; in a thread other than the first there are none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._stop) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A signal that comes in the block acts at its end."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        self._leave()

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._asked = number
        if not self._held:
            self._leave()

    def _leave(self) -> None:
        if self._asked is not None:
            told = "`everview versions VIEW` tells what is published"
            sys.exit(f"stopped by signal {self._asked}; {told}")
