"""A table of numbers in a page of docs, between two comments: made by `make bench`, not by hand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def write(page: Path, name: str, lines: Iterable[str]) -> None:
    """Put these lines between the comments of that name; ValueError where the page has none."""
    text = page.read_text(encoding="utf-8")
    opening, closing = f"<!-- bench: {name} -->\n", f"<!-- /bench: {name} -->"
    head, opened, rest = text.partition(opening)
    _, closed, tail = rest.partition(closing)
    if not opened or not closed:
        message = f"{page.name} must hold {opening.strip()} and {closing}; add them"
        raise ValueError(message)
    body = "".join(f"{line}\n" for line in lines)
    page.write_text(f"{head}{opening}\n{body}\n{closing}{tail}", encoding="utf-8")


def row(*cells: object) -> str:
    """A line of a table."""
    return f"| {' | '.join(map(str, cells))} |"
