"""Emitted SQL laid out for reading: line breaks and indents are put between its tokens, and nothing
else is changed. A text whose tokens do not account for all of it is left as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import sqlglot
from sqlglot.errors import TokenError

WIDTH = 100
STEP = "    "
CLOSERS = {"(": ")", "[": "]", "{": "}", "CASE": "END"}
QUERIES = ("SELECT", "FROM", "WITH")
CLAUSES = frozenset(
    {*QUERIES, "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "UNION", "CREATE"}
    | {"LEFT", "INNER", "ASOF", "JOIN"}
)
SHORT = 24  # what is no longer is not opened
# words that go on with the clause that the one before them began
JOINED = ("LEFT", "INNER", "ASOF")
BREAKS = ("AND", "OR", "WHEN", "ELSE")


@dataclass
class _Group:
    """Tokens between a pair of brackets, or of CASE and END; the outermost one has none."""

    opening: str = ""
    closing: str = ""
    spaced: bool = False  # whether a space stands before it
    inside: list[_Group | _Leaf] = field(default_factory=list)
    gap: bool = False  # whether one stands before its closing

    @property
    def text(self) -> str:
        tail = f"{' ' * self.gap}{self.closing}"
        inner = _inline(self.inside)
        return f"{self.opening}{' ' * _spaced(self.inside)}{inner}{tail}"

    @property
    def is_query(self) -> bool:
        return bool(self.inside) and _word(self.inside[0]) in QUERIES

    @property
    def has_query(self) -> bool:
        return self.is_query or any(
            isinstance(each, _Group) and each.has_query for each in self.inside
        )


@dataclass
class _Leaf:
    text: str
    spaced: bool


_Nodes = Sequence[_Group | _Leaf]


def laid_out(sql: str) -> str:
    """The same tokens, in lines of about `WIDTH` characters."""
    root = _tree(sql)
    return sql if root is None else "\n".join(_query(root.inside, ""))


def _tree(sql: str) -> _Group | None:
    try:
        tokens = sqlglot.tokenize(sql, read="duckdb")
    except TokenError:
        return None
    stack, end = [_Group()], 0
    for token in tokens:
        gap, text = sql[end : token.start], sql[token.start : token.end + 1]
        if gap.strip() or "\n" in text:
            return None
        spaced, end = bool(gap), token.end + 1
        word = text.upper()
        if word in CLOSERS:
            stack.append(_Group(text, CLOSERS[word], spaced))
        elif stack[-1].closing and word == stack[-1].closing:
            group = stack.pop()
            group.closing, group.gap = text, spaced
            stack[-1].inside.append(group)
        else:
            stack[-1].inside.append(_Leaf(text, spaced))
    return stack[0] if len(stack) == 1 and not sql[end:].strip() else None


def _word(node: _Group | _Leaf) -> str:
    """What it begins with: a token may be two words (GROUP BY)."""
    return node.text.partition(" ")[0].upper() if isinstance(node, _Leaf) else ""


def _inline(nodes: _Nodes) -> str:
    return "".join(" " * (node.spaced and at > 0) + node.text for at, node in enumerate(nodes))


def _spaced(nodes: _Nodes) -> bool:
    return bool(nodes) and nodes[0].spaced


def _fits(nodes: _Nodes, indent: str) -> bool:
    queries = any(isinstance(node, _Group) and node.has_query for node in nodes)
    return not queries and len(indent) + len(_inline(nodes)) <= WIDTH


def _query(nodes: _Nodes, indent: str) -> Iterator[str]:
    """Lines of a query, each clause on a line of its own, or on several."""
    for clause in _clauses(nodes):
        if _fits(clause, indent):
            yield f"{indent}{_inline(clause)}"
            continue
        items = list(_split(clause[1:]))
        if _word(clause[0]) == "SELECT" or len(items) > 1:
            yield f"{indent}{clause[0].text}"
            yield from _items(items, f"{indent}{STEP}")
        else:
            yield from _item(clause, indent)


def _clauses(nodes: _Nodes) -> Iterator[_Nodes]:
    start = 0
    for at, node in enumerate(nodes):
        goes_on = at > 0 and _word(nodes[at - 1]) in JOINED
        called = at + 1 < len(nodes) and isinstance(nodes[at + 1], _Group) and not goes_on
        function = called and _word(node) in JOINED  # left(text, 3)
        if at > start and _word(node) in CLAUSES and not goes_on and not function:
            yield nodes[start:at]
            start = at
    yield nodes[start:]


def _split(nodes: _Nodes) -> Iterator[_Nodes]:
    """The items between commas, each with the comma behind it."""
    start, parameters = 0, False  # those of `lambda a, b: ...` are no items
    for at, node in enumerate(nodes):
        parameters = _word(node) == "LAMBDA" or (parameters and node.text != ":")
        if node.text == "," and not parameters:
            yield nodes[start : at + 1]
            start = at + 1
    if nodes[start:]:
        yield nodes[start:]


def _item(nodes: _Nodes, indent: str) -> Iterator[str]:
    """One item in as many lines as it takes: brackets are opened, and AND, OR, WHEN begin lines."""
    if _fits(nodes, indent):
        yield f"{indent}{_inline(nodes)}"
        return
    line, between = indent, False
    for at, node in enumerate(nodes):
        word = _word(node)
        if word in BREAKS and not between and line.strip():
            yield line
            line = indent
        between = word == "BETWEEN" or (between and word != "AND")
        space = " " if node.spaced and at > 0 and line.strip() else ""
        if isinstance(node, _Leaf) or not _opens(node, line):
            line += f"{space}{node.text}"
            continue
        yield f"{line}{space}{node.opening}"
        yield from _opened(node, f"{indent}{STEP}")
        line = f"{indent}{node.closing}"
    yield line


def _opens(group: _Group, line: str) -> bool:
    text = group.text
    return group.has_query or (len(text) > SHORT and len(line) + len(text) > WIDTH)


def _opened(group: _Group, indent: str) -> Iterator[str]:
    if group.is_query:
        yield from _query(group.inside, indent)
    else:
        yield from _items(list(_split(group.inside)), indent)


def _items(items: list[_Nodes], indent: str) -> Iterator[str]:
    """Each on lines of its own; plain names and values fill lines."""
    line = ""
    for item in items:
        text = _inline(item)
        plain = len(item) <= 2 and not any(isinstance(node, _Group) for node in item)
        if line and (not plain or len(line) + len(text) >= WIDTH):
            yield line
            line = ""
        if plain:
            line = f"{line} {text}" if line else f"{indent}{text}"
        else:
            yield from _item(item, indent)
    if line:
        yield line
