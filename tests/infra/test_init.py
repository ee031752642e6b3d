"""`everview init`: what it makes, what it refuses, and that its README tells the truth."""

from __future__ import annotations

import csv
import io
import tomllib
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path

import pytest

from infra import cli, settings
from infra.verbs import init
from schemas import project
from tests import starter

FILES = {
    ".gitignore",
    "README.md",
    "everview.toml",
    "orders.ndjson",
    "orders.sql",
    "products.csv",
    "views.sql",
}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return init.make(tmp_path / "shop")


def shown(shop: Path, word: str) -> list[dict[str, str]]:
    """The rows that the README shows below the one query with that word in it."""
    (step,) = [s for s in starter.steps(shop / "README.md") if word in s.command]
    rows = list(csv.DictReader(io.StringIO(step.output)))
    assert rows
    return rows


def test_it_makes_a_good_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert cli.main(["init", "shop"]) == 0

    said = capsys.readouterr().out
    assert "\n    cd shop\n    everview up --detach\n" in said
    assert {path.name for path in (tmp_path / "shop").iterdir()} == FILES
    assert (tmp_path / "shop" / ".gitignore").read_text() == ".everview/\n"
    monkeypatch.chdir(tmp_path / "shop")
    assert cli.main(["check"]) == 0
    assert "1 stream, 1 table, 2 views: all good" in capsys.readouterr().out


def test_it_shows_what_views_can_do(shop: Path) -> None:
    loaded = project.load(shop)

    (stream,) = loaded.definitions.streams.values()
    assert stream.columns.key == ("order_id",)
    views = "\n".join(view.statement.source for view in loaded.definitions.views.values())
    for word in ("JOIN", "FILTER", "approx_quantile", "approx_top_k", "approx_count_distinct"):
        assert word in views


def test_an_empty_folder_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert cli.main(["init", "."]) == 0

    assert {path.name for path in tmp_path.iterdir()} == FILES
    assert "cd " not in capsys.readouterr().out


def test_its_settings_are_the_defaults(shop: Path) -> None:
    text = (shop / settings.FILE).read_text(encoding="utf-8")

    assert settings.load(shop, {}) == settings.load(shop.parent, {})
    every = tomllib.loads(text.replace("\n#", "\n").replace("\n ", "\n# "))
    assert every == {
        section: {key: rule.default for key, rule in rules.items()}
        for section, rules in settings.RULES.items()
    }
    (shop / settings.FILE).write_text(text.replace("#seal_bytes = ", "seal_bytes = "))
    assert settings.load(shop, {}) == settings.load(shop.parent, {})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("full", "project folder 'full' must be empty; it holds 'a.txt'. Choose another name"),
        ("full/a.txt", "must be a folder; there is a file of that name"),
        ("not/there", "must lie in a folder that exists; there is no 'not'"),
        ("a shop", "name of a project must be up to 100 letters, digits, '_', '-' and '.'"),
        (".shop", "and start with none of the last two; got '.shop'"),
        ("x" * 101, "name of a project must be up to 100"),
        ("full/a.txt/b", "must lie in a folder that exists"),
    ],
)
def test_it_refuses(
    name: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("mine")

    assert cli.main(["init", name]) == 2

    told = capsys.readouterr()
    assert said in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "full",
        "full/a.txt",
    ]


def test_the_readme_counts_the_lines_right(shop: Path) -> None:
    found = starter.orders(shop / "orders.ndjson")
    days = {order["ordered_at"][:10] for order in found.counted}
    text = (shop / "README.md").read_text(encoding="utf-8")

    assert shown(shop, "everview.epochs") == [
        {
            "counted": str(len(found.counted)),
            "repeated": str(found.repeated),
            "rejected": str(found.malformed),
        }
    ]
    told = f"{found.lines} lines to send: {len(found.counted)} orders of three days, "
    assert told + f"{found.repeated} of them twice, and {found.malformed} malformed lines" in text
    assert len(days) == 3
    assert len(shown(shop, "rejects")) == found.malformed


def test_the_readme_counts_the_days_right(shop: Path) -> None:
    found = starter.orders(shop / "orders.ndjson")
    by_day = defaultdict(list)
    for order in found.counted:
        by_day[order["ordered_at"][:10]].append(order)

    rows = shown(shop, "shop_day")

    assert [row["day"] for row in rows] == sorted(by_day)
    for row in rows:
        orders = by_day[row["day"]]
        assert row["orders"] == str(len(orders))
        assert row["best"] == starter.best(Counter(order["product"] for order in orders))
        exact = starter.median([starter.amount(order) for order in orders])
        assert abs(Decimal(row["median"]) - exact) <= exact / 100
        customers = len({order["customer"] for order in orders})
        assert abs(int(row["customers"]) - customers) <= 2
    second = starter.median([starter.amount(order) for order in by_day[rows[1]["day"]]])
    assert f"the second one is {second}" in (shop / "README.md").read_text(encoding="utf-8")


def test_the_readme_counts_the_categories_right(shop: Path) -> None:
    with (shop / "products.csv").open(encoding="utf-8") as file:
        category = {row["product"]: row["category"] for row in csv.DictReader(file)}
    totals: dict[str, list[Decimal]] = defaultdict(lambda: [Decimal(0)] * 3)
    for order in starter.orders(shop / "orders.ndjson").counted:
        of = category.get(order["product"], "")
        orders, with_coupon, revenue = totals[of]
        coupon = int("coupon" in order)
        totals[of] = [orders + 1, with_coupon + coupon, revenue + starter.amount(order)]

    rows = shown(shop, "category_day")

    assert {
        row["category"]: [Decimal(row[name]) for name in ("orders", "with_coupon", "revenue")]
        for row in rows
    } == totals


def test_the_readme_tells_which_order_is_late(shop: Path) -> None:
    lines = (shop / "orders.ndjson").read_text(encoding="utf-8").splitlines()
    (at,) = [number for number, line in enumerate(lines, 1) if '"order_id": 1013,' in line]

    assert at == 158
    assert "2026-03-02" in lines[at - 1]
    assert "2026-03-04" in lines[at - 2]
    text = (shop / "README.md").read_text(encoding="utf-8")
    assert "Order 1013 of the first day comes late, in line 158" in text
