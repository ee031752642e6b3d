"""Random views: keys, calls of every aggregate over expressions of every type, filters, scalar
expressions over aggregates, joins, also by time; and views of the rows themselves.

A view is kept in pieces, so that a failing one can be made smaller. Row expressions are such that
no event can make them fail; over aggregates, exact numbers are put into any expression, and what
DuckDB's own answer gives but for its last bits only into those that do not enlarge a difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from schemas import column_types
from schemas.measures import ALL
from tests.generated import calls
from tests.generated.calls import Argument, Shape
from tests.generated.streams import RECORD, Reference, Stream

Typed = tuple[str, str]  # SQL and its type
INTEGERS = (*column_types.INTEGERS, "HUGEINT")


@dataclass(frozen=True)
class Item:
    """One entry of the select list; `calls` are the aggregates in it."""

    sql: str
    alias: str
    calls: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """As it stands in the list."""
        return f"{self.sql} AS {self.alias}" if self.alias else self.sql


@dataclass(frozen=True)
class View:
    """A view in pieces; `group` is empty for a global one."""

    name: str
    items: tuple[Item, ...]
    source: str
    where: str
    group: tuple[str, ...]

    @property
    def form(self) -> str:
        """What it is a view of."""
        counting = "groups" if self.group or any(item.calls for item in self.items) else "events"
        word = "ASOF" if " ASOF " in self.source else "joined" if " JOIN " in self.source else ""
        return f"{counting} {word}".strip()

    @property
    def select(self) -> str:
        """Its query."""
        where = f" WHERE {self.where}" if self.where else ""
        group = f" GROUP BY {', '.join(self.group)}" if self.group else ""
        listed = ", ".join(item.text for item in self.items)
        return f"SELECT {listed} FROM {self.source}{where}{group}"

    @property
    def text(self) -> str:
        """CREATE VIEW."""
        return f"CREATE VIEW {self.name} AS {self.select};"


# templates over a column {0}, by its type; what they give is asked of DuckDB
_OF_TYPE: dict[str, tuple[str, ...]] = {
    "VARCHAR": (
        "upper({0})",
        "{0} || '!'",
        "length({0})",
        "{0} LIKE 'a%'",
        "{0} IN ('a', 'b')",
        "coalesce({0}, 'none')",
        "TRY_CAST({0} AS INTEGER)",
        "nullif({0}, 'a')",
        "CASE WHEN {0} > 'b' THEN {0} END",
    ),
    "BOOLEAN": ("NOT {0}", "{0} IS NOT TRUE", "CASE WHEN {0} THEN 1 ELSE -1 END"),
    "DOUBLE": ("{0} > 0", "{0} / 2", "TRY_CAST({0} AS DECIMAL(38, 3))", "isnan({0})", "-{0}"),
    "DATE": ("extract(year FROM {0})", "{0} > DATE '2013-01-01'", "dayname({0})"),
    "TIMESTAMP": (
        "time_bucket(INTERVAL '1 hour', {0})",
        "date_trunc('day', {0})",
        "{0}::DATE",
        "extract(hour FROM {0})",
        "strftime({0}, '%Y-%m')",
        "{0} >= TIMESTAMP '2013-01-01 11:00:00'",
    ),
    "JSON": ("{0}->>'$.a'", "TRY_CAST({0}->>'$.a' AS BIGINT)", "({0}->>'$.b') = 'x'"),
    "BLOB": ("octet_length({0})", "{0} IS NULL"),
}
_NUMBER = (
    "{0} % 3",
    "{0}::DOUBLE",
    "{0} > 1",
    "{0} BETWEEN -1 AND 3",
    "coalesce({0}, 0)",
    "CASE WHEN {0} < 4 THEN {0} END",
    "CASE {0} WHEN 1 THEN 'one' WHEN 2 THEN 'two' ELSE 'many' END",
    "TRY_CAST({0} AS SMALLINT)",
    "abs({0}::DOUBLE)",
)
_ANY = ("{0} IS NULL", "{0}::VARCHAR")
# over calls; only these keep a relative difference of the last bits as small as it is
_ROBUST = ("{0} * 2", "-({0})", "abs({0})", "coalesce({0}, 0)", "{0} / 3", "{0} IS NULL")
_WILD = (
    "median(DISTINCT {0})",
    "sum({0}) OVER ()",
    "random()",
    "count(*) FILTER (WHERE now() > TIMESTAMP '2020-01-01')",
    "string_agg({0}, ',')",
    "any_value({0})",
    "sum(sum({0}))",
    "(SELECT 1)",
    "min({0} ORDER BY {0})",
    "nothing({0})",
    "{0}",
    "min(missing)",
    "avg({0}, {0})",
)


class Writer:
    """Writes views over one stream, with or without a reference joined to it."""

    def __init__(self, chance: Random, stream: Stream, reference: Reference | None) -> None:
        self.chance = chance
        self.stream, self.alias = stream, chance.choice(("", "", "e"))
        self.source = f"{stream.name} {self.alias}".strip()
        columns = [(self._name(n), kind) for n, kind in (*stream.typed, *RECORD)]
        if reference is not None:
            self.source += self._join(reference)
            columns += [(n, kind) for n, kind in reference.columns[1:]]
        templates = [(text, kind) for text, kind in columns]
        for text, kind in columns:
            number = kind == "HUGEINT" or column_types.number(kind)
            of_type = _NUMBER if number else _OF_TYPE.get(kind, ())
            for template in chance.sample(of_type, min(2, len(of_type))):
                templates.append((template.format(text), ""))
            templates.append((chance.choice(_ANY).format(text), ""))
        tables = {stream.name: [*stream.typed, *RECORD]}
        if reference is not None:
            tables[reference.name] = list(reference.columns)
        self.rows = calls.described(tables, self.source, [text for text, _ in templates])
        self.conditions = [text for text, kind in self.rows if kind == "BOOLEAN"]
        if len(self.conditions) > 1 and chance.random() < 0.5:
            one, other = chance.sample(self.conditions, 2)
            self.conditions.append(f"({one}) {chance.choice(('AND', 'OR'))} NOT ({other})")
        self.conditions.append(chance.choice(("false", "true", "NULL::BOOLEAN")))
        self.by_type: dict[str, list[str]] = {}
        for text, kind in self.rows:
            self.by_type.setdefault(kind, []).append(text)

    def _name(self, column: str) -> str:
        forms = [column, column, f'"{column}"', column.upper()]
        forms.append(f"{self.alias or self.stream.name}.{column}")
        return self.chance.choice(forms)

    def _join(self, reference: Reference) -> str:
        key, kind = reference.columns[0]
        if reference.dated:
            return self._dated(reference)
        outer = self.chance.choice((" LEFT JOIN ", " JOIN "))
        own = [n for n, t in self.stream.typed if t == kind]
        if key in own:
            return f"{outer}{reference.name} USING ({key})"
        table = self.chance.choice(("p", reference.name))
        left = f"{self.alias or self.stream.name}.{self.chance.choice(own)}"
        named = reference.name if table == reference.name else f"{reference.name} AS {table}"
        return f"{outer}{named} ON {left} = {table}.{key}"

    def _dated(self, reference: Reference) -> str:
        """The newest row of the key that is not after a time of the event."""
        (key, kind), (since, of_time) = reference.columns[:2]
        chance, table = self.chance, self.alias or self.stream.name
        typed = (*self.stream.typed, *RECORD)
        left, at = (
            f"{table}.{chance.choice([n for n, t in typed if t == wanted])}"
            for wanted in (kind, of_time)
        )
        sides = (f"{at} {chance.choice(('>=', '>'))} p.{since}", f"p.{since} <= {at}")
        both = [f"{left} = p.{key}", chance.choice(sides)]
        chance.shuffle(both)
        return f" ASOF LEFT JOIN {reference.name} p ON {' AND '.join(both)}"

    def view(self, name: str, focus: str) -> View:
        """One view; `focus` is an aggregate that it calls, unless it shows single events."""
        chance = self.chance
        if chance.random() < 0.1:
            return self._detail(name)
        keys = self._keys()
        shown = [key for key in keys if chance.random() < 0.85]
        hidden = [key for key in keys if key not in shown]
        items: list[Item] = []
        for at, (text, _) in enumerate(shown):
            items.append(Item(text, self._alias(f"g{at}")))
        group = self._group(items, hidden)
        functions = [focus, *chance.choices(list(ALL), k=chance.choice((0, 1, 1, 2, 4)))]
        if not group and not items:
            functions = functions or [focus]
        for at, function in enumerate(functions):
            items.append(self._item(at, function, () if group == ("ALL",) else keys))
        if keys and not hidden and chance.random() < 0.04:
            items = items[: len(shown)]
        if chance.random() < 0.03:
            column = chance.choice(self.rows)[0]
            items.append(Item(chance.choice(_WILD).format(column), "w"))
        if group != ("ALL",) and not any(part.isdigit() for part in group):
            chance.shuffle(items)
        where = chance.choice(self.conditions) if chance.random() < 0.4 else ""
        return View(name, tuple(items), self.source, where, tuple(group))

    def _detail(self, name: str) -> View:
        chance = self.chance
        shown = chance.sample(self.rows, min(chance.randint(1, 5), len(self.rows)))
        forms = ("{0}",) * 5 + ("[{0}, NULL]", "{{'a': {0}, 'b': 1}}")
        items = [
            Item(chance.choice(forms).format(text), f"c{at}") for at, (text, _) in enumerate(shown)
        ]
        where = chance.choice(self.conditions) if chance.random() < 0.4 else ""
        return View(name, tuple(items), self.source, where, ())

    def _keys(self) -> list[Typed]:
        able = [(t, k) for t, k in self.rows if column_types.comparable(k) or k == "DOUBLE"]
        if self.chance.random() < 0.03:
            able = self.rows
        count = self.chance.choice((0, 1, 1, 1, 2, 2, 3))
        return self.chance.sample(able, min(count, len(able)))

    def _alias(self, name: str) -> str:
        # a name that a column has too is the column's in GROUP BY
        taken = self.stream.columns[0].name
        return self.chance.choice((name, name, name, name, f'"{name}"', taken))

    def _group(self, items: Sequence[Item], hidden: Sequence[Typed]) -> tuple[str, ...]:
        if not items and not hidden:
            return ()
        if not hidden and self.chance.random() < 0.35:
            return ("ALL",)
        parts = []
        for at, item in enumerate(items):
            parts.append(self.chance.choice((item.alias, str(at + 1), item.sql)))
        return (*parts, *(text for text, _ in hidden))

    def _item(self, at: int, function: str, keys: Sequence[Typed]) -> Item:
        chance = self.chance
        first = self._call(function)
        if first is None:
            return Item("count(*)", f"c{at}", ("count(*)",))
        text, kind, exact = first
        used = [text]
        if chance.random() < 0.3:
            text = self._around(text, kind, exact, used, keys, chance.choice((1, 1, 2, 3)))
        elif chance.random() < 0.2:
            return Item(text, "", tuple(used)) if at == 0 else Item(text, f"c{at}", tuple(used))
        return Item(text, f"c{at}", tuple(used))

    def _call(self, function: str) -> tuple[str, str, bool] | None:
        """A legal call as text, its type, and whether DuckDB gives the same to the last bit."""
        found = self._shape(function)
        if found is None:
            return None
        columns = [
            "" if each.literal else self.chance.choice(self.by_type[each.type])
            for each in found.arguments
        ]
        text = found.sql(*columns)
        if self.chance.random() < 0.35:
            text += f" FILTER (WHERE {self.chance.choice(self.conditions)})"
        exact = ALL[function].exactness == "exact" and found.result in (
            *INTEGERS,
            "VARCHAR",
            "BOOLEAN",
            "DATE",
            "TIMESTAMP",
        )
        decimal = found.result.startswith("DECIMAL") and not found.result.endswith("]")
        return text, found.result, exact or decimal

    def _shape(self, function: str) -> Shape | None:
        chance, kinds = self.chance, [Argument(kind) for kind in self.by_type]
        if ALL[function].timed and self.stream.event_time is None and chance.random() < 0.9:
            return None
        for _ in range(30):
            count = chance.choice(calls.arities(function))
            arguments = [chance.choice(kinds) for _ in range(min(count, 1))]
            for _ in range(1, count):
                literal = chance.random() < 0.7
                arguments.append(chance.choice(calls.literals() if literal else kinds))
            distinct = count == 1 and chance.random() < 0.2
            found = calls.legal(function, tuple(arguments), distinct)
            if found is not None:
                return found
        return None

    def _around(
        self,
        text: str,
        kind: str,
        exact: bool,
        used: list[str],
        keys: Sequence[Typed],
        depth: int,
    ) -> str:
        """A scalar expression over a call, as deep as asked."""
        chance = self.chance
        if not exact:
            if kind != "DOUBLE":
                listed = kind.endswith("]")
                choices = [f"({text}) IS NULL"]
                choices += [f"len({text})", f"({text})[1]"] if listed else []
                return chance.choice(choices)
            condition = f"count(*) > {chance.randint(0, 3)}"
            templates = (*_ROBUST, f"CASE WHEN {condition} THEN {{0}} END")
            for _ in range(depth):
                template = chance.choice(templates)
                text = f"({template.format(text)})"
                if template.endswith("NULL"):
                    break
            return text
        for _ in range(depth):
            text, kind = self._step(text, kind, used, keys)
        return text

    def _step(self, text: str, kind: str, used: list[str], keys: Sequence[Typed]) -> Typed:
        chance = self.chance
        choices: list[Typed] = [(f"{text} IS NULL", "BOOLEAN"), (f"({text})::VARCHAR", "VARCHAR")]
        if kind in INTEGERS:
            other = self._number(used)
            sign = chance.choice("+-")
            choices += [
                (f"(({text})::HUGEINT {sign} {other})", "HUGEINT"),
                (f"(100.0 * ({text}) / nullif({other}, 0))", "DOUBLE"),
                (f"CASE WHEN ({text}) > {other} THEN {text} ELSE {other} END", "HUGEINT"),
                (f"greatest({text}, {other})", "HUGEINT"),
                (f"(({text}) % 7)", "HUGEINT"),
            ]
        elif kind.startswith("DECIMAL") or kind == "DOUBLE":
            choices += [(f"(({text})::DOUBLE / 8)", "DOUBLE"), (f"(({text}) > 1)", "BOOLEAN")]
        elif kind == "VARCHAR":
            choices += [(f"upper({text})", kind), (f"length({text})", "BIGINT")]
            choices.append((f"({text} || '/' || count(*)::VARCHAR)", kind))
            for key, of_key in keys:
                if of_key == "VARCHAR":
                    choices.append((f"coalesce({key}, {text})", kind))
        elif kind == "BOOLEAN":
            choices += [(f"NOT ({text})", kind), (f"(({text}) AND count(*) > 1)", kind)]
        elif kind in ("DATE", "TIMESTAMP"):
            choices.append((f"extract(year FROM {text})", "BIGINT"))
        return chance.choice(choices)

    def _number(self, used: list[str]) -> str:
        """Another exact number of the group."""
        found = self._call(self.chance.choice(("count", "count", "min", "sum")))
        if found is None or found[1] not in INTEGERS:
            return "count(*)"
        used.append(found[0])
        return f"({found[0]})::HUGEINT"
