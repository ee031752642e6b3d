"""What the engine says of a piece of SQL, in the words of the language."""

from __future__ import annotations

import re

from schemas import column_types
from schemas.language import near

OF_THE_WHOLE = ("must appear in the GROUP BY clause", "Referenced column", "Referenced table")
# pattern -> what to say instead, with its groups
WORDS = (
    (r"Deprecated lambda arrow.*", "a lambda must be written lambda x: ...; got one with ->"),
    (
        r'column "(.+?)" must appear in the GROUP BY clause.*',
        r"column '\1' must be grouped or aggregated; add it to GROUP BY",
    ),
    (
        r'Referenced column "(.+?)" not found.*',
        r"column must be a declared one; got \1",
    ),
    (
        r"No function matches the given name and argument types '(.+?)'\..*",
        r"no function takes these arguments: '\1'. CAST them to what it takes",
    ),
    (
        r"(WHERE|GROUP BY) clause cannot contain aggregates!.*",
        r"\1 must not hold an aggregate; filter what is counted in the query",
    ),
)


TYPES = (*column_types.NAMES, "DECIMAL", "HUGEINT", "FLOAT", "INTERVAL", "TIME", "UUID", "BLOB")
UNITS = ("year", "quarter", "month", "week", "day", "hour", "minute", "second", "dow", "doy")
# pattern of a name that is not known -> what it must be, and the names that are known
NAMED = (
    (r'Type with name "?(.+?)"? does not exist!.*', "type must be one of DuckDB's", TYPES),
    (
        r'extract specifier "(.+?)" not recognized.*',
        f"part of a time must be one of {', '.join(UNITS)}",
        UNITS,
    ),
)


def plain(message: str) -> str:
    """The engine's message as it is, or as it is said elsewhere in the language."""
    for pattern, words, known in NAMED:
        found = re.fullmatch(pattern, message, re.DOTALL)
        if found:
            return f"{words}; got {found[1]!r}{near.hint(found[1], known)}"
    for pattern, words in WORDS:
        found = re.fullmatch(pattern, message, re.DOTALL)
        if found:
            return found.expand(words)
    return message


def of_the_whole(message: str) -> bool:
    """Whether a message depends on more of the query than the piece that it is about."""
    return any(words in message for words in OF_THE_WHOLE)
