"""What is told of definitions that are wrong: `errors/*.sql`, read beside the definitions of
`errors/project`. A comment under a line says what must be told of it: carets under the piece that
is wrong, and a part of the message. `errors/*.txt` is all of it, as `everview check` prints it.

`pytest tests/golden/test_errors.py --update-golden` rewrites the second, never the first.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from infra import cli
from infra.verbs import check
from schemas import definitions, language
from schemas.errors import Problem
from schemas.language import parser

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent / "errors"
NAMES = sorted(file.stem for file in HERE.glob("*.sql"))
PROJECT = HERE / "project"
BASE = parser.parse("base.sql", (PROJECT / "base.sql").read_text())[0]
AT = re.compile(r"-- at (\d+):(\d+) \((\d+)\): (.*)")
SAID = re.compile(r" must |; got|did you mean")
LANGUAGE = str(Path(language.__file__).parent)
Trace = Callable[[FrameType, str, object], Any]
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
        mark, at = MARK.fullmatch(line), AT.fullmatch(line)
        if at is not None:
            found.append((int(at[1]), int(at[2]), int(at[3]), at[4]))
        elif mark is None:
            above = number
        else:
            found.append((above, mark.start(1) + 1, len(mark[1]), mark[2]))
    return sorted(found)


@pytest.fixture(scope="module")
def run() -> tuple[dict[str, list[Problem]], set[tuple[str, int]]]:
    """What is told of each file, and the lines of the language that were run for it."""
    lines: set[tuple[str, int]] = set()

    def within(frame: FrameType, event: str, _: object) -> Trace:
        if event == "line":
            lines.add((frame.f_code.co_filename, frame.f_lineno))
        return within

    def calls(frame: FrameType, _: str, __: object) -> Trace | None:
        return within if frame.f_code.co_filename.startswith(LANGUAGE) else None

    before = sys.gettrace()
    sys.settrace(calls)
    try:
        return {name: told(name) for name in NAMES}, lines
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_told_where_it_is_wrong(
    name: str, run: tuple[dict[str, list[Problem]], object], request: pytest.FixtureRequest
) -> None:
    problems = run[0][name]
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


def messages(file: Path) -> Iterator[tuple[int, int, str]]:
    """First and last line of each statement in a function that says a part of a message, and that
    part."""
    functions = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.FunctionDef)]
    for statement in (each for function in functions for each in ast.walk(function)):
        if not isinstance(statement, ast.stmt) or isinstance(statement, ast.FunctionDef):
            continue
        described = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        blocks = [each.lineno for each in ast.walk(statement) if isinstance(each, ast.stmt)][1:]
        end = min(blocks, default=(statement.end_lineno or 0) + 1)
        for part in ast.walk(statement):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                said = SAID.search(part.value) and not described
                if said and part.lineno < end:
                    yield statement.lineno, end - 1, part.value


def test_every_message_is_told(run: tuple[object, set[tuple[str, int]]]) -> None:
    untold = []
    for file in sorted(Path(LANGUAGE).glob("*.py")):
        ran = {line for name, line in run[1] if name == str(file)}
        untold += [
            f"{file.name}:{first}: {part}"
            for first, last, part in messages(file)
            if not ran & set(range(first, last + 1))
        ]
    assert untold == []


def test_check_prints_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once through the command line: of one project, in its files, with what the files lack."""
    shutil.copytree(PROJECT, tmp_path, dirs_exist_ok=True)
    for name in ("echoes_are_not_told", "option_missing"):
        shutil.copy(HERE / f"{name}.sql", tmp_path)
    (tmp_path / "settings.sql").write_text(
        "CREATE VIEW daily WITH (rebuild = '@dayly') AS SELECT count(*) AS n FROM flights;\n"
    )
    (tmp_path / "everview.toml").write_text("[kafka]\nprot = 1\n")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["check"]) == 2
    shown = capsys.readouterr().err
    for name in ("echoes_are_not_told", "option_missing"):
        listed = (HERE / f"{name}.txt").read_text().splitlines()[:-1]
        assert "\n".join(listed) in shown
    assert "settings.sql:1:35: option 'rebuild' of view 'daily' must be " in shown
    assert "  2 | prot = 1\n    | ^^^^\n" in shown
    assert shown.endswith("\n9 problems\n")
    assert cli.main(["check", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)["problems"]
    assert len(found) == 9
    assert found[1] == {
        "file": "echoes_are_not_told.sql",
        "line": 4,
        "column": 30,
        "length": 3,
        "message": "view 'by_url': column must be a declared one of clicks; got pge; "
        "did you mean 'page'?",
        "source": "CREATE VIEW by_url AS SELECT pge, sum(ms) AS total FROM clicks GROUP BY ALL;",
    }
