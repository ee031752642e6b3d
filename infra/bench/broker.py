"""A broker of its own for a benchmark."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra import ports
from infra.parts import kafka

WITHIN = 60.0


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """HOST:PORT of a broker that keeps its log in `folder` and ends with the block."""
    folder.mkdir(parents=True)
    chosen = ports.choose(folder / "ports.json", {"kafka": 0, "controller": 0})
    part = kafka.part(folder, chosen["kafka"], chosen["controller"], "1g")
    kafka.prepare(folder, chosen["kafka"], chosen["controller"])
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(part.command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + WITHIN
        while not kafka.answers("127.0.0.1", chosen["kafka"], 1.0):
            if time.monotonic() > end or process.poll() is not None:
                message = f"the broker must answer within {WITHIN:g} s; see {folder / 'log.txt'}"
                raise TimeoutError(message)
        yield f"127.0.0.1:{chosen['kafka']}"
    finally:
        process.terminate()
        process.wait(30)
