"""What an answer is judged by: the view's own text, with exact aggregates where it estimates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlglot.tokenizer_core import Token

from schemas.compile import sql
from schemas.language.view import Output, View
from schemas.measures.measure import Exactness, Judged

OPENING, CLOSING = ("(", "[", "{"), (")", "]", "}")
ENDS = frozenset({"FROM", "WHERE", "GROUP"})  # sqlglot takes GROUP BY for one word
FILTER, WHERE = "{filter}", "{where}"
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
    """The view's own text. A column that is compared within a bound is what its measure is judged
    by, such as `count(DISTINCT x)` for `approx_count_distinct(x)`; one that is not compared is
    NULL, so that nothing it does to such a value can fail."""
    source, tokens = view.statement.source, view.statement.tokens[view.statement.query :]
    pieces, start = [], tokens[0].start
    columns = zip(view.outputs, compared(view), _items(tokens), strict=True)
    for output, how, item in columns:
        if how.kind == "equal":
            continue
        judged = "min(NULL)"
        if how.kind == "within":
            measure = view.measures[int(_CALLS.findall(output.sql)[0])]
            assert measure.judged is not None
            judged = _judged(measure.judged, source, item)
        pieces += [source[start : item[0].start], f"{judged} AS {sql.name(output.name)}"]
        start = item[-1].end + 1
    return "".join([*pieces, source[start : tokens[-1].end + 1]])


def _items(tokens: Sequence[Token]) -> list[list[Token]]:
    """The tokens of each item of the select list, wherever in the query it stands."""
    first = next(at for at, token in enumerate(tokens) if token.text.upper() == "SELECT")
    found: list[list[Token]] = [[]]
    depth, before = 0, ""
    for token in tokens[first + 1 :]:
        depth += (token.text in OPENING) - (token.text in CLOSING)
        word = token.text.upper().partition(" ")[0]
        # x IS DISTINCT FROM y is no end of the list
        if depth == 0 and word in ENDS and not (word == "FROM" and before == "DISTINCT"):
            break
        before = word
        if depth == 0 and token.text == ",":
            found.append([])
        else:
            found[-1].append(token)
    # a comma may stand behind the last item
    return [item for item in found if item]


def _judged(judged: Judged, source: str, item: Sequence[Token]) -> str:
    """What stands for an item that is one call, with its arguments and its FILTER as written."""
    opening = next(at for at, token in enumerate(item) if token.text == "(")
    arguments, after = _arguments(source, item[opening:])
    rest = item[opening + after :]
    where = "true"
    if rest and rest[0].text.upper() == "FILTER":
        (condition,), _ = _arguments(source, rest[1:])
        where = condition[len("WHERE") :].strip()
    named = FILTER in judged.exact or WHERE in judged.exact
    exact = judged.exact if named else judged.exact + FILTER
    condition = "" if where == "true" else f" FILTER (WHERE {where})"
    return exact.format(*arguments, filter=condition, where=where)


def _arguments(source: str, tokens: Sequence[Token]) -> tuple[list[str], int]:
    """The arguments of a call as written, and how many tokens they take; the first one opens."""
    depth, start, found = 0, tokens[0].end + 1, []
    for at, token in enumerate(tokens):
        depth += (token.text in OPENING) - (token.text in CLOSING)
        if depth == 0 or (depth == 1 and token.text == ","):
            found.append(source[start : token.start].strip())
            start = token.end + 1
        if depth == 0:
            return found, at + 1
    return found, len(tokens)


def compared(view: View) -> tuple[Compared, ...]:
    """Per output."""
    return tuple(_compared(view, output) for output in view.outputs)


def _compared(view: View, output: Output) -> Compared:
    calls = [int(at) for at in _CALLS.findall(output.sql)]
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
