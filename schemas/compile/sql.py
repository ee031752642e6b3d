"""Quoting: the only way by which names and texts get into emitted SQL."""

from __future__ import annotations

from collections.abc import Iterable


def name(identifier: str) -> str:
    """An identifier, quoted."""
    return '"' + identifier.replace('"', '""') + '"'


def names(identifiers: Iterable[str], prefix: str = "") -> str:
    """Identifiers, quoted, with commas; each behind `prefix` if there is one."""
    return ", ".join(f"{prefix}{name(identifier)}" for identifier in identifiers)


def text(value: str) -> str:
    """A string literal."""
    return "'" + value.replace("'", "''") + "'"


def texts(values: Iterable[str]) -> str:
    """A list of string literals."""
    return "[" + ", ".join(text(value) for value in values) + "]"
