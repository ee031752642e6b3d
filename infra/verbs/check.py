"""Check every definition and setting of the project, and show what each is. Nothing is changed.

--sql shows what each definition compiles to, and what each column of a view costs: whether it is
exact, how far it may be off, the partial tables it is made from, and the bytes that a group takes
of them. A column whose partials grow with the different values that come is warned about.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from infra import dags, settings
from infra.layout import laid_out
from schemas import excerpt, project
from schemas.compile import CompiledReference, CompiledStream, CompiledView, compile_reference, cost
from schemas.compile.cost import ColumnCost, ViewCost, WideCost
from schemas.errors import DefinitionError, Problem
from schemas.language.view import View

ESTIMATES = {
    "count(DISTINCT": "approx_count_distinct",
    "median(": "approx_quantile",
    "quantile_": "approx_quantile",
}
"""By the start of a call, what estimates the same with a bound on what is kept."""
Compiled = CompiledStream | CompiledReference | CompiledView


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sql", action="store_true", help="show what each view compiles to")
    parser.add_argument("--json", action="store_true", help="the answer as JSON")


def run(found: argparse.Namespace) -> int:
    problems: list[Problem] = []
    listed: list[tuple[str, Compiled]] = []
    chosen = None
    costs: dict[str, ViewCost] = {}
    warnings: list[Problem] = []
    try:
        chosen = settings.load(found.project, os.environ)
    except DefinitionError as error:
        problems += error.problems
    try:
        loaded = project.load(found.project)
        listed = definitions(loaded)
        if chosen is not None:
            dags.check(chosen, loaded)
        views = loaded.definitions.views.values()
        costs = {view.name: cost.of_view(view) for view in views}
        warnings = [each for view in views for each in _warnings(view, costs[view.name])]
    except DefinitionError as error:
        problems += error.problems
    if found.json:
        placed = [_placed(problem) for problem in sorted(problems)]
        shown = [_as_json(kind, each, found.sql, costs.get(each.name)) for kind, each in listed]
        warned = [_placed(warning) for warning in warnings]
        print(json.dumps({"problems": placed, "warnings": warned, "definitions": shown}, indent=1))
        return 2 if problems else 0
    if problems:
        print(told(sorted(problems), _width()), file=sys.stderr)
        return 2
    for kind, compiled in listed:
        _print(kind, compiled, found.sql, costs.get(compiled.name))
    for warning in warnings:
        print(warning, file=sys.stderr)
    counts = {kind: sum(k == kind for k, _ in listed) for kind in ("stream", "table", "view")}
    print(", ".join(f"{n} {kind}{'s' * (n != 1)}" for kind, n in counts.items()) + ": all good")
    return 0


def told(problems: Sequence[Problem], width: int = excerpt.WIDTH) -> str:
    """Problems with their lines, and how many there are."""
    count = f"{len(problems)} problem{'s' * (len(problems) != 1)}"
    return "\n".join([*(problem.shown(width) for problem in problems), count])


def _width() -> int:
    """Columns of the terminal that problems are shown on; of none, those of a page."""
    terminal = sys.stderr.isatty()
    return shutil.get_terminal_size().columns if terminal else excerpt.WIDTH


def definitions(found: project.Project) -> list[tuple[str, Compiled]]:
    """(kind, compiled) of each definition: streams, references, views."""
    views = found.views()
    listed: list[tuple[str, Compiled]] = [("stream", stream) for stream in found.streams()]
    for reference in found.definitions.references.values():
        content = found.contents[reference.name.lower()]
        listed.append(("table", compile_reference(reference, content.file)))
    return listed + [("view", view) for view in views]


def statements(compiled: Compiled) -> list[tuple[str, str]]:
    """(what it does, SQL) of everything that a definition compiles to."""
    if isinstance(compiled, CompiledStream):
        named = [("parse", sql) for sql in compiled.parse] + [("dedup", s) for s in compiled.dedup]
        named += [("master", compiled.master), ("rejects", compiled.rejects), ("ids", compiled.ids)]
        return [(name, sql) for name, sql in named if sql]
    if isinstance(compiled, CompiledReference):
        return [("load", compiled.load)]
    named = []
    for table in compiled.tables:
        named += [
            (f"fold {table.name}", table.fold),
            (f"merge {table.name}", table.merge(table.name)),
        ]
    named += [(f"finish {f.table}", f.select(f.table)) for f in compiled.finishes]
    return [*named, ("present", compiled.present("merged"))]


def _warnings(view: View, costs: ViewCost) -> list[Problem]:
    """A line for each table of partials that nobody can bound."""
    statement = view.statement
    found = []
    for wide in costs.wide:
        if wide.rows is None:
            called = " and ".join(filter(None, [", ".join(wide.calls[:-1]), wide.calls[-1]]))
            message = (
                f"warning: {statement.subject}: {called} keep{'s' * (len(wide.calls) == 1)} a row "
                f"of {wide.width} bytes or more for each different value in each group, "
                f"{_size(wide.width * cost.MILLION)} for a million of them. Where there may be "
                f"many, use {_instead(wide.calls)}coarser values"
            )
            found.append(statement.problem_of_name(message))
    return found


def _instead(calls: Sequence[str]) -> str:
    """What estimates with a bound, where each of the calls has such."""
    found = [each for call in calls for start, each in ESTIMATES.items() if call.startswith(start)]
    return f"{', '.join(sorted({*found}))} or " if len(found) == len(calls) else ""


def _size(count: int) -> str:
    """Bytes, in the unit that people would take."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count} bytes"


def _placed(problem: Problem) -> dict[str, object]:
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "length": problem.length,
        "message": problem.message,
        "source": problem.source,
    }


def _as_json(kind: str, compiled: Compiled, sql: bool, costs: ViewCost | None) -> dict[str, object]:
    columns = [{"name": name, "type": type_} for name, type_ in compiled.columns]
    told: dict[str, object] = {"kind": kind, "name": compiled.name, "columns": columns}
    if not isinstance(compiled, CompiledReference):
        told["version"] = compiled.version
    if costs is not None:
        told["columns"] = [
            {
                "name": each.column,
                "type": each.type,
                "is_key": each.is_key,
                "exactness": each.exactness,
                "bound": each.bound,
                "tables": list(each.tables),
                "core_bytes": each.core_bytes,
                "wide": [_wide_as_json(wide) for wide in each.wide],
            }
            for each in costs.columns
        ]
        told["group"] = {
            "core_bytes": costs.core_bytes,
            "wide": [_wide_as_json(wide) for wide in costs.wide],
        }
    if sql:
        told["sql"] = [{"step": step, "sql": laid_out(text)} for step, text in statements(compiled)]
    return told


def _wide_as_json(wide: WideCost) -> dict[str, object]:
    return {"table": wide.table, "rows": wide.rows, "row_bytes": wide.width, "bytes": wide.bytes}


def _print(kind: str, compiled: Compiled, sql: bool, costs: ViewCost | None) -> None:
    over = f" over {compiled.stream}" if isinstance(compiled, CompiledView) else ""
    mark = (
        compiled.file.sha256[:16] if isinstance(compiled, CompiledReference) else compiled.version
    )
    print(f"{kind} {compiled.name}{over} ({mark})")
    if sql and costs is not None:
        _print_costs(costs)
    else:
        width = max(len(name) for name, _ in compiled.columns)
        for name, type_ in compiled.columns:
            print(f"    {name:<{width}}  {type_}")
    for step, text in statements(compiled) if sql else ():
        print(f"\n-- {step}\n{laid_out(text)};")
    print()


def _print_costs(costs: ViewCost) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for name in ("column", "type", "answer", "off by", "partial tables", "a group takes"):
        table.add_column(name, no_wrap=True)
    for each in costs.columns:
        table.add_row(
            each.column,
            each.type,
            "key" if each.is_key else each.exactness,
            "" if each.is_key or each.bound == "none" else each.bound,
            ", ".join(each.tables) if not each.is_key else "",
            _takes(each),
        )
    console = Console(width=400, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(f"    {line.rstrip()}")
    print(f"    a group of them all takes {costs.core_bytes} bytes in core")
    for wide in costs.wide:
        print(f"        and {_of_wide(wide)} in {wide.table}")


def _takes(column: ColumnCost) -> str:
    if column.is_key:
        return ""
    core = [f"{column.core_bytes} bytes"] if column.core_bytes else []
    return ", ".join([*core, *map(_of_wide, column.wide)])


def _of_wide(wide: WideCost) -> str:
    if wide.rows is None:
        return f"{wide.width} bytes or more for each different value"
    return f"at most {wide.rows:,} rows of {wide.width} bytes ({_size(wide.rows * wide.width)})"
