"""The blocks of a page in docs: definitions, queries with their answers, events, files.

| block | is |
|---|---|
| `sql` that begins with CREATE | definitions: all of a page are one project |
| `sql refused` | definitions that are refused beside the others; `-- refused: WORDS` says why |
| another `sql` | a query over the served views; the table that follows it is its answer |
| `json STREAM`, `csv STREAM` | events of a stream, one per line |
| `csv FILE.csv` | a file of the project |
| `sh` | commands |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_COMMENT = re.compile(r"\s*(--[^\n]*\n\s*)*")


@dataclass(frozen=True)
class Block:
    """What stands between two fences; `line` is that of its text, `table` the rows of cells that
    follow before anything else does."""

    kind: str
    about: str
    text: str
    line: int
    table: list[list[str]] = field(default_factory=list)

    @property
    def defines(self) -> bool:
        """Whether it declares something."""
        return self.text[_COMMENT.match(self.text).end() :].upper().startswith("CREATE ")  # type: ignore[union-attr]


@dataclass(frozen=True)
class Page:
    """A page by its blocks, in order."""

    blocks: tuple[Block, ...]

    def of(self, kind: str) -> list[Block]:
        return [block for block in self.blocks if block.kind == kind]

    @property
    def definitions(self) -> list[str]:
        return [each.text for each in self.of("sql") if each.defines and not each.about]

    @property
    def refused(self) -> list[Block]:
        return [each for each in self.of("sql") if each.about == "refused"]

    @property
    def queries(self) -> list[Block]:
        return [each for each in self.of("sql") if not each.defines]

    @property
    def files(self) -> dict[str, bytes]:
        found = [each for each in self.of("csv") if each.about.endswith(".csv")]
        return {each.about: each.text.encode() for each in found}

    def events(self, stream: str) -> list[bytes]:
        found = [each.text for each in self.blocks if each.about == stream]
        return [line.encode() for text in found for line in text.splitlines()]


def read(file: Path) -> Page:
    """The page in a Markdown file."""
    return Page(tuple(_blocks(file.read_text(encoding="utf-8").splitlines())))


def _blocks(lines: list[str]) -> Iterator[Block]:
    at = 0
    while at < len(lines):
        if not lines[at].startswith("```"):
            at += 1
            continue
        kind, _, about = lines[at].removeprefix("```").partition(" ")
        end = lines.index("```", at + 1)
        text = "\n".join(lines[at + 1 : end]) + "\n"
        yield Block(kind, about.strip(), text, at + 2, _table(lines[end + 1 :]))
        at = end + 1


def _table(lines: Iterable[str]) -> list[list[str]]:
    """The Markdown table that comes first, its header and its rows, if one does."""
    found: list[list[str]] = []
    for line in lines:
        if line.startswith("|"):
            found.append([cell.strip() for cell in line.strip("|").split("|")])
        elif line or found:
            break
    return [row for at, row in enumerate(found) if at != 1]
