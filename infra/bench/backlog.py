"""The whole path on a backlog: read, parse, check, fold four views, write, commit."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from schemas.ledger.connect import open_ledger
from schemas.ledger.epochs import epochs_after


@dataclass(frozen=True)
class Backlog:
    """Events per second from the first epoch's plan to the last one's, and the epochs between."""

    rate: float
    events: int
    epochs: int


def measure(project: Path, state: Path, servers: str, jars: Path, stream: str) -> Backlog:
    """Run streaming over what is in the topic. The first two epochs, in which code is compiled and
    workers warm up, and the last one, which is not full, are left out."""
    here = ["--project", str(project), "--state", str(state)]
    subprocess.run([sys.executable, "-m", "infra", "deploy", *here], check=True)
    command = [
        sys.executable,
        "-m",
        "streaming.run",
        "--state",
        str(state),
        "--once",
        "--seal-every",
        "0",
    ]
    command += ["--bootstrap-servers", servers, "--jars", str(jars), "--master", "local[2,4]"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    with open_ledger(state) as ledger:
        epochs = epochs_after(ledger, stream, 0, 100_000)
    timed = epochs[2:-1]
    seconds = (epochs[-1].instant - timed[0].instant).total_seconds()
    events = sum(epoch.accepted for epoch in timed)
    return Backlog(events / seconds, events, len(timed))


def noop(servers: str, topic: str, jars: Path, scratch: Path) -> float:
    """Events per second of the peer."""
    command = [sys.executable, "-m", "infra.bench.noop", servers, topic, str(jars), str(scratch)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(json.loads(done.stdout.split()[-1]))
