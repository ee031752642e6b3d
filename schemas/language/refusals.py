"""What a view may not say: place, reason, way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from sqlglot import exp

from schemas.errors import Problem
from schemas.language import engine_words, names, near, syntax
from schemas.language.binder import Binder, SqlError
from schemas.language.scope import RECORD_COLUMNS
from schemas.language.statement import Statement
from schemas.language.table import Columns
from schemas.measures import ALL

# argument of a SELECT -> what it is called, the word that it starts with, the way out
CLAUSES = {
    "having": ("HAVING", "HAVING", "filter in the query: SELECT * FROM {name} WHERE ..."),
    "order": ("ORDER BY", "ORDER", "order in the query: SELECT * FROM {name} ORDER BY ..."),
    "limit": ("LIMIT", "LIMIT", "limit in the query: SELECT * FROM {name} LIMIT ..."),
    "offset": ("OFFSET", "OFFSET", "limit in the query: SELECT * FROM {name} LIMIT ..."),
    "distinct": ("DISTINCT", "DISTINCT", "use GROUP BY ALL, and count(*) for how many there are"),
    "qualify": ("QUALIFY", "QUALIFY", "filter in the query: SELECT * FROM {name} QUALIFY ..."),
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
    "fsum": "sum(x)",
    "kahan_sum": "sum(x)",
    "sumkahan": "sum(x)",
}
# functions of other engines, and what to write for them
ELSEWHERE = {
    "nvl": "coalesce(x, y)",
    "isnull": "x IS NULL, or coalesce(x, y)",
    "iif": "if(condition, x, y)",
    "iff": "if(condition, x, y)",
    "decode": "CASE WHEN ... THEN ... END",
    "to_char": "strftime(x, '%Y-%m-%d')",
    "date_format": "strftime(x, '%Y-%m-%d')",
    "to_date": "strptime(x, '%Y-%m-%d')::DATE",
    "str_to_date": "strptime(x, '%Y-%m-%d')",
    "dateadd": "x + INTERVAL 1 DAY",
    "timestampdiff": "date_diff('second', x, y)",
    "unix_timestamp": "epoch(x)",
    "from_unixtime": "make_timestamp(x * 1000000)",
    "charindex": "strpos(x, y)",
    "regexp_like": "regexp_matches(x, y)",
    "get_json_object": "x->>'$.part'",
    "json_query": "x->'$.part'",
    "getdate": "the time that the event was sent with",
    "sysdate": "the time that the event was sent with",
}
# how much of a name must agree to be what was meant
SIMILAR = 0.75
# keywords that the engine takes for functions of the moment, though they look like columns
MOMENTS = frozenset(
    {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}
    | {"current_localtime", "current_localtimestamp", "current_user", "session_user", "user"}
    | {"current_role", "current_catalog", "current_schema"}
)


def of_view(
    statement: Statement, select: exp.Select, binder: Binder, columns: Sequence[str]
) -> Iterator[Problem]:
    """Everything in the query of a view that cannot keep the law; `columns` are its stream's."""
    yield from _clauses(statement, select)
    for kind, what, word, way_out in NODES:
        for node in select.find_all(kind):
            # a parameter may be written $name
            mark = "$" if word == "?" and node.this else word
            yield _refused(statement, what, way_out, node, mark)
    for node in select.find_all(exp.Star):
        if isinstance(node.parent, exp.Select | exp.Column):
            listed = f"name the columns: {near.listed(columns)}" if columns else "name the columns"
            yield _refused(statement, "*", listed, node)
    for use in binder.functions(statement.body):
        message = _function(use.name, binder, statement.word_in_body(use.offset))
        if message:
            yield statement.problem_in_body(f"{statement.subject}: {message}", use.offset)


def of_other_rows(select: exp.Select) -> bool:
    """Whether a query holds rows of its own, so that its names are not all those of the view."""
    kinds = (exp.Select, exp.Window, exp.Columns, exp.PositionalColumn)
    clauses = ("with_", "laterals", "pivots", "windows")
    within = any(node is not select for node in select.find_all(*kinds))
    stars = any(
        isinstance(each.parent, exp.Select | exp.Column) for each in select.find_all(exp.Star)
    )
    return within or stars or any(select.args.get(clause) for clause in clauses)


def of_expression(
    statement: Statement,
    node: exp.Expr,
    text: str,
    start: int | None,
    columns: Columns,
    binder: Binder,
) -> Iterator[Problem]:
    """Everything that a CHECK or a generated column may not hold; `text` is what it says, from the
    offset `start` of the file on."""
    nested = node if isinstance(node, exp.Select) else node.find(exp.Select)
    if nested is not None:
        message = f"{statement.subject} must not hold a subquery; join a reference in a view"
        yield statement.problem(message, nested, "SELECT")
        return
    for kind, what, _, way_out in NODES:
        for found in node.find_all(kind):
            yield statement.problem(f"{statement.subject} must not hold {what}; {way_out}", found)
    for use in binder.functions(f"SELECT {text}"):
        wrong = _function(use.name, binder)
        if use.name in binder.aggregates:
            wrong = f"aggregate {use.name!r} must stand in a view"
        if wrong:
            message = f"{statement.subject}: {wrong}"
            at = None if start is None else start + use.offset - len("SELECT ")
            yield (
                statement.problem(message, node)
                if at is None
                else statement.problem_at(message, at)
            )
    for moment, name in _moments(node, lambda name, _table: columns.named(name) is not None):
        yield statement.problem(f"{statement.subject}: {_moment(name)}", moment, name.upper())
    known = [column.name for column in columns.columns]
    tables = {statement.name: [*known, *(name for name, _ in RECORD_COLUMNS)]}
    for column in node.find_all(exp.Column):
        if column.name.lower() in MOMENTS or column.find_ancestor(exp.Lambda):
            continue
        own = column.table.lower() in ("", statement.name.lower())
        if not own or column.name.lower() not in map(str.lower, tables[statement.name]):
            message = f"{statement.subject}: {names.unknown(column, tables)}"
            yield statement.problem(message, column)


def of_constants(statement: Statement, tree: exp.Expr, binder: Binder) -> Iterator[Problem]:
    """Constants that no value can be made of: told now, not by the first event."""
    for node in tree.find_all(exp.Cast, exp.AtTimeZone):
        if isinstance(node, exp.AtTimeZone):
            zone = node.args["zone"]
            tried = zone if isinstance(zone, exp.Literal) else None
            text = f"TIMESTAMP '2000-01-01' AT TIME ZONE {zone.sql('duckdb')}"
        else:
            tried = node.this if isinstance(node.this, exp.Literal) else None
            text = node.sql("duckdb")
        if tried is not None and not isinstance(node, exp.TryCast):
            try:
                binder.evaluate(text)
            except SqlError as error:
                message = engine_words.plain(error.message)
                yield statement.problem(f"{statement.subject}: {message}", tried)


def _function(name: str, binder: Binder, written: str = "") -> str | None:
    """Why a function may not be called, or None. The parser may know it by another name than the
    one that is written."""
    shown = written if written.isidentifier() and name.isidentifier() else name
    if name in binder.aggregates:
        if name in ALL:
            return None
        way_out = INSTEAD.get(name) or near.miss(name, ALL, SIMILAR)
        hint = f"; use {way_out}" if way_out else ""
        return f"aggregate must be one of {', '.join(sorted(ALL))}; got {shown!r}{hint}"
    if name in binder.steady:
        return None
    if name in binder.known:
        return _moment(name)
    instead = ELSEWHERE.get(name) or syntax.OPERATORS.get(name)
    close = near.hint(name, sorted(binder.steady | set(ALL)), SIMILAR)
    hint = f"; use {instead}" if instead else close
    return f"function must be one of DuckDB's; got {shown!r}{hint}"


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
        "whenever and wherever it runs. Send its value with the event, or compare in the query"
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
    way_out = way_out.replace("{name}", statement.name)
    message = f"{statement.subject} must not hold {what}; {way_out}"
    return statement.problem(message, node if isinstance(node, exp.Expr) else None, word)
