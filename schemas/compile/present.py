"""Merged partials -> the view's select list. The only place where a finished value is made."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.compile import sql
from schemas.compile.fold import core_columns, wide_tables
from schemas.compile.partials import Finish
from schemas.language.view import View
from schemas.measures.measure import Finished

MEANING = 1

# stands for the relation to present; no name that a definition may have
SOURCE = "$merged"


def finishes(view: View) -> tuple[Finish, ...]:
    """What makes each finished column."""
    keys = tuple((key.name, key.type) for key in view.keys)
    return tuple(
        Finish(table, keys, column, finish.type, finish.sql, finish.windows)
        for (table, finish), column in _columns(view).items()
    )


def called(view: View) -> tuple[tuple[str, str, str], ...]:
    """What each aggregate of the view comes to in a group: a column, its type, and the expression
    over keys, core values and finished columns."""
    core, wide, finished_columns = core_columns(view), wide_tables(view), _columns(view)
    found = []
    for at, (call, measure) in enumerate(zip(view.calls, view.measures, strict=True)):
        columns = [sql.name(core[partial]) for partial in measure.partials]
        finished = ""
        if measure.wide is not None and measure.finish is not None:
            finished = sql.name(finished_columns[wide[measure.wide], measure.finish])
        shown = measure.present.format(*columns, finished=finished)
        found.append((f"_call_{at}", call.result, f"CAST({shown} AS {call.result})"))
    return tuple(found)


def over_called(view: View, calls: Sequence[int] = ()) -> str:
    """SELECT of the view's columns over SOURCE: keys and what is `called`. Behind them stand these
    `calls`."""
    outer = [
        f"CAST({output.sql} AS {output.type}) AS {sql.name(output.name)}" for output in view.outputs
    ]
    outer += [f"_call_{at}" for at in calls]
    return f"SELECT {', '.join(outer)} FROM {SOURCE}"


def statement(view: View, calls: Sequence[int] = ()) -> str:
    """SELECT over SOURCE: one row per group with keys, core values and finished columns."""
    inner = [sql.name(key.name) for key in view.keys]
    inner += [f"{text} AS {column}" for column, _, text in called(view)]
    return over(over_called(view, calls), f"(SELECT {', '.join(inner)} FROM {SOURCE})")


def over(select: str, source: str) -> str:
    """A SELECT over SOURCE, over that relation. It is the last one: a text in the select list may
    look like it."""
    head, _, tail = select.rpartition(SOURCE)
    return head + source + tail


def _columns(view: View) -> dict[tuple[str, Finished], str]:
    """The finished column of each table and what its rows come to; a table may have several."""
    wide = wide_tables(view)
    found: dict[tuple[str, Finished], str] = {}
    for measure in view.measures:
        if measure.wide is not None and measure.finish is not None:
            table = wide[measure.wide]
            more = sum(known == table for known, _ in found)
            column = f"_finished_{table}_{more}" if more else f"_finished_{table}"
            found.setdefault((table, measure.finish), column)
    return found
