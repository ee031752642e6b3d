"""A file's first records -> a CREATE STREAM that accepts them.

What values look like proposes a type; the SQL that parses the events of a stream judges it, and
what it rejects of the sample is declared wider, until it rejects nothing that a declaration can
help. The rules:

| values | type |
|---|---|
| whole numbers | BIGINT, however small: the next one may be larger; above UBIGINT or DECIMAL |
| numbers of at most 4 digits behind the point | DECIMAL, of which sums are exact; room is left |
| other numbers | DOUBLE |
| true and false | BOOLEAN |
| texts, every one ISO 8601 | TIMESTAMP, or DATE |
| other texts, also of digits in quotes or with leading zeros | VARCHAR |
| objects, arrays, values of several kinds, no value at all | JSON (in CSV: VARCHAR) |

A text such as NA that stands among numbers or times becomes the stream's `null`. NOT NULL is what
was never missing in an event that has any column at all.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from infra import records
from infra.records import NUMBER, Shape, Source
from infra.trial import table_of
from infra.verbs.rejects import escaped
from schemas import definitions, version
from schemas.compile import cast, compile_stream
from schemas.engine import connect, reserved_words
from schemas.errors import BadUse, DefinitionError
from schemas.language import parser

SAMPLE = 20_000
SAMPLE_BYTES = 64 * 2**20
NULLS = ("NA", "N/A", "NULL", "null", "None", "NaN", "nan", "-", "?", "\\N", "#N/A")
FRACTION = 4
"""Digits behind the point up to which a number is taken for a decimal one."""
ROOM = 4
"""Digits before the point that a DECIMAL has left beside those of the sample."""
SHOWN = 28
WHOLE = re.compile(r"-?(?:0|[1-9]\d*)")
INSTANT = re.compile(f"{cast.DAY}[T ]{cast.CLOCK}(?:Z|{cast.ZONE})?")
DAY = re.compile(cast.DAY)
TIME_NAME = re.compile(r"(?:^|_)(?:time|timestamp|ts|date|day|at|when)(?:$|_)|time", re.I)
ID_NAME = re.compile(r"(?:^|_)(?:id|uuid|guid|key)$|Id$|ID$|^id", re.I)
# a type -> what is tried when its values do not fit it
WIDER = {
    "json": {
        "BIGINT": "DECIMAL(38,0)",
        "UBIGINT": "DECIMAL(38,0)",
        "DATE": "TIMESTAMP",
        "TIMESTAMP": "VARCHAR",
        "VARCHAR": "JSON",
        "BOOLEAN": "JSON",
        "DOUBLE": "JSON",
    },
    "csv": {
        "BIGINT": "DECIMAL(38,0)",
        "UBIGINT": "DECIMAL(38,0)",
        "DATE": "TIMESTAMP",
    },
}
OTHERWISE = {"json": "DOUBLE", "csv": "VARCHAR"}
WIDEST = {"json": "JSON", "csv": "VARCHAR"}
# words that are not reserved, and yet name a column in quotes alone
QUOTED = frozenset(
    [
        "anti",
        "asof",
        "at",
        "authorization",
        "binary",
        "by",
        "collation",
        "concurrently",
        "cross",
        "exclude",
        "freeze",
        "full",
        "glob",
        "ilike",
        "inner",
        "is",
        "isnull",
        "join",
        "left",
        "like",
        "map",
        "natural",
        "notnull",
        "outer",
        "overlaps",
        "positional",
        "right",
        "semi",
        "similar",
        "tablesample",
        "unpack",
        "verbose",
    ]
)
AS_THEY_ARE = Shape("csv", None, (("\0", "VARCHAR"),))  # no header names this column
EPOCHS = (("seconds", 1_000_000), ("milliseconds", 1_000), ("microseconds", 1))
FROM, UNTIL = 946_684_800, 4_102_444_800  # 2000 and 2100, in seconds since 1970


@dataclass
class _Seen:
    """What the values of one column were, by kind; `texts` are those that are nothing else."""

    given: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)  # of NULLS
    numbers: list[Decimal] = field(default_factory=list)  # the least and the greatest
    words: list[str] = field(default_factory=list)
    digits: int = 0
    fraction: int = 0
    different: set[int] = field(default_factory=set)
    keys: dict[str, None] = field(default_factory=dict)

    def add(self, value: Any, *, quoted: bool) -> None:
        """A value that is not NULL; `quoted`: a text is a text, whatever it says."""
        self.given += 1
        self.different.add(hash(json.dumps(value, default=str) if _nested(value) else value))
        if isinstance(value, bool):
            self.kinds["boolean"] += 1
        elif isinstance(value, int | Decimal):
            self._number(Decimal(value))
        elif isinstance(value, str):
            self._text(value, quoted=quoted)
        else:
            self.kinds["nested"] += 1
            if isinstance(value, dict):
                self.keys.update(dict.fromkeys(itertools.islice(value, 8)))

    def _text(self, value: str, *, quoted: bool) -> None:
        if value in NULLS:
            self.texts[value] += 1
        elif not quoted and value in ("true", "false"):
            self.kinds["boolean"] += 1
        elif not quoted and NUMBER.fullmatch(value):
            self._number(Decimal(value))
        else:
            day, instant = DAY.fullmatch(value), INSTANT.fullmatch(value)
            self.kinds["day" if day else "instant" if instant else "text"] += 1
            self.words = _extremes(self.words, value)

    def _number(self, value: Decimal) -> None:
        if not value.is_finite():
            self.kinds["text"] += 1
            return
        _, digits, exponent = value.as_tuple()
        places = max(0, -int(exponent))
        self.kinds["fraction" if places or int(exponent) > 0 else "whole"] += 1
        self.fraction = max(self.fraction, places if int(exponent) <= 0 else FRACTION + 1)
        self.digits = max(self.digits, len(digits) - places)
        self.numbers = _extremes(self.numbers, value)

    def type(self, null: str | None, form: str) -> str:
        """What is proposed, where `null` stands for NULL."""
        kinds = {kind for kind, count in self.kinds.items() if count}
        if any(text != null for text in self.texts):
            kinds.add("text")
        if not kinds or "nested" in kinds:
            return "JSON" if form == "json" else "VARCHAR"
        if kinds <= {"whole"}:
            return self._whole()
        if kinds <= {"whole", "fraction"}:
            return self._fraction()
        if kinds in ({"boolean"}, {"day"}):
            return "BOOLEAN" if kinds == {"boolean"} else "DATE"
        if kinds <= {"day", "instant"}:
            return "TIMESTAMP"
        texts = kinds <= {"text", "day", "instant"} or form == "csv"
        return "VARCHAR" if texts else "JSON"

    def rescued(self, null: str) -> bool:
        """Whether that text stands among values that are no texts, and no other one does."""
        plain = set(self.kinds) and not set(self.kinds) & {"text", "nested"}
        return bool(plain) and set(self.texts) == {null}

    def _whole(self) -> str:
        least, most = self.numbers[0], self.numbers[-1]
        if least >= -(2**63) and most < 2**63:
            return "BIGINT"
        return "UBIGINT" if least >= 0 and most < 2**64 else "DECIMAL(38,0)"

    def _fraction(self) -> str:
        if self.fraction > FRACTION or self.digits + ROOM + FRACTION > 38:
            return "DOUBLE"
        scale = max(2, self.fraction)
        return f"DECIMAL({18 if self.digits + ROOM + scale <= 18 else 38},{scale})"


@dataclass(frozen=True)
class _Column:
    name: str
    key: str  # what the file calls it
    type: str
    not_null: bool
    seen: _Seen

    @property
    def sql(self) -> str:
        quoted = self.name.lower() in reserved_words() | QUOTED
        return f'"{self.name}"' if quoted else self.name


@dataclass(frozen=True)
class Draft:
    """A declaration, with what the sample was and what of it is rejected by (reason, column)."""

    name: str
    file: str
    form: str
    null: str | None
    columns: tuple[_Column, ...]
    left: tuple[str, ...]  # keys that cannot name a column
    header: bool | None  # of CSV: whether its names are those of the columns; None: it has none
    sampled: int
    events: int  # of the sample: those that have columns
    whole: bool  # whether that is all of the file
    rejected: Counter[tuple[str, str | None]] = field(default_factory=Counter)

    @property
    def declaration(self) -> str:
        """The statement alone."""
        return "\n".join(self._statement([""] * len(self.columns)))

    def text(self) -> str:
        """The statement with what is known of it as comments."""
        notes = [f"  -- {_note(column, self.events)}" for column in self.columns]
        return "\n".join([*self._head(), *self._statement(notes)]) + "\n"

    def _head(self) -> list[str]:
        part = "all" if self.whole else "the first"
        count = sum(self.rejected.values())
        lines = [
            f"-- Drafted from {part} {self.sampled:,} records of {escaped(self.file)}"
            + ("." if self.whole else "; what comes after them may differ."),
            f"-- Of these it rejects {count:,}.",
        ]
        for (reason, column), times in self.rejected.most_common():
            lines.append(f"--   {times:,}: {reason}{f', column {column}' if column else ''}")
        if self.null is not None:
            found = [each.name for each in self.columns if each.seen.texts[self.null]]
            lines.append(f"-- {_quoted(self.null)} is taken for NULL: in {', '.join(found)}.")
        for key in self.left:
            lines.append(
                f"-- The key {_quoted(key)} is no name that a column can have (letters, digits, "
                "underscores; no two in other case): it is in the raw bytes alone."
            )
        if self.header is False:
            lines.append(
                "-- The header has names that no column can have, so it would be sent as an event: "
                "leave it out (tail -n +2)."
            )
        return lines

    def _statement(self, notes: Sequence[str]) -> list[str]:
        width = max(len(column.sql) for column in self.columns)
        kinds = max(len(column.type) for column in self.columns)
        lines = [f"CREATE STREAM {self.name} ("]
        for at, (column, note) in enumerate(zip(self.columns, notes, strict=True), 1):
            comma = "," if at < len(self.columns) else ""
            null = " NOT NULL" if column.not_null else ""
            declared = f"{column.type}{null}{comma}"
            pad = kinds + len(" NOT NULL,")
            lines.append(f"    {column.sql:<{width}}  {declared:<{pad}}{note}".rstrip())
        if notes[0]:
            lines += [f"    {line}" for line in self._guesses()]
        lines += [") WITH (", f"    topic = '{self.name}',"]
        if self.null is not None:
            lines.append(f"    null = '{self.null}',")
        lines.append(f"    format = '{self.form}'")
        time = self._event_time()
        if time and notes[0]:
            lines.append(f"    -- , event_time = '{time}'  -- a guess: when the event happened")
        return [*lines, ");"]

    def _event_time(self) -> str | None:
        times = [each.name for each in self.columns if each.type == "TIMESTAMP" and each.not_null]
        return next((name for name in times if TIME_NAME.search(name)), next(iter(times), None))

    def _guesses(self) -> list[str]:
        """Lines that somebody who knows the events may want to take the comment off."""
        lines = []
        for column in self.columns:
            unit = _epoch(column)
            if unit:
                name, factor = unit
                value = column.sql if factor == 1 else f"{column.sql} * {factor}"
                lines.append(
                    f"-- , {column.name}_utc TIMESTAMP GENERATED ALWAYS AS "
                    f"(make_timestamp({value}))  -- if it is {name} since 1970"
                )
        unique = [
            column.sql
            for column in self.columns
            if ID_NAME.search(column.name)
            and column.not_null
            and column.type not in ("DOUBLE", "JSON")
            and len(column.seen.different) == column.seen.given > 1
        ]
        if unique:
            lines.append(
                f"-- , PRIMARY KEY ({unique[0]})  -- a guess: no two are the same; repeats of one "
                "would count once"
            )
        return lines


def draft(file: str, name: str | None, limit: int = SAMPLE) -> Draft:
    """A declaration for the first `limit` records of a file. Raises BadUse."""
    called = _name(file) if name is None else name
    wrong = parser.name_problem(called)
    reserved = called.lower() in reserved_words() | parser.RESERVED
    if wrong or reserved:
        wrong = wrong or f"name {called!r} is a word of SQL, or reserved"
        message = f"{wrong}. Say another one: --name NAME"
        raise BadUse(message)
    form, header, values, whole = _sample(file, limit)
    if not values:
        message = f"file {file!r} must hold a record to draft from; there is none"
        raise BadUse(message)
    if form == "json":
        seen, events = _of_json(values)
        if not seen:
            message = (
                f"file {file!r} must hold JSON objects, one per line; got none in "
                f"{len(values):,} records, the first of them {_quoted(_text(values[0])[:60])}"
            )
            raise BadUse(message)
    else:
        seen, events = _of_csv(values, header)
    names, left = _names(list(seen), form)
    null = _null(seen.values(), form, events)
    columns = []
    for key, column_name in names.items():
        each = seen[key]
        nulls = each.texts[null] if null is not None else 0
        always = each.given - nulls == events
        columns.append(_Column(column_name, key, each.type(null, form), always, each))
    if not columns:
        message = f"file {file!r} must have a key that can name a column; got {sorted(left)[:5]}"
        raise BadUse(message)
    known = None if header is None else all(key == each for key, each in names.items())
    first = Draft(
        called, file, form, null, tuple(columns), tuple(left), known, len(values), events, whole
    )
    found = _judged(first, values)
    if sum(found.rejected.values()) == len(values):
        reasons = ", ".join(reason for reason, _ in found.rejected)
        message = (
            f"file {file!r} must hold events as NDJSON, CSV or Parquet; got {len(values):,} "
            f"records, of which every one is rejected: {reasons}"
        )
        raise BadUse(message)
    return found


def _sample(file: str, limit: int) -> tuple[str, list[str] | None, list[bytes], bool]:
    """Format, header (None: none), the first records, and whether they are all."""
    form, source = _source(file)
    values: list[bytes] = []
    header: list[str] | None = None
    size = 0
    for at, (_, value) in enumerate(source.records()):
        if form == "csv" and at == 0:
            found = [records.text_of(each).strip() for each in records.fields(value) or []]
            if _is_header(found):
                header = found
                continue
        if len(values) == limit or size > SAMPLE_BYTES:
            return form, header, values, False
        values.append(value)
        size += len(value)
    return form, header, values, True


def _source(file: str) -> tuple[str, Source]:
    """The format of a stream for this file, and what gives its records."""
    if file == "-":
        message = "FILE must be a file, which is read twice; got stdin"
        raise BadUse(message)
    packed = re.sub(r"\.(gz|zst|zip)$", "", file, flags=re.IGNORECASE)
    kind = records.KINDS.get(Path(packed).suffix.lower())
    lines = Source(file, Shape("json", None, ()), None if kind else "ndjson")
    if kind is None:
        first = next(lines.records(), (0, b"{"))[1]
        kind = "ndjson" if first.lstrip().startswith((b"{", b"[")) else "csv"
    return ("csv", Source(file, AS_THEY_ARE, "csv")) if kind == "csv" else ("json", lines)


def _is_header(fields: list[str]) -> bool:
    """Names, all of them different, and none of them a value."""
    values = (NUMBER.fullmatch(each) or DAY.match(each) or each in ("", *NULLS) for each in fields)
    printable = all(each.isprintable() for each in fields)
    return len(set(fields)) == len(fields) and printable and not any(values)


def _of_json(values: Iterable[bytes]) -> tuple[dict[str, _Seen], int]:
    """What was seen under each key, and how many objects there were."""
    seen: dict[str, _Seen] = {}
    events = 0
    for value in values:
        try:
            event = json.loads(value, parse_float=Decimal)
        except (ValueError, RecursionError):
            continue
        if not isinstance(event, dict):
            continue
        events += 1
        for key, each in event.items():
            column = seen.setdefault(key, _Seen())
            if each is not None:
                column.add(each, quoted=True)
    return seen, events


def _of_csv(values: Sequence[bytes], header: list[str] | None) -> tuple[dict[str, _Seen], int]:
    """What was seen in each field, and how many records had all of them."""
    events = 0
    width = len(header) if header else len(records.fields(values[0]) or [b""])
    names = header or [f"column_{at}" for at in range(1, width + 1)]
    seen = {name: _Seen() for name in names}
    for value in values:
        fields = records.fields(value) or []
        if len(fields) == len(names):
            events += 1
            for name, each in zip(names, fields, strict=True):
                if each:
                    seen[name].add(records.text_of(each), quoted=False)
    return seen, events


def _names(keys: list[str], form: str) -> tuple[dict[str, str], list[str]]:
    """Key -> column name; and keys of JSON that have none. CSV goes by place, so all get one."""
    names: dict[str, str] = {}
    left: list[str] = []
    taken: set[str] = set()
    for at, key in enumerate(keys, 1):
        name = key
        if form == "csv":
            name = _identifier(key, f"column_{at}")
            name = name if name.lower() not in taken else f"{name[:50]}_{at}"
        if parser.name_problem(name) or name.lower() in taken:
            left.append(key)
            continue
        taken.add(name.lower())
        names[key] = name
    return names, left


def _identifier(text: str, otherwise: str) -> str:
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_") if parser.name_problem(text) else text
    name = name[:63]
    return otherwise if parser.name_problem(name) else name


def _name(file: str) -> str:
    stem = Path(file).name.partition(".")[0]
    name = _identifier(stem, "events")
    return f"{name}_events" if name.lower() in reserved_words() | parser.RESERVED else name


def _null(columns: Iterable[_Seen], form: str, events: int) -> str | None:
    """The text that most columns of numbers or times have in place of a value. A CSV stream that
    declares one has the empty text no more, so that must not be what others have."""
    listed = list(columns)
    rescued = Counter(text for text in NULLS for each in listed if each.rescued(text))
    if not rescued:
        return None
    text, count = rescued.most_common(1)[0]
    empty = sum(each.given < events and "text" not in each.kinds for each in listed)
    return text if form == "json" or count > empty else None


def _judged(first: Draft, values: Sequence[bytes]) -> Draft:
    """The draft, declared wider wherever the parser of streams rejects a value of the sample."""
    engine = connect()
    now = datetime.now(UTC)
    table = table_of(values, 0, [0] * len(values))
    found = first
    while True:
        statements, problems = parser.parse("draft", found.declaration)
        read, more = definitions.read(statements)
        if problems or more:
            raise DefinitionError([*problems, *more])
        (stream,) = read.streams.values()
        compiled = compile_stream(stream, version.of_stream(stream))
        folded = engine.fold(compiled, [], table, epoch=1, instant=now, since=now)
        rows = folded.rejects.select(["_reason", "_column"]).to_pylist()
        rejected = Counter((row["_reason"], row["_column"]) for row in rows)
        wider = [_widened(column, found.form, rejected) for column in found.columns]
        if wider == list(found.columns):
            return replace(found, rejected=rejected)
        found = replace(found, columns=tuple(wider))


def _widened(column: _Column, form: str, rejected: Counter[tuple[str, str | None]]) -> _Column:
    if rejected["missing", column.name]:
        return replace(column, not_null=False)
    if not rejected["type", column.name] or column.type == WIDEST[form]:
        return column
    return replace(column, type=WIDER[form].get(column.type, OTHERWISE[form]))


def _epoch(column: _Column) -> tuple[str, int] | None:
    """The unit in which a column of whole numbers could count time since 1970."""
    if column.type != "BIGINT" or not TIME_NAME.search(column.name):
        return None
    least, most = column.seen.numbers[0], column.seen.numbers[-1]
    for unit, factor in EPOCHS:
        scale = 1_000_000 // factor
        if FROM * scale <= least and most < UNTIL * scale:
            return unit, factor
    return None


def _note(column: _Column, events: int) -> str:
    """What the values of the sample were."""
    seen = column.seen
    said = []
    if column.name != column.key:
        said.append(f"{_quoted(column.key)} in the file")
    if not seen.given:
        return ", ".join([*said, "never had a value"])
    if seen.numbers:
        said.append(f"{seen.numbers[0]} to {seen.numbers[-1]}")
    if seen.words:
        least, most = _quoted(seen.words[0]), _quoted(seen.words[-1])
        said.append(least if least == most else f"{least} to {most}")
    if seen.keys:
        said.append(f"an object with {', '.join(map(escaped, itertools.islice(seen.keys, 5)))}")
    for text, count in seen.texts.most_common(2):
        said.append(f"{_quoted(text)} {count:,} times")
    said.append(f"{len(seen.different):,} different")
    plain = {"JSON": "nested", "VARCHAR": "text"}.get(column.type)
    if plain and len(seen.kinds) > 1 and plain in seen.kinds:
        said.append(f"{sum(seen.kinds.values()) - seen.kinds[plain]:,} of them no {plain} value")
    elif column.type == "JSON" and len(seen.kinds) > 1:
        said.append(", ".join(f"{count:,} {kind}" for kind, count in seen.kinds.most_common()))
    missing = events - seen.given
    if missing:
        share = 100 * missing / events
        said.append(f"missing in {share:.0f} %" if share >= 1 else f"missing {missing:,} times")
    return ", ".join(said)


def _quoted(text: str) -> str:
    shown = escaped(text)
    return f'"{shown if len(shown) <= SHOWN else shown[: SHOWN - 3] + "..."}"'


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _nested(value: object) -> bool:
    return isinstance(value, dict | list)


def _extremes(known: list[Any], value: Any) -> list[Any]:
    """The least and the greatest so far."""
    return [min(known[0], value), max(known[-1], value)] if known else [value, value]
