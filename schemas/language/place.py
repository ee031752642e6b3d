"""Where something stands in a file: an offset in characters, shown as line and column from 1."""

from __future__ import annotations

from sqlglot import exp


def shown(text: str, offset: int) -> tuple[int, int]:
    """Line and column of an offset; a tab is one column, like any other character."""
    offset = min(offset, len(text))
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def of(node: exp.Expr) -> int | None:
    """The first offset that the parser kept below `node`: it keeps those of names, literals, stars
    and functions only."""
    return min((part.meta["start"] for part in node.walk() if "start" in part.meta), default=None)


def unclosed(text: str) -> tuple[int, str] | None:
    """Offset and kind of the first string, name or comment that never ends."""
    at = 0
    while at < len(text):
        opened = next((mark for mark in CLOSED_BY if text.startswith(mark, at)), None)
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
    "$$": ("string", "$$"),
}
