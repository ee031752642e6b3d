"""A process that seals a state in small steps until it is done or killed, for test_sealing."""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from schemas.ledger.connect import open_ledger
from schemas.ledger.epochs import lease_name
from schemas.ledger.leases import take
from schemas.ledger.process import this_process
from schemas.storage import DataRoot
from streaming.orphans import remove_orphans
from streaming.sealer import Sealer
from streaming.settings import Settings
from tests.engine.yard import Direct


def main(state: Path, stream: str) -> None:
    now, root = datetime.now(UTC), DataRoot(state)
    settings = Settings(
        state, "127.0.0.1:1", seal_epochs=1, merge_fanout=2, keep_removed=timedelta(0)
    )
    with open_ledger(state) as ledger:
        ttl = timedelta(days=1)
        lease = take(ledger, lease_name(stream), this_process(), now, ttl, lambda _: False)
        remove_orphans(root, ledger, stream, lease.token)
        Sealer(
            settings=settings,
            ledger=ledger,
            root=root,
            stream=stream,
            token=lease.token,
            now=lambda: datetime.now(UTC),
            run=Direct(),
            moved=threading.Event(),
            fatal=lambda _: None,
            done=lambda: None,
        ).step()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
