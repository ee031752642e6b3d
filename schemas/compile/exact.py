"""What an answer is judged by: the view's own text, with exact aggregates where it estimates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from schemas.language.view import Output, View
from schemas.measures import ALL
from schemas.measures.measure import Exactness

LOOSENESS: tuple[Exactness, ...] = ("exact", "reproducible", "approximate")
_CALLS = re.compile(r"\b_call_(\d+)\b")
_ALONE = re.compile(r'"?_call_\d+"?')


@dataclass(frozen=True)
class Compared:
    """How a column of the answer agrees with that of the exact text: it is `equal`, it is `within`
    a bound (`condition` is over {ours} and {exact}), or `not` to be compared, being computed from
    an estimate. `exactness` is that of the loosest measure in it and `bound` says how far it may be
    off."""

    column: str
    type: str
    kind: Literal["equal", "within", "not"]
    condition: str
    exactness: Exactness
    bound: str


def text(view: View) -> str:
    """The view's own text, in which `approx_count_distinct(x)` is `count(DISTINCT x)`."""
    statement = view.statement
    tokens = statement.tokens[statement.query :]
    start, pieces = tokens[0].start, []
    for token, following in pairwise(tokens):
        measure = ALL.get(token.text.lower())
        if measure is not None and measure.exact and following.text == "(":
            pieces += [statement.source[start : token.start], measure.exact]
            start = following.end + 1
    return "".join([*pieces, statement.source[start : tokens[-1].end + 1]])


def compared(view: View) -> tuple[Compared, ...]:
    """Per output."""
    return tuple(_compared(view, output) for output in view.outputs)


def _compared(view: View, output: Output) -> Compared:
    used = [ALL[view.calls[int(at)].function] for at in _CALLS.findall(output.sql)]
    loosest = max(used, key=lambda measure: LOOSENESS.index(measure.exactness), default=None)
    name, kind = output.name, output.type
    if loosest is None:
        return Compared(name, kind, "equal", "", "exact", "none")
    exactness, bound = loosest.exactness, loosest.bound
    if exactness != "approximate":
        return Compared(name, kind, "equal", "", exactness, bound)
    if _ALONE.fullmatch(output.sql):
        return Compared(name, kind, "within", loosest.within, exactness, bound)
    computed = f"computed from a value with {bound}"
    return Compared(name, kind, "not", "", exactness, computed)
