"""The schema `everview`: what there is and how it is, as relations that a statement may read.

`views`, `streams`, `handoff` and `freshness` are laid over the coverage, so they belong to the very
state that the views of the same statement answer from. `epochs` and `rejects` move with each epoch
(see `serving.follower.rejected`). The rest is the ledger's word, read again when it has changed: at
most a second behind.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from string import Template
from typing import Any

import duckdb
import pyarrow as pa

from schemas.compile import CompiledView
from schemas.ledger.history import EpochsRow, History
from serving.coverage import PARTITION, STREAM, VIEW
from serving.coverage import SCHEMA as INTERNAL
from serving.follower import rejected

SCHEMA = "everview"

Facts = tuple[tuple[str, str, str], ...]  # column, type, field of the coverage's facts
MOMENT = "MOMENT"  # a TIMESTAMP that is told in microseconds since 1970

_LAID: Mapping[str, tuple[str, Facts]] = {
    "views": (
        VIEW,
        (
            ("view", "VARCHAR", "view"),
            ("stream", "VARCHAR", "stream"),
            ("version", "VARCHAR", "version"),
            ("publication", "BIGINT", "publication"),
            ("cut", "BIGINT", "cut"),
            ("epoch", "BIGINT", "epoch"),
            ("position", "JSON", "position"),
            ("fresh_as_of", "TIMESTAMP", "fresh_as_of"),
            ("published", "TIMESTAMP", "published"),
            ("degraded", "VARCHAR", "degraded"),
            ("waits", "VARCHAR", "waits"),
            ("since", "BIGINT", "since"),
            ("kept_from", "JSON", "kept_from"),
        ),
    ),
    "streams": (
        STREAM,
        (
            ("stream", "VARCHAR", "stream"),
            ("topic", "VARCHAR", "topic"),
            ("version", "VARCHAR", "version"),
            ("epoch", "BIGINT", "epoch"),
            ("sealed", "BIGINT", "sealed"),
            ("position", "JSON", "position"),
            ("fresh_as_of", "TIMESTAMP", "fresh_as_of"),
            ("newest_event", MOMENT, "newest_event"),
            ("low_watermark", MOMENT, "low_watermark"),
            ("degraded", "VARCHAR", "degraded"),
            ("lost", "JSON", "lost"),
            ("raw_since", "BIGINT", "raw_since"),
            ("raw_waits", "VARCHAR", "raw_waits"),
        ),
    ),
    "handoff": (
        VIEW,
        (
            ("view", "VARCHAR", "view"),
            ("version", "VARCHAR", "version"),
            ("cut", "BIGINT", "cut"),
            ("batch_epochs", "BIGINT", "batch_epochs"),
            ("speed_epochs", "BIGINT", "speed_epochs"),
            ("gaps", "BIGINT", "gaps"),
            ("doubles", "BIGINT", "doubles"),
            ("lost", "JSON", "lost"),
        ),
    ),
    "freshness": (
        PARTITION,
        (
            ("stream", "VARCHAR", "stream"),
            ("partition", "INTEGER", "partition"),
            ("newest_event", MOMENT, "newest_event"),
            ("low_watermark", MOMENT, "low_watermark"),
            ("read_to", MOMENT, "read_to"),
            ("newest_record", MOMENT, "newest_record"),
            ("epoch", "BIGINT", "epoch"),
            ("instant", "TIMESTAMP", "fresh_as_of"),
        ),
    ),
}
_TABLES: Mapping[str, Mapping[str, pa.DataType]] = {
    "epochs": {
        "stream": pa.string(),
        "first_epoch": pa.int64(),
        "last_epoch": pa.int64(),
        "sealed": pa.bool_(),
        "instant": pa.timestamp("us"),
        "accepted": pa.int64(),
        "duplicates": pa.int64(),
        "rejected": pa.int64(),
        "position": pa.string(),
    },
    "versions": {
        "view": pa.string(),
        "version": pa.string(),
        "stream": pa.string(),
        "state": pa.string(),
        "registered": pa.timestamp("us"),
        "first_epoch": pa.int64(),
        "message": pa.string(),
        "since": pa.int64(),
    },
    "publications": {
        "publication": pa.int64(),
        "view": pa.string(),
        "version": pa.string(),
        "cut": pa.int64(),
        "kind": pa.string(),
        "full_build": pa.bool_(),
        "published": pa.timestamp("us"),
        "replaced": pa.timestamp("us"),
        "dropped": pa.timestamp("us"),
    },
    "proofs": {
        "build": pa.int64(),
        "view": pa.string(),
        "version": pa.string(),
        "cut": pa.int64(),
        "verdict": pa.string(),
        "instant": pa.timestamp("us"),
        "evidence": pa.string(),
    },
    "measures": {
        "view": pa.string(),
        "version": pa.string(),
        "column": pa.string(),
        "class": pa.string(),
        "bound": pa.string(),
    },
    "rejects": rejected.COLUMNS,
}
DUPLICATES = "duplicates"  # laid over the events of all streams: see `serving.worker.raw`
RELATIONS = frozenset({*_LAID, *_TABLES, DUPLICATES})
EMPTY: Mapping[str, pa.Table] = {
    relation: pa.schema(dict(columns)).empty_table() for relation, columns in _TABLES.items()
}

_VIEW = Template("CREATE VIEW everview.$relation AS SELECT $columns FROM $source")
_FACT = Template("CAST(facts->>'$$.$fact' AS $kind) AS $column")
_MOMENT = Template("make_timestamp(CAST(facts->>'$$.$fact' AS BIGINT)) AS $column")
_OF_KIND = Template(f"{INTERNAL}.coverage WHERE kind = '$kind'")
_LISTED = Template("(SELECT unnest(CAST(facts->'$$.$fact' AS JSON[])) AS facts FROM $source)")
_SOURCES: Mapping[str, str] = {
    VIEW: _OF_KIND.substitute(kind=VIEW),
    STREAM: _OF_KIND.substitute(kind=STREAM),
    PARTITION: _LISTED.substitute(fact="partitions", source=_OF_KIND.substitute(kind=STREAM)),
}
_TABLE = Template("CREATE OR REPLACE TABLE everview.$relation AS FROM new_rows")
_APPEND = "INSERT INTO everview.epochs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_APPEND_ALL = "INSERT INTO everview.epochs FROM new_rows"


def create(connection: duckdb.DuckDBPyConnection) -> None:
    """The relations that are laid over the coverage."""
    for relation, (kind, columns) in _LAID.items():
        listed = ", ".join(
            (_MOMENT if type_name == MOMENT else _FACT).substitute(
                fact=fact, kind=type_name, column=f'"{column}"'
            )
            for column, type_name, fact in columns
        )
        connection.execute(
            _VIEW.substitute(relation=relation, columns=listed, source=_SOURCES[kind])
        )


def write(connection: duckdb.DuckDBPyConnection, relations: Mapping[str, pa.Table]) -> None:
    """Replace relations that are tables; inside the caller's transaction."""
    if relations:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    for relation, rows in relations.items():
        connection.register("new_rows", rows)
        connection.execute(_TABLE.substitute(relation=relation))
        connection.unregister("new_rows")


def append(connection: duckdb.DuckDBPyConnection, epochs: Sequence[EpochsRow]) -> None:
    """List epochs behind those that are; inside the caller's transaction. One epoch is the rule,
    and goes in by the cheapest way."""
    if len(epochs) == 1:
        connection.execute(_APPEND, _epoch(epochs[0]))
    elif epochs:
        connection.register("new_rows", epochs_table(epochs))
        connection.execute(_APPEND_ALL)
        connection.unregister("new_rows")


def epochs_table(epochs: Iterable[EpochsRow]) -> pa.Table:
    return _table("epochs", map(_epoch, epochs))


def _epoch(each: EpochsRow) -> tuple[Any, ...]:
    return (
        each.stream,
        each.first,
        each.last,
        each.sealed,
        _utc(each.instant),
        each.accepted,
        each.duplicates,
        each.rejected,
        json.dumps(dict(each.position), separators=(",", ":")),  # as DuckDB writes that of views
    )


def of_history(found: History) -> dict[str, pa.Table]:
    """The relations that are the ledger's word."""
    return {
        "versions": _table(
            "versions",
            (
                (
                    each.view,
                    each.version,
                    each.stream,
                    each.state,
                    _utc(each.registered),
                    each.first_epoch,
                    each.message,
                    each.since_epoch,
                )
                for each in found.versions
            ),
        ),
        "publications": _table(
            "publications",
            (
                (
                    each.id,
                    each.view,
                    each.version,
                    each.cut,
                    each.kind,
                    each.full,
                    _utc(each.published),
                    _utc(each.replaced),
                    _utc(each.dropped),
                )
                for each in found.publications
            ),
        ),
        "proofs": _table(
            "proofs",
            (
                (
                    each.build,
                    each.view,
                    each.version,
                    each.cut,
                    each.verdict,
                    _utc(each.instant),
                    json.dumps(dict(each.evidence)),
                )
                for each in found.proofs
            ),
        ),
    }


def measures_of(view: CompiledView) -> list[tuple[str, str, str, str, str]]:
    """Class and bound of every column of a version, as `measures` lists them."""
    return [
        (view.name, view.version, each.column, each.exactness, each.bound) for each in view.compared
    ]


def measures_table(rows: Iterable[tuple[str, str, str, str, str]]) -> pa.Table:
    return _table("measures", rows)


def _table(relation: str, rows: Iterable[tuple[Any, ...]]) -> pa.Table:
    schema, listed = pa.schema(dict(_TABLES[relation])), list(rows)
    columns = {field: [row[at] for row in listed] for at, field in enumerate(schema.names)}
    return pa.Table.from_pydict(columns, schema)


def _utc(instant: datetime | None) -> datetime | None:
    """As TIMESTAMPs are here: UTC without saying so."""
    return None if instant is None else instant.astimezone(UTC).replace(tzinfo=None)
