"""Coverage as a header, beside a body that has no place for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from serving.query import Head

HEADER_BYTES = 7000  # proxies and clients take 8 kB for all headers or for one, so stay below
REASON_CHARACTERS = 200
SHORT = ("view", "version", "epoch", "fresh_as_of", "degraded")


def headers(head: Head) -> dict[str, str]:
    """Coverage, rows and whether there are more, where they are known; ASCII, as headers must be.

    Coverage that is too long has fewer fields (`SHORT`), degraded views come first and their
    reasons are cut; `Everview-Coverage-Shortened` then says how many views it tells of how many.
    """
    found = {"Everview-Coverage": json.dumps(head.coverage)}
    if len(found["Everview-Coverage"]) > HEADER_BYTES:
        told = _fitting([_short(each) for each in head.coverage])
        found["Everview-Coverage"] = json.dumps(told)
        found["Everview-Coverage-Shortened"] = f"{len(told)} of {len(head.coverage)}"
    if head.row_count is not None:
        found["Everview-Row-Count"] = str(head.row_count)
    if head.truncated is not None:
        found["Everview-Truncated"] = json.dumps(head.truncated)
    return found


def _short(coverage: Mapping[str, Any]) -> dict[str, Any]:
    short = {name: coverage.get(name) for name in SHORT}
    if short["degraded"] is not None:
        short["degraded"] = str(short["degraded"])[:REASON_CHARACTERS]
    return short


def _fitting(coverage: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many as there is room for, the degraded ones first."""
    found: list[dict[str, Any]] = []
    room = HEADER_BYTES
    for each in sorted(coverage, key=lambda each: each["degraded"] is None):
        room -= len(json.dumps(each)) + len(", ")
        if room < len("[]"):
            break
        found.append(each)
    return found
