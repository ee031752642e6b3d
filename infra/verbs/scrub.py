"""Read every file that the ledger names, compare it with what it says of it, and with --repair put
right what can be put right, while everything runs.

Exit code 1 where something is damaged and stays so. What was sealed away meanwhile is no damage.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from infra import settings, stack
from infra.damage import scrub
from infra.damage.log import KafkaLog
from infra.damage.repair import REPAIRED, Repairer
from infra.damage.scrub import Pace, Scrubbed
from schemas import project
from schemas.errors import BadUse
from schemas.ledger.connect import open_ledger
from schemas.project import Content
from schemas.storage import DataRoot

RATE = 100.0
MEGABYTE = 10**6
SHOWN = 0.5  # seconds between two looks at the progress
MOST_STRAY = 10


def arguments(parser: argparse.ArgumentParser) -> None:
    help_ = f"megabytes that are read per second, 0 for no limit; default: {RATE:g}"
    parser.add_argument("--rate", type=float, default=RATE, metavar="MB", help=help_)
    help_ = "put right what can be: from the master, and from Kafka while it has the offsets"
    parser.add_argument("--repair", action="store_true", help=help_)
    help_ = "with --repair: a folder of `everview backup`, from which whole files are taken first"
    parser.add_argument("--from", dest="backup", type=Path, metavar="DIR", help=help_)
    parser.add_argument("--json", action="store_true", help="what was found, as JSON")


def run(found: argparse.Namespace) -> int:
    if not found.rate >= 0:
        message = f"--rate must be 0 or more; got {found.rate:g}"
        raise BadUse(message)
    if found.backup is not None and not (found.repair and found.backup.is_dir()):
        message = f"--from must be a folder, and go with --repair; got {found.backup}"
        raise BadUse(message)
    root = DataRoot(found.state)
    repaired: dict[str, str] = {}
    with open_ledger(found.state) as ledger:
        told = scrub.scrub(ledger, root, Pace(found.rate * MEGABYTE), _Progress())
        if found.repair and told.damaged:
            servers = _broker(found.state, found.project)
            with closing(KafkaLog(servers)) as log:
                repaired = Repairer(
                    ledger,
                    root,
                    log if servers else None,
                    lambda: _contents(found.project),
                    lambda: datetime.now(UTC),
                    found.backup,
                ).all(told.damaged)
    if found.json:
        print(scrub.as_json(told, repaired))
    else:
        _show(told, repaired, found.repair)
    left = [e for e in told.damaged if not repaired.get(e.path, "").startswith(REPAIRED)]
    return 1 if left else 0


def _broker(state: Path, folder: Path) -> str:
    """That of the running stack, else the one that the settings name; empty where none does."""
    running = stack.read(state)
    if running is not None and running.running:
        return running.bootstrap_servers
    return settings.load(folder, os.environ).kafka.bootstrap_servers


def _contents(folder: Path) -> list[Content]:
    return list(project.load(folder).contents.values())


def _show(told: Scrubbed, repaired: dict[str, str], repair: bool) -> None:
    for each in told.damaged:
        print(f"DAMAGED {each.words}")
        outcome = repaired.get(each.path) if repair else each.remedy
        print(f"    {outcome}")
    if told.stray:
        listed = ", ".join(told.stray[:MOST_STRAY])
        more = f" and {len(told.stray) - MOST_STRAY} more" if len(told.stray) > MOST_STRAY else ""
        print(f"{len(told.stray)} files that the ledger does not name are not read: {listed}{more}")
    fixed = sum(text.startswith(REPAIRED) for text in repaired.values())
    count = f"{len(told.damaged)} damaged" if told.damaged else "none damaged"
    count += f", {fixed} repaired" if fixed else ""
    print(f"{told.files:,} files, {told.bytes / MEGABYTE:,.1f} MB read: {count}")


class _Progress:
    """A line that is written over, on a terminal alone."""

    def __init__(self) -> None:
        self._at = 0.0

    def __call__(self, done: int, total: int, path: str) -> None:
        if not sys.stderr.isatty():
            return
        now = time.monotonic()
        if path and now - self._at < SHOWN:
            return
        self._at = now
        share = f"{done / MEGABYTE:,.0f} of {total / MEGABYTE:,.0f} MB"
        end = f"  {path[-60:]}" if path else "\n"
        print(f"\r\x1b[K{share}{end}", end="", file=sys.stderr, flush=True)
