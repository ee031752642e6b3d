"""Run a query on the running stack, or open a prompt.

Without QUERY: a prompt, where a statement ends with ';' and \\q, quit or exit leaves; where stdin
is no terminal, the query is read from it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import sys
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from infra import asking
from infra.asking import Answer, Answers, QueryRefused
from serving.query import MAX_ROWS, MAX_ROWS_LIMIT

FORMATS = ("table", "json", "ndjson", "csv")
LEAVE = ("\\q", "quit", "exit")
HELP = "SHOW TABLES; lists the views, DESCRIBE VIEW; its columns, \\q leaves"
NUMBERS = ("INT", "DECIMAL", "DOUBLE", "FLOAT")
OURS = ("deadline", "not_ready", "queue_full", "damaged", "internal", "unauthorised")
"""Codes that do not blame the query (exit code 1 instead of 2), by their start."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", nargs="?", metavar="QUERY")
    parser.add_argument("--format", choices=FORMATS, default="table")
    help_ = "how many rows at most; default: %(default)s"
    parser.add_argument("--max-rows", type=int, default=MAX_ROWS, metavar="N", help=help_)
    help_ = "the answer as it was: an epoch, or a time such as 2026-01-01T10:00:00Z"
    parser.add_argument("--as-of", metavar="WHEN", help=help_)
    parser.add_argument("--strict", action="store_true", help="no answer that is degraded")


def run(found: argparse.Namespace) -> int:
    answers = asking.of(found.state)
    fields: dict[str, Any] = {"max_rows": found.max_rows}
    if found.as_of is not None:
        fields["as_of"] = int(found.as_of) if found.as_of.isdecimal() else found.as_of
    if found.strict:
        fields["strict"] = True
    if found.query is None and sys.stdin.isatty():
        return prompt(answers, found.format, fields)
    query = sys.stdin.read() if found.query is None else found.query
    return answered(answers, query, found.format, fields)


def answered(answers: Answers, query: str, form: str, fields: dict[str, Any]) -> int:
    """Prints one answer, or what is wrong with the query."""
    try:
        if form == "table":
            # where nobody looks at it, nothing is folded
            show(answers.table(query, **fields), Console(width=None if on_terminal() else 1000))
        else:
            sys.stdout.flush()
            answer = answers.answer(query, form, **fields)
            body = answer.body
            sys.stdout.buffer.write(body if form != "json" else body + b"\n")
            sys.stdout.buffer.flush()
            if cut := left_out(answer, form, min(fields["max_rows"], MAX_ROWS_LIMIT)):
                print(cut, file=sys.stderr)
    except QueryRefused as error:
        print(error.drawn(query), file=sys.stderr)
        return 1 if error.code.startswith(OURS) else 2
    return 0


def prompt(answers: Answers, form: str, fields: dict[str, Any]) -> int:
    with contextlib.suppress(ImportError):
        importlib.import_module("readline")  # input() then edits and remembers lines
    print(f"queries go to {answers.http}; end them with ';', leave with \\q")
    lines: list[str] = []
    while True:
        try:
            line = input("       -> " if lines else "everview> ")
        except EOFError:
            print()
            return 0
        except KeyboardInterrupt:
            print()
            lines = []
            continue
        word = line.strip().rstrip("; ").lower()
        if not lines and word in LEAVE:
            return 0
        if not lines and word == "help":
            print(HELP)
            continue
        if lines or line.strip():
            lines.append(line)
        if line.rstrip().endswith(";"):
            answered(answers, "\n".join(lines), form, fields)
            lines = []


def show(answer: dict[str, Any], console: Console) -> None:
    """A table, and below it what the answer covers."""
    table = Table(header_style="bold")
    for column in answer["columns"]:
        right = any(name in column["type"] for name in NUMBERS) and "[" not in column["type"]
        side: Literal["left", "right"] = "right" if right else "left"
        table.add_column(Text(plain(column["name"])), justify=side, overflow="fold")
    for row in answer["rows"]:
        table.add_row(*map(cell, row))
    console.print(table)
    cut = f", only the first {answer['row_count']} rows" if answer["truncated"] else ""
    rows = f"{answer['row_count']} row{'s' * (answer['row_count'] != 1)}"
    console.print(Text(f"{rows} in {answer['elapsed_ms']} ms{cut}", style="dim"))
    for covered in answer["coverage"]:
        console.print(Text(coverage(covered), style="dim"))


def left_out(answer: Answer, form: str, most: int) -> str | None:
    """What to say of rows that are not in an answer: nothing if it is whole. Of one that was
    streamed nobody knows whether more would follow the last of `most` rows."""
    only = f"these are only the first {most} rows"
    if form == "json":
        cut = answer.body.rpartition(b'"truncated":')[2].lstrip().startswith(b"true")
    elif "Everview-Truncated" in answer.headers:
        cut = answer.headers["Everview-Truncated"] == "true"
    else:
        cut = rows(answer.body, form) >= most
        only = f"these are {most} rows, as many as were asked for, and there may be more"
    return f"{only}: --max-rows N asks for more, {MAX_ROWS_LIMIT} at most" if cut else None


def rows(body: bytes, form: str) -> int:
    """How many there are: lines of NDJSON; below the header of CSV, line breaks outside quotes."""
    if form == "ndjson":
        return body.count(b"\n")
    return sum(outside.count(b"\n") for outside in body.split(b'"')[::2]) - 1


def coverage(covered: dict[str, Any]) -> str:
    """One line: view, epoch, freshness."""
    fresh = covered["fresh_as_of"]
    when = f"fresh as of {fresh}" if fresh else "no event yet"
    worse = f", DEGRADED: {plain(str(covered['degraded']))}" if covered["degraded"] else ""
    return f"{covered['view']}: epoch {covered['epoch']}, {when}{worse}"


def on_terminal() -> bool:
    return sys.stdout.isatty()


def cell(value: object) -> Text:
    if value is None:
        return Text("NULL", style="dim")
    if isinstance(value, str):
        return Text(plain(value))
    return Text(json.dumps(value, ensure_ascii=False))


def plain(text: str) -> str:
    """Text without what a terminal would obey."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
