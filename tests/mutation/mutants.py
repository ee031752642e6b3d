"""Small changes to a module, one at a time: each should make a test fail.

Numbers one more, comparisons and conditions turned round, arithmetic swapped, and in SQL texts the
like: another aggregate, another comparison, a condition dropped. Docstrings and messages stay.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

# of SQL, where a text has it; the first that stands there alone, and each only once per text
TEXTS = (
    ("min", "max"),
    ("max", "min"),
    ("sum", "max"),
    ("count(", "max("),
    ("<=", "<"),
    (">=", ">"),
    (" < ", " <= "),
    (" > ", " >= "),
    (" = ", " <> "),
    (" + ", " - "),
    (" - ", " + "),
    (" * ", " + "),
    (" / ", " * "),
    (" & ", " | "),
    (" >> ", " << "),
    (" AND ", " OR "),
    (" OR ", " AND "),
    ("IS NOT NULL", "IS NULL"),
    ("IS NULL", "IS NOT NULL"),
    ("IS NOT DISTINCT FROM", "="),
    ("NOT ", ""),
    (" DESC", ""),
    ("DISTINCT ", ""),
    ("LEFT JOIN", "JOIN"),
    ("ceil", "floor"),
    ("greatest", "least"),
    ("coalesce(", "greatest("),
    ("nullif(", "coalesce("),
    ("TRY_CAST", "CAST"),
    (" + 0.0", ""),
    (" FILTER (WHERE ", " FILTER (WHERE NOT "),
    (" WHERE ", " WHERE NOT "),
    ("PARTITION BY", "ORDER BY"),
)
COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.Mod: ast.Add,
    ast.BitOr: ast.BitAnd,
}
# names whose texts are told to people
SAID = frozenset({"message", "hint", "instead", "INSTEAD"})


NOTHING = -1


@dataclass(frozen=True)
class Mutant:
    """A change of one file, by its number in there."""

    path: Path
    number: int
    line: int
    text: str


Change = tuple[ast.AST, str, Callable[[], None]]


def of(path: Path) -> list[Mutant]:
    """All changes of a file."""
    changes = _changes(ast.parse(path.read_text()))
    return [
        Mutant(path, number, getattr(node, "lineno", 0), text)
        for number, (node, text, _) in enumerate(changes)
    ]


def changed(mutant: Mutant) -> ast.Module:
    """The module with that change."""
    tree = ast.parse(mutant.path.read_text())
    if mutant.number != NOTHING:
        _, _, apply = list(_changes(tree))[mutant.number]
        apply()
    return ast.fix_missing_locations(tree)


def _changes(tree: ast.Module) -> Iterator[Change]:
    for node in _meant(tree):
        if isinstance(node, ast.Constant):
            yield from _of_constant(node)
        elif isinstance(node, ast.Compare):
            for at, kind in enumerate(node.ops):
                other = COMPARED.get(type(kind))
                if other is not None:
                    yield node, f"{ast.unparse(node)} -> {other.__name__}", _place(node, at, other)
        elif isinstance(node, ast.BoolOp):
            turned = ast.Or if isinstance(node.op, ast.And) else ast.And
            yield node, f"{ast.unparse(node)} -> {turned.__name__}", _set(node, "op", turned())
        elif isinstance(node, ast.BinOp) and not isinstance(node.left, ast.JoinedStr):
            swapped = COMPUTED.get(type(node.op))
            if swapped is not None:
                text = f"{ast.unparse(node)} -> {swapped.__name__}"
                yield node, text, _set(node, "op", swapped())
        elif isinstance(node, ast.If | ast.IfExp):
            turned_round = ast.UnaryOp(ast.Not(), node.test)
            yield node, f"if {ast.unparse(node.test)} -> not", _set(node, "test", turned_round)


def _meant(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node but docstrings, messages, annotations and imports."""
    left: list[ast.AST] = [tree]
    while left:
        node = left.pop()
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Raise):
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(t, ast.Name) and t.id in SAID for t in targets):
                continue
        yield node
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "format_spec", "decorator_list"):
                continue
            children = value if isinstance(value, list) else [value]
            left += [child for child in children if isinstance(child, ast.AST)]


def _of_constant(node: ast.Constant) -> Iterator[Change]:
    value = node.value
    if isinstance(value, bool):
        yield node, f"{value} -> {not value}", _set(node, "value", not value)
    elif isinstance(value, int | float):
        yield node, f"{value} -> {value + 1}", _set(node, "value", value + 1)
    elif isinstance(value, str):
        for old, new in TEXTS:
            if old in value:
                text = value.replace(old, new, 1)
                yield node, f"{value!r}: {old!r} -> {new!r}", _set(node, "value", text)


def _set(node: ast.AST, field: str, value: object) -> Callable[[], None]:
    return lambda: setattr(node, field, value)


def _place(node: ast.Compare, at: int, kind: type[ast.cmpop]) -> Callable[[], None]:
    def apply() -> None:
        node.ops[at] = kind()

    return apply
