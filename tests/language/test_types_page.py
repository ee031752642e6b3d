"""The tables of docs/types.md are what the parser does: every row is sent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from schemas.engine import connect
from tests.events import START
from tests.folding import Folding, load, records

PAGE = (Path(__file__).parents[2] / "docs" / "types.md").read_text(encoding="utf-8")
CELL = re.compile(r"\| (`[^`]*`|NULL|reject: [a-zA-Z -]+) (?=\|)")
REJECT = "reject: "


def tables(*header: str) -> Iterator[tuple[str, ...]]:
    """The rows of the tables with this header, without the ticks around what is literal."""
    first = f"| {' | '.join(header)} |"
    lines = iter(PAGE.splitlines())
    for line in lines:
        if line != first:
            continue
        assert set(next(lines)) <= {"|", "-"}
        for row in lines:
            if not row.startswith("|"):
                break
            cells = tuple(CELL.findall(row))
            assert len(cells) == len(header), row
            yield cells


def literal(cell: str) -> str:
    return cell[1:-1] if cell.startswith("`") else cell


def becomes(stream: Folding, sent: Sequence[str], columns: Sequence[str]) -> list[str]:
    """What the page would say of each record and a column of it: a value as DuckDB prints it, NULL,
    or the reject."""
    (folded,) = stream.epoch(1, START, records([record.encode() for record in sent]))
    own = connect()
    own.register("master", folded.master)
    texts = own.con.execute("SELECT _offset, COLUMNS(* EXCLUDE _offset)::VARCHAR FROM master")
    names = [name for name, *_ in texts.description]
    found = {row[0]: dict(zip(names, row, strict=True)) for row in texts.fetchall()}
    rejects = {row["_offset"]: row for row in folded.rejects.to_pylist()}
    said = []
    for offset, column in enumerate(columns):
        if offset in rejects:
            assert rejects[offset]["_column"] in (column, None)
            said.append(f"{REJECT}{rejects[offset]['_reason']}")
        else:
            value = found[offset][column]
            said.append("NULL" if value is None else f"`{value}`")
    return said


def by_type(
    rows: Sequence[tuple[str, ...]], streams: Mapping[str, Folding], form: str
) -> Iterator[tuple[str, str, str]]:
    """Of rows (type, value as sent, what it becomes): what was sent, was said and was got."""
    for kind, stream in streams.items():
        own = [row for row in rows if literal(row[0]) == kind]
        sent = ["{}" if cell == "`(none)`" else form % literal(cell) for _, cell, _ in own]
        got = becomes(stream, sent, ["v"] * len(own))
        for (_, cell, said), found in zip(own, got, strict=True):
            yield f"{kind} {cell}", said, found


def declared(folder: Path, kinds: set[str], options: str = "") -> dict[str, Folding]:
    """A stream per column type, its column `v` and, as CSV has places, one behind it."""
    found = {}
    for at, kind in enumerate(sorted(kinds)):
        text = f"CREATE STREAM s (v {kind}, z VARCHAR) WITH (topic = 's'{options});"
        found[kind] = Folding(load(folder / str(at), text))
    return found


def compare(told: Iterable[tuple[str, str, str]]) -> None:
    wrong = [f"{what}: the page says {said}, got {got}" for what, said, got in told if said != got]
    assert not wrong, "\n".join(wrong)


def test_json_values(tmp_path: Path) -> None:
    rows = list(tables("column type", "value as sent", "becomes"))
    assert len(rows) > 100
    streams = declared(tmp_path, {literal(kind) for kind, _, _ in rows})
    compare(by_type(rows, streams, '{"v": %s}'))


def test_json_records(tmp_path: Path) -> None:
    rows = list(tables("record", "becomes"))
    assert len(rows) > 10
    stream = declared(tmp_path, {"INTEGER"})["INTEGER"]
    got = becomes(stream, [literal(record) for record, _ in rows], ["v"] * len(rows))
    compare((row[0], row[1], found) for row, found in zip(rows, got, strict=True))


def test_csv_fields(tmp_path: Path) -> None:
    rows = list(tables("column type", "field as written", "becomes"))
    assert len(rows) > 30
    streams = declared(tmp_path, {literal(kind) for kind, _, _ in rows}, ", format = 'csv'")
    compare(by_type(rows, streams, "%s,z"))


def test_generated_columns(tmp_path: Path) -> None:
    (block,) = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    stream = Folding(load(tmp_path, block))
    rows = list(tables("event", "column", "becomes"))
    columns = [literal(column) for _, column, _ in rows]
    assert set(columns) == set(re.findall(r"(\w+) +[\w(),]+ +GENERATED", block))
    got = becomes(stream, [literal(event) for event, _, _ in rows], columns)
    compare(
        (f"{column} of {event}", said, found)
        for (event, column, said), found in zip(rows, got, strict=True)
    )


def test_the_page_is_read_whole() -> None:
    """No row of a table escapes the tests above by being written otherwise."""
    found = [
        *tables("column type", "value as sent", "becomes"),
        *tables("record", "becomes"),
        *tables("column type", "field as written", "becomes"),
        *tables("event", "column", "becomes"),
    ]
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    assert len(lines) == len(found) + 4


def test_the_text_for_null_counts_without_quotes(tmp_path: Path) -> None:
    stream = declared(tmp_path, {"VARCHAR"}, ", format = 'csv', null = 'NA'")["VARCHAR"]
    found = becomes(stream, ["NA,z", '"NA",z', ",z"], ["v"] * 3)
    assert found == ["NULL", "`NA`", "``"]
