"""The line of a problem: its carets stand under the piece, on a terminal too."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import excerpt
from schemas.errors import DefinitionError, Problem


def columns(text: str, stop: int = 8) -> int:
    """How far a terminal comes that prints a text, with tab stops as far apart."""
    at = 0
    for character in text:
        if character == "\t":
            at += stop - at % stop
        elif not unicodedata.combining(character) and unicodedata.category(character) != "Cf":
            at += 2 if unicodedata.east_asian_width(character) in "WF" else 1
    return at


def parts(shown: str) -> tuple[str, str]:
    line, carets = shown.split("\n")
    return line, carets


@pytest.mark.parametrize(
    ("line", "column", "length", "under"),
    [
        ("SELECT kk FROM s", 8, 2, "kk"),
        ("SELECT '\u822a\u73ed', kk FROM s", 14, 2, "kk"),
        ("SELECT '\u822a\u73ed' FROM s", 8, 4, "'\u822a\u73ed'"),
        ("SELECT 'e\u0301', kk FROM s", 14, 2, "kk"),
        ("\tSELECT\t'a',\tkk", 14, 2, "kk"),
        ("kk", 1, 2, "kk"),
        ("kk", 3, 1, ""),
        ("", 1, 1, ""),
        ("kk\r", 1, 20, "kk"),
    ],
)
def test_carets_stand_under_the_piece(line: str, column: int, length: int, under: str) -> None:
    shown, carets = parts(excerpt.of(line, 7, column, length))
    before = "  7 | " + line[: column - 1]
    for stop in (4, 8):
        assert columns(carets.rstrip("^"), stop) == columns(before, stop)
    assert carets.count("^") == max(1, columns(under))
    assert shown == "  7 | " + line.rstrip("\r")


@given(
    st.text(st.sampled_from("ab ,\t\u822a\u0301\x1b\u2028"), max_size=300),
    st.integers(1, 320),
    st.integers(1, 40),
    st.sampled_from([40, 80, 120]),
)
def test_any_line_fits_and_is_marked(line: str, column: int, length: int, width: int) -> None:
    shown, carets = parts(excerpt.of(line, 12, column, length, width))
    assert columns(shown) <= width + columns("\t") or "\t" not in line
    assert "\t" in line or columns(shown) <= width
    assert set(carets.removeprefix("     | ")) <= set("^ \t")
    assert carets.count("^") >= 1
    assert not {"\x1b", "\u2028"} & set(shown)
    assert len(parts(excerpt.of(line, 12, column, length, width))) == 2


def test_the_middle_of_a_long_line_is_shown() -> None:
    line = "a, " * 100 + "wrong" + ", a" * 100
    shown, carets = parts(excerpt.of(line, 1, 301, 5, 80))
    at = carets.index("^")
    assert shown[at : at + 5] == "wrong"
    assert carets[at:] == "^^^^^"
    assert len(shown) <= 80
    assert shown[6:9] == shown[-3:] == "..."


def test_a_problem_without_a_line_is_its_text() -> None:
    bare = Problem("a.sql", 3, 1, "must be")
    lined = Problem("a.sql", 2, 3, "must not", 2, "x yy z")
    assert str(DefinitionError([bare, lined])) == (
        "a.sql:2:3: must not\n  2 | x yy z\n    |   ^^\na.sql:3:1: must be"
    )
