"""Let a stream go on that stopped because Kafka no longer has offsets that were not read.

What is lost is recorded for ever: every answer that misses it says so (`lost` in its coverage).
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime

from infra.deployment import say
from schemas.ledger import stops
from schemas.ledger.connect import open_ledger
from schemas.ledger.copies import back_up


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stream", metavar="STREAM")
    parser.add_argument("--json", action="store_true", help="the ranges as JSON")


def run(found: argparse.Namespace) -> int:
    with open_ledger(found.state) as ledger:
        ranges = stops.accept_loss(ledger, found.stream, datetime.now(UTC))
    back_up(found.state, say)  # no file tells of it
    if found.json:
        lost = [[each.partition, each.start, each.until] for each in ranges]
        print(json.dumps({"stream": found.stream, "lost": lost}))
        return 0
    for each in ranges:
        print(
            f"stream {found.stream}: offsets {each.start}..{each.until - 1} of partition "
            f"{each.partition} are recorded as lost"
        )
    print("it goes on within some seconds, if streaming runs")
    return 0
