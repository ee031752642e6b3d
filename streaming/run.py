"""`python -m streaming.run`: the streaming driver as a process."""

from __future__ import annotations

import argparse
import logging
import os
import queue
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

from schemas import ages
from schemas.ages import Ages
from streaming.driver import STOP, Driver
from streaming.settings import Settings

LONGEST = 1_000_000_000  # seconds, some 30 years


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 stopped or done, 1 could not go on, 2 bad use."""
    settings = parse(argv)
    log_to_stderr()
    inbox: queue.SimpleQueue[str] = queue.SimpleQueue()
    stop_on_signals(inbox)
    return Driver(settings, lambda: datetime.now(UTC), inbox).run()


def parse(argv: Sequence[str] | None) -> Settings:
    parser = argparse.ArgumentParser(prog="python -m streaming.run", description=main.__doc__)
    add = parser.add_argument
    add("--state", type=Path, required=True, help="the state folder, with its ledger")
    add("--bootstrap-servers", required=True, metavar="HOST:PORT", help="the Kafka broker")
    add("--master", help="Spark's master; default: spark-submit's, else local[2,4]")
    add("--jars", type=Path, metavar="DIR", help="the folder with the Kafka connector's jars")
    add("--max-events-per-epoch", type=positive, metavar="N", default=Settings.max_events_per_epoch)
    add("--driver-memory", default=Settings.driver_memory, help="the JVM's heap, such as 1g")
    add("--create-topics", action="store_true", help="make the topics that are missing")
    add("--once", action="store_true", help="what is in the topics now, then exit")
    add("--verbose", action="store_true", help="a line per epoch")
    add_sealing(parser)
    found = parser.parse_args(argv)
    if found.jars is not None and not found.jars.is_dir():
        parser.error(f"--jars must be a folder; got {str(found.jars)!r}")
    try:
        found.retain = Ages.parse(found.retain)
    except ValueError as error:
        parser.error(f"{ages.FLAG} must be SECONDS or STREAM=SECONDS; {error}")
    return Settings(**{**vars(found), "state": found.state.absolute()})


def add_sealing(parser: argparse.ArgumentParser) -> None:
    """Options that say when epochs are sealed, and what happens to what sealing replaced."""
    add = parser.add_argument
    add(
        "--seal-every",
        type=seconds,
        metavar="SECONDS",
        default=Settings.seal_every,
        help="seal epochs of this age; 0: never; with --once all of them at the end",
    )
    add(
        "--seal-bytes",
        type=positive,
        metavar="N",
        default=Settings.seal_bytes,
        help="seal sooner where segments have this many bytes",
    )
    add(
        "--seal-epochs",
        type=positive,
        metavar="N",
        default=Settings.seal_epochs,
        help="seal sooner where there are this many epochs",
    )
    add(
        "--keep-removed",
        type=seconds,
        metavar="SECONDS",
        default=Settings.keep_removed,
        help="how long replaced files stay on the disk for readers of an older state",
    )
    add(ages.FLAG, action="append", default=[], metavar="SECONDS", help=ages.HELP)


def seconds(text: str) -> timedelta:
    number = float(text)
    if not 0 <= number <= LONGEST:
        message = f"must be 0 to {LONGEST}; got {text}"
        raise argparse.ArgumentTypeError(message)
    return timedelta(seconds=number)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        message = f"must be at least 1; got {number}"
        raise argparse.ArgumentTypeError(message)
    return number


def log_to_stderr() -> None:
    """One line per event: UTC, level, what happened."""
    logging.Formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    form = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s"
    handler.setFormatter(logging.Formatter(form, "%Y-%m-%dT%H:%M:%S"))
    ours = logging.getLogger("streaming")
    ours.setLevel(logging.INFO)
    ours.addHandler(handler)
    logging.getLogger().addHandler(logging.NullHandler())  # others repeat what we say, at length


def stop_on_signals(inbox: queue.SimpleQueue[str]) -> None:
    """TERM and INT stop in order; a second INT leaves at once, which is safe too."""
    interrupts = 0

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += number == signal.SIGINT
        if interrupts > 1:
            os._exit(1)
        inbox.put(STOP)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


if __name__ == "__main__":
    sys.exit(main())
