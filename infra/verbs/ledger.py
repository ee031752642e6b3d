"""everview ledger restore: make a ledger again that is lost or damaged.

From the newest copy that was kept at a publication or a deploy, and from the files, each of which
says what it is; without a copy from the project and the files. It is refused where a healthy ledger
is there or something runs. What the files do not prove is read from Kafka again by streaming.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime

from infra.recovery import restore
from infra.recovery.restore import Restored
from schemas import project


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("restore",))
    parser.add_argument("--json", action="store_true", help="what was restored, as JSON")


def run(found: argparse.Namespace) -> int:
    found.state.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    told = restore.restore(found.state, lambda: project.load(found.project), now, _note)
    if found.json:
        print(json.dumps(told.json(), indent=1))
    else:
        _show(told)
    return 0


def _show(told: Restored) -> None:
    print(f"restored from {told.source} and the files")
    for stream, each in told.streams.items():
        listed = each["position"].items()
        at = ", ".join(f"{partition}: {offset}" for partition, offset in listed)
        print(
            f"stream {stream}: up to epoch {each['epoch']}, sealed up to {each['sealed']} (the "
            f"copy knew {each['epoch_of_the_copy']}); it goes on from Kafka at {at or 'its start'}"
        )
    for view, text in told.views.items():
        print(f"view {view}: {text}")
    for each in told.left:
        offsets = restore.ranges_told(each["offsets"])
        print(
            f"not adopted, read again from Kafka if it is there: {each['path']}, offsets {offsets}"
        )
    for note in told.notes:
        print(note)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
