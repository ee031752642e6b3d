"""Near misses: the known name that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SIMILAR = 0.6
"""How much of a name must agree with what was meant (`difflib`'s ratio)."""


def miss(name: str, known: Iterable[str], similar: float = SIMILAR) -> str | None:
    """The known name that is most like `name`, whatever their case, or None."""
    by_lower: dict[str, str] = {}
    for each in known:
        by_lower.setdefault(each.lower(), each)
    close = difflib.get_close_matches(name.lower(), by_lower, 1, similar)
    return by_lower[close[0]] if close else None


def hint(name: str, known: Iterable[str], similar: float = SIMILAR) -> str:
    """The near miss as the end of a message, or nothing."""
    close = miss(name, known, similar)
    return f"; did you mean {close!r}?" if close else ""


def listed(known: Iterable[str], most: int = 12) -> str:
    """Names to choose from, as far as they can be read in a line."""
    names = list(known)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def hint_or_all(name: str, known: Iterable[str], similar: float = SIMILAR) -> str:
    """The near miss as the end of a message, or else all that there is."""
    names = list(known)
    return hint(name, names, similar) or (f". There is {listed(names)}" if names else "")
