"""Rebuilds a view through Airflow every two simulated months, one after the other."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from look import Look

from infra import orchestrator, stack
from infra.orchestrator import AirflowRefused, Orchestrator, Run

VIEWS = ("carrier_day", "everything", "carrier_hour", "dest_totals", "origin_weather")
MONTHS = 2
LOOK_EVERY = 1.0


class Rebuilds(threading.Thread):
    """Starts what `turn` asks for, unless a build of ours is still running; `words` tell."""

    def __init__(self, state: Path) -> None:
        super().__init__(name="rebuilds", daemon=True)
        self._state = state
        self._asked = threading.Event()
        self._stopping = threading.Event()
        self._turn = -1
        self._view = ""
        self._words, self._since, self._last = "none yet", 0.0, ""

    @property
    def words(self) -> str:
        passed = f" for {time.monotonic() - self._since:.0f} s" if self._since else ""
        return f"{self._words}{passed}{self._last}"

    def turn(self, seen: Look) -> None:
        """Tells what was answered last; nothing can be built before an epoch is sealed."""
        if seen.day is None or not seen.counts.sealed or self._asked.is_set():
            return
        turn = ((seen.day.year - 2013) * 12 + seen.day.month - 1) // MONTHS
        if turn > self._turn:
            self._turn, self._view = turn, VIEWS[turn % len(VIEWS)]
            self._asked.set()

    def stop(self) -> None:
        self._stopping.set()
        self._asked.set()

    def run(self) -> None:
        while not self._stopping.is_set():
            self._asked.wait()
            try:
                airflow = self._ready()
                if airflow is not None:
                    self._rebuild(airflow, self._view)
            except AirflowRefused as error:
                self._tell(f"{self._view} not: {error}")
            self._asked.clear()

    def _ready(self) -> Orchestrator | None:
        """Airflow, once it is ready; None where it is no part of the stack."""
        while not self._stopping.is_set():
            found = orchestrator.of(self._state)
            if found is not None:
                return found
            running = stack.read(self._state)
            if running is not None and running.airflow is None:
                self._tell("none, for Airflow is no part of this stack; `everview rebuild` does it")
                return None
            self._tell(f"{self._view} as soon as Airflow is ready")
            self._stopping.wait(LOOK_EVERY)
        return None

    def _rebuild(self, airflow: Orchestrator, view: str) -> None:
        self._tell(f"{view} through Airflow, asked", time.monotonic())
        run_id = airflow.trigger(view)
        run = self._look(airflow, view, run_id)
        while run is None or not run.over:
            if self._stopping.wait(LOOK_EVERY):
                return
            run = self._look(airflow, view, run_id)
        took = time.monotonic() - self._since
        self._last = f"; before: {view}, {run.state} after {took:.0f} s"
        self._tell("none now")

    def _look(self, airflow: Orchestrator, view: str, run_id: str) -> Run | None:
        """How the run goes; None while Airflow does not answer, the run goes on without that."""
        try:
            run = airflow.run(view, run_id)
        except AirflowRefused as error:
            if error.status is not None:
                raise
            self._tell(f"{view} through Airflow, which does not answer now,", self._since)
            return None
        self._tell(f"{view} through Airflow, {run.state}", self._since)
        return run

    def _tell(self, words: str, since: float = 0.0) -> None:
        self._words, self._since = words, since
