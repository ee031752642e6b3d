"""Bounds of a view -> the condition that keeps a group, over its keys or over the view's rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC

from schemas.bound import Bound
from schemas.compile import sql

Columns = Sequence[tuple[str, str]]
TIMES = ("DATE", "TIMESTAMP")  # and what these begin: TIMESTAMP_S, TIMESTAMP WITH TIME ZONE


def time_keys(keys: Columns, columns: Columns) -> tuple[str, ...]:
    """The group keys that are times and are shown as they are: by these a group can be told from
    its row and from its partials."""
    shown = set(columns)
    return tuple(key for key, kind in keys if kind.startswith(TIMES) and (key, kind) in shown)


def condition(keys: Columns, columns: Columns, bounds: Iterable[Bound]) -> str:
    """Empty where no bound is about one of these keys. What has no time is kept."""
    known = time_keys(keys, columns)
    return " AND ".join(
        f"(TRY_CAST({sql.name(each.key)} AS TIMESTAMP) >= {_literal(each)}) IS NOT FALSE"
        for each in bounds
        if each.key in known
    )


def _literal(bound: Bound) -> str:
    text = bound.value.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")
    return f"TIMESTAMP {sql.text(text)}"
