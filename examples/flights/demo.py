"""`make demo`: an endless feed of flights through the whole stack, watched in the terminal.

Starts the stack on this project, unless one runs already; sends the flights at a steady rate, a
year in about a quarter of an hour; shows what the views answer meanwhile; rebuilds a view through
Airflow every two simulated months. Ctrl-C stops everything that was started here; started again, it
goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections import deque
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import feed
from feeding import TOPIC, Feeding, only_demo
from look import Look, look
from picture import Facts, airlines_per_day, drawn, facts, line
from prepare import prepare
from rebuilds import Rebuilds
from rich.console import Console
from rich.live import Live
from started import Started

from infra import asking, stack
from infra.asking import QueryRefused
from infra.parts import airflow
from infra.stack import Stack
from infra.verbs.produce import per_second
from schemas.errors import EverviewError, StackNotRunning

HERE = Path(__file__).resolve().parent
LOOK_EVERY, TELL_EVERY = 1.0, 5.0
RATE_OVER = 6  # looks
STOP_WITHIN = 10.0
ASK = "SELECT * FROM origin_weather"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rate", type=per_second, default=400.0, help="records per second")
    parser.add_argument("--state", type=Path, default=HERE / ".everview")
    parser.add_argument("--no-airflow", action="store_true", help="leave Airflow out")
    found = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(found.state.absolute(), found.rate, not found.no_airflow)
    except KeyboardInterrupt:
        print("the demo has stopped" + ", its stack runs on" * stack_runs(found.state))
    except (EverviewError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def stack_runs(state: Path) -> bool:
    running = stack.read(state)
    return running is not None and running.running


def run(state: Path, rate: float, with_airflow: bool) -> None:
    """Until Ctrl-C. Raises EverviewError; FileNotFoundError without the package of the flights."""
    begun = time.monotonic()
    flights = prepare() / "flights.csv"
    with only_demo(state), ExitStack() as ending:
        started = Started(HERE, state, with_airflow)
        ending.callback(started.stop)
        lines = feed.read(flights)
        running = started.wait()
        feeding = Feeding(lines, running.bootstrap_servers, rate)
        ending.callback(feeding.stop, STOP_WITHIN)
        rebuilds = Rebuilds(state)
        ending.callback(rebuilds.stop)
        feeding.start()
        rebuilds.start()
        Watch(state, started, feeding, rebuilds, begun).run()


class Watch:
    """Shows answers; on something that is no terminal, a line now and then."""

    def __init__(
        self, state: Path, started: Started, feeding: Feeding, rebuilds: Rebuilds, begun: float
    ) -> None:
        self._state, self._started = state, started
        self._feeding, self._rebuilds, self._begun = feeding, rebuilds, begun
        self._console = Console()
        self._looks: deque[Look] = deque(maxlen=RATE_OVER)
        self._reached: set[str] = set()
        self._told, self._noted = 0.0, ""
        self._published: int | None = None  # before this run

    def run(self) -> None:
        """Until Ctrl-C, or the stack ends: StackNotRunning."""
        if not self._console.is_terminal:
            self._loop(None)
        self._started.quiet = True
        self._started.said.clear()
        with Live(console=self._console, auto_refresh=False) as live:
            self._loop(live)

    def _loop(self, live: Live | None) -> None:
        answers = asking.of(self._state)
        while True:
            try:
                seen = look(answers, airlines_per_day(self._console.height))
            except (QueryRefused, StackNotRunning) as error:
                self._started.check()
                self._note(f"no answer: {error}")
            else:
                self._looks.append(seen)
                self._rebuilds.turn(seen)
                self._milestone("first answer", seen.flights > 0)
                self._published = seen.publications if self._published is None else self._published
                self._milestone("first publication", seen.publications > self._published)
            if self._looks:
                self._show(live)
            time.sleep(LOOK_EVERY)

    def _show(self, live: Live | None) -> None:
        seen = self._looks[-1]
        told = facts(seen, self._looks[0], self._feeding.trouble, self._rebuilds.words)
        if live:
            live.update(drawn(seen, told, self._addresses(), self._started.said), refresh=True)
        elif seen.clock - self._told >= TELL_EVERY:
            if not self._told:
                print("\n".join(map(": ".join, self._addresses().items())))
            self._told = seen.clock
            print(f"{seen.at:%H:%M:%S} {line(seen, told)}", flush=True)

    def _milestone(self, name: str, reached: bool) -> None:
        """Says once how long something took from the start on."""
        if reached and name not in self._reached:
            self._reached.add(name)
            self._note(f"{name} after {time.monotonic() - self._begun:.0f} s")

    def _note(self, words: str) -> None:
        """A line below the picture, or in the log; not the same one twice in a row."""
        if words == self._noted:
            return
        self._noted = words
        self._started.said.append(words)
        if not self._console.is_terminal:
            print(f"{datetime.now(UTC):%H:%M:%S} {words}", flush=True)

    def _addresses(self) -> Facts:
        running = stack.read(self._state)
        return {} if running is None else addresses(running, self._state, self._console.is_terminal)


def addresses(running: Stack, state: Path, secret: bool) -> Facts:
    """Every address with what it is for, and a line to copy; without what must be in no log."""
    everview = near(Path(sys.executable).with_name("everview"))
    own = state == HERE / ".everview"
    where = f"--project {near(HERE)}" if own else f"--state {near(state)}"
    told = {"queries": f"{running.http}/sql"}
    if running.airflow is not None:
        told["Airflow"] = f"{running.airflow}, {login(state, secret)}"
    told["Kafka"] = f"{running.bootstrap_servers}, topic {TOPIC}"
    return {**told, "try": f'{everview} sql {where} "{ASK}"'}


def near(path: Path) -> str:
    """A path as it is typed here."""
    return min(str(path), os.path.relpath(path), key=len)


def login(state: Path, secret: bool) -> str:
    told = airflow.password(state) if secret else f"in {airflow.password_file(state)}"
    return f"user {airflow.USER}, password {told or 'not made yet'}"


if __name__ == "__main__":
    sys.exit(main())
