"""Copy the state into a folder while everything runs: the ledger, then the files that it names.

Each file is checked on the way. Kafka's own data are not in it: after `everview restore` streaming
goes on from the copy's position, as long as Kafka still has what follows.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from infra import backup


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="empty, or not there yet")
    parser.add_argument("--json", action="store_true", help="what was copied, as JSON")


def run(found: argparse.Namespace) -> int:
    told = backup.take(found.state, found.folder.absolute(), datetime.now(UTC), _note)
    if found.json:
        print(json.dumps(asdict(told)))
        return 0
    for stream, epoch in told.epochs.items():
        print(f"stream {stream}: up to epoch {epoch}")
    print(f"{told.files:,} files, {told.bytes / 2**20:,.1f} MiB, in {found.folder}")
    return 0


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
