"""A case: a view of a stream, events, and two ways to split them; and its verdict.

The rows that both splits present are the same to the bit, and they are those that DuckDB gives for
the view's own text over the counted events: equal, or as near as `CompiledView.compared` promises.
Which events count, and what their bytes spell, is said in Python by whoever made the events.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pyarrow as pa

from schemas.compile import (
    CompiledStream,
    CompiledView,
    compile_reference,
    compile_stream,
    compile_view,
)

# by its own name: a session of tests remembers what `definitions.read` said
from schemas.definitions import read as read_definitions
from schemas.engine import RECORDS, Engine, Folded, connect
from schemas.language import parser
from schemas.stored_file import StoredFile
from tests import oracle
from tests.events import START
from tests.generated import judging
from tests.generated.judging import Verdict
from tests.generated.splits import Split
from tests.generated.streams import RECORD, Event

VERSION = "1"
WITHIN = timedelta(days=7)
Columns = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Declared:
    """What the views of a case read: definitions as text, the columns that hold the events' rows,
    and the file of the reference, if there is one."""

    stream: str
    text: str
    columns: Columns
    key: tuple[str, ...] = ()
    reference: str = ""
    reference_text: str = ""
    reference_columns: Columns = ()
    reference_data: bytes = b""
    reference_rows: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True)
class Compiled:
    """The views of a case that the language takes, what it said of the others, and the aggregates
    in each output of a view."""

    stream: CompiledStream
    views: Mapping[str, CompiledView]
    problems: Mapping[str, str]
    functions: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)


def compiled(declared: Declared, views: Mapping[str, str]) -> Compiled:
    """Read the definitions together; each view in a file of its own, by which a problem is known to
    be about it. A problem of the stream or the reference is an AssertionError."""
    whole = f"{declared.text}\n{declared.reference_text}"
    statements, problems = parser.parse("stream.sql", whole)
    broken: dict[str, str] = {}
    for name, text in views.items():
        found, wrong = parser.parse(name, text)
        statements += found
        problems += wrong
    definitions, wrong = read_definitions(statements)
    for problem in [*problems, *wrong]:
        assert problem.file in views, f"{problem}\n{whole}"
        assert problem.line >= 1, problem
        assert problem.column >= 1, problem
        broken.setdefault(problem.file, str(problem))
    references = []
    if declared.reference:
        file = StoredFile.of(f"references/{declared.stream}", declared.reference_data)
        known = definitions.references[declared.reference.lower()]
        references.append(compile_reference(known, file))
        _tasks().load_reference(references[0], declared.reference_data)
    made, functions = {}, {}
    for name in views:
        if name not in broken:
            view = definitions.views[name.lower()]
            joined = [each for each in references if each.name in view.references]
            made[name] = compile_view(view, name, joined, (VERSION,))
            functions[name] = tuple(
                tuple(
                    call.function
                    for at, call in enumerate(view.calls)
                    if _names(output.sql, f"_call_{at}")
                )
                for output in view.outputs
            )
    stream = compile_stream(definitions.streams[declared.stream.lower()], VERSION)
    return Compiled(stream, made, broken, functions)


def _names(text: str, column: str) -> bool:
    _, found, tail = text.partition(column)
    return bool(found) and (not tail[:1].isdigit() or _names(tail, column))


def judge(
    declared: Declared,
    views: Mapping[str, str],
    events: Sequence[Event],
    splits: Sequence[Split],
) -> dict[str, Verdict]:
    """The verdict on each view by its name."""
    return judged(declared, compiled(declared, views), events, splits)


def judged(
    declared: Declared, made: Compiled, events: Sequence[Event], splits: Sequence[Split]
) -> dict[str, Verdict]:
    """The verdict on each view, of definitions that were compiled before. An AssertionError where
    the stream accepts, rejects or counts other events than it should."""
    verdicts = {name: Verdict("refused", text) for name, text in made.problems.items()}
    counted = _counted(declared, events)
    judging.fill(declared.stream, (*declared.columns, *RECORD), counted)
    if declared.reference:
        columns, rows = declared.reference_columns, declared.reference_rows
        judging.fill(declared.reference, columns, rows)
    folded = [_folded(made.stream, list(made.views.values()), events, each) for each in splits]
    for tasks in folded:
        _accounts(tasks, events, len(counted))
    for name, view in made.views.items():
        found = _verdict(view, folded, splits)
        columns_of = zip(made.functions[name], view.compared, strict=True)
        compared = tuple((f, each.kind) for used, each in columns_of for f in used)
        verdicts[name] = Verdict(found.kind, found.text, compared)
    judging.forget(declared.stream, *filter(None, [declared.reference]))
    return verdicts


def _verdict(
    view: CompiledView, folded: Sequence[Sequence[Folded]], splits: Sequence[Split]
) -> Verdict:
    for tasks in folded:
        for task in tasks:
            if view.version in task.suspended:
                return Verdict("differs", f"a task failed: {task.suspended[view.version]}")
    answers = [
        ([task.partials[view.version] for task in tasks], split)
        for tasks, split in zip(folded, splits, strict=True)
    ]
    return judging.verdict(view, answers)


def _accounts(tasks: Sequence[Folded], events: Sequence[Event], counted: int) -> None:
    rejected = sum(event.row is None for event in events)
    if sum(task.rejected for task in tasks) != rejected:
        told = [row for task in tasks for row in task.rejects.to_pylist()]
        message = f"{rejected} of these must be rejected: {list(events)}; got {told}"
        raise AssertionError(message)
    accepted = sum(task.accepted for task in tasks)
    assert accepted == len(events) - rejected, f"accepted {accepted} of {list(events)}"
    kept = accepted - sum(task.duplicates for task in tasks)
    assert kept == counted, f"{counted} of these count: {list(events)}; got {kept}"


def _counted(declared: Declared, events: Sequence[Event]) -> list[Mapping[str, object]]:
    rows = [
        {
            **event.row,
            "_partition": event.partition,
            "_offset": event.offset,
            "_timestamp": event.timestamp,
            "_key": event.key,
        }
        for event in events
        if event.row is not None
    ]
    return list(oracle.counted([(START, rows)], declared.key, WITHIN))


def _folded(
    stream: CompiledStream, views: Sequence[CompiledView], events: Sequence[Event], split: Split
) -> list[Folded]:
    """What each task makes of its events; tasks of a stream with a primary key are epochs."""
    own, found = _tasks(), []
    if stream.key:
        own.add_ids(stream, 0, [])
        own.leave_ids(stream, 2**31)
    for number, task in enumerate(split.tasks, 1):
        instant = START + timedelta(seconds=number)
        folded = own.fold(
            stream,
            views,
            _records([events[at] for at in task]),
            epoch=number,
            instant=instant,
            since=instant - WITHIN,
        )
        if folded.ids is not None:
            own.add_ids(stream, number, [folded.ids])
        found.append(folded)
    return found


def _records(events: Sequence[Event]) -> pa.Table:
    columns: dict[str, list[object]] = {
        "_partition": [event.partition for event in events],
        "_offset": [event.offset for event in events],
        "_timestamp": [event.timestamp for event in events],
        "_key": [event.key for event in events],
        "_value": [event.value for event in events],
        "_headers": [None for _ in events],
    }
    return pa.Table.from_pydict(columns, schema=RECORDS)


@functools.cache
def _tasks() -> Engine:
    """The engine that folds."""
    return connect()
