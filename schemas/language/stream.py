"""Stream: a declared Kafka topic with typed columns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

from schemas.errors import Problem
from schemas.language import near, options, table
from schemas.language.statement import Statement
from schemas.language.table import Columns

FORMATS = ("json", "csv")
OPTIONS = {
    "topic": str,
    "format": str,
    "null": str,
    "event_time": str,
    "partitions": int,
    "dedup_within": str,
}
TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
# ten years: a span that no instant less it can leave the calendar by
LONGEST = timedelta(days=3653)
SPAN = re.compile(r"(\d{1,6})\s*(second|minute|hour|day|week)s?")


@dataclass(frozen=True)
class Stream:
    """A stream as declared.

    `null` is the text that stands for NULL: a JSON string, or a CSV field without quotes (where
    none is declared, an empty field). `dedup_within` bounds the look-back for repeated event ids.
    """

    name: str
    columns: Columns
    topic: str
    format: str
    null: str | None
    event_time: str | None
    partitions: int
    dedup_within: timedelta
    statement: Statement


def read(statement: Statement) -> tuple[Stream, list[Problem]]:
    """The stream, and every problem in its declaration; with problems it is not to be used."""
    columns, problems = table.read(statement)
    subject = statement.subject
    values, wrong = options.read(statement.options, subject, OPTIONS)
    problems += [statement.problem_at(message, offset) for offset, message in wrong]

    def must(condition: bool, option: str, message: str) -> None:
        if not condition:
            problems.append(statement.problem_of_option(f"{subject}: {message}", option))

    topic = str(values.get("topic", ""))
    if not options.meant(statement.options, "topic"):
        must(False, "", "WITH (topic = '...') must name the Kafka topic; got none")
    elif "topic" in values:
        allowed = "1 to 249 letters, digits, dots, underscores and dashes"
        must(bool(TOPIC.fullmatch(topic)), "topic", f"topic must be {allowed}; got {topic!r}")
    form = str(values.get("format", "json"))
    close = near.hint(form, FORMATS)
    must(
        form in FORMATS,
        "format",
        f"format must be one of {', '.join(FORMATS)}; got {form!r}{close}",
    )
    partitions = int(values.get("partitions", 2))
    allowed = f"partitions must be 1 to 1000; got {partitions}"
    must(1 <= partitions <= 1000, "partitions", allowed)
    within = _span(str(values.get("dedup_within", "7 days")))
    allowed = f"a span of 1 second to {LONGEST.days} days, such as '7 days' or '12 hours'"
    written = f"dedup_within must be {allowed}; got {values.get('dedup_within')!r}"
    must(timedelta(0) < within <= LONGEST, "dedup_within", written)
    event_time = values.get("event_time")
    if event_time is not None:
        column = columns.named(str(event_time))
        found = column.type if column else "no such column"
        if column is None:
            found += near.hint(str(event_time), (each.name for each in columns.columns))
        message = f"event_time must name a TIMESTAMP column; got {event_time!r}, {found}"
        must(found == "TIMESTAMP", "event_time", message)
    generated = [column.generated is not None for column in columns.columns]
    must(not generated or not all(generated), "", "at least one column must not be generated")
    null = values.get("null")
    stream = Stream(
        statement.name,
        columns,
        topic,
        form,
        None if null is None else str(null),
        None if event_time is None else str(event_time),
        partitions,
        within,
        statement,
    )
    return stream, problems


def _span(text: str) -> timedelta:
    """The span of time that a text says, none where it says none."""
    found = SPAN.fullmatch(text.strip().lower())
    return timedelta(**{found[2] + "s": int(found[1])}) if found else timedelta(0)
