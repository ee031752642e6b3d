"""Check every definition and setting of the project, and show what each is. Nothing is changed."""

from __future__ import annotations

import argparse
import json
import os
import sys

from infra import dags, settings
from schemas import project
from schemas.compile import CompiledReference, CompiledStream, CompiledView, compile_reference
from schemas.errors import DefinitionError, Problem

Compiled = CompiledStream | CompiledReference | CompiledView


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sql", action="store_true", help="show what each view compiles to")
    parser.add_argument("--json", action="store_true", help="the answer as JSON")


def run(found: argparse.Namespace) -> int:
    problems: list[Problem] = []
    listed: list[tuple[str, Compiled]] = []
    chosen = None
    try:
        chosen = settings.load(found.project, os.environ)
    except DefinitionError as error:
        problems += error.problems
    try:
        loaded = project.load(found.project)
        listed = definitions(loaded)
        if chosen is not None:
            dags.check(chosen, loaded)
    except DefinitionError as error:
        problems += error.problems
    if found.json:
        told = [
            {"file": p.file, "line": p.line, "column": p.column, "message": p.message}
            for p in sorted(problems)
        ]
        shown = [_as_json(kind, compiled, found.sql) for kind, compiled in listed]
        print(json.dumps({"problems": told, "definitions": shown}, indent=1))
        return 2 if problems else 0
    if problems:
        for problem in sorted(problems):
            print(problem, file=sys.stderr)
        print(f"{len(problems)} problem{'s' * (len(problems) != 1)}", file=sys.stderr)
        return 2
    for kind, compiled in listed:
        _print(kind, compiled, found.sql)
    counts = {kind: sum(k == kind for k, _ in listed) for kind in ("stream", "table", "view")}
    print(", ".join(f"{n} {kind}{'s' * (n != 1)}" for kind, n in counts.items()) + ": all good")
    return 0


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


def _as_json(kind: str, compiled: Compiled, sql: bool) -> dict[str, object]:
    columns = [{"name": name, "type": type_} for name, type_ in compiled.columns]
    told: dict[str, object] = {"kind": kind, "name": compiled.name, "columns": columns}
    if not isinstance(compiled, CompiledReference):
        told["version"] = compiled.version
    if sql:
        told["sql"] = [{"step": step, "sql": text} for step, text in statements(compiled)]
    return told


def _print(kind: str, compiled: Compiled, sql: bool) -> None:
    over = f" over {compiled.stream}" if isinstance(compiled, CompiledView) else ""
    mark = (
        compiled.file.sha256[:16] if isinstance(compiled, CompiledReference) else compiled.version
    )
    print(f"{kind} {compiled.name}{over} ({mark})")
    width = max(len(name) for name, _ in compiled.columns)
    for name, type_ in compiled.columns:
        print(f"    {name:<{width}}  {type_}")
    for step, text in statements(compiled) if sql else ():
        print(f"  -- {step}\n{text};")
    print()
