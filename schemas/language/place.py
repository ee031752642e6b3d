"""Where something stands in a file: an offset in characters, shown as line and column from 1."""

from __future__ import annotations

import re

from sqlglot import exp

from schemas.errors import Problem


def shown(text: str, offset: int) -> tuple[int, int]:
    """Line and column of an offset; a tab is one column, like any other character."""
    offset = min(offset, len(text))
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def problem(
    file: str, text: str, offset: int, message: str, length: int = 1, about: str = ""
) -> Problem:
    """A problem with `length` characters of a file's text, from an offset on."""
    line, column = shown(text, offset)
    start = min(offset, len(text)) - (column - 1)
    source = text[start:].split("\n", 1)[0]
    return Problem(file, line, column, message, max(1, length), source, about)


def of(node: exp.Expr) -> int | None:
    """The first offset that the parser kept below `node`: it keeps those of names, literals, stars
    and functions only."""
    found = span(node)
    return None if found is None else found[0]


def span(node: exp.Expr) -> tuple[int, int] | None:
    """From the first to behind the last character that the parser kept below `node`."""
    kept = [part.meta for part in node.walk() if "start" in part.meta]
    if not kept:
        return None
    return min(meta["start"] for meta in kept), max(meta["end"] for meta in kept) + 1


def unclosed(text: str) -> tuple[int, str] | None:
    """Offset and kind of the first string, name or comment that never ends."""
    at = 0
    while at < len(text):
        opened = next((mark for mark in CLOSED_BY if text.startswith(mark, at)), None)
        tag = TAG.match(text, at)
        if tag is not None:
            end = text.find(tag[0], tag.end())
            if end < 0:
                return at, "string"
            at = end + len(tag[0])
            continue
        if opened is None:
            at += 1
            continue
        what, closing = CLOSED_BY[opened]
        end = text.find(closing, at + len(opened))
        if end < 0:
            return None if opened == "--" else (at, what)
        at = end + len(closing)
    return None


# a doubled quote closes a string and opens the next one, which comes to the same
CLOSED_BY = {
    "--": ("comment", "\n"),
    "/*": ("comment", "*/"),
    "'": ("string", "'"),
    '"': ("name", '"'),
}
# $$ or $word$
TAG = re.compile(r"\$(?:[A-Za-z_]\w*)?\$")
