"""Answer a view from files, without a stack: fold them here, on one core, and print the answer.

FILE is what `everview produce` takes: NDJSON, CSV or Parquet, packed by gzip, zip or zstd or not;
'-' is stdin. The SQL is that of the layers, so the answer is what a stack would give to these
events, all of them produced now to one partition. Events that do not fit, and how many there were,
are told on stderr. Nothing is written, and no state is read.

Exit code 1 if the view cannot be answered from these events, 2 for a project, file or query that is
wrong.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from typing import Any

from rich.console import Console

from infra import settings, trial
from infra.asking import QueryRefused
from infra.records import Source
from infra.trial import Reject, Trial
from infra.verbs import sql
from infra.verbs.produce import shape_of
from infra.verbs.rejects import WIDTH, cut, escaped, text
from schemas import project
from schemas.compile import CompiledView
from schemas.errors import BadUse
from schemas.project import Project
from serving import formats
from serving.envelope import RequestError

LIMIT = 10_000
MEMORY = "1GB"
SHOWN = 5


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("view", metavar="VIEW")
    parser.add_argument("files", nargs="+", metavar="FILE")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--sql", metavar="QUERY", help="ask this of the view; default: all its rows")
    asked.add_argument("--where", metavar="CONDITION", help="only rows of which this is true")
    parser.add_argument("--format", choices=sql.FORMATS, default="table")
    help_ = f"how many rows at most (default {LIMIT:,})"
    parser.add_argument("--limit", type=int, default=LIMIT, metavar="N", help=help_)
    help_ = f"show the first N rejects (default {SHOWN})"
    parser.add_argument("--rejects", type=int, default=SHOWN, metavar="N", help=help_)
    help_ = f"what folding may take, such as 512MB; more spills to disk (default {MEMORY})"
    parser.add_argument("--memory", default=MEMORY, metavar="SIZE", help=help_)


def run(found: argparse.Namespace) -> int:
    for option in ("limit", "rejects"):
        if getattr(found, option) < 0:
            message = f"--{option} must be 0 or more; got {getattr(found, option)}"
            raise BadUse(message)
    if not settings.MEMORY.fullmatch(found.memory):
        message = f"--memory must be a size such as 512MB or 2GB; got {found.memory!r}"
        raise BadUse(message)
    if found.files.count("-") > 1:
        message = "stdin must be given once; got '-' twice"
        raise BadUse(message)
    loaded = project.load(found.project)
    view = named(loaded, found.view)
    shape = shape_of(loaded.definitions.streams[view.stream.lower()])
    sources = [Source(name, shape) for name in found.files]
    query = _query(view, found)
    try:
        trial.answer(Trial(view), query, formats.JSON_TYPE, 0, found.memory)  # before the work
        tried = trial.fold(loaded, view, sources, found.memory, found.rejects)
        _show(tried, query, found)
    except RequestError as error:
        refused = QueryRefused(error.code, error.message, error.line, error.column)
        print(refused.drawn(query), file=sys.stderr)
        return 1 if error.code.startswith(sql.OURS) else 2
    _tell(tried, ["stdin" if name == "-" else name for name in found.files])
    return 0


def named(loaded: Project, name: str) -> CompiledView:
    """The view of that name, whatever its case. Raises BadUse."""
    views = {view.name.lower(): view for view in loaded.views()}
    if name.lower() in views:
        return views[name.lower()]
    there = ", ".join(view.name for view in views.values()) or "none"
    close = difflib.get_close_matches(name.lower(), views, 1)
    hint = f"; did you mean {views[close[0]].name!r}?" if close else ""
    message = f"view must be one that the project declares ({there}); got {name!r}{hint}"
    raise BadUse(message)


def _query(view: CompiledView, found: argparse.Namespace) -> str:
    if found.sql is not None:
        return str(found.sql)
    where = f"WHERE (\n{found.where}\n) " if found.where else ""
    return f'FROM "{view.name}" {where}ORDER BY ALL'


def _show(tried: Trial, query: str, found: argparse.Namespace) -> None:
    form = formats.CSV_TYPE if found.format == "csv" else formats.JSON_TYPE
    body = trial.answer(tried, query, form, found.limit, found.memory)
    if found.format == "csv":
        sys.stdout.flush()
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()
        return
    # what an answer covers is told of streams that go on
    answer: dict[str, Any] = {**json.loads(body), "coverage": []}
    if found.format == "json":
        del answer["coverage"]
        print(json.dumps({**answer, "tried": _told(tried)}, ensure_ascii=False))
    else:
        sql.show(answer, Console(width=None if sql.on_terminal() else 1000))


def _told(tried: Trial) -> dict[str, Any]:
    return {
        "view": tried.view.name,
        "version": tried.view.version,
        "events": tried.events,
        "accepted": tried.accepted,
        "duplicates": tried.duplicates,
        "rejected": tried.rejected,
        "seconds": round(tried.seconds, 3),
        "reasons": [
            {"reason": reason, "column": column, "rejected": count}
            for (reason, column), count in tried.reasons.most_common()
        ],
        "rejects": [
            {
                "file": each.file,
                "line": each.line,
                "reason": each.reason,
                "column": each.column,
                "expected": each.expected,
                "found": each.found,
            }
            for each in tried.rejects
        ],
    }


def _tell(tried: Trial, files: list[str]) -> None:
    for reject in tried.rejects:
        for line in _lines(reject):
            print(line, file=sys.stderr)
    if tried.rejected > len(tried.rejects):
        for (reason, column), count in tried.reasons.most_common():
            where = f", column {escaped(column)}" if column else ""
            print(f"{count:,} rejected: {reason}{where}", file=sys.stderr)
    if not tried.events:
        print(f"no events: there is no record in {', '.join(files)}", file=sys.stderr)
        return
    rate = f" ({tried.events / tried.seconds:,.0f}/s)" if tried.events >= 100_000 else ""
    counts = (
        f"{tried.events:,} events in {tried.seconds:.1f} s{rate}: {tried.accepted:,} accepted, "
        f"{tried.duplicates:,} of them duplicates; {tried.rejected:,} rejected"
    )
    print(counts, file=sys.stderr)
    if not tried.accepted:
        stream = tried.view.stream
        print(
            f"not one event fits stream {stream!r}; `everview infer FILE` drafts a declaration of "
            "what is in a file",
            file=sys.stderr,
        )


def _lines(reject: Reject) -> list[str]:
    what = reject.reason
    what += f", column {reject.column}" if reject.column else ""
    what += f": expected {reject.expected}" if reject.expected else ""
    what += f", got {reject.found}" if reject.found is not None else ""
    place = f"{reject.file}:{reject.line}"
    return [f"{place}: {escaped(what)}", f"    {cut(text(reject.value), WIDTH)}"]
