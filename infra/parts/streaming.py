"""Streaming: the Spark driver of a state, `python -m streaming.run`."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from infra import jars
from infra.supervisor import Health, Part
from schemas.ages import Ages

STALE = timedelta(seconds=30)
"""A sign of life older than this is none; it is written every second."""


def part(
    state: Path,
    servers: str,
    *,
    master: str,
    memory: str,
    max_events: int,
    create_topics: bool,
    seal_every: timedelta,
    seal_bytes: int,
    keep_removed: timedelta,
    retain: Ages,
) -> Part:
    """The driver that reads the topics of a state's streams at `servers`."""
    folder = jars.connector_jars()[0].parent
    command = [sys.executable, "-P", "-m", "streaming.run", "--state", str(state)]
    command += ["--bootstrap-servers", servers, "--master", master, "--jars", str(folder)]
    command += ["--driver-memory", memory, "--max-events-per-epoch", str(max_events)]
    command += ["--seal-every", str(int(seal_every.total_seconds()))]
    command += ["--seal-bytes", str(seal_bytes)]
    command += ["--keep-removed", str(int(keep_removed.total_seconds()))]
    command += retain.flags()
    command += ["--create-topics"] if create_topics else []

    def probe(pid: int, now: datetime) -> Health:
        return health(state / "run" / "streaming.json", pid, now)

    return Part(
        name="streaming",
        command=tuple(command),
        environment={"PYTHONUNBUFFERED": "1"},
        probe=probe,
        grace=19.0,
    )


def health(file: Path, pid: int, now: datetime) -> Health:
    """What the driver with that pid last wrote about itself."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        told = {}
    if told.get("pid") != pid:
        return Health(alive=False, ready=False, note="is starting Spark")
    at = datetime.fromisoformat(told["at"])
    if now - (at if at.tzinfo else at.replace(tzinfo=UTC)) > STALE:
        return Health(alive=False, ready=False, note=f"gave no sign of life since {told['at']}")
    errors = [f"{name}: {s['error']}" for name, s in told["streams"].items() if s.get("error")]
    running = told["state"] == "running"
    return Health(alive=True, ready=running and not errors, note="; ".join(errors))
