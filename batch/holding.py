"""The lease that a build keeps while a process works on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from batch.settings import Settings
from schemas.errors import LedgerBusy, StaleToken
from schemas.ledger.connect import open_ledger
from schemas.ledger.leases import Lease, renew


@contextmanager
def kept(
    settings: Settings, lease: Lease, now: Callable[[], datetime]
) -> Iterator[Callable[[], None]]:
    """Renews a lease while the block runs, or until what it gives is called: from then on the block
    alone changes it. A lease that was taken away is not fought for: the next transaction of the
    build finds that its token is stale."""
    left = threading.Event()
    ledger = open_ledger(settings.state)

    def keep() -> None:
        while not left.wait(settings.lease_every):
            try:
                renew(ledger, lease, now(), settings.lease_ttl)
            except StaleToken:
                return
            except (LedgerBusy, SQLAlchemyError):
                continue  # it runs on for a while

    thread = threading.Thread(target=keep, name="lease", daemon=True)
    thread.start()

    def end() -> None:
        left.set()
        thread.join()

    try:
        yield end
    finally:
        end()
        ledger.close()
