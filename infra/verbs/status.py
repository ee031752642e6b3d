"""What runs, and where each stream stands. Exit code 0 if every part is ready, else 1.

The streams are read from the ledger, so this works when every server is down.
"""

from __future__ import annotations

import argparse
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from infra import processes, stack
from infra.parts import airflow
from infra.stack import AIRFLOW, PartRecord, Stack
from schemas.errors import LedgerMissing
from schemas.ledger import epochs, leases, retention, sealing, versions
from schemas.ledger.connect import open_ledger
from schemas.ledger.instant import ZERO
from schemas.ledger.versions import ViewRow
from schemas.observed import Observed
from schemas.position import Position

PARTS = ("kafka", "streaming", "serving", AIRFLOW)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the answer as JSON")


def run(found: argparse.Namespace) -> int:
    told = status(found.state)
    if found.json:
        print(json.dumps(told, indent=1))
    else:
        _show(told)
    return 0 if told["ready"] else 1


def status(state: Path) -> dict[str, Any]:
    """A state as the ledger and its supervisor tell it, as plain values."""
    last = stack.read(state)
    running = last is not None and last.running
    told: dict[str, Any] = {
        "state": str(state),
        "project": last.project if last else None,
        "running": running,
        "ready": bool(last and running and last.ready),
        "answering": bool(last and running and last.answering),
        "supervisor": {"pid": last.supervisor.pid} if last and running else None,
    }
    for name in PARTS:
        told[name] = _part(last, name, running)
    told["kafka"]["bootstrap_servers"] = last.bootstrap_servers if last and running else None
    told["serving"]["http"] = last.http if last and running else None
    told[AIRFLOW] |= _airflow(state, last.airflow if last and running else None)
    told["streams"] = _streams(state, _reports(state, last) if running else {})
    return told


def _part(last: Stack | None, name: str, running: bool) -> dict[str, Any]:
    part = last.parts.get(name) if last else None
    if part is None:
        absent = {"kafka": "external", AIRFLOW: "left out"}
        return {"state": absent.get(name, "stopped") if running else "stopped"}
    if not running:
        lives = part.identity is not None and processes.find(part.identity) is not None
        part = PartRecord("left over" if lives else "stopped", part.identity if lives else None)
    return {
        "state": part.state,
        "pid": part.identity.pid if part.identity else None,
        "ready_after": part.ready_after,
        "deaths": part.deaths,
        "exit_code": part.exit_code,
        "note": part.note,
        "log": part.log,
    }


def _airflow(state: Path, url: str | None) -> dict[str, Any]:
    """Where Airflow answers, and where the password is: it is told to a person only."""
    file = str(airflow.password_file(state)) if url else None
    return {"url": url, "user": airflow.USER if url else None, "password_file": file}


def _reports(state: Path, last: Stack | None) -> dict[str, dict[str, Any]]:
    """What the living streaming driver tells of its streams: what keeps one from going on, and
    where its logs end."""
    part = last.parts.get("streaming") if last else None
    try:
        report = json.loads((state / "run" / "streaming.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    if part is None or part.identity is None or report["pid"] != part.identity.pid:
        return {}
    streams: dict[str, dict[str, Any]] = report["streams"]
    return streams


def _streams(state: Path, reports: dict[str, dict[str, Any]]) -> dict[str, Any]:
    try:
        ledger = open_ledger(state)
    except LedgerMissing:
        return {}
    with ledger:
        held = {lease.name: lease for lease in leases.leases(ledger)}
        told: dict[str, Any] = {}
        for row in versions.streams(ledger):
            progress = epochs.progress(ledger, row.name)
            lease = held.get(epochs.lease_name(row.name))
            report = reports.get(row.name, {})
            observed = progress.observed or Observed()
            told[row.name] = {
                "topic": row.topic,
                "topic_id": progress.topic_id,
                "version": row.version,
                "epoch": progress.epoch,
                "sealed": sealing.sealed_until(ledger, row.name),
                "retained": retention.retained_until(ledger, row.name),
                "position": progress.position.json(),
                "unread": _unread(progress.position, report.get("logs")),
                "low_watermark": _instant(observed.lowest(progress.position.offsets)),
                "rejects": dict(observed.reasons),
                "instant": progress.instant.isoformat() if progress.instant else None,
                "lease": lease
                and {
                    "host": lease.holder.host,
                    "pid": lease.holder.pid,
                    "token": lease.token,
                    "expires": lease.expires.isoformat(),
                },
                "error": report.get("error") or row.stopped,
                "lost": [list(each) for each in row.lost],
                "views": {
                    view.name: _view(view, progress.epoch)
                    for view in versions.views(ledger, row.name)
                },
            }
    return told


def _unread(position: Position, logs: dict[str, Any] | None) -> dict[str, int] | None:
    """Partition -> offsets that Kafka has and no epoch; None where nobody asks Kafka."""
    if not logs:
        return None
    at = position.json()
    return {each: max(0, end - at.get(each, 0)) for each, end in logs["ends"].items()}


def _instant(micros: int | None) -> str | None:
    """None too before the year 1, which an event may name."""
    try:
        return None if micros is None else (ZERO + timedelta(microseconds=micros)).isoformat()
    except OverflowError:
        return None


def _view(view: ViewRow, epoch: int) -> dict[str, Any]:
    return {
        "version": view.version,
        "cut": view.cut,
        "publication": view.publication,
        "being_built": view.wanted or (view.version if view.being_built(epoch) else None),
        "suspended": view.suspended_message,
        "since": view.since_epoch,
        "suspended_epoch": view.suspended_epoch,
    }


def _show(told: dict[str, Any]) -> None:
    pid = told["supervisor"]["pid"] if told["supervisor"] else None
    print(f"state {told['state']}: {f'runs as process {pid}' if pid else 'does not run'}")
    for name in PARTS:
        part = told[name]
        words = [part["state"]]
        if part.get("pid"):
            words.append(f"(process {part['pid']})")
        address = part.get("http") or part.get("bootstrap_servers") or part.get("url")
        words += [address] if address else []
        if name == AIRFLOW and address:
            words.append(f"user {part['user']}, password {airflow.password(Path(told['state']))}")
        words += [part["note"]] if part.get("note") else []
        print(f"  {name:<10} {' '.join(words)}")
    for name, stream in told["streams"].items():
        print(f"stream {name} from topic {stream['topic']}")
        position = ", ".join(f"{p}: {offset}" for p, offset in stream["position"].items())
        when = f", committed {stream['instant']}" if stream["instant"] else ""
        print(f"  epoch      {stream['epoch']}{when}; sealed up to {stream['sealed']}")
        print(f"  position   {position or 'none yet'}")
        if stream["unread"] is not None:
            unread = ", ".join(f"{p}: {count}" for p, count in stream["unread"].items())
            print(f"  unread     {unread}")
        if stream["low_watermark"]:
            print(f"  events     those before {stream['low_watermark']} are there, as observed")
        if stream["rejects"]:
            counts = (f"{count} {reason}" for reason, count in stream["rejects"].items())
            print(f"  rejects    {', '.join(counts)}")
        if stream["retained"]:
            print(f"  retention  events up to epoch {stream['retained']} are in totals only")
        lease = stream["lease"]
        holder = (
            f"process {lease['pid']} on {lease['host']}, token {lease['token']}" if lease else ""
        )
        print(f"  lease      {holder or 'nobody'}")
        for view, at in stream["views"].items():
            print(f"  view       {view}: {_words(at)}")
        for partition, start, until in stream["lost"]:
            print(f"  lost       offsets {start}..{until - 1} of partition {partition}")
        if stream["error"]:
            print(f"  error      {stream['error']}")
    if not told["streams"]:
        print("no stream is registered; `everview deploy` or `everview up` registers the project")


def _words(view: dict[str, Any]) -> str:
    words = "not published, speed holds all of it"
    if view["publication"]:
        words = f"publication {view['publication']}, batch up to epoch {view['cut']}"
    if view["being_built"]:
        words += f"; version {view['being_built']} is being built"
    if view["since"]:
        words += f"; counts from epoch {view['since']} on"
    if view["suspended"]:
        words += f"; suspended at epoch {view['suspended_epoch']}: {view['suspended']}"
    return words
