"""What an answer is judged by: the view's own text, with exact aggregates where it estimates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from sqlglot.tokenizer_core import Token

from schemas.compile import sql
from schemas.language.view import Output, View
from schemas.measures import ALL
from schemas.measures.measure import Exactness

OPENING, CLOSING = ("(", "[", "{"), (")", "]", "}")
LOOSENESS: tuple[Exactness, ...] = ("exact", "reproducible", "approximate")
_CALLS = re.compile(r"\b_call_(\d+)\b")
_ALONE = re.compile(r'"?_call_\d+"?')


@dataclass(frozen=True)
class Compared:
    """How a column of the answer agrees with that of the exact text: it is `equal`, it is `within`
    a bound or a rule (`condition` is over {ours} and {exact}), or `not` to be compared, being
    computed from such a value. `exactness` is that of the loosest measure in it and `bound` says
    how far it may be off."""

    column: str
    type: str
    kind: Literal["equal", "within", "not"]
    condition: str
    exactness: Exactness
    bound: str


def text(view: View) -> str:
    """The view's own text, in which `approx_count_distinct(x)` is `count(DISTINCT x)`; its columns
    are called as the view's are."""
    statement = view.statement
    # which of the calls of one function it is does not matter: all are judged by one template
    judged = {
        call.function: measure.judged.exact
        for call, measure in zip(view.calls, view.measures, strict=True)
        if measure.judged is not None
    }
    tokens = statement.tokens[statement.query :]
    start, pieces = tokens[0].start, []
    for at, (token, following) in enumerate(pairwise(tokens)):
        template = judged.get(token.text.lower()) if following.text == "(" else None
        if template is not None:
            arguments, end = _arguments(statement.source, tokens[at + 1 :])
            pieces += [statement.source[start : token.start], template.format(*arguments)]
            start = end
    if not pieces:
        return statement.body
    exact = "".join([*pieces, statement.source[start : tokens[-1].end + 1]])
    # a column without a name of its own has that of what is asked for
    names = sql.names(output.name for output in view.outputs)
    return f"SELECT * FROM ({exact}) AS exact({names})"


def _arguments(source: str, tokens: Sequence[Token]) -> tuple[list[str], int]:
    """The arguments of a call as written, and where it ends; the first token opens it."""
    depth, start, found = 0, tokens[0].end + 1, []
    for token in tokens:
        depth += (token.text in OPENING) - (token.text in CLOSING)
        if depth == 0 or (depth == 1 and token.text == ","):
            found.append(source[start : token.start].strip())
            start = token.end + 1
        if depth == 0:
            break
    return found, start


def compared(view: View) -> tuple[Compared, ...]:
    """Per output."""
    return tuple(_compared(view, output) for output in view.outputs)


def _compared(view: View, output: Output) -> Compared:
    calls = [int(at) for at in _CALLS.findall(output.sql)]
    used = [ALL[view.calls[at].function] for at in calls]
    loosest = max(used, key=lambda measure: LOOSENESS.index(measure.exactness), default=None)
    name, kind = output.name, output.type
    if loosest is None:
        return Compared(name, kind, "equal", "", "exact", "none")
    exactness, bound = loosest.exactness, loosest.bound
    judged = [found for at in calls if (found := view.measures[at].judged) is not None]
    if not judged:
        return Compared(name, kind, "equal", "", exactness, bound)
    if _ALONE.fullmatch(output.sql):
        return Compared(name, kind, "within", judged[0].within, exactness, bound)
    computed = f"computed from a value with {bound}" if exactness == "approximate" else bound
    return Compared(name, kind, "not", "", exactness, computed)
