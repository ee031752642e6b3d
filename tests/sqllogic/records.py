"""sqllogictest files: records apart by empty lines, `#` for comments.

    statement ok            statement error             query TIR [nosort | rowsort | valuesort]
    SELECT 1                DROP VIEW v                 SELECT 'a', 1, 0.5
                            ----                        ----
                            403 must be a SELECT        a<TAB>1<TAB>0.500

Columns are T(ext), I(nteger) or R(eal, three digits behind the point). NULL is NULL, an empty text
(empty). A refusal is its status and message, of which the record gives a part.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Ask = Callable[[str], tuple[int, Any]]
"""SQL -> status and rows, or status and message."""


@dataclass(frozen=True)
class Record:
    """One of a file, with the line where it starts."""

    line: int
    kind: str
    expect: str
    sort: str
    sql: str
    expected: tuple[str, ...]


def read(path: Path) -> Iterator[Record]:
    """The records of a file; ValueError for one that is none."""
    for line, lines in _blocks(path.read_text().splitlines()):
        kind, *words = lines[0].split()
        at = lines.index("----") if "----" in lines else len(lines)
        sort = words[1] if len(words) > 1 else "nosort"
        known = {"statement": words[:1] in (["ok"], ["error"]), "query": bool(words)}
        if not known.get(kind) or sort not in ("nosort", "rowsort", "valuesort"):
            message = f"{path.name}:{line}: record must be a statement or a query; got {lines[0]!r}"
            raise ValueError(message)
        yield Record(line, kind, words[0], sort, "\n".join(lines[1:at]), tuple(lines[at + 1 :]))


def _blocks(lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    start, block = 0, list[str]()
    for number, line in enumerate([*lines, ""], 1):
        if line.startswith("#"):
            continue
        if line:
            start = start if block else number
            block.append(line)
        elif block:
            yield start, block
            block = []


def wrong(record: Record, ask: Ask) -> str | None:
    """What is wrong with the answer to a record, or None."""
    status, answer = ask(record.sql)
    if record.kind == "statement" and record.expect == "error":
        wanted, _, part = " ".join(record.expected).partition(" ")
        refused = wanted == str(status) and part in str(answer)
        return None if refused else f"must be refused by {wanted} {part!r}; got {status} {answer}"
    if status != 200:
        return f"must be answered; got {status} {answer}"
    if record.kind == "statement":
        return None
    rows = [_shown(row, record.expect) for row in answer]
    if any(len(row) != len(record.expect) for row in rows):
        return f"must have {len(record.expect)} columns; got {rows[0]}"
    found, expected = ["\t".join(row) for row in rows], list(record.expected)
    if record.sort == "rowsort":
        found, expected = sorted(found), sorted(expected)
    elif record.sort == "valuesort":
        found = sorted(value for row in rows for value in row)
        expected = sorted(value for line in expected for value in line.split("\t"))
    return None if found == expected else f"must be {expected}; got {found}"


def _shown(row: Sequence[Any], kinds: str) -> list[str]:
    return [_value(value, kinds[at] if at < len(kinds) else "T") for at, value in enumerate(row)]


def _value(value: Any, kind: str) -> str:
    if value is None:
        return "NULL"
    if kind == "I":
        return str(int(value))
    if kind == "R":
        return f"{float(value):.3f}"
    if isinstance(value, str):
        return value or "(empty)"
    return json.dumps(value)
