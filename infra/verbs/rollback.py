"""Serve an older publication of a view again, by default the one before.

It moves the pointer and nothing else: what came after its cut is counted by the speed layer. A
build that is at work cannot publish any more.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime

from batch import publish
from infra import batching
from schemas.ledger import builds
from schemas.ledger.connect import open_ledger
from schemas.storage import DataRoot


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("view", metavar="VIEW")
    help_ = "its number, as `everview versions` lists it"
    parser.add_argument("--to", type=int, metavar="PUBLICATION", help=help_)
    parser.add_argument("--json", action="store_true", help="what moved, as JSON")


def run(found: argparse.Namespace) -> int:
    with open_ledger(found.state) as ledger:
        (row,) = batching.chosen(ledger, [found.view])
        served = builds.rollback(ledger, row.name, found.to, datetime.now(UTC))
        publish.write_current(ledger, DataRoot(found.state), row.name)
    if found.json:
        before = {"publication": row.publication, "cut": row.cut, "version": row.version}
        after = {"publication": served.id, "cut": served.cut, "version": served.version}
        print(json.dumps({"view": row.name, "from": before, "to": after}))
        return 0
    print(
        f"view {row.name}: publication {row.publication} (cut {row.cut}) "
        f"-> {served.id} (cut {served.cut})"
    )
    if served.version != row.version:
        print(f"    and version {row.version} -> {served.version}")
    return 0
