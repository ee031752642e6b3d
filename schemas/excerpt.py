"""The line of a file that a problem stands in, with carets under the piece that is wrong.

    12 | SELECT k, dep_dealy
       |           ^^^^^^^^^

A terminal shows some characters two columns wide and some none, and a tab as far as the next stop:
tabs are repeated above the carets' line, so that both lines stop alike.
"""

from __future__ import annotations

import unicodedata

WIDTH = 100
"""Columns of a text that is shown on no terminal."""

CUT = "..."
# the widest that a terminal makes of a tab
TAB = 8


def of(line: str, number: int, column: int, length: int, width: int = WIDTH) -> str:
    """Two lines. `column` counts characters from 1, `length` those that are wrong; a longer line
    than `width` columns is cut around them."""
    text = "".join(map(_printable, line.rstrip("\r\n")))
    start = min(column - 1, len(text))
    end = min(max(start + length, start + 1), max(len(text), start + 1))
    margin = f"  {number} | "
    first, last = _window(text, start, end, max(width - len(margin), 2 * TAB))
    before, after = CUT if first else "", CUT if last < len(text) else ""
    blank = " " * len(before) + "".join(map(_blank, text[first:start]))
    carets = "^" * max(1, sum(map(_columns, text[start : min(end, last)])))
    return f"{margin}{before}{text[first:last]}{after}\n{' ' * (len(margin) - 2)}| {blank}{carets}"


def _window(text: str, start: int, end: int, room: int) -> tuple[int, int]:
    """The part of a line that is shown: all of it, or what fits around `start` to `end`."""
    if sum(map(_columns, text)) <= room:
        return 0, len(text)
    room -= 2 * len(CUT)
    first = last = start
    # the piece itself first, then as much after it as before it
    while last < min(end, len(text)) and _columns(text[last]) <= room:
        room -= _columns(text[last])
        last += 1
    while room > 0 and (first > 0 or last < len(text)):
        for at in (first - 1, last):
            if 0 <= at < len(text):
                room -= _columns(text[at])
                if room < 0:
                    break
                first, last = min(first, at), max(last, at + 1)
    return first, last


def _columns(character: str) -> int:
    if character == "\t":
        return TAB
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _blank(character: str) -> str:
    return "\t" if character == "\t" else " " * _columns(character)


def _printable(character: str) -> str:
    """No character of a file moves the cursor or changes colours."""
    plain = character == "\t" or unicodedata.category(character) not in ("Cc", "Zl", "Zp")
    return character if plain else "\N{REPLACEMENT CHARACTER}"
