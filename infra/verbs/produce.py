"""Send the events of files to a stream's topic.

NDJSON, CSV and Parquet, packed by gzip or zip or not; '-' is stdin. Lines go as they are, malformed
ones too: what does not fit the declaration is for the stream's rejects. Ends with the count that
the broker has acknowledged; so does Ctrl-C. Exit code 1 if the broker refused a record.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from infra import deployment, settings, stack
from infra.records import Shape, Source
from infra.sending import Pace, Refused, Sender, records_in
from schemas import project
from schemas.errors import BadUse, StackNotRunning, StreamUnknown
from schemas.language import parser as language
from schemas.language import stream as streams
from schemas.language.stream import Stream

TOPIC_WITHIN = 30.0
TELL_EVERY = 5.0
LOOK_EVERY = 0.1
SHOW_REFUSED = 20


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stream", metavar="STREAM")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument(
        "--rate", type=per_second, metavar="N", help="events per second; default: all"
    )
    parser.add_argument("--repeat", action="store_true", help="over and over, until Ctrl-C")
    help_ = "the broker; default: that of the running stack"
    parser.add_argument("--bootstrap-servers", metavar="HOST:PORT", help=help_)


def run(found: argparse.Namespace) -> int:
    if found.repeat and "-" in found.files:
        message = "--repeat must have files that can be read again; got '-'"
        raise BadUse(message)
    declared = declaration(found.project, found.state, found.stream)
    shape = shape_of(declared)
    sources = [Source(name, shape) for name in found.files]
    servers = found.bootstrap_servers or broker(found.project, found.state)
    records_in(servers, declared.topic, TOPIC_WITHIN)
    return produce(sources, servers, declared.topic, rate=found.rate, repeat=found.repeat)


def declaration(folder: Path, state: Path, name: str) -> Stream:
    """The stream as it is registered; where nothing is, as the project declares it."""
    rows = {row.name.lower(): row for row in deployment.registered_streams(state)}
    if not rows:
        found = project.load(folder).definitions.streams
        if name.lower() not in found:
            raise StreamUnknown(name, [stream.name for stream in found.values()])
        return found[name.lower()]
    if name.lower() not in rows:
        raise StreamUnknown(name, [row.name for row in rows.values()])
    statements, _ = language.parse("ledger", rows[name.lower()].definition)
    return streams.read(statements[0])[0]


def shape_of(stream: Stream) -> Shape:
    """What its files are turned into: the columns that an event carries itself."""
    columns = tuple((c.name, c.type) for c in stream.columns.columns if c.generated is None)
    return Shape(stream.format, stream.null, columns)


def broker(folder: Path, state: Path) -> str:
    """The broker of the running stack, or the one of the settings. Raises StackNotRunning."""
    running = stack.read(state)
    if running is not None and running.running:
        return running.bootstrap_servers
    servers = settings.load(folder, os.environ).kafka.bootstrap_servers
    if not servers:
        raise StackNotRunning(str(state), "Kafka")
    return servers


def produce(
    sources: Sequence[Source], servers: str, topic: str, *, rate: float | None, repeat: bool
) -> int:
    """Sends every record and prints the count; the exit code."""
    told = 0
    interrupted = False

    def refused(record: Refused) -> None:
        nonlocal told
        told += 1
        if told <= SHOW_REFUSED:
            print(f"{record.place}: refused: {record.why}", file=sys.stderr)

    begun = time.monotonic()
    with Sender(servers, topic, refused) as sender:
        try:
            with _progress(sources, repeat) as show:
                pace = Pace(rate, time.monotonic())
                shown = 0.0
                for place, value in _records(sources, repeat):
                    pace.wait()
                    sender.send(place, value)
                    if time.monotonic() - shown > LOOK_EVERY:
                        shown = time.monotonic()
                        show(sender.acknowledged)
                sender.finish()
                show(sender.acknowledged)
        except KeyboardInterrupt:
            interrupted = True
            sender.finish()
        finally:
            took = time.monotonic() - begun
            print(f"{sender.acknowledged} acknowledged in {took:.1f} s", end="")
            print(f", {sender.refused} refused" if sender.refused else "", flush=True)
    if interrupted:
        return 0 if repeat else 130
    return 1 if sender.refused else 0


def _records(sources: Sequence[Source], repeat: bool) -> Iterator[tuple[str, bytes]]:
    for _ in itertools.count() if repeat else range(1):
        for source in sources:
            name = "stdin" if source.name == "-" else source.name
            for line, value in source.records():
                yield f"{name}:{line}", value


class _Show(Protocol):
    def __call__(self, acknowledged: int) -> None: ...


@contextmanager
def _progress(sources: Sequence[Source], repeat: bool) -> Iterator[_Show]:
    """On a terminal a bar (of bytes read, where that is known), else a line now and then."""
    console = Console(stderr=True)
    size = sum(source.size for source in sources)
    total = None if repeat or any(source.name == "-" for source in sources) else size
    columns = (BarColumn(), TextColumn("{task.fields[count]:,} acknowledged"), TimeElapsedColumn())
    bar = Progress(*columns, console=console) if console.is_terminal else None
    task = bar.add_task("", total=total, count=0) if bar else TaskID(0)
    last = time.monotonic()

    def show(acknowledged: int) -> None:
        nonlocal last
        if bar:
            done = sum(source.done for source in sources)
            bar.update(task, completed=done, count=acknowledged)
        elif time.monotonic() - last >= TELL_EVERY:
            last = time.monotonic()
            print(f"{acknowledged} acknowledged", file=sys.stderr, flush=True)

    with bar or nullcontext():
        yield show


def per_second(text: str) -> float:
    """A rate, as an argument of a command line."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0
    if not 0 < rate < 1e9:
        message = f"must be a number of events per second above 0; got {text!r}"
        raise argparse.ArgumentTypeError(message)
    return rate
