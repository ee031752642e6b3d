"""The first event of an id counts; the others, within `dedup_within`, are duplicates."""

from __future__ import annotations

from schemas.compile import sql
from schemas.language.stream import Stream

MEANING = 1


def statements(stream: Stream) -> tuple[str, ...]:
    """SQL from `parsed` to the temporary table `events`: accepted rows and `_duplicate`.

    Order of commit: (epoch, partition, offset). `ids` holds the counted ids of earlier epochs:
    `_hash`, the key columns, `_instant`. $since is the instant of this epoch less `dedup_within`:
    an id that was last counted at or before it counts again.
    """
    columns = sql.names(
        ["_partition", "_offset", "_timestamp", "_key", "_value"]
        + [column.name for column in stream.columns.columns]
    )
    accepted = f"SELECT {columns} FROM parsed WHERE _reason IS NULL"
    if not stream.columns.key:
        return (
            "CREATE OR REPLACE TEMP TABLE events AS "
            f"SELECT *, false AS _duplicate FROM ({accepted})",
        )
    key = sql.names(stream.columns.key)
    return (
        # by the hash alone first: it is one narrow column however wide the key is
        "CREATE OR REPLACE TEMP TABLE known AS "
        f"SELECT DISTINCT {key}, true AS _known FROM ids "
        "WHERE _instant > $since "
        f"AND _hash IN (SELECT hash({key}) FROM parsed WHERE _reason IS NULL)",
        "CREATE OR REPLACE TEMP TABLE events AS "
        "SELECT * EXCLUDE (_known), coalesce(_known, false) OR row_number() OVER "
        f"(PARTITION BY {key} ORDER BY _partition, _offset) > 1 AS _duplicate "
        f"FROM ({accepted}) LEFT JOIN known USING ({key})",
    )


def ids(stream: Stream) -> str:
    """The ids that this epoch counted; empty text for a stream without a primary key."""
    if not stream.columns.key:
        return ""
    key = sql.names(stream.columns.key)
    return (
        f"SELECT hash({key}) AS _hash, {key}, $instant AS _instant FROM events WHERE NOT _duplicate"
    )
