"""Instants in the ledger: UTC microseconds in a BIGINT, aware datetimes everywhere else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import BigInteger, Dialect
from sqlalchemy.types import TypeDecorator

from schemas.errors import NaiveInstant

ZERO = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """Refuses a datetime without a zone (`NaiveInstant`); gives back UTC, every microsecond."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        return None if value is None else microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else ZERO + value * MICROSECOND


def microseconds(instant: datetime) -> int:
    """Whole microseconds since 1970 in UTC."""
    return (aware(instant) - ZERO) // MICROSECOND


def aware(instant: datetime) -> datetime:
    """The instant itself; `NaiveInstant` if it has no zone."""
    if instant.tzinfo is None:
        raise NaiveInstant(instant.isoformat())
    return instant
