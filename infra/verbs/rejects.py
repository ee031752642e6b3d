"""Look at the events that did not fit their stream's declaration: how many there are of each
reason, and the newest ones whole.

After a fixed declaration was deployed, --replay tries them again: what fits now is re-admitted,
once however often this runs, in epochs of its own. Whoever streams does that, between its
micro-batches; what is rejected again stays as it is.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from infra import batching
from schemas import rejects as reading
from schemas.engine import connect
from schemas.errors import BadUse
from schemas.ledger import rejects
from schemas.ledger.connect import Ledger, open_ledger
from schemas.ledger.rejects import Sources
from schemas.ledger.replays import Place, Replay
from schemas.rejects import Count
from schemas.storage import DataRoot

SHOWN = 10
WIDTH = 100
"""Characters of a value, where nobody says how wide the terminal is."""
MEMORY = "512MB"
LOOK = 0.1


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stream", metavar="STREAM")
    help_ = f"show the newest N rejects (default {SHOWN})"
    parser.add_argument("--limit", type=int, default=SHOWN, metavar="N", help=help_)
    parser.add_argument("--json", action="store_true", help="everything whole, as JSON")
    help_ = "try all of them again, by the declaration that is registered now"
    parser.add_argument("--replay", action="store_true", help=help_)


def run(found: argparse.Namespace) -> int:
    if found.limit < 0:
        message = f"--limit must be 0 or more; got {found.limit}"
        raise BadUse(message)
    with open_ledger(found.state) as ledger:
        if found.replay:
            return _replay(ledger, found.state, found.stream, as_json=found.json)
        root = DataRoot(found.state)
        sources = rejects.sources(ledger, found.stream)
        counts = reading.counts(connect(memory_limit=MEMORY), root, sources)
        newest = _newest(root, sources, found.limit)
    if found.json:
        print(json.dumps(_told(found.stream, counts, newest), indent=1))
    else:
        _show(found.stream, counts, newest)
    return 0


def _replay(ledger: Ledger, state: Path, stream: str, *, as_json: bool) -> int:
    """Ask for a replay and wait while the stream's driver works on it."""
    rejects.sources(ledger, stream)  # a name that is wrong is said first
    why = _why_not(ledger, state, stream)
    if why is not None:
        print(f"stream {stream}: {why}; start it (`everview up`) and ask again", file=sys.stderr)
        return 1
    asked = rejects.ask(ledger, stream, datetime.now(UTC))
    while asked.finished is None and why is None:
        time.sleep(LOOK)
        asked = rejects.replay(ledger, asked.id)
        why = None if asked.finished else _why_not(ledger, state, stream)
    if as_json:
        print(json.dumps(_replay_told(asked, why), indent=1))
    else:
        _show_replay(asked, why)
    return 1 if why is not None or asked.trouble is not None else 0


def _why_not(ledger: Ledger, state: Path, stream: str) -> str | None:
    """Why nobody works on a replay; None where the stream's driver does."""
    told = batching.streaming(ledger, state, stream)
    if isinstance(told, str):
        return told
    return f"it does not go on ({told['error']})" if told.get("error") else None


def _show_replay(asked: Replay, why: str | None) -> None:
    counted = asked.accepted - asked.duplicates
    rest = asked.considered - asked.accepted
    print(
        f"stream {asked.stream}: replay {asked.id} tried {asked.considered:,} rejects: "
        f"{counted:,} re-admitted, {asked.duplicates:,} duplicates of counted events, "
        f"{rest:,} rejected still"
    )
    if asked.trouble is not None:
        print(f"it ended before its end: {asked.trouble}", file=sys.stderr)
    elif why is not None:
        message = f"{why}; the replay goes on from here when the stream does"
        print(message, file=sys.stderr)


def _replay_told(asked: Replay, why: str | None) -> dict[str, Any]:
    return {
        "stream": asked.stream,
        "replay": asked.id,
        "finished": asked.finished is not None,
        "considered": asked.considered,
        "readmitted": asked.accepted - asked.duplicates,
        "duplicates": asked.duplicates,
        "still_rejected": asked.considered - asked.accepted,
        "trouble": asked.trouble or why,
    }


def _newest(root: DataRoot, sources: Sources, limit: int) -> list[dict[str, Any]]:
    """The newest rejects, the last one first, each with the epoch that re-admitted it."""
    table = reading.newest(root, sources, limit) if limit else None
    if table is None:
        return []
    rows: list[dict[str, Any]] = table.to_pylist()[::-1]
    epoch, partition, offset = (rows[-1][name] for name in reading.IDENTITY)
    before = Place(epoch, partition, offset - 1)
    taken = reading.places(reading.taken(root, sources, before))
    return [{**row, "_replayed": taken.get((row["_partition"], row["_offset"]))} for row in rows]


# ---- JSON


def _told(stream: str, counts: list[Count], newest: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "stream": stream,
        "open": sum(each.open for each in counts),
        "replayed": sum(each.replayed for each in counts),
        "counts": [
            {
                "reason": each.reason,
                "column": each.column,
                "open": each.open,
                "replayed": each.replayed,
                "first_epoch": each.first,
                "last_epoch": each.last,
            }
            for each in counts
        ],
        "rejects": [_whole(row) for row in newest],
    }


def _whole(row: Mapping[str, Any]) -> dict[str, Any]:
    headers = row["_headers"]
    return {
        "epoch": row["_epoch"],
        "partition": row["_partition"],
        "offset": row["_offset"],
        "timestamp": row["_timestamp"].isoformat() + "Z",
        "reason": row["_reason"],
        "column": row["_column"],
        "expected": row["_expected"],
        "found": row["_found"],
        "replayed": row["_replayed"],
        **_bytes("key", row["_key"]),
        **_bytes("value", row["_value"]),
        "headers": None
        if headers is None
        else [{"key": each["key"], **_bytes("value", each["value"])} for each in headers],
    }


def _bytes(name: str, value: bytes | None) -> dict[str, str | None]:
    """As text; what is no UTF-8 in base64, under another name."""
    if value is None:
        return {name: None}
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


# ---- for people


def _show(stream: str, counts: list[Count], newest: list[dict[str, Any]]) -> None:
    if not counts:
        print(f"stream {stream}: nothing was rejected")
        return
    opened, replayed = (sum(n) for n in zip(*((c.open, c.replayed) for c in counts), strict=True))
    print(f"stream {stream}: {opened:,} rejects are open, {replayed:,} were re-admitted")
    console = Console(width=None if Console().is_terminal else 200, markup=False)
    table = Table(header_style="bold", box=None)
    for name in ("reason", "column", "open", "re-admitted", "epochs"):
        table.add_column(name, justify="right" if name in ("open", "re-admitted") else "left")
    for each in counts:
        span = f"{each.first}" if each.first == each.last else f"{each.first} to {each.last}"
        reason, column = escaped(each.reason), escaped(each.column or "")
        table.add_row(reason, column, f"{each.open:,}", f"{each.replayed:,}", span)
    console.print(table)
    width = console.width if console.is_terminal else WIDTH
    for row in newest:
        for line in _lines(row):
            print(cut(line, width))


def _lines(row: Mapping[str, Any]) -> list[str]:
    """One reject in a few lines."""
    where = f"epoch {row['_epoch']}, partition {row['_partition']}, offset {row['_offset']}"
    what = row["_reason"]
    what += f", column {row['_column']}" if row["_column"] else ""
    what += f": expected {row['_expected']}" if row["_expected"] else ""
    what += f", got {row['_found']}" if row["_found"] is not None else ""
    again = "" if row["_replayed"] is None else f" (re-admitted in epoch {row['_replayed']})"
    lines = ["", f"{where}, {row['_timestamp'].isoformat()}Z{again}", f"    {escaped(what)}"]
    if row["_key"] is not None:
        lines.append(f"    key {text(row['_key'])}")
    if row["_headers"]:
        told = (f"{escaped(each['key'])}={text(each['value'])}" for each in row["_headers"])
        lines.append(f"    headers {', '.join(told)}")
    return [*lines, f"    {text(row['_value'])}"]


def text(value: bytes | None) -> str:
    """Bytes as a line that no terminal takes for anything else."""
    return "(null)" if value is None else escaped(value.decode(errors="backslashreplace"))


def escaped(words: str) -> str:
    """A text with what cannot be printed in the form of a Python literal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)


def cut(line: str, width: int) -> str:
    """At most so many characters of a line."""
    return line if len(line) <= width else f"{line[: width - 3]}..."
