"""The guards that the rows have teeth for: how to take each out, and the row that then fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Guard:
    """`what` is a phrase for people; `row` goes red without it."""

    what: str
    row: str
    remove: Callable[[Patch], None]


GUARDS: dict[str, Guard] = {}
