"""What the stack answers at one moment, as the demo shows it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from batch.proof import Proof
from infra.asking import Answers

BEHIND_UTC = timedelta(hours=5)  # New York's winter
DAYS = 3

EVERYTHING = "SELECT flights, last_hour FROM everything"
BUSIEST = """
SELECT day, airline, flights, late_pct, mean_delay, p90_delay, planes, top_destinations
FROM carrier_day
WHERE day > CAST($day AS DATE) - CAST($days AS INTEGER) AND day <= CAST($day AS DATE)
QUALIFY row_number() OVER (PARTITION BY day ORDER BY flights DESC, carrier) <= $each
ORDER BY day DESC, flights DESC, carrier
"""
COUNTS = """
SELECT coalesce(sum(accepted + rejected), 0)::BIGINT               AS events,
       coalesce(sum(accepted + rejected)
                FILTER (last_epoch <= CAST($cut AS BIGINT)), 0)::BIGINT AS in_batch,
       coalesce(sum(duplicates), 0)::BIGINT                        AS duplicates,
       coalesce(sum(rejected), 0)::BIGINT                          AS rejects,
       coalesce(max(last_epoch) FILTER (sealed), 0)::BIGINT        AS sealed
FROM everview.epochs WHERE stream = 'flights'
"""
PROOF = "SELECT view, verdict, instant, evidence FROM everview.proofs ORDER BY build DESC LIMIT 1"
PUBLICATIONS = "SELECT count(*) FROM everview.publications"


@dataclass(frozen=True)
class LastProof:
    view: str
    words: str
    instant: datetime


@dataclass(frozen=True)
class Counts:
    """Events of all epochs, and the last sealed epoch."""

    events: int
    in_batch: int
    duplicates: int
    rejects: int
    sealed: int


@dataclass(frozen=True)
class Look:
    """One moment's answers: what is counted, and where the answer of `carrier_day` comes from."""

    at: datetime
    clock: float  # time.monotonic()
    flights: int
    day: date | None  # of the newest flight; None before any
    rows: Sequence[Sequence[Any]]
    coverage: Mapping[str, Any]
    counts: Counts
    proof: LastProof | None
    publications: int

    @property
    def age(self) -> float | None:
        """Seconds since the newest event that is counted was in Kafka."""
        fresh = self.coverage["fresh_as_of"]
        return (
            max(0.0, (self.at - datetime.fromisoformat(fresh)).total_seconds()) if fresh else None
        )


def look(answers: Answers, each: int) -> Look:
    """Asks, for so many airlines of each day. Raises QueryRefused, StackNotRunning."""
    ((flights, last),) = answers.table(EVERYTHING)["rows"] or [(0, None)]
    day = (datetime.fromisoformat(last) - BEHIND_UTC).date() if last else None
    params = {"day": day.isoformat() if day else None, "days": DAYS, "each": each}
    busiest = answers.table(BUSIEST, params=params)
    (covered,) = busiest["coverage"]
    (counts,) = answers.table(COUNTS, params={"cut": covered["cut"]})["rows"]
    ((publications,),) = answers.table(PUBLICATIONS)["rows"]
    proofs = answers.table(PROOF)["rows"]
    return Look(
        datetime.now(UTC),
        time.monotonic(),
        flights,
        day,
        busiest["rows"],
        covered,
        Counts(*counts),
        _proof(*proofs[0]) if proofs else None,
        publications,
    )


def _proof(view: str, verdict: Any, instant: str, evidence: str) -> LastProof:
    words = Proof(verdict, json.loads(evidence), ()).words
    return LastProof(view, words, datetime.fromisoformat(instant))
