"""Count anew from the master and compare with what is served, view by view.

The recount is the view's own SELECT, run by DuckDB over the counted events up to the epoch that the
answer covers; of events that retention removed it is their base. Of what differs it is told in
which epochs it is wrong, and what to do. Exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from batch import verify
from batch.compiled import Compiled
from batch.verify import Served
from infra import asking, batching, settings
from infra.asking import Answers, QueryRefused
from schemas.compile import sql
from schemas.errors import EverviewError, StackNotRunning
from schemas.ledger import figures
from schemas.ledger.connect import Ledger, open_ledger
from schemas.ledger.versions import ViewRow
from schemas.storage import DataRoot

MOST_ROWS = 1_000_000
TOO_MUCH = "too_large"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("views", nargs="*", metavar="VIEW", help="default: all")
    parser.add_argument("--json", action="store_true", help="the result as JSON")


def run(found: argparse.Namespace) -> int:
    memory = settings.load(found.project, os.environ).batch.memory
    try:
        answers: Answers | None = asking.of(found.state)
    except StackNotRunning:
        answers = None
        print("no serving runs: what the files hold is compared", file=sys.stderr)
    told: list[dict[str, Any]] = []
    console = Console(stderr=True)
    with open_ledger(found.state) as ledger:
        definitions = Compiled(ledger)
        for row in batching.chosen(ledger, found.views):
            with _progress(console, row.name) as say:
                told.append(_verified(ledger, found, definitions, row, answers, memory, say))
            if not found.json:
                _show(told[-1])
    if found.json:
        print(json.dumps(told, indent=1))
    elif not told:
        print("no view is registered")
    return 1 if any(each.get("different") or each.get("error") for each in told) else 0


def _verified(
    ledger: Ledger,
    found: argparse.Namespace,
    definitions: Compiled,
    row: ViewRow,
    answers: Answers | None,
    memory: str,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """One view; trouble with it does not keep others from being looked at."""
    name = row.name
    try:
        served, why = (None, None) if answers is None else _served(answers, name)
        if served is None and verify.is_being_built(ledger, name):
            return {"view": name, "skipped": "it is being built"}
        done = verify.verify(
            ledger,
            DataRoot(found.state),
            definitions,
            name,
            served,
            memory=memory,
            threads=os.cpu_count() or 1,
            say=say,
        )
    except EverviewError as error:
        return {"view": name, "error": str(error)}
    if done.comparison.different:
        now = datetime.now(UTC)
        figures.differed(ledger, name, done.epoch, done.cut, done.comparison.different, now)
    told = {**done.json(), "from": "serving" if served else "files"}
    return {**told, "why": why} if why else told


@contextmanager
def _progress(console: Console, view: str) -> Iterator[Callable[[str], None]]:
    """What is being done, on a terminal."""
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    bar = Progress(*columns, console=console, transient=True)
    with bar:
        task = bar.add_task(view)
        yield lambda text: bar.update(task, description=f"{view}: {text}")


def _served(answers: Answers, view: str) -> tuple[Served | None, str | None]:
    """The whole answer, or why there is none in one piece."""
    query = f"SELECT * FROM {sql.name(view)}"  # noqa: S608
    try:
        whole = answers.whole(query, max_rows=MOST_ROWS)
    except QueryRefused as error:
        if error.code not in (TOO_MUCH, "not_ready"):
            raise
        return None, str(error)
    rows = pa.ipc.open_stream(whole.body).read_all()
    if len(rows) >= MOST_ROWS:
        return None, f"it has {MOST_ROWS:,} rows or more"
    (covered,) = whole.coverage
    return Served(rows, covered["version"], covered["epoch"], covered["cut"]), None


def _show(told: dict[str, Any]) -> None:
    view = told["view"]
    if "error" in told:
        print(f"{view}: NOT VERIFIED: {told['error']}")
    elif "skipped" in told:
        print(f"{view}: not compared: {told['skipped']}")
    else:
        count = f"{told['rows']:,} row{'s' * (told['rows'] != 1)}, "
        count += f"{told['different']:,} differ" if told["different"] else "no difference"
        print(f"{view}: {count}, at epoch {told['epoch']} with cut {told['cut']}")
        if told["on_base"]:
            print(
                f"    {told['on_base']:,} of them count events up to epoch {told['retained']} that "
                f"retention removed: compared with their base and the master since, the other "
                f"{told['own_select']:,} with the view's own SELECT"
            )
        if told["since"]:
            print(f"    it counts from epoch {told['since']} on: those before were removed")
        if told["from"] == "files" and "why" in told:
            print(f"    as the files hold it: {told['why']}")
        for name in told["not_compared"]:
            print(f"    column {name}: computed from a value within a bound, not compared")
        for each in told["differences"]:
            group = ", ".join(
                f"{key} = {'NULL' if value is None else repr(value)}"
                for key, value in each["group"].items()
            )
            column = f", column {each['column']}" if each["column"] else ""
            print(
                f"    group ({group}){column}: served {each['served']}, "
                f"recounted {each['recounted']}"
            )
            if "do" in each:
                print(f"        {each['do']}")
    sys.stdout.flush()
