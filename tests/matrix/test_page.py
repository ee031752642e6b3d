"""docs/reliability.md says what the tests hold: its tables are written from them, and every test
that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from schemas.failpoints import MOMENTS
from tests.matrix.guards import GUARDS
from tests.matrix.registry import Row
from tests.matrix.test_matrix import ALL_ROWS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN = "<!-- written by: pytest --update-golden tests/matrix/test_page.py -->\n"
END = "<!-- end -->\n"
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
NUMBER = re.compile(r"\b([FE]\d+)\b")


def test_the_tables_are_those_of_the_tests(request: pytest.FixtureRequest) -> None:
    tables = (moments(), rows("F"), rows("E"), guards())
    first, *told = PAGE.read_text(encoding="utf-8").split(BEGIN)
    written = first
    for table, part in zip(tables, told, strict=True):
        before, after = part.split(END)
        written += f"{BEGIN}\n{table}\n\n{END}{after}"
        if not request.config.getoption("--update-golden"):
            assert before == f"\n{table}\n\n"
    if request.config.getoption("--update-golden"):
        PAGE.write_text(written, encoding="utf-8")


def test_every_test_that_the_page_names_is_there() -> None:
    named = TEST.findall(PAGE.read_text(encoding="utf-8"))
    assert len(named) > 100
    for file, function in named:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not function or f"\ndef {function}(" in text, (file, function)


def test_every_promise_is_shown() -> None:
    """By a test, or by rows that are played or shown by one."""
    text = (
        PAGE.read_text(encoding="utf-8").partition("## What is promised")[2].partition("\n## ")[0]
    )
    promises = re.findall(r"^\| (\*\*.*) \| (.*) \|$", text, re.MULTILINE)
    assert len(promises) >= 15
    rows = {row.number: row for row in ALL_ROWS}
    for promise, shown in promises:
        numbers = NUMBER.findall(TEST.sub("", shown))
        assert numbers or TEST.search(shown) or "every row below" in shown, promise
        for number in numbers:
            assert rows[number].scenario or rows[number].tests, (promise, number)


def moments() -> str:
    lines = ["| moment | where |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{name}` | {what} |" for name, what in MOMENTS.items())])


def rows(kind: str) -> str:
    lines = ["| row | what happens | shown by |", "|---|---|---|"]
    return "\n".join([*lines, *(_row(row) for row in ALL_ROWS if row.number[0] == kind)])


def guards() -> str:
    lines = ["| guard | the row that fails without it |", "|---|---|"]
    return "\n".join([*lines, *(f"| {each.what} | {each.row} |" for each in GUARDS.values())])


def _row(row: Row) -> str:
    shown = []
    if row.scenario is not None:
        shown.append(f"`{row.scenario.__module__.replace('.', '/')}.py`")
    shown += [f"`{test}`" for test in row.tests]
    said = ", ".join(shown)
    if row.reason is not None:
        said += f". Not here: {row.reason}" if said else f"not yet: {row.reason}"
    return f"| {row.number} | {row.what} | {said} |"
