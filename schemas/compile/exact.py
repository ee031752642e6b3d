"""What an answer is judged by: the view's own text, with exact aggregates where it estimates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlglot.tokenizer_core import Token, TokenType

from schemas.compile import sql
from schemas.language.view import Output, View
from schemas.measures.measure import Exactness, Judged

OPENING, CLOSING = ("(", "[", "{"), (")", "]", "}")
ENDS = frozenset({"FROM", "WHERE", "GROUP"})  # sqlglot takes GROUP BY for one word
FILTER, WHERE = "{filter}", "{where}"
LOOSENESS: tuple[Exactness, ...] = ("exact", "reproducible", "approximate")
# what stands in quotes, whatever it says, is no mark of the query
QUOTED = frozenset(
    kind for kind in TokenType if kind.name.endswith("STRING") or kind == TokenType.IDENTIFIER
)
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


def text(view: View, calls: Sequence[int] = ()) -> str:
    """The view's own text. A column that is compared within a bound is what its measure is judged
    by, such as `count(DISTINCT x)` for `approx_count_distinct(x)`; one that is not compared is
    NULL, so that nothing it does to such a value can fail. Behind them stands what these `calls`
    are judged by."""
    source, tokens = view.statement.source, view.statement.tokens[view.statement.query :]
    pieces, start = [], tokens[0].start
    items = _items(tokens)
    for output, how, item in zip(view.outputs, compared(view), items, strict=True):
        if how.kind == "equal":
            continue
        judged = "min(NULL)"
        if how.kind == "within":
            measure = view.measures[output.calls[0]]
            assert measure.judged is not None
            judged = _judged(measure.judged, source, item)
        pieces += [source[start : item[0].start], f"{judged} AS {sql.name(output.name)}"]
        start = item[-1].end + 1
    pieces.append(source[start : items[-1][-1].end + 1])
    pieces += [f", {_asked(view, at)} AS {sql.name(call_column(at))}" for at in calls]
    return "".join([*pieces, source[items[-1][-1].end + 1 : tokens[-1].end + 1]])


def call_column(call: int) -> str:
    """What a call is named where it is compared by itself."""
    return f"_call_{call}"


def inside(view: View) -> tuple[int, ...]:
    """The calls that are judged and stand inside an expression, which cannot be."""
    return tuple(
        dict.fromkeys(
            at
            for output in view.outputs
            if _compared(view, output).kind == "not"
            for at in output.calls
            if view.measures[at].judged is not None
        )
    )


def of_calls(view: View, calls: Sequence[int]) -> tuple[Compared, ...]:
    """How these calls agree with what they are judged by."""
    found = []
    for at in calls:
        measure, judged = view.measures[at], view.measures[at].judged
        assert judged is not None
        told = measure.exactness or "exact", measure.bound or "none"
        kind = view.calls[at].result
        found.append(Compared(call_column(at), kind, "within", judged.within, *told))
    return tuple(found)


def _asked(view: View, at: int) -> str:
    call, judged = view.calls[at], view.measures[at].judged
    assert judged is not None
    return _filled(judged, call.arguments, call.where or "true")


def _items(tokens: Sequence[Token]) -> list[list[Token]]:
    """The tokens of each item of the select list, wherever in the query it stands."""
    first = next(at for at, token in enumerate(tokens) if _mark(token) == "SELECT")
    found: list[list[Token]] = [[]]
    depth, before = 0, ""
    for token in tokens[first + 1 :]:
        mark = _mark(token)
        depth += (mark in OPENING) - (mark in CLOSING)
        word = mark.partition(" ")[0]
        # x IS DISTINCT FROM y is no end of the list
        if depth == 0 and word in ENDS and not (word == "FROM" and before == "DISTINCT"):
            break
        before = word
        if depth == 0 and mark == ",":
            found.append([])
        else:
            found[-1].append(token)
    # a comma may stand behind the last item
    return [item for item in found if item]


def _judged(judged: Judged, source: str, item: Sequence[Token]) -> str:
    """What stands for an item that is one call, with its arguments and its FILTER as written."""
    opening = next(at for at, token in enumerate(item) if _mark(token) == "(")
    arguments, after = _arguments(source, item[opening:])
    rest = item[opening + after :]
    where = "true"
    if rest and _mark(rest[0]) == "FILTER":
        (condition,), _ = _arguments(source, rest[1:])
        where = condition[len("WHERE") :].strip()
    return _filled(judged, arguments, where)


def _filled(judged: Judged, arguments: Sequence[str], where: str) -> str:
    named = FILTER in judged.exact or WHERE in judged.exact
    exact = judged.exact if named else judged.exact + FILTER
    condition = "" if where == "true" else f" FILTER (WHERE {where})"
    return exact.format(*arguments, filter=condition, where=where)


def _arguments(source: str, tokens: Sequence[Token]) -> tuple[list[str], int]:
    """The arguments of a call as written, and how many tokens they take; the first one opens."""
    depth, start, found = 0, tokens[0].end + 1, []
    for at, token in enumerate(tokens):
        mark = _mark(token)
        depth += (mark in OPENING) - (mark in CLOSING)
        if depth == 0 or (depth == 1 and mark == ","):
            found.append(source[start : token.start].strip())
            start = token.end + 1
        if depth == 0:
            return found, at + 1
    return found, len(tokens)


def _mark(token: Token) -> str:
    return "" if token.token_type in QUOTED else token.text.upper()


def compared(view: View) -> tuple[Compared, ...]:
    """Per output."""
    return tuple(_compared(view, output) for output in view.outputs)


def _compared(view: View, output: Output) -> Compared:
    calls = output.calls
    used = [(view.measures[at].exactness, view.measures[at].bound) for at in calls]
    told = [(exactness or "exact", bound or "none") for exactness, bound in used]
    name, kind = output.name, output.type
    exactness, bound = max(
        told, key=lambda each: LOOSENESS.index(each[0]), default=("exact", "none")
    )
    judged = [found for at in calls if (found := view.measures[at].judged) is not None]
    if not judged:
        return Compared(name, kind, "equal", "", exactness, bound)
    if _ALONE.fullmatch(output.sql):
        return Compared(name, kind, "within", judged[0].within, exactness, bound)
    computed = f"computed from a value with {bound}" if exactness != "exact" else bound
    return Compared(name, kind, "not", "", exactness, computed)
