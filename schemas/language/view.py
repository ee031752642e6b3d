"""View: a SELECT over one stream, taken apart into keys, aggregate calls and scalars over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from sqlglot import exp

from schemas import column_types
from schemas.errors import Problem
from schemas.language import joins, options, refusals
from schemas.language.binder import Binder, SqlError
from schemas.language.parser import NESTED
from schemas.language.reference import Reference
from schemas.language.scope import Scope
from schemas.language.statement import Statement
from schemas.language.stream import Stream
from schemas.measures import ALL
from schemas.measures.measure import Call, Measure, RefusedCall

REBUILD = "rebuild"
"""The option that says when a view is rebuilt (`schemas/schedule.py`)."""

OPTIONS = {REBUILD: str}
# what tells one accepted event of a stream from every other
IDENTITY = ("_partition", "_offset")


@dataclass(frozen=True)
class Key:
    """A group key: the column that partials and answers call it by, the type that it is kept in
    and its SQL over the rows of events."""

    name: str
    type: str
    sql: str


@dataclass(frozen=True)
class Output:
    """A column of the view's answer: SQL over key columns and `_call_0`, `_call_1`, ..."""

    name: str
    type: str
    sql: str


@dataclass(frozen=True)
class View:
    """A view as declared. `calls` and `measures` belong together one by one. Of a `detail` view,
    the rows themselves, each is a group: its keys are its place in the log and what it shows."""

    name: str
    stream: str
    keys: tuple[Key, ...]
    calls: tuple[Call, ...]
    measures: tuple[Measure, ...]
    outputs: tuple[Output, ...]
    where: str | None
    detail: bool
    columns: tuple[str, ...]
    references: tuple[str, ...]
    scope: Scope = field(repr=False, compare=False)
    statement: Statement = field(repr=False, compare=False)

    def meaning(self) -> list[object]:
        """What the view says, without its formatting: part of its version."""
        return [
            [[key.name, key.type, key.sql] for key in self.keys],
            [[call.function, call.arguments, call.where, call.types] for call in self.calls],
            [[output.name, output.type, output.sql] for output in self.outputs],
            self.scope.source({}),
            self.where,
        ]


class _Refused(Exception):
    """Problems that end the reading of a view."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__()
        self.problems = problems


def read(
    statement: Statement,
    streams: Mapping[str, Stream],
    references: Mapping[str, Reference],
    binder: Binder,
) -> tuple[View | None, list[Problem]]:
    """The view, or every problem that was found in it. Definitions are named in lower case."""
    try:
        return _Reader(statement, streams, references, binder).view(), []
    except _Refused as refused:
        return None, refused.problems
    except RecursionError:
        return None, [statement.problem(NESTED)]


class _Reader:
    """Reads one view; each step raises `_Refused` with the problems it found."""

    def __init__(
        self,
        statement: Statement,
        streams: Mapping[str, Stream],
        references: Mapping[str, Reference],
        binder: Binder,
    ) -> None:
        self.statement = statement
        self.streams = streams
        self.references = references
        self.binder = binder
        self.calls: dict[Call, Measure] = {}
        self.key_columns: dict[str, exp.Expr] = {}  # by the text of a key, what stands for it

    def view(self) -> View:
        select = self._select()
        self._stop(refusals.of_view(self.statement, select, self.binder))
        _, wrong = options.read(self.statement.options, self.statement.subject, OPTIONS)
        self._stop(self.statement.problem_at(message, offset) for offset, message in wrong)
        scope, problems = joins.scope(self.statement, select, self.streams, self.references)
        if scope is None:
            raise _Refused(problems)
        self._stop(refusals.of_moments(self.statement, select, scope.owner))
        self._positions(select)
        answered = self._described(self.statement.body)
        self._stop(joins.typed(self.statement, select, scope, self.binder))
        self._unique(select, answered)
        known = self._aliases(scope, select)
        items = [self._resolved(scope, part.unalias(), known) for part in select.expressions]
        group = select.args.get("group")
        detail = group is None and not any(self._has_call(item) for item in items)
        where = select.args.get("where")
        condition = self._resolved(scope, where.this, known) if where else None
        if detail:
            grouped = [scope.qualified(exp.column(name)) for name in IDENTITY]
            grouped += [item for item in items if item.find(exp.Column)]
        else:
            grouped = self._grouped(scope, select, items, known)
        shown = {item.sql("duckdb"): name for item, (name, _) in zip(items, answered, strict=True)}
        keys = self._keys(scope, grouped, group or select, shown, detail=detail)
        outputs = [
            Output(name, type_name, self._rewritten(scope, item).sql("duckdb"))
            for item, (name, type_name) in zip(items, answered, strict=True)
        ]
        return View(
            name=self.statement.name,
            stream=scope.stream.name,
            keys=tuple(keys),
            calls=tuple(self.calls),
            measures=tuple(self.calls.values()),
            outputs=tuple(outputs),
            where=condition.sql("duckdb") if condition is not None else None,
            detail=detail,
            columns=scope.columns_used(select),
            references=tuple(
                dict.fromkeys(reference.name for reference in scope.references.values())
            ),
            scope=scope,
            statement=self.statement,
        )

    def _stop(self, problems: Iterable[Problem]) -> None:
        try:
            found = list(problems)
        except SqlError as error:
            raise _Refused([self._of_engine(error)]) from error
        if found:
            raise _Refused(found)

    def _refuse(self, message: str, node: exp.Expr | None) -> NoReturn:
        text = f"{self.statement.subject}: {message}"
        raise _Refused([self.statement.problem(text, node)])

    def _of_engine(self, error: SqlError) -> Problem:
        text = f"{self.statement.subject}: {error.message}"
        return self.statement.problem_in_body(text, error.offset)

    def _select(self) -> exp.Select:
        select = self.statement.tree.expression
        if not isinstance(select, exp.Select):
            kind = {exp.Subquery: "parentheses around it"}.get(type(select))
            kind = kind or type(select).__name__.upper()
            # both halves of a set operation are views of their own
            words = {exp.Union: "UNION", exp.Except: "EXCEPT", exp.Intersect: "INTERSECT"}
            text = f"{self.statement.subject}: query must be one plain SELECT; got {kind}"
            word = words.get(type(select), "")
            way_out = ". Declare a view for each" if word else ""
            raise _Refused([self.statement.problem(text + way_out, None, word)])
        return select

    def _positions(self, select: exp.Select) -> None:
        group, shown = select.args.get("group"), len(select.expressions)
        for entry in group.expressions if group else []:
            if _is_position(entry) and not 1 <= int(entry.name) <= shown:
                message = f"GROUP BY position must be 1 to {shown}; got {entry.name}"
                self._refuse(f"{message}. Name a column of the select list", entry)

    def _described(self, sql: str, node: exp.Expr | None = None) -> tuple[tuple[str, str], ...]:
        """Names and types of a query's columns. A problem is at `node` where there is one, since
        then the text is not the user's own."""
        try:
            return self.binder.describe(sql)
        except SqlError as error:
            if node is not None:
                self._refuse(error.message, node)
            raise _Refused([self._of_engine(error)]) from error

    def _unique(self, select: exp.Select, answered: tuple[tuple[str, str], ...]) -> None:
        seen: set[str] = set()
        for part, (name, _) in zip(select.expressions, answered, strict=False):
            if name.lower() in seen:
                self._refuse(f"column names must differ; got {name!r} twice. Use AS", part)
            if name.startswith("_"):
                message = f"column name must not start with an underscore; got {name!r}. Use AS"
                self._refuse(message, part)
            seen.add(name.lower())

    def _aliases(self, scope: Scope, select: exp.Select) -> dict[str, exp.Expr]:
        """What each alias of the select list stands for, earlier ones written out in later ones."""
        known: dict[str, exp.Expr] = {}
        for part in select.expressions:
            if isinstance(part, exp.Alias):
                item = part.this.copy().transform(lambda node: _expanded(node, scope, known))
                known.setdefault(part.alias.lower(), item)
        return known

    def _resolved(self, scope: Scope, part: exp.Expr, known: Mapping[str, exp.Expr]) -> exp.Expr:
        """A piece of the view with aliases written out and columns by table and name; whatever is
        neither is refused."""
        item = part.copy().transform(lambda node: _expanded(node, scope, known))
        self._intervals(item)
        for column in item.find_all(exp.Column):
            if scope.owner(column.name, column.table) is None:
                self._refuse(
                    f"column must be a declared one; got {column.sql('duckdb')}. Part of a JSON "
                    "column is written column->>'$.part'",
                    column,
                )
        for dot in item.find_all(exp.Dot):
            self._refuse(f"part must be named without a dot; got {dot.sql('duckdb')}", dot)
        return scope.qualified(item)

    def _intervals(self, item: exp.Expr) -> None:
        """A bucket of no time, or of less, is told now, not by the first event."""
        for node in item.find_all(exp.Func):
            width = _arguments(node)[:1] if _function(node) == "time_bucket" else []
            if width and not width[0].find(exp.Column):
                text = width[0].sql("duckdb")
                try:
                    self.binder.evaluate(f"time_bucket({text}, TIMESTAMP '2000-01-01')")
                except SqlError as error:
                    self._refuse(f"time_bucket must have a width above 0; {error.message}", node)

    def _grouped(
        self,
        scope: Scope,
        select: exp.Select,
        items: list[exp.Expr],
        known: Mapping[str, exp.Expr],
    ) -> list[exp.Expr]:
        """What GROUP BY names."""
        group = select.args.get("group")
        if group is None:
            return []
        if group.args.get("all"):
            return [item for item in items if item.find(exp.Column) and not self._has_call(item)]
        names = [projection.alias.lower() for projection in select.expressions]
        return [self._group_item(scope, entry, items, names, known) for entry in group.expressions]

    def _keys(
        self,
        scope: Scope,
        grouped: list[exp.Expr],
        node: exp.Expr,
        shown: Mapping[str, str],
        *,
        detail: bool,
    ) -> list[Key]:
        """The keys of these expressions; `shown` are the names of those that are columns."""
        texts = list(dict.fromkeys(item.sql("duckdb") for item in grouped))
        described = (
            self._described(f"SELECT {', '.join(texts)} {scope.source({})}", node) if texts else ()
        )
        places = {item.sql("duckdb"): item for item in grouped}
        keys = []
        for at, (text, (_, type_name)) in enumerate(zip(texts, described, strict=True)):
            stored = column_types.stored(type_name)
            if detail:
                stored = column_types.stored_nested(type_name)
            if stored is None:
                what = "column of a view of single events" if detail else "group key"
                self._refuse(f"{what} {_unstored(type_name)}", places[text])
            written = text if stored == type_name else f"CAST({text} AS {stored})"
            if not detail and type_name in ("DOUBLE", "FLOAT"):
                # -0.0 and 0.0 are one group but print otherwise
                written = f"({text}) + 0.0"
            name = IDENTITY[at] if detail and at < len(IDENTITY) else f"_key_{at}"
            keys.append(Key(shown.get(text, name), stored, written))
            column: exp.Expr = exp.column(exp.to_identifier(keys[-1].name, quoted=True))
            if stored != type_name:
                column = exp.cast(column, exp.DataType.build(type_name, dialect="duckdb"))
            self.key_columns[text] = column
        return keys

    def _group_item(
        self,
        scope: Scope,
        entry: exp.Expr,
        items: list[exp.Expr],
        names: list[str],
        known: Mapping[str, exp.Expr],
    ) -> exp.Expr:
        if _is_position(entry):
            return items[int(entry.name) - 1]
        plain = isinstance(entry, exp.Column) and not entry.table
        if plain and not scope.owner(entry.name) and entry.name.lower() in names:
            return items[names.index(entry.name.lower())]
        return self._resolved(scope, entry, known)

    def _rewritten(self, scope: Scope, item: exp.Expr) -> exp.Expr:
        """The item over key columns and calls instead of over the rows of events."""

        def replace(node: exp.Expr) -> exp.Expr:
            key = self.key_columns.get(node.sql("duckdb"))
            # a literal means the same anywhere, and may be part of something that needs one
            if key is not None and not isinstance(node, exp.Literal):
                return key.copy()
            if self._is_call(node):
                return exp.column(f"_call_{self._call(scope, node)}")
            if isinstance(node, exp.Column) and scope.owner(node.name, node.table):
                message = f"column {node.name!r} must be grouped or aggregated; add it to GROUP BY"
                self._refuse(message, node)
            return node

        return item.copy().transform(replace)

    def _is_call(self, node: exp.Expr) -> bool:
        # operators begin with their left side, which may be a call
        if isinstance(node, exp.Filter):
            return True
        plain = isinstance(node, exp.Func) and not isinstance(node, exp.Binary | exp.Connector)
        return plain and _function(node) in self.binder.aggregates

    def _has_call(self, item: exp.Expr) -> bool:
        return any(self._is_call(node) for node in item.walk())

    def _call(self, scope: Scope, node: exp.Expr) -> int:
        """The number of this aggregate among the view's calls; equal ones are one."""
        where = node.expression.this.sql("duckdb") if isinstance(node, exp.Filter) else None
        function = node.this if isinstance(node, exp.Filter) else node
        name = _function(function)
        aggregate = ALL[name]
        if function.find(exp.Order) or function.find(exp.WithinGroup):
            self._refuse(f"aggregate {name!r} must not have an order of its own", node)
        arguments = _arguments(function)
        distinct = bool(arguments) and isinstance(arguments[0], exp.Distinct)
        arguments = arguments[0].expressions if distinct else arguments
        texts = tuple(argument.sql("duckdb") for argument in arguments)
        source = scope.source({})
        described = self._described(f"SELECT {', '.join(texts)} {source}", node) if texts else ()
        result = self._described(f"SELECT {function.sql('duckdb')} {source}", node)[0][1]
        types = tuple(type_name for _, type_name in described)
        call = Call(name, texts, types, where, distinct, result)
        if call not in self.calls:
            try:
                self.calls[call] = aggregate.build(call)
            except RefusedCall as refused:
                self._refuse(str(refused), node)
        return list(self.calls).index(call)


def _expanded(node: exp.Expr, scope: Scope, known: Mapping[str, exp.Expr]) -> exp.Expr:
    plain = isinstance(node, exp.Column) and not node.table
    if plain and not scope.owner(node.name) and node.name.lower() in known:
        return exp.paren(known[node.name.lower()].copy())
    return node


def _is_position(entry: exp.Expr) -> bool:
    return isinstance(entry, exp.Literal) and entry.is_int


def _unstored(type_name: str) -> str:
    """What a key may not be, and what it may."""
    nested = "(" in type_name or "[" in type_name
    instead = "VARCHAR or JSON" if nested else "VARCHAR or TIMESTAMP"
    return (
        "must be a number, a text, JSON, BLOB, a boolean, a DATE, a TIME or a TIMESTAMP; got "
        f"{type_name}. CAST it to {instead}"
    )


def _function(node: exp.Expr) -> str:
    """DuckDB's name of a function call."""
    if isinstance(node, exp.Anonymous):
        return str(node.name).lower()
    return node.sql("duckdb").split("(", 1)[0].lower()


def _arguments(node: exp.Expr) -> list[exp.Expr]:
    """What a function is called with; of count(*) nothing."""
    values: list[object] = []
    names = ["expressions"] if isinstance(node, exp.Anonymous) else node.arg_types
    for name in names:
        value = node.args.get(name)
        values += value if isinstance(value, list) else [value]
    expressions = [value for value in values if isinstance(value, exp.Expr)]
    return [value for value in expressions if not isinstance(value, exp.Star)]
