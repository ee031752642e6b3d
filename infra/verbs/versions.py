"""What was published of a view, the newest first; a rollback may go back to what is kept."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.console import Console
from rich.table import Table

from infra import batching
from schemas.ledger import builds
from schemas.ledger.builds import PublicationRow
from schemas.ledger.connect import open_ledger
from schemas.ledger.versions import ViewRow


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("view", metavar="VIEW")
    parser.add_argument("--json", action="store_true", help="the list as JSON")


def run(found: argparse.Namespace) -> int:
    with open_ledger(found.state) as ledger:
        (row,) = batching.chosen(ledger, [found.view])
        listed = [_told(each, row) for each in builds.publications(ledger, row.name)]
    if found.json:
        print(json.dumps(listed, indent=1))
        return 0
    if not listed:
        print(f"view {row.name}: nothing was published; `everview rebuild {row.name}` does")
        return 0
    table = Table(header_style="bold", box=None)
    for name in ("", "publication", "kind", "cut", "version", "published", ""):
        table.add_column(name, justify="right" if name in ("publication", "cut") else "left")
    for each in listed:
        mark = "*" if each["served"] else ""
        kept = "served" if each["served"] else "kept" if each["kept"] else "dropped"
        table.add_row(
            *(mark, str(each["publication"]), each["kind"], str(each["cut"])),
            *(each["version"], each["published"], kept),
        )
    Console(width=None if Console().is_terminal else 200).print(table)
    return 0


def _told(each: PublicationRow, row: ViewRow) -> dict[str, Any]:
    return {
        "publication": each.id,
        "kind": each.kind,
        "cut": each.cut,
        "version": each.version,
        "published": each.published.isoformat(timespec="seconds"),
        "served": each.id == row.publication,
        "kept": each.kept,
    }
