"""`<state>/run/streaming.json`: what the driver is doing, for everybody who cannot ask it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

State = Literal["starting", "running", "stopped", "failed"]


@dataclass(frozen=True)
class LogEnds:
    """Where the logs of a topic ended when that was last asked, and how long Kafka keeps them."""

    at: datetime
    ends: Mapping[int, int]  # partition -> the offset behind its last record, committed or not
    kept_ms: int | None  # None: for ever, or not known


@dataclass(frozen=True)
class StreamReport:
    """One stream: its last epoch, the position after it, what keeps it from going on; the last
    sealed epoch, and what keeps further ones from being sealed."""

    epoch: int
    position: Mapping[str, int]
    error: str | None
    sealed: int = 0
    sealing_error: str | None = None
    epoch_seconds: float | None = None  # what the last epoch took, from its plan to its commit
    commit_seconds: float | None = None  # its commit alone
    logs: LogEnds | None = None  # None: not asked yet


@dataclass(frozen=True)
class Report:
    """The driver and its streams at one moment."""

    state: State
    at: datetime
    streams: Mapping[str, StreamReport]
    error: str | None = None

    def write(self, file: Path) -> None:
        """Replace the file whole, so that no reader sees half of it."""
        text = json.dumps(
            {
                "pid": os.getpid(),
                "state": self.state,
                "at": self.at.isoformat(),
                "error": self.error,
                "streams": {
                    name: {
                        "epoch": stream.epoch,
                        "position": dict(stream.position),
                        "error": stream.error,
                        "sealed": stream.sealed,
                        "sealing_error": stream.sealing_error,
                        "epoch_seconds": stream.epoch_seconds,
                        "commit_seconds": stream.commit_seconds,
                        "logs": _logs(stream.logs),
                    }
                    for name, stream in sorted(self.streams.items())
                },
            }
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(f".{file.name}.{os.getpid()}")
        beside.write_text(text, encoding="utf-8")
        beside.replace(file)


def _logs(logs: LogEnds | None) -> dict[str, object] | None:
    if logs is None:
        return None
    return {"at": logs.at.isoformat(), "ends": dict(logs.ends), "kept_ms": logs.kept_ms}
