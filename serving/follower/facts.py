"""Makes the facts of `serving.facts`, from ledger, follower, disk and the report of streaming."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from schemas.errors import EverviewError
from schemas.ledger.connect import Ledger
from schemas.ledger.figures import Figures, StreamFigures, ViewFigures, figures
from schemas.ledger.instant import ZERO
from schemas.observed import Mark, Observed
from serving.facts import Facts, StreamFacts, ViewFacts
from serving.follower.follow import Follower
from serving.follower.followed import FollowedStream

EVERY_SECONDS = 1.0

log = logging.getLogger("serving")


class Facting:
    """Makes facts again and again in a thread of its own, at most every `EVERY_SECONDS`, so that no
    epoch waits for it."""

    def __init__(
        self,
        follower: Follower,
        open_ledger: Callable[[], Ledger],
        state: Path,
        now: Callable[[], datetime],
        tell: Callable[[Facts], object],
    ) -> None:
        self._follower, self._open, self._state = follower, open_ledger, state
        self._now, self._tell = now, tell
        self._ledger: Ledger | None = None

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        while not stop.is_set():
            self.step()
            stop.wait(EVERY_SECONDS)
        if self._ledger is not None:
            self._ledger.close()

    def step(self) -> None:
        """Tell the facts of now; while there is no ledger to be read, those of before are the last
        ones told, and their age says so."""
        try:
            if self._ledger is None:
                self._ledger = self._open()
            found = figures(self._ledger)
        except (EverviewError, SQLAlchemyError) as error:
            log.debug("no facts: %s", error)
            return
        self._tell(facts(self._follower, found, self._state, self._now()))


def facts(follower: Follower, found: Figures, state: Path, now: datetime) -> Facts:
    """What is true of a follower and of the figures of its ledger."""
    reports = _reports(state)
    streams = follower.streams
    disk = os.statvfs(state)
    return {
        "at": _seconds(now),
        "streams": [
            _stream(name, each, reports.get(name, {})) for name, each in found.streams.items()
        ],
        "views": [
            _view(name, each, streams.get(each.stream), reports.get(each.stream, {}))
            for name, each in found.views.items()
        ],
        "files": dict(found.files),
        "leases": dict(found.leases),
        "disk_free_bytes": disk.f_bavail * disk.f_frsize,
        "load_seconds": follower.load_seconds,
        "damaged_files": len(follower.damaged_files),
    }


def _stream(name: str, found: StreamFigures, report: Mapping[str, Any]) -> StreamFacts:
    logs = report.get("logs") or {}
    ends = {int(partition): int(end) for partition, end in logs.get("ends", {}).items()}
    observed = found.observed or Observed()
    at = found.position.offsets
    return {
        "stream": name,
        "epoch": found.epoch,
        "partitions": [
            {
                "partition": each,
                "unread": max(0, ends[each] - at.get(each, 0)) if each in ends else None,
                "counted_to": _counted_to(observed.marks.get(each)),
                "low_watermark": _of_micros(observed.low(each)),
            }
            for each in sorted(ends.keys() | at.keys())
        ],
        "asked_at": _seconds(datetime.fromisoformat(logs["at"])) if logs else None,
        "kept_seconds": None if logs.get("kept_ms") is None else logs["kept_ms"] / 1000,
        "events": {
            "counted": found.accepted - found.duplicates,
            "duplicate": found.duplicates,
            "rejected": found.rejected,
        },
        "rejects": dict(observed.reasons),
        "future_events": observed.future,
        "segments": found.segments,
        "unsealed_since": None if found.unsealed_since is None else _seconds(found.unsealed_since),
        "master_bytes": found.master_bytes,
        "epoch_seconds": report.get("epoch_seconds"),
        "commit_seconds": report.get("commit_seconds"),
    }


def _view(
    name: str, found: ViewFigures, stream: FollowedStream | None, report: Mapping[str, Any]
) -> ViewFacts:
    view = None if stream is None else stream.views.get(name)
    served = None if view is None else view.serves
    fresh = None if served is None or served.instant is None else _seconds(served.instant)
    logs = report.get("logs")
    if served is not None and logs:
        at = served.position.offsets
        if all(end <= at.get(int(partition), 0) for partition, end in logs["ends"].items()):
            asked = _seconds(datetime.fromisoformat(logs["at"]))
            fresh = asked if fresh is None else max(fresh, asked)
    return {
        "view": name,
        "fresh_at": fresh,
        "cut": found.cut,
        "cut_at": None if found.cut_instant is None else _seconds(found.cut_instant),
        "build_seconds": found.build_seconds,
        "built_at": None if found.built is None else _seconds(found.built),
        "proof_failures": found.proof_failures,
        "publications": found.publications,
        "gaps": 0 if served is None else served.handoff.gaps,
        "doubles": 0 if served is None else served.handoff.doubles,
        "mismatches": found.mismatches,
    }


def _reports(state: Path) -> Mapping[str, Mapping[str, Any]]:
    """What streaming says of its streams; nothing where it says nothing that can be read."""
    try:
        told = json.loads((state / "run" / "streaming.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    streams: Mapping[str, Mapping[str, Any]] = told["streams"]
    return streams


def _counted_to(mark: Mark | None) -> float | None:
    """The first unread record came at this time or later."""
    if mark is None:
        return None
    known = [each for each in (mark.stamped, mark.read_to) if each is not None]
    return max(known) / 1e6 if known else None


def _of_micros(micros: int | None) -> float | None:
    return None if micros is None else micros / 1e6


def _seconds(instant: datetime) -> float:
    return (instant - ZERO).total_seconds()
