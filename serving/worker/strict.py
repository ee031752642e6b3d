"""What a client does not want to be answered rather than answered so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serving.envelope import Code, RequestError
from serving.query import Query


def admit(query: Query, coverage: Sequence[Mapping[str, Any]]) -> None:
    """Refuses an answer with that coverage, a degraded one, where the query is strict."""
    for each in coverage:
        if query.strict and each["degraded"] is not None:
            message = f"view {each['view']!r} is degraded: {each['degraded']}"
            raise RequestError(Code.DEGRADED, message)
