"""Let go of events that are older than [retention] of everview.toml says they are to be kept.

Their totals stay: the partials of every view go into a base first, which has to equal what is
published to the last partial; else nothing is removed and the exit code is 1. Each publication does
it too, where enough has become old. Only whole sealed epochs go, and none that a publication that
is kept, a view without a batch view or a build at work needs: --plan says which do.

Views that [retention.views] names show no groups that are older than it says, from now on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import UTC, datetime
from typing import Any

from batch import bounds, scratch
from batch.compiled import Compiled
from batch.retention import Retainer, plan_json, words
from batch.settings import Settings
from infra import batching, settings
from schemas.errors import EverviewError
from schemas.ledger.connect import Ledger, open_ledger


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plan", action="store_true", help="say what would go, and change nothing")
    parser.add_argument("--json", action="store_true", help="the result as JSON")


def run(found: argparse.Namespace) -> int:
    chosen = settings.load(found.project, os.environ)
    batch = Settings(
        state=found.state,
        memory=chosen.batch.memory,
        retain=chosen.retention.ages,
        keep=chosen.retention.keep,
    )
    told: list[dict[str, Any]] = []
    with open_ledger(found.state) as ledger, scratch.own_folder(batch):
        for row in batching.chosen(ledger, []):
            if row.name.lower() in batch.keep:
                told.append(_view(ledger, batch, row.name, found))
        retainer = Retainer(ledger=ledger, settings=batch, now=_now, threads=os.cpu_count() or 1)
        for stream in retainer.streams():
            told.append(_one(retainer, stream, found))
    if found.json:
        print(json.dumps(told, indent=1))
    elif not told:
        print("everything is kept for ever: [retention] of everview.toml names no age")
    return 1 if any("error" in each for each in told) else 0


def _view(ledger: Ledger, batch: Settings, view: str, found: argparse.Namespace) -> dict[str, Any]:
    """From when on one view keeps its groups."""
    definitions, now = Compiled(ledger), _now()
    chosen = bounds.wanted if found.plan else bounds.move
    try:
        bound = chosen(batch, ledger, definitions, view, now)
    except EverviewError as error:
        if not found.json:
            print(f"view {view}: NOT RETAINED: {error}", file=sys.stderr)
        return {"view": view, "error": str(error)}
    if not found.json and bound is not None:
        tense = "would be" if found.plan else "are"
        print(f"view {view}: groups with {bound.key} from {bound.iso()} on {tense} kept")
    kept_from = None if bound is None else {bound.key: bound.iso()}
    return {"view": view, "kept_from": kept_from}


def _one(retainer: Retainer, stream: str, found: argparse.Namespace) -> dict[str, Any]:
    """One stream; trouble with it does not keep others from being looked at."""
    try:
        if found.plan:
            plan = retainer.plan(stream)
            text, told = words(plan), plan_json(plan)
        else:
            done = retainer.retain(stream)
            text, told = done.words, done.json()
    except EverviewError as error:
        if not found.json:
            print(f"stream {stream}: NOT RETAINED: {error}", file=sys.stderr)
        return {"stream": stream, "error": str(error)}
    if not found.json:
        print(text)
    return told


def _now() -> datetime:
    return datetime.now(UTC)
