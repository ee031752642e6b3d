"""`make demo`: a year of flights through the whole stack, watched in the terminal.

Starts the stack on this project, unless one runs already; sends the flights at a steady rate, a
year in about a quarter of an hour; shows what the views answer meanwhile. Ctrl-C stops everything
that was started here; started again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from prepare import prepare
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from infra import asking, stack
from infra.asking import Answers, QueryRefused
from infra.records import Shape, Source
from infra.sending import Pace, Sender, records_in
from infra.verbs.produce import declaration, shape_of
from infra.verbs.up import DETACHED
from schemas.errors import EverviewError, StackNotRunning

HERE = Path(__file__).resolve().parent
TOPIC = "flights"
FLIGHTS = 336_776
LOOK_EVERY, TELL_EVERY = 1.0, 5.0
STOP_WITHIN = 60.0

ASK = "SELECT * FROM everything"
UNCOUNTED = """
SELECT coalesce(sum(duplicates), 0)::BIGINT, coalesce(sum(rejected), 0)::BIGINT
FROM everview.epochs WHERE stream = 'flights'
"""
BUSIEST = """
SELECT day, airline, flights, 100.0 * late / flights AS late_pct, mean_delay, planes
FROM carrier_day
WHERE day BETWEEN CAST($day AS DATE) - 2 AND CAST($day AS DATE)
ORDER BY flights DESC, day DESC, airline
LIMIT 12
"""


class Stack:
    """The stack of this project: one that runs already, or a child of ours."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.said: deque[str] = deque(maxlen=3)
        self.ready = threading.Event()
        self.child: subprocess.Popen[str] | None = None
        self.echo = True
        running = stack.read(state)
        if running is not None and running.running:
            print(f"a stack runs already, as process {running.supervisor.pid}; it is used")
            return
        up = ["-P", "-m", "infra", "up", "--project", str(HERE), "--state", str(state)]
        guard = ["-P", "-m", "infra.launch", str(os.getpid()), sys.executable]
        self.child = subprocess.Popen(
            [sys.executable, *guard, *up],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for us; we stop it when we are done
            env={**os.environ, DETACHED: "1"},
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.child is not None
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.said.append(line.rstrip())
            if self.echo:
                print(line, end="", flush=True)

    def wait(self) -> stack.Stack:
        """Returns once every part is ready. Raises StackNotRunning if it ends instead."""
        while True:
            running = stack.read(self.state)
            if running is not None and running.running and running.ready:
                return running
            if self.child is not None and self.child.poll() is not None:
                raise StackNotRunning(str(self.state), "the stack")
            time.sleep(0.1)  # it writes a file, and tells nobody

    def stop(self) -> None:
        self.echo = True
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(STOP_WITHIN)
            except KeyboardInterrupt:
                self.child.send_signal(signal.SIGQUIT)
                self.child.wait(STOP_WITHIN)


@dataclass
class Sending:
    """Sends the flights from record `start` on, in a thread of its own."""

    source: Source
    servers: str
    start: int
    rate: float
    day: date = date(2013, 1, 1)
    sent: int = 0
    refused: int = 0
    error: str = ""
    stopped: threading.Event = field(default_factory=threading.Event)

    def begin(self) -> threading.Thread:
        thread = threading.Thread(target=self._guarded)
        thread.start()
        return thread

    def _guarded(self) -> None:
        try:
            self._run()
        except EverviewError as error:
            self.error = str(error)

    def _run(self) -> None:
        with Sender(self.servers, TOPIC, lambda _: None) as sender:
            pace: Pace | None = None
            for number, record in self.source.records():
                if self.stopped.is_set():
                    break
                if number < self.start:
                    continue
                if number > self.start:
                    pace = pace or Pace(self.rate, time.monotonic())
                    pace.wait()
                    sender.send(str(number), record)
                year, month, day = record.split(b",", 3)[:3]
                self.day = date(int(year), int(month), int(day))
                self.sent, self.refused = sender.acknowledged, sender.refused
            sender.finish()
            self.sent, self.refused = sender.acknowledged, sender.refused


@dataclass(frozen=True)
class Look:
    """What was answered at one moment."""

    at: float
    flights: int
    duplicates: int
    rejected: int
    rows: Sequence[Sequence[Any]]
    coverage: dict[str, Any]


def look(answers: Answers, day: date) -> Look:
    total = answers.table("SELECT flights FROM everything")
    busiest = answers.table(BUSIEST, params={"day": day.isoformat()})
    flights = total["rows"][0][0] if total["rows"] else 0
    ((duplicates, rejected),) = answers.table(UNCOUNTED)["rows"]
    covered = busiest["coverage"][0]
    return Look(time.monotonic(), flights, duplicates, rejected, busiest["rows"], covered)


def facts(seen: Look, before: Look | None, sending: Sending) -> list[str]:
    """Lines below the table: rate, epoch, freshness, what did not count."""
    rate = 0.0
    if before is not None and seen.at > before.at:
        rate = (seen.flights - before.flights) / (seen.at - before.at)
    fresh = seen.coverage.get("fresh_as_of")
    lag = "no event yet"
    if fresh:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(fresh)).total_seconds()
        lag = f"last event counted {max(0.0, seconds):.1f} s ago"
    counted = f"{seen.flights:,} flights counted ({rate:,.0f}/s)"
    cut, epoch = seen.coverage["cut"], seen.coverage["epoch"]
    layers = f"batch to {cut}, speed from there" if cut else "all of it speed"
    lines = [f"{counted}, epoch {epoch} ({layers}), {lag}"]
    sent = f"{sending.start + sending.sent:,} of {FLIGHTS:,} sent"
    lines.append(f"{sent}, {seen.duplicates:,} duplicates, {seen.rejected:,} rejects")
    if sending.error:
        lines.append(f"sending stopped: {sending.error}")
    if seen.coverage.get("degraded"):
        lines.append(f"degraded: {seen.coverage['degraded']}")
    return lines


def picture(seen: Look, lines: Sequence[str], sending: Sending, said: Sequence[str]) -> Group:
    title = f"busiest airlines of the three days up to {sending.day:%d %B %Y}"
    table = Table(title=title, title_justify="left", header_style="bold")
    for name in ("day", "airline", "flights", "late", "mean delay", "planes"):
        side: Any = "left" if name in ("day", "airline") else "right"
        table.add_column(name, justify=side)
    for day, airline, flights, late, delay, planes in seen.rows:
        minutes = "" if delay is None else f"{delay:.1f} min"
        name = airline or "unknown"
        table.add_row(str(day), Text(name), f"{flights}", f"{late:.0f} %", minutes, f"{planes}")
    return Group(table, *map(Text, lines), *(Text(line, style="dim") for line in said))


def watch(answers: Answers, started: Stack, sending: Sending, hints: Sequence[str]) -> None:
    """Shows answers until Ctrl-C; on something that is no terminal, a line now and then."""
    console = Console()
    window: deque[Look] = deque(maxlen=6)
    told = 0.0
    live = Live(console=console, auto_refresh=False) if console.is_terminal else None
    started.said.clear()
    if live:
        started.echo = False
        live.start()
    try:
        while True:
            try:
                seen = look(answers, sending.day)
            except (QueryRefused, StackNotRunning) as error:
                started.said.append(f"no answer: {error}")
                if started.child is not None and started.child.poll() is not None:
                    raise
                time.sleep(LOOK_EVERY)
                continue
            lines = facts(seen, window[0] if window else None, sending)
            window.append(seen)
            if live:
                notes = [*hints, *started.said] if started.child else hints
                live.update(picture(seen, lines, sending, notes), refresh=True)
            elif time.monotonic() - told >= TELL_EVERY:
                told = time.monotonic()
                print(f"{datetime.now(UTC):%H:%M:%S} " + "; ".join(lines), flush=True)
            time.sleep(LOOK_EVERY)
    finally:
        if live:
            live.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rate", type=float, default=400.0, help="flights per second")
    parser.add_argument("--state", type=Path, default=HERE / ".everview")
    found = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    state = found.state.absolute()
    try:
        folder = prepare()
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    started = Stack(state)
    sending: Sending | None = None
    thread: threading.Thread | None = None
    code = 0
    try:
        running = started.wait()
        shape: Shape = shape_of(declaration(HERE, state, TOPIC))
        done = records_in(running.bootstrap_servers, TOPIC, 60.0)
        source = Source(str(folder / "flights.csv"), shape)
        sending = Sending(source, running.bootstrap_servers, min(done, FLIGHTS), found.rate)
        thread = sending.begin()
        ask = f"everview sql --state {os.path.relpath(state)} {shlex.quote(ASK)}"
        hints = (f"queries: {running.http}/sql, or: {ask}", f"Kafka: {running.bootstrap_servers}")
        print("\n".join(hints), flush=True)
        watch(asking.of(state), started, sending, (*hints, "Ctrl-C stops everything"))
    except KeyboardInterrupt:
        print("stopping", flush=True)
    except EverviewError as error:
        print(error, file=sys.stderr)
        code = 1
    finally:
        if sending is not None and thread is not None:
            sending.stopped.set()
            thread.join()
            print(f"{sending.sent} flights acknowledged", flush=True)
        started.stop()
    return code


if __name__ == "__main__":
    sys.exit(main())
