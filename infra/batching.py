"""What the verbs about batch views share: names of views, flags of builds, and sealing asked for
and awaited."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.parts.streaming import STALE
from infra.settings import Settings
from schemas.ages import keep_flags
from schemas.errors import ViewUnknown
from schemas.ledger import epochs, leases, sealing, versions
from schemas.ledger.connect import Ledger
from schemas.ledger.versions import ViewRow

PATIENCE = 60.0
"""Seconds without a newly sealed epoch after which a build goes on without the rest."""

LOOK = 0.1


def chosen(ledger: Ledger, names: Sequence[str]) -> list[ViewRow]:
    """The views of these names, whatever their case; all of them without any. ViewUnknown."""
    known = {row.name.lower(): row for row in versions.views(ledger)}
    for name in names:
        if name.lower() not in known:
            raise ViewUnknown(name, [row.name for row in known.values()])
    return [known[name] for name in dict.fromkeys(map(str.lower, names))] or list(known.values())


def flags(settings: Settings) -> list[str]:
    """What `batch.run` is told of a project's settings, wherever Spark runs."""
    chosen = settings.batch
    return [
        *("--memory", chosen.memory, "--proof-rows", str(chosen.proof_rows)),
        *("--rollback-window", str(int(chosen.rollback_window.total_seconds()))),
        *("--full-every", str(chosen.full_every)),
        *settings.retention.ages.flags(),
        *keep_flags(settings.retention.keep),
    ]


def sealed(
    ledger: Ledger, state: Path, stream: str, until: int | None, say: Callable[[str], None]
) -> None:
    """Has a stream sealed up to its newest epoch, or to `until`, by the driver that streams; where
    none does, says what a build will make do with."""
    newest = epochs.progress(ledger, stream).epoch
    wanted = newest if until is None else min(newest, until)
    reached = sealing.sealed_until(ledger, stream)
    if reached >= wanted:
        return
    why = _why_not(ledger, state, stream)
    if why is None:
        wanted = min(sealing.request_seal(ledger, stream), until or newest)
        moved = time.monotonic()
        while reached < wanted and why is None:
            time.sleep(LOOK)
            before, reached = reached, sealing.sealed_until(ledger, stream)
            now = time.monotonic()
            moved = now if reached > before else moved
            why = _why_not(ledger, state, stream)
            if now - moved > PATIENCE:
                why = f"nothing was sealed for {PATIENCE:g} s"
    if reached < wanted:
        say(f"stream {stream}: {why}; sealed up to epoch {reached} of {wanted}, which is taken")


def _why_not(ledger: Ledger, state: Path, stream: str) -> str | None:
    """Why nobody will seal a stream soon; None where its driver lives."""
    told = streaming(ledger, state, stream)
    if isinstance(told, str):
        return told
    error = told.get("sealing_error") or told.get("error")
    return f"it cannot be sealed ({error})" if error else None


def streaming(ledger: Ledger, state: Path, stream: str) -> dict[str, Any] | str:
    """What the driver of a stream says of it, or why there is none that lives."""
    name = epochs.lease_name(stream)
    held = next((each for each in leases.leases(ledger) if each.name == name), None)
    now = datetime.now(UTC)
    if held is None or held.expires <= now:
        return "no streaming runs"
    told = _report(state)
    if told is None or now - datetime.fromisoformat(told["at"]) > STALE:
        return "streaming gives no sign of life"
    if told["pid"] != held.holder.pid or told["state"] in ("stopped", "failed"):
        return "no streaming runs"
    of_stream: dict[str, Any] = told["streams"].get(stream, {})
    return of_stream


def _report(state: Path) -> dict[str, Any] | None:
    try:
        text = (state / "run" / "streaming.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    found: dict[str, Any] = json.loads(text)
    return found
