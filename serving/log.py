"""What serving says on stderr: one JSON object per line.

`at` (UTC), `level`, `part` and `message` are in every line; what it is about (`stream`, `view`,
`epoch`, fields of a query) where it is known; `id` is that of the request that it belongs to. Of an
error its type and where it was raised, not its words: they may quote an event or a statement.

What says the same is told `MOST` times in `EVERY_SECONDS`; the next line of it after that says how
many were left out. Control characters are escaped, and what looks like a secret is not shown.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from traceback import extract_tb
from types import TracebackType
from typing import Any, TextIO

MOST = 10
EVERY_SECONDS = 10.0
KEPT = 1_000  # different things to say that are remembered
MESSAGE_CHARACTERS = 2_000
FRAMES = 8
HIDDEN = "[hidden]"
# `token = x`, `"password": "x"`, `Authorization: Bearer x`, a name and password in an address
SECRET = re.compile(
    r"""(?P<name>(?:pass(?:word|wd)?|secret|token|api[_-]?key|authorization)["']?\s*[=:]\s*["']?)"""
    r"""(?:(?:bearer|basic)\s+)?[^\s"',;&]+"""
    r"""|(?P<scheme>\bbearer\s+)[^\s"',;]+"""
    r"""|(?P<user>://[^\s/:@]+:)[^\s/@]+(?=@)""",
    re.IGNORECASE,
)

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def set_up(part: str, stream: TextIO | None = None) -> None:
    """Let this process say everything so, whoever says it; `part` is what it is."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(Lines(part))
    handler.addFilter(Repeats(time.monotonic))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)


class Lines(logging.Formatter):
    """A record as a line."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "part": self._part,
            "message": record.getMessage()[:MESSAGE_CHARACTERS],
        }
        told |= getattr(record, "fields", {})
        if (request := request_id.get()) is not None:
            told.setdefault("id", request)
        suppressed = getattr(record, "suppressed", 0)
        if suppressed:
            told["suppressed"] = suppressed
        if record.exc_info and record.exc_info[0] is not None:
            told["error"] = record.exc_info[0].__name__
            told["raised"] = raised(record.exc_info[2])
        return json.dumps(_hidden(told), default=str)


class Repeats(logging.Filter):
    """Lets through the first `MOST` of `EVERY_SECONDS` of what says the same, by its message before
    values are put into it, or by the `repeat` that it was given."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._told: dict[object, tuple[float, int, int]] = {}  # since when, how often, left out

    def filter(self, record: logging.LogRecord) -> bool:
        now, what = self._clock(), getattr(record, "repeat", (record.name, record.msg))
        if len(self._told) >= KEPT:
            self._forget(now)
        since, told, left_out = self._told.get(what, (now, 0, 0))
        if now - since >= EVERY_SECONDS:
            record.suppressed = left_out
            since, told, left_out = now, 0, 0
        allowed = told < MOST
        self._told[what] = (since, told + allowed, left_out + (not allowed))
        return allowed

    def _forget(self, now: float) -> None:
        """What was not repeated lately; all of it, where that is not enough."""
        fresh = {what: at for what, at in self._told.items() if now - at[0] < EVERY_SECONDS}
        self._told = fresh if len(fresh) < KEPT else {}


def about(repeat: object = None, **fields: Any) -> dict[str, Any]:
    """The `extra` of a record that is about these fields: `log.info("...", extra=about(...))`."""
    told: dict[str, Any] = {"fields": fields}
    return told if repeat is None else {**told, "repeat": repeat}


def raised(trace: TracebackType | None) -> list[str]:
    """Where an error was raised, the innermost last, by folder and file only."""
    frames = extract_tb(trace)[-FRAMES:]
    return [
        f"{'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno} {frame.name}"
        for frame in frames
    ]


def without_secrets(text: str) -> str:
    """A text with what looks like a secret taken out."""
    return SECRET.sub(
        lambda found: (found["name"] or found["scheme"] or found["user"]) + HIDDEN, text
    )


def _hidden(value: Any) -> Any:
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, Mapping):
        return {key: _hidden(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(each) for each in value]
    return value
