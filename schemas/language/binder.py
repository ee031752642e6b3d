"""What the language asks of the engine: types, and what a function is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class SqlError(Exception):
    """The engine's word on a piece of SQL; `offset` counts characters from the start of that piece
    and is None where the engine names no place."""

    def __init__(self, message: str, offset: int | None) -> None:
        self.message, self.offset = message, offset
        super().__init__(message)


@dataclass(frozen=True)
class FunctionUse:
    """A function (operators are functions too) where a piece of SQL calls it."""

    name: str
    offset: int


class Binder(Protocol):
    """The engine over empty tables of the declared streams and references."""

    @property
    def aggregates(self) -> frozenset[str]:
        """Names of all aggregate functions of the engine."""

    @property
    def steady(self) -> frozenset[str]:
        """Names of the functions and macros whose result depends on their arguments alone."""

    @property
    def known(self) -> frozenset[str]:
        """Names of all functions of the engine."""

    def describe(self, select: str) -> tuple[tuple[str, str], ...]:
        """Names and types of the result's columns; SqlError where the engine refuses."""

    def functions(self, select: str) -> tuple[FunctionUse, ...]:
        """Every function that a statement calls; SqlError where it cannot be parsed."""

    def evaluate(self, expression: str) -> None:
        """Compute an expression without columns; SqlError where the engine cannot."""
