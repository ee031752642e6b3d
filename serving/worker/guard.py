"""What a client's statement may be: the gates before DuckDB runs it, cheapest first.

1. size and valid text, and no heap of signs that would keep the parser busy for minutes
2. exactly one statement of type SELECT, by DuckDB's own parser, or EXPLAIN in front of one
3. every query, relation and function in the parsed tree is one of those listed here

What is not understood is refused. Relation names are not judged here: they are handed on, and the
caller refuses those that are no views of the state that the statement runs on. So what is said here
of a statement is true for all states, and statements that passed are remembered.
"""

from __future__ import annotations

import difflib
import functools
import json
import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from schemas.engine import EmptyTables
from serving import catalog
from serving.envelope import Code, RequestError, from_engine, place

SQL_BYTES = 64 * 1024
# signs in a row, such as ((((: an error behind n of them costs the parser n^2 of time and memory
SIGNS = 100
REMEMBERED_BYTES = 4 * 2**20

QUERIES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
RELATIONS = frozenset(
    {
        "BASE_TABLE",
        "SUBQUERY",
        "JOIN",
        "TABLE_FUNCTION",
        "EXPRESSION_LIST",
        "EMPTY",
        "PIVOT",
        "SHOW_REF",
    }
)
MODIFIERS = frozenset(
    {
        "DISTINCT_MODIFIER",
        "LIMIT_MODIFIER",
        "LIMIT_PERCENT_MODIFIER",
        "ORDER_MODIFIER",
        "ORDER_DEFAULT",
        "ASCENDING",
        "DESCENDING",
    }
)
TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest"})
SHOWN = frozenset({"DESCRIBE", "SUMMARY", "SHOW"})
SHOW_TABLES = ("SHOW_SPECIAL", ('"tables"',))

# They tell the time or draw lots: the same text over the same state gives another answer.
UNSTEADY = frozenset(
    {"now", "today", "current_date", "current_timestamp", "get_current_time"}
    | {"get_current_timestamp", "transaction_timestamp", "current_localtime"}
    | {"current_localtimestamp", "age", "ago", "random", "uuid", "gen_random_uuid", "uuidv4"}
    | {"uuidv7", "reservoir_quantile"}
)
# What looks like a column and tells the time.
CLOCKS = frozenset(
    {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}
)
# Beside aggregates and what depends on its arguments alone: what is not steady, what the parser
# makes of SQL, and macros that only compute.
MORE_FUNCTIONS = UNSTEADY | frozenset(
    {"unnest", "count_star", "geomean", "geometric_mean", "wavg", "weighted_avg"}
    | {"json_group_array", "json_group_object", "json_group_structure", "array_reverse"}
    | {"array_pop_back", "array_pop_front", "array_push_back", "array_push_front"}
    | {"map_contains_entry", "map_contains_value", "md5_number_lower", "md5_number_upper"}
)
# One call makes as much as a number says. Texts are not under DuckDB's memory limit.
BOUNDLESS = frozenset(
    {"repeat", "lpad", "rpad", "range", "generate_series", "list_resize", "array_resize"}
    | {"bitstring"}
)
# They read a state of the engine's own from what they are given, or run what they are given.
INNER = frozenset({"combine", "finalize", "to_aggregate_state", "json_deserialize_sql"})
INNER_PREFIX = "__internal"
TEMPLATES = frozenset({"format", "printf"})
# a width of four digits, one from an argument (%*d, {:{}})
_WIDE = re.compile(r"\d{4}|\*|\{[^}]*\{")
NO_PLACE = 2**64 - 1
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Relation:
    """A name that a statement reads from, and that no CTE of its own defines."""

    path: tuple[str, ...]  # catalog and schema before the name, where they were written
    place: tuple[int, int] | None

    @property
    def name(self) -> str:
        return ".".join(self.path)


@dataclass(frozen=True)
class Statement:
    """A statement that passed, and the relations that it reads."""

    sql: str
    relations: tuple[Relation, ...]
    steady: bool  # the same text over the same state gives the same answer


@functools.cache
def _functions() -> tuple[frozenset[str], frozenset[str]]:
    """The names that may be called, and all that there are."""
    engine = EmptyTables((), ())
    inner = {name for name in engine.steady if name.startswith(INNER_PREFIX)}
    allowed = engine.steady | engine.aggregates | MORE_FUNCTIONS
    return allowed - BOUNDLESS - INNER - inner, engine.known


def prepare() -> None:
    """Ask the engine for its functions, which takes a database of its own, once in a process."""
    _functions()


class Passed:
    """The statements that passed last, as many as `room` bytes hold. Threads may share it."""

    def __init__(self, room: int) -> None:
        self._room, self._taken = room, 0
        self._statements: OrderedDict[str, Statement] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, sql: str) -> Statement | None:
        with self._lock:
            found = self._statements.get(sql)
            if found is not None:
                self._statements.move_to_end(sql)
            return found

    def put(self, statement: Statement) -> None:
        with self._lock:
            if statement.sql not in self._statements:
                self._statements[statement.sql] = statement
                self._taken += _size(statement)
            while self._taken > self._room:
                _, oldest = self._statements.popitem(last=False)
                self._taken -= _size(oldest)


_passed = Passed(REMEMBERED_BYTES)


def check(connection: duckdb.DuckDBPyConnection, sql: str) -> Statement:
    """The statement, or a `RequestError` that says what is wrong with it. Runs nothing of it."""
    found = _passed.get(sql)
    if found is None:
        found = judge(connection, sql)
        _passed.put(found)
    return found


def judge(connection: duckdb.DuckDBPyConnection, sql: str) -> Statement:
    """`check` without memory."""
    _check_text(sql)
    _check_signs(sql)
    select = _check_one_select(connection, sql)
    walk = _Walk(sql)
    relations = tuple(walk.relations(_parsed(connection, select)))
    return Statement(sql, relations, walk.steady)


def _size(statement: Statement) -> int:
    """Of what it takes in memory, about."""
    return 1000 + sys.getsizeof(statement.sql) + 500 * len(statement.relations)


def _check_text(sql: str) -> None:
    try:
        size = len(sql.encode())
    except UnicodeEncodeError as error:
        message = "SQL must be valid Unicode; got a lone surrogate"
        raise RequestError(Code.BAD_REQUEST, message) from error
    if "\0" in sql:
        message = "SQL must be text; got a NUL character"
        raise RequestError(Code.BAD_REQUEST, message)
    if size > SQL_BYTES:
        message = f"SQL must have at most {SQL_BYTES} bytes; got {size}"
        raise RequestError(Code.TOO_LARGE, message)


def _check_signs(sql: str) -> None:
    row = 0
    for _, kind in _tokens(sql):
        row = row + 1 if kind == duckdb.token_type.operator else 0
        if row > SIGNS:
            message = f"SQL must have at most {SIGNS} signs such as ( or - in a row; got more"
            raise RequestError(Code.BAD_SQL, message)


def _check_one_select(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The text of the SELECT: all of it, or what EXPLAIN stands in front of."""
    kind = _kind(connection, sql)
    if kind == duckdb.StatementType.EXPLAIN:
        select = _explained(sql)
        if _kind(connection, select) == duckdb.StatementType.SELECT:
            return select
    elif kind == duckdb.StatementType.SELECT:
        return sql
    message = f"statement must be a SELECT; got {kind.name}. Nothing was run"
    if kind == duckdb.StatementType.MULTI:
        message = (
            "statement must be one SELECT; a PIVOT is one if it lists its values: ON k IN (1, 2)"
        )
    raise RequestError(Code.REFUSED, message)


def _kind(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.StatementType:
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise from_engine(error, sql) from error
    if len(statements) != 1:
        message = f"request must hold one statement; got {len(statements)}"
        raise RequestError(Code.BAD_REQUEST, message)
    return statements[0].type


def _explained(sql: str) -> str:
    """What stands behind EXPLAIN, which blanks take the place of: places stay what they are. It has
    to be a SELECT by itself, and cannot begin as an option of EXPLAIN would."""
    (at, _), (inner, kind), *_ = _tokens(sql)
    data = sql.encode()
    if kind == duckdb.token_type.operator or data[inner:].lower().startswith(b"analyze"):
        message = "EXPLAIN must stand in front of a SELECT, without options. Nothing was run"
        raise RequestError(Code.REFUSED, message, place(sql, inner))
    return (data[:at] + b" " * len("EXPLAIN") + data[at + len("EXPLAIN") :]).decode()


def _tokens(sql: str) -> list[tuple[int, duckdb.token_type]]:
    """By DuckDB's own reading, without comments; places are in bytes."""
    return [each for each in duckdb.tokenize(sql) if each[1] != duckdb.token_type.comment]


def _parsed(connection: duckdb.DuckDBPyConnection, sql: str) -> Mapping[str, Any]:
    ((text,),) = connection.execute("SELECT json_serialize_sql($sql)", {"sql": sql}).fetchall()
    try:
        tree: Mapping[str, Any] = json.loads(text)
    except RecursionError as error:
        message = "statement is nested too deep"
        raise RequestError(Code.BAD_REQUEST, message) from error
    if tree["error"]:
        message = f"statement must be a plain SELECT; got one that is not: {tree['error_message']}"
        raise RequestError(Code.REFUSED, message)
    return tree


class _Walk:
    """A walk over DuckDB's own tree, with a stack of its own as trees may be deep.

    A CTE's name is known in the CTEs after it and in the query itself; in its own body only on the
    recursive side. Where one could doubt, a name is taken for a relation and not for a CTE.
    """

    def __init__(self, sql: str) -> None:
        self._sql = sql
        self.steady = True  # as far as it was walked

    def relations(self, tree: Mapping[str, Any]) -> Iterator[Relation]:
        todo: list[tuple[Any, frozenset[str]]] = [(tree["statements"], frozenset())]
        while todo:
            node, known = todo.pop()
            if isinstance(node, list):
                todo.extend((each, known) for each in reversed(node))
            elif isinstance(node, dict):
                self.steady = self.steady and _steady(node)
                yield from self._relation(node, known)
                todo.extend(reversed(list(self._inside(node, known))))

    def _relation(self, node: Mapping[str, Any], known: frozenset[str]) -> Iterator[Relation]:
        kind = node.get("type")
        if "class" in node:
            if node["class"] == "FUNCTION":
                self._function(node)
        elif kind == "BASE_TABLE":
            path = tuple(node["qualified_name"]["path"])
            if len(path) != 1 or path[0].lower() not in known:
                yield Relation(path, self._place(node))
        elif kind == "TABLE_FUNCTION":
            self._table_function(node)
        elif kind == "SHOW_REF":
            yield from self._show(node)
        elif isinstance(kind, str) and kind not in QUERIES | RELATIONS | MODIFIERS:
            self._refuse(f"{kind.removesuffix('_NODE').replace('_', ' ').lower()}", node)

    def _inside(
        self, node: Mapping[str, Any], known: frozenset[str]
    ) -> Iterator[tuple[Any, frozenset[str]]]:
        if "cte_map" in node:
            for entry in node["cte_map"]["map"]:
                yield entry["value"], known
                known = known | {self._cte(entry["key"])}
        for key, value in node.items():
            if key == "cte_map":
                continue
            if key == "right" and node.get("type") == "RECURSIVE_CTE_NODE":
                yield value, known | {self._cte(node["cte_name"])}
            elif key == "function" and node.get("type") == "TABLE_FUNCTION":
                yield list(value.values()), known  # it was judged; what it is given was not
            else:
                yield value, known

    def _cte(self, name: str) -> str:
        if not _PLAIN.fullmatch(name):
            message = f"name of a WITH query must be letters, digits and _; got {name!r}"
            raise RequestError(Code.REFUSED, message)
        return name.lower()

    def _function(self, node: Mapping[str, Any]) -> None:
        name = node["function_name"].lower()
        allowed, there = _functions()
        if name not in allowed and name not in there:
            close = difflib.get_close_matches(name, sorted(allowed), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            message = (
                f"function {node['function_name']!r} must exist; there is none of that name{hint}"
            )
            raise RequestError(Code.BAD_SQL, message, self._place(node))
        if name not in allowed:
            self._refuse(f"function {node['function_name']!r}", node)
        if name in TEMPLATES and not _narrow(node["arguments"]):
            self._refuse(
                f"function {node['function_name']!r} without a constant template of widths below "
                "1000",
                node,
            )

    def _table_function(self, node: Mapping[str, Any]) -> None:
        function = node["function"]
        name = function.get("function_name", "")
        path = function.get("qualified_name", {}).get("path", [])
        if function["class"] != "FUNCTION" or len(path) != 1 or name.lower() not in TABLE_FUNCTIONS:
            self._refuse(f"table function {name!r}", node)

    def _show(self, node: Mapping[str, Any]) -> Iterator[Relation]:
        """DESCRIBE and SUMMARIZE have a query inside, which is judged like any; so has SHOW of a
        name with a schema, while one without is a name alone, and of a table in any case."""
        kind, path = node["show_type"], tuple(node["qualified_name"]["path"])
        self.steady = self.steady and (kind, path) != SHOW_TABLES  # no state says when that changes
        if kind == "SHOW" and not node["query"] and len(path) == 1:
            yield Relation(path, self._place(node))
        elif not (kind in SHOWN and node["query"]) and (kind, path) != SHOW_TABLES:
            message = (
                "SHOW must be SHOW TABLES or SHOW and a view; DESCRIBE and SUMMARIZE need a view "
                "or a SELECT behind them. Nothing was run"
            )
            raise RequestError(Code.REFUSED, message, self._place(node))

    def _place(self, node: Mapping[str, Any]) -> tuple[int, int] | None:
        offset = node.get("query_location", NO_PLACE)
        return None if offset == NO_PLACE else place(self._sql, offset)

    def _refuse(self, what: str, node: Mapping[str, Any]) -> None:
        message = f"{what} is not allowed here; a statement reads views. Nothing was run"
        raise RequestError(Code.REFUSED, message, self._place(node))


def _steady(node: Mapping[str, Any]) -> bool:
    """Whether a node itself draws no lots, tells no time and reads nothing of our own schema."""
    if node.get("sample"):
        return False
    if node.get("class") == "COLUMN_REF":
        names = node["column_names"]
        return len(names) != 1 or names[0].lower() not in CLOCKS
    if node.get("class") == "FUNCTION":
        return node["function_name"].lower() not in UNSTEADY
    if node.get("type") == "BASE_TABLE":
        return catalog.SCHEMA not in (part.lower() for part in node["qualified_name"]["path"][:-1])
    return True


def _narrow(arguments: list[Mapping[str, Any]]) -> bool:
    """Whether a template is a constant that widens nothing much."""
    if not arguments or arguments[0]["name"]:
        return False
    literal = arguments[0]["expression"].get("literal", {})
    return literal.get("kind") == "STRING" and not _WIDE.search(literal["text"])
