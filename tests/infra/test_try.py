"""`everview try`: the same answers as the layers, from files alone."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from infra import cli, records, trial
from infra.verbs import init
from schemas import project
from tests import starter
from tests.folding import Folding, presented
from tests.folding import records as as_records
from tests.oracle import Oracle

pytestmark = pytest.mark.slow

Text = pytest.CaptureFixture[str]
WAIT = 60.0


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return init.make(tmp_path_factory.mktemp("made") / "shop")


@pytest.fixture(autouse=True)
def _inside(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = sorted(shop.rglob("*"))
    monkeypatch.chdir(shop)
    yield
    assert sorted(shop.rglob("*")) == before  # nothing is written into a project


def tried(capsys: Text, view: str, *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert cli.main(["try", view, "--format", "json", *arguments]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_answer_is_that_of_the_views_own_text(shop: Path, capsys: Text) -> None:
    orders = starter.orders(shop / "orders.ndjson")
    oracle = Oracle()
    declared = project.load(shop)
    columns = [(c.name, c.type) for c in declared.definitions.streams["orders"].columns.columns]
    ordered = [
        {
            **{name: str(order[name]) if name in order else None for name, _ in columns},
            "amount": str(starter.amount(order)),
        }
        for order in orders.counted
    ]
    oracle.fill("orders", columns, ordered)
    oracle.keep("products", f"FROM read_csv('{shop / 'products.csv'}', all_varchar = true)")
    (view,) = (each for each in declared.views() if each.name == "category_day")

    answer = tried(capsys, "Category_Day", "orders.ndjson")

    rows = [[str(row[0]), *row[1:-1], f"{row[-1]:f}"] for row in oracle.answer(view.select)]
    assert answer["rows"] == sorted(rows, key=lambda row: (row[0], row[1] is None, row[1]))
    told = answer["tried"]
    assert (told["events"], told["accepted"]) == (orders.lines, orders.lines - orders.malformed)
    assert (told["duplicates"], told["rejected"]) == (orders.repeated, orders.malformed)


def test_the_answer_is_that_of_the_layers_however_it_is_cut(
    shop: Path, capsys: Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = project.load(shop)
    folding = Folding(loaded)
    values = (shop / "orders.ndjson").read_bytes().splitlines()
    whole = folding.epoch(1, datetime(2026, 1, 1, tzinfo=UTC), as_records(values))
    view = folding.view("shop_day")
    rows = presented(view, [part.partials[view.version] for part in whole])
    expected = sorted((str(row[0]), row[1], row[2], row[4], row[5]) for row in rows)

    monkeypatch.setattr(trial, "BATCH_RECORDS", 25)
    monkeypatch.setattr(trial, "MERGE_ROWS", 5)
    half = shop.parent / "half.ndjson"
    half.write_bytes(b"\n".join(values[:120]) + b"\n")
    rest = shop.parent / "rest.ndjson"
    rest.write_bytes(b"\n".join(values[120:]))
    for in_memory in (60, 10**6):
        monkeypatch.setattr(trial, "IDS_IN_MEMORY", in_memory)
        answer = tried(capsys, "shop_day", str(half), str(rest))

        assert [(r[0], r[1], r[2], r[4], r[5]) for r in answer["rows"]] == expected
        assert answer["tried"]["duplicates"] == 6
        rejects = answer["tried"]["rejects"]
        assert [(Path(each["file"]).name, each["line"]) for each in rejects] == [
            ("half.ndjson", 26),
            ("half.ndjson", 78),
            ("rest.ndjson", 1),
            ("rest.ndjson", 51),
        ]


def test_what_people_see(capsys: Text) -> None:
    assert cli.main(["try", "shop_day", "orders.ndjson", "--rejects", "1"]) == 0

    said = capsys.readouterr()
    assert '["P6", "P3"]' in said.out
    assert "3 rows in" in said.out
    assert said.err.startswith(
        "orders.ndjson:26: check, column quantity: expected quantity BETWEEN 1 AND 100, got 0\n"
        '    {"order_id": 1901, '
    )
    assert "\n1 rejected: type, column price\n" in said.err
    assert "210 events in" in said.err
    assert "206 accepted, 6 of them duplicates; 4 rejected\n" in said.err


def test_another_question(capsys: Text) -> None:
    where = tried(capsys, "category_day", "orders.ndjson", "--where", "orders > 30 -- many")
    rows = [(row[0], row[1]) for row in where["rows"]]
    assert rows == [("2026-03-02", "office"), ("2026-03-04", "office")]

    asked = "SELECT sum(orders) AS n, sum(revenue) AS sold FROM category_day"
    answer = tried(capsys, "category_day", "orders.ndjson", "--sql", asked)
    assert answer["rows"] == [[200, "7525.25"]]

    limited = tried(capsys, "category_day", "orders.ndjson", "--limit", "1")
    assert (len(limited["rows"]), limited["truncated"]) == (1, True)

    assert cli.main(["try", "shop_day", "orders.ndjson", "--format", "csv", "--limit", "1"]) == 0
    header, row, rest = capsys.readouterr().out.split("\n", 2)
    assert header.startswith("day,orders,mean_amount,")
    assert (row.startswith("2026-03-02,67,34.2"), rest) == (True, "")


def test_groups_that_memory_does_not_hold(tmp_path: Path, capsys: Text) -> None:
    (tmp_path / "v.sql").write_text(
        "CREATE STREAM s (a BIGINT, b VARCHAR) WITH (topic = 's', format = 'csv');\n"
        "CREATE VIEW v AS SELECT a, max(b) AS b FROM s GROUP BY a;\n"
    )
    lines = "\n".join(f"{at},{'x' * 200}{at}" for at in range(20_000))
    (tmp_path / "e.csv").write_text(lines)
    asked = ["try", "v", str(tmp_path / "e.csv"), "--project", str(tmp_path), "--memory"]

    assert cli.main([*asked, "4MB"]) == 1
    assert "It had 4MB; say --memory for more\n" in capsys.readouterr().err
    assert cli.main([*asked, "100MB", "--limit", "1"]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["shop_dya", "orders.ndjson"], "(category_day, shop_day); got 'shop_dya'; did you mean"),
        (["shop_day", "no.ndjson"], "file 'no.ndjson' must exist; it does not"),
        (["shop_day", "."], "file '.' must exist; it is a folder"),
        (["shop_day", "orders.ndjson", "--sql", "SELECT nope FROM shop_day"], '"nope" not found'),
        (["shop_day", "orders.ndjson", "--sql", "SELECT * FROM 'orders.ndjson'"], "must be a view"),
        (["shop_day", "orders.ndjson", "--sql", "DROP VIEW shop_day"], "must be a SELECT"),
        (["shop_day", "orders.ndjson", "--memory", "much"], "--memory must be a size such as"),
        (["shop_day", "orders.ndjson", "--limit", "-1"], "--limit must be 0 or more; got -1"),
        (["shop_day", "-", "-"], "stdin must be given once"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], said: str, capsys: Text) -> None:
    assert cli.main(["try", *arguments]) == 2

    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err


def test_a_wrong_query_is_told_before_the_work(
    capsys: Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "fold", None)

    assert cli.main(["try", "shop_day", "orders.ndjson", "--where", "orders >"]) == 2
    assert "syntax error" in capsys.readouterr().err


def test_nothing_garbage_and_a_line_without_end(shop: Path, capsys: Text) -> None:
    empty, garbage, huge = (shop.parent / name for name in ("empty.ndjson", "garbage", "huge.json"))
    empty.write_bytes(b"\n\n")
    garbage.write_bytes(bytes(range(256)) * 99 + b'\n[{"order_id": 1}]\n"x"\n\n' + b"{" * 5000)
    order = (shop / "orders.ndjson").read_bytes().splitlines()[0]
    huge.write_bytes(order + b"\n" + b"x" * 5 * records.LONGEST + b"\n" + order + b"\n")

    nothing = tried(capsys, "shop_day", str(empty))
    assert (nothing["rows"], nothing["tried"]["events"]) == ([], 0)
    cli.main(["try", "shop_day", str(empty)])
    assert f"no events: there is no record in {empty}\n" in capsys.readouterr().err

    told = tried(capsys, "shop_day", str(garbage))["tried"]
    assert told["accepted"] == 0
    assert told["rejected"] == told["events"] > 3
    assert {each["reason"] for each in told["reasons"]} >= {"not UTF-8", "not an object"}
    cli.main(["try", "shop_day", str(garbage)])
    assert "not one event fits stream 'orders'; `everview infer" in capsys.readouterr().err

    told = tried(capsys, "shop_day", str(huge))["tried"]
    assert (told["accepted"], told["duplicates"], told["rejected"]) == (2, 1, 1)
    (reject,) = told["rejects"]
    assert (reject["line"], reject["reason"]) == (2, "too long")


def test_a_view_that_cannot_be_folded_names_the_line(tmp_path: Path, capsys: Text) -> None:
    (tmp_path / "v.sql").write_text(
        "CREATE STREAM s (a BIGINT, b BIGINT) WITH (topic = 's', format = 'csv');\n"
        "CREATE VIEW v AS SELECT sum(a // b) AS n, count(*) AS c FROM s;\n"
        "CREATE VIEW none AS SELECT count(*) AS c FROM s;"
    )
    (tmp_path / "e.csv").write_text("a,b\n6,3\n1,0\n")

    assert cli.main(["try", "v", str(tmp_path / "e.csv"), "--project", str(tmp_path)]) == 1

    said = capsys.readouterr().err
    assert "view 'v' must be answered; got: " in said
    assert f"(from {tmp_path / 'e.csv'}:3 on)" in said
    (tmp_path / "e.csv").write_text("")
    answer = tried(capsys, "none", str(tmp_path / "e.csv"), "--project", str(tmp_path))
    assert answer["rows"] == [[0]]


def test_a_killed_try_leaves_the_project_alone(shop: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "infra", "try", "shop_day", "-"],
        stdin=subprocess.PIPE,
        cwd=shop,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        try:
            assert process.stdin is not None
            process.stdin.write((shop / "orders.ndjson").read_bytes())
            process.stdin.flush()
            until = time.monotonic() + WAIT
            while not any(tmp_path.iterdir()) and time.monotonic() < until:
                time.sleep(0.02)
        finally:
            process.kill()
        assert process.wait(WAIT) == -signal.SIGKILL


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def interrupted(*_: object) -> None:
        assert any(tmp_path.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(trial, "table_of", interrupted)

    assert cli.main(["try", "shop_day", "orders.ndjson"]) == 130
    assert list(tmp_path.iterdir()) == []


def test_the_page_shows_what_happens(capsys: Text) -> None:
    page = Path(__file__).parents[2] / "docs" / "commands.md"
    steps = [step for step in starter.steps(page) if step.command.startswith("everview ")]
    assert [step.command.split()[1] for step in steps] == ["infer", "try", "schemas", "schemas"]
    for step in steps:
        capsys.readouterr()
        assert cli.main(shlex.split(step.command)[1:]) == 0
        said = capsys.readouterr().out.replace("\r\n", "\n")
        assert step.output.startswith(said), step.command
    capsys.readouterr()
    assert cli.main(["check", "--sql"]) == 0
    shown = capsys.readouterr().out
    _, costs = page.read_text(encoding="utf-8").split("## What a view costs", 1)
    table = [line for line in costs.split("## ")[0].splitlines() if line.startswith("    ")]
    assert len(table) > 3
    assert all(f"{line}\n" in shown for line in table)
