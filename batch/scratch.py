"""The folder of this process for what is disposable: Spark's files, and what engines spill."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from batch.settings import SCRATCH, Settings


@contextmanager
def own_folder(settings: Settings) -> Iterator[None]:
    """Makes it, and removes it with everything in it; those of killed processes go too."""
    for folder in settings.scratch.parent.glob(f"{SCRATCH}*"):
        pid = folder.name.removeprefix(SCRATCH).partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
    settings.scratch.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        shutil.rmtree(settings.scratch, ignore_errors=True)
