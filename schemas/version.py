"""Version: the hash of a definition and of everything that its meaning depends on.

Formatting, comments, schedules and releases are not in it; the numbers that measures and compile
passes raise when they change their meaning are, and so is what the engine's `hash()` and time zones
say of fixed values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from sqlglot import exp

from schemas.compile import PASSES, reading
from schemas.language.dialect import parsed
from schemas.language.reference import Reference
from schemas.language.stream import Stream
from schemas.language.table import Column
from schemas.language.view import View
from schemas.measures import ALL

# hexadecimal digits that stand for a version wherever it is shown
LENGTH = 16


def of_stream(stream: Stream) -> str:
    """Of what decides which events of a topic are accepted, as what, and which count."""
    columns = stream.columns
    return _hash(
        [
            "stream",
            stream.name.lower(),
            [stream.topic, stream.format, stream.null, stream.dedup_within.total_seconds()],
            [[column.not_null, *_column(column)] for column in columns.columns],
            [_expression(check.sql) for check in columns.checks],
            columns.key,
        ]
    )


def of_view(
    view: View,
    stream: Stream,
    references: Mapping[str, Reference],
    contents: Mapping[str, str],
    probe: str,
) -> str:
    """Of a view. `contents` gives the sha256 of each reference's file by name, `probe` is the
    engine's."""
    return _hash(
        [
            "view",
            view.name.lower(),
            stream.name.lower(),
            view.meaning(),
            [stream.format, stream.null, *reading.places(stream, view.columns)],
            [_column(column) for column in reading.used(stream, view.columns)],
            [_reference(view, references[name], contents[name]) for name in view.references],
            [[call.function, ALL[call.function].meaning] for call in view.calls],
            [[step.__name__, step.MEANING] for step in PASSES],
            probe,
        ]
    )


def _column(column: Column) -> list[object]:
    """How a column is read; NOT NULL decides only what is accepted."""
    return [column.name, column.type, column.generated and _expression(column.generated)]


def _expression(text: str) -> str:
    """An expression over columns, whatever the case in which it names them."""
    tree = parsed(text)
    for column in tree.find_all(exp.Column):
        column.set("this", exp.to_identifier(column.name.lower(), quoted=True))
    return tree.sql("duckdb")


def _reference(view: View, reference: Reference, sha256: str) -> list[object]:
    used = view.scope.columns_joined(reference)
    columns = [_column(column) for column in reference.columns.columns if column.name in used]
    return [reference.name.lower(), columns, reference.columns.key, reference.null, sha256]


def _hash(facts: list[object]) -> str:
    text = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]
