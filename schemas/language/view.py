"""View: a SELECT over one stream, taken apart into keys, aggregate calls and scalars over them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

from sqlglot import exp

from schemas import column_types
from schemas.errors import Problem
from schemas.language import engine_words, joins, names, options, parser, pieces, place, refusals
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
MOST_PARTS = 2_000  # that aliases in an expression stand for
# marks what an alias stands for, where it is written out
ALIAS = "alias"


# a call in the SQL of an output; what stands in quotes is none
_CALLS = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\b_call_(\d+)\b""")


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

    @property
    def calls(self) -> list[int]:
        """The numbers of the calls in it, in order; one may stand there several times."""
        return [int(number) for number in _CALLS.findall(self.sql) if number]


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
            [
                [call.function, call.arguments, call.where, call.types]
                # what most calls have none of is not in their meaning
                + ([call.event_time] if call.event_time else [])
                for call in self.calls
            ],
            [[output.name, output.type, output.sql] for output in self.outputs],
            self.scope.meaning(),
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
    others: Mapping[str, str] | None = None,
) -> tuple[View | None, list[Problem]]:
    """The view, or every problem that was found in it. Definitions are named in lower case,
    `others` are those of `joins.scope`."""
    reader = _Reader(statement, streams, references, binder, others or {})
    try:
        return reader.view(), []
    except _Refused as refused:
        return None, list(dict.fromkeys([*reader.problems, *refused.problems]))
    except RecursionError:
        return None, [statement.problem(NESTED)]


class _Reader:
    """Reads one view. A step adds what it finds to `problems`, and raises `_Refused` where the
    steps after it would only say the same again."""

    def __init__(
        self,
        statement: Statement,
        streams: Mapping[str, Stream],
        references: Mapping[str, Reference],
        binder: Binder,
        others: Mapping[str, str],
    ) -> None:
        self.statement = statement
        self.streams = streams
        self.references = references
        self.binder = binder
        self.others = others
        self.problems: list[Problem] = []
        self.calls: dict[Call, Measure] = {}
        self.key_columns: dict[str, exp.Expr] = {}  # by the text of a key, what stands for it

    def view(self) -> View:
        select = self._select()
        source = select.args.get("from_")
        stream = self.streams.get(source.this.name.lower()) if source is not None else None
        columns = [each.name for each in stream.columns.columns] if stream else []
        self._collect(refusals.of_view(self.statement, select, self.binder, columns))
        _, wrong = options.read(self.statement.options, self.statement.subject, OPTIONS)
        self._collect(self.statement.problem_at(message, offset) for offset, message in wrong)
        if (
            self.problems
            and source is not None
            and not isinstance(source.this.this, exp.Identifier)
        ):
            raise _Refused([])
        scope, problems = joins.scope(
            self.statement, select, self.streams, self.references, self.others
        )
        self._collect(problems)
        if scope is None or refusals.of_other_rows(select):
            raise _Refused([])
        self._collect(refusals.of_moments(self.statement, select, scope.owner))
        known = self._aliases(scope, select)
        items = [self._resolved(scope, part.unalias(), known) for part in select.expressions]
        where = select.args.get("where")
        condition = self._resolved(scope, where.this, known) if where else None
        for node in condition.find_all(exp.Func, exp.Filter) if condition else ():
            if self._is_call(node) and not isinstance(node.parent, exp.Filter):
                message = "WHERE must not hold an aggregate; filter what is counted in the query"
                self._tell(message, node)
        group = select.args.get("group")
        detail = group is None and not any(self._has_call(item) for item in items)
        grouped = self._grouped(scope, select, items, known)
        if grouped is not None:
            self._ungrouped(scope, select, items, grouped)
        self._untyped(scope, select)
        answered = self._answered(scope, items)
        self._collect(joins.typed(self.statement, select, scope, self.binder))
        self._unique(select, answered)
        if detail:
            grouped = [scope.qualified(exp.column(name)) for name in IDENTITY]
            grouped += [item for item in items if item.find(exp.Column)]
        shown = {item.sql("duckdb"): name for item, (name, _) in zip(items, answered, strict=True)}
        keys = self._keys(scope, grouped or [], group or select, shown, detail=detail)
        outputs = [
            Output(name, type_name, self._rewritten(scope, item).sql("duckdb"))
            for item, (name, type_name) in zip(items, answered, strict=True)
        ]
        self._finish()
        return View(
            name=self.statement.name,
            stream=scope.stream.name,
            keys=tuple(keys),
            calls=tuple(self.calls),
            measures=tuple(self.calls.values()),
            outputs=tuple(outputs),
            where=condition.sql("duckdb") if condition is not None else None,
            detail=detail,
            columns=scope.columns_used(select, [call.event_time for call in self.calls]),
            references=tuple(
                dict.fromkeys(reference.name for reference in scope.references.values())
            ),
            scope=scope,
            statement=self.statement,
        )

    def _collect(self, problems: Iterable[Problem]) -> None:
        try:
            self.problems += problems
        except SqlError as error:
            raise _Refused([self._of_syntax(error)]) from error

    def _of_syntax(self, error: SqlError) -> Problem:
        """The engine could not parse the query, though sqlglot could."""
        begin = self.statement.tokens[self.statement.query].start

        def stops(changes: Sequence[tuple[int, int, str]]) -> int | None:
            text = self.statement.body
            for start, end, instead in changes:
                text = text[: start - begin] + instead + text[end - begin :]
            try:
                self.binder.functions(text)
            except SqlError as found:
                return len(text) - (found.offset or 0)
            return None

        told = None
        if error.offset is not None:
            told = parser.syntax_problem(self.statement, begin + error.offset, stops)
        return told or self._of_engine(error)

    def _finish(self) -> None:
        if self.problems:
            raise _Refused([])

    def _tell(self, message: str, node: exp.Expr | None) -> None:
        text = f"{self.statement.subject}: {message}"
        self.problems.append(self.statement.problem(text, node))

    def _told(self, start: int, end: int) -> bool:
        """Whether anything is known to be wrong in a piece of the file."""
        first, last = (place.shown(self.statement.source, at) for at in (start, end))
        return any(first <= (each.line, each.column) < last for each in self.problems)

    def _refuse(self, message: str, node: exp.Expr | None) -> NoReturn:
        text = f"{self.statement.subject}: {message}"
        raise _Refused([self.statement.problem(text, node)])

    def _of_engine(self, error: SqlError) -> Problem:
        text = f"{self.statement.subject}: {engine_words.plain(error.message)}"
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

    def _described(self, sql: str, node: exp.Expr | None = None) -> tuple[tuple[str, str], ...]:
        """Names and types of a query's columns. A problem is at `node` where there is one, since
        then the text is not the user's own."""
        try:
            return self.binder.describe(sql)
        except SqlError as error:
            if node is not None:
                self._refuse(engine_words.plain(error.message), node)
            raise _Refused([self._of_engine(error)]) from error

    def _answered(self, scope: Scope, items: list[exp.Expr]) -> tuple[tuple[str, str], ...]:
        """Names and types of the view's columns. Where there are problems, all that the engine has
        to say of the pieces without one is told too."""
        if not self.problems:
            with suppress(SqlError):
                return self.binder.describe(self.statement.body)
        whole = not self.problems
        for piece in pieces.of(self.statement):
            if not self._told(piece.start, piece.end):
                self._piece(piece)
        for item in items:
            for node in item.walk(prune=self._is_call):
                if self._is_call(node) and self._called(node) in ALL and self._sound(scope, node):
                    self._call(scope, node)
        if whole and not self.problems:
            self._described(self.statement.body)
        raise _Refused([])

    def _piece(self, piece: pieces.Piece) -> None:
        try:
            self.binder.describe(piece.sql)
        except SqlError as error:
            # names and groups were looked at already, with the aliases of the whole
            if engine_words.of_the_whole(error.message):
                return
            text = f"{self.statement.subject}: {engine_words.plain(error.message)}"
            start, length = piece.place(self.statement, error)
            self.problems.append(self.statement.problem_at(text, start, length))

    def _sound(self, scope: Scope, node: exp.Expr) -> bool:
        """Whether nothing is known to be wrong in a piece of the view."""
        found = place.span(node)
        first = self.statement.tokens[0].start
        columns = node.find_all(exp.Column)
        declared = all(scope.owner(each.name, each.table) is not None for each in columns)
        return declared and not (found and self._told(first + found[0], first + found[1]))

    def _untyped(self, scope: Scope, select: exp.Select) -> None:
        """A column whose type is wrong was told where it is declared."""
        for name, columns in scope.untyped().items():
            for node in select.find_all(exp.Column):
                if scope.owner(node.name, node.table) == name and node.name.lower() in columns:
                    raise _Refused([])

    def _unique(self, select: exp.Select, answered: tuple[tuple[str, str], ...]) -> None:
        seen: set[str] = set()
        for part, (name, _) in zip(select.expressions, answered, strict=False):
            part = part.args["alias"] if isinstance(part, exp.Alias) else part
            if name.lower() in seen:
                self._tell(f"column names must differ; got {name!r} twice. Use AS", part)
            if name.startswith("_"):
                message = f"column name must not start with an underscore; got {name!r}. Use AS"
                self._tell(message, part)
            seen.add(name.lower())

    def _aliases(self, scope: Scope, select: exp.Select) -> dict[str, exp.Expr]:
        """What each alias of the select list stands for, earlier ones written out in later ones."""
        known: dict[str, exp.Expr] = {}
        for part in select.expressions:
            if isinstance(part, exp.Alias):
                item = part.this.copy().transform(lambda node: _expanded(node, scope, known))
                if sum(1 for _ in item.walk()) > MOST_PARTS + sum(1 for _ in part.walk()):
                    message = (
                        f"column {part.alias!r} must come to at most {MOST_PARTS:,} parts with its "
                        "aliases written out. Declare generated columns for some of them"
                    )
                    self._refuse(message, part)
                known.setdefault(part.alias.lower(), item)
        return known

    def _resolved(self, scope: Scope, part: exp.Expr, known: Mapping[str, exp.Expr]) -> exp.Expr:
        """A piece of the view with aliases written out and columns by table and name; whatever is
        neither is refused."""
        self._collect(refusals.of_constants(self.statement, part, self.binder))
        item = part.copy().transform(lambda node: _expanded(node, scope, known))
        self._intervals(item)
        for column in item.find_all(exp.Column):
            moment = column.name.lower() in refusals.MOMENTS
            aliased = moment or ALIAS in column.this.meta
            if scope.owner(column.name, column.table) is None and not aliased:
                self._tell(names.unknown(column, scope.names(), scope.called()), column)
        for dot in item.find_all(exp.Dot):
            self._tell(f"part must be named without a dot; got {dot.sql('duckdb')}", dot)
        return scope.qualified(item)

    def _intervals(self, item: exp.Expr) -> None:
        """A bucket of no time, or of less, is told now, not by the first event."""
        for node in item.find_all(exp.Func):
            width = _arguments(node)[:1] if _function(node) == "time_bucket" else []
            if width and not width[0].find(exp.Column):
                text = width[0].sql("duckdb")
                try:
                    self.binder.evaluate(f"CAST({text} AS INTERVAL)")
                except SqlError as error:
                    self._tell(engine_words.plain(error.message), width[0])
                    continue
                try:
                    self.binder.evaluate(f"time_bucket({text}, TIMESTAMP '2000-01-01')")
                except SqlError as error:
                    self._tell(f"time_bucket must have a width above 0; {error.message}", node)

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
                self._tell(f"{what} {_unstored(type_name)}", places[text])
                continue
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

    def _grouped(
        self,
        scope: Scope,
        select: exp.Select,
        items: list[exp.Expr],
        known: Mapping[str, exp.Expr],
    ) -> list[exp.Expr] | None:
        """What GROUP BY names, written out, or None where something is wrong with it."""
        group = select.args.get("group")
        if group is None:
            return []
        if group.find(exp.Cube, exp.Rollup, exp.GroupingSets):
            return None
        if group.args.get("all"):
            return [item for item in items if item.find(exp.Column) and not self._has_call(item)]
        named = [projection.alias.lower() for projection in select.expressions]
        before = len(self.problems)
        found = [self._group_item(scope, each, items, named, known) for each in group.expressions]
        for entry, item in zip(group.expressions, found, strict=True):
            if self._has_call(item):
                message = "GROUP BY must not name an aggregate; leave it out"
                self._tell(f"{message}; got {self.statement.written(entry)}", entry)
        return found if len(self.problems) == before else None

    def _ungrouped(
        self,
        scope: Scope,
        select: exp.Select,
        items: list[exp.Expr],
        grouped: list[exp.Expr],
    ) -> None:
        """Columns of a counting view that are neither grouped nor aggregated."""
        texts = {item.sql("duckdb") for item in grouped}
        if not select.args.get("group") and not any(self._has_call(item) for item in items):
            return

        def look(node: exp.Expr) -> None:
            # a misspelt function may be a misspelt aggregate
            misspelt = isinstance(node, exp.Func) and not self._sound(scope, node)
            within = isinstance(node, exp.WithinGroup)
            if self._is_call(node) or within or misspelt or node.sql("duckdb") in texts:
                return
            owned = isinstance(node, exp.Column) and scope.owner(node.name, node.table)
            if owned and ALIAS not in node.this.meta:
                message = f"column {node.name!r} must be grouped or aggregated; add it to GROUP BY"
                self._tell(message, node)
            for child in node.iter_expressions():
                look(child)

        for item in items:
            look(item)

    def _group_item(
        self,
        scope: Scope,
        entry: exp.Expr,
        items: list[exp.Expr],
        named: list[str],
        known: Mapping[str, exp.Expr],
    ) -> exp.Expr:
        if _is_position(entry):
            if 1 <= int(entry.name) <= len(items):
                return items[int(entry.name) - 1]
            message = f"GROUP BY position must be 1 to {len(items)}; got {entry.name}"
            self._tell(f"{message}. Name a column of the select list", entry)
            return entry
        plain = isinstance(entry, exp.Column) and not entry.table
        if plain and not scope.owner(entry.name) and entry.name.lower() in named:
            return items[named.index(entry.name.lower())]
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
        """The number of this aggregate among the view's calls, equal ones being one; what is wrong
        with it is told, and the number is then none."""
        try:
            return self._number(scope, node)
        except _Refused as refused:
            self.problems += refused.problems
            return -1

    def _called(self, node: exp.Expr) -> str:
        return _function(node.this if isinstance(node, exp.Filter) else node)

    def _number(self, scope: Scope, node: exp.Expr) -> int:
        where = node.expression.this.sql("duckdb") if isinstance(node, exp.Filter) else None
        function = node.this if isinstance(node, exp.Filter) else node
        name = _function(function)
        aggregate = ALL[name]
        if function.find(exp.Order) or function.find(exp.WithinGroup):
            self._refuse(f"aggregate {name!r} must not have an order of its own", node)
        for inner in function.walk():
            if inner is not function and self._is_call(inner):
                self._refuse(f"aggregates cannot be nested; got another in {name!r}", inner)
        arguments = _arguments(function)
        distinct = bool(arguments) and isinstance(arguments[0], exp.Distinct)
        arguments = arguments[0].expressions if distinct else arguments
        texts = tuple(argument.sql("duckdb") for argument in arguments)
        source = scope.source({})
        described = self._described(f"SELECT {', '.join(texts)} {source}", node) if texts else ()
        result = self._described(f"SELECT {function.sql('duckdb')} {source}", node)[0][1]
        types = tuple(type_name for _, type_name in described)
        event_time = scope.event_time() if aggregate.timed else None
        call = Call(name, texts, types, where, distinct, result, event_time)
        if call not in self.calls:
            try:
                self.calls[call] = aggregate.measure(call)
            except RefusedCall as refused:
                self._refuse(str(refused), node)
        return list(self.calls).index(call)


def _expanded(node: exp.Expr, scope: Scope, known: Mapping[str, exp.Expr]) -> exp.Expr:
    plain = isinstance(node, exp.Column) and not node.table
    if plain and not scope.owner(node.name) and node.name.lower() in known:
        written = exp.paren(known[node.name.lower()].copy())
        # what is wrong with it was told where it stands; what is wrong here is told here
        for part in written.walk():
            if "start" in part.meta:
                part.meta.update({**node.this.meta, ALIAS: True})
        return written
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
