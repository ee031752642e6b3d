"""Statements that nobody would write: made by a grammar, or bytes of known ones changed.

A seed gives the same ones again. `{outside}`, `{state}` and the like stand in them as in the suite.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

FILES = ("'{outside}'", "'{state}/ledger.db'", "'{batch}/evil.parquet'", "'{url}'", "'/etc/passwd'")
HIDDEN = (
    "everview_internal.coverage",
    "duckdb_settings()",
    "duckdb_views",
    "sqlite_master",
    "pg_catalog.pg_class",
    "information_schema.tables",
    '"by_key.{version}.core"',
    "'{outside}'",
    '"{outside}"',
)
READERS: tuple[str, ...] = (
    "read_text",
    "read_blob",
    "read_csv",
    "read_json",
    "read_parquet",
    "parquet_metadata",
)
READERS += ("glob", "query", "query_table", "sniff_csv", "system.main.read_text", '"READ_TEXT"')
DANGEROUS: tuple[str, ...] = (
    "getenv",
    "current_setting",
    "sleep_ms",
    "repeat",
    "read_text",
    "nextval",
    "query",
)
DANGEROUS += ("write_log", "setseed", "json_execute_serialized_sql", "in_search_path", "lpad")


SOURCES = ("by_key", "everything", "visitors", "keys", "everview.views", "everview.epochs", "nix")
COLUMNS = ("k", "hits", "total", "mean", "visitors", "view", "rowid", '"delete"', "*", "#1", "nix")
LITERALS = (
    *("1", "-1", "0", "NULL", "true", "'a'", "'%'", "1.5", "1e308", "''", "DATE '2026-01-01'"),
    *("INTERVAL 1 DAY", "'{outside}'", "[1, 2]", "{'a': 1}", "map {'k': 1}", "$1", "$a", "'é'"),
    *("'NaN'::DOUBLE", str(2**127 - 1), "'\\x00'::BLOB", "TIME '1:2'"),
)
CALLS = (
    *("sum", "count", "max", "abs", "coalesce", "list", "first", "md5", "length", "hash", "json"),
    *("round", "lower", "strftime", "date_trunc", "struct_pack", "list_value", "try", "unnest"),
)
TYPES = (
    *("INTEGER", "VARCHAR", "DOUBLE", "HUGEINT", "DECIMAL(9, 2)", "TIMESTAMPTZ", "BLOB", "JSON"),
    *("INTEGER[]", "STRUCT(a INTEGER)", "BIT", "UUID", "TINYINT", "NIX"),
)
OPERATORS = (
    *("+", "-", "*", "/", "//", "%", "||", "=", "<>", "<", "AND", "OR", "LIKE", "IN", "IS"),
    *("->", "->>", "^@", "**", "&", "<<", "SIMILAR TO", "IS DISTINCT FROM", "COLLATE", "::"),
)
COMMANDS = (
    "COPY ({query}) TO '{batch}/more.parquet'",
    "COPY by_key FROM '{outside}'",
    "ATTACH '{state}/ledger.db' AS l",
    "ATTACH ':memory:'",
    "INSTALL httpfs",
    "LOAD '{outside}'",
    "SET threads = 9",
    "SET VARIABLE x = ({query})",
    "PRAGMA table_info('by_key')",
    "CREATE TABLE x AS {query}",
    "CREATE TEMP VIEW by_key AS {query}",
    "CREATE MACRO sum(x) AS 42",
    "DROP VIEW by_key",
    "DELETE FROM everview_internal.coverage",
    "INSERT INTO by_key {query}",
    "UPDATE everview_internal.coverage SET view = 'x'",
    "EXPORT DATABASE '{state}/x'",
    "PREPARE p AS {query}",
    "CALL duckdb_views()",
    "CHECKPOINT",
    "BEGIN",
    "COMMIT",
    "VACUUM",
    "EXPLAIN ANALYZE {query}",
    "EXPLAIN (FORMAT json) {query}",
    "PIVOT by_key ON k USING sum(hits)",
)
SPLICES: tuple[bytes, ...] = (
    b";",
    b"--",
    b"/*",
    b"*/",
    b"'",
    b'"',
    b"(",
    b")",
    b",",
    b"$$",
    b"\x00",
    b"\xff",
    b"\\",
)
SPLICES += (
    b"WITH x AS (",
    b"UNION ",
    b"FROM ",
    b"read_text(",
    b" DROP VIEW by_key ",
    b"\xe2\x80\xae",
)


class Grammar:
    """Makes statements; most are meant to pass, some to be refused, some to be nonsense."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def statement(self) -> str:
        choice = self._random.random()
        if choice < 0.4:
            return self.plain(3)
        query = self.query(3)
        if choice < 0.8:
            return query
        if choice < 0.9:
            return f"{self._one('EXPLAIN', 'DESCRIBE', 'SUMMARIZE', 'SHOW')} {query}"
        if choice < 0.93:
            return f"{query}; {self._command(query)}"
        return self._command(query)

    def plain(self, depth: int) -> str:
        """A query that passes, and nearly always runs; it has the columns `hits` and `total`."""
        source = self._one("by_key", "everything", "(SELECT 1 AS hits, 2 AS total)")
        if depth and self._maybe(0.5):
            source = f"({self.plain(depth - 1)})"
        found = f"SELECT {self._number(2)} AS a, hits, total FROM {source}"
        if self._maybe(0.4):
            found += f" WHERE {self._number(1)} {self._one('<', '=', '<>')} {self._number(1)}"
        if self._maybe(0.3):
            found += " ORDER BY 1 LIMIT 5"
        if self._maybe(0.2):
            found = f"WITH w AS ({found}) SELECT * FROM w"
        if depth and self._maybe(0.2):
            found = f"({found}) {self._one('UNION ALL', 'EXCEPT')} ({self.plain(depth - 1)})"
        prefix = self._one("EXPLAIN", "DESCRIBE", "SUMMARIZE") if depth == 3 else ""
        return f"{prefix} {found}" if prefix and self._maybe(0.2) else found

    def _number(self, depth: int) -> str:
        one = self._one("hits", "total", "1", "-1.5", "NULL")
        if not depth:
            return one
        two = self._number(depth - 1)
        return self._one(
            f"({one} {self._one('+', '-', '*')} {two})",
            f"coalesce({one}, {two})",
            f"greatest({one}, {two})",
            f"sum({two}) OVER (ORDER BY {one})",
            f"CASE WHEN {one} > 0 THEN {two} END",
            f"(SELECT max({one}) FROM everything)",
            f"list_sum(list_transform([{one}], lambda x: x + 1))",
        )

    def query(self, depth: int) -> str:
        if depth <= 0:
            return self._one("SELECT 1", "FROM keys", "VALUES (1, 'a')", "SELECT NULL")
        parts = [self._with(depth), self._select(depth), self._tail(depth)]
        if self._maybe(0.15):
            kind = self._one("UNION", "UNION ALL", "EXCEPT", "INTERSECT", "UNION BY NAME")
            parts.append(f"{kind} {self.query(depth - 1)}")
        return " ".join(part for part in parts if part)

    def _with(self, depth: int) -> str:
        if not self._maybe(0.2):
            return ""
        name = self._one("a", "by_key", '"x y"', "duckdb_views", "everything")
        body = self._command("FROM keys") if self._maybe(0.15) else self.query(depth - 2)
        recursive = "RECURSIVE " if self._maybe(0.1) else ""
        return f"WITH {recursive}{name} AS ({body})"

    def _select(self, depth: int) -> str:
        columns = ", ".join(self.expression(depth - 1) for _ in range(self._random.randint(1, 3)))
        source = self._source(depth)
        if not source:
            return f"SELECT {columns}"
        return self._one(f"SELECT {columns} FROM {source}", f"FROM {source} SELECT {columns}")

    def _source(self, depth: int) -> str:
        if self._maybe(0.15):
            return ""
        found = self._one(*SOURCES)
        if self._maybe(0.15):
            reader = f"{self._one(*READERS)}({self._one(*FILES)})"
            found = self._one(reader, self._one(*HIDDEN))
        elif self._maybe(0.2):
            found = self._one("range(3)", "generate_series(1, 3)", "(VALUES (1))")
            found = self._one(found, f"({self.query(depth - 1)})")
        if depth > 1 and self._maybe(0.25):
            kind = self._one("JOIN", "LEFT JOIN", "CROSS JOIN", "ASOF JOIN", "POSITIONAL JOIN", ",")
            on = f" ON {self.expression(1)}" if "JOIN" in kind and self._maybe(0.5) else ""
            found = f"{found} t {kind} {self._source(depth - 1) or 'keys'} u{on}"
        return found

    def _tail(self, depth: int) -> str:
        parts = []
        for word, chance in (
            ("WHERE", 0.3),
            ("GROUP BY", 0.2),
            ("HAVING", 0.1),
            ("QUALIFY", 0.05),
            ("ORDER BY", 0.3),
            ("LIMIT", 0.2),
            ("USING SAMPLE", 0.03),
        ):
            if self._maybe(chance):
                parts.append(f"{word} {self.expression(depth - 1)}")
        return " ".join(parts)

    def expression(self, depth: int) -> str:
        if depth <= 0 or self._maybe(0.3):
            return self._one(self._one(*COLUMNS), self._one(*LITERALS))
        one, two = self.expression(depth - 1), self.expression(depth - 1)
        call = self._one(*(DANGEROUS if self._maybe(0.1) else CALLS))
        return self._one(
            f"{one} {self._one(*OPERATORS)} {two}",
            f"{call}({one})",
            f"{call}({one}, {two})",
            f"({one}).{call}({two})",
            f"{call}({one}) OVER (ORDER BY {two})",
            f"{call}({one}) FILTER (WHERE {two})",
            f"CAST({one} AS {self._one(*TYPES)})",
            f"CASE WHEN {one} THEN {two} END",
            f"(SELECT {one} FROM {self._source(1) or 'keys'} LIMIT 1)",
            f"EXISTS ({self.query(depth - 1)})",
            f"list_transform([{one}], lambda x: {two})",
            f"[x FOR x IN [{one}] IF {two}]",
            f"{{'a': {one}, 'b': {two}}}.a",
            f"{one} BETWEEN {two} AND {one}",
            f"COLUMNS('{self._one('h', '.*', '(')}')",
        )

    def _command(self, query: str) -> str:
        return self._one(*COMMANDS).replace("{query}", query)

    def _one(self, *choices: str) -> str:
        return self._random.choice(choices)

    def _maybe(self, chance: float) -> bool:
        return self._random.random() < chance


def statements(seed: int, count: int, known: Sequence[str]) -> Iterator[bytes]:
    """As bytes, not all of them UTF-8. `known` are statements whose bytes are changed."""
    random = Random(seed)
    grammar = Grammar(random)
    for _ in range(count):
        made = grammar.statement() if random.random() < 0.6 else random.choice(known)
        data = made.encode()
        if random.random() < 0.4:
            for _ in range(random.randint(1, 4)):
                data = _changed(random, data, random.choice(known).encode())
        yield data


def _changed(random: Random, data: bytes, other: bytes) -> bytes:
    at, end = sorted((random.randint(0, len(data)), random.randint(0, len(data))))
    cut = random.randint(0, len(other))
    kind = random.randrange(7)
    if kind == 0 and data:
        flipped = bytearray(data)
        flipped[at % len(data)] ^= 1 << random.randrange(8)
        return bytes(flipped)
    if kind == 1:
        return data[:at] + data[min(end, at + 8) :]
    if kind == 2:
        return data[:at] + random.choice(SPLICES) + data[at:]
    if kind == 3:
        return data[:at] + other[cut : cut + 30] + data[at:]
    if kind == 4:
        return data[:end] + data[at:end] * random.randint(1, 5) + data[end:]
    if kind == 5:
        return data[:at] + other[cut:]
    return data.swapcase()
