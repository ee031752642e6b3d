"""Make a state of a backup, in a folder that has none: --state says where.

Each file is checked on the way, and the ledger comes last, so a restore that was cut short left no
state. Streaming then goes on from the copy's position.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from infra import backup


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="what `everview backup` made")
    parser.add_argument("--json", action="store_true", help="what was restored, as JSON")


def run(found: argparse.Namespace) -> int:
    told = backup.restore(found.folder.absolute(), found.state)
    if found.json:
        print(json.dumps(asdict(told)))
        return 0
    for stream, epoch in told.epochs.items():
        print(f"stream {stream}: up to epoch {epoch}")
    print(f"{told.files:,} files in {found.state}, as of {told.taken}")
    print("streaming goes on from there in the same topics of the same Kafka, which is not copied")
    return 0
