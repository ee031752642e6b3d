"""docs/settings.md has a row for every setting and every variable that is read, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra import settings
from schemas.errors import DefinitionError

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "settings.md"
BEGIN = "<!-- written by: pytest --update-golden tests/infra/test_settings_page.py -->\n"
END = "<!-- end -->\n"
READERS = ("schemas", "streaming", "batch", "serving", "infra", "bootstrap")
# how the code names a variable: where it looks it up, or as a constant that it looks up
VARIABLE = re.compile(
    r"\benviron(?:ment)?(?:\.get|\.setdefault)?[(\[]\s*\"([A-Z][A-Z_]+)\""
    r"|\"([A-Z][A-Z_]+)\" (?:not )?in os\.environ"
    r"|\"(EVERVIEW_[A-Z_]+[A-Z])\""
)


def tables() -> str:
    """A table per section, as the rules have it."""
    lines: list[str] = []
    for section, rules in settings.RULES.items():
        lines += [f"### [{section}]", ""]
        lines += [
            "| key | default | allowed | variable | meaning | restart |",
            "|---|---|---|---|---|---|",
        ]
        for key, rule in rules.items():
            cells = (
                f"`{key}`",
                f"`{settings.written(rule.default)}`",
                rule.allowed,
                f"`{settings.PREFIX}{section.upper()}_{key.upper()}`",
                rule.meaning,
                rule.restart,
            )
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def test_every_setting_has_its_row_and_no_row_is_without_a_setting(
    request: pytest.FixtureRequest,
) -> None:
    before, told = PAGE.read_text(encoding="utf-8").split(BEGIN)
    written, after = told.split(END)
    if request.config.getoption("--update-golden"):
        PAGE.write_text(f"{before}{BEGIN}\n{tables()}{END}{after}", encoding="utf-8")
        return
    assert len(settings.RULES) >= 4
    assert written == f"\n{tables()}"
    # what a variable is told to be is what is read
    assert f"`{settings.PREFIX}<SECTION>_<KEY>`" in before


def test_every_variable_of_a_row_is_read(tmp_path: Path) -> None:
    rows = re.findall(
        r"^\| `\w+` \|.*\| `(EVERVIEW_\w+)` \|", PAGE.read_text(encoding="utf-8"), re.M
    )
    assert len(rows) == sum(len(rules) for rules in settings.RULES.values())
    for variable in rows:
        with pytest.raises(DefinitionError, match=rf"^\${variable}:1:1: "):
            settings.load(tmp_path, {variable: "no such value!"})


def test_every_rule_says_what_it_is_for() -> None:
    for section, rules in settings.RULES.items():
        for key, rule in rules.items():
            assert rule.meaning, f"{section}.{key}"
            assert "|" not in rule.meaning + rule.allowed + rule.restart, f"{section}.{key}"
            assert "\n" not in rule.meaning, f"{section}.{key}"


def test_every_other_variable_that_is_read_is_told_and_no_other() -> None:
    read = set()
    for package in READERS:
        for file in (ROOT / package).rglob("*.py"):
            for names in VARIABLE.findall(file.read_text(encoding="utf-8")):
                read |= {name for name in names if name}
    page = PAGE.read_text(encoding="utf-8").partition("## Other variables")[2]
    told = {
        name
        for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    given_on = {"JAVA_TOOL_OPTIONS"}  # read by Java

    assert {"JAVA_HOME", "EVERVIEW_CACHE", "EVERVIEW_PART", "PYTHONPATH"} <= read
    assert told - given_on == read
