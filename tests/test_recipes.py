"""docs/recipes.md: every definition is deployed, every query asked over HTTP of a state with batch
and speed, and answered as the page says and as DuckDB does over the events themselves."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from tests import pages
from tests.api.world import Served, ask, serving
from tests.engine.batching import Sealed

pytestmark = pytest.mark.slow

RECIPES = pages.read(Path(__file__).parents[1] / "docs" / "recipes.md")
TYPED = "sold_at::TIMESTAMPTZ::TIMESTAMP AS sold_at, price::DECIMAL(8, 2) AS price"


def test_every_recipe_gives_what_the_page_shows(tmp_path: Path) -> None:
    events = RECIPES.events("sales")
    world = Sealed(tmp_path, stream="\n".join(RECIPES.definitions), views={}, files=RECIPES.files)
    world.epoch(events[::3], events[1::3])
    world.seal_all()
    for view in ("shop_day", "favourites"):
        world.builder().all_steps(view, full=False, until=None)
    world.epoch(events[2::3])
    served = Served(world.state)
    served.catch_up()
    oracle = _oracle(tmp_path, events)
    wrong = []

    with serving(served) as client:
        for query in RECIPES.queries:
            answer = ask(client, query.text).json()
            rows = answer.get("rows", [])
            names = [column["name"] for column in answer.get("columns", [])]
            found = oracle.execute(query.text).fetchall()
            for told in (rows, found):
                cells = [names, *([_cell(value) for value in row] for row in told)]
                if cells != query.table:
                    wrong.append((query.line, answer.get("error", cells)))
    served.close()
    world.ledger.close()

    assert wrong == []
    assert len(RECIPES.queries) >= 10


def _oracle(folder: Path, events: list[bytes]) -> duckdb.DuckDBPyConnection:
    """The views as DuckDB's own over a table of the events."""
    oracle = duckdb.connect()
    oracle.execute("SET TimeZone = 'UTC'")
    (folder / "sales.json").write_bytes(b"\n".join(events))
    (folder / "shops.csv").write_bytes(RECIPES.files["shops.csv"])
    source = f"read_json('{folder / 'sales.json'}')"
    oracle.execute(f"CREATE TABLE sales AS SELECT * REPLACE ({TYPED}) FROM {source}")
    oracle.execute(f"CREATE TABLE shops AS FROM read_csv('{folder / 'shops.csv'}')")
    for text in RECIPES.definitions:
        if text.startswith("CREATE VIEW"):
            oracle.execute(text)
    return oracle


def _cell(value: object) -> str:
    if isinstance(value, list):
        return json.dumps(value, separators=(",", ":"))
    if isinstance(value, datetime):
        return value.isoformat() + "Z"
    return "NULL" if value is None else str(value)
