"""Retention on a state of `tests.engine.batching`, by the epoch up to which events are old.

`python -m tests.engine.retaining STATE STREAM EPOCH` does it in a process that may be killed.
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path

from batch.retention import Retainer
from batch.settings import Settings
from schemas.ages import Ages
from schemas.ledger.connect import Ledger, open_ledger
from tests.api.world import START
from tests.engine.batching import NOW

LATER = NOW + timedelta(hours=1)  # whatever was at work by NOW is not any more


def retainer(state: Path, ledger: Ledger, epoch: int, now: datetime = LATER) -> Retainer:
    """Lets go of epochs up to this one, which a world plans a second after each other."""
    age = now - START - timedelta(seconds=epoch + 0.5)
    settings = Settings(
        state=state, memory="512MB", retain=Ages(age), keep_removed=timedelta(minutes=1)
    )
    return Retainer(settings, ledger, lambda: now, threads=1)


if __name__ == "__main__":
    with open_ledger(Path(sys.argv[1])) as opened:
        retainer(Path(sys.argv[1]), opened, int(sys.argv[3])).retain(sys.argv[2])
