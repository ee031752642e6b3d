"""Merged partials -> the view's select list. The only place where a finished value is made."""

from __future__ import annotations

from schemas.compile import sql
from schemas.compile.fold import core_columns, wide_tables
from schemas.compile.partials import Finish
from schemas.language.view import View

MEANING = 1

# stands for the relation to present; no name that a definition may have
SOURCE = "$merged"


def finishes(view: View) -> tuple[Finish, ...]:
    """What makes the finished column of each wide table."""
    keys = tuple((key.name, key.type) for key in view.keys)
    return tuple(
        Finish(name, keys, _finished(name), wide.finish_type, wide.finish)
        for wide, name in wide_tables(view).items()
    )


def statement(view: View) -> str:
    """SELECT over SOURCE: one row per group with keys, core values and finished columns."""
    core, wide = core_columns(view), wide_tables(view)
    inner = [sql.name(key.name) for key in view.keys]
    for at, (call, measure) in enumerate(zip(view.calls, view.measures, strict=True)):
        columns = [sql.name(core[partial]) for partial in measure.partials]
        finished = sql.name(_finished(wide[measure.wide])) if measure.wide else ""
        shown = measure.present.format(*columns, finished=finished)
        inner.append(f"CAST({shown} AS {call.result}) AS _call_{at}")
    outer = [
        f"CAST({output.sql} AS {output.type}) AS {sql.name(output.name)}" for output in view.outputs
    ]
    return f"SELECT {', '.join(outer)} FROM (SELECT {', '.join(inner)} FROM {SOURCE})"


def _finished(table: str) -> str:
    return f"_finished_{table}"
