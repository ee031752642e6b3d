"""What a view may not say: place, reason, way out."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator

from sqlglot import exp, parse_one

from schemas.errors import Problem
from schemas.language.binder import Binder
from schemas.language.dialect import Verbatim
from schemas.language.statement import Statement
from schemas.language.table import Columns
from schemas.measures import ALL

# argument of a SELECT -> what it is called, the word that it starts with, the way out
CLAUSES = {
    "having": ("HAVING", "HAVING", "filter in the query: SELECT ... FROM the view WHERE ..."),
    "order": ("ORDER BY", "ORDER", "order in the query"),
    "limit": ("LIMIT", "LIMIT", "limit in the query"),
    "offset": ("OFFSET", "OFFSET", "limit in the query"),
    "distinct": ("DISTINCT", "DISTINCT", "use GROUP BY"),
    "qualify": ("QUALIFY", "QUALIFY", "filter in the query"),
    "windows": ("WINDOW", "WINDOW", "use window functions in the query"),
    "with_": ("WITH", "WITH", "write its text in place"),
    "sample": ("SAMPLE", "SAMPLE", "a view counts every event"),
    "laterals": ("LATERAL", "LATERAL", "use a generated column"),
    "pivots": ("PIVOT", "PIVOT", "pivot in the query"),
    "into": ("INTO", "INTO", "leave it out"),
}
Forbidden = tuple[type[exp.Expr], str, str, str]
QUERY = ("a subquery", "SELECT", "declare a reference, or filter in the query")
SETS = ("grouping sets", "GROUP", "declare a view for each")
# kind of node -> what it is called, the word that it starts with if it keeps no place, the way out
NODES: tuple[Forbidden, ...] = (
    (exp.Window, "a window function", "", "use it in the query"),
    (exp.Subquery, *QUERY),
    (exp.Exists, *QUERY),
    (exp.Collate, "COLLATE", "COLLATE", "group by lower(...) or another function of the text"),
    (exp.Parameter, "a parameter", "$", "write its value"),
    (exp.Placeholder, "a parameter", "?", "write its value"),
    (exp.Cube, *SETS),
    (exp.Rollup, *SETS),
    (exp.GroupingSets, *SETS),
    (exp.Columns, "COLUMNS(...)", "COLUMNS", "name the columns"),
    (exp.PositionalColumn, "a column by its position", "#", "name the column"),
)
# aggregates that are no measures, and what to write for them
INSTEAD = {
    "any_value": "min(x)",
    "arbitrary": "min(x)",
    "bool_and": "min(x)",
    "bool_or": "max(x)",
    "count_if": "count(*) FILTER (WHERE x)",
    "countif": "count(*) FILTER (WHERE x)",
    "first": "min(x)",
    "fsum": "sum of a DECIMAL",
    "kahan_sum": "sum of a DECIMAL",
    "last": "max(x)",
    "mean": "avg(x)",
    "sumkahan": "sum of a DECIMAL",
}
# how much of a name must agree to be what was meant
SIMILAR = 0.75
# keywords that the engine takes for functions of the moment, though they look like columns
MOMENTS = frozenset(
    {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}
    | {"current_localtime", "current_localtimestamp", "current_user", "session_user", "user"}
    | {"current_role", "current_catalog", "current_schema"}
)


def of_view(statement: Statement, select: exp.Select, binder: Binder) -> Iterator[Problem]:
    """Everything in the query of a view that cannot keep the law."""
    yield from _clauses(statement, select)
    for kind, what, word, way_out in NODES:
        for node in select.find_all(kind):
            # a parameter may be written $name
            mark = "$" if word == "?" and node.this else word
            yield _refused(statement, what, way_out, node, mark)
    for node in select.find_all(exp.Star):
        if isinstance(node.parent, exp.Select | exp.Column):
            yield _refused(statement, "*", "name the columns", node)
    for use in binder.functions(statement.body):
        message = _function(use.name, binder)
        if message:
            yield statement.problem_in_body(f"{statement.subject}: {message}", use.offset)


def of_expression(
    statement: Statement, node: exp.Expr | None, text: str, columns: Columns, binder: Binder
) -> Iterator[Problem]:
    """Everything that a CHECK or a generated column, declared at `node`, may not hold."""
    tree = parse_one(text, read=Verbatim)
    if tree.find(exp.Select):
        message = f"{statement.subject} must not hold a subquery; join a reference in a view"
        yield statement.problem(message, node)
        return
    for kind, what, _, way_out in NODES:
        if tree.find(kind):
            yield statement.problem(f"{statement.subject} must not hold {what}; {way_out}", node)
    for use in binder.functions(f"SELECT {text}"):
        wrong = _function(use.name, binder)
        if use.name in binder.aggregates:
            wrong = f"aggregate {use.name!r} must stand in a view"
        if wrong:
            yield statement.problem(f"{statement.subject}: {wrong}", node)
    for _, name in _moments(tree, lambda name, _table: columns.named(name) is not None):
        yield statement.problem(f"{statement.subject}: {_moment(name)}", node)


def _function(name: str, binder: Binder) -> str | None:
    """Why a function may not be called, or None."""
    if name in binder.aggregates:
        if name in ALL:
            return None
        close = difflib.get_close_matches(name, ALL, 1, SIMILAR)
        way_out = INSTEAD.get(name) or (close[0] if close else "")
        hint = f"; use {way_out}" if way_out else ""
        return f"aggregate must be one of {', '.join(sorted(ALL))}; got {name!r}{hint}"
    if name in binder.steady:
        return None
    if name in binder.known:
        return _moment(name)
    close = difflib.get_close_matches(name, sorted(binder.steady | set(ALL)), 1, SIMILAR)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"function must be one of DuckDB's; got {name!r}{hint}"


def of_moments(
    statement: Statement, select: exp.Select, known: Callable[[str, str], object]
) -> Iterator[Problem]:
    """Keywords for the moment or the session. `known` tells a column, by its name and table."""
    for node, name in _moments(select, known):
        yield statement.problem(f"{statement.subject}: {_moment(name)}", node, name.upper())


def _moments(tree: exp.Expr, known: Callable[[str, str], object]) -> Iterator[tuple[exp.Expr, str]]:
    for node in tree.find_all(exp.Column, exp.Func):
        if isinstance(node, exp.Column):
            name = "" if known(node.name, node.table) else node.name.lower()
        else:
            name = node.sql("duckdb").removesuffix("()").lower()
        if name in MOMENTS:
            yield node, name


def _moment(name: str) -> str:
    return (
        f"function {name!r} must not be used: its result must depend on its arguments alone, "
        "whenever and wherever it runs. Send its value with the event"
    )


def _clauses(statement: Statement, select: exp.Select) -> Iterator[Problem]:
    for argument, (what, word, way_out) in CLAUSES.items():
        found = select.args.get(argument)
        if found:
            node = found[0] if isinstance(found, list) else found
            yield _refused(statement, what, way_out, node, word)


def _refused(
    statement: Statement, what: str, way_out: str, node: object, word: str = ""
) -> Problem:
    message = f"{statement.subject} must not hold {what}; {way_out}"
    return statement.problem(message, node if isinstance(node, exp.Expr) else None, word)
