"""What is told of definitions that are wrong: `errors/*.sql`, read beside the definitions of
`errors/project`. A comment under a line says what must be told of it: carets under the piece that
is wrong, and a part of the message. `errors/*.txt` is all of it, as `everview check` prints it.

`pytest tests/golden/test_errors.py --update-golden` rewrites the second, never the first.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.verbs import check
from schemas import definitions
from schemas.errors import Problem
from schemas.language import parser

HERE = Path(__file__).parent / "errors"
NAMES = sorted(file.stem for file in HERE.glob("*.sql"))
PROJECT = HERE / "project"
BASE = parser.parse("base.sql", (PROJECT / "base.sql").read_text())[0]
MARK = re.compile(r"-- *(\^+) (.*)")


def told(name: str) -> list[Problem]:
    """What is wrong with a file beside the project's definitions."""
    statements, problems = parser.parse(f"{name}.sql", (HERE / f"{name}.sql").read_text())
    unread = [problem.about for problem in problems]
    return sorted(problems + definitions.read([*BASE, *statements], unread)[1])


def wanted(name: str) -> list[tuple[int, int, int, str]]:
    """Line, column, length and a part of the message of all that must be told."""
    found, above = [], 0
    for number, line in enumerate((HERE / f"{name}.sql").read_text().splitlines(), 1):
        mark = MARK.fullmatch(line)
        if mark is None:
            above = number
        else:
            found.append((above, mark.start(1) + 1, len(mark[1]), mark[2]))
    return sorted(found)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_told_where_it_is_wrong(name: str, request: pytest.FixtureRequest) -> None:
    problems = told(name)
    places = sorted((each.line, each.column, each.length) for each in problems)
    assert places == [place[:3] for place in wanted(name)]
    for line, column, _, part in wanted(name):
        messages = [p.message for p in problems if (p.line, p.column) == (line, column)]
        assert any(part in message for message in messages), messages
    file = HERE / f"{name}.txt"
    shown = check.told(problems) + "\n"
    if request.config.getoption("--update-golden"):
        file.write_text(shown)
    assert file.read_text() == shown, "see `pytest tests/golden/test_errors.py --update-golden`"


def test_every_answer_has_its_question() -> None:
    assert [file.stem for file in sorted(HERE.glob("*.txt"))] == NAMES
